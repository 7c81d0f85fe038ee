//! Training a GAN on the images of one class.

use std::path::PathBuf;

use candle_core::Device;
use cellforge_data::{Batch, Scale, View, balanced_draw, replacement_draw};
use serde::{Deserialize, Serialize};

use crate::GanTrainConfig;
use crate::checkpoint::{Best, State};
use crate::gan_start::Start;
use crate::gan_step::GanStep;
use crate::guard::Guard;
use crate::observers::{Checkpoints, Criterion, JsonlLog, Judge, Monitor, Progress, SampleGrids, TensorBoard};
use crate::ranks::{OwnRows, begin_together};
use crate::run::{self, Control};
use crate::upright::check_upright;
use crate::{Dihedral, Error, FitPlan, Observer, Position, Ranks, Result, RunDir, SeenImages, Slot, figures, fit};

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
/// Over ranks ([`Control::ranks`]) every rank calls this with the same settings and images, and the parts of a batch
/// (`config.accumulation_steps`) are shared among them. Rank 0 alone opens the folder, asks observers and judges; what others return says
/// where the run ended, and neither `best` nor `grids` nor `rollbacks`.
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
    let ranks = &control.ranks;
    run::check_parts("gan.accumulation_steps", config.accumulation_steps, ranks)?;
    run::check_images(images, config.model.image_size, config.model.channels)?;
    let classes = check_classes(config, images)?;
    let judge = judge.filter(|_| config.monitor.every > 0 && ranks.is_root());
    let mut monitor = judge.map(|judge| Monitor::new(config, judge, &control.device)).transpose()?;
    if monitor.is_none() && config.monitor.every > 0 && ranks.is_root() {
        tracing::info!("no judge was named: the generator is not judged as it trains");
    }
    let starts = ranks.is_root() && !dir.resumes();
    let start = match &config.from {
        // What it has become since is in the checkpoint.
        Some(from) if starts => Some(Start::open(from, config, &control.device)?),
        _ => None,
    };
    let mut step = GanStep::new(config, &control.device)?.over(ranks.clone());
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
    // The folder is rank 0's. The others get from it what it begins with.
    let (run, begins) = if ranks.is_root() {
        let mut run = dir.open_of_length(&mut step, fresh, &control.device, &GanTrainConfig::lengthen)?;
        if config.dihedral == Dihedral::Auto {
            if run.state.upright.is_none() {
                run.state.upright = check_upright(images, config.seed, &control.alone())?;
            }
            run.state.upright.iter().for_each(|found| tracing::info!("{found}"));
        }
        let begins = Begins::of(&run.state);
        (Some(run), begins)
    } else {
        (None, Begins::default())
    };
    let mut begins = begin_together(ranks, &mut step, begins, &control.device)?;
    if config.dihedral == Dihedral::Auto {
        let Some(any_direction) = begins.any_direction else { return Ok(GanOutcome::stopped(dir)) };
        step.set_dihedral(any_direction);
    }
    step.scale_rates(begins.rate);

    let noise = config.key().with("grid").normal((config.grid_images, config.model.latent), &control.device)?;
    let columns = (config.grid_images as f64).sqrt().ceil() as usize;
    let mut grids = SampleGrids::new(dir, config.grids(), noise, config.model.classes, columns);
    let mut jsonl = JsonlLog::new(dir.log(), config.log_every, config.checkpoint_every);
    let mut board = TensorBoard::new(dir.tensorboard(), config.log_every);
    let best_by = monitor.is_some().then_some(Criterion::lowest(figures::FD));
    let mut guard =
        run.map(|run| Guard::new(config.guard.clone(), Checkpoints::new(run, config.checkpoint_every, best_by)));
    let mut progress = Progress::new(format!("gan {}", config.class).trim_end());
    // Once, and again after each return to an earlier iteration.
    let outcome = loop {
        let plan = FitPlan::new(&begins.position, config.iterations, control);
        let mut all: Vec<&mut dyn Observer<GanStep>> = Vec::new();
        if let Some(guard) = &mut guard {
            jsonl.went_back(guard.state().guard.line());
            all.push(&mut grids);
            all.push(&mut jsonl);
            all.push(&mut board);
            all.push(guard);
            if let Some(monitor) = &mut monitor {
                all.push(monitor);
            }
            if control.progress {
                all.push(&mut progress);
            }
            all.extend(observers.iter_mut().map(|own| &mut **own as &mut dyn Observer<GanStep>));
        }
        let error = match fit(&mut step, batches(config, images, ranks, &control.device), plan, &mut all) {
            Ok(outcome) => break outcome,
            Err(error) => error,
        };
        begins = match &mut guard {
            Some(guard) => {
                guard.roll_back(&mut step, error, &control.device)?;
                ranks.went_back()?;
                Begins::of(guard.state())
            }
            None => {
                wait_for_root(ranks, error)?;
                begins
            }
        };
        begins = begin_together(ranks, &mut step, begins, &control.device)?;
        step.scale_rates(begins.rate);
    };

    let state = guard.as_ref().map(Guard::state);
    let best = state.and_then(|state| state.best);
    let grid = |iteration: &u64| (*iteration, dir.grid(*iteration));
    Ok(GanOutcome {
        iterations: outcome.position.iteration,
        interrupted: outcome.interrupted,
        best,
        rollbacks: state.map_or(0, |state| state.guard.rollbacks.len()),
        checkpoint: dir.slot(if best.is_some() { Slot::Best } else { Slot::Last }),
        grids: config.grids().iter().map(grid).filter(|(_, path)| ranks.is_root() && path.is_file()).collect(),
        log: dir.log(),
    })
}

/// What ranks begin with, besides weights.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Begins {
    position: Position,
    /// What the guard has the learning rates multiplied by.
    rate: f64,
    /// Whether images lie in any direction, where that was to be found; none too if it was stopped before.
    any_direction: Option<bool>,
}

impl Begins {
    fn of(state: &GanState) -> Self {
        Self {
            position: state.position.clone(),
            rate: state.guard.rate(),
            any_direction: state.upright.as_ref().map(|found| found.any_direction),
        }
    }
}

/// After `error`, which ended the run on a rank that is not the root: returns where rank 0 has gone back, and the others are to follow.
fn wait_for_root(ranks: &Ranks, error: Error) -> Result<()> {
    match error {
        Error::WentBack => Ok(()),
        // Every rank has found it, and rank 0 decides.
        Error::Diverged { .. } => match ranks.any(0) {
            Err(Error::WentBack) => Ok(()),
            Err(other) => Err(other),
            Ok(_) => Err(error),
        },
        other => Err(other),
    }
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
/// their share of the images. Of these, each rank gathers its own.
fn batches(
    config: &GanTrainConfig,
    images: &View,
    ranks: &Ranks,
    device: &Device,
) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (images, device) = (images.clone(), device.clone());
    let own = OwnRows::new(ranks, config.accumulation_steps);
    let (seed, b, of) = (config.seed, config.batch, config.model.classes);
    let all: Vec<usize> = (0..images.len()).collect();
    let classes: Vec<Vec<usize>> = (0..of as u32).map(|class| images.class_indices(class)).collect();
    move |iteration| {
        let drawn = match of {
            1 => replacement_draw(&all, seed, iteration, b),
            _ => balanced_draw(&classes, seed, iteration, b),
        };
        own.gather(&images, &drawn, Scale::SignedUnit, None, &device)
    }
}
