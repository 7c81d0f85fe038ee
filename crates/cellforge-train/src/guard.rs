//! The guard: a GAN's training that went wrong goes back to a good checkpoint and on from there, more slowly.

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::State;
use crate::gan_step::GanStep;
use crate::observers::Checkpoints;
use crate::{
    Error, Event, GanState, GanTrainConfig, LogEvent, LogLine, Observer, Outcome, Phase, Position, Result, Slot, Step,
    figures,
};

/// Points of the monitor in a row at which the images must be too much alike to speak of a collapse.
const POINTS: u64 = 2;

/// What counts as training that went wrong, and what is done about it.
///
/// A loss or weight that is NaN or infinite, and a loss beyond `limit`, send the run back to its last checkpoint; generated images that
/// have become too much alike, to its best one (seen only where there is a monitor). Before the first checkpoint it starts again with
/// its first weights. Each time both learning rates are multiplied by `factor`; batches and noise of an iteration stay the same, so it
/// is the lower rate that changes the course. The checkpoint `last` is replaced by the one gone back to, `best` stays the best
/// that there has been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Guard: training that goes wrong goes back to a good checkpoint. Without it, a loss that is not finite ends the run.
    pub enabled: bool,
    /// Highest magnitude that a loss may have.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub limit: f64,
    /// Diversity that the images must keep once they have reached it. 0 looks at recall alone.
    #[schemars(range(min = 0.0))]
    pub diversity: f64,
    /// Share of the highest recall so far that must be kept. 0 looks at diversity alone.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub recall: f64,
    /// Recall that must have been reached before a fall counts.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub recall_from: f64,
    /// Factor on both learning rates, each time the run goes back.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub factor: f64,
    /// Times that the run may go back. The next time, it fails.
    #[schemars(range(max = 1000))]
    pub rollbacks: usize,
}

impl Default for GuardConfig {
    /// Off; losses to 1000, diversity from 0.3, a tenth of the highest recall if that was above 0.2, half the rates, three times.
    fn default() -> Self {
        Self { enabled: false, limit: 1e3, diversity: 0.3, recall: 0.1, recall_from: 0.2, factor: 0.5, rollbacks: 3 }
    }
}

/// One return to an earlier iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// The iteration that went wrong.
    pub from: u64,
    /// The iteration whose weights the run went on from; 0 for the first weights.
    pub to: u64,
    /// What had gone wrong.
    pub reason: String,
    /// What the configuration's learning rates are multiplied by from then on.
    pub rate: f64,
}

/// What a guard remembers, in `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardState {
    /// The returns so far, in order.
    pub rollbacks: Vec<Rollback>,
    /// Lowest `fd` at a point of the monitor so far.
    pub fd: Option<f32>,
    /// Highest `diversity` at a point of the monitor so far.
    pub diversity: f32,
    /// Highest `recall` at a point of the monitor so far.
    pub recall: f32,
    /// Points in a row, up to the latest, at which the images were too much alike.
    pub alike: u64,
}

impl GuardState {
    pub(crate) fn is_new(&self) -> bool {
        *self == Self::default()
    }

