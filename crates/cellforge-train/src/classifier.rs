//! Training a classifier.

use std::path::PathBuf;

use candle_core::Device;
use cellforge_classify::ClassifierConfig;
use cellforge_data::{Batch, Scale, View, epoch_order};

use crate::checkpoint::{Best, State};
use crate::classifier_start::ClassifierStart;
use crate::classifier_step::ClassifierStep;
use crate::observers::{Checkpoints, Criterion, EarlyStop, Evaluate, JsonlLog, Patience, Progress, TensorBoard};
use crate::ranks::{OwnRows, begin_together};
use crate::run::{self, Control};
use crate::{
    ClassifierTrainConfig, Error, FitPlan, Observer, Position, Ranks, Result, RunDir, SeenImages, Slot, figures, fit,
};

/// What the `state.json` of a classifier calls it.
pub(crate) const KIND: &str = "classifier";

/// A classifier's `state.json`.
pub type ClassifierState = State<ClassifierTrainConfig>;

/// What [`train_classifier`] leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierOutcome {
    /// Updates done in all, those before a resume included.
    pub iterations: u64,
    /// Whole epochs done.
    pub epochs: u64,
    /// True if the stop flag ended the run early; resume to go on.
    pub interrupted: bool,
    /// Best validation accuracy and its epoch, if there were validation images.
    pub best: Option<Best>,
    /// The checkpoint folder to use: that of the best epoch, or the last where there were no validation images.
    pub checkpoint: PathBuf,
    /// The log; read it with [`crate::read_log`].
    pub log: PathBuf,
}

/// Trains a classifier on the images `train`, choosing the best epoch by accuracy on `val`, which may be empty, into the folder `dir`:
/// `last/` and `best/` (checkpoints), `log.jsonl` and `tensorboard/`. `observers` watch it beside its own, each in its phase.
///
/// Over ranks ([`Control::ranks`]) as [`crate::train_gan`]: `best` of the outcome is known on rank 0 alone.
///
/// # Errors
/// As [`crate::train_gan`].
pub fn train_classifier(
    config: &ClassifierTrainConfig,
    train: &View,
    val: &View,
    dir: &RunDir,
    control: &Control,
    observers: &mut [&mut dyn Observer<ClassifierStep>],
) -> Result<ClassifierOutcome> {
    let precision = control.precision_of_run(config.model.precision())?;
    let config = &ClassifierTrainConfig { model: config.model.clone().in_precision(precision), ..config.clone() };
    config.validate()?;
    let ranks = &control.ranks;
    run::check_parts("classifier.accumulation_steps", config.parts(), ranks)?;
    let (size, channels) = (config.model.image_size(), config.model.channels());
    run::check_images(train, size, channels)?;
    check_classes(&config.model, train)?;
    check_val(train, val)?;
    if config.patience.is_some() && val.is_empty() {
        return Err(Error::Invalid {
            field: "patience",
            reason: "needs validation images, and there are none".to_owned(),
        });
    }
    let epoch_len = train.len().div_ceil(config.batch) as u64;
    // What it has become since is in the checkpoint.
    let starts = ranks.is_root() && !dir.resumes();
    let start = if starts { ClassifierStart::of(config, &control.device)? } else { None };
    let step = ClassifierStep::new(config, epoch_len, &control.device)?;
    let mut step = step.weighted(config.balance.weights(train)).over(ranks.clone());
    if let Some(start) = &start {
        step.start_from(start, &config.model, train.classes())?;
    }
    let data = run::data_fingerprint(&[train, val]);
    let fresh = State {
        intensities: train.facts().intensities.clone(),
        seen: Some(SeenImages::new(train, val).and(start.as_ref().and_then(ClassifierStart::seen))),
        started_from: start.as_ref().map(ClassifierStart::record),
        fit: train.facts().used_fit(),
        ..State::new(KIND, config.seed, train.classes().to_vec(), data, config.clone())
    };
    // The folder is rank 0's. The others get from it what it begins with.
    let run = if ranks.is_root() {
        Some(dir.open_of_length(&mut step, fresh, &control.device, &|saved, asked, position| {
            saved.lengthen(asked, position, epoch_len)
        })?)
    } else {
        None
    };
    let begins = run.as_ref().map_or_else(Position::default, |run| run.state.position.clone());
    let begins = begin_together(ranks, &mut step, begins, &control.device)?;

    let best_by = Criterion::highest(figures::VAL_ACCURACY);
    let early = config.patience.map(|epochs| EarlyStop::new(best_by.clone(), Patience::Epochs(epochs)));
    let mut early = early.map(|early| early.since(run.as_ref().and_then(|run| run.state.best)));
    let plan = FitPlan::new(&begins, config.epochs * epoch_len, control);
    let plan = FitPlan { epoch_len: Some(epoch_len), ..plan };
    let mut evaluate = Evaluate::new(val.clone(), control.device.clone());
    let mut jsonl = JsonlLog::new(dir.log(), config.log_every, config.checkpoint_every);
    let mut board = TensorBoard::new(dir.tensorboard(), config.log_every);
    let mut checkpoints = run.map(|run| Checkpoints::new(run, config.checkpoint_every, Some(best_by)));
    let mut progress = Progress::new(config.model.name());
    let mut all: Vec<&mut dyn Observer<ClassifierStep>> = Vec::new();
    if let Some(checkpoints) = &mut checkpoints {
        all.push(&mut evaluate);
        all.push(&mut jsonl);
        all.push(&mut board);
        all.push(checkpoints);
        if let Some(early) = &mut early {
            all.push(early);
        }
        if control.progress {
            all.push(&mut progress);
        }
        all.extend(observers.iter_mut().map(|own| &mut **own as &mut dyn Observer<ClassifierStep>));
    }
    let outcome = fit(&mut step, batches(config, train, epoch_len, ranks, &control.device), plan, &mut all)?;

    let best = checkpoints.and_then(|checkpoints| checkpoints.run().state.best);
    Ok(ClassifierOutcome {
        iterations: outcome.position.iteration,
        epochs: outcome.position.epoch,
        interrupted: outcome.interrupted,
        best,
        checkpoint: dir.slot(if best.is_some() { Slot::Best } else { Slot::Last }),
        log: dir.log(),
    })
}

