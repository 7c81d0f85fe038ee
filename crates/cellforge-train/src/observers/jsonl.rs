use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cellforge_data::{make_private, private_file};
use serde::{Deserialize, Serialize};

use crate::{Error, Event, Observer, Outcome, Phase, Position, Result, Step};

/// What a line of `log.jsonl` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEvent {
    /// One step's losses and figures.
    Step,
    /// An epoch's mean losses and its figures.
    Epoch,
    /// A return of the [guard](crate::GuardConfig) to an earlier iteration, with what it left (`from`), by what the learning rates are
    /// multiplied from then on (`rate`), and how many times it has returned (`rollbacks`).
    Rollback,
}

/// One line of `log.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// What it is about.
    pub event: LogEvent,
    /// Updates done; after a rollback, the iteration it returned to.
    pub iteration: u64,
    /// Whole epochs done.
    pub epoch: u64,
    /// The figures by name.
    #[serde(flatten)]
    pub values: BTreeMap<String, f32>,
}

/// Reads a log, up to its first line that is none: the last one may have been cut short by a crash.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    let text = fs::read(path).map_err(Error::io(path))?;
    Ok(String::from_utf8_lossy(&text).lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

/// Appends a JSON line for every `every`th step, for the first and the last one, for every step with figures, and for every epoch.
///
/// The file depends on the run alone: it holds no times, and a resumed run first cuts it back to the iteration it
/// resumes from, so that it ends equal to the log of a run that never stopped. A run that went back is cut in the same way, and has a
/// line that says so: the log's iterations never fall, and its steps are those that led to the weights.
#[derive(Debug)]
pub struct JsonlLog {
    path: PathBuf,
    every: u64,
    /// Steps between checkpoints, 0 for none: the log is on the disk before each of them, so that after a power cut no
    /// checkpoint is ahead of it.
    synced_every: u64,
    file: Option<File>,
    rollback: Option<LogLine>,
}

impl JsonlLog {
    /// Logs to `path`, for a run that writes a checkpoint every `checkpoint_every` steps (0 for none) and after each epoch.
    pub fn new(path: impl Into<PathBuf>, every: u64, checkpoint_every: u64) -> Self {
        Self { path: path.into(), every: every.max(1), synced_every: checkpoint_every, file: None, rollback: None }
    }

    /// The last rollback of the run. Its line is written where the run starts from the iteration it returned to and has none yet.
    pub(crate) fn went_back(&mut self, rollback: Option<LogLine>) {
        self.rollback = rollback;
    }

    fn sync(&self) -> Result<()> {
        match &self.file {
            Some(file) => file.sync_all().map_err(Error::io(&self.path)),
            None => Ok(()),
        }
    }

    fn append(&mut self, event: &Event<'_>, kind: LogEvent) -> Result<()> {
        let line = LogLine {
            event: kind,
            iteration: event.position.iteration,
            epoch: event.position.epoch,
            values: event.values().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let text = self.text(&line)?;
        self.put(&text)
    }

    fn text(&self, line: &LogLine) -> Result<String> {
        let text = serde_json::to_string(line).map_err(std::io::Error::from).map_err(Error::io(&self.path))?;
        Ok(format!("{text}\n"))
    }

    fn put(&mut self, line: &str) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // One write for the whole line: a killed process leaves lines that are whole but for the last at most.
        file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }
}

/// Length in bytes of the lines of `text` that belong to the first `iteration` updates.
fn kept_length(text: &[u8], iteration: u64) -> u64 {
    let mut length = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice::<LogLine>(line) {
            Ok(parsed) if parsed.iteration <= iteration && line.ends_with(b"\n") => length += line.len() as u64,
            _ => break,
        }
    }
    length
}

impl<S: Step> Observer<S> for JsonlLog {
    fn phase(&self) -> Phase {
        Phase::Record
    }

    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_start(&mut self, _step: &mut S, start: &Position, _total: u64) -> Result<()> {
        // Not for appending: Windows cuts no file that is opened so.
        let open = private_file().read(true).write(true).create(true).truncate(false).open(&self.path);
        let mut file = open.map_err(Error::io(&self.path))?;
        make_private(&file);
        let text = fs::read(&self.path).map_err(Error::io(&self.path))?;
        let length = if start.iteration == 0 { 0 } else { kept_length(&text, start.iteration) };
        file.set_len(length).map_err(Error::io(&self.path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(&self.path))?;
        self.file = Some(file);
        if let Some(rollback) = self.rollback.clone().filter(|rollback| rollback.iteration == start.iteration) {
            let line = self.text(&rollback)?;
            if !text[..length as usize].split_inclusive(|byte| *byte == b'\n').any(|kept| kept == line.as_bytes()) {
                self.put(&line)?;
                self.sync()?;
            }
        }
        Ok(())
    }

    fn on_step(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        let iteration = event.position.iteration;
        let judged = !event.figures.is_empty();
        if judged || iteration == 1 || iteration.is_multiple_of(self.every) || iteration == event.total {
            self.append(event, LogEvent::Step)?;
        }
        // A step with figures may be the best so far, which a run can go back to.
        if judged || (self.synced_every > 0 && iteration.is_multiple_of(self.synced_every)) {
            return self.sync();
        }
        Ok(())
    }

    fn on_epoch(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.append(event, LogEvent::Epoch)?;
        self.sync()
    }

    fn on_stop(&mut self, _step: &mut S, _outcome: &Outcome) -> Result<()> {
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_and_broken_lines_are_cut() {
        let one = "{\"event\":\"step\",\"iteration\":1,\"epoch\":0,\"loss\":0.5}\n";
        let two = "{\"event\":\"step\",\"iteration\":2,\"epoch\":0,\"loss\":0.4}\n";
        let text = format!("{one}{two}{{\"event\":\"st");
        assert_eq!(kept_length(text.as_bytes(), 5), (one.len() + two.len()) as u64);
        assert_eq!(kept_length(text.as_bytes(), 1), one.len() as u64);
    }
}
