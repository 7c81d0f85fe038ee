use std::path::PathBuf;

use candle_core::DType;
use serde::Serialize;

use crate::checkpoint::{self, Best, State};
use crate::{Error, Event, Observer, Outcome, Position, Result, Snapshot, Step};

/// By which figure, and in which direction, one moment of a run is better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criterion {
    /// The higher the figure of this name, the better.
    Highest(&'static str),
    /// The lower the figure of this name, the better.
    Lowest(&'static str),
}

impl Criterion {
    /// The event's figure, if it is finite and better than `best`.
    fn better(self, event: &Event<'_>, best: Option<Best>) -> Option<f32> {
        let (Self::Highest(name) | Self::Lowest(name)) = self;
        let value = event.figure(name).filter(|value| value.is_finite())?;
        let better = best.is_none_or(|best| match self {
            Self::Highest(_) => value > best.value,
            Self::Lowest(_) => value < best.value,
        });
        better.then_some(value)
    }
}

/// Writes the checkpoints `last` (every so many steps, after every epoch, and when the run stops) and, where there is
/// a figure to compare moments by, `best` (after the step or epoch that has the figure).
#[derive(Debug)]
pub struct Checkpoints<C> {
    dir: PathBuf,
    every: u64,
    best_by: Option<Criterion>,
    state: State<C>,
    saved: Option<u64>,
}

impl<C: Serialize + Clone> Checkpoints<C> {
    /// Writes under `dir`. `every` counts steps, 0 for none between epochs; `best_by` says which
    /// of the figures that observers add is the best; `state` is that of a fresh run or of the checkpoint that is resumed.
    pub fn new(dir: impl Into<PathBuf>, every: u64, best_by: Option<Criterion>, state: State<C>) -> Self {
        Self { dir: dir.into(), every, best_by, state, saved: None }
    }

    /// The state as last written.
    pub fn state(&self) -> &State<C> {
        &self.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut State<C> {
        &mut self.state
    }

    /// Goes on from `state`, to which `step` was put back, and writes it as `last`.
    pub(crate) fn go_back<S: Step>(&mut self, step: &S, state: State<C>) -> Result<()> {
        self.state = state;
        self.save_last(step)
    }

    fn save<S: Step>(&mut self, step: &S, name: &str) -> Result<()> {
        let snapshot = step.snapshot()?;
        check_finite(&snapshot, self.state.position.iteration)?;
        checkpoint::write(&self.dir, name, &snapshot, &self.state)
    }

    fn save_if_best<S: Step>(&mut self, step: &S, event: &Event<'_>) -> Result<()> {
        let Some(value) = self.best_by.and_then(|by| by.better(event, self.state.best)) else { return Ok(()) };
        let Position { iteration, epoch, .. } = *event.position;
        self.state.position = event.position.clone();
        let before = self.state.best.replace(Best { value, epoch, iteration });
        let saved = self.save(step, "best");
        if saved.is_err() {
            self.state.best = before;
        }
        saved
    }

    fn save_last<S: Step>(&mut self, step: &S) -> Result<()> {
        self.save(step, "last")?;
        self.saved = Some(self.state.position.iteration);
        Ok(())
    }
}

/// A step can leave weights that are not finite behind a loss that was: such a checkpoint would be good for nothing.
pub(crate) fn check_finite(snapshot: &Snapshot, iteration: u64) -> Result<()> {
    for (file, tensors) in &snapshot.files {
        for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.dtype() == DType::F32) {
            let sum = tensor.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(Error::Diverged { name: format!("{name} of {file}"), value: sum, iteration });
            }
        }
    }
    Ok(())
}

impl<S: Step, C: Serialize + Clone> Observer<S> for Checkpoints<C> {
    fn wants(&self, iteration: u64, _total: u64) -> bool {
        self.every > 0 && iteration.is_multiple_of(self.every)
    }

    fn on_step(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        // Before `last`: should the run die in between, the step is run again and writes the same best again.
        self.save_if_best(step, event)?;
        // At the end of an epoch, `on_epoch` saves: a checkpoint before it would skip the epoch's evaluation on resume.
        let due = <Self as Observer<S>>::wants(self, event.position.iteration, event.total);
        if due && !event.ends_epoch {
            self.state.position = event.position.clone();
            self.save_last(step)?;
        }
        Ok(())
    }

    fn on_epoch(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.save_if_best(step, event)?;
        self.state.position = event.position.clone();
        self.save_last(step)
    }

    fn on_stop(&mut self, step: &mut S, outcome: &Outcome) -> Result<()> {
        if self.saved == Some(outcome.position.iteration) {
            return Ok(());
        }
        self.state.position = outcome.position.clone();
        self.save_last(step)
    }
}
