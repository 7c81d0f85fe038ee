//! A lower bound of epsilon from guesses about one training.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

use crate::{Error, Result};

/// Guesses about units (patients, or images) that were put in or out of a training, each by a fair coin of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guesses {
    /// Units whose coins were thrown.
    pub units: u64,
    /// Units about which a guess was made; about the others the attacker is silent.
    pub guesses: u64,
    /// Guesses that were right.
    pub correct: u64,
}

/// What [`Guesses::epsilon_bound`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpsilonBound {
    /// The largest epsilon that is refuted: with this confidence, the training has no smaller one. 0 where none is refuted.
    pub lower: f64,
    /// The epsilon of randomised response that is guessed right as often: `ln(correct / wrong)`, 0 or above. None where no guess was wrong.
    pub estimate: Option<f64>,
    /// The delta for which the bound holds.
    pub delta: f64,
    /// In at most `1 - confidence` of audits is the bound above the true epsilon.
    pub confidence: f64,
}

impl Guesses {
    /// Guesses about the units with the highest scores, that they were in training, and about as many with the lowest, that they were not. On
    /// each side there are `share · n / 2` of `n` units, rounded down, but at least one; of equal scores those of lower number come first.
    ///
    /// `share`, in (0, 1], must be chosen before the scores are seen.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NotFinite`], [`Error::Share`], or [`Error::Halves`] if there are fewer than two units.
    ///
    /// ```
    /// use cellforge_eval::attacks::Guesses;
    /// // Of five units, the highest and the lowest are guessed about: 0.9 was in, 0.1 was in too.
    /// let found = Guesses::most_confident(&[0.5, 0.9, 0.4, 0.1, 0.6], &[false, true, false, true, true], 0.4)?;
    /// assert_eq!(found, Guesses { units: 5, guesses: 2, correct: 1 });
    /// # Ok::<(), cellforge_eval::Error>(())
    /// ```
    pub fn most_confident(scores: &[f64], members: &[bool], share: f64) -> Result<Self> {
        let units = scores.len();
        if members.len() != units {
            return Err(Error::Length { what: "the array of members", found: members.len(), expected: units });
        }
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(Error::NotFinite { index, value: scores[index] });
        }
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::Share(share));
        }
        if units < 2 {
            return Err(Error::Halves { units, what: "units" });
        }
        let mut order: Vec<usize> = (0..units).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let each = ((share * units as f64 / 2.0) as usize).max(1);
        let right_in = order[..each].iter().filter(|&&unit| members[unit]).count();
        let right_out = order[units - each..].iter().filter(|&&unit| !members[unit]).count();
        Ok(Self { units: units as u64, guesses: 2 * each as u64, correct: (right_in + right_out) as u64 })
    }

    /// The largest chance of so many right guesses under any training with this epsilon and `delta`: Theorem 5.2 of Steinke et al. (2023),
    /// with `P[B ≥ v] + 2 m δ maxᵢ P[v > B ≥ v - i] / i` for `v` right of `r` guesses about `m` units, where `B` is binomial of `r`
    /// trials with rate `1 / (1 + e^-epsilon)`.
    ///
    /// # Errors
    /// [`Error::Counts`], or [`Error::Delta`] for an epsilon below 0 or not finite, or a delta outside [0, 1].
    pub fn p_value(&self, epsilon: f64, delta: f64) -> Result<f64> {
        self.check(delta)?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(Error::Delta { epsilon, delta });
        }
        Ok(self.chance(epsilon, delta))
    }

    fn check(&self, delta: f64) -> Result<()> {
        if self.guesses == 0 || self.correct > self.guesses {
            return Err(Error::Counts { successes: self.correct, total: self.guesses });
        }
        if self.guesses > self.units {
            return Err(Error::Counts { successes: self.guesses, total: self.units });
        }
        if !(0.0..=1.0).contains(&delta) {
            return Err(Error::Delta { epsilon: 0.0, delta });
        }
        Ok(())
    }

    fn chance(&self, epsilon: f64, delta: f64) -> f64 {
        if self.correct == 0 {
            return 1.0;
        }
        let rate = 1.0 / (1.0 + (-epsilon).exp());
        // A rate in [0.5, 1] is always taken.
        let Ok(binomial) = Binomial::new(rate, self.guesses) else { return 1.0 };
        let mut p = binomial.sf(self.correct - 1);
        if delta > 0.0 {
            let (mut sum, mut most) = (0.0, 0.0_f64);
            for i in 1..=self.correct {
                sum += binomial.pmf(self.correct - i);
                most = most.max(sum / i as f64);
            }
            p += 2.0 * self.units as f64 * delta * most;
        }
        p.min(1.0)
    }

    /// The lower bound of epsilon at a confidence in (0, 1): the largest epsilon whose [`Self::p_value`] is below `1 - confidence`, by
    /// bisection. What refutes one epsilon refutes all smaller ones, for these are stronger promises.
    ///
    /// One run bounds epsilon from below alone. No audit shows that a training is private: another attack may guess better.
    ///
    /// # Errors
    /// As [`Self::p_value`]; [`Error::Level`] for the confidence.
    ///
    /// ```
    /// use cellforge_eval::attacks::Guesses;
    /// // 10 of 10: the rate q with q^10 = 0.05 is 0.7411, and ln(0.7411 / 0.2589) = 1.0519.
    /// let bound = Guesses { units: 40, guesses: 10, correct: 10 }.epsilon_bound(0.0, 0.95)?;
    /// assert!((bound.lower - 1.0519).abs() < 1e-4);
    /// # Ok::<(), cellforge_eval::Error>(())
    /// ```
    pub fn epsilon_bound(&self, delta: f64, confidence: f64) -> Result<EpsilonBound> {
        self.check(delta)?;
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::Level(confidence));
        }
        let refuted = |epsilon| self.chance(epsilon, delta) < 1.0 - confidence;
        let lower = if refuted(0.0) {
            let (mut low, mut high) = (0.0, 1.0);
            // The rate is 1 to the last digit at 37, where nothing is refuted.
            while refuted(high) {
                (low, high) = (high, 2.0 * high);
            }
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                if refuted(middle) { low = middle } else { high = middle }
            }
            low
        } else {
            0.0
        };
        let wrong = self.guesses - self.correct;
        let estimate = (wrong > 0).then(|| (self.correct as f64 / wrong as f64).ln().max(0.0));
        Ok(EpsilonBound { lower, estimate, delta, confidence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn of(units: u64, guesses: u64, correct: u64) -> Guesses {
        Guesses { units, guesses, correct }
    }

    #[test]
    fn chances_by_hand() {
        // A fair coin: 4 or 5 of 5 right, (5 + 1) / 32. With rate 3/4 (epsilon = ln 3), 2 of 2: 9/16.
        assert!((of(5, 5, 4).p_value(0.0, 0.0).unwrap() - 6.0 / 32.0).abs() < 1e-12);
        assert!((of(2, 2, 2).p_value(3.0_f64.ln(), 0.0).unwrap() - 9.0 / 16.0).abs() < 1e-12);
        // Two of two with delta: 1/4 + 2 · 2 · delta · max(P[B = 1] / 1, P[B = 0 or 1] / 2) = 1/4 + 4 delta max(1/2, 3/8).
        assert!((of(2, 2, 2).p_value(0.0, 0.1).unwrap() - 0.45).abs() < 1e-12);
        assert_eq!(of(2, 2, 0).p_value(0.0, 0.0).unwrap(), 1.0);
    }

    #[test]
    fn bounds_by_hand() {
        // All right: the rate is 0.05^(1/r).
        for r in [5_u64, 32, 158] {
            let rate = 0.05_f64.powf(1.0 / r as f64);
            let bound = of(200, r, r).epsilon_bound(0.0, 0.95).unwrap();
            assert!((bound.lower - (rate / (1.0 - rate)).ln()).abs() < 1e-9, "{r}: {bound:?}");
            assert_eq!(bound.estimate, None);
        }
        // 4 of 5 come about by chance alone in 19%; 60 of 100 in 2.8%. Of these, ln(60 / 40) = 0.405 is the estimate.
        assert_eq!(of(5, 5, 4).epsilon_bound(0.0, 0.95).unwrap().lower, 0.0);
        let some = of(100, 100, 60).epsilon_bound(0.0, 0.95).unwrap();
        assert!(some.lower > 0.0 && some.lower < 0.405 && (some.estimate.unwrap() - 1.5_f64.ln()).abs() < 1e-12);
        // The rate at which 60 or more of 100 have a chance of 5% is the lower end of Clopper and Pearson's 90% interval.
        let rate = crate::clopper_pearson(60.0, 100, 0.9).unwrap().low;
        assert!((some.lower - (rate / (1.0 - rate)).ln()).abs() < 1e-6);
        // More guesses right, a larger bound; a delta, a smaller one; more confidence, a smaller one.
        let lower = |correct, delta, confidence| of(100, 100, correct).epsilon_bound(delta, confidence).unwrap().lower;
        assert!(lower(80, 0.0, 0.95) > lower(70, 0.0, 0.95));
        assert!(lower(80, 1e-4, 0.95) < lower(80, 0.0, 0.95) && lower(80, 0.0, 0.99) < lower(80, 0.0, 0.95));
    }

    #[test]
    fn randomised_response_keeps_its_epsilon() {
        // Every unit's bit is told truly with the rate of epsilon, which is the strongest attack there is. The bound exceeds epsilon in at
        // most 5% of 600 audits, and lies above 0 in nearly all.
        let epsilon: f64 = 1.0;
        let rate = 1.0 / (1.0 + (-epsilon).exp());
        let (mut above, mut found) = (0, 0);
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(3);
        for _ in 0..600 {
            let correct = (0..150).filter(|_| rng.random_bool(rate)).count() as u64;
            let bound = of(200, 150, correct).epsilon_bound(0.0, 0.95).unwrap();
            above += usize::from(bound.lower > epsilon);
            found += usize::from(bound.lower > 0.3);
        }
        // 5% of 600 and three standard deviations.
        assert!(above > 0 && above <= 30 + 16 && found > 590, "{above} {found}");
    }

    #[test]
    fn the_most_confident_are_guessed_about() {
        // Scores fall with the number; the first six were in.
        let scores: Vec<f64> = (0..12).map(|i| f64::from(-i)).collect();
        let members: Vec<bool> = (0..12).map(|i| i < 6).collect();
        assert_eq!(Guesses::most_confident(&scores, &members, 1.0).unwrap(), of(12, 12, 12));
        // A third of 12 is four: two on each side.
        assert_eq!(Guesses::most_confident(&scores, &members, 0.34).unwrap(), of(12, 4, 4));
        let all_in = vec![true; 12];
        assert_eq!(Guesses::most_confident(&scores, &all_in, 0.01).unwrap(), of(12, 2, 1));
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert_eq!(of(5, 5, 6).epsilon_bound(0.0, 0.95), Err(Error::Counts { successes: 6, total: 5 }));
        assert_eq!(of(5, 6, 6).epsilon_bound(0.0, 0.95), Err(Error::Counts { successes: 6, total: 5 }));
        assert_eq!(of(5, 0, 0).epsilon_bound(0.0, 0.95), Err(Error::Counts { successes: 0, total: 0 }));
        assert_eq!(of(5, 5, 5).epsilon_bound(0.0, 1.0), Err(Error::Level(1.0)));
        assert!(of(5, 5, 5).epsilon_bound(1.5, 0.9).unwrap_err().to_string().contains("1.5"));
        assert!(of(5, 5, 5).p_value(f64::NAN, 0.0).is_err());
        assert_eq!(Guesses::most_confident(&[0.0; 3], &[true; 3], 0.0), Err(Error::Share(0.0)));
        assert_eq!(Guesses::most_confident(&[0.0], &[true], 0.5), Err(Error::Halves { units: 1, what: "units" }));
        assert!(Guesses::most_confident(&[0.0, f64::NAN], &[true; 2], 0.5).is_err());
    }
}
