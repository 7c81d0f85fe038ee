//! What a training has come to, read from the files that it leaves while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cellforge_data::{MAX_TEXT_BYTES, read_bounded};
use serde_json::Value;

use crate::checkpoint::read_state;
use crate::{Best, Error, LogEvent, LogLine, Result, RunDir, Slot, State, losses, read_log};

/// How deep runs are looked for below a folder: those of a study lie up to four folders deep.
const MAX_DEPTH: usize = 6;

/// The course of one training, finished or not.
#[derive(Debug, Clone)]
pub struct History {
    /// Its folder.
    pub dir: PathBuf,
    /// `gan` or `classifier`; as its log has it where there is no checkpoint yet.
    pub kind: String,
    /// Its settings: those of its last checkpoint. None before the first.
    pub config: Option<Value>,
    /// Names of the classes, of the last checkpoint.
    pub classes: Vec<String>,
    /// The best moment so far, by what the training goes by.
    pub best: Option<Best>,
    /// The lines of its log.
    pub lines: Vec<LogLine>,
    /// When the log was last written to.
    pub written: Option<SystemTime>,
    /// Sample grids with their iterations, in order.
    pub grids: Vec<(u64, PathBuf)>,
}

impl History {
    /// Reads the course of the training in a folder; `None` where none has begun. Nothing is locked: a training may go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`] if the log or the folder of grids cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let run = RunDir::new(dir);
        let log = run.log();
        let Ok(meta) = fs::metadata(&log) else { return Ok(None) };
        let lines = read_log(&log)?;
        let state = last_state(&run);
        let by_log = if lines.iter().any(|line| line.values.contains_key(losses::G)) { "gan" } else { "classifier" };
        Ok(Some(Self {
            dir: dir.to_path_buf(),
            kind: state.as_ref().map_or(by_log, |state| &state.kind).to_owned(),
            classes: state.as_ref().map(|state| state.classes.clone()).unwrap_or_default(),
            best: state.as_ref().and_then(|state| state.best),
            config: state.map(|state| state.config).or_else(|| saved_settings(&run, by_log)),
            lines,
            written: meta.modified().ok(),
            grids: grids(&run)?,
        }))
    }

    /// Every training in a folder and below it, in the order of their folders.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn all_below(dir: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        look(dir, MAX_DEPTH, &mut found)?;
        Ok(found)
    }

    /// How far the training is: iterations of a GAN, epochs of a classifier.
    #[must_use]
    pub fn done(&self) -> u64 {
        let last = self.lines.last();
        last.map_or(0, |line| if self.is_gan() { line.iteration } else { line.epoch })
    }

    /// How far it is to go, in the same unit; `None` where its settings are not known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.config.as_ref()?.get(if self.is_gan() { "iterations" } else { "epochs" })?.as_u64()
    }

    /// Whether it has done all that its settings ask for.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.total().is_some_and(|total| self.done() >= total)
    }

    /// Whether it is of a GAN.
    #[must_use]
    pub fn is_gan(&self) -> bool {
        self.kind == "gan"
    }

    /// The values of each name by iteration: those of single steps, or those of whole epochs, by epoch.
    #[must_use]
    pub fn curves(&self, event: LogEvent) -> BTreeMap<String, Vec<(u64, f64)>> {
        let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.event == event) {
            let at = if event == LogEvent::Epoch { line.epoch } else { line.iteration };
            for (name, value) in &line.values {
                curves.entry(name.clone()).or_default().push((at, f64::from(*value)));
            }
        }
        curves
    }

    /// The last value of each name.
    #[must_use]
    pub fn last_values(&self) -> BTreeMap<&str, f32> {
        let steps = self.lines.iter().filter(|line| line.event != LogEvent::Rollback);
        steps.flat_map(|line| &line.values).map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

/// The state of the last checkpoint, where there is one that is whole. It may just be in the middle of being replaced.
fn last_state(run: &RunDir) -> Option<State<Value>> {
    let last = run.slot(Slot::Last);
    ["gan", "classifier"].into_iter().find_map(|kind| read_state(&last, kind).ok())
}

/// The settings that the program saved when the training began, of the table of its kind.
fn saved_settings(run: &RunDir, kind: &str) -> Option<Value> {
    let text = read_bounded(&run.settings(), MAX_TEXT_BYTES).ok()?;
    let table: toml::Table = String::from_utf8(text).ok()?.parse().ok()?;
    serde_json::to_value(table.get(kind)?).ok()
}

/// The grids of a run, in the order of their iterations.
fn grids(run: &RunDir) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run.grids();
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(found) };
    for entry in entries {
        let path = entry.map_err(Error::io(&folder))?.path();
        let digits: String =
            path.file_stem().unwrap_or_default().to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        // What is called otherwise was drawn by somebody else.
        if let Ok(iteration) = digits.parse()
            && run.grid(iteration) == path
        {
            found.push((iteration, path));
        }
    }
    found.sort();
    Ok(found)
}

fn look(dir: &Path, depth: usize, found: &mut Vec<History>) -> Result<()> {
    found.extend(History::read(dir)?);
    if depth == 0 {
        return Ok(());
    }
    // What cannot be looked into has no training that could be shown.
    let inside = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
    folders.sort();
    folders.iter().try_for_each(|folder| look(folder, depth - 1, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_is_read_while_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path().join("study/gan/a"));
        assert!(History::read(run.path()).unwrap().is_none());
        fs::create_dir_all(run.grids()).unwrap();
        let lines = "{\"event\":\"step\",\"iteration\":1,\"epoch\":0,\"g\":2.5}\n\
                     {\"event\":\"rollback\",\"iteration\":1,\"epoch\":0,\"from\":9.0}\n\
                     {\"event\":\"step\",\"iteration\":20,\"epoch\":0,\"g\":1.5,\"fd\":0.25}\n{\"event\":\"st";
        fs::write(run.log(), lines).unwrap();
        for name in ["grid-00000001.png", "grid-00000020.png", "grid-7.png", "mine.png"] {
            fs::write(run.grids().join(name), "").unwrap();
        }
        // No checkpoint yet: what the program saved says how far it is to go.
        fs::write(run.settings(), "seed = 1\n[gan]\niterations = 40\n").unwrap();
        let found = History::all_below(dir.path()).unwrap();
        let [found] = &found[..] else { panic!("{found:?}") };
        assert!(found.is_gan() && !found.is_finished());
        assert_eq!((found.done(), found.total()), (20, Some(40)));
        assert_eq!(found.grids.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 20]);
        assert_eq!(found.curves(LogEvent::Step)["g"], [(1, 2.5), (20, 1.5)]);
        assert_eq!(found.last_values(), BTreeMap::from([("g", 1.5), ("fd", 0.25)]));

        fs::write(run.log(), "{\"event\":\"epoch\",\"iteration\":30,\"epoch\":2,\"loss\":0.5}\n").unwrap();
        fs::write(run.settings(), "[classifier]\nepochs = 2\n").unwrap();
        let found = History::read(run.path()).unwrap().unwrap();
        assert!(!found.is_gan() && found.is_finished());
        assert_eq!(found.curves(LogEvent::Epoch)["loss"], [(2, 0.5)]);
    }
}