    /// What the configuration's learning rates are multiplied by.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rollbacks.last().map_or(1.0, |rollback| rollback.rate)
    }

    /// Takes in the figures of the next point of the monitor. Images are too much alike where diversity is below what they must keep,
    /// after it once was not, or recall is below the share of its highest value that they must keep, if that was high enough; but not
    /// where `fd` is the lowest so far, for noise is various and has a high recall, and what is closer than anything before has not
    /// collapsed. At the second such point in a row they have: returned are the figure, its value and what it should have been.
    pub fn see(
        &mut self,
        config: &GuardConfig,
        fd: f32,
        diversity: f32,
        recall: f32,
    ) -> Option<(&'static str, f32, f32)> {
        // In the figures' own precision, so that a recall of 0.2 is not above 0.2.
        let (various, recalled, kept) = (config.diversity as f32, config.recall_from as f32, config.recall as f32);
        let kept = kept * self.recall;
        let low = if self.fd.is_none_or(|lowest| fd < lowest) {
            self.fd = Some(fd);
            None
        } else if self.diversity >= various && diversity < various {
            Some((figures::DIVERSITY, diversity, various))
        } else if self.recall > recalled && recall < kept {
            Some((figures::RECALL, recall, kept))
        } else {
            None
        };
        (self.diversity, self.recall) = (self.diversity.max(diversity), self.recall.max(recall));
        self.alike = if low.is_some() { self.alike + 1 } else { 0 };
        low.filter(|_| self.alike >= POINTS)
    }

    /// The line of the log for the last return.
    pub(crate) fn line(&self) -> Option<LogLine> {
        let last = self.rollbacks.last()?;
        let values =
            [("from", last.from as f32), ("rate", last.rate as f32), ("rollbacks", self.rollbacks.len() as f32)];
        let values = values.map(|(name, value)| (name.to_owned(), value)).into();
        Some(LogLine { event: LogEvent::Rollback, iteration: last.to, epoch: 0, values })
    }
}

/// Writes the checkpoints, but nothing that went wrong. Where it is not enabled it only writes them.
pub(crate) struct Guard {
    config: GuardConfig,
    checkpoints: Checkpoints<GanTrainConfig>,
}

impl Guard {
    /// Guards the run whose checkpoints these are.
    pub(crate) fn new(config: GuardConfig, checkpoints: Checkpoints<GanTrainConfig>) -> Self {
        Self { config, checkpoints }
    }

    /// The run's state as last written.
    pub(crate) fn state(&self) -> &GanState {
        &self.checkpoints.run().state
    }

    /// Puts `step`, and the checkpoint `last`, back to where the run is to go on after `error`.
    ///
    /// # Errors
    /// `error` itself if it is none that going back can help against, or if there is no guard; [`Error::Unstable`] if the run went
    /// back as often as it may.
    pub(crate) fn roll_back(&mut self, step: &mut GanStep, error: Error, device: &Device) -> Result<()> {
        let config = &self.config;
        if !config.enabled {
            return Err(error);
        }
        let (from, slot) = match &error {
            Error::Diverged { iteration, .. } | Error::Exploded { iteration, .. } => (*iteration, Slot::Last),
            Error::Collapsed { iteration, .. } => (*iteration, Slot::Best),
            _ => return Err(error),
        };
        let now = self.state().clone();
        let mut rollbacks = now.guard.rollbacks.clone();
        let found = self.checkpoints.run().dir().checkpoint(slot)?;
        if rollbacks.len() >= config.rollbacks {
            let checkpoint = found.map(|found| found.path().to_path_buf());
            return Err(Error::Unstable { rollbacks: rollbacks.len(), checkpoint, source: Box::new(error) });
        }
        let mut state: GanState = match &found {
            Some(found) => {
                let state = found.state(&now.kind)?;
                step.restore(&found.snapshot(&state, device)?)?;
                state
            }
            None => {
                *step = step.anew(&now.config, device)?;
                State { position: Position::default(), guard: GuardState::default(), ..now.clone() }
            }
        };
        let (to, rate) = (state.position.iteration, now.guard.rate() * config.factor);
        rollbacks.push(Rollback { from, to, reason: error.to_string(), rate });
        let whereto = match &found {
            Some(found) => format!("iteration {to} ({})", found.path().display()),
            None => "the first weights".to_owned(),
        };
        tracing::warn!(
            "{error}; going back to {whereto}, on with learning rates times {rate} (time {} of {})",
            rollbacks.len(),
            config.rollbacks
        );
        state.guard.rollbacks = rollbacks;
        state.guard.alike = 0;
        state.best = now.best;
        step.scale_rates(rate);
        self.checkpoints.go_back(step, state)
    }
}

impl Observer<GanStep> for Guard {
    fn phase(&self) -> Phase {
        Phase::Save
    }

