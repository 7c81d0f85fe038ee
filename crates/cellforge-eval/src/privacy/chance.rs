//! Where a figure lies when membership is anyone's guess.

use serde::{Deserialize, Serialize};

use crate::bootstrap::percentiles;

/// Where a figure of these very images lies when the synthetic set has nothing to do with who was in training: found by drawing anew
/// which patients were, many times, with everything else left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// Mean over the drawn labellings.
    pub mean: f64,
    /// Lower end of the central part that holds the chosen level of them.
    pub low: f64,
    /// Upper end of that part.
    pub high: f64,
    /// One-sided p-value: the share of labellings, the true one counted in, with a figure that points to a leak as much as the true
    /// one's or more. Never 0.
    pub p: f64,
}

/// The direction in which a figure points to a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leak {
    High,
    Low,
}

impl Chance {
    /// Compares `value` with what it was in the labellings that were drawn, of which there is at least one.
    pub(crate) fn new(value: f64, drawn: Vec<f64>, leak: Leak, level: f64) -> Self {
        // A labelling that equals the true one counts, whatever the order in which its terms were added up.
        let slack = 1e-12 * value.abs().max(1.0);
        let reached = |&&other: &&f64| match leak {
            Leak::High => other >= value - slack,
            Leak::Low => other <= value + slack,
        };
        let count = drawn.iter().filter(reached).count();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let p = (count + 1) as f64 / (drawn.len() + 1) as f64;
        let (low, high) = percentiles(drawn, level).map_or((value, value), |found| (found.low, found.high));
        Self { mean, low, high, p }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_counts_the_true_labelling() {
        let drawn: Vec<f64> = (1..=19).map(f64::from).collect();
        // Of 1 to 19, three are 17 or more: (3 + 1) / 20. None is above 19: 1 / 20.
        let chance = Chance::new(17.0, drawn.clone(), Leak::High, 0.8);
        assert_eq!((chance.p, chance.mean), (0.2, 10.0));
        // The central 80% of 1 to 19: from position 0.1 * 18 = 1.8 to 16.2, counted from 0.
        assert!((chance.low - 2.8).abs() < 1e-12 && (chance.high - 17.2).abs() < 1e-12);
        assert_eq!(Chance::new(20.0, drawn.clone(), Leak::High, 0.95).p, 0.05);
        assert_eq!(Chance::new(2.0, drawn, Leak::Low, 0.95).p, 0.15);
    }
}
