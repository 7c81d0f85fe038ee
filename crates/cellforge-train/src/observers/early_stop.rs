use crate::checkpoint::Best;
use crate::{Criterion, Event, LogLine, Observer, Phase, Position, Result, Step};

/// How long an [`EarlyStop`] waits for something better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Whole epochs, at least 1.
    Epochs(u64),
    /// Updates, at least 1; looked at whenever the figure is measured.
    Iterations(u64),
}

/// Ends a run, as complete, when a figure has not become better for some time. The figure is one that an observer adds, to steps or to
/// epochs, or one of an epoch's mean losses.
///
/// ```
/// use cellforge_train::observers::{Criterion, EarlyStop, Patience};
/// use cellforge_train::figures;
///
/// // Ends a judged GAN once 2000 updates have not brought it closer to the validation images.
/// let stop = EarlyStop::new(Criterion::lowest(figures::FD), Patience::Iterations(2000));
/// ```
#[derive(Debug, Clone)]
pub struct EarlyStop {
    by: Criterion,
    patience: Patience,
    best: Option<Best>,
}

impl EarlyStop {
    /// Ends the run when `patience` is over since the best value of the figure of `by`.
    pub fn new(by: Criterion, patience: Patience) -> Self {
        Self { by, patience, best: None }
    }

    /// The same for a run that is resumed, whose best so far is known: that of the checkpoint, where it goes by the same figure.
    #[must_use]
    pub fn since(self, best: Option<Best>) -> Self {
        Self { best, ..self }
    }

    /// The same for a run that is resumed at `position`, whose best so far is found in its log ([`crate::read_log`]): a run that was
    /// stopped ends where one that never stopped does.
    #[must_use]
    pub fn since_logged(mut self, log: &[LogLine], position: &Position) -> Self {
        for line in log.iter().filter(|line| line.iteration <= position.iteration) {
            let value = line.values.get(self.by.figure()).copied();
            self.note(value, line.epoch, line.iteration);
        }
        self
    }

    fn note(&mut self, value: Option<f32>, epoch: u64, iteration: u64) {
        if let Some(value) = value.filter(|value| self.by.is_better(*value, self.best)) {
            self.best = Some(Best { value, epoch, iteration });
        }
    }

    fn is_over_at(&self, epoch: u64, iteration: u64) -> bool {
        self.best.is_some_and(|best| match self.patience {
            Patience::Epochs(epochs) => epoch >= best.epoch + epochs,
            Patience::Iterations(iterations) => iteration >= best.iteration + iterations,
        })
    }
}

impl<S: Step> Observer<S> for EarlyStop {
    fn phase(&self) -> Phase {
        Phase::Save
    }

    /// A step with a figure comes at once for the sake of whoever measures it.
    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn is_over(&self, position: &Position) -> bool {
        self.is_over_at(position.epoch, position.iteration)
    }

    fn on_step(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        if let Some(value) = event.figure(self.by.figure()) {
            let (epoch, iteration) = (event.position.epoch, event.position.iteration);
            self.note(Some(value), epoch, iteration);
            event.end |= self.is_over_at(epoch, iteration);
        }
        Ok(())
    }

    fn on_epoch(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        let (epoch, iteration) = (event.position.epoch, event.position.iteration);
        let value = event.values().find(|(name, _)| *name == self.by.figure()).map(|(_, value)| value);
        self.note(value, epoch, iteration);
        event.end |= self.is_over_at(epoch, iteration);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(iteration: u64, fd: f32) -> LogLine {
        let values = [("fd".to_owned(), fd)].into();
        LogLine { event: crate::LogEvent::Step, iteration, epoch: 0, values }
    }

    #[test]
    fn the_log_tells_when_patience_began() {
        let log = [line(2, 5.0), line(4, 3.0), line(6, 4.0), line(8, 1.0)];
        let stop = |iteration| {
            let position = Position { iteration, ..Position::default() };
            let stop = EarlyStop::new(Criterion::lowest("fd"), Patience::Iterations(3));
            stop.since_logged(&log, &position).is_over_at(0, iteration)
        };
        // The lowest is at 4 until 8, which a run that stands at 7 knows nothing of.
        assert_eq!([4, 6, 7, 8, 10, 11].map(stop), [false, false, true, false, false, true]);
        let higher = EarlyStop::new(Criterion::highest("fd"), Patience::Iterations(3));
        assert!(higher.since_logged(&log, &Position { iteration: 8, ..Position::default() }).is_over_at(0, 5));
    }
}
