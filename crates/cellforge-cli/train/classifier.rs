//! `cellforge train classifier`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cellforge::{
    data::{self, Split, SplitOptions, View},
    eval,
    train::{self, ClassifierTrainConfig, LossKind, OptimizerConfig, RunDir, Schedule, TrainedClassifier, presets},
};
use serde::{Deserialize, Serialize};

use super::{control, failed, mode, remember, settled, split_rule, stopped};
use crate::{
    common::{Globals, check_outside, check_settings, effective, is_false, layered, save, say},
    images::{ImageArgs, bootstrap, table},
};

/// Arguments of `train classifier`.
#[derive(clap::Args, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  cellforge train classifier --data cell_images.zip --out resnet
  cellforge train classifier --data cell_images.zip --model cnn --recipe paper --variant 1 --out cnn
  cellforge train classifier --data cell_images.zip --augment flips --out flips
  cellforge train classifier --data cell_images.zip --split-by image --side 32 --width 0.5 --out narrow
  cellforge train classifier --resume --out resnet

The defaults are the study's ResNet. The split is saved as OUT/split.csv, the figures on the test images as OUT/test.json.")]
pub struct ClassifierArgs {
    #[command(flatten)]
    #[serde(flatten)]
    images: ImageArgs,
    /// resnet or cnn [default: resnet]
    #[arg(long, value_name = "NAME", value_parser = ["resnet", "cnn"])]
    model: Option<String>,
    /// For a cnn: the published settings (paper), or a learning rate that works (tuned) [default: tuned]
    #[arg(long, value_name = "NAME", value_parser = ["paper", "tuned"])]
    recipe: Option<String>,
    /// For a cnn: which of the study's models, 1, 2 or 3 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    variant: Option<u8>,
    /// Folder for checkpoints, logs and figures
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this split (a CSV file from `data split`)
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// What the split keeps whole: auto (patients where known), image or group [default: auto]
    #[arg(long, value_name = "RULE", value_parser = ["auto", "image", "group"])]
    split_by: Option<String>,
    /// Share of the images for validation [default: 0.1]
    #[arg(long, value_name = "X")]
    val: Option<f64>,
    /// Share of the images for the test [default: 0.2]
    #[arg(long, value_name = "X")]
    test: Option<f64>,
    /// Passes over the training images [default: the recipe's; 4 for the resnet]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Stop once so many epochs have not raised the accuracy on the validation images [default: never]
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Images per step [default: 32]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// sgd or adam [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = ["sgd", "adam"])]
    optimizer: Option<String>,
    /// Learning rate [default: the recipe's, 0.1 for the resnet; with another optimizer than the recipe's, 1e-3 for adam and
    /// 0.01 for sgd]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// constant or linear (falling to 0) [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = ["constant", "linear"])]
    schedule: Option<String>,
    /// cross_entropy, or softmax_bce as in the study's ResNet [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = ["cross_entropy", "softmax_bce"])]
    loss: Option<String>,
    /// Random changes to the training images: study (rotation, zoom, shift, shear, mirrored left to right), flips (mirrored
    /// either way) or none [default: the recipe's; study for the resnet]
    #[arg(long, value_name = "NAME", value_parser = ["study", "flips", "none"])]
    augment: Option<String>,
    /// Multiplies every filter count [default: 1]
    #[arg(long, value_name = "X")]
    width: Option<f64>,
    /// Steps between checkpoints inside an epoch, 0 for none [default: the recipe's]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Steps between lines of the log [default: 10]
    #[arg(long, value_name = "N")]
    log_every: Option<u64>,
    /// Go on with the run in OUT; flags not given are those it was started with, but for --device and --threads
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    resume: bool,
    /// Throw away the run in OUT and start anew
    #[arg(long, conflicts_with = "resume")]
    #[serde(default, skip)]
    overwrite: bool,
}

