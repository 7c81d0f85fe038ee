//! `cellforge train`: a GAN per class, or a classifier.

mod classifier;
mod gan;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use cellforge::{
    data,
    study::StudyConfig,
    train::{self, Mode, Ranks, RunDir, Slot},
};

use crate::common::{
    Given, Globals, Interrupted, Session, Shorthands, check_outside, check_settings, ranks, resumed, settings,
    shell_word,
};

/// What to train.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a GAN: on one class, one for each class, or one on all classes
    Gan(Box<gan::GanArgs>),
    /// Train a classifier (the ResNet or a small CNN) and test it
    Classifier(Box<classifier::ClassifierArgs>),
}

pub fn run(globals: Globals, command: &Command) -> Result<()> {
    let ranks = ranks::open()?;
    let done = match command {
        Command::Gan(args) => gan::run(globals, args, &ranks),
        Command::Classifier(args) => classifier::run(globals, args, &ranks),
    };
    ranks::end(&ranks, done)
}

/// The folder of a run, and what to do about a run that is there.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Folder for checkpoints, logs, and sample grids or figures
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Resume the run in OUT, with the settings it was started with
    #[arg(long)]
    resume: bool,
    /// Replace the run in OUT
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
}

impl RunArgs {
    /// The settings of a training and what it runs on, once it is clear that `verb` may leave a run in the folder. Rank 0 reads settings, and
    /// the others get them from it.
    pub(crate) fn begin<S: Shorthands>(
        &self,
        globals: &Globals,
        given: &Given<S>,
        verb: &str,
        ranks: &Ranks,
    ) -> Result<(StudyConfig, Session)> {
        let own = if ranks.is_root() {
            let mut config = self.settled(globals, given, verb)?;
            // A part of a batch for each, unless the settings have more.
            if !ranks.is_alone() {
                let n = ranks.size() as u64;
                if config.gan.accumulation_steps == 1 {
                    config.gan.accumulation_steps = n;
                }
                config.classifier.accumulation_steps.get_or_insert(n);
            }
            Some(config)
        } else {
            None
        };
        let config = match own {
            Some(config) if ranks.is_alone() => config,
            own => serde_json::from_slice(&ranks.share(serde_json::to_vec(&own)?)?)?,
        };
        let session = globals.open_stoppable(config.precision)?;
        Ok((config, Session { ranks: ranks.clone(), ..session }))
    }

    fn settled<S: Shorthands>(&self, globals: &Globals, given: &Given<S>, verb: &str) -> Result<StudyConfig> {
        let below = if self.resume { resumed(globals, &self.out, "run")? } else { Vec::new() };
        // A run goes on from anywhere, and its checkpoint remembers what it started from.
        let config = settings(globals, below, given.layers()?, None)?.absolute();
        check_settings(&self.out, verb)?;
        check_outside(&self.out, config.data.path.as_ref())?;
        if let Some(path) = config.data.path.as_deref().filter(|path| self.resume && is_gone(path)) {
            bail!(
                "the images of the run in {} are not at {path} any more: name where they are now with --data",
                self.out.display()
            );
        }
        Ok(config)
    }

    pub(crate) fn mode(&self) -> Mode {
        match (self.resume, self.overwrite) {
            (true, _) => Mode::Resume,
            (false, true) => Mode::Overwrite,
            (false, false) => Mode::New,
        }
    }
}

/// Whether images that were there are not there any more.
fn is_gone(path: &str) -> bool {
    let place = path.strip_prefix("cifar10:").or(path.strip_prefix("mnist:")).unwrap_or(path);
    !Path::new(place).exists()
}

/// How to run.
pub(crate) fn control(session: &Session) -> train::Control {
    train::Control {
        stop: session.stop.clone(),
        progress: session.progress,
        device: session.device.clone(),
        precision: session.precision,
        ranks: session.ranks.clone(),
    }
}

fn stopped(what: &str, iterations: u64, out: &Path, globals: &Globals) -> anyhow::Error {
    Interrupted(format!("stopped after iteration {iterations}; go on with: {}", again(what, out, globals))).into()
}

/// A failure of the run in the folder `run`. Where a disk is to blame, and not the training, nothing is lost but the time since the last
/// checkpoint, and it says so.
fn failed(error: train::Error, what: &str, run: &Path, out: &Path, globals: &Globals) -> anyhow::Error {
    let hint = match &error {
        train::Error::Occupied(_) => "go on with it (--resume), start anew (--overwrite), or name another --out",
        train::Error::Busy { .. } => "wait for it to end, or name another --out",
        train::Error::Diverged { .. } | train::Error::Unstable { .. } => "start anew with a lower --lr",
        _ => "",
    };
    if !hint.is_empty() {
        return anyhow!("{error}; {hint}");
    }
    let is_of_files = matches!(error, train::Error::Io { .. } | train::Error::Data(data::Error::Io { .. }));
    let error = anyhow::Error::from(error);
    if !is_of_files || !RunDir::new(run).slot(Slot::Last).exists() {
        return error;
    }
    anyhow!("{error:#}. The last checkpoint is whole: once this is mended, go on with: {}", again(what, out, globals))
}

/// The command that goes on with the run in `out`.
fn again(what: &str, out: &Path, globals: &Globals) -> String {
    let mut again = format!("cellforge train {what} --resume --out {}", shell_word(&out.display().to_string()));
    if let Some(device) = globals.device {
        again.push_str(&format!(" --device {device}"));
    }
    if let Some(threads) = globals.threads {
        again.push_str(&format!(" --threads {threads}"));
    }
    again
}
