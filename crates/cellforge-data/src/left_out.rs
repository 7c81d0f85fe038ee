//! What of a source is no image of it, counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The reason of what nobody means by its name, such as `.DS_Store`.
pub(crate) const HIDDEN: &str = "hidden";

/// Files that were left out for one reason, with one ending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The ending that their names have, with its dot and in lower case; empty where they have none.
    pub ending: String,
    /// Why they were left out.
    pub reason: String,
    /// How many there are.
    pub files: usize,
    /// One of them: its path inside the source.
    pub example: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ending = if self.ending.is_empty() { "without an ending" } else { &self.ending };
        write!(f, "{} {ending}: {}", self.files, self.reason)
    }
}

/// Counts what is left out.
#[derive(Debug, Default)]
pub(crate) struct Counted(BTreeMap<(String, String), (usize, String)>);

impl Counted {
    pub(crate) fn add(&mut self, name: &str, reason: &str) {
        let (count, _) = self.0.entry((reason.to_owned(), ending(name))).or_insert_with(|| (0, name.to_owned()));
        *count += 1;
    }

    /// Hidden files, of which only the number is known.
    pub(crate) fn hidden(&mut self, files: usize) {
        if files > 0 {
            self.0.insert((HIDDEN.to_owned(), String::new()), (files, String::new()));
        }
    }

    /// By reason and ending.
    pub(crate) fn list(self) -> Vec<LeftOut> {
        let of = |((reason, ending), (files, example))| LeftOut { ending, reason, files, example };
        self.0.into_iter().map(of).collect()
    }
}

/// The ending of a name, in lower case with its dot.
fn ending(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let packed = name.strip_suffix(".gz");
    match packed.unwrap_or(&name).rsplit_once('.') {
        // What is longer is no ending but a name with a dot in it.
        Some((stem, end)) if !stem.is_empty() && !end.is_empty() && end.chars().count() <= 8 => {
            format!(".{end}{}", if packed.is_some() { ".gz" } else { "" })
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_by_ending() {
        let mut counted = Counted::default();
        for name in ["a/x.JP2", "a/y.jp2", "b/Thumbs.db", "b/README", "b/v.mgh.gz"] {
            counted.add(name, "not read");
        }
        counted.hidden(2);
        let found: Vec<(String, usize)> = counted.list().into_iter().map(|l| (l.ending, l.files)).collect();
        assert_eq!(found, [("", 2), ("", 1), (".db", 1), (".jp2", 2), (".mgh.gz", 1)].map(|(e, n)| (e.to_owned(), n)));
    }
}
