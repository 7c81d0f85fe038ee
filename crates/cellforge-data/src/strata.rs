//! What a table says of each image, or of its group: a site, a scanner, a sex.

use std::collections::BTreeMap;
use std::path::Path;

use crate::groups::file_name;
use crate::{Error, Result, View, text};

/// The stratum of each image: what stands in a column of a CSV file in the line of the image, or of its group (patient).
///
/// The file has a header. Its first column names images, by their path inside the folder or zip or by its last part, or groups. `column` is the
/// header of the column that is read; it can be left out where there are two columns. Lines of other images or groups do no harm.
///
/// # Errors
/// [`Error::Csv`], naming the line, for a column that is not there or was not named among several, a name that is there twice with two
/// values, an empty value, or an image of which neither the name nor the group has a line; [`Error::Io`].
pub fn read_strata(path: &Path, column: Option<&str>, view: &View) -> Result<Vec<String>> {
    let bad = |line: u64, reason: String| Error::Csv { path: path.to_path_buf(), line, reason };
    let text = text::read(path)?;
    let mut reader =
        csv::ReaderBuilder::new().delimiter(text::delimiter(&text)).trim(csv::Trim::All).from_reader(text.as_bytes());
    let from_csv = |error: csv::Error| bad(error.position().map_or(0, csv::Position::line), error.to_string());
    let header = reader.headers().map_err(from_csv)?.clone();
    let others: Vec<&str> = header.iter().skip(1).collect();
    let at = match column {
        Some(name) => others.iter().position(|other| *other == name),
        None if others.len() == 1 => Some(0),
        None => return Err(bad(1, format!("name the column to go by: {}", others.join(", ")))),
    };
    let at = 1 + at.ok_or_else(|| {
        let name = column.unwrap_or_default();
        bad(1, format!("after the first column there is none called {name:?}, but {}", others.join(", ")))
    })?;
    let mut table: BTreeMap<String, String> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(from_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let (name, value) = (&record[0], &record[at]);
        if name.is_empty() || value.is_empty() {
            return Err(bad(line, format!("the name or its {} is empty", &header[at])));
        }
        if let Some(before) = table.insert(name.to_owned(), value.to_owned()).filter(|before| before != value) {
            return Err(bad(line, format!("{name:?} is {value:?} here and {before:?} before")));
        }
    }
    let of = |i: usize| {
        let name = view.name(i);
        let keys = [Some(name), Some(file_name(name)), view.group(i)];
        let found = keys.into_iter().flatten().find_map(|key| table.get(key));
        found.cloned().ok_or_else(|| bad(0, format!("there is no line for {name:?}, nor for its group")))
    };
    (0..view.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ViewParts;

    #[test]
    fn images_and_groups_have_strata() {
        let view = View::new(ViewParts {
            classes: vec!["a".into()],
            names: ["a/1.png", "a/2.png", "a/3.png"].map(str::to_owned).into(),
            groups: ["P1", "P1", "P2"].map(|group| Some(group.to_owned())).into(),
            size: 1.into(),
            channels: 1,
            pixels: vec![0; 3],
            ..ViewParts::default()
        })
        .unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str, column: Option<&str>| {
            std::fs::write(file.path(), text).unwrap();
            read_strata(file.path(), column, &view).map_err(|error| error.to_string())
        };
        assert_eq!(read("patient,site\nP1, A\nP2,B\nP9,C\n", None).unwrap(), ["A", "A", "B"]);
        // The image itself goes before its group, and its path before its name.
        let both = "\u{feff}name,sex,site\n2.png,f,X\na/2.png,f,Y\n3.png,m,Z\nP1,f,A\n";
        assert_eq!(read(both, Some("site")).unwrap(), ["A", "Y", "Z"]);
        assert_eq!(read(both, Some("sex")).unwrap(), ["f", "f", "m"]);
        for (text, column, words) in [
            (both, None, "name the column to go by: sex, site"),
            (both, Some("scanner"), "none called \"scanner\", but sex, site"),
            ("patient,site\nP1,A\n", None, "no line for \"a/3.png\""),
            ("patient,site\nP1,A\nP2,B\nP1,C\n", None, "line 4: \"P1\" is \"C\" here and \"A\" before"),
            ("patient,site\nP1,\n", None, "its site is empty"),
            ("patient,site\nP1\n", None, "line 2"),
        ] {
            let error = read(text, column).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
