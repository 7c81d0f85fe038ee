//! The one training loop. What is trained is a [`Step`]; everything else that happens is an [`Observer`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::ranks::flags;
use crate::{Control, Error, Ranks, Result};

/// Named losses and other figures of one step, in order. Names of this crate's steps are in
/// [`losses`](crate::losses).
pub type Losses = Vec<(&'static str, f32)>;

/// One kind of training: how a batch changes the weights.
pub trait Step {
    /// What one update consumes; made on a background thread.
    type Batch: Send + 'static;

    /// Applies update number `iteration` (counted from 1). Whatever is random in it must be a function of the seed and of
    /// `iteration`, so that a resumed run repeats it. Its losses are for [`Step::losses`] to read: to read them here holds up a GPU, and
    /// is for what the next update depends on.
    fn update(&mut self, batch: &Self::Batch, iteration: u64) -> Result<()>;

    /// The losses of the updates since this was last asked, one for each, in their order. Waits for a GPU to have computed them.
    fn losses(&mut self) -> Result<Vec<Losses>>;

    /// An update and its losses.
    ///
    /// # Errors
    /// Those of [`Step::update`] and [`Step::losses`].
    fn step(&mut self, batch: &Self::Batch, iteration: u64) -> Result<Losses> {
        self.update(batch, iteration)?;
        Ok(self.losses()?.pop().unwrap_or_default())
    }

    /// Everything a later [`Step::restore`] needs. To be taken when all losses were read. The tensors may share memory with the live
    /// weights: write them out before the next step.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Puts weights and optimizer back to what [`Step::snapshot`] held.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// Weights and optimizer state by file stem (`weights`, `optimiser`, ...), then by tensor name.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// One safetensors file for each entry.
    pub files: BTreeMap<String, BTreeMap<String, Tensor>>,
}

impl Snapshot {
    /// The files of these stems ([`checkpoint`](crate::checkpoint) has constants for the usual ones).
    #[must_use]
    pub fn new<const N: usize>(files: [(&str, BTreeMap<String, Tensor>); N]) -> Self {
        Self { files: files.into_iter().map(|(stem, tensors)| (stem.to_owned(), tensors)).collect() }
    }

    /// The tensors of one file.
    ///
    /// # Errors
    /// If the snapshot has no such file.
    pub fn file(&self, stem: &str) -> Result<&BTreeMap<String, Tensor>> {
        let missing = || candle_core::Error::msg(format!("the checkpoint has no {stem}.safetensors")).into();
        self.files.get(stem).ok_or_else(missing)
    }
}

/// Where a run stands: what the loop itself must remember to go on as if it had never stopped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Updates done.
    pub iteration: u64,
    /// Whole epochs done; stays 0 where a run has no epochs.
    pub epoch: u64,
    /// Sums of the losses over the steps of the epoch under way.
    pub epoch_sums: BTreeMap<String, f64>,
}

impl Position {
    fn add(&mut self, losses: &Losses) {
        for (name, value) in losses {
            *self.epoch_sums.entry((*name).to_owned()).or_default() += f64::from(*value);
        }
    }

    /// Ends the epoch and returns each loss's mean over its steps.
    fn finish_epoch(&mut self, losses: &Losses, steps: u64) -> Losses {
        self.epoch += 1;
        let sums = std::mem::take(&mut self.epoch_sums);
        losses.iter().map(|(name, _)| (*name, (sums[*name] / steps as f64) as f32)).collect()
    }
}

/// How far to train and from where.
#[derive(Debug, Clone)]
pub struct FitPlan<'a> {
    /// Where to start: `Position::default()` for a fresh run, the checkpoint's for a resumed one.
    pub start: Position,
    /// Updates in the whole run, those before `start` included.
    pub total: u64,
    /// Updates in an epoch; `None` where the run has no epochs.
    pub epoch_len: Option<u64>,
    /// Batches made ahead of the step that uses them.
    pub prefetch: usize,
    /// Steps after which the losses are read, at the latest: reading them after every step would keep a GPU waiting. What comes of a run
    /// does not depend on it.
    pub read_every: u64,
    /// Once true, the step under way is finished and the loop stops.
    pub stop: &'a AtomicBool,
    /// The ranks that train together. Each has a step and batches of its own; observers belong to rank 0.
    pub ranks: Ranks,
}

