//! Runs stages: skips what is done, goes on with what was begun, and keeps the time.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use candle_core::Device;
use cellforge_kernels::Precision;
use cellforge_train::{Claim, claim};
use serde::Serialize;

use crate::{
    Error, Result,
    files::hash_texts,
    stamp::{self, Effort, Plan, Stamp},
};

/// Rises with any change of what a stage makes of the same inputs, so that results of an older program are not taken for
/// finished.
const VERSION: u32 = 3;

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

/// What a stage makes.
#[derive(Clone, Copy)]
pub(crate) enum Makes<'a> {
    /// Everything in a folder inside the study's, which is emptied before the stage unless that is resumed.
    Folder(&'a str),
    /// These files.
    Files(&'a [PathBuf]),
}

pub(crate) struct Runner<'a> {
    pub(crate) control: &'a Control,
    /// Name and seconds of each stage, in the order in which they ran.
    pub(crate) durations: Vec<(String, f64)>,
    /// What the stages were computed on.
    pub(crate) devices: BTreeSet<String>,
    /// Seconds of work done ahead of the next stage that count as its own.
    pub(crate) carry: f64,
    /// Held for as long as the runner lives.
    _claim: Claim,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(control: &'a Control) -> Result<Self> {
        let claim = claim(&control.out)?;
        Ok(Self { control, durations: Vec::new(), devices: BTreeSet::new(), carry: 0.0, _claim: claim })
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.control.out.join(inside)
    }

    /// Runs one stage, unless its stamp says that it need not run. `work` is told whether to resume.
    pub(crate) fn stage<I: Serialize>(
        &mut self,
        name: &str,
        inputs: &I,
        upstream: &[&Stamp],
        makes: Makes<'_>,
        work: impl FnOnce(bool) -> Result<()>,
    ) -> Result<Stamp> {
        let out = self.control.out.as_path();
        let settings = serde_json::to_string(inputs).map_err(Error::json(out))?;
        let ids: Vec<String> = upstream.iter().map(|stamp| stamp.id()).collect();
        let version = VERSION.to_string();
        let own = [env!("CARGO_PKG_VERSION"), version.as_str(), name, settings.as_str()];
        // Results of one precision are not those of another.
        let precision = Some(Precision::current().name()).filter(|_| Precision::current() != Precision::F32);
        let inputs = hash_texts(own.into_iter().chain(precision).chain(ids.iter().map(String::as_str)));
        let carried = std::mem::take(&mut self.carry);
        let (resume, mut effort) = match stamp::plan(out, name, &inputs) {
            Plan::Skip(stamp) => {
                tracing::info!("{name}: done before ({})", show_seconds(stamp.effort.seconds));
                self.note(name, &stamp.effort);
                return Ok(stamp);
            }
            Plan::Resume(effort) => (true, effort),
            Plan::Fresh => (false, Effort::default()),
        };
        if self.control.stopped() {
            return Err(self.control.interrupted(name));
        }
        if let Makes::Folder(inside) = makes {
            let folder = self.path(inside);
            if !resume && folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(Error::io("empty the folder", &folder))?;
            }
            std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        }
        effort.devices.insert(device_name(&self.control.device));
        stamp::begin(out, name, &inputs, &effort)?;
        tracing::info!("{name}: {}", if resume { "going on where it stopped" } else { "running" });
        let clock = Instant::now();
        let done = work(resume);
        effort.seconds += carried + clock.elapsed().as_secs_f64();
        match done {
            Ok(()) => {
                let files = match makes {
                    Makes::Folder(inside) => files_under(&self.path(inside))?,
                    Makes::Files(files) => files.to_vec(),
                };
                tracing::info!("{name}: done in {}", show_seconds(effort.seconds));
                self.note(name, &effort);
                stamp::finish(out, name, &inputs, files, effort)
            }
            Err(error) => {
                stamp::begin(out, name, &inputs, &effort)?;
                Err(error)
            }
        }
    }

    fn note(&mut self, name: &str, effort: &Effort) {
        self.durations.push((name.to_owned(), effort.seconds));
        self.devices.extend(effort.devices.iter().cloned());
    }
}

/// Every file in a folder and below, but for the locks of running programs.
fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        let kind = entry.file_type().map_err(Error::io("look at", &entry.path()))?;
        if kind.is_dir() {
            files.extend(files_under(&entry.path())?);
        } else if entry.file_name() != ".lock" {
            files.push(entry.path());
        }
    }
    Ok(files)
}

pub(crate) fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => match Precision::current() {
            Precision::F32 => "cpu".to_owned(),
            lower => format!("cpu ({})", lower.name()),
        },
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id} ({})", Precision::current().name()),
        candle_core::DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}

fn show_seconds(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs three stages, of which the second builds on the first, and returns those that ran.
    fn study(out: &Path, settings: [u32; 3]) -> Vec<&'static str> {
        let control = Control { out: out.to_path_buf(), device: Device::Cpu, stop: Arc::default(), progress: false };
        let mut runner = Runner::new(&control).unwrap();
        let mut ran = Vec::new();
        let mut upstream: Option<Stamp> = None;
        for (name, setting) in ["first", "second", "aside"].into_iter().zip(settings) {
            let needs: Vec<&Stamp> = upstream.iter().filter(|_| name == "second").collect();
            let file = out.join(name).join("made.txt");
            let stamp = runner.stage(name, &setting, &needs, Makes::Folder(name), |_| {
                ran.push(name);
                std::fs::write(&file, setting.to_string()).map_err(Error::io("write", &file))
            });
            upstream.get_or_insert(stamp.unwrap());
        }
        assert_eq!(runner.devices, BTreeSet::from(["cpu".to_owned()]));
        ran
    }

    #[test]
    fn a_change_reruns_its_stage_and_what_builds_on_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(study(dir.path(), [1, 1, 1]), ["first", "second", "aside"]);
        assert!(study(dir.path(), [1, 1, 1]).is_empty());
        assert_eq!(study(dir.path(), [1, 2, 1]), ["second"]);
        assert_eq!(study(dir.path(), [1, 2, 3]), ["aside"]);
        assert_eq!(study(dir.path(), [4, 2, 3]), ["first", "second"]);
        // A file that no stage reads is an output too.
        std::fs::remove_file(dir.path().join("aside/made.txt")).unwrap();
        assert_eq!(study(dir.path(), [4, 2, 3]), ["aside"]);
    }
}
