//! `cellforge train gan`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    data::{self, View},
    gan::AugmentConfig,
    train::{self, GanTrainConfig, RunDir, presets},
};
use serde::{Deserialize, Serialize};

use super::{control, failed, mode, remember, stopped};
use crate::{
    common::{Globals, Session, check_outside, check_settings, effective, is_false, layered, say},
    images::ImageArgs,
};

/// Arguments of `train gan`. Defaults are the study's.
#[derive(clap::Args, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  cellforge train gan --data cell_images.zip --class Parasitized --out gan
  cellforge train gan --data cell_images.zip --split split.csv --side 32 --width 0.5 --iterations 2000 --out gans
  cellforge train gan --data cell_images.zip --recipe best --out best
  cellforge train gan --data cell_images.zip --recipe best --split resnet/split.csv --judge resnet --out judged
  cellforge train gan --data cell_images.zip --recipe best --r1 0 --augment none --out ablation
  cellforge train gan --resume --out gan

Ctrl-C finishes the step, writes a checkpoint and says how to go on; a resumed run ends with the same bytes.")]
pub struct GanArgs {
    #[command(flatten)]
    #[serde(flatten)]
    images: ImageArgs,
    /// Only this class [default: one GAN per class, each in a folder of its own under OUT]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Train on the training part of this split only (a CSV file from `data split`)
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// Folder for checkpoints, sample grids and logs
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// study: a GAN for each class as published; best: one GAN of all classes that makes images that pass. The flags below change what a
    /// recipe says [default: study]
    #[arg(long, value_name = "NAME", value_parser = ["study", "best"])]
    recipe: Option<String>,
    /// Iterations (the study calls them epochs) [default: 15000]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Images per step [default: 32]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Parts in which a batch goes through the networks, to save memory [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<u64>,
    /// Adam's learning rate [default: the recipe's; study 1.5e-4]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Adam's learning rate for the discriminator [default: that of --lr]
    #[arg(long, value_name = "X")]
    discriminator_lr: Option<f64>,
    /// Share of the iterations, at the end, over which both learning rates fall to 0 [default: the recipe's; study 0]
    #[arg(long, value_name = "X")]
    cooldown: Option<f64>,
    /// Adam's first moment decay [default: the recipe's; study 0.5]
    #[arg(long, value_name = "X")]
    beta1: Option<f64>,
    /// Adam's second moment decay [default: the recipe's; study 0.999]
    #[arg(long, value_name = "X")]
    beta2: Option<f64>,
    /// What the generator is built of: study, residual or style (after StyleGAN2) [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = ["study", "residual", "style"])]
    generator: Option<String>,
    /// What the discriminator is built of: study or residual [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = ["study", "residual"])]
    discriminator: Option<String>,
    /// Whether one GAN learns all classes [default: the recipe's; study false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    conditional: Option<bool>,
    /// Divide the residual discriminator's weights by their largest singular value [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    spectral_norm: Option<bool>,
    /// logistic (binary cross-entropy), hinge or relativistic [default: logistic]
    #[arg(long, value_name = "NAME", value_parser = ["logistic", "hinge", "relativistic"])]
    loss: Option<String>,
    /// Whether the discriminator sees real and synthetic images in one update [default: the recipe's; study false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    joint: Option<bool>,
    /// What the logistic loss's target of real images lacks to 1 [default: 0]
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f64>,
    /// Weight of the penalty on the discriminator's gradient at real images, 0 for none [default: the recipe's; study 0]
    #[arg(long, value_name = "X")]
    r1: Option<f64>,
    /// The same at synthetic images [default: 0]
    #[arg(long, value_name = "X")]
    r2: Option<f64>,
    /// Iterations between penalties, each of which counts for all of them [default: the recipe's]
    #[arg(long, value_name = "N")]
    penalty_every: Option<u64>,
    /// Random changes to all that the discriminator sees: none, or some of flips, translation, cutout and colour
    /// [default: the recipe's; study none]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = ["none", "flips", "translation", "cutout", "colour"])]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    augment: Vec<String>,
    /// Whether real images are shown in any of eight orientations [default: the recipe's; study false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    any_orientation: Option<bool>,
    /// Make those changes the more often, the surer the discriminator is of real images: the mean sign of its answers to aim at, 0.6 in
    /// StyleGAN2-ADA [default: make them always]
    #[arg(long, value_name = "X")]
    augment_target: Option<f64>,
    /// Decay of the moving average of the generator's weights, 0 for none [default: the recipe's; study 0]
    #[arg(long, value_name = "X")]
    average: Option<f64>,
    /// Multiplies every filter count [default: 1]
    #[arg(long, value_name = "X")]
    width: Option<f64>,
    /// Length of the noise vector [default: 100]
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    /// Dropout of the discriminator [default: 0.25]
    #[arg(long, value_name = "X")]
    dropout: Option<f64>,
    /// Iterations at which to draw a grid of samples [default: the first, and after each third of them]
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grid_at: Vec<u64>,
    /// Iterations between checkpoints [default: 500]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Iterations between lines of the log [default: 10]
    #[arg(long, value_name = "N")]
    log_every: Option<u64>,
    /// Let this classifier (from `train classifier` on the same --split) hold synthetic images against the split's validation images as the
    /// GAN trains: the figures are in the log, and the best generator in OUT/best [default: none]
    #[arg(long, value_name = "DIR")]
    judge: Option<PathBuf>,
    /// Iterations between its judgements [default: the recipe's; 500 where it has none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    monitor_every: Option<u64>,
    /// Whether training that went wrong goes back to a good checkpoint and on from there at half the rate [default: the recipe's; study
    /// false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    guard: Option<bool>,
    /// Go on with the run in OUT; flags not given are those it was started with, but for --device and --threads
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    resume: bool,
    /// Throw away the run in OUT and start anew
    #[arg(long, conflicts_with = "resume")]
    #[serde(default, skip)]
    overwrite: bool,
}

