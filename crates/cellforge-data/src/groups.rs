//! The group of each image, such as its patient: from names, from CSV files, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use crate::layout::normal;
use crate::{Error, OpenOptions, Result, text};

/// Where an image's group comes from, with the pattern or the files that it takes. A program's setting names one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// The patients that the files state (DICOM), under pseudonyms; else the folders of groups, where the layout has some; else
    /// [`Groups::Names`] with the first of [`OpenOptions::patterns`] that fits every file name and finds at least two groups; else the
    /// volumes and stacks that images are cut from; else [`Groups::None`]. A warning tells of names that do not fit where others are of
    /// two groups or more.
    #[default]
    Auto,
    /// No groups.
    None,
    /// What the pattern finds in the file name. A name without a group is an error.
    Names(GroupPattern),
    /// CSV files, each either two columns `file,group` (a header of usual words is recognised) or lines `SLIDE,['a.png', 'b.png']`. The
    /// group of a slide is what the first of [`OpenOptions::patterns`] that fits finds in its name, or else its name. A file is named by
    /// its path inside the folder or zip, or by its last part. An image without a line is an error; a line without an image is not.
    Csv(Vec<PathBuf>),
}

/// How names tell a group: a regular expression whose first part in parentheses is the group.
///
/// ```
/// use cellforge_data::GroupPattern;
///
/// let pattern = GroupPattern::new("^(case[0-9]+)_")?;
/// assert_eq!(pattern.group("case17_left.png"), Some("case17"));
/// assert_eq!(pattern.group("left.png"), None);
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupPattern(Regex);

impl GroupPattern {
    /// The syntax is that of the crate `regex-lite`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no regular expression, or one without a part in parentheses.
    pub fn new(pattern: &str) -> Result<Self> {
        let invalid = |reason: String| Error::Invalid(format!("the pattern of groups {pattern:?} {reason}"));
        let regex =
            Regex::new(&normal(pattern)).map_err(|error| invalid(format!("is no regular expression: {error}")))?;
        if regex.captures_len() < 2 {
            return Err(invalid("has no part in parentheses, which would be the group".to_owned()));
        }
        Ok(Self(regex))
    }

    /// The group in a name; none where the name does not fit or the group is empty. Images are looked up by the last part of their path, or
    /// by all of it where the pattern has a `/`.
    #[must_use]
    pub fn group<'a>(&self, name: &'a str) -> Option<&'a str> {
        let found = self.0.captures(name)?.get(1)?.as_str();
        (!found.is_empty()).then_some(found)
    }

    /// The group of an image by its path.
    fn group_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.group(if self.as_str().contains('/') { path } else { file_name(path) })
    }

    /// The regular expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for GroupPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for GroupPattern {}

/// The group of each name in turn, or why it has none.
pub(crate) type Assigned = Vec<std::result::Result<Option<String>, String>>;

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// Looks up the group of every name (a path inside the source).
pub(crate) fn assign(names: &[&str], options: &OpenOptions) -> Result<Assigned> {
    let found = |pattern: &GroupPattern| -> Vec<Option<String>> {
        names.iter().map(|name| pattern.group_of(&normal(name)).map(str::to_owned)).collect()
    };
    match &options.groups {
        Groups::None => Ok(vec![Ok(None); names.len()]),
        Groups::Auto => Ok(auto(names, &options.patterns, found)),
        Groups::Names(pattern) => Ok(found(pattern)
            .into_iter()
            .map(|group| {
                group.map(Some).ok_or_else(|| format!("its name has no group by the pattern {}", pattern.as_str()))
            })
            .collect()),
        Groups::Csv(paths) => {
            let mut table = BTreeMap::new();
            for path in paths {
                read_csv(path, &options.patterns, &mut table)?;
            }
            Ok(names
                .iter()
                .map(|name| {
                    let name = normal(name);
                    let group = table.get(&name).or_else(|| table.get(file_name(&name)));
                    group
                        .map(|group| Some(group.clone()))
                        .ok_or_else(|| "the CSV of groups has no line for it".to_owned())
                })
                .collect())
        }
    }
}

/// The groups by the first pattern that fits all names, and finds two groups; else none.
fn auto(names: &[&str], patterns: &[GroupPattern], found: impl Fn(&GroupPattern) -> Vec<Option<String>>) -> Assigned {
    for pattern in patterns {
        let found = found(pattern);
        let several = found.iter().flatten().collect::<BTreeSet<_>>().len() > 1;
        match found.iter().position(Option::is_none) {
            None if several => return found.into_iter().map(Ok).collect(),
            Some(stray) if several => tracing::warn!(
                "{} of {} file names tell a group by the pattern {}, and the others, such as {:?}, do not: no groups are known, and images \
                 of a patient may be on several sides of a split",
                found.iter().flatten().count(),
                names.len(),
                pattern.as_str(),
                names[stray]
            ),
            _ => {}
        }
    }
    vec![Ok(None); names.len()]
}

