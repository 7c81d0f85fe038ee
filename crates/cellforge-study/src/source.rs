//! Where cells come from: folders, zips, and the sets of `candle-datasets`.

use std::path::{Path, PathBuf};

use cellforge_data::{CellSet, DecodeOptions, Entry, Groups, Index, IndexOptions, Source, index::is_image};

use crate::{Error, Result, config::GroupSource};

/// How cells are read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Side of the decoded images, in pixels.
    pub side: usize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// Where the group (patient) of a cell comes from.
    pub groups: GroupSource,
    /// Files of `file,group` lines, or NLM's `patientid_cellmapping_*.csv`; they win over `groups`.
    pub group_csv: Vec<PathBuf>,
    /// Leave out images that cannot be read, and list them, instead of failing.
    pub skip_bad: bool,
    /// Whether a single class will do.
    pub allow_one_class: bool,
    /// Folder for the decoded images; none keeps them in memory.
    pub cache_dir: Option<PathBuf>,
    /// Whether to draw a progress bar.
    pub progress: bool,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            side: 64,
            channels: 3,
            groups: GroupSource::Auto,
            group_csv: Vec::new(),
            skip_bad: false,
            allow_one_class: false,
            cache_dir: None,
            progress: false,
        }
    }
}

impl SourceOptions {
    fn index(&self) -> IndexOptions {
        let groups = match (self.group_csv.is_empty(), self.groups) {
            (false, _) => Groups::Csv(self.group_csv.clone()),
            (true, GroupSource::Auto) => Groups::Auto,
            (true, GroupSource::Nih) => Groups::NihName,
            (true, GroupSource::None) => Groups::None,
        };
        IndexOptions { groups, allow_one_class: self.allow_one_class, skip_bad: self.skip_bad }
    }

    fn decode(&self) -> DecodeOptions {
        DecodeOptions {
            side: self.side,
            channels: self.channels,
            cache_dir: self.cache_dir.clone(),
            skip_bad: self.skip_bad,
            progress: self.progress,
        }
    }
}

/// Opens a folder or zip with one folder of images per class, or `cifar10:DIR`, or `mnist:DIR` (the folders that `candle-datasets`
/// reads).
///
/// # Errors
/// Those of reading and decoding, naming the file at fault.
pub fn open_cells(source: &str, options: &SourceOptions) -> Result<CellSet> {
    if let Some((kind @ ("cifar10" | "mnist"), dir)) = source.split_once(':') {
        return Ok(vision(kind, Path::new(dir))?.resized(options.side, options.channels)?);
    }
    open_path(Path::new(source), options)
}

pub(crate) fn open_path(path: &Path, options: &SourceOptions) -> Result<CellSet> {
    Ok(CellSet::open(path, &options.index(), &options.decode())?)
}

/// As [`open_cells`], for images that need not be sorted into classes: a folder or zip of loose images becomes one class without a
/// name.
///
/// # Errors
/// As [`open_cells`].
pub fn open_unlabelled(source: &str, options: &SourceOptions) -> Result<CellSet> {
    let options = SourceOptions { allow_one_class: true, ..options.clone() };
    match open_cells(source, &options) {
        Err(Error::Data(cellforge_data::Error::NoClasses(root))) => {
            let names = loose_images(&root)?;
            if names.is_empty() {
                return Err(cellforge_data::Error::NoClasses(root).into());
            }
            let entries = names.into_iter().map(|name| Entry { name, class: 0, group: None }).collect();
            let index = Index { root, classes: vec![String::new()], entries, ignored: 0, skipped: Vec::new() };
            Ok(CellSet::load(&index, &options.decode())?)
        }
        other => other,
    }
}

/// Names of the images directly in a folder or zip, sorted.
fn loose_images(root: &Path) -> Result<Vec<String>> {
    let mut names = Source::open(root)?.list().files;
    names.retain(|name| !name.contains('/') && is_image(name));
    Ok(names)
}

#[cfg(feature = "candle-datasets")]
fn vision(kind: &str, dir: &Path) -> Result<CellSet> {
    Ok(match kind {
        "mnist" => cellforge_data::vision::mnist(dir)?,
        _ => cellforge_data::vision::cifar10(dir)?,
    })
}

#[cfg(not(feature = "candle-datasets"))]
fn vision(kind: &str, _dir: &Path) -> Result<CellSet> {
    Err(Error::NoVision(kind.to_owned()))
}

/// Whether a set holds cells that were rendered as a phantom: one among real ones is one too many.
#[must_use]
pub fn is_phantom(set: &CellSet) -> bool {
    set.names.iter().any(|name| file_name(name).contains("ThinF_phantom_cell_"))
}

/// Whether a set is that of the NIH/NLM malaria cells, by its classes and the names of its files.
#[must_use]
pub fn is_nih(set: &CellSet) -> bool {
    let nih_name = |name: &String| file_name(name).starts_with('C') && name.contains("_cell_");
    !is_phantom(set) && set.classes == ["Parasitized", "Uninfected"] && set.names.iter().all(nih_name)
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_images_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpg", "notes.txt", ".hidden.png"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(loose_images(dir.path()).unwrap(), ["a.jpg", "b.PNG"]);
    }
}