pub fn run(mut globals: Globals, flags: &ClassifierArgs) -> Result<()> {
    remember(&mut globals, flags.resume, flags.out.as_ref())?;
    let mut args = layered(&mut globals, flags)?;
    args.overwrite = flags.overwrite;
    let session = globals.open_stoppable()?;
    let out = args.out.clone().context("--out is missing: name a folder for the run")?;
    check_settings(&out, "train classifier")?;
    check_outside(&out, args.images.data.as_ref())?;
    args.images.settle();
    let set =
        args.images.open(&args.images.options(Some(RunDir::new(&out).cache()), session.progress), session.seed)?;
    let config = classifier_config(&mut args, &set, session.seed);
    config.validate()?;
    let split = split(&mut args, &set, session.seed)?;
    if split.test.is_empty() {
        bail!("the split has no test images; give a larger --test");
    }

    tracing::info!(
        "training on {} images, validation {}, test {}",
        split.train.len(),
        split.val.len(),
        split.test.len()
    );
    let settings = effective("train classifier", session.seed, &args)?;
    let dir = RunDir::new(&out).mode(mode(args.resume, args.overwrite)).save_settings(settings);
    let (train, val) = (set.part(&split.train), set.part(&split.val));
    let outcome = train::train_classifier(&config, &train, &val, &dir, &control(&session), &mut [])
        .map_err(|error| failed(error, "classifier", &out, &out, &globals))?;
    data::write_manifest(&dir.split(), &set, &split)?;
    if outcome.interrupted {
        return Err(stopped("classifier", outcome.iterations, &out, &globals));
    }
    let network = TrainedClassifier::load_on(&outcome.checkpoint, &session.device)?;
    let test = set.part(&split.test);
    let probabilities = network.predict(&test)?;
    let (truth, groups) = (test.labels(), test.groups());
    let report =
        eval::classifier_report(&truth, &probabilities, set.classes(), groups.as_deref(), &bootstrap(session.seed))?;
    save(&dir.test_figures(), &(serde_json::to_string_pretty(&report)? + "\n"))?;
    say(format!("on the test images:\n{}\n\ncheckpoint in {}", table(&report), outcome.checkpoint.display()));
    Ok(())
}
fn split(args: &mut ClassifierArgs, set: &View, seed: u64) -> Result<Split> {
    if let Some(file) = &args.split {
        return Ok(data::read_manifest(file, set)?);
    }
    let rule = split_rule(args.split_by.get_or_insert_with(|| "auto".to_owned()));
    let (val, test) = (*args.val.get_or_insert(0.1), *args.test.get_or_insert(0.2));
    Ok(data::split(set, &SplitOptions { by: settled(rule, set), val, test, seed })?)
}
/// The training settings, every default named in `args`.
fn classifier_config(args: &mut ClassifierArgs, set: &View, seed: u64) -> ClassifierTrainConfig {
    let cnn = args.model.get_or_insert_with(|| "resnet".to_owned()) == "cnn";
    let mut config = if cnn {
        let variant = usize::from(*args.variant.get_or_insert(1));
        match args.recipe.get_or_insert_with(|| "tuned".to_owned()).as_str() {
            "paper" => presets::cnn_paper(variant),
            _ => presets::cnn_tuned(variant),
        }
    } else {
        presets::resnet_study()
    };
    let width = *args.width.get_or_insert(1.0);
    config.model = presets::classifier_config(
        config.model,
        Some(set.side()),
        Some(set.channels()),
        Some(set.classes().len()),
        Some(width),
    );
    config.seed = seed;
    config.epochs = *args.epochs.get_or_insert(config.epochs);
    config.patience = args.patience;
    config.batch = *args.batch.get_or_insert(config.batch);
    config.checkpoint_every = *args.checkpoint_every.get_or_insert(config.checkpoint_every);
    config.log_every = *args.log_every.get_or_insert(config.log_every);
    // Another optimiser than the recipe's has a rate of its own.
    config.optimizer = match (args.optimizer.as_deref(), config.optimizer) {
        (Some("adam"), OptimizerConfig::Sgd { .. }) => OptimizerConfig::Adam { lr: 1e-3 },
        (Some("sgd"), OptimizerConfig::Adam { .. }) => {
            OptimizerConfig::Sgd { lr: 0.01, momentum: 0.9, nesterov: false }
        }
        (_, recipe) => recipe,
    };
    let rate = *args.lr.get_or_insert(config.optimizer.lr());
    let (OptimizerConfig::Sgd { lr, .. } | OptimizerConfig::Adam { lr }) = &mut config.optimizer;
    *lr = rate;
    let name = if matches!(config.optimizer, OptimizerConfig::Adam { .. }) { "adam" } else { "sgd" };
    args.optimizer = Some(name.to_owned());
    if matches!(config.optimizer, OptimizerConfig::Adam { .. }) {
        // Keras's L2 penalties are a matter of SGD here.
        config.l2 = false;
    }
    match args.schedule.as_deref() {
        Some("constant") => config.schedule = Schedule::Constant,
        Some("linear") => config.schedule = Schedule::Linear,
        _ => {}
    }
    args.schedule = match config.schedule {
        Schedule::Constant => Some("constant".to_owned()),
        Schedule::Linear => Some("linear".to_owned()),
        // Only a recipe has it.
        Schedule::KerasDecay { .. } => None,
    };
    match args.loss.as_deref() {
        Some("cross_entropy") => config.loss = LossKind::CrossEntropy,
        Some("softmax_bce") => config.loss = LossKind::SoftmaxBce,
        _ => {}
    }
    let loss = if config.loss == LossKind::SoftmaxBce { "softmax_bce" } else { "cross_entropy" };
    args.loss = Some(loss.to_owned());
    match args.augment.as_deref() {
        Some("study") => config.augment = Some(data::Augment::default()),
        Some("flips") => config.augment = Some(data::Augment::FLIPS),
        Some(_) => config.augment = None,
        None => args.augment = Some(if config.augment.is_some() { "study" } else { "none" }.to_owned()),
    }
    config
}
