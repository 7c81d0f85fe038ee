//! Training a GAN on the images of one class.

use std::path::PathBuf;

use candle_core::Device;
use cellforge_data::{Batch, Scale, View, balanced_draw, replacement_draw};
use cellforge_gan::loss::GanLoss;
use cellforge_gan::{AugmentConfig, DiscriminatorKind, GanConfig};
use cellforge_nn::Key;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Best, State};
use crate::gan_step::GanStep;
use crate::guard::{Guard, GuardConfig};
use crate::observers::{
    Checkpoints, Criterion, JsonlLog, Judge, Monitor, MonitorConfig, Progress, SampleGrids, TensorBoard,
};
use crate::run::{self, Control};
use crate::{Error, FitPlan, Observer, Result, RunDir, Slot, figures, fit, schedule};

/// What the `state.json` of a GAN calls it.
pub(crate) const KIND: &str = "gan";

/// A GAN's `state.json`.
pub type GanState = State<GanTrainConfig>;

impl GanState {
    /// The number of `class` and how many there are, for a GAN of several classes; `None` where one class needs no number.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the GAN is not of this class.
    pub(crate) fn label(&self, class: &str) -> Result<Option<(u32, usize)>> {
        match self.classes.iter().position(|known| known == class) {
            Some(_) if self.config.model.classes == 1 => Ok(None),
            Some(at) => Ok(Some((at as u32, self.config.model.classes))),
            None => {
                let reason = format!("{class:?} is none that the GAN makes: it has {}", self.classes.join(", "));
                Err(Error::Invalid { field: "class", reason })
            }
        }
    }
}

/// Everything that decides what a GAN becomes. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanTrainConfig {
    /// The networks.
    pub model: GanConfig,
    /// Updates of each network (the discriminator's two count as one). The study calls them epochs.
    pub iterations: u64,
    /// Real images, and fake ones, in an update.
    pub batch: usize,
    /// Adam's learning rate, for both networks unless `discriminator_lr` is given.
    pub lr: f64,
    /// Adam's learning rate for the discriminator (two time-scale updates, Heusel et al. 2017).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discriminator_lr: Option<f64>,
    /// Share of the iterations, at the end of the training, over which both learning rates fall in a straight line to 0; 0 is none. The
    /// networks of a GAN circle where they would meet, the wider the larger the rates.
    #[serde(skip_serializing_if = "is_default")]
    pub cooldown: f64,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// What the networks are paid for.
    #[serde(skip_serializing_if = "is_default")]
    pub loss: GanLoss,
    /// Whether the discriminator learns of real and generated images in one update, and not, as in the study, in one after the other.
    /// The relativistic loss and the penalties need it.
    #[serde(skip_serializing_if = "is_default")]
    pub joint: bool,
    /// What the logistic loss's target of real images lacks to 1 (one-sided label smoothing, Salimans et al. 2016), in `[0, 0.5]`.
    #[serde(skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// Weight of the penalty on the discriminator's gradient at real images, R1 (Mescheder et al. 2018): half of this times the mean
    /// squared gradient is added to its loss. 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub r1: f64,
    /// The same at generated images, R2.
    #[serde(skip_serializing_if = "is_default")]
    pub r2: f64,
    /// The penalties are taken at every so many iterations, and then count so many times (lazy regularisation, Karras et al. 2020).
    #[serde(skip_serializing_if = "is_one")]
    pub penalty_every: u64,
    /// Whether real images are shown in any of eight orientations, mirrored and turned by right angles: right for images, which lie in any
    /// direction. It makes eight of each, and the generator learns to make all of them; with the flips of `augment`, which both kinds of
    /// images go through, it need not.
    #[serde(skip_serializing_if = "is_default")]
    pub any_orientation: bool,
    /// How images are changed before either network sees them.
    #[serde(skip_serializing_if = "is_default")]
    pub augment: AugmentConfig,
    /// Decay of the moving average of the generator's weights over its updates, below 1; 0 is none. The average is what is saved as
    /// `weights`, sampled and judged. It follows faster in the beginning: after `n` updates by `(1 + n) / (10 + n)` at most.
    #[serde(skip_serializing_if = "is_default")]
    pub average: f64,
    /// Parts in which a batch goes through the networks, their gradients being averaged: less memory, the same update but for batch
    /// norm, whose statistics are of one part.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: u64,
    /// Everything random is drawn from this and the class.
    pub seed: u64,
    /// Name of the class; separates the noise of GANs that share a seed. Empty for a GAN of several classes.
    pub class: String,
    /// Iterations after which a sample grid is drawn.
    pub grid_at: Vec<u64>,
    /// Images in a sample grid.
    pub grid_images: usize,
    /// Iterations between checkpoints; 0 for one at the end only.
    pub checkpoint_every: u64,
    /// Iterations between lines of the log.
    pub log_every: u64,
    /// When and on how many images the generator is judged as it trains, where there is a [`Judge`].
    #[serde(skip_serializing_if = "is_default")]
    pub monitor: MonitorConfig,
    /// What counts as training that went wrong, and how it goes on then. Without a guard, a loss that is not finite ends the run, and
    /// nothing else does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardConfig>,
}

