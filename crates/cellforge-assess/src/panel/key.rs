//! What the images of a panel are: `key.csv`.

use std::path::Path;

use cellforge_data::{MAX_TEXT_BYTES, read_bounded};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Whether an image is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was taken of a patient.
    Real,
    /// A program made it.
    Synthetic,
}

impl Source {
    /// `real` or `synthetic`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Synthetic => "synthetic",
        }
    }
}

/// An image of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyImage {
    /// What page and answers call it.
    pub id: String,
    /// Whether it is real.
    pub source: Source,
    /// Its class; empty where there are none.
    pub class: String,
    /// The patient of a real image, where known.
    pub patient: Option<String>,
    /// Its name in the folder or zip.
    pub file: String,
    /// Where it is shown, from 1: once, or twice in ascending order.
    pub positions: Vec<usize>,
}

/// What the images of a panel are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The id of the panel, which its answers name.
    pub panel: String,
    /// Its images, sorted by id.
    pub images: Vec<KeyImage>,
}

/// The columns of `key.csv`. The last is empty for an image that is shown once.
const COLUMNS: [&str; 8] = ["panel", "id", "source", "class", "patient", "file", "first", "second"];

impl Key {
    /// How many images are shown, those shown twice counted twice.
    #[must_use]
    pub fn showings(&self) -> usize {
        self.images.iter().map(|image| image.positions.len()).sum()
    }

    /// The ids in the order in which they are shown.
    #[must_use]
    pub fn order(&self) -> Vec<&str> {
        let mut shown: Vec<(usize, &str)> = self
            .images
            .iter()
            .flat_map(|image| image.positions.iter().map(|&position| (position, image.id.as_str())))
            .collect();
        shown.sort_unstable();
        shown.into_iter().map(|(_, id)| id).collect()
    }

