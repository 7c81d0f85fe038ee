use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::files::beside;
use super::{Checkpoint, STATE, State, state_json};
use crate::{Error, Position, Result, RunDir, Slot, Snapshot};

fn state(iteration: u64) -> State<u32> {
    let position = Position { iteration, epoch: 1, epoch_sums: BTreeMap::from([("loss".into(), 0.1f64 + 0.2)]) };
    State { position, ..State::new("gan", 7, vec!["Uninfected".into()], "x".into(), 3) }
}

fn snapshot(value: f32) -> Snapshot {
    let tensors = BTreeMap::from([("a.weight".to_owned(), Tensor::full(value, (2, 2), &Device::Cpu).unwrap())]);
    Snapshot { files: BTreeMap::from([("weights".to_owned(), tensors)]) }
}

fn last(folder: &tempfile::TempDir) -> PathBuf {
    RunDir::new(folder.path()).slot(Slot::Last)
}

fn iteration(folder: &tempfile::TempDir) -> u64 {
    let found = Checkpoint::locate(&last(folder)).unwrap().unwrap();
    found.state::<u32>("gan").unwrap().position.iteration
}

#[test]
fn what_is_written_is_read_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
    let found = Checkpoint::find(folder.path()).unwrap();
    let read = found.state::<u32>("gan").unwrap();
    assert_eq!(read.position, state(5).position);
    let tensors = found.snapshot(&read, &Device::Cpu).unwrap();
    assert_eq!(tensors.files["weights"]["a.weight"].to_vec2::<f32>().unwrap(), vec![vec![0.5; 2]; 2]);
    assert!(matches!(found.state::<u32>("classifier"), Err(Error::Unsuitable { .. })));
}

#[test]
fn a_crash_between_the_renames_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let target = last(&folder);
    let (old, temporary) = (beside(&target, "old"), beside(&target, "tmp"));
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
    fs::rename(&target, &old).unwrap();
    fs::create_dir(&temporary).unwrap();
    assert_eq!(Checkpoint::find(&target).unwrap().path(), old);
    assert_eq!(iteration(&folder), 5);
    assert!(Checkpoint::settle(&target).unwrap().is_some());
    assert!(target.exists() && !old.exists() && !temporary.exists());
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(6)).unwrap();
    assert_eq!(iteration(&folder), 6);
}

#[test]
fn a_damaged_one_gives_way_to_the_old_one_or_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let target = last(&folder);
    let old = beside(&target, "old");
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
    fs::rename(&target, &old).unwrap();
    Checkpoint::write(&folder.path().join("other"), &snapshot(0.5), &state(6)).unwrap();
    fs::rename(folder.path().join("other"), &target).unwrap();
    let weights = target.join("weights.safetensors");
    fs::write(&weights, &fs::read(&weights).unwrap()[..20]).unwrap();
    assert_eq!(iteration(&folder), 5);
    assert_eq!(Checkpoint::find(&target).unwrap().path(), old);
    assert_eq!(Checkpoint::find(folder.path()).unwrap().path(), old);
    fs::remove_dir_all(&old).unwrap();
    let error = Checkpoint::settle(&target).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors"), "{error}");
}

#[test]
fn any_flipped_bit_is_found_and_its_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
    for file in ["state.json", "weights.safetensors"] {
        let path = folder.path().join("last").join(file);
        let whole = fs::read(&path).unwrap();
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            // One of these flips makes the version a newer one, and no sum is known of that.
            let newer = error.contains("format version");
            assert!(error.contains(file) || (newer && file == STATE), "bit {bit} of {file}: {error}");
        }
        fs::write(&path, &whole).unwrap();
        read(folder.path()).unwrap();
    }
}

#[test]
fn numbers_that_are_not_finite_are_found() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        Checkpoint::write(&last(&folder), &snapshot(value), &state(5)).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("weights.safetensors: a.weight holds {value}, and")), "{error}");
    }
}

#[test]
fn other_versions() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
    let path = folder.path().join("last").join(STATE);
    let json = fs::read_to_string(&path).unwrap();
    let version = |version: u32| json.replace("\"format_version\": 3", &format!("\"format_version\": {version}"));
    // The first version had no sum of the state itself.
    let (first, _) = json.split_once(",\n  \"sha256\"").unwrap();
    let flat = |text: String| text.replace("{\n    \"gan\": 3\n  }", "3");
    fs::write(&path, flat(version(1).replace(&json[first.len()..], "\n}\n"))).unwrap();
    read(folder.path()).unwrap();
    fs::write(&path, version(4)).unwrap();
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("format version 4, and this program reads versions 1 to 3"), "{error}");
    // A sum alone does not let a state name files elsewhere.
    let mut elsewhere = state(5);
    elsewhere.files.insert("../weights.safetensors".into(), String::new());
    fs::write(&path, state_json(folder.path(), &elsewhere).unwrap()).unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("no name of a file"));
}

/// As a resumed run or a program that generates does.
fn read(parent: &Path) -> Result<Snapshot> {
    let found = Checkpoint::find(parent)?;
    let state = found.state::<u32>("gan")?;
    found.snapshot(&state, &Device::Cpu)
}

#[test]
fn an_unfinished_first_checkpoint_is_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("last.tmp")).unwrap();
    assert!(Checkpoint::settle(&last(&folder)).unwrap().is_none());
    assert!(!folder.path().join("last.tmp").exists());
    assert!(matches!(Checkpoint::find(folder.path()), Err(Error::NoCheckpoint(_))));
}
