//! The folder of a run: the one place that knows what its files are called ([`names`]), what may be replaced, and who holds it.

mod names;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Device;
use cellforge_data::{make_private_folder, private_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::{self, Checkpoint, State};
use crate::{Error, Position, Result, Snapshot, Step};

pub use names::Stage;

/// Which of a run's checkpoints is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `last/`: the one a run is resumed from.
    Last,
    /// `best/`: the one with the best figure so far, where the run has a figure to compare moments by.
    Best,
}

impl Slot {
    /// Both.
    const ALL: [Self; 2] = [Self::Last, Self::Best];
}

/// What a new run does about a run that its folder holds already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Starts only where there is no run yet: [`Error::Occupied`] otherwise.
    #[default]
    New,
    /// Goes on from the checkpoint `last`; where there is none, it starts. A `best` that is damaged or gone is done without.
    Resume,
    /// Removes the run that is there, and starts.
    Overwrite,
}

/// The folder of a run, and how a run is to be opened in it. It is a description: nothing is made on disk before [`RunDir::lock`] or
/// [`RunDir::open`].
///
/// ```
/// use std::path::Path;
/// use cellforge_train::{Mode, RunDir};
///
/// let dir = RunDir::new("runs/gan").mode(Mode::Resume);
/// assert_eq!(dir.log(), Path::new("runs/gan/log.jsonl"));
/// assert!(!dir.holds_run());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
    mode: Mode,
    /// A file to write once the run has its folder, and its text.
    settings: Option<(PathBuf, String)>,
}