/// Checks that a network tells as many classes apart as the images have.
pub(crate) fn check_classes(model: &ClassifierConfig, images: &View) -> Result<()> {
    let classes = images.classes().len();
    if classes != model.classes() {
        let reason = format!("has {} classes, the images have {classes}", model.classes());
        return Err(Error::Invalid { field: "model", reason });
    }
    Ok(())
}

/// Checks that validation images, where there are some, are of the size and classes of the training images.
fn check_val(train: &View, val: &View) -> Result<()> {
    let kind = |view: &View| (view.size(), view.channels(), view.classes().to_vec());
    if val.is_empty() || kind(train) == kind(val) {
        return Ok(());
    }
    let reason = "are not of the size and the classes of the training images".to_owned();
    Err(Error::Invalid { field: "validation images", reason })
}

/// The batch of each iteration: its slice of the epoch's order, or a balanced draw, scaled to [0, 1], augmented if that is asked for. Of these
/// images, each rank gathers its own.
fn batches(
    config: &ClassifierTrainConfig,
    train: &View,
    epoch_len: u64,
    ranks: &Ranks,
    device: &Device,
) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (train, device) = (train.clone(), device.clone());
    let all: Vec<usize> = (0..train.len()).collect();
    let (seed, b, augment) = (config.seed, config.batch, config.augment.clone());
    let (draws, own) = (config.balance.draws(&train), OwnRows::new(ranks, config.parts()));
    let mut shuffled: Option<(u64, Vec<usize>)> = None;
    move |iteration| {
        if let Some(draws) = &draws {
            return draws.batch(&train, (seed, iteration, b), &own, &augment, &device);
        }
        let epoch = (iteration - 1) / epoch_len;
        let order = match shuffled.take() {
            Some((at, order)) if at == epoch => order,
            _ => epoch_order(&all, seed, epoch),
        };
        let start = ((iteration - 1) % epoch_len) as usize * b;
        let chosen = &order[start..(start + b).min(order.len())];
        let augment = augment.is_on().then_some((&augment, seed, epoch));
        let batch = own.gather(&train, chosen, Scale::Unit, augment, &device)?;
        shuffled = Some((epoch, order));
        Ok(batch)
    }
}
