//! Training a GAN on the images of one class.

use std::path::PathBuf;

use candle_core::Device;
use cellforge_data::{Batch, Scale, View, balanced_draw, replacement_draw};

use crate::GanTrainConfig;
use crate::checkpoint::{Best, State};
use crate::gan_start::Start;
use crate::gan_step::GanStep;
use crate::guard::Guard;
use crate::observers::{Checkpoints, Criterion, JsonlLog, Judge, Monitor, Progress, SampleGrids, TensorBoard};
use crate::run::{self, Control};
use crate::upright::check_upright;
use crate::{Dihedral, Error, FitPlan, Observer, Result, RunDir, SeenImages, Slot, figures, fit};

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

impl GanOutcome {
    /// That of a run which was stopped before its first iteration.
    fn stopped(dir: &RunDir) -> Self {
        Self {
            iterations: 0,
            interrupted: true,
            best: None,
            rollbacks: 0,
            checkpoint: dir.slot(Slot::Last),
            grids: Vec::new(),
            log: dir.log(),
        }
    }
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
    let mut own = config.clone();
    if let [class] = images.classes()
        && own.class.is_empty()
        && own.model.classes == 1
    {
        own.class.clone_from(class);
    }
    own.model.precision = control.precision_of_run(own.model.precision)?;
    let config = &own;
    config.validate()?;
    run::check_images(images, config.model.image_size, config.model.channels)?;
    let classes = check_classes(config, images)?;
    let judge = judge.filter(|_| config.monitor.every > 0);
    let mut monitor = judge.map(|judge| Monitor::new(config, judge, &control.device)).transpose()?;
    if monitor.is_none() && config.monitor.every > 0 {
        tracing::info!("no judge was named: the generator is not judged as it trains");
    }
    let resumes = dir.resumes();
    let start = match &config.from {
        // What it has become since is in the checkpoint.
        Some(from) if !resumes => Some(Start::open(from, config, &control.device)?),
        _ => None,
    };
    let mut step = GanStep::new(config, &control.device)?;
    if let Some(start) = &start {
        step.start_from(start, &classes)?;
    }
    let data = run::data_fingerprint(&[images]);
    let fresh = State {
        judge: judge.map(Judge::fingerprint),
        intensities: images.facts().intensities.clone(),
        started_from: start.as_ref().map(Start::record),
        seen: Some(SeenImages::new(images, &images.first(0)).and(start.as_ref().and_then(Start::seen))),
        fit: images.facts().used_fit(),
        ..State::new(KIND, config.seed, classes, data, config.clone())
    };
    let mut run = dir.open_of_length(&mut step, fresh, &control.device, &GanTrainConfig::lengthen)?;
    if config.dihedral == Dihedral::Auto {
        if run.state.upright.is_none() {
            run.state.upright = check_upright(images, config.seed, control)?;
        }
        let Some(found) = &run.state.upright else { return Ok(GanOutcome::stopped(dir)) };
        tracing::info!("{found}");
        step.set_dihedral(found.any_direction);
    }
    step.scale_rates(run.state.guard.rate());

    let noise = config.key().with("grid").normal((config.grid_images, config.model.latent), &control.device)?;
    let columns = (config.grid_images as f64).sqrt().ceil() as usize;
    let mut grids = SampleGrids::new(dir, config.grids(), noise, config.model.classes, columns);
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
        grids: config.grids().iter().map(grid).filter(|(_, path)| path.is_file()).collect(),
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
