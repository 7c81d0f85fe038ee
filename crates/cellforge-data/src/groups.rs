//! The group of each image, which is its patient: from NIH file names, from CSV files, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where an image's group comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// [`Groups::NihName`] if every file name fits and there are at least two patients, else [`Groups::None`]. A warning tells of
    /// names that do not fit where others are of two patients or more.
    #[default]
    Auto,
    /// No groups.
    None,
    /// The patient in the file name, see [`nih_patient`]. A name that does not fit is an error.
    NihName,
    /// CSV files, each either two columns `file,group` (a header of usual words is recognised) or NLM's
    /// `patientid_cellmapping_*.csv`, whose lines are `PREFIX,['a.png', 'b.png']`. A file is named by its path inside the
    /// folder or zip, or by its last part. An image without a line is an error; a line without an image is not.
    Csv(Vec<PathBuf>),
}

/// The patient of an NIH/NLM malaria image, from the name of its file or slide.
///
/// The name begins like the regular expression `^C(\d+)`, and that is the patient: NLM's 200 patients are the 200 numbers
/// after `C`. The `P` number that some names have as well is another name for the same patient.
///
/// ```
/// use cellforge_data::groups::nih_patient;
/// assert_eq!(nih_patient("C100P61ThinF_IMG_20150918_144104_cell_162.png").as_deref(), Some("C100"));
/// assert_eq!(nih_patient("C37BP2_thinF_IMG_cell_1.png").as_deref(), Some("C37"));
/// assert_eq!(nih_patient("C12NThinF_IMG_cell_1.png").as_deref(), Some("C12"));
/// assert_eq!(nih_patient("cell_1.png"), None);
/// ```
#[must_use]
pub fn nih_patient(name: &str) -> Option<String> {
    let digits = name.strip_prefix('C')?.chars().take_while(char::is_ascii_digit).count();
    (digits > 0).then(|| name[..=digits].to_owned())
}

/// The group of each name in turn, or why it has none.
pub(crate) type Assigned = Vec<std::result::Result<Option<String>, String>>;

/// Looks up the group of every name (a path inside the source).
pub(crate) fn assign(names: &[&str], groups: &Groups) -> Result<Assigned> {
    let file_name = |name: &str| name.rsplit_once('/').map_or(name, |(_, last)| last).to_owned();
    match groups {
        Groups::None => Ok(vec![Ok(None); names.len()]),
        Groups::Auto => {
            let found: Vec<Option<String>> = names.iter().map(|name| nih_patient(&file_name(name))).collect();
            let several = found.iter().flatten().collect::<BTreeSet<_>>().len() > 1;
            let stray = found.iter().position(Option::is_none);
            if several && stray.is_none() {
                return Ok(found.into_iter().map(Ok).collect());
            }
            if let (true, Some(stray)) = (several, stray) {
                tracing::warn!(
                    "{} of {} file names begin with a patient as in C100P61ThinF_..., and the others, such as {:?}, do not: \
                     images of a patient may be on several sides of a split; move the others away, or name all patients with \
                     --group-csv",
                    found.iter().flatten().count(),
                    names.len(),
                    names[stray]
                );
            }
            Ok(vec![Ok(None); names.len()])
        }
        Groups::NihName => Ok(names
            .iter()
            .map(|name| {
                nih_patient(&file_name(name))
                    .map(Some)
                    .ok_or_else(|| "its name does not begin with a patient as in C100P61ThinF_...".to_owned())
            })
            .collect()),
        Groups::Csv(paths) => {
            let mut table = BTreeMap::new();
            for path in paths {
                read_csv(path, &mut table)?;
            }
            Ok(names
                .iter()
                .map(|name| {
                    let group = table.get(*name).or_else(|| table.get(&file_name(name)));
                    group
                        .map(|group| Some(group.clone()))
                        .ok_or_else(|| "the CSV of groups has no line for it".to_owned())
                })
                .collect())
        }
    }
}

