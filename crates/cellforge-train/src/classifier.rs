//! Training a classifier.

use std::path::PathBuf;

use candle_core::Device;
use cellforge_classify::ClassifierConfig;
use cellforge_data::{Augment, Batch, Scale, View, epoch_order};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Best, State};
use crate::classifier_step::{ClassifierStep, LossKind, OptimizerConfig};
use crate::observers::{Checkpoints, Criterion, EarlyStop, Evaluate, JsonlLog, Patience, Progress, TensorBoard};
use crate::run::{self, Control};
use crate::{Error, FitPlan, Observer, Result, RunDir, Schedule, Slot, figures, fit, presets};

/// What the `state.json` of a classifier calls it.
pub(crate) const KIND: &str = "classifier";

/// A classifier's `state.json`.
pub type ClassifierState = State<ClassifierTrainConfig>;

/// Everything that decides what a classifier becomes. The default is the study's ResNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierTrainConfig {
    /// The network.
    pub model: ClassifierConfig,
    /// Passes over the training images.
    pub epochs: u64,
    /// Images in an update; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// The optimiser and its base learning rate.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// What is minimised.
    pub loss: LossKind,
    /// Whether to apply the network's own L2 penalties, as Keras does. Only SGD has them.
    pub l2: bool,
    /// Random changes to each training image; none if absent.
    pub augment: Option<Augment>,
    /// Everything random is drawn from this.
    pub seed: u64,
    /// End the run once so many epochs have not raised the accuracy on the validation images; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Updates between checkpoints inside an epoch; 0 for none but those at its end.
    pub checkpoint_every: u64,
    /// Updates between lines of the log.
    pub log_every: u64,
}

impl Default for ClassifierTrainConfig {
    fn default() -> Self {
        presets::resnet_study()
    }
}

impl ClassifierTrainConfig {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting, or the model's own error.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        if let Some(augment) = &self.augment {
            augment.validate()?;
        }
        run::check_counts(&[
            ("epochs", self.epochs),
            ("batch", self.batch as u64),
            ("log_every", self.log_every),
            ("patience", self.patience.unwrap_or(1)),
        ])?;
        run::check_rate("optimizer.lr", self.optimizer.lr())?;
        if let OptimizerConfig::Sgd { momentum, .. } = self.optimizer
            && !(0.0..1.0).contains(&momentum)
        {
            let reason = format!("{momentum} is out of range: from 0 to below 1");
            return Err(Error::Invalid { field: "optimizer.momentum", reason });
        }
        if self.l2 && matches!(self.optimizer, OptimizerConfig::Adam { .. }) {
            let reason = "is true, and only SGD has an L2 penalty here, not Adam".to_owned();
            return Err(Error::Invalid { field: "l2", reason });
        }
        if let Schedule::KerasDecay { decay } = self.schedule
            && !(decay.is_finite() && decay >= 0.0)
        {
            let reason = format!("{decay} is out of range: at least 0");
            return Err(Error::Invalid { field: "schedule.decay", reason });
        }
        Ok(())
    }
}

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
    config.validate()?;
    let (side, channels) = (config.model.image_size(), config.model.channels());
    run::check_images(train, side, channels)?;
    check_classes(&config.model, train)?;
    check_val(train, val)?;
    if config.patience.is_some() && val.is_empty() {
        return Err(Error::Invalid {
            field: "patience",
            reason: "needs validation images, and there are none".to_owned(),
        });
    }
    let epoch_len = train.len().div_ceil(config.batch) as u64;
    let mut step = ClassifierStep::new(config, epoch_len, &control.device)?;
    let data = run::data_fingerprint(&[train, val]);
    let fresh = State::new(KIND, config.seed, train.classes().to_vec(), data, config.clone());
    let run = dir.open(&mut step, fresh, &control.device)?;

    let best_by = Criterion::highest(figures::VAL_ACCURACY);
    let early = config.patience.map(|epochs| EarlyStop::new(best_by.clone(), Patience::Epochs(epochs)));
    let mut early = early.map(|early| early.since(run.state.best));
    let plan = FitPlan::new(&run.state.position, config.epochs * epoch_len, control);
    let plan = FitPlan { epoch_len: Some(epoch_len), ..plan };
    let mut evaluate = Evaluate::new(val.clone(), control.device.clone());
    let mut jsonl = JsonlLog::new(dir.log(), config.log_every, config.checkpoint_every);
    let mut board = TensorBoard::new(dir.tensorboard(), config.log_every);
    let mut checkpoints = Checkpoints::new(run, config.checkpoint_every, Some(best_by));
    let mut progress = Progress::new(match config.model {
        ClassifierConfig::Cnn(_) => "cnn",
        ClassifierConfig::Resnet(_) => "resnet",
    });
    let mut all: Vec<&mut dyn Observer<ClassifierStep>> = vec![&mut evaluate, &mut jsonl, &mut board, &mut checkpoints];
    if let Some(early) = &mut early {
        all.push(early);
    }
    if control.progress {
        all.push(&mut progress);
    }
    all.extend(observers.iter_mut().map(|own| &mut **own as &mut dyn Observer<ClassifierStep>));
    let outcome = fit(&mut step, batches(config, train, epoch_len, &control.device), plan, &mut all)?;

    let best = checkpoints.run().state.best;
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
    let kind = |view: &View| (view.side(), view.channels(), view.classes().to_vec());
    if val.is_empty() || kind(train) == kind(val) {
        return Ok(());
    }
    let reason = "are not of the size and the classes of the training images".to_owned();
    Err(Error::Invalid { field: "validation images", reason })
}

/// The batch of each iteration: its slice of the epoch's order, scaled to [0, 1], augmented if that is asked for.
fn batches(
    config: &ClassifierTrainConfig,
    train: &View,
    epoch_len: u64,
    device: &Device,
) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (train, device) = (train.clone(), device.clone());
    let all: Vec<usize> = (0..train.len()).collect();
    let (seed, b, augment) = (config.seed, config.batch, config.augment.clone());
    let mut shuffled: Option<(u64, Vec<usize>)> = None;
    move |iteration| {
        let epoch = (iteration - 1) / epoch_len;
        let order = match shuffled.take() {
            Some((at, order)) if at == epoch => order,
            _ => epoch_order(&all, seed, epoch),
        };
        let start = ((iteration - 1) % epoch_len) as usize * b;
        let chosen = &order[start..(start + b).min(order.len())];
        let augment = augment.as_ref().map(|augment| (augment, seed, epoch));
        let batch = Batch::gather(&train, chosen, Scale::Unit, augment, &device)?;
        shuffled = Some((epoch, order));
        Ok(batch)
    }
}