impl Default for GanTrainConfig {
    fn default() -> Self {
        Self {
            model: GanConfig::default(),
            iterations: 15_000,
            batch: 32,
            lr: 1.5e-4,
            discriminator_lr: None,
            cooldown: 0.0,
            beta1: 0.5,
            beta2: 0.999,
            loss: GanLoss::Logistic,
            joint: false,
            label_smoothing: 0.0,
            r1: 0.0,
            r2: 0.0,
            penalty_every: 1,
            any_orientation: false,
            augment: AugmentConfig::default(),
            average: 0.0,
            accumulate: 1,
            seed: 0,
            class: String::new(),
            grid_at: vec![1, 5_000, 10_000, 15_000],
            grid_images: 16,
            checkpoint_every: 500,
            log_every: 10,
            monitor: MonitorConfig::default(),
            guard: None,
        }
    }
}

impl GanTrainConfig {
    /// What the learning rates are multiplied by in iteration `iteration`, counted from 1: in `(0, 1]`, by [`Self::cooldown`].
    #[must_use]
    pub fn rate(&self, iteration: u64) -> f64 {
        schedule::decay(self.cooldown, self.iterations, iteration)
    }

    /// The key all of the run's randomness is derived from.
    pub(crate) fn key(&self) -> Key {
        Key::new(self.seed).with("gan").with(&self.class)
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting, or the model's own error.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        let at_least_one = [
            ("iterations", self.iterations),
            ("batch", self.batch as u64),
            ("grid_images", self.grid_images as u64),
            ("log_every", self.log_every),
            ("penalty_every", self.penalty_every),
            ("accumulate", self.accumulate),
        ];
        run::check_counts(&at_least_one)?;
        run::check_rate("lr", self.lr)?;
        run::check_rate("discriminator_lr", self.discriminator_lr.unwrap_or(self.lr))?;
        self.augment.validate()?;
        self.monitor.validate()?;
        if let Some(guard) = &self.guard {
            guard.validate()?;
        }
        let invalid = |field, reason: String| Err(Error::Invalid { field, reason });
        for (field, weight) in [("r1", self.r1), ("r2", self.r2)] {
            if !(weight.is_finite() && weight >= 0.0) {
                return invalid(field, format!("{weight} is out of range: 0 or more"));
            }
            if weight > 0.0 && self.model.discriminator == DiscriminatorKind::Study {
                return invalid(
                    field,
                    format!("{weight}, but the study's discriminator has no such penalty: take the residual one"),
                );
            }
            if weight > 0.0 && !self.joint {
                return invalid(
                    field,
                    format!("{weight}, but real and generated images are in separate updates, and `joint` is false"),
                );
            }
        }
        if self.loss == GanLoss::Relativistic && !self.joint {
            return invalid(
                "loss",
                "the relativistic one is of real and generated images together, and `joint` is false".to_owned(),
            );
        }
        if !(0.0..=0.5).contains(&self.label_smoothing) {
            return invalid("label_smoothing", format!("{} is out of range: from 0 to 0.5", self.label_smoothing));
        }
        if self.label_smoothing > 0.0 && self.loss != GanLoss::Logistic {
            return invalid("label_smoothing", "only the logistic loss has targets to smooth".to_owned());
        }
        if !(0.0..=1.0).contains(&self.cooldown) {
            return invalid("cooldown", format!("{} is out of range: from 0 to 1", self.cooldown));
        }
        if !(0.0..1.0).contains(&self.average) {
            return invalid("average", format!("{} is out of range: from 0 to below 1", self.average));
        }
        if !(self.batch as u64).is_multiple_of(self.accumulate) {
            return invalid(
                "accumulate",
                format!("{} parts of a batch of {} are not of one size", self.accumulate, self.batch),
            );
        }
        for (field, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::Invalid { field, reason: format!("{beta} is out of range: from 0 to below 1") });
            }
        }
        Ok(())
    }
}