    fn wants(&self, iteration: u64, total: u64) -> bool {
        <Checkpoints<GanTrainConfig> as Observer<GanStep>>::wants(&self.checkpoints, iteration, total)
    }

    fn on_step(&mut self, step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        let config = &self.config;
        if config.enabled {
            let (iteration, limit) = (event.position.iteration, config.limit);
            if let Some((name, value)) = event.losses.iter().find(|(_, value)| f64::from(value.abs()) > limit) {
                return Err(Error::Exploded { name: (*name).to_owned(), value: *value, limit, iteration });
            }
            if let [Some(fd), Some(diversity), Some(recall)] =
                [figures::FD, figures::DIVERSITY, figures::RECALL].map(|name| event.figure(name))
                && let Some((figure, value, bound)) =
                    self.checkpoints.state_mut().guard.see(config, fd, diversity, recall)
            {
                return Err(Error::Collapsed { figure, value, bound, iteration });
            }
        }
        self.checkpoints.on_step(step, event)
    }

    fn on_epoch(&mut self, step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        self.checkpoints.on_epoch(step, event)
    }

    fn on_stop(&mut self, step: &mut GanStep, outcome: &Outcome) -> Result<()> {
        self.checkpoints.on_stop(step, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the points, counted from 1, are found to be collapsed.
    fn collapses(points: &[(f32, f32)]) -> Vec<(usize, &'static str)> {
        let (mut state, config) = (GuardState::default(), GuardConfig::default());
        // None is closer than the first.
        let found: Vec<_> =
            points.iter().map(|&(diversity, recall)| state.see(&config, 1.0, diversity, recall)).collect();
        found.into_iter().zip(1..).filter_map(|(found, at)| Some((at, found?.0))).collect()
    }

    #[test]
    fn images_that_were_never_various_have_not_collapsed() {
        assert_eq!(collapses(&[(0.0, 0.0), (0.1, 0.0), (0.29, 0.1), (0.2, 0.0), (0.1, 0.0)]), []);
    }

    #[test]
    fn diversity_must_be_low_twice_in_a_row() {
        assert_eq!(collapses(&[(0.5, 0.1), (0.29, 0.1), (0.3, 0.1), (0.1, 0.1), (0.31, 0.1)]), []);
        let falls = [(0.5, 0.1), (0.29, 0.1), (0.1, 0.1), (0.1, 0.1), (0.4, 0.1)];
        assert_eq!(collapses(&falls), [(3, "diversity"), (4, "diversity")]);
    }

    #[test]
    fn recall_must_fall_from_above_a_fifth_to_below_a_tenth_of_its_best() {
        // From 0.2, which is not above 0.2.
        assert_eq!(collapses(&[(1.0, 0.2), (1.0, 0.0), (1.0, 0.0)]), []);
        // From 0.5, to a tenth of it or more.
        assert_eq!(collapses(&[(1.0, 0.5), (1.0, 0.05), (1.0, 0.06)]), []);
        assert_eq!(collapses(&[(1.0, 0.5), (1.0, 0.04), (1.0, 0.06), (1.0, 0.04)]), []);
        assert_eq!(collapses(&[(1.0, 0.5), (1.0, 0.3), (1.0, 0.04), (1.0, 0.0)]), [(4, "recall")]);
        // Once low in one figure, once in the other.
        assert_eq!(collapses(&[(1.0, 0.5), (0.2, 0.5), (1.0, 0.0)]), [(3, "recall")]);
    }

    #[test]
    fn images_that_are_closer_than_ever_have_not_collapsed() {
        let (mut state, config) = (GuardState::default(), GuardConfig::default());
        let mut see = |fd, recall| state.see(&config, fd, 1.0, recall).is_some();
        // From noise, all over the place, to images.
        assert_eq!([see(9.0, 1.0), see(5.0, 0.01), see(4.0, 0.01), see(3.0, 0.01)], [false; 4]);
        assert_eq!([see(3.5, 0.01), see(2.0, 0.01), see(2.5, 0.01), see(2.0, 0.01)], [false, false, false, true]);
    }
}
