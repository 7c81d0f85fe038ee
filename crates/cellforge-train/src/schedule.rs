//! Learning rate over a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        /// Decay for each update, of `keras_decay`.
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
}
