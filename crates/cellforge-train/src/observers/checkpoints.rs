use std::path::PathBuf;

use candle_core::DType;
use serde::Serialize;

use crate::checkpoint::{self, Best, State};
use crate::{Error, Event, Observer, Outcome, Result, Snapshot, Step};

/// Writes the checkpoints `last` (every so many steps, after every epoch, and when the run stops) and, where there is
/// a figure to compare epochs by, `best`.
#[derive(Debug)]
pub struct Checkpoints<C> {
    dir: PathBuf,
    every: u64,
    best_by: Option<&'static str>,
    state: State<C>,
    saved: Option<u64>,
}

impl<C: Serialize + Clone> Checkpoints<C> {
    /// Writes under `dir`. `every` counts steps, 0 for none between epochs; `best_by` names the figure of `on_epoch`
    /// whose highest value is the best; `state` is that of a fresh run or of the checkpoint that is resumed.
    pub fn new(dir: impl Into<PathBuf>, every: u64, best_by: Option<&'static str>, state: State<C>) -> Self {
        Self { dir: dir.into(), every, best_by, state, saved: None }
    }

    /// The state as last written.
    pub fn state(&self) -> &State<C> {
        &self.state
    }

    fn save<S: Step>(&mut self, step: &S, name: &str) -> Result<()> {
        let snapshot = step.snapshot()?;
        check_finite(&snapshot, self.state.position.iteration)?;
        checkpoint::write(&self.dir, name, &snapshot, &self.state)
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
    fn on_step(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        // At the end of an epoch, `on_epoch` saves: a checkpoint before it would skip the epoch's evaluation on resume.
        let due = self.every > 0 && event.position.iteration.is_multiple_of(self.every);
        if due && !event.ends_epoch {
            self.state.position = event.position.clone();
            self.save_last(step)?;
        }
        Ok(())
    }

    fn on_epoch(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.state.position = event.position.clone();
        let figure = event.losses.iter().find(|(name, _)| Some(*name) == self.best_by);
        if let Some((_, value)) = figure
            && self.state.best.is_none_or(|best| *value > best.value)
        {
            self.state.best = Some(Best { value: *value, epoch: event.position.epoch });
            // Before `last`: should the run die in between, the epoch is run again and writes the same best again.
            self.save(step, "best")?;
        }
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