impl RunDir {
    /// The folder `path`, for a new run.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: Mode::New, settings: None }
    }

    /// The same folder, with what to do about a run that it holds already.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same folder, with a text for [`RunDir::settings`]. It is written when the run has its folder: a run that is refused must not
    /// replace the settings of the one that holds the folder.
    #[must_use]
    pub fn save_settings(self, text: impl Into<String>) -> Self {
        Self { settings: Some((self.settings(), text.into())), ..self }
    }

    /// As [`RunDir::save_settings`], for one of several runs in the folder `whole` that share its settings.
    #[must_use]
    pub fn save_settings_in(self, whole: &RunDir, text: impl Into<String>) -> Self {
        Self { settings: Some((whole.settings(), text.into())), ..self }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is anything of a checkpoint, whole or not.
    #[must_use]
    pub fn holds_run(&self) -> bool {
        Slot::ALL.iter().any(|slot| Checkpoint::exists(&self.slot(*slot)))
    }

    /// Whether there is something to go on from, and the run is to go on.
    pub(crate) fn resumes(&self) -> bool {
        self.mode == Mode::Resume && Checkpoint::exists(&self.slot(Slot::Last))
    }

    /// The whole checkpoint in a slot; `None` if there is none. Changes nothing on disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is something but nothing whole.
    pub fn checkpoint(&self, slot: Slot) -> Result<Option<Checkpoint>> {
        Checkpoint::locate(&self.slot(slot))
    }

    /// Makes the folder, if need be, keeps other processes out of it for as long as the lock lives, and removes what a process that died
    /// there was in the middle of writing.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process holds it; [`Error::Io`] if the folder cannot be made.
    pub fn lock(&self) -> Result<RunLock> {
        let out = &self.path;
        make_private_folder(out).map_err(Error::io(out))?;
        let path = self.held_by();
        let mut options = private_file();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io(&path))?;
        self.refuse_if_held(&file)?;
        // Where the file system has no locks, the folder is the user's to keep apart.
        file.set_len(0).and_then(|()| file.write_all(myself().as_bytes())).map_err(Error::io(&path))?;
        cellforge_data::remove_unfinished(out)?;
        Ok(RunLock { file })
    }

    /// Keeps runs out of the folder for as long as the file lives, and changes nothing in it; `None` where there never was a run.
    ///
    /// # Errors
    /// [`Error::Busy`] while a process holds it; [`Error::Io`].
    pub fn hold(&self) -> Result<Option<File>> {
        let path = self.held_by();
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            return Ok(None);
        }
        // Some file systems of networks lock only what is open for writing.
        let file = File::options().read(true).write(true).open(&path).map_err(Error::io(&path))?;
        self.refuse_if_held(&file)?;
        Ok(Some(file))
    }

    /// Locks the file that says who holds the folder. Where the file system has no locks, nothing is refused.
    fn refuse_if_held(&self, file: &File) -> Result<()> {
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            let holder = fs::read_to_string(self.held_by()).ok().map(|text| text.trim().to_owned());
            return Err(Error::Busy { path: self.path.clone(), holder: holder.filter(|text| !text.is_empty()) });
        }
        Ok(())
    }

    /// Locks the folder for a run and makes it ready, as its [`Mode`] says. A run that is resumed has `step` put back to its last
    /// checkpoint; one that starts leaves `step` as it is and has the state `fresh` ([`State::new`]). This is how [`crate::train_gan`]
    /// and [`crate::train_classifier`] begin, and how a program begins that trains a [`Step`] of its own.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process holds the folder; [`Error::Occupied`] if it holds a run and the mode is [`Mode::New`];
    /// [`Error::Mismatch`] if the run to resume has another configuration, other classes, images or judge than `fresh`;
    /// [`Error::Damaged`] or [`Error::Unsuitable`] if its checkpoint cannot be used.
    pub fn open<S: Step, C>(&self, step: &mut S, fresh: State<C>, device: &Device) -> Result<Run<C>>
    where
        C: Serialize + DeserializeOwned,
    {
        self.open_of_length(step, fresh, device, &|_, _, _| Ok(()))
    }

    /// [`RunDir::open`] of a run that may go on to another length than it was started with. `lengthen` gets the configuration that it was
    /// started with, the one that is asked for and where the run stands; it gives the first the length of the second.
    ///
    /// # Errors
    /// As [`RunDir::open`], and those of `lengthen`, by which nothing has changed.
    pub(crate) fn open_of_length<S: Step, C>(
        &self,
        step: &mut S,
        fresh: State<C>,
        device: &Device,
        lengthen: &Lengthen<'_, C>,
    ) -> Result<Run<C>>
    where
        C: Serialize + DeserializeOwned,
    {
        let lock = self.lock()?;
        cellforge_data::remove_unfinished(&self.grids())?;
        let occupied = self.holds_run();
        let state = match self.resume(step, &fresh, device, lengthen)? {
            Some(saved) => saved,
            None => {
                // A run can die after its first `best` and before its first `last`: resuming it starts it again.
                if occupied && self.mode == Mode::New {
                    return Err(Error::Occupied(self.path.clone()));
                }
                self.clear(occupied)?;
                fresh
            }
        };
        if let Some((path, text)) = &self.settings {
            cellforge_data::write_atomic(path, text.as_bytes())?;
        }
        Ok(Run { dir: self.clone(), state, _lock: lock })
    }

    /// The state of the last checkpoint, which `step` was put back to, if the run is to be resumed and there is one.
    fn resume<S: Step, C>(
        &self,
        step: &mut S,
        fresh: &State<C>,
        device: &Device,
        lengthen: &Lengthen<'_, C>,
    ) -> Result<Option<State<C>>>
    where
        C: Serialize + DeserializeOwned,
    {
        if self.mode != Mode::Resume {
            return Ok(None);
        }
        let Some(last) = Checkpoint::settle(&self.slot(Slot::Last))? else { return Ok(None) };
        let mut saved: State<C> = last.state(&fresh.kind)?;
        lengthen(&mut saved.config, &fresh.config, &saved.position)?;
        check_same(last.path(), &saved, fresh)?;
        if saved.seen.is_none() {
            // The same images, of which earlier versions did not record each.
            saved.seen.clone_from(&fresh.seen);
        }
        step.restore(&last.snapshot(&saved, device)?)?;
        self.settle_best(&mut saved)?;
        tracing::info!("resuming {} after iteration {}", self.path.display(), saved.position.iteration);
        Ok(Some(saved))
    }

    /// Makes `best` whole. Where it is lost, the run goes on without it and finds another.
    fn settle_best<C>(&self, saved: &mut State<C>) -> Result<()> {
        let best = self.slot(Slot::Best);
        let lost = match Checkpoint::settle(&best) {
            Ok(there) if there.is_some() || saved.best.is_none() => return Ok(()),
            Ok(_) => format!("{} is gone", best.display()),
            Err(error @ Error::Damaged { .. }) => error.to_string(),
            Err(error) => return Err(error),
        };
        tracing::warn!("{lost}; the run goes on without it, and the best from here on takes its place");
        Checkpoint::delete(&best)?;
        saved.best = None;
        // The guard goes back to the best one: a collapse is to be seen anew, when there is one again.
        saved.guard.alike = 0;
        Ok(())
    }

    /// Removes what an earlier run left. Of a folder that holds none, only unfinished checkpoints are removed.
    fn clear(&self, occupied: bool) -> Result<()> {
        if occupied {
            // The figures on the test images, too, are those of the run that goes.
            for leftover in [self.log(), self.tensorboard(), self.grids(), self.test_figures(), self.report()] {
                checkpoint::remove(&leftover)?;
            }
        }
        Slot::ALL.iter().try_for_each(|slot| Checkpoint::delete(&self.slot(*slot)))
    }
}

