//! What a table says of images: their class, their group and their part of a split.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use crate::groups::file_name;
use crate::layout::{normal, part_of};
use crate::masks::stem;
use crate::split::SplitPart;
use crate::{Error, Result, text};

/// A table with a line for each image: any delimiter, in UTF-8 or UTF-16, with a header.
///
/// An image is named by its path inside the source, by its last part, or by that without its ending. Several lines of one image
/// add up: an image with several labels is of the class that has all their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// The column that names images; without it, the one in which most images are found.
    pub name: Option<String>,
    /// The column of the class; or several columns of ones and zeros (or `true` and `false`, `yes` and `no`, `positive` and `negative`), named by their classes. None: classes
    /// are those of the folders.
    pub label: Vec<String>,
    /// The column of the group, such as the patient.
    pub group: Option<String>,
    /// The column of the part of a split: `train`, `val` or `test`, or one of their other names.
    pub part: Option<String>,
}

/// What a table says of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    labels: BTreeSet<String>,
    pub(crate) group: Option<String>,
    pub(crate) part: Option<SplitPart>,
}

impl Row {
    /// The class: all labels, with a bar between them.
    pub(crate) fn class(&self) -> Option<String> {
        (!self.labels.is_empty()).then(|| self.labels.iter().cloned().collect::<Vec<_>>().join("|"))
    }
}

/// The images of a source by everything that may name them.
struct Names<'a> {
    paths: HashMap<String, usize>,
    /// Last parts, with and without ending; none where several images have them.
    short: HashMap<String, Option<usize>>,
    files: &'a [&'a str],
}

fn key(name: &str) -> String {
    normal(name.trim().trim_start_matches("./")).replace('\\', "/").to_lowercase()
}

impl<'a> Names<'a> {
    fn new(files: &'a [&'a str]) -> Self {
        let mut names = Self { paths: HashMap::new(), short: HashMap::new(), files };
        for (at, file) in files.iter().enumerate() {
            names.paths.insert(key(file), at);
            let last = key(file_name(file));
            let bare = stem(&last).to_owned();
            for short in BTreeSet::from([last, bare]) {
                names.short.entry(short).and_modify(|known| *known = None).or_insert(Some(at));
            }
        }
        names
    }

    /// The image that a table calls so; an error where several are called so.
    fn find(&self, name: &str) -> std::result::Result<Option<usize>, String> {
        let name = key(name);
        if let Some(at) = self.paths.get(&name) {
            return Ok(Some(*at));
        }
        let last = file_name(&name);
        match self.short.get(last).or_else(|| self.short.get(stem(last))) {
            Some(None) => {
                let same = |file: &&&str| {
                    let file = key(file_name(file));
                    file == last || stem(&file) == stem(last)
                };
                let two: Vec<&str> = self.files.iter().filter(same).take(2).copied().collect();
                Err(format!("{last:?} names several images ({}): name them by their paths", two.join(", ")))
            }
            Some(found) => Ok(*found),
            None => Ok(None),
        }
    }
}

impl Table {
    /// What the table says of each of these files (paths inside the source); none of one without a line.
    pub(crate) fn rows(&self, files: &[&str]) -> Result<Vec<Option<Row>>> {
        let bad = |line: u64, reason: String| Error::Csv { path: self.path.clone(), line, reason };
        let text = text::read(&self.path)?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(text::delimiter(&text))
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let from_csv = |error: csv::Error| bad(error.position().map_or(0, csv::Position::line), error.to_string());
        let header: Vec<String> = reader.headers().map_err(from_csv)?.iter().map(normal).collect();
        let records: Vec<csv::StringRecord> =
            reader.records().collect::<std::result::Result<_, _>>().map_err(from_csv)?;
        let column = |name: &String| {
            let name = normal(name);
            let at = header.iter().position(|other| *other == name);
            let at = at.or_else(|| header.iter().position(|other| other.to_lowercase() == name.to_lowercase()));
            at.ok_or_else(|| bad(1, format!("there is no column {name:?}; the columns are {}", header.join(", "))))
        };
        let names = Names::new(files);
        let name = match &self.name {
            Some(name) => column(name)?,
            None => self.name_column(&header, &records, &names)?,
        };
        let labels: Vec<usize> = self.label.iter().map(column).collect::<Result<_>>()?;
        let [group, part] = [&self.group, &self.part].map(|name| name.as_ref().map(column).transpose());
        let (group, part) = (group?, part?);

        let mut rows: Vec<Option<Row>> = vec![None; files.len()];
        let mut lines = 0;
        for record in &records {
            let line = record.position().map_or(0, csv::Position::line);
            let Some(at) = names.find(&record[name]).map_err(|reason| bad(line, reason))? else { continue };
            lines += 1;
            let row = rows[at].get_or_insert_default();
            match labels.as_slice() {
                [] => {}
                [label] if record[*label].is_empty() => {}
                [label] => {
                    row.labels.insert(normal(&record[*label]));
                }
                several => {
                    for &at in several {
                        let is_one = is_one(&record[at]).ok_or_else(|| {
                            let (entry, column) = (&record[at], &header[at]);
                            bad(
                                line,
                                format!(
                                    "column {column:?} has {entry:?}: several columns of classes hold ones and zeros"
                                ),
                            )
                        })?;
                        if is_one {
                            row.labels.insert(header[at].clone());
                        }
                    }
                }
            }
            let value = |at: Option<usize>| at.map(|at| normal(&record[at])).filter(|value| !value.is_empty());
            if let Some(found) = value(group) {
                match &row.group {
                    Some(before) if *before != found => {
                        return Err(bad(
                            line,
                            format!("{:?} is in group {found:?} here and in {before:?} before", &record[name]),
                        ));
                    }
                    _ => row.group = Some(found),
                }
            }
            if let Some(found) = value(part) {
                let found = part_of(&found)
                    .ok_or_else(|| bad(line, format!("{found:?} is no part of a split: train, val and test are")))?;
                row.part = Some(found);
            }
        }
        if labels.len() > 1 {
            // An image with a line of zeros has none of the labels.
            rows.iter_mut().flatten().filter(|row| row.labels.is_empty()).for_each(|row| {
                row.labels.insert("none".to_owned());
            });
        }
        if lines == 0 {
            let example = records.first().map_or("", |record| &record[name]);
            return Err(bad(
                0,
                format!(
                    "no line names an image: column {:?} has {example:?}, and there is {:?}",
                    header[name],
                    files.first().unwrap_or(&"")
                ),
            ));
        }
        Ok(rows)
    }