fn read_csv(path: &Path, patterns: &[GroupPattern], table: &mut BTreeMap<String, String>) -> Result<()> {
    let text = &text::read(path)?;
    let csv_error = |line: u64, reason: String| Error::Csv { path: path.to_path_buf(), line, reason };
    let mut insert = |line: u64, file: String, group: &str| match table.insert(normal(&file), group.to_owned()) {
        Some(before) if before != group => {
            Err(csv_error(line, format!("{file:?} is in group {group:?} here and in {before:?} before")))
        }
        _ => Ok(()),
    };
    let is_list = text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| split_slide(line).is_some());
    if is_list {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let (slide, list) = split_slide(line).ok_or_else(|| {
                csv_error(number, "expected SLIDE,['a.png', 'b.png'] as in the lines before".to_owned())
            })?;
            let files = parse_list(list).ok_or_else(|| {
                csv_error(number, "the list of files after the first comma does not end as it should".into())
            })?;
            let group = patterns.iter().find_map(|pattern| pattern.group(slide)).unwrap_or(slide);
            for file in files {
                insert(number, file, group)?;
            }
        }
        return Ok(());
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(text::delimiter(text))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    for (place, record) in reader.records().enumerate() {
        let record =
            record.map_err(|error| csv_error(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let (Some(file), Some(group), 2) = (record.get(0), record.get(1), record.len()) else {
            let columns = record.len();
            return Err(Error::Columns { path: path.to_path_buf(), line, columns });
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
const FILE_WORDS: [&str; 7] = ["file", "filename", "file_name", "name", "image", "path", "cell"];
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

/// Splits the line of a slide once, at its first comma.
fn split_slide(line: &str) -> Option<(&str, &str)> {
    let (prefix, list) = line.split_once(',')?;
    let (prefix, list) = (prefix.trim(), list.trim());
    (!prefix.is_empty() && list.starts_with('[')).then_some((prefix, list))
}

/// Parses `['a.png', "b.png"]`. Lines may end in commas that a spreadsheet added; they are dropped.
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
        read_csv(file.path(), &[patients()], &mut table).map(|()| table)
    }

    /// The patient in a name such as `C47P8thinA_1.png`.
    fn patients() -> GroupPattern {
        GroupPattern::new("^(C[0-9]+)").unwrap()
    }

    fn options(groups: Groups) -> OpenOptions {
        OpenOptions { groups, patterns: vec![patients()], ..OpenOptions::default() }
    }

    #[test]
    fn patterns_need_a_group() {
        assert!(GroupPattern::new("^C[0-9]+").unwrap_err().to_string().contains("parentheses"));
        assert!(GroupPattern::new("^(C[0-9+").is_err());
        assert_eq!(GroupPattern::new("^(C?)").unwrap().group("x.png"), None);
        assert_eq!(GroupPattern::new("_(a|b)_(c)").unwrap().group("1_b_c.png"), Some("b"));
    }

    #[test]
    fn auto_needs_every_name_and_two_patients() {
        let auto = |names: &[&str]| assign(names, &options(Groups::Auto)).unwrap();
        assert_eq!(auto(&["a/C1P1_x.png", "b/C2P2_y.png"])[1], Ok(Some("C2".into())));
        assert_eq!(auto(&["a/C1P1_x.png", "b/C1P1_y.png"])[1], Ok(None));
        assert_eq!(auto(&["a/C1P1_x.png", "b/image.png"])[0], Ok(None));
        assert_eq!(auto(&["a/C1P1_x.png", "b/C2P2_y.png", "b/words.png"]), vec![Ok(None); 3]);
        // The first pattern that fits, and none where there are no patterns.
        let names = ["a/C1_day2.png", "b/D1_day3.png"];
        let mut several = options(Groups::Auto);
        several.patterns.push(GroupPattern::new("_(day[0-9])").unwrap());
        assert_eq!(assign(&names, &several).unwrap()[1], Ok(Some("day3".into())));
        several.patterns.clear();
        assert_eq!(assign(&["a/C1P1_x.png", "b/C2P2_y.png"], &several).unwrap(), vec![Ok(None); 2]);
        let strict = options(Groups::Names(patients()));
        let found = assign(&names, &strict).unwrap();
        assert_eq!(found[0], Ok(Some("C1".into())));
        assert!(found[1].as_ref().unwrap_err().contains("^(C[0-9]+)"));
    }

    #[test]
    fn lines_of_slides_with_trailing_commas_and_crlf() {
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
    fn a_broken_line_of_a_slide_is_named() {
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
            let found = matches!(&error, Error::Csv { line: l, .. } | Error::Columns { line: l, .. } if *l == line);
            assert!(found, "{error} for {text:?}");
        }
    }

    #[test]
    fn csv_finds_by_path_or_file_name_and_names_the_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a/x.png,g1\nx.png,g2\n").unwrap();
        let found =
            assign(&["a/x.png", "b/x.png", "b/y.png"], &options(Groups::Csv(vec![file.path().into()]))).unwrap();
        assert_eq!(found[0], Ok(Some("g1".into())));
        assert_eq!(found[1], Ok(Some("g2".into())));
        assert!(found[2].is_err());
    }
}
