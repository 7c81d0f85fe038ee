//! Splits as folders of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Split, SplitPart};
use crate::atomic::write_atomic;
use crate::names::folder_names;
use crate::source::Source;
use crate::{Error, Result, View};

/// The folder of each part.
const PARTS: [(SplitPart, &str); 3] = [(SplitPart::Train, "train"), (SplitPart::Val, "val"), (SplitPart::Test, "test")];

/// The table of what was copied.
const TABLE: &str = "images.csv";
const COLUMNS: [&str; 5] = ["name", "class", "group", "split", "original"];

/// Copies the files of a split, byte for byte, to `into/train/CLASS/NAME`, `into/val/CLASS/NAME` and `into/test/CLASS/NAME`. Classes have their
/// [`folder_name`](crate::folder_name). A file keeps its name; where two of one folder share it, also but for letter case, it is their path
/// with `_` for `/`. Images that are in no part are left out.
///
/// The table `into/images.csv` has the columns name (below `into`), class, group, split (train, val or test) and original (below the source).
/// It can be read back as a [`Table`](crate::Table), so that the groups are not lost. Returns its path.
///
/// # Errors
/// [`Error::Invalid`] for a file of several images that are not all of one class and one part; what [`Source::copy`] fails with.
pub fn write_folders(source: &Source, view: &View, split: &Split, into: &Path) -> Result<PathBuf> {
    let files = files(source, view, split)?;
    let folders = folder_names(view.classes())?;
    let mut taken = BTreeSet::new();
    let mut names = Vec::with_capacity(files.len());
    let folder = |(side, label): Place| format!("{}/{}", PARTS[side].1, folders[label as usize]);
    let base = |file: &str| file.rsplit('/').next().unwrap_or(file).to_owned();
    let mut shared: BTreeMap<String, usize> = BTreeMap::new();
    for (file, (place, _)) in &files {
        *shared.entry(format!("{}/{}", folder(*place), base(file)).to_lowercase()).or_default() += 1;
    }
    for (file, (place, _)) in &files {
        let plain = format!("{}/{}", folder(*place), base(file));
        let is_shared = shared[&plain.to_lowercase()] > 1;
        let name = if is_shared { format!("{}/{}", folder(*place), file.replace('/', "_")) } else { plain };
        names.push(free(name, &mut taken));
    }
    source.copy_as(files.keys().map(String::as_str).zip(names.iter().map(String::as_str)), into)?;

    let path = into.join(TABLE);
    let csv_io = |error: csv::Error| Error::io(&path)(error.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(csv_io)?;
    for ((file, ((side, label), group)), name) in files.iter().zip(&names) {
        let class = &view.classes()[*label as usize];
        let group = group.unwrap_or_default();
        writer.write_record([name.as_str(), class, group, PARTS[*side].1, file]).map_err(csv_io)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
    write_atomic(&path, &bytes)?;
    Ok(path)
}

/// Removes the folders of parts and the table of [`write_folders`], with all that lies in them, and nothing else.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_folders(into: &Path) -> Result<()> {
    let gone = |done: std::io::Result<()>, path: &Path| match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    };
    for (_, part) in PARTS {
        let folder = into.join(part);
        gone(std::fs::remove_dir_all(&folder), &folder)?;
    }
    let table = into.join(TABLE);
    gone(std::fs::remove_file(&table), &table)
}

/// A part, as its place in [`PARTS`], and a label.
type Place = (usize, u32);

/// The files of a split's images, each with its part, its label and its group.
fn files<'a>(source: &Source, view: &'a View, split: &Split) -> Result<BTreeMap<String, (Place, Option<&'a str>)>> {
    let listed: BTreeSet<String> = source.list().files.into_iter().collect();
    let mut part_of = vec![None; view.len()];
    for (side, (part, _)) in PARTS.iter().enumerate() {
        for &image in split.part(*part) {
            let place = part_of.get_mut(image);
            let place = place.ok_or_else(|| {
                Error::Invalid(format!("the split names image {image}, but there are {}", view.len()))
            })?;
            *place = Some(side);
        }
    }
    let mut whole: BTreeMap<&str, Option<Place>> = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (image, side) in part_of.into_iter().enumerate() {
        let name = view.name(image);
        // An image of a file that holds several has a suffix after the file's name.
        let file = if listed.contains(name) { name } else { name.rsplit_once('#').map_or(name, |(file, _)| file) };
        let place = side.map(|side| (side, view.label(image)));
        if *whole.entry(file).or_insert(place) != place {
            return Err(Error::Invalid(format!(
                "{file:?} holds images of several classes or parts, and is one file: a split of it is a CSV file, not folders"
            )));
        }
        if let Some(place) = place {
            files.insert(file.to_owned(), (place, view.group(image)));
        }
    }
    Ok(files)
}

/// A name that is not taken, nor one that differs in letter case alone: with a number before its ending, if need be.
fn free(name: String, taken: &mut BTreeSet<String>) -> String {
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if !ending.contains('/') => (stem, format!(".{ending}")),
        _ => (name.as_str(), String::new()),
    };
    let numbered = (2..).map(|n| format!("{stem}-{n}{ending}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    candidates.find(|candidate| taken.insert(candidate.to_lowercase())).unwrap_or(name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_on_every_system() {
        let mut taken = BTreeSet::new();
        let found = ["a/x.png", "a/X.png", "a/x.png", "a.b/x", "a.b/x"].map(|name| free(name.to_owned(), &mut taken));
        assert_eq!(found, ["a/x.png", "a/X-2.png", "a/x-3.png", "a.b/x", "a.b/x-2"]);
    }
}