/// What [`train_gan`] leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct GanOutcome {
    /// Iterations done in all, those before a resume included.
    pub iterations: u64,
    /// True if the stop flag ended the run early; resume to go on.
    pub interrupted: bool,
    /// The lowest mean `fd` that the monitor found, and where, if the generator was judged.
    pub best: Option<Best>,
    /// How often the guard went back.
    pub rollbacks: usize,
    /// The checkpoint folder to use: that of the lowest `fd`, or the last where the generator was not judged.
    pub checkpoint: PathBuf,
    /// Sample grids on disk: iteration and PNG file.
    pub grids: Vec<(u64, PathBuf)>,
    /// The log; read it with [`crate::read_log`].
    pub log: PathBuf,
}

/// Trains a GAN on `images` (those of one class, or of all if the model is of as many classes as they are) into the folder `dir`:
/// `last/` (the checkpoint), `log.jsonl`, `grids/grid-00005000.png`, ... and `tensorboard/`. Nothing judges it as it trains, whatever
/// `config.monitor` says. `observers` watch it beside its own, each in its phase.
///
/// A GAN of one class without a name in `config.class` gets that of the images, where they are of one class alone: `View::class` makes
/// such a view.
///
/// # Errors
/// [`Error::Busy`] if another process is at work in the folder, [`Error::Occupied`] if it already holds a run and is opened for a new
/// one, [`Error::Mismatch`] if the run to resume was started with other settings or images, [`Error::Invalid`] for settings out of range,
/// [`Error::Diverged`] if a loss is no longer finite, or with `config.guard` [`Error::Unstable`] if one is not even after the last return
/// to an earlier checkpoint; what an observer fails with.
pub fn train_gan(
    config: &GanTrainConfig,
    images: &View,
    dir: &RunDir,
    control: &Control,
    observers: &mut [&mut dyn Observer<GanStep>],
) -> Result<GanOutcome> {
    train_judged_gan(config, images, None, dir, control, observers)
}