/// Keeps other processes out of a run's folder for as long as it lives. The system releases it when the process ends,
/// however it ends.
#[derive(Debug)]
#[must_use]
pub struct RunLock {
    file: File,
}

impl Drop for RunLock {
    /// The file stays, empty: if it were removed, two processes could each hold a file of that name.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

/// What a process that is refused learns about this one.
fn myself() -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    format!("{program}, process {}\n", std::process::id())
}

/// A run that holds its folder ([`RunDir::open`]).
#[derive(Debug)]
pub struct Run<C> {
    dir: RunDir,
    /// Where the run stands: what its next checkpoint holds beside the tensors.
    pub state: State<C>,
    _lock: RunLock,
}

impl<C> Run<C> {
    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Writes a checkpoint of [`Run::state`] and `snapshot`, so that a crash at any moment leaves this or the one before it whole.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, slot: Slot, snapshot: &Snapshot) -> Result<Checkpoint>
    where
        C: Serialize + Clone,
    {
        Checkpoint::write(&self.dir.slot(slot), snapshot, &self.state)
    }
}

/// See [`RunDir::open_of_length`].
pub(crate) type Lengthen<'a, C> = dyn Fn(&mut C, &C, &Position) -> Result<()> + 'a;

/// Compares what would make a resumed run differ from the one that was started.
fn check_same<C: Serialize>(dir: &Path, saved: &State<C>, given: &State<C>) -> Result<()> {
    let view = |state: &State<C>| -> Result<Value> {
        let reason = |e: serde_json::Error| Error::Damaged { path: dir.to_path_buf(), reason: e.to_string() };
        // Through text, so that both sides hold numbers as they are after reading them back.
        let config = serde_json::to_string(&state.config).map_err(reason)?;
        let config: Value = serde_json::from_str(&config).map_err(reason)?;
        Ok(serde_json::json!({ "config": config, "classes": state.classes, "data": state.data, "judge": state.judge }))
    };
    match difference(&view(saved)?, &view(given)?, "") {
        None => Ok(()),
        Some((field, saved, given)) => {
            let field = field.trim_start_matches("config.").to_owned();
            let field = match field.as_str() {
                "data" => "the choice of training images (data)".to_owned(),
                "judge" => "the fingerprint of the judge and its validation images".to_owned(),
                _ => field,
            };
            Err(Error::Mismatch { field, saved, given, path: dir.to_path_buf() })
        }
    }
}

/// The first place where two values differ: its dotted path and both values.
fn difference(saved: &Value, given: &Value, path: &str) -> Option<(String, String, String)> {
    if let (Value::Object(a), Value::Object(b)) = (saved, given) {
        let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
        return names.into_iter().find_map(|name| {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            difference(a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), &inner)
        });
    }
    (saved != given).then(|| (path.to_owned(), saved.to_string(), given.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::new(folder.path());
        let first = dir.lock().unwrap();
        let refused = dir.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert_eq!(fs::read(dir.held_by()).unwrap(), b"");
        // What a process that was killed has left is in nobody's way.
        fs::write(dir.held_by(), "cellforge, process 1\n").unwrap();
        assert!(dir.lock().is_ok());
    }

    #[test]
    fn the_first_difference_is_named() {
        let saved = serde_json::json!({"lr": 0.1, "model": {"width": 1.0, "side": 64}});
        assert_eq!(difference(&saved, &saved, ""), None);
        let given = serde_json::json!({"lr": 0.1, "model": {"width": 0.5, "side": 64}});
        let expected = ("model.width".to_owned(), "1.0".to_owned(), "0.5".to_owned());
        assert_eq!(difference(&saved, &given, ""), Some(expected));
    }
}
