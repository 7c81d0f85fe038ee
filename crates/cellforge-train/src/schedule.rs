//! Learning rate over a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the learning rate changes during a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same rate throughout.
    Constant,
    /// `lr * (1 - epoch / epochs)` with epochs counted from 0: a step down after each epoch that would reach 0 after
    /// the last one, as Keras's `LearningRateScheduler` with polynomial decay of power 1.
    Linear,
    /// `lr / (1 + decay * updates)` with the number of updates already made: the `decay` argument of Keras's SGD.
    KerasDecay {
        /// Decay per update of the schedule `keras_decay`.
        #[schemars(range(min = 0.0))]
        decay: f64,
    },
}

impl Schedule {
    /// Learning rate of update `iteration` (counted from 1), given the base rate, the updates in an epoch and the
    /// number of epochs.
    ///
    /// ```
    /// use cellforge_train::Schedule;
    /// // The first update of the second of four epochs runs at three quarters of the base rate.
    /// assert_eq!(Schedule::Linear.rate(0.1, 11, 10, 4), 0.1 * 0.75);
    /// ```
    pub fn rate(&self, lr: f64, iteration: u64, epoch_len: u64, epochs: u64) -> f64 {
        let done = iteration.saturating_sub(1);
        match self {
            Schedule::Constant => lr,
            Schedule::Linear => lr * (1.0 - (done / epoch_len.max(1)) as f64 / epochs.max(1) as f64),
            Schedule::KerasDecay { decay } => lr / (1.0 + decay * done as f64),
        }
    }
}

/// The learning rate of each update of a run: a base rate, how it changes over the updates, and a factor by which whoever watches the run
/// lowers it.
#[derive(Debug, Clone)]
pub(crate) struct LearningRate {
    base: f64,
    course: Course,
    factor: f64,
}

#[derive(Debug, Clone)]
enum Course {
    Schedule {
        schedule: Schedule,
        epoch_len: u64,
        epochs: u64,
    },
    /// Falls to 0 over the last `share` of `iterations` updates.
    Decay {
        share: f64,
        iterations: u64,
    },
}

impl LearningRate {
    /// A classifier's: by epochs.
    pub(crate) fn scheduled(base: f64, schedule: Schedule, epoch_len: u64, epochs: u64) -> Self {
        Self { base, course: Course::Schedule { schedule, epoch_len, epochs }, factor: 1.0 }
    }

    /// A GAN's: constant, until it falls in a straight line over the last `share` of the updates.
    pub(crate) fn decaying(base: f64, share: f64, iterations: u64) -> Self {
        Self { base, course: Course::Decay { share, iterations }, factor: 1.0 }
    }

    /// Multiplies the rate by `factor`, in place of any factor before.
    pub(crate) fn set_factor(&mut self, factor: f64) {
        self.factor = factor;
    }

    /// The rate of update `iteration`, counted from 1.
    pub(crate) fn at(&self, iteration: u64) -> f64 {
        match self.course {
            Course::Schedule { schedule, epoch_len, epochs } => {
                self.factor * schedule.rate(self.base, iteration, epoch_len, epochs)
            }
            Course::Decay { share, iterations } => self.base * (self.factor * decay(share, iterations, iteration)),
        }
    }
}

/// Checks that a run which has made `made` updates, by the rates of `before`, can go on as one of `updates` by those of `after`: every update
/// so far has had the rate that it has in that run. `length` is its length in words: "400 iterations".
///
/// # Errors
/// [`Error::Length`].
pub(crate) fn check_length(
    length: String,
    updates: u64,
    made: u64,
    before: &LearningRate,
    after: &LearningRate,
) -> Result<()> {
    if updates < made {
        return Err(Error::Length { length, reason: format!("of {updates} updates, {made} are made already") });
    }
    match (1..=made).find(|&update| before.at(update).total_cmp(&after.at(update)).is_ne()) {
        None => Ok(()),
        Some(update) => Err(Error::Length {
            length,
            reason: format!(
                "update {update} was made at a learning rate of {:.3e}, and a run of that length makes it at {:.3e}",
                before.at(update),
                after.at(update)
            ),
        }),
    }
}

/// What a rate is multiplied by that falls in a straight line to 0 over the last `share` of `iterations` updates: in `(0, 1]`.
pub(crate) fn decay(share: f64, iterations: u64, iteration: u64) -> f64 {
    let left = (iterations + 1).saturating_sub(iteration) as f64;
    let falling = share * iterations as f64;
    if left < falling { left / falling } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12 * b.abs().max(1e-12), "{a} is not {b}");
    }

    #[test]
    fn linear_steps_down_once_an_epoch() {
        // Four epochs of ten updates from 0.1: 0.1, 0.075, 0.05, 0.025.
        for (iteration, rate) in [(1, 0.1), (10, 0.1), (11, 0.075), (20, 0.075), (21, 0.05), (31, 0.025), (40, 0.025)] {
            close(Schedule::Linear.rate(0.1, iteration, 10, 4), rate);
        }
    }

    #[test]
    fn keras_decay_counts_updates_already_made() {
        let schedule = Schedule::KerasDecay { decay: 0.5 };
        // 1/(1+0.5*0) = 1, 1/(1+0.5*1) = 2/3, 1/(1+0.5*2) = 1/2, 1/(1+0.5*6) = 1/4.
        for (iteration, rate) in [(1, 1.0), (2, 2.0 / 3.0), (3, 0.5), (7, 0.25)] {
            close(schedule.rate(1.0, iteration, 10, 4), rate);
        }
        // The study's 1e-6 / (1 + 1e-6 * updates) has halved after a million updates.
        close(Schedule::KerasDecay { decay: 1e-6 }.rate(1e-6, 1_000_001, 1, 1), 5e-7);
    }

    #[test]
    fn constant_is_constant() {
        close(Schedule::Constant.rate(0.01, 999, 10, 4), 0.01);
    }

    #[test]
    fn a_rate_falls_over_its_last_share() {
        let mut rate = LearningRate::decaying(0.1, 0.5, 8);
        // Four of eight updates fall: 4/4 at the fifth, then 3/4, 2/4, 1/4.
        for (iteration, share) in [(1, 1.0), (4, 1.0), (5, 1.0), (6, 0.75), (7, 0.5), (8, 0.25)] {
            close(rate.at(iteration), 0.1 * share);
        }
        rate.set_factor(0.5);
        close(rate.at(6), 0.1 * 0.5 * 0.75);
        close(LearningRate::decaying(0.1, 0.0, 8).at(8), 0.1);
        close(LearningRate::scheduled(0.1, Schedule::Linear, 10, 4).at(11), 0.075);
    }
}
