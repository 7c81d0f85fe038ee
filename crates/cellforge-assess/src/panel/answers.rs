//! The answers that a rater sends back.

use std::{collections::BTreeMap, path::Path};

use cellforge_eval::panel::LEVELS;

use super::{
    Key,
    key::{Table, wrong},
};
use crate::Result;

/// The columns of a file of answers.
pub(super) const COLUMNS: [&str; 6] = ["panel", "rater", "id", "position", "answer", "seconds"];

/// The answers of one rater.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The rater's initials.
    pub rater: String,
    /// Position in the panel, with the answer there (1 for surely real to 6 for surely synthetic) and the seconds it took.
    pub given: BTreeMap<usize, (u8, f64)>,
}

/// Reads a file of answers to the panel of this key. Not all positions need an answer.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) where the file cannot be read; [`Error::PanelFile`](crate::Error::PanelFile) naming the line: a missing column,
/// another panel, no or other initials, an id or position that the panel does not have, an answer or time that is none, two answers for one
/// position.
pub fn read_answers(path: &Path, key: &Key) -> Result<Answers> {
    let order = key.order();
    let mut answers = Answers { rater: String::new(), given: BTreeMap::new() };
    let mut lines: BTreeMap<usize, u64> = BTreeMap::new();
    for row in &Table::read(path, &COLUMNS)?.rows {
        let [panel, rater, id, position, answer, seconds] = row.fields.each_ref().map(String::as_str);
        let fail = |problem: String| Err(wrong(path, row.line, problem));
        if panel != key.panel {
            return fail(format!("it answers the panel {panel:?}, and the key is of {:?}", key.panel));
        }
        if rater.is_empty() {
            return fail("the rater's initials are missing".to_owned());
        }
        if answers.rater.is_empty() {
            answers.rater = rater.to_owned();
        }
        if rater != answers.rater {
            return fail(format!("the rater is {rater:?}, and {:?} before; give a file for each rater", answers.rater));
        }
        if !order.contains(&id) {
            return fail(format!("the panel has no image {id:?}"));
        }
        let shown = position.parse().ok().filter(|&position: &usize| (1..=order.len()).contains(&position));
        let Some(position) = shown else {
            return fail(format!("the position is {position:?}; it must lie between 1 and {}", order.len()));
        };
        if order[position - 1] != id {
            return fail(format!("position {position} shows {} and not {id}", order[position - 1]));
        }
        let Some(level) = answer.parse().ok().filter(|level| (1..=LEVELS).contains(level)) else {
            return fail(format!("the answer is {answer:?}; it must lie between 1 and {LEVELS}"));
        };
        // Spreadsheets of some languages write a decimal comma.
        let time = seconds.replace(',', ".").parse().ok().filter(|&time: &f64| time.is_finite() && time >= 0.0);
        let Some(time) = time else {
            return fail(format!("the time is {seconds:?}; it must be a number of seconds"));
        };
        if let Some(before) = lines.insert(position, row.line) {
            return fail(format!("position {position} is answered a second time, first in line {before}"));
        }
        answers.given.insert(position, (level, time));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{KeyImage, Source};

    fn key() -> Key {
        let image = |id: &str, source, positions: &[usize]| KeyImage {
            id: id.to_owned(),
            source,
            class: String::new(),
            patient: None,
            file: format!("{id}.png"),
            positions: positions.to_vec(),
        };
        Key {
            panel: "p1".to_owned(),
            images: vec![image("i1", Source::Real, &[2]), image("i2", Source::Synthetic, &[1, 3])],
        }
    }

    fn read(text: &str) -> Result<Answers> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_answers(file.path(), &key())
    }

    const WHOLE: &str =
        "panel,rater,id,position,answer,seconds\np1,AB,i2,1,6,2.5\np1,AB,i1,2,1,3.0\np1,AB,i2,3,4,1.0\n";

    #[test]
    fn answers_are_read_as_pages_and_spreadsheets_write_them() {
        let whole = read(WHOLE).unwrap();
        assert_eq!(whole.rater, "AB");
        assert_eq!(whole.given, BTreeMap::from([(1, (6, 2.5)), (2, (1, 3.0)), (3, (4, 1.0))]));
        let of_a_spreadsheet = format!("\u{feff}{}", WHOLE.replace(',', ";").replace('.', ",").replace('\n', "\r\n"));
        assert_eq!(read(&of_a_spreadsheet).unwrap(), whole);
        // Some answers are answers.
        assert_eq!(read(&WHOLE[..WHOLE.find("p1,AB,i1").unwrap()]).unwrap().given.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let cases = [
            (WHOLE.replace("position", "place"), "line 1: there is no column position"),
            (WHOLE.replace("p1,AB,i1", "p2,AB,i1"), "line 3: it answers the panel \"p2\", and the key is of \"p1\""),
            (WHOLE.replace("AB,i1", ",i1"), "line 3: the rater's initials are missing"),
            (WHOLE.replace("AB,i1", "CD,i1"), "line 3: the rater is \"CD\", and \"AB\" before"),
            (WHOLE.replace("i1", "i9"), "line 3: the panel has no image \"i9\""),
            (WHOLE.replace("i1,2", "i1,4"), "line 3: the position is \"4\"; it must lie between 1 and 3"),
            (WHOLE.replace("i1,2", "i1,1"), "line 3: position 1 shows i2 and not i1"),
            (WHOLE.replace("2,1,3.0", "2,7,3.0"), "line 3: the answer is \"7\"; it must lie between 1 and 6"),
            (WHOLE.replace("2,1,3.0", "2,,3.0"), "line 3: the answer is \"\""),
            (WHOLE.replace("3.0", "-3"), "line 3: the time is \"-3\""),
            (format!("{WHOLE}p1,AB,i1,2,1,3.0\n"), "line 5: position 2 is answered a second time, first in line 3"),
            (WHOLE.replace("2,1,3.0", "2,1"), "line 3: it has 5 columns, and the first line 6"),
            (WHOLE[..WHOLE.find('\n').unwrap()].to_owned(), "nothing in it below the names of the columns"),
            (String::new(), "line 1: there is no column panel"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n{expected}");
        }
    }
}
