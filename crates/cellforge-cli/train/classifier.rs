//! `cellforge train classifier`.

mod folds;

use std::path::PathBuf;

use anyhow::{Result, bail};
use cellforge::{
    assess::{files::write_json, report::classifier::WithPage},
    data::{self, Split, View, counted},
    eval::{self, ClassifierReport, FEW_IMAGES},
    study::StudyConfig,
    train::{self, Balance, ClassifierTrainConfig, Ranks, RunDir, TrainedClassifier},
};

use super::{RunArgs, control, failed, stopped};
use crate::{
    common::{Given, Globals, Session, Shorthands, effective, memory, say, with_reading},
    images::{self, bootstrap, table},
    report,
};

/// How many times more images the largest class has than the smallest where it is said.
const UNEVEN: usize = 3;

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
  cellforge train classifier --data images.zip --balance weights --out balanced
  cellforge train classifier --data images.zip --folds 5 --out folds
  cellforge train classifier --data images.zip --recipe resnet18 --from resnet18.safetensors --out finetuned
  cellforge train classifier --resume --out resnet

The flags are the settings that are changed most. `cellforge config show classifier` lists all; --set KEY=VALUE sets one, --config FILE many.

The split is saved as OUT/split.csv, the figures on the test images as OUT/test.json, and a page with them as OUT/report.html. Probabilities
are scaled by a temperature that is fitted on the validation images.

--from takes the folder of a classifier of the same network, or a file of weights with PyTorch's names (safetensors, or torch.save's), such as
torchvision's for --recipe resnet18 and resnet50. The last layer starts anew where the classes are others.

With --folds K, K networks are trained in OUT/fold-1 to OUT/fold-K, each on the images that are not in its fold, of which --val is the share
for validation. Each image is judged once, by the network that did not see it: OUT/folds.json has the figures of all together, with intervals
over patients, of each fold, and their mean and spread. Stopped, it goes on with --resume; folds that are finished are not trained again.")]
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
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
        ("split", "inputs.split"),
        ("folds", "inputs.folds"),
        ("split-by", "data.split_by"),
        ("val", "data.val"),
        ("test", "data.test"),
        ("recipe", "classifier.recipe"),
        ("from", "classifier.from"),
        ("epochs", "classifier.epochs"),
        ("batch", "classifier.batch"),
        ("lr", "classifier.optimizer.lr"),
        ("width", "classifier.model.width"),
        ("balance", "classifier.balance"),
        ("patience", "classifier.patience"),
    ];
}

pub fn run(globals: Globals, args: &ClassifierArgs, ranks: &Ranks) -> Result<()> {
    let out = &args.run.out;
    let (config, session) = args.run.begin(&globals, &args.given, "train classifier", ranks)?;
    let dir = RunDir::new(out);
    if ranks.is_root() {
        check_kind(&dir, &config, args.given.has("test") || globals.sets("data.test"))?;
    }
    let data = &config.data;
    let training = ClassifierTrainConfig { seed: config.seed, ..config.classifier.clone() };
    let asked = training.clone().for_images(data.side, data.most_channels(), 2);
    asked.validate()?;
    memory::check_classifier(&globals, &session, &asked)?;
    let options = images::options(data, Some(dir.cache()), session.progress)?;
    let all = ranks.root_first(|| images::open(&config, &options))?;
    let training = training.for_images(all.size(), all.channels(), all.classes().len());
    training.validate()?;
    let text = effective("train classifier", &config, session.precision, &TABLES)?;
    let work = Work { globals: &globals, args, config: &config, session: &session, all: &all, training };
    if let Some(k) = config.inputs.folds {
        return folds::run(&work, k, &text);
    }
    let split = images::split(&config, &all)?;
    if split.test.is_empty() {
        bail!("the split has no test images; give a larger --test");
    }
    work.warn(&split);
    let run = dir.clone().mode(args.run.mode()).save_settings(text);
    let Some(judged) = work.train(&work.training, &split, &run)? else { return Ok(()) };
    let lead = std::iter::once(work.described(&judged.network)).chain(judged.leak).collect();
    let page = images::page_text("A classifier, tested", &config, &all, lead)?;
    write_json(&dir.test_figures(), &WithPage { found: &judged.report, page })?;
    report::draw(&dir)?;
    say(format!(
        "on the test images:\n{}\n\ncheckpoint in {}\nreport: {}",
        table(&judged.report),
        judged.checkpoint.display(),
        dir.report().display()
    ));
    Ok(())
}

