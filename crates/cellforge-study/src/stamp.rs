//! Stamps: what a finished stage was made from and what it made.
//!
//! A stage whose stamp names the same inputs, and whose outputs still have the stamped hashes, is not run again; if they have
//! not, its folder is emptied and it is. A stage that was begun with the same inputs but has no stamp goes on from its last
//! checkpoint. What was made from other inputs is replaced only on request, and what has no record not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use cellforge_assess::files::{hash_file, hash_texts, json, make_folders, read_json};

use cellforge_train::RunDir;

use crate::Result;

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
    /// Older records do not name it.
    #[serde(default)]
    stage: String,
    inputs: String,
    #[serde(flatten)]
    effort: Effort,
}

/// What is to be done about a stage.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing: its outputs are whole and its inputs unchanged.
    Skip(Stamp),
    /// Go on where it stopped, after what it has cost already.
    Resume(Effort),
    /// Run it again: its inputs are unchanged, but its outputs are damaged, and nothing in its folder is to be trusted.
    Mend,
    /// It was finished or begun from other inputs, or by an older program, on these devices.
    Other(BTreeSet<String>),
    /// Run it for the first time: there is no record of it.
    New,
}

impl Stamp {
    /// Identifies what the stage made, for the stamps of the stages that use it. Durations do not count, nor do TensorBoard's
    /// files, which hold the time of day.
    pub(crate) fn id(&self) -> String {
        let lasting = self.outputs.iter().filter(|o| !RunDir::holds_times(Path::new(&o.path)));
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

/// Whether a folder is that of a study, finished or not, by the record of its first stage.
#[must_use]
pub fn is_study(out: &Path) -> bool {
    let is_record = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let (stamp, begun) = (stamp_path(out, "data"), begun_path(out, "data"));
    is_record(&stamp) && read_json::<Stamp>(&stamp).is_ok() || is_record(&begun) && read_json::<Begun>(&begun).is_ok()
}

fn stamp_path(out: &Path, stage: &str) -> PathBuf {
    RunDir::new(out).stamps().join(record(stage))
}

fn begun_path(out: &Path, stage: &str) -> PathBuf {
    RunDir::new(out).stamps_begun().join(record(stage))
}

/// The name of the file of a stage's record.
fn record(stage: &str) -> String {
    format!("{}.json", stage.replace('/', "-"))
}

/// Decides about a stage from the files in `out`. Records that cannot be read are those of other inputs.
pub(crate) fn decide(out: &Path, stage: &str, inputs: &str) -> Decision {
    let (finished, begun) = (stamp_path(out, stage), begun_path(out, stage));
    let mut devices = BTreeSet::new();
    if let Ok(stamp) = read_json::<Stamp>(&finished) {
        if stamp.format == FORMAT && stamp.inputs == inputs {
            return if stamp.whole(out) { Decision::Skip(stamp) } else { Decision::Mend };
        }
        devices = stamp.effort.devices;
    }
    // Even beside a stamp of other inputs, whose outputs were gone before the stage was begun again.
    if let Ok(begun) = read_json::<Begun>(&begun) {
        if begun.format == FORMAT && begun.inputs == inputs {
            return Decision::Resume(begun.effort);
        }
        devices.extend(begun.effort.devices);
    }
    if finished.exists() || begun.exists() { Decision::Other(devices) } else { Decision::New }
}

/// Notes that a stage is under way, and what earlier attempts have cost. What they made from other inputs must be gone. If
/// `out` was removed, it is not made again.
pub(crate) fn begin(out: &Path, stage: &str, inputs: &str, effort: &Effort) -> Result<()> {
    make_folders(out, RunDir::new("").stamps_begun())?;
    let begun = Begun { format: FORMAT, stage: stage.to_owned(), inputs: inputs.to_owned(), effort: effort.clone() };
    write(&begun_path(out, stage), &begun)?;
    // Only now: a stage whose folder is not empty always has a record.
    remove(&stamp_path(out, stage))
}

/// Stamps a finished stage, which was begun, with the files it made (paths below `out`).
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
    write(&stamp_path(out, stage), &stamp)?;
    remove(&begun_path(out, stage))?;
    Ok(stamp)
}

/// The stages `group/...`, at any depth, that were finished or begun in `out`, and on which devices.
pub(crate) fn known(out: &Path, group: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    #[derive(Deserialize)]
    struct Record {
        stage: String,
        #[serde(flatten)]
        effort: Effort,
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let dir = RunDir::new(out);
    for folder in [dir.stamps(), dir.stamps_begun()] {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(cellforge_assess::Error::io("read the folder", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(cellforge_assess::Error::io("read the folder", &folder))?.path();
            let Ok(Record { stage, effort }) = read_json(&path) else { continue };
            // A name that leads out of the group's folder is none that a study gave.
            let name = stage.strip_prefix(group).and_then(|rest| rest.strip_prefix('/')).unwrap_or("");
            if name.split('/').all(|part| Path::new(part).components().eq([Component::Normal(OsStr::new(part))])) {
                found.entry(stage).or_default().extend(effort.devices);
            }
        }
    }
    Ok(found)
}

/// Removes the records of a stage.
pub(crate) fn forget(out: &Path, stage: &str) -> Result<()> {
    remove(&stamp_path(out, stage))?;
    remove(&begun_path(out, stage))
}

/// Writes a record into a folder that is there.
fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    Ok(cellforge_data::write_atomic(path, json(path, record)?.as_bytes())?)
}

fn remove(record: &Path) -> Result<()> {
    if record.exists() {
        std::fs::remove_file(record).map_err(cellforge_assess::Error::io("remove", record))?;
    }
    Ok(())
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
        assert!(matches!(decide(out, "gan/a", "in"), Decision::New));
        begin(out, "gan/a", "in", &effort(2.5)).unwrap();
        assert!(matches!(decide(out, "gan/a", "in"), Decision::Resume(e) if e == effort(2.5)));
        assert!(matches!(decide(out, "gan/a", "other"), Decision::Other(devices) if devices == effort(0.0).devices));
        std::fs::write(&file, "one").unwrap();
        let stamp = finish(out, "gan/a", "in", vec![file.clone()], effort(4.0)).unwrap();
        assert!(matches!(decide(out, "gan/a", "in"), Decision::Skip(s) if s == stamp));
        assert!(matches!(decide(out, "gan/a", "other"), Decision::Other(devices) if devices == effort(0.0).devices));
        std::fs::write(&file, "two").unwrap();
        assert!(matches!(decide(out, "gan/a", "in"), Decision::Mend));

        // Killed between the two halves of `begin`: the stamp of what is gone is still there.
        let old = std::fs::read(stamp_path(out, "gan/a")).unwrap();
        begin(out, "gan/a", "other", &effort(1.0)).unwrap();
        std::fs::write(stamp_path(out, "gan/a"), old).unwrap();
        assert!(matches!(decide(out, "gan/a", "other"), Decision::Resume(e) if e == effort(1.0)));
        // A stamp that cannot be read may be that of a newer program.
        forget(out, "gan/a").unwrap();
        std::fs::write(stamp_path(out, "gan/a"), "{").unwrap();
        assert!(matches!(decide(out, "gan/a", "in"), Decision::Other(devices) if devices.is_empty()));
        forget(out, "gan/a").unwrap();
        assert!(matches!(decide(out, "gan/a", "in"), Decision::New));
    }

    #[test]
    fn the_stages_of_a_group_are_known_by_their_records() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        assert!(known(out, "gan").unwrap().is_empty());
        for stage in ["gan/a", "gan/b-c", "gan/d/c", "cnn", "gan/../up", "gan/..", "gan/a/../b", "gan//b"] {
            begin(out, stage, "in", &effort(1.0)).unwrap();
        }
        finish(out, "gan/a", "in", Vec::new(), effort(1.0)).unwrap();
        let found = known(out, "gan").unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["gan/a", "gan/b-c", "gan/d/c"]);
        assert_eq!(found["gan/a"], effort(0.0).devices);
    }

    #[test]
    fn the_identity_ignores_time_and_sees_contents() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made.txt");
        begin(dir.path(), "s", "in", &effort(0.0)).unwrap();
        std::fs::write(&file, "one").unwrap();
        let a = finish(dir.path(), "s", "in", vec![file.clone()], effort(1.0)).unwrap();
        let b = finish(dir.path(), "s", "in", vec![file.clone()], effort(9.0)).unwrap();
        std::fs::write(&file, "two").unwrap();
        let c = finish(dir.path(), "s", "in", vec![file], effort(1.0)).unwrap();
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), c.id());
    }
}
