//! `cellforge train classifier`.

use anyhow::{Result, bail};
use cellforge::{
    data::{self, counted},
    eval,
    train::{self, ClassifierTrainConfig, RunDir, TrainedClassifier},
};

use super::{RunArgs, control, failed, stopped};
use crate::{
    common::{Given, Globals, Shorthands, effective, memory, save, say, with_reading},
    images::{self, bootstrap, table},
};

/// The tables of settings that the verb uses.
const TABLES: [&str; 4] = ["data", "inputs", "classifier", "judge"];

/// Arguments of `train classifier`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge train classifier --data images.zip --out resnet
  cellforge train classifier --data images.zip --recipe cnn-paper-1 --out cnn
  cellforge train classifier --data images.zip --recipe resnet-flips --out flips
  cellforge train classifier --data images.zip --split-by image --side 32 --width 0.5 --out narrow
  cellforge train classifier --resume --out resnet

The flags are the settings that are changed most. `cellforge config show classifier` lists all; --set KEY=VALUE sets one, --config FILE many.

The split is saved as OUT/split.csv, the figures on the test images as OUT/test.json.")]
pub struct ClassifierArgs {
    #[command(flatten)]
    given: Given<ClassifierShorthands>,
    #[command(flatten)]
    run: RunArgs,
}

/// The shorthands of `train classifier`.
pub struct ClassifierShorthands;

impl Shorthands for ClassifierShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("data", "data.path"),
        ("side", "data.side"),
        ("channels", "data.channels"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
        ("split", "inputs.split"),
        ("split-by", "data.split_by"),
        ("val", "data.val"),
        ("test", "data.test"),
        ("recipe", "classifier.recipe"),
        ("epochs", "classifier.epochs"),
        ("batch", "classifier.batch"),
        ("lr", "classifier.optimizer.lr"),
        ("width", "classifier.model.width"),
        ("patience", "classifier.patience"),
    ];
}

pub fn run(globals: Globals, args: &ClassifierArgs) -> Result<()> {
    let out = &args.run.out;
    let (config, session) = args.run.begin(&globals, &args.given, "train classifier")?;
    let dir = RunDir::new(out);
    let data = &config.data;
    let training = ClassifierTrainConfig { seed: config.seed, ..config.classifier.clone() };
    let asked = training.clone().for_images(data.side, data.channels, 2);
    asked.validate()?;
    memory::check_classifier(&globals, &session.device, &asked)?;
    let all = images::open(&config, &images::options(data, Some(dir.cache()), session.progress)?)?;
    let training = training.for_images(all.size(), all.channels(), all.classes().len());
    training.validate()?;
    let split = images::split(&config, &all)?;
    if split.test.is_empty() {
        bail!("the split has no test images; give a larger --test");
    }

    tracing::info!(
        "training on {}, validation {}, test {}",
        counted(split.train.len(), "image", "images"),
        split.val.len(),
        split.test.len()
    );
    let text = effective("train classifier", &config, session.precision, &TABLES)?;
    let run = dir.clone().mode(args.run.mode()).save_settings(text);
    let [learn, val, test] = [&split.train, &split.val, &split.test].map(|side| all.part(side));
    let outcome = train::train_classifier(&training, &learn, &val, &run, &control(&session), &mut [])
        .map_err(|error| failed(error, "classifier", out, out, &globals))?;
    data::write_manifest(&dir.split(), &all, &split)?;
    if outcome.interrupted {
        return Err(stopped("classifier", outcome.iterations, out, &globals));
    }
    let network = TrainedClassifier::load_in(&outcome.checkpoint, &session.device, session.precision)?;
    let probabilities = network.predict(&test)?;
    let (truth, groups) = (test.labels(), test.groups());
    let report =
        eval::classifier_report(&truth, &probabilities, all.classes(), groups.as_deref(), &bootstrap(&config))?;
    save(&dir.test_figures(), &(serde_json::to_string_pretty(&report)? + "\n"))?;
    say(format!("on the test images:\n{}\n\ncheckpoint in {}", table(&report), outcome.checkpoint.display()));
    Ok(())
}