/// When, among the observers of a step or epoch, one is asked. Each phase sees what those before it added: figures that are measured
/// reach the log, and a checkpoint is written when its step is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Looks at the weights and adds figures or images to the event.
    Measure,
    /// Writes losses, figures and images down.
    Record,
    /// Writes checkpoints, and ends the run ([`Event::end`]).
    Save,
    /// Shows how far the run is, when all else is done.
    Show,
}

impl<'a> FitPlan<'a> {
    /// A run without epochs from `start` to `total` updates, driven by `control`.
    #[must_use]
    pub fn new(start: &Position, total: u64, control: &'a Control) -> Self {
        // Losses are read at once where that costs nothing, and else seldom enough that a GPU is not kept waiting.
        let read_every = if control.device.is_cpu() { 1 } else { 10 };
        let ranks = control.ranks.clone();
        Self { start: start.clone(), total, epoch_len: None, prefetch: 4, read_every, stop: &control.stop, ranks }
    }
}

/// What observers get after a step or an epoch.
#[derive(Debug)]
pub struct Event<'a> {
    /// Where the run stands after this step or epoch.
    pub position: &'a Position,
    /// Updates in the whole run.
    pub total: u64,
    /// True in `on_step` when `on_epoch` follows at once.
    pub ends_epoch: bool,
    /// The step's losses, or in `on_epoch` their means over the epoch's steps.
    pub losses: Losses,
    /// What observers found out about this step or epoch, by name; those of [`Phase::Measure`] append. A step with figures is logged
    /// whenever it comes. Names of this crate's observers are in [`figures`](crate::figures).
    pub figures: Vec<(String, f32)>,
    /// Images to show, by tag; observers of [`Phase::Measure`] append.
    pub images: Vec<(String, RgbImage)>,
    /// An observer sets it to end the run here, as complete.
    pub end: bool,
}

impl Event<'_> {
    /// The losses by name, and after them the figures.
    pub fn values(&self) -> impl Iterator<Item = (&str, f32)> {
        let losses = self.losses.iter().map(|(name, value)| (*name, *value));
        losses.chain(self.figures.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    /// The figure of this name, if an observer added it.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f32> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where it stands.
    pub position: Position,
    /// True if the stop flag ended it before its last update.
    pub interrupted: bool,
}

/// Something that watches a run: a log, a progress bar, a checkpoint writer.
pub trait Observer<S: Step> {
    /// When it is asked, among the observers of the same step; those of one phase are asked in the order given to [`fit`].
    fn phase(&self) -> Phase;

    /// Whether [`Observer::on_step`] has to come right after the step `iteration` of `total`, with the weights as that step left them.
    /// It need not for an observer that only takes note of losses and figures: it then gets several steps at once, in their order. One
    /// that looks at the weights, adds figures or ends the run has to.
    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        true
    }

    /// Whether a run that stands at `position` is complete, so that resuming it does nothing. For an observer that ends runs.
    fn is_over(&self, _position: &Position) -> bool {
        false
    }

    /// Before the first step, with the position to start from and the number of updates in the whole run. It comes again where a guarded
    /// run goes back to an earlier position.
    fn on_start(&mut self, _step: &mut S, _start: &Position, _total: u64) -> Result<()> {
        Ok(())
    }

    /// After every step, though not always at once: see [`Observer::wants`].
    fn on_step(&mut self, _step: &mut S, _event: &mut Event<'_>) -> Result<()> {
        Ok(())
    }

    /// After the last step of every epoch, following its `on_step`.
    fn on_epoch(&mut self, _step: &mut S, _event: &mut Event<'_>) -> Result<()> {
        Ok(())
    }

    /// Once, when the run is complete or was asked to stop; not when it failed.
    fn on_stop(&mut self, _step: &mut S, _outcome: &Outcome) -> Result<()> {
        Ok(())
    }
}

