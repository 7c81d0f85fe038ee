use candle_core::DType;
use serde::Serialize;

use crate::checkpoint::{Best, State};
use crate::{Error, Event, Observer, Outcome, Phase, Position, Result, Run, Slot, Snapshot, Step, figures};

/// By which figure, and in which direction, one moment of a run is better than another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Criterion {
    /// The higher the figure of this name, the better.
    Highest(String),
    /// The lower the figure of this name, the better.
    Lowest(String),
}

impl Criterion {
    /// The higher the figure of this name ([`figures`](crate::figures), or a name of your own), the better.
    pub fn highest(figure: impl Into<String>) -> Self {
        Self::Highest(figure.into())
    }

    /// The lower the figure of this name, the better.
    pub fn lowest(figure: impl Into<String>) -> Self {
        Self::Lowest(figure.into())
    }

    /// The figure's name.
    #[must_use]
    pub fn figure(&self) -> &str {
        let (Self::Highest(name) | Self::Lowest(name)) = self;
        name
    }

    /// Whether `value` is better than `best`; any number is better than none, and one that is not finite is never better.
    #[must_use]
    pub fn is_better(&self, value: f32, best: Option<Best>) -> bool {
        value.is_finite()
            && best.is_none_or(|best| match self {
                Self::Highest(_) => value > best.value,
                Self::Lowest(_) => value < best.value,
            })
    }
}

/// Writes the checkpoints `last` (every so many steps, after every epoch, and when the run stops) and, where there is
/// a figure to compare moments by, `best` (after the step or epoch that has the figure). It holds the run's folder for as long as it lives.
#[derive(Debug)]
pub struct Checkpoints<C> {
    run: Run<C>,
    every: u64,
    best_by: Option<Criterion>,
    saved: Option<u64>,
}

impl<C: Serialize + Clone> Checkpoints<C> {
    /// Writes into the folder of `run`. `every` counts steps, 0 for none between epochs; `best_by` says which of the figures that
    /// observers add is the best.
    pub fn new(run: Run<C>, every: u64, best_by: Option<Criterion>) -> Self {
        Self { run, every, best_by, saved: None }
    }

    /// The run, with its state as last written.
    pub fn run(&self) -> &Run<C> {
        &self.run
    }

    pub(crate) fn state_mut(&mut self) -> &mut State<C> {
        &mut self.run.state
    }

    /// Goes on from `state`, to which `step` was put back, and writes it as `last`.
    pub(crate) fn go_back<S: Step>(&mut self, step: &S, state: State<C>) -> Result<()> {
        self.run.state = state;
        self.save_last(step)
    }

    fn save<S: Step>(&mut self, step: &S, slot: Slot) -> Result<()> {
        let snapshot = step.snapshot()?;
        check_finite(&snapshot, self.run.state.position.iteration)?;
        self.run.write(slot, &snapshot)?;
        Ok(())
    }

    fn save_if_best<S: Step>(&mut self, step: &S, event: &Event<'_>) -> Result<()> {
        let Some(by) = &self.best_by else { return Ok(()) };
        let found = event.figure(by.figure()).filter(|value| by.is_better(*value, self.run.state.best));
        let Some(value) = found else { return Ok(()) };
        let Position { iteration, epoch, .. } = *event.position;
        self.run.state.position = event.position.clone();
        let before = self.run.state.best.replace(Best { value, epoch, iteration });
        let saved = self.save(step, Slot::Best);
        if saved.is_err() {
            self.run.state.best = before;
        }
        saved
    }

    fn save_last<S: Step>(&mut self, step: &S) -> Result<()> {
        self.save(step, Slot::Last)?;
        self.saved = Some(self.run.state.position.iteration);
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
    fn phase(&self) -> Phase {
        Phase::Save
    }

    fn wants(&self, iteration: u64, _total: u64) -> bool {
        self.every > 0 && iteration.is_multiple_of(self.every)
    }

    fn on_step(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        // It was fitted to the weights at the end of an epoch.
        self.run.state.temperature = None;
        // Before `last`: should the run die in between, the step is run again and writes the same best again.
        self.save_if_best(step, event)?;
        // At the end of an epoch, `on_epoch` saves: a checkpoint before it would skip the epoch's evaluation on resume.
        let due = <Self as Observer<S>>::wants(self, event.position.iteration, event.total);
        if due && !event.ends_epoch {
            self.run.state.position = event.position.clone();
            self.save_last(step)?;
        }
        Ok(())
    }

    fn on_epoch(&mut self, step: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.run.state.temperature = event.figure(figures::TEMPERATURE);
        self.save_if_best(step, event)?;
        self.run.state.position = event.position.clone();
        self.save_last(step)
    }

    fn on_stop(&mut self, step: &mut S, outcome: &Outcome) -> Result<()> {
        if self.saved == Some(outcome.position.iteration) {
            return Ok(());
        }
        self.run.state.position = outcome.position.clone();
        self.save_last(step)
    }
}
