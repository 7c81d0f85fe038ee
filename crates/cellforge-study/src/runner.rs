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
use cellforge_train::{Mode, RunDir, RunLock, Stage};
use serde::Serialize;

use cellforge_assess::{
    device_name,
    files::{hash_texts, make_folders},
};

use crate::{
    Error, Result, StudyConfig,
    stamp::{self, Decision, Effort, Stamp},
};

/// Rises with any change of what a stage makes of the same inputs, so that results of an older program are not taken for
/// finished.
const VERSION: u32 = 4;

/// What a study needs beside its settings: where to put results, what to compute on, and when to stop.
///
/// ```
/// let mut control = cellforge_study::Control::new("study", candle_core::Device::Cpu);
/// control.progress = true;
/// ```
#[derive(Clone, Debug)]
pub struct Control {
    /// The folder of the study. If it holds an earlier run, that is continued, or brought up to date where `overwrite` allows
    /// it.
    pub out: PathBuf,
    /// What to compute on.
    pub device: Device,
    /// Once true, the study stops at the next safe point with [`Error::Interrupted`].
    pub stop: Arc<AtomicBool>,
    /// Whether to draw progress bars.
    pub progress: bool,
    /// Whether stages of an earlier run with other settings, images or precision, or of another version of this program, may be
    /// replaced where they would change; otherwise they are an error ([`Error::Changed`]). Damaged stages are made again in any
    /// case, and what no study made is never replaced ([`Error::InTheWay`]).
    pub overwrite: bool,
    /// The command line that repeats the study, for its results and reports; empty leaves it out of them.
    pub command: String,
}

impl Control {
    /// A study in the folder `out`, without progress bars, that replaces nothing and that nobody stops.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>, device: Device) -> Self {
        Self {
            out: out.into(),
            device,
            stop: Arc::default(),
            progress: false,
            overwrite: false,
            command: String::new(),
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) fn interrupted(&self, stage: &str) -> Error {
        Error::Interrupted { stage: stage.to_owned(), out: self.out.clone() }
    }

    /// How a network of the study is trained.
    pub(crate) fn training(&self, config: &StudyConfig) -> cellforge_train::Control {
        cellforge_train::Control {
            stop: Arc::clone(&self.stop),
            progress: self.progress,
            device: self.device.clone(),
            precision: config.precision_on(&self.device),
            ranks: cellforge_train::Ranks::alone(),
        }
    }
}

/// The folder of a run of a stage, which goes on where the stage does.
pub(crate) fn run_dir(folder: &Path, resume: bool) -> RunDir {
    RunDir::new(folder).mode(if resume { Mode::Resume } else { Mode::Overwrite })
}

/// What a stage makes.
#[derive(Clone, Copy)]
pub(crate) enum Makes<'a> {
    /// Everything in a folder inside the study's, which is emptied before the stage unless that is resumed.
    Folder(&'a str),
    /// These files. They are made again whenever what they are made from changes.
    Files(&'a [PathBuf]),
}

impl Makes<'_> {
    /// What there is of it: the folder, if anything is in it, or the first of the files.
    fn there(self, out: &Path) -> Option<PathBuf> {
        let is_empty = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        match self {
            Self::Folder(inside) => Some(out.join(inside)).filter(|folder| folder.exists() && !is_empty(folder)),
            Self::Files(files) => files.iter().find(|file| file.exists()).cloned(),
        }
    }
}