/// Trains `step` from `plan.start` to `plan.total`. `make(iteration)` makes the batch of update `iteration` (counted
/// from 1) on a background thread, in order. Observers are asked phase by phase ([`Observer::phase`]).
///
/// Over ranks, all stop at the same step once one of them is asked to, and end where an observer of rank 0 ends the run.
///
/// # Errors
/// What a batch, a step or an observer fails with; [`Error::Diverged`] when a loss is read that is not finite, before any
/// observer could save what produced it; [`Error::Rank`] where another rank failed.
pub fn fit<S, F>(step: &mut S, make: F, plan: FitPlan<'_>, observers: &mut [&mut dyn Observer<S>]) -> Result<Outcome>
where
    S: Step,
    F: FnMut(u64) -> Result<S::Batch> + Send + 'static,
{
    let FitPlan { start: mut position, total, epoch_len, prefetch, read_every, stop, ranks } = plan;
    observers.sort_by_key(|observer| observer.phase());
    for observer in observers.iter_mut() {
        observer.on_start(step, &position, total)?;
    }
    let stopped = || stop.load(Ordering::Relaxed);
    // What any rank has to say of the end: that it was asked to stop, or that an observer ended the run.
    let end_of_all = |ended: bool| -> Result<(bool, bool)> {
        let own = (u64::from(ended) * flags::END) | (u64::from(stopped()) * flags::STOP);
        let any = ranks.any(own)?;
        Ok((any & flags::END != 0, any & flags::STOP != 0))
    };
    let first = position.iteration + 1;
    let (mut ended, stops) = end_of_all(observers.iter().any(|observer| observer.is_over(&position)))?;
    let mut unread = 0;
    if position.iteration < total && !ended && !stops {
        let batches = cellforge_data::prefetch(first..total + 1, prefetch, make);
        for (last, batch) in (first..=total).zip(batches) {
            step.update(&batch?, last)?;
            unread += 1;
            let epoch_end = epoch_len.filter(|steps| last % steps == 0);
            let wanted = || observers.iter().any(|observer| observer.wants(last, total));
            let due = unread >= read_every || last == total || epoch_end.is_some();
            if !due && ranks.any(u64::from(stopped() || wanted()) * flags::READ)? == 0 {
                continue;
            }
            let losses_read = step.losses()?;
            if losses_read.len() as u64 != unread {
                let reason = format!("the step gave the losses of {} updates, not of {unread}", losses_read.len());
                return Err(candle_core::Error::msg(reason).into());
            }
            for (iteration, losses) in (last + 1 - unread..).zip(losses_read) {
                if let Some((name, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
                    return Err(Error::Diverged { name: (*name).to_owned(), value: *value, iteration });
                }
                position.iteration = iteration;
                if epoch_len.is_some() {
                    position.add(&losses);
                }
                let epoch_end = epoch_end.filter(|_| iteration == last);
                let mut event = Event {
                    position: &position,
                    total,
                    ends_epoch: epoch_end.is_some(),
                    losses: losses.clone(),
                    figures: vec![],
                    images: vec![],
                    end: ended,
                };
                for observer in observers.iter_mut() {
                    observer.on_step(step, &mut event)?;
                }
                ended = event.end;
                if let Some(steps) = epoch_end {
                    let means = position.finish_epoch(&losses, steps);
                    let (ends_epoch, figures, images, end) = (true, vec![], vec![], ended);
                    let mut event =
                        Event { position: &position, total, ends_epoch, losses: means, figures, images, end };
                    for observer in observers.iter_mut() {
                        observer.on_epoch(step, &mut event)?;
                    }
                    ended = event.end;
                }
            }
            unread = 0;
            let stops;
            (ended, stops) = end_of_all(ended)?;
            if ended || stops {
                break;
            }
        }
    }
    let interrupted = position.iteration < total && !ended;
    let outcome = Outcome { position, interrupted };
    for observer in observers.iter_mut() {
        observer.on_stop(step, &outcome)?;
    }
    Ok(outcome)
}
