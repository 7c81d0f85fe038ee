//! What the fuzz targets run: everything that reads a file of a user's. Errors are expected; panics, aborts and memory without bounds
//! are not. `tests/program/corpus.rs` runs the same functions on the committed seeds, without a fuzzer.

use std::fs;
use std::path::Path;

use cellforge::candle::Device;
use cellforge::data::{Groups, Index, OpenOptions, Slices, Table, View, ViewParts, read_manifest};
use cellforge::nn::Precision;
use cellforge::study::{Results, StudyConfig, report::render};
use cellforge::train::{TrainedClassifier, TrainedGan, load_dinov2, load_inception, read_feature_file};

/// Cells of 8 pixels a side.
fn small(channels: usize) -> OpenOptions {
    OpenOptions::new(8, channels)
}

/// A zip of cells: its directory, and if that is good, what lies in it.
pub fn zip_index(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("cells.zip");
    fs::write(&path, data).expect("a temporary file");
    if let Ok(index) = Index::open(&path, &small(3)) {
        let mut options = small(3);
        options.skip_bad = true;
        let _ = View::load(&index, &options);
    }
}

/// One image file; the first byte chooses its name's ending and the channels that are asked for.
pub fn image(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let endings = ["png", "jpg", "bmp", "tif", "jpeg"];
    for class in ["a", "b"] {
        let folder = dir.path().join(class);
        fs::create_dir(&folder).expect("a temporary folder");
        let name = format!("cell.{}", endings[usize::from(*choice) % endings.len()]);
        fs::write(folder.join(name), bytes).expect("a temporary file");
    }
    let _ = View::open(dir.path(), &small(if *choice < 128 { 3 } else { 1 }));
}

/// One file that may hold many images; the first byte chooses its name's ending, and how it is cut.
pub fn stack(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let endings = ["tif", "dcm", "nii.gz", "nii", "npy", "npz", "gif", "webp", "pgm"];
    let name = format!("stack.{}", endings[usize::from(*choice) % endings.len()]);
    fs::write(dir.path().join(name), bytes).expect("a temporary file");
    let mut options = small(if *choice < 128 { 3 } else { 1 });
    options.allow_one_class = true;
    options.stacks.axis = 1 + usize::from(*choice) % 3;
    options.stacks.slices = if *choice % 2 == 0 { Slices::All } else { Slices::Middle };
    let _ = View::open(dir.path(), &options);
}

/// A manifest of a split, and a table of patients, of four cells.
pub fn csv(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("table.csv");
    fs::write(&path, data).expect("a temporary file");
    let _ = read_manifest(&path, &four_cells());
    let cells = dir.path().join("cells");
    for name in NAMES {
        let file = cells.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a temporary folder");
        fs::write(&file, []).expect("a temporary file");
    }
    let mut options = cellforge::study::nih::open_options(8, 3);
    options.groups = Groups::Csv(vec![path.clone()]);
    let _ = Index::open(&cells, &options);
    options.groups = Groups::Auto;
    options.table = Some(Table { path, label: vec!["class".to_owned()], ..Table::default() });
    let _ = Index::open(&cells, &options);
}

const NAMES: [&str; 4] = ["a/C1_1.png", "a/C2_1.png", "b/C1_2.png", "b/C2_2.png"];

fn four_cells() -> View {
    let names = NAMES.map(str::to_owned).to_vec();
    let groups = ["C1", "C2", "C1", "C2"].map(|group| Some(group.to_owned())).to_vec();
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let (labels, pixels) = (vec![0, 0, 1, 1], vec![0; 64]);
    View::new(ViewParts { classes, names, labels, groups, size: 4.into(), channels: 1, pixels }).expect("four cells")
}

/// The settings of a study.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = StudyConfig::from_toml(text, None) {
        let _ = config.validate();
        let again = config.to_toml().expect("settings can be written");
        let read = StudyConfig::from_toml(&again, None).expect("what was written can be read");
        assert_eq!(read.to_toml().expect("settings can be written"), again);
    }
}

/// A checkpoint: two bytes with the length of its `state.json`, that, and its weights. It is read as a generator from memory and
/// from a folder, and as a classifier; its weights are read as a file of features too.
pub fn checkpoint(data: &[u8]) {
    let Some((length, rest)) = data.split_at_checked(2) else { return };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
    let (state, weights) = rest.split_at(length);
    let _ = TrainedGan::from_bytes(weights, None, state, &Device::Cpu);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("a temporary file");
    file("state.json", state);
    file("weights.safetensors", weights);
    let _ = TrainedGan::load(dir.path());
    let _ = TrainedClassifier::load(dir.path());
    let _ = read_feature_file(&dir.path().join("weights.safetensors"));
}

/// A file of weights of a network by others, as PyTorch or safetensors writes it.
pub fn weights(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("weights.pth");
    fs::write(&path, data).expect("a temporary file");
    let _ = load_dinov2(&path, &Device::Cpu);
    let _ = load_inception(&path, &Device::Cpu, Precision::F32);
}

/// The results of a study, and the report that is drawn from them.
pub fn results(data: &[u8]) {
    if let Ok(results) = serde_json::from_slice::<Results>(data) {
        let _ = render(&results, Path::new("no/such/folder"));
    }
}
