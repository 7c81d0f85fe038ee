//! Splits as CSV files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Split;
use crate::atomic::write_atomic;
use crate::layout::normal;
use crate::{Error, MAX_TEXT_BYTES, Result, View, read_bounded};

const COLUMNS: [&str; 4] = ["name", "class", "group", "split"];
const UNUSED: &str = "unused";

/// Writes a split as CSV with the columns name, class, group and split (train, val, test or unused), a line for each image of
/// the set, under a temporary name that is then renamed.
///
/// # Errors
/// [`Error::Invalid`] if the split names an image twice or one that is not there, or two images share a name; [`Error::Io`].
pub fn write_manifest(path: &Path, view: &View, split: &Split) -> Result<()> {
    let mut side_of = vec![UNUSED; view.len()];
    for (side, images) in [("train", &split.train), ("val", &split.val), ("test", &split.test)] {
        for image in images {
            match side_of.get_mut(*image) {
                Some(place) if *place == UNUSED => *place = side,
                Some(_) => return Err(Error::Invalid(format!("{} is in the split twice", view.name(*image)))),
                None => {
                    return Err(Error::Invalid(format!("the split names image {image}, but there are {}", view.len())));
                }
            }
        }
    }
    places(view)?;
    let csv_io = |error: csv::Error| Error::io(path)(error.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(csv_io)?;
    for (image, side) in side_of.into_iter().enumerate() {
        let class = view.class_of(image);
        let group = view.group(image).unwrap_or_default();
        writer.write_record([view.name(image), class, group, side]).map_err(csv_io)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::io(path)(error.into_error()))?;
    write_atomic(path, &bytes)
}

/// Reads a manifest that [`write_manifest`] wrote and checks it against the images.
///
/// # Errors
/// [`Error::Csv`], naming the line, for other columns, a name that is not in the set or is there twice, another class or group
/// than the set's, or an unknown side; for an image of the set without a line; [`Error::Io`].
pub fn read_manifest(path: &Path, view: &View) -> Result<Split> {
    let bad = |line: u64, reason: String| Error::Csv { path: path.to_path_buf(), line, reason };
    let bytes = read_bounded(path, MAX_TEXT_BYTES).map_err(Error::io(path))?;
    let places = places(view)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let from_csv = |error: csv::Error| bad(error.position().map_or(0, csv::Position::line), error.to_string());
    if reader.headers().map_err(from_csv)? != COLUMNS.as_slice() {
        return Err(bad(1, format!("a split manifest begins with the line {}", COLUMNS.join(","))));
    }
    let mut split = Split::default();
    let mut seen = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(from_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let (name, class, group, side) = (&record[0], &record[1], &record[2], &record[3]);
        let image = *places.get(&normal(name)).ok_or_else(|| bad(line, format!("{name:?} is not among the images")))?;
        let (own_class, own_group) = (view.class_of(image), view.group(image));
        if class != own_class || group != own_group.unwrap_or_default() {
            return Err(bad(
                line,
                format!(
                    "{name:?} is in class {class:?} and group {group:?} here, but in {own_class:?} and {:?} among the images",
                    own_group.unwrap_or_default()
                ),
            ));
        }
        if !seen.insert(image) {
            return Err(bad(line, format!("{name:?} is there twice")));
        }
        match side {
            "train" => split.train.push(image),
            "val" => split.val.push(image),
            "test" => split.test.push(image),
            UNUSED => {}
            _ => return Err(bad(line, format!("{side:?} is none of train, val, test and {UNUSED}"))),
        }
    }
    if let Some(image) = (0..view.len()).find(|image| !seen.contains(image)) {
        return Err(bad(0, format!("{:?} has no line: the manifest is of other images", view.name(image))));
    }
    for side in [&mut split.train, &mut split.val, &mut split.test] {
        side.sort_unstable();
    }
    Ok(split)
}

/// Where each name is in the view.
fn places(view: &View) -> Result<BTreeMap<String, usize>> {
    let mut places = BTreeMap::new();
    for (image, name) in view.names().enumerate() {
        if places.insert(normal(name), image).is_some() {
            return Err(Error::Invalid(format!("two images are named {name:?}: a manifest needs names that differ")));
        }
    }
    Ok(places)
}