pub fn run(mut globals: Globals, flags: &GanArgs) -> Result<()> {
    remember(&mut globals, flags.resume, flags.out.as_ref())?;
    let mut args = layered(&mut globals, flags)?;
    args.overwrite = flags.overwrite;
    let session = globals.open_stoppable()?;
    let out = args.out.clone().context("--out is missing: name a folder for the run")?;
    check_settings(&out, "train gan")?;
    check_outside(&out, args.images.data.as_ref())?;
    args.images.settle();
    let mut base = gan_config(&mut args, session.seed)?;
    base.validate()?;

    let mut options = args.images.options(Some(RunDir::new(&out).cache()), session.progress);
    options.allow_one_class = true;
    let set = args.images.open(&options, session.seed)?;
    let (usable, val) = match &args.split {
        Some(file) => {
            let split = data::read_manifest(file, &set)?;
            (set.part(&split.train), set.part(&split.val))
        }
        None => (set.clone(), set.part(&[])),
    };
    let chosen: Vec<usize> = match &args.class {
        None => (0..set.classes().len()).collect(),
        Some(name) => match set.classes().iter().position(|class| class == name) {
            Some(class) => vec![class],
            None => bail!("no class {name:?} in the data; it has {}", set.classes().join(", ")),
        },
    };
    let together = args.conditional == Some(true) && chosen.len() > 1;
    let one = chosen.len() == 1 || together;
    check_layout(&out, one)?;
    let judge = match &args.judge {
        Some(dir) => Some(judge(dir, &val, &chosen, base.monitor.k, &session)?),
        None => None,
    };
    // The run of one GAN locks its folder, which is OUT; those of several lock folders in it, one after the other.
    let whole = RunDir::new(&out);
    let lock = if one { Ok(None) } else { whole.lock().map(Some) };
    let _lock = lock.map_err(|error| failed(error, "gan", &out, &out, &globals))?;
    let (control, settings) = (control(&session), effective("train gan", session.seed, &args)?);
    let mode = mode(args.resume, args.overwrite);
    if together {
        base.model.classes = chosen.len();
        tracing::info!(
            "training a GAN on {} images of {} in {}",
            usable.len(),
            set.classes().join(", "),
            out.display()
        );
        let dir = whole.mode(mode).save_settings(settings);
        let outcome = train::train_judged_gan(&base, &usable, judge.as_ref(), &dir, &control, &mut [])
            .map_err(|error| failed(error, "gan", &out, &out, &globals))?;
        if outcome.interrupted {
            return Err(stopped("gan", outcome.iterations, &out, &globals));
        }
        say(trained(&outcome));
        return Ok(());
    }
    for &class in &chosen {
        let name = &set.classes()[class];
        let folder = if chosen.len() == 1 { out.clone() } else { out.join(data::folder_name(name)) };
        let images = usable.class(class as u32);
        let config = GanTrainConfig { class: name.clone(), ..base.clone() };
        tracing::info!("training a GAN on {} images of {name} in {}", images.len(), folder.display());
        let dir = RunDir::new(&folder).mode(mode).save_settings_in(&whole, settings.clone());
        let outcome = train::train_judged_gan(&config, &images, judge.as_ref(), &dir, &control, &mut [])
            .map_err(|error| failed(error, "gan", &folder, &out, &globals))?;
        if outcome.interrupted {
            return Err(stopped("gan", outcome.iterations, &out, &globals));
        }
        say(format!("{name}: {}", trained(&outcome)));
    }
    Ok(())
}