pub(crate) struct Runner<'a> {
    pub(crate) control: &'a Control,
    /// What is computed in.
    pub(crate) precision: Precision,
    /// Name and seconds of each stage, in the order in which they ran.
    pub(crate) durations: Vec<(String, f64)>,
    /// What the stages were computed on.
    pub(crate) devices: BTreeSet<String>,
    /// Seconds of work done ahead of the next stage that count as its own.
    pub(crate) carry: f64,
    /// Held for as long as the runner lives.
    _lock: RunLock,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(control: &'a Control, precision: Precision) -> Result<Self> {
        let lock = RunDir::new(&control.out).lock()?;
        Ok(Self { control, precision, durations: Vec::new(), devices: BTreeSet::new(), carry: 0.0, _lock: lock })
    }

    /// The folder of the study.
    pub(crate) fn dir(&self) -> RunDir {
        RunDir::new(&self.control.out)
    }

    /// The folder of a stage.
    pub(crate) fn folder(&self, stage: Stage) -> PathBuf {
        self.dir().stage(stage).path().to_path_buf()
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.control.out.join(inside)
    }

    /// Removes the folders of earlier runs' stages `group/...` that are not to stay, and the records of those stages. Folders without a record
    /// stay.
    pub(crate) fn keep_only(&self, group: &str, stays: impl Fn(&str) -> bool) -> Result<()> {
        let out = self.control.out.as_path();
        for (stage, devices) in stamp::known(out, group)? {
            if stays(&stage) {
                continue;
            }
            let folder = self.path(&stage);
            if folder.exists() {
                if !self.control.overwrite {
                    return Err(self.changed(&stage, folder, &devices));
                }
                tracing::info!("{stage}: removed, for the study has it no more");
                std::fs::remove_dir_all(&folder).map_err(cellforge_assess::Error::io("remove the folder", &folder))?;
                // Folders around it, up to the group's, go with their last stage; where more is in them, they stay.
                let around = folder.ancestors().skip(1).take_while(|around| *around != out);
                around.map(std::fs::remove_dir).take_while(std::result::Result::is_ok).for_each(drop);
            }
            stamp::forget(out, &stage)?;
        }
        Ok(())
    }

    fn changed(&self, stage: &str, path: PathBuf, devices: &BTreeSet<String>) -> Error {
        let made_on = if devices.is_empty() {
            "an unknown device".to_owned()
        } else {
            devices.iter().cloned().collect::<Vec<_>>().join(", ")
        };
        Error::Changed {
            stage: stage.to_owned(),
            path,
            made_on,
            here: device_name(&self.control.device, self.precision),
        }
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
        let settings = serde_json::to_string(inputs).map_err(cellforge_assess::Error::json(out))?;
        let ids: Vec<String> = upstream.iter().map(|stamp| stamp.id()).collect();
        let version = VERSION.to_string();
        let own = [env!("CARGO_PKG_VERSION"), version.as_str(), name, settings.as_str()];
        // Results of one precision are not those of another.
        let precision = Some(self.precision.name()).filter(|_| !self.precision.is_f32());
        let inputs = hash_texts(own.into_iter().chain(precision).chain(ids.iter().map(String::as_str)));
        let carried = std::mem::take(&mut self.carry);
        let there = makes.there(out);
        let folder = match makes {
            Makes::Folder(inside) => Some(inside),
            Makes::Files(_) => None,
        };
        let (resume, mut effort) = match (stamp::decide(out, name, &inputs), &there) {
            (Decision::Skip(stamp), _) => {
                tracing::info!("{name}: done before ({})", show_seconds(stamp.effort.seconds));
                self.note(name, &stamp.effort);
                return Ok(stamp);
            }
            (Decision::Resume(effort), _) => (true, effort),
            (Decision::New, Some(path)) => return Err(Error::InTheWay { stage: name.to_owned(), path: path.clone() }),
            (Decision::Other(devices), Some(path)) if folder.is_some() && !self.control.overwrite => {
                return Err(self.changed(name, path.clone(), &devices));
            }
            (Decision::Mend | Decision::Other(_) | Decision::New, _) => (false, Effort::default()),
        };
        if self.control.stopped() {
            return Err(self.control.interrupted(name));
        }
        if let (Some(_), Some(old), false) = (folder, &there, resume) {
            std::fs::remove_dir_all(old).map_err(cellforge_assess::Error::io("empty the folder", old))?;
        }
        effort.devices.insert(device_name(&self.control.device, self.precision));
        // Before there is anything in the folder, which without a record would not be taken for the study's.
        stamp::begin(out, name, &inputs, &effort)?;
        if let Some(inside) = folder {
            make_folders(out, inside)?;
        }
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
                if out.is_dir() {
                    stamp::begin(out, name, &inputs, &effort)?;
                }
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
    for entry in std::fs::read_dir(folder).map_err(cellforge_assess::Error::io("read the folder", folder))? {
        let entry = entry.map_err(cellforge_assess::Error::io("read the folder", folder))?;
        let kind = entry.file_type().map_err(cellforge_assess::Error::io("look at", &entry.path()))?;
        if kind.is_dir() {
            files.extend(files_under(&entry.path())?);
        } else if !RunDir::is_lock(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn show_seconds(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(out: &Path, overwrite: bool) -> Control {
        Control { overwrite, ..Control::new(out, Device::Cpu) }
    }

    /// Runs three stages, of which the second builds on the first, and returns those that ran.
    fn study(out: &Path, settings: [u32; 3], overwrite: bool) -> Result<Vec<&'static str>> {
        let control = control(out, overwrite);
        let mut runner = Runner::new(&control, Precision::F32)?;
        let mut ran = Vec::new();
        let mut upstream: Option<Stamp> = None;
        for (name, setting) in ["first", "second", "aside"].into_iter().zip(settings) {
            let needs: Vec<&Stamp> = upstream.iter().filter(|_| name == "second").collect();
            let file = out.join(name).join("made.txt");
            let stamp = runner.stage(name, &setting, &needs, Makes::Folder(name), |_| {
                ran.push(name);
                Ok(std::fs::write(&file, setting.to_string()).map_err(cellforge_assess::Error::io("write", &file))?)
            })?;
            upstream.get_or_insert(stamp);
        }
        assert_eq!(runner.devices, BTreeSet::from(["cpu".to_owned()]));
        Ok(ran)
    }

    #[test]
    fn a_change_reruns_its_stage_and_what_builds_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let study = |settings, overwrite| study(dir.path(), settings, overwrite).unwrap();
        assert_eq!(study([1, 1, 1], false), ["first", "second", "aside"]);
        assert!(study([1, 1, 1], false).is_empty());
        assert_eq!(study([1, 2, 1], true), ["second"]);
        assert_eq!(study([1, 2, 3], true), ["aside"]);
        assert_eq!(study([4, 2, 3], true), ["first", "second"]);
        // A file that no stage reads is an output too.
        std::fs::remove_file(dir.path().join("aside/made.txt")).unwrap();
        assert_eq!(study([4, 2, 3], false), ["aside"]);
    }

    #[test]
    fn what_a_study_made_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        study(out, [1, 1, 1], false).unwrap();
        let error = study(out, [1, 2, 1], false).unwrap_err();
        assert!(matches!(&error, Error::Changed { stage, .. } if stage == "second"), "{error}");
        let message = error.to_string();
        assert!(message.contains("made on cpu;") && !message.contains("--"), "{message}");
        assert_eq!(std::fs::read(out.join("second/made.txt")).unwrap(), b"1");
        assert!(study(out, [1, 1, 1], false).unwrap().is_empty());
        // Where nothing is left of it, nothing is lost.
        std::fs::remove_dir_all(out.join("second")).unwrap();
        assert_eq!(study(out, [1, 2, 1], false).unwrap(), ["second"]);
    }

    #[test]
    fn what_no_study_made_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (out, folder) = (dir.path(), dir.path().join("second"));
        let mine = folder.join("mine.txt");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&mine, "mine").unwrap();
        for overwrite in [false, true] {
            let error = study(out, [1, 1, 1], overwrite).unwrap_err();
            assert!(matches!(&error, Error::InTheWay { path, .. } if *path == folder), "{error}");
            assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
        }
        // Nor is anything lost with an empty folder.
        std::fs::remove_file(&mine).unwrap();
        assert_eq!(study(out, [1, 1, 1], false).unwrap(), ["second", "aside"]);
    }

    #[test]
    fn stages_that_others_replace_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let run = |stages: &[&str], overwrite| -> Result<()> {
            let control = control(out, overwrite);
            let mut runner = Runner::new(&control, Precision::F32)?;
            runner.keep_only("gan", |stage| stages.contains(&stage))?;
            for stage in stages {
                let file = out.join(stage).join("made.txt");
                runner.stage(stage, &1, &[], Makes::Folder(stage), |_| {
                    Ok(std::fs::write(&file, "made").map_err(cellforge_assess::Error::io("write", &file))?)
                })?;
            }
            Ok(())
        };
        let there = || ["gan/a", "gan/b", "gan/_all", "gan/mine"].map(|folder| out.join(folder).exists());
        std::fs::create_dir_all(out.join("gan/mine")).unwrap();
        run(&["gan/a", "gan/b"], false).unwrap();
        let error = run(&["gan/_all"], false).unwrap_err();
        assert!(matches!(&error, Error::Changed { stage, .. } if stage == "gan/a"), "{error}");
        assert_eq!(there(), [true, true, false, true]);
        run(&["gan/_all"], true).unwrap();
        assert_eq!(there(), [false, false, true, true]);
        run(&["gan/_all"], false).unwrap();
        run(&["gan/a", "gan/b"], true).unwrap();
        assert_eq!(there(), [true, true, false, true]);
    }

    #[cfg(unix)]
    #[test]
    fn a_removed_folder_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("study");
        let control = control(&out, false);
        let mut runner = Runner::new(&control, Precision::F32).unwrap();
        let ended = runner.stage("first", &1, &[], Makes::Folder("first"), |_| {
            std::fs::remove_dir_all(&out).unwrap();
            Err(control.interrupted("first"))
        });
        assert!(matches!(ended, Err(Error::Interrupted { .. })));
        let next = runner.stage("second", &1, &[], Makes::Folder("second"), |_| Ok(()));
        assert!(next.unwrap_err().to_string().contains("study"));
        assert!(!out.exists());
    }
}