    /// The key as CSV, a line for each image.
    ///
    /// # Errors
    /// Does not fail: it is written to memory.
    pub fn to_csv(&self) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write = |row: &[&str]| writer.write_record(row).map_err(|error| broken(Path::new("key.csv"), &error));
        write(&COLUMNS)?;
        for image in &self.images {
            let at = |n: usize| image.positions.get(n).map(usize::to_string).unwrap_or_default();
            let patient = image.patient.as_deref().unwrap_or_default();
            let row = [&self.panel, &image.id, image.source.word(), &image.class, patient, &image.file, &at(0), &at(1)];
            write(&row)?;
        }
        let bytes = writer.into_inner().map_err(|error| wrong(Path::new("key.csv"), 0, error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the key of a panel.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::PanelFile`] naming the line that is not of a key.
    pub fn read(path: &Path) -> Result<Self> {
        let table = Table::read(path, &COLUMNS)?;
        let mut key = Self { panel: String::new(), images: Vec::new() };
        for row in &table.rows {
            let [panel, id, source, class, patient, file, first, second] = row.fields.each_ref().map(String::as_str);
            let fail = |problem: String| Err(wrong(path, row.line, problem));
            if key.panel.is_empty() {
                key.panel = panel.to_owned();
            }
            if panel.is_empty() || panel != key.panel {
                return fail(format!("the panel is {panel:?}, and {:?} in the first line", key.panel));
            }
            let source = match source {
                "real" => Source::Real,
                "synthetic" => Source::Synthetic,
                other => return fail(format!("the source is {other:?}; it must be real or synthetic")),
            };
            let mut positions = Vec::new();
            for position in [first, second].into_iter().filter(|position| !position.is_empty()) {
                match position.parse() {
                    Ok(position) => positions.push(position),
                    Err(_) => return fail(format!("{position:?} is no position")),
                }
            }
            if id.is_empty() || positions.is_empty() || !positions.is_sorted() {
                return fail("an image needs an id and the positions at which it is shown, in order".to_owned());
            }
            key.images.push(KeyImage {
                id: id.to_owned(),
                source,
                class: class.to_owned(),
                patient: (!patient.is_empty()).then(|| patient.to_owned()),
                file: file.to_owned(),
                positions,
            });
        }
        key.images.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(twice) = key.images.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(wrong(path, 0, format!("it has {} twice", twice[0].id)));
        }
        let mut positions: Vec<usize> = key.images.iter().flat_map(|image| image.positions.iter().copied()).collect();
        positions.sort_unstable();
        if positions != (1..=key.showings()).collect::<Vec<_>>() {
            return Err(wrong(path, 0, "it does not have each position once: it is not the whole key".to_owned()));
        }
        Ok(key)
    }
}

/// A CSV file with the columns asked for.
pub(super) struct Table<const N: usize> {
    pub(super) rows: Vec<Row<N>>,
}

/// A line of it.
pub(super) struct Row<const N: usize> {
    pub(super) line: u64,
    /// The fields, in the order of the columns asked for.
    pub(super) fields: [String; N],
}

impl<const N: usize> Table<N> {
    /// Reads the columns of these names, in whatever order they are in the file. Commas or semicolons divide them: spreadsheets write both.
    pub(super) fn read(path: &Path, columns: &[&str; N]) -> Result<Self> {
        let bytes = read_bounded(path, MAX_TEXT_BYTES).map_err(Error::io("read", path))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong(path, 0, "it is not UTF-8 text".to_owned()))?;
        let text = text.trim_start_matches('\u{feff}');
        let header = text.lines().next().unwrap_or_default();
        let delimiter = if header.contains(';') && !header.contains(',') { b';' } else { b',' };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let found = reader.headers().map_err(|error| broken(path, &error))?.clone();
        let mut at = [0; N];
        for (at, column) in at.iter_mut().zip(columns) {
            *at = found.iter().position(|name| name.eq_ignore_ascii_case(column)).ok_or_else(|| {
                let problem = format!("there is no column {column}; the first line must be {}", columns.join(","));
                wrong(path, 1, problem)
            })?;
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| broken(path, &error))?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != found.len() {
                let problem = format!("it has {} columns, and the first line {}", record.len(), found.len());
                return Err(wrong(path, line, problem));
            }
            rows.push(Row { line, fields: at.map(|at| record[at].to_owned()) });
        }
        if rows.is_empty() {
            return Err(wrong(path, 0, "there is nothing in it below the names of the columns".to_owned()));
        }
        Ok(Self { rows })
    }
}

/// What is wrong with a line of a file, or with the file, for line 0.
pub(super) fn wrong(path: &Path, line: u64, problem: String) -> Error {
    Error::PanelFile { path: path.to_path_buf(), line, problem }
}

fn broken(path: &Path, error: &csv::Error) -> Error {
    wrong(path, error.position().map_or(0, csv::Position::line), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let image = |id: &str, source, patient: Option<&str>, positions: &[usize]| KeyImage {
            id: id.to_owned(),
            source,
            class: "a, b".to_owned(),
            patient: patient.map(str::to_owned),
            file: "a, b/\"x\".png".to_owned(),
            positions: positions.to_vec(),
        };
        let images = vec![image("i1", Source::Real, Some("P1"), &[2]), image("i2", Source::Synthetic, None, &[1, 3])];
        Key { panel: "p1".to_owned(), images }
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key().to_csv().unwrap()).unwrap();
        assert_eq!(Key::read(file.path()).unwrap(), key());
        assert_eq!((key().order(), key().showings()), (vec!["i2", "i1", "i2"], 3));
    }

    #[test]
    fn a_damaged_key_is_named_by_line() {
        let whole = key().to_csv().unwrap();
        let changes = [
            ("source", "kind", "no column source"),
            ("p1,i2", "p2,i2", "line 3: the panel is \"p2\""),
            ("synthetic", "fake", "line 3: the source is \"fake\""),
            ("1,3", "3,1", "line 3: an image needs"),
            ("1,3", "1,4", "each position once"),
            ("i2", "i1", "i1 twice"),
        ];
        for (from, to, expected) in changes {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), whole.replace(from, to)).unwrap();
            let error = Key::read(file.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