/// What a finished GAN's run has come to.
fn trained(outcome: &train::GanOutcome) -> String {
    let best = match outcome.best {
        Some(best) => {
            format!("closest to the validation images after {} of them (fd {:.4}); ", best.iteration, best.value)
        }
        None => String::new(),
    };
    format!("{} iterations; {best}checkpoint in {}", outcome.iterations, outcome.checkpoint.display())
}

/// The classifier in `dir` with the validation images of the split, of which each chosen class needs more than `k`.
fn judge(dir: &Path, val: &View, chosen: &[usize], k: usize, session: &Session) -> Result<train::Judge> {
    let counts = val.class_counts();
    for &class in chosen {
        let found = counts[class];
        if found <= k {
            bail!(
                "--judge needs at least {} validation images of {} and --split has {found}: make it with a larger --val",
                k + 1,
                val.classes()[class]
            );
        }
    }
    Ok(train::Judge::load(dir, val, &session.device)?)
}

/// One GAN lies in the folder itself, several in folders below it; both in one would leave each with the other's settings.
fn check_layout(out: &Path, one: bool) -> Result<()> {
    let holds_run = |folder: &Path| RunDir::new(folder).holds_run();
    let below = || {
        let entries = std::fs::read_dir(out).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).any(|folder| holds_run(&folder))
    };
    if one && !holds_run(out) && below() {
        bail!("{} holds GANs of several classes; name another folder for one of a single class", out.display());
    }
    if !one && holds_run(out) {
        bail!("{} holds the GAN of a single class; name another folder for several", out.display());
    }
    Ok(())
}

