//! Runs stages: skips what is done, goes on with what was begun, and keeps the time.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use candle_core::Device;
use serde::Serialize;

use crate::{
    Error, Result,
    files::hash_texts,
    stamp::{self, Plan, Stamp},
};

/// What a study needs beside its settings: where to put results, what to compute on, and when to stop.
#[derive(Clone, Debug)]
pub struct Control {
    /// The folder of the study. If it holds an earlier run, that is continued or brought up to date.
    pub out: PathBuf,
    /// What to compute on.
    pub device: Device,
    /// Once true, the study stops at the next safe point with [`Error::Interrupted`].
    pub stop: Arc<AtomicBool>,
    /// Whether to draw progress bars.
    pub progress: bool,
}

impl Control {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) fn interrupted(&self, stage: &str) -> Error {
        Error::Interrupted { stage: stage.to_owned(), out: self.out.clone() }
    }

    /// How a network of the study is trained.
    pub(crate) fn training(&self, resume: bool) -> cellforge_train::Control {
        cellforge_train::Control {
            resume,
            overwrite: !resume,
            stop: Arc::clone(&self.stop),
            progress: self.progress,
            device: self.device.clone(),
            records: Vec::new(),
        }
    }
}

pub(crate) struct Runner<'a> {
    pub(crate) control: &'a Control,
    /// Name and seconds of each stage, in the order in which they ran.
    pub(crate) durations: Vec<(String, f64)>,
    /// Seconds of work done ahead of the next stage that count as its own.
    pub(crate) carry: f64,
    /// Held for as long as the runner lives.
    _lock: File,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(control: &'a Control) -> Result<Self> {
        let out = control.out.as_path();
        std::fs::create_dir_all(out).map_err(Error::io("create the folder", out))?;
        let path = out.join(".lock");
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        // The system releases the lock when the process ends, however it ends.
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::Busy(out.to_path_buf()));
        }
        Ok(Self { control, durations: Vec::new(), carry: 0.0, _lock: lock })
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.control.out.join(inside)
    }

    /// Runs one stage, unless its stamp says that it need not run. `work` is told whether to resume, and returns the files it
    /// made; everything it makes lies in `folder`, if one is given, which is emptied unless the stage is resumed.
    pub(crate) fn stage<I: Serialize>(
        &mut self,
        name: &str,
        inputs: &I,
        upstream: &[&Stamp],
        folder: Option<&str>,
        work: impl FnOnce(bool) -> Result<Vec<PathBuf>>,
    ) -> Result<Stamp> {
        let out = self.control.out.as_path();
        let settings = serde_json::to_string(inputs).map_err(Error::json(out))?;
        let ids: Vec<String> = upstream.iter().map(|stamp| stamp.id()).collect();
        let own = [env!("CARGO_PKG_VERSION"), name, settings.as_str()];
        let inputs = hash_texts(own.into_iter().chain(ids.iter().map(String::as_str)));
        let carried = std::mem::take(&mut self.carry);
        let (resume, before) = match stamp::plan(out, name, &inputs) {
            Plan::Skip(stamp) => {
                tracing::info!("{name}: done before ({})", show_seconds(stamp.seconds));
                self.durations.push((name.to_owned(), stamp.seconds));
                return Ok(stamp);
            }
            Plan::Resume(seconds) => (true, seconds),
            Plan::Fresh => (false, 0.0),
        };
        if self.control.stopped() {
            return Err(self.control.interrupted(name));
        }
        if let Some(folder) = folder.map(|inside| self.path(inside)) {
            if !resume && folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(Error::io("empty the folder", &folder))?;
            }
            std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        }
        stamp::begin(out, name, &inputs, before)?;
        tracing::info!("{name}: {}", if resume { "going on where it stopped" } else { "running" });
        let clock = Instant::now();
        let done = work(resume);
        let seconds = before + carried + clock.elapsed().as_secs_f64();
        match done {
            Ok(files) => {
                let stamp = stamp::finish(out, name, &inputs, files, seconds)?;
                tracing::info!("{name}: done in {}", show_seconds(seconds));
                self.durations.push((name.to_owned(), seconds));
                Ok(stamp)
            }
            Err(error) => {
                stamp::begin(out, name, &inputs, seconds)?;
                Err(error)
            }
        }
    }
}

fn show_seconds(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}
