//! `cellforge train`: a GAN per class, or a classifier.

mod classifier;
mod gan;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use cellforge::{
    data::{self, SplitRule, View},
    kernels::Precision,
    study,
    train::{self, Mode, RunDir, Slot},
};

use crate::common::{Globals, Interrupted, Session, read_table};

/// What to train.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a GAN on the images of one class, one on each class, or one on all
    Gan(Box<gan::GanArgs>),
    /// Train a small CNN or the ResNet, and judge it on the test images
    Classifier(Box<classifier::ClassifierArgs>),
}

pub fn run(globals: Globals, command: &Command) -> Result<()> {
    match command {
        Command::Gan(args) => gan::run(globals, args),
        Command::Classifier(args) => classifier::run(globals, args),
    }
}

/// With `--resume`, the settings the run was started with stand in for flags that are not given.
pub(crate) fn remember(globals: &mut Globals, resume: bool, out: Option<&PathBuf>) -> Result<()> {
    if let (true, Some(out)) = (resume, out) {
        let saved = RunDir::new(out).settings();
        if !saved.is_file() {
            bail!("there is no run to resume in {}: it has no config.toml; start one without --resume", out.display());
        }
        let started = match read_table(&saved)?.get("precision").and_then(toml::Value::as_str) {
            Some(name) => name.parse().map_err(anyhow::Error::msg).context(saved.display().to_string())?,
            None => Precision::F32,
        };
        let asked = *globals.precision.get_or_insert(started);
        // A build for GPUs takes it that one is meant.
        let here = if cfg!(feature = "cuda") || asked.is_supported() { asked } else { Precision::F32 };
        if here != started {
            bail!(
                "the run in {} computes in {} and would go on in {} here: resume it as it was started, or start it anew with --overwrite",
                out.display(),
                started.name(),
                here.name()
            );
        }
        globals.config.get_or_insert(saved);
    }
    Ok(())
}

/// How to run.
fn control(session: &Session) -> train::Control {
    train::Control { stop: session.stop.clone(), progress: session.progress, device: session.device.clone() }
}

/// What `--resume` and `--overwrite` make of a run that is there.
fn mode(resume: bool, overwrite: bool) -> Mode {
    match (resume, overwrite) {
        (true, _) => Mode::Resume,
        (false, true) => Mode::Overwrite,
        (false, false) => Mode::New,
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
    let mut again = format!("cellforge train {what} --resume --out {}", study::shell_word(&out.display().to_string()));
    if let Some(device) = globals.device {
        again.push_str(&format!(" --device {device}"));
    }
    if let Some(threads) = globals.threads {
        again.push_str(&format!(" --threads {threads}"));
    }
    again
}
/// What a rule means for these images. It is told in the log.
pub fn settled(rule: SplitRule, images: &View) -> SplitRule {
    let by = rule.settled(images);
    let patients = images.group_names().len();
    match by {
        SplitRule::Group => tracing::info!("split by patient: each of {patients} is on one side"),
        _ if patients > 1 => {
            tracing::info!("split by image: each of {patients} patients may be on several sides");
        }
        _ => tracing::info!("split by image: the patients are not known"),
    }
    by
}
/// The rule of `--split-by`.
pub fn split_rule(name: &str) -> SplitRule {
    match name {
        "image" => SplitRule::Image,
        "group" => SplitRule::Group,
        _ => SplitRule::Auto,
    }
}