    /// The column in which most images are found.
    fn name_column(&self, header: &[String], records: &[csv::StringRecord], names: &Names<'_>) -> Result<usize> {
        const LOOKED_AT: usize = 1000;
        let found = |at: &usize| {
            let values = records.iter().take(LOOKED_AT).map(|record| &record[*at]);
            values.filter(|value| !matches!(names.find(value), Ok(None))).count()
        };
        // The first of those with most.
        let best = (0..header.len()).rev().max_by_key(found).filter(|at| found(at) > 0);
        best.ok_or_else(|| Error::Csv {
            path: self.path.clone(),
            line: 0,
            reason: format!(
                "no column names the images, such as {:?}; the columns are {}",
                names.files.first().unwrap_or(&""),
                header.join(", ")
            ),
        })
    }
}

/// Whether an entry of a column of ones and zeros is one; none where it is neither. An empty one is zero.
fn is_one(entry: &str) -> Option<bool> {
    if let Ok(number) = entry.parse::<f64>() {
        return [0.0, 1.0].contains(&number).then_some(number == 1.0);
    }
    match entry.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "positive" => Some(true),
        "false" | "f" | "no" | "n" | "negative" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, label: &[&str], files: &[&str]) -> std::result::Result<Vec<Option<Row>>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let table = Table {
            path: file.path().into(),
            label: label.iter().map(|name| (*name).to_owned()).collect(),
            group: text.contains("patient").then(|| "patient".to_owned()),
            part: text.contains("fold").then(|| "fold".to_owned()),
            ..Table::default()
        };
        table.rows(files).map_err(|error| error.to_string())
    }

    fn classes(text: &str, label: &[&str], files: &[&str]) -> Vec<Option<String>> {
        rows(text, label, files).unwrap().into_iter().map(|row| row.and_then(|row| row.class())).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    const FILES: [&str; 3] = ["images/0.png", "images/1.PNG", "images/größe.png"];

    #[test]
    fn images_are_found_by_path_name_or_stem() {
        let text = "patient;age;finding;file;fold\nP1;51;ill;images\\0.png;Training\nP2;60;well;1.png;test\n\"P3\";9;\"ill\";gro\u{308}ße;\n";
        let found = rows(text, &["finding"], &FILES).unwrap();
        let row = |at: usize| found[at].clone().unwrap();
        assert_eq!(
            (row(0).class(), row(0).group, row(0).part),
            (Some("ill".into()), Some("P1".into()), Some(SplitPart::Train))
        );
        assert_eq!((row(1).class(), row(1).part), (Some("well".into()), Some(SplitPart::Test)));
        assert_eq!((row(2).class(), row(2).group, row(2).part), (Some("ill".into()), Some("P3".into()), None));
    }

    #[test]
    fn several_labels_are_one_class() {
        assert_eq!(classes("file,dx\n0,b\n0,a\n1,a\n", &["dx"], &FILES[..2]), some(&["a|b", "a"]));
        for entry in ["0.5", "-1", "x", "2", "nan"] {
            let error = rows(&format!("file,mel,nv\n0,1,0\n1,0,{entry}\n"), &["mel", "nv"], &FILES).unwrap_err();
            assert!(error.contains("\"nv\"") && error.contains(entry) && error.contains('3'), "{error}");
        }
        // A column in another form of Unicode.
        let decomposed = "file,ho\u{308}he\n0,a\n";
        assert_eq!(classes(decomposed, &["höhe"], &FILES[..1]), some(&["a"]));
        assert_eq!(classes("file,höhe\n0,a\n", &["ho\u{308}he"], &FILES[..1]), some(&["a"]));
        let ones = "file,mel,nv\n0,1.0,0.0\n1,0,0\ngröße,1,true\n";
        assert_eq!(classes(ones, &["mel", "nv"], &FILES), some(&["mel", "none", "mel|nv"]));
    }

    #[test]
    fn lines_without_an_image_and_images_without_a_line() {
        assert_eq!(classes("file,dx\n0,a\n99,b\n1,\n", &["dx"], &FILES), [Some("a".to_owned()), None, None]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let reason = |text: &str, label: &[&str], files: &[&str]| rows(text, label, files).unwrap_err();
        assert!(reason("file,dx\n0,a\n", &["kind"], &FILES).contains("no column \"kind\"; the columns are file, dx"));
        assert!(reason("file,dx\n7,a\n", &["dx"], &FILES).contains("no column names the images"));
        assert!(reason("file,dx\n0,a\n", &["dx"], &["a/0.png", "b/0.png"]).contains("a/0.png, b/0.png"));
        assert!(reason("file,patient\n0,a\n0,b\n", &[], &FILES).contains("line 3"));
        assert!(reason("file,fold\n0,holdout\n", &[], &FILES).contains("\"holdout\" is no part"));
        assert!(reason("file,dx\n0\n", &["dx"], &FILES).contains("line 2"));
    }
}