/// [`train_gan`] with a judge, whose figures of the generator (see [`Monitor`]) are in the log after each `config.monitor.every`
/// iterations. The generator whose mean `fd` is the lowest is kept in `best/`, beside `last/` that a run is resumed from.
///
/// # Errors
/// As [`train_gan`]; [`Error::Invalid`] too if the judge does not fit the GAN, as at [`Monitor::new`].
pub fn train_judged_gan(
    config: &GanTrainConfig,
    images: &View,
    judge: Option<&Judge>,
    dir: &RunDir,
    control: &Control,
    observers: &mut [&mut dyn Observer<GanStep>],
) -> Result<GanOutcome> {
    let named;
    let config = match images.classes() {
        [class] if config.class.is_empty() && config.model.classes == 1 => {
            named = GanTrainConfig { class: class.clone(), ..config.clone() };
            &named
        }
        _ => config,
    };
    config.validate()?;
    run::check_images(images, config.model.image_size, config.model.channels)?;
    let classes = check_classes(config, images)?;
    let judge = judge.filter(|_| config.monitor.every > 0);
    let mut monitor = judge.map(|judge| Monitor::new(config, judge, &control.device)).transpose()?;
    if monitor.is_none() && config.monitor.every > 0 {
        tracing::info!("no judge was named: the generator is not judged as it trains");
    }
    let mut step = GanStep::new(config, &control.device)?;
    let data = run::data_fingerprint(&[images]);
    let fresh =
        State { judge: judge.map(Judge::fingerprint), ..State::new(KIND, config.seed, classes, data, config.clone()) };
    let run = dir.open(&mut step, fresh, &control.device)?;
    step.scale_rates(run.state.guard.rate());

    let noise = config.key().with("grid").normal((config.grid_images, config.model.latent), &control.device)?;
    let columns = (config.grid_images as f64).sqrt().ceil() as usize;
    let mut grids = SampleGrids::new(dir, config.grid_at.clone(), noise, config.model.classes, columns);
    let mut jsonl = JsonlLog::new(dir.log(), config.log_every, config.checkpoint_every);
    let mut board = TensorBoard::new(dir.tensorboard(), config.log_every);
    let best_by = monitor.is_some().then_some(Criterion::lowest(figures::FD));
    let mut guard = Guard::new(config.guard.clone(), Checkpoints::new(run, config.checkpoint_every, best_by));
    let mut progress = Progress::new(format!("gan {}", config.class).trim_end());
    // Once, and again after each return to an earlier iteration.
    let outcome = loop {
        let plan = FitPlan::new(&guard.state().position, config.iterations, control);
        jsonl.went_back(guard.state().guard.line());
        let mut all: Vec<&mut dyn Observer<GanStep>> = vec![&mut grids, &mut jsonl, &mut board, &mut guard];
        if let Some(monitor) = &mut monitor {
            all.push(monitor);
        }
        if control.progress {
            all.push(&mut progress);
        }
        all.extend(observers.iter_mut().map(|own| &mut **own as &mut dyn Observer<GanStep>));
        match fit(&mut step, batches(config, images, &control.device), plan, &mut all) {
            Ok(outcome) => break outcome,
            Err(error) => guard.roll_back(&mut step, error, &control.device)?,
        }
    };

    let best = guard.state().best;
    let grid = |iteration: &u64| (*iteration, dir.grid(*iteration));
    Ok(GanOutcome {
        iterations: outcome.position.iteration,
        interrupted: outcome.interrupted,
        best,
        rollbacks: guard.state().guard.rollbacks.len(),
        checkpoint: dir.slot(if best.is_some() { Slot::Best } else { Slot::Last }),
        grids: config.grid_at.iter().map(grid).filter(|(_, path)| path.is_file()).collect(),
        log: dir.log(),
    })
}

/// The names of the classes the GAN makes images of.
fn check_classes(config: &GanTrainConfig, images: &View) -> Result<Vec<String>> {
    let of = config.model.classes;
    if of == 1 {
        return Ok(vec![config.class.clone()]);
    }
    let invalid = |field, reason| Err(Error::Invalid { field, reason });
    let known = images.classes();
    if of != known.len() {
        return invalid("classes", format!("the model is of {of}, the images are of {}", known.join(", ")));
    }
    match images.class_counts().iter().position(|&count| count == 0) {
        Some(class) => invalid("images", format!("none of class {} to train on", known[class])),
        None => Ok(known.to_vec()),
    }
}

/// The batch of each iteration: reals drawn with replacement, scaled to [-1, 1]. A GAN of several classes sees as many of each, whatever
/// their share of the images.
fn batches(config: &GanTrainConfig, images: &View, device: &Device) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (images, device) = (images.clone(), device.clone());
    let (seed, b, of) = (config.seed, config.batch, config.model.classes);
    let all: Vec<usize> = (0..images.len()).collect();
    let classes: Vec<Vec<usize>> = (0..of as u32).map(|class| images.class_indices(class)).collect();
    move |iteration| {
        let drawn = match of {
            1 => replacement_draw(&all, seed, iteration, b),
            _ => balanced_draw(&classes, seed, iteration, b),
        };
        Ok(Batch::gather(&images, &drawn, Scale::SignedUnit, None, &device)?)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(value: &u64) -> bool {
    *value == 1
}