/// Refuses a folder that holds the other kind of work, one training or one for each fold, and settings that folds have no use for.
fn check_kind(dir: &RunDir, config: &StudyConfig, test_given: bool) -> Result<()> {
    let out = dir.path().display();
    if config.inputs.folds.is_none() {
        if dir.fold(1).path().is_dir() {
            bail!("{out} holds a cross-validation: name another --out, or give --folds");
        }
        return Ok(());
    }
    if dir.holds_run() {
        bail!("{out} holds a single training: name another --out for --folds");
    }
    if config.inputs.split.is_some() {
        bail!("--split is a single split, and --folds makes its own: leave one of them out");
    }
    if test_given {
        bail!("data.test is of a single split, and each image is in the test part of one of the folds: leave it out");
    }
    Ok(())
}

/// What a training needs.
pub(super) struct Work<'a> {
    globals: &'a Globals,
    args: &'a ClassifierArgs,
    config: &'a StudyConfig,
    session: &'a Session,
    all: &'a View,
    training: ClassifierTrainConfig,
}

/// A trained classifier and what it does on its test images.
pub(super) struct Judged {
    network: TrainedClassifier,
    checkpoint: PathBuf,
    report: ClassifierReport,
    /// Of the test images, in their order.
    probabilities: Vec<Vec<f32>>,
    /// That it has seen some of them, in words.
    leak: Option<String>,
}

impl Work<'_> {
    /// Warns of classes with few images, and of uneven ones.
    fn warn(&self, split: &Split) {
        let counts = self.all.part(&split.train).class_counts();
        let few: Vec<String> = (self.all.classes().iter().zip(&counts).filter(|(_, n)| **n < FEW_IMAGES))
            .map(|(class, n)| format!("{class} ({n})"))
            .collect();
        if !few.is_empty() {
            tracing::warn!("few training images, below {FEW_IMAGES} a class: {}", few.join(", "));
        }
        let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        if *most >= UNEVEN * least && self.training.balance == Balance::None {
            tracing::warn!(
                "the largest class has {most} training images and the smallest {least}: --balance weights or --balance batches has them count alike"
            );
        }
    }

    /// Trains in the folder of `run`, and judges the network on the test images, which is for rank 0: the others get none.
    fn train(&self, training: &ClassifierTrainConfig, split: &Split, run: &RunDir) -> Result<Option<Judged>> {
        let (out, session) = (&self.args.run.out, self.session);
        let (train, val, test) = (split.train.len(), split.val.len(), split.test.len());
        tracing::info!("training on {}, validation {val}, test {test}", counted(train, "image", "images"));
        let [learn, val, test] = [&split.train, &split.val, &split.test].map(|part| self.all.part(part));
        let outcome = train::train_classifier(training, &learn, &val, run, &control(session), &mut [])
            .map_err(|error| failed(error, "classifier", run.path(), out, self.globals))?;
        if session.ranks.is_root() {
            data::write_manifest(&run.split(), self.all, split)?;
        }
        if outcome.interrupted {
            return Err(stopped("classifier", outcome.iterations, out, self.globals));
        }
        if !session.ranks.is_root() {
            return Ok(None);
        }
        let network = TrainedClassifier::load_in(&outcome.checkpoint, &session.device, session.precision)?;
        let probabilities = network.predict(&test)?;
        let leak = network.seen(&test).filter(|seen| seen.train + seen.val > 0).map(|seen| {
            format!(
                "Of {} the network was trained on {} and chosen by {}: parts share images, or what it started from has seen them.",
                counted(seen.images, "test image", "test images"),
                seen.train,
                seen.val
            )
        });
        if let Some(leak) = &leak {
            tracing::warn!("{leak}");
        }
        let report = self.report(&test, &probabilities)?;
        let report = report.scaled_by(network.temperature(), &test.labels(), &probabilities);
        Ok(Some(Judged { network, checkpoint: outcome.checkpoint, report, probabilities, leak }))
    }

    fn report(&self, images: &View, probabilities: &[Vec<f32>]) -> Result<ClassifierReport> {
        let (truth, groups) = (images.labels(), images.groups());
        let options = bootstrap(self.config);
        Ok(eval::classifier_report(&truth, probabilities, self.all.classes(), groups.as_deref(), &options)?)
    }

    /// The network and its training in a sentence.
    fn described(&self, network: &TrainedClassifier) -> String {
        let config = &network.state().config;
        let balance = match config.balance {
            Balance::None => "",
            Balance::Weights => ", with classes weighted by inverse frequency",
            Balance::Batches => ", with as many images of each class in a batch",
        };
        format!(
            "Recipe {}, {} parameters, {} of batches of {}{balance}.",
            config.recipe,
            config.model.summary().params(),
            counted(config.epochs as usize, "epoch", "epochs"),
            config.batch
        )
    }
}