/// The training settings, every default named in `args`.
fn gan_config(args: &mut GanArgs, seed: u64) -> Result<GanTrainConfig> {
    let recipe = match args.recipe.get_or_insert_with(|| "study".to_owned()).as_str() {
        "best" => presets::gan_best(2),
        _ => GanTrainConfig::default(),
    };
    let mut config = GanTrainConfig { seed, ..recipe };
    let model = &mut config.model;
    model.image_size = args.images.side.unwrap_or(model.image_size);
    model.channels = args.images.channels.unwrap_or(model.channels);
    model.width = *args.width.get_or_insert(model.width);
    model.latent = *args.latent.get_or_insert(model.latent);
    model.dropout = *args.dropout.get_or_insert(model.dropout);
    model.spectral_norm = *args.spectral_norm.get_or_insert(model.spectral_norm);
    choose(&mut args.generator, &mut model.generator)?;
    choose(&mut args.discriminator, &mut model.discriminator)?;
    args.conditional.get_or_insert(model.classes > 1);
    // How many there are is known when the images are.
    model.classes = 1;
    config.iterations = *args.iterations.get_or_insert(config.iterations);
    config.batch = *args.batch.get_or_insert(config.batch);
    config.accumulate = *args.accumulate.get_or_insert(config.accumulate);
    config.lr = *args.lr.get_or_insert(config.lr);
    config.discriminator_lr = args.discriminator_lr.or(config.discriminator_lr);
    config.cooldown = *args.cooldown.get_or_insert(config.cooldown);
    config.beta1 = *args.beta1.get_or_insert(config.beta1);
    config.beta2 = *args.beta2.get_or_insert(config.beta2);
    choose(&mut args.loss, &mut config.loss)?;
    config.joint = *args.joint.get_or_insert(config.joint);
    config.label_smoothing = *args.label_smoothing.get_or_insert(config.label_smoothing);
    config.r1 = *args.r1.get_or_insert(config.r1);
    config.r2 = *args.r2.get_or_insert(config.r2);
    config.penalty_every = *args.penalty_every.get_or_insert(config.penalty_every);
    config.any_orientation = *args.any_orientation.get_or_insert(config.any_orientation);
    augmentation(&mut args.augment, &mut config.augment)?;
    config.augment.target = args.augment_target.or(config.augment.target);
    config.average = *args.average.get_or_insert(config.average);
    config.checkpoint_every = *args.checkpoint_every.get_or_insert(config.checkpoint_every);
    config.log_every = *args.log_every.get_or_insert(config.log_every);
    match (&args.judge, args.monitor_every) {
        (None, Some(_)) => bail!("--monitor-every is how often a judge looks: name one with --judge"),
        (Some(_), _) if args.split.is_none() => {
            bail!("--judge needs images that the GAN is not trained on: give --split, whose validation part they are")
        }
        (Some(_), every) => {
            let usual = if config.monitor.every == 0 { 500 } else { config.monitor.every };
            config.monitor.every = every.unwrap_or(usual);
            args.monitor_every = Some(config.monitor.every);
        }
        (None, None) => {}
    }
    if *args.guard.get_or_insert(config.guard.is_some()) {
        config.guard.get_or_insert_default();
    } else {
        config.guard = None;
    }
    if args.grid_at.is_empty() {
        // The study's grids: at the start, and after each third of the training.
        let n = config.iterations;
        args.grid_at = vec![1, n / 3, n * 2 / 3, n];
        args.grid_at.retain(|&at| at > 0);
        args.grid_at.dedup();
    }
    if let Some(at) = args.grid_at.iter().find(|at| !(1..=config.iterations).contains(*at)) {
        bail!("--grid-at {at} is not one of the iterations, 1 to {}", config.iterations);
    }
    config.grid_at.clone_from(&args.grid_at);
    Ok(config)
}

/// Sets a choice by its name in settings, or names the one that stands.
fn choose<T: Serialize + serde::de::DeserializeOwned>(name: &mut Option<String>, choice: &mut T) -> Result<()> {
    if let Some(name) = name {
        *choice = T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name))?;
    } else if let toml::Value::String(text) = toml::Value::try_from(&*choice)? {
        *name = Some(text);
    }
    Ok(())
}

/// Switches the named kinds of augmentation on, as strong as the best recipe has them or DiffAugment, and all others off; with no names,
/// names those that stand.
fn augmentation(names: &mut Vec<String>, config: &mut AugmentConfig) -> Result<()> {
    if names.is_empty() {
        let on = [
            ("flips", config.flips),
            ("translation", config.translation > 0.0),
            ("cutout", config.cutout > 0.0),
            ("colour", config.colour > 0.0),
        ];
        names.extend(on.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()));
        if names.is_empty() {
            names.push("none".to_owned());
        }
        return Ok(());
    }
    let has = |name: &str| names.iter().any(|given| given == name);
    if has("none") && names.len() > 1 {
        bail!("--augment none leaves nothing to name beside it");
    }
    let strength = |name: &str, strength: f64| if has(name) { strength } else { 0.0 };
    config.flips = has("flips");
    config.translation = strength("translation", 0.125);
    config.cutout = strength("cutout", 0.5);
    config.colour = strength("colour", 0.1);
    Ok(())
}
