//! Stamps: what a finished stage was made from and what it made.
//!
//! A stage whose stamp names the same inputs, and whose outputs still have the stamped hashes, is not run again. A stage that was
//! begun with the same inputs but has no stamp goes on from its last checkpoint; with other inputs its folder is emptied first.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    files::{hash_file, hash_texts, read_json, write_json},
};

const FORMAT: u32 = 2;

/// The record of a finished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    format: u32,
    stage: String,
    inputs: String,
    outputs: Vec<Output>,
    #[serde(flatten)]
    pub(crate) effort: Effort,
}

/// What a stage cost, over all its attempts but those that were killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Effort {
    /// Time it took.
    pub(crate) seconds: f64,
    /// What it was computed on: `cpu`, `cuda:0`, `metal`.
    pub(crate) devices: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Output {
    /// Path below the study's folder, with `/` between parts.
    path: String,
    bytes: u64,
    sha256: String,
}

/// The record of a stage that was begun and not finished.
#[derive(Serialize, Deserialize)]
struct Begun {
    format: u32,
    inputs: String,
    #[serde(flatten)]
    effort: Effort,
}

/// What is to be done about a stage.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing: its outputs are whole and its inputs unchanged.
    Skip(Stamp),
    /// Go on where it stopped, after what it has cost already.
    Resume(Effort),
    /// Run it from the start.
    Fresh,
}

impl Stamp {
    /// Identifies what the stage made, for the stamps of the stages that use it. Durations do not count, nor do TensorBoard's
    /// files, which hold the time of day.
    pub(crate) fn id(&self) -> String {
        let lasting = self.outputs.iter().filter(|o| !o.path.split('/').any(|part| part == "tensorboard"));
        let outputs = lasting.flat_map(|o| [o.path.as_str(), o.sha256.as_str()]);
        hash_texts([self.inputs.as_str()].into_iter().chain(outputs))
    }

    fn whole(&self, out: &Path) -> bool {
        self.outputs.iter().all(|o| {
            let path = out.join(&o.path);
            std::fs::metadata(&path).is_ok_and(|m| m.len() == o.bytes)
                && hash_file(&path).is_ok_and(|(_, hash)| hash == o.sha256)
        })
    }
}

fn stamp_path(out: &Path, stage: &str) -> PathBuf {
    out.join("stamps").join(format!("{}.json", stage.replace('/', "-")))
}

fn begun_path(out: &Path, stage: &str) -> PathBuf {
    out.join("stamps").join("begun").join(format!("{}.json", stage.replace('/', "-")))
}

/// Decides about a stage from the files in `out`. A damaged stamp counts as none.
pub(crate) fn plan(out: &Path, stage: &str, inputs: &str) -> Plan {
    if let Ok(stamp) = read_json::<Stamp>(&stamp_path(out, stage)) {
        // Finished from the same inputs but damaged since: nothing in its folder is to be trusted.
        let same = stamp.format == FORMAT && stamp.inputs == inputs;
        return if same && stamp.whole(out) { Plan::Skip(stamp) } else { Plan::Fresh };
    }
    match read_json::<Begun>(&begun_path(out, stage)) {
        Ok(begun) if begun.format == FORMAT && begun.inputs == inputs => Plan::Resume(begun.effort),
        _ => Plan::Fresh,
    }
}

/// Notes that a stage is under way, and what earlier attempts have cost.
pub(crate) fn begin(out: &Path, stage: &str, inputs: &str, effort: &Effort) -> Result<()> {
    let old = stamp_path(out, stage);
    if old.exists() {
        std::fs::remove_file(&old).map_err(Error::io("remove", &old))?;
    }
    write_json(&begun_path(out, stage), &Begun { format: FORMAT, inputs: inputs.to_owned(), effort: effort.clone() })
}

/// Stamps a finished stage with the files it made (paths below `out`).
pub(crate) fn finish(out: &Path, stage: &str, inputs: &str, files: Vec<PathBuf>, effort: Effort) -> Result<Stamp> {
    let mut outputs = Vec::with_capacity(files.len());
    for file in files {
        let (bytes, sha256) = hash_file(&file)?;
        let inside = file.strip_prefix(out).unwrap_or(&file);
        let path = inside.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        outputs.push(Output { path, bytes, sha256 });
    }
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    let stamp = Stamp { format: FORMAT, stage: stage.to_owned(), inputs: inputs.to_owned(), outputs, effort };
    write_json(&stamp_path(out, stage), &stamp)?;
    let begun = begun_path(out, stage);
    if begun.exists() {
        std::fs::remove_file(&begun).map_err(Error::io("remove", &begun))?;
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort(seconds: f64) -> Effort {
        Effort { seconds, devices: BTreeSet::from(["cpu".to_owned()]) }
    }

    #[test]
    fn a_stage_is_skipped_resumed_or_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let file = out.join("made.txt");
        assert!(matches!(plan(out, "gan/a", "in"), Plan::Fresh));
        begin(out, "gan/a", "in", &effort(2.5)).unwrap();
        assert!(matches!(plan(out, "gan/a", "in"), Plan::Resume(e) if e == effort(2.5)));
        assert!(matches!(plan(out, "gan/a", "other"), Plan::Fresh));
        std::fs::write(&file, "one").unwrap();
        let stamp = finish(out, "gan/a", "in", vec![file.clone()], effort(4.0)).unwrap();
        assert!(matches!(plan(out, "gan/a", "in"), Plan::Skip(s) if s == stamp));
        assert!(matches!(plan(out, "gan/a", "other"), Plan::Fresh));
        std::fs::write(&file, "two").unwrap();
        assert!(matches!(plan(out, "gan/a", "in"), Plan::Fresh));
    }

    #[test]
    fn the_identity_ignores_time_and_sees_contents() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made.txt");
        std::fs::write(&file, "one").unwrap();
        let a = finish(dir.path(), "s", "in", vec![file.clone()], effort(1.0)).unwrap();
        let b = finish(dir.path(), "s", "in", vec![file.clone()], effort(9.0)).unwrap();
        std::fs::write(&file, "two").unwrap();
        let c = finish(dir.path(), "s", "in", vec![file], effort(1.0)).unwrap();
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), c.id());
    }
}