fn read_csv(path: &Path, table: &mut BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    let csv_error = |line: u64, reason: String| Error::Csv { path: path.to_path_buf(), line, reason };
    let text = String::from_utf8(text).map_err(|_| csv_error(0, "the file is not UTF-8 text".to_owned()))?;
    let text = text.trim_start_matches('\u{feff}');
    let mut insert = |line: u64, file: String, group: &str| match table.insert(file.clone(), group.to_owned()) {
        Some(before) if before != group => {
            Err(csv_error(line, format!("{file:?} is in group {group:?} here and in {before:?} before")))
        }
        _ => Ok(()),
    };
    let is_nlm = text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| split_nlm(line).is_some());
    if is_nlm {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let (prefix, list) = split_nlm(line)
                .ok_or_else(|| csv_error(number, "expected PREFIX,['a.png', 'b.png'] as in NLM's files".to_owned()))?;
            let files = parse_list(list).ok_or_else(|| {
                csv_error(number, "the list of files after the first comma does not end as it should".into())
            })?;
            let group = nih_patient(prefix).unwrap_or_else(|| prefix.to_owned());
            for file in files {
                insert(number, file, &group)?;
            }
        }
        return Ok(());
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    for (place, record) in reader.records().enumerate() {
        let record =
            record.map_err(|error| csv_error(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let (Some(file), Some(group), 2) = (record.get(0), record.get(1), record.len()) else {
            return Err(csv_error(line, format!("expected two columns, file and group, but found {}", record.len())));
        };
        if place == 0 && is_one_of(&GROUP_WORDS, file) && is_one_of(&FILE_WORDS, group) {
            let reason =
                format!("the columns are {file},{group}: put the file first and its group second, as in file,group");
            return Err(csv_error(line, reason));
        }
        if place == 0 && is_header(file, group) {
            continue;
        }
        if file.is_empty() || group.is_empty() {
            return Err(csv_error(line, "the file or its group is empty".to_owned()));
        }
        insert(line, file.to_owned(), group)?;
    }
    Ok(())
}

/// What headers call a file.
const FILE_WORDS: [&str; 7] = ["file", "filename", "file_name", "name", "image", "path", "image"];
/// What headers call a group.
const GROUP_WORDS: [&str; 4] = ["group", "patient", "patient_id", "id"];

fn is_one_of(words: &[&str], field: &str) -> bool {
    words.iter().any(|word| field.eq_ignore_ascii_case(word))
}

/// Whether the first line of a file is a header. A word for files is enough: an image's name has an extension. A word for groups
/// might be a file's `id`, and needs another beside it.
fn is_header(first: &str, second: &str) -> bool {
    is_one_of(&FILE_WORDS, first) || (is_one_of(&GROUP_WORDS, first) && is_one_of(&GROUP_WORDS, second))
}

/// Splits one of NLM's lines once, at its first comma.
fn split_nlm(line: &str) -> Option<(&str, &str)> {
    let (prefix, list) = line.split_once(',')?;
    let (prefix, list) = (prefix.trim(), list.trim());
    (!prefix.is_empty() && list.starts_with('[')).then_some((prefix, list))
}

/// Parses `['a.png', "b.png"]`. NLM's lines end in commas that a spreadsheet added; they are dropped.
fn parse_list(list: &str) -> Option<Vec<String>> {
    let mut rest = list.trim_end_matches([',', ' ', '\t']).strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut files = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (file, after) = rest[1..].split_once(quote)?;
        files.push(file.to_owned());
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<BTreeMap<String, String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut table = BTreeMap::new();
        read_csv(file.path(), &mut table).map(|()| table)
    }

    #[test]
    fn nih_names_of_every_form() {
        for (name, patient) in [
            ("C39P4thinF_original_IMG_1_cell_9.png", "C39"),
            ("C51AP12thinF_IMG_1_cell_9.png", "C51"),
            ("C47P8thin_Original_Motic_cell_1.png", "C47"),
            ("C47P8thinOriginalOlympusCX21_cell_1.png", "C47"),
            ("C1_thinF_IMG_1_cell_9.png", "C1"),
            ("C5NThinF_IMG_1_cell_9.png", "C5"),
            ("C5AxP3.png", "C5"),
            ("C5P.png", "C5"),
        ] {
            assert_eq!(nih_patient(name).as_deref(), Some(patient), "{name}");
        }
        for name in ["", "C", "CP1.png", "c1P1.png", "xC1P1.png", "Cell_1.png"] {
            assert_eq!(nih_patient(name), None, "{name}");
        }
    }

    #[test]
    fn auto_needs_every_name_and_two_patients() {
        let auto = |names: &[&str]| assign(names, &Groups::Auto).unwrap();
        assert_eq!(auto(&["a/C1P1_x.png", "b/C2P2_y.png"])[1], Ok(Some("C2".into())));
        assert_eq!(auto(&["a/C1P1_x.png", "b/C1P1_y.png"])[1], Ok(None));
        assert_eq!(auto(&["a/C1P1_x.png", "b/image.png"])[0], Ok(None));
        assert_eq!(auto(&["a/C1P1_x.png", "b/C2P2_y.png", "b/words.png"]), vec![Ok(None); 3]);
    }

    #[test]
    fn nlm_lines_with_trailing_commas_and_crlf() {
        let table = csv(
            "C47P8thinA,['C47P8thinA_1.png', 'C47P8thinA_2.png'],,,\r\nC9P1x,[\"C9P1x_1.png\"]\r\nslide,['z.png']\r\n\r\n",
        );
        let table = table.unwrap();
        assert_eq!(table["C47P8thinA_2.png"], "C47");
        assert_eq!(table["C9P1x_1.png"], "C9");
        assert_eq!(table["z.png"], "slide");
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn broken_nlm_line_is_named() {
        let error = csv("C1P1,['a.png']\nC2P2,['b.png', 'c.png\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn two_columns_with_and_without_header() {
        let with = csv("\u{feff}File,Patient\na.png,p1\n\"b,c.png\",p2\n").unwrap();
        assert_eq!(with["b,c.png"], "p2");
        assert_eq!(with.len(), 2);
        assert_eq!(csv("a.png,p1\nb.png,p2\n").unwrap(), csv("file,group\na.png,p1\nb.png,p2\n").unwrap());
    }

    #[test]
    fn headers_tell_the_order_of_the_columns() {
        for header in ["file,group", "Image,Patient_ID", "image,slide", "ID,patient"] {
            assert_eq!(csv(&format!("{header}\na.png,p1\n")).unwrap().len(), 1, "{header}");
        }
        for header in ["patient,file", "Patient_ID,Image", "id,name"] {
            let error = csv(&format!("{header}\np1,a.png\n")).unwrap_err();
            assert!(matches!(&error, Error::Csv { line: 1, .. }), "{error}");
            assert!(error.to_string().contains(header) && error.to_string().contains("file,group"), "{error}");
        }
    }

    #[test]
    fn bad_two_column_files_are_named_by_line() {
        for (text, line) in [("a.png,p1\nb.png\n", 2), ("a.png,p1\na.png,p2\n", 2), ("a.png,\n", 1), ("a,b,c\n", 1)] {
            let error = csv(text).unwrap_err();
            assert!(matches!(&error, Error::Csv { line: l, .. } if *l == line), "{error} for {text:?}");
        }
    }

    #[test]
    fn csv_finds_by_path_or_file_name_and_names_the_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a/x.png,g1\nx.png,g2\n").unwrap();
        let found = assign(&["a/x.png", "b/x.png", "b/y.png"], &Groups::Csv(vec![file.path().into()])).unwrap();
        assert_eq!(found[0], Ok(Some("g1".into())));
        assert_eq!(found[1], Ok(Some("g2".into())));
        assert!(found[2].is_err());
    }
}
