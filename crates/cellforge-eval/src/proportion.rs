//! Counts of successes, and Wilson's interval for them.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Error, Result};

/// The coverage of an interval where none is asked for.
pub const LEVEL: f64 = 0.95;

/// The two ends of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
}

impl Estimate {
    /// This figure less another, with an interval from those of both.
    ///
    /// `d ± √((reach of this one)² + (reach of the other)²)`, each reach being from the figure to the end of its interval that lies in that
    /// direction: MOVER (Zou and Donner 2008, Construction of confidence limits about effect measures, Statistics in Medicine
    /// 27:1693-1702). It is for figures that are independent; where they rise and fall together it is too wide.
    ///
    /// ```
    /// use cellforge_eval::Estimate;
    /// let (a, b) = (Estimate { value: 0.8, low: 0.77, high: 0.83 }, Estimate { value: 0.7, low: 0.66, high: 0.73 });
    /// let less = a.less(b);
    /// // Low: 0.1 - √(0.03² + 0.03²); high: 0.1 + √(0.03² + 0.04²).
    /// assert!((less.value - 0.1).abs() < 1e-12 && (less.low - 0.057_573_6).abs() < 1e-6 && (less.high - 0.15).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        let value = self.value - other.value;
        let reach = |a: f64, b: f64| a.max(0.0).hypot(b.max(0.0));
        Self {
            value,
            low: value - reach(self.value - self.low, other.high - other.value),
            high: value + reach(self.high - self.value, other.value - other.low),
        }
    }
}

/// Successes in a number of trials, with the interval of their rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Successes.
    pub successes: u64,
    /// Trials. 0 where the rate is not defined; `rate` is then 0 and the interval all of [0, 1].
    pub total: u64,
    /// `successes / total`, in [0, 1].
    pub rate: f64,
    /// Lower end of the interval of the rate.
    pub low: f64,
    /// Upper end of the interval of the rate.
    pub high: f64,
}

/// The rate of `successes` in `total` trials with Wilson's 95% score interval.
///
/// # Errors
/// [`Error::Counts`] if `total` is 0 or below `successes`.
///
/// ```
/// let p = cellforge_eval::wilson(300, 1000)?;
/// assert_eq!(format!("{:.1}-{:.1}%", 100.0 * p.low, 100.0 * p.high), "27.2-32.9%");
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn wilson(successes: u64, total: u64) -> Result<Proportion> {
    wilson_at(successes, total, LEVEL)
}

/// The rate of `successes` in `total` trials with Wilson's score interval of coverage `level`, in (0, 1).
///
/// Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22:209-212. Unlike the plain
/// normal interval it stays inside [0, 1] and keeps its coverage at rates near 0 and 1.
///
/// # Errors
/// [`Error::Counts`] if `total` is 0 or below `successes`; [`Error::Level`] if `level` is not in (0, 1).
pub fn wilson_at(successes: u64, total: u64, level: f64) -> Result<Proportion> {
    if total == 0 || successes > total {
        return Err(Error::Counts { successes, total });
    }
    let (n, p) = (total as f64, successes as f64 / total as f64);
    let Interval { low, high } = wilson_interval(p, n, level)?;
    Ok(Proportion { successes, total, rate: p, low, high })
}

/// Wilson's interval around a rate `p` seen in `n` trials.
pub(crate) fn wilson_interval(p: f64, n: f64, level: f64) -> Result<Interval> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Level(level));
    }
    Ok(wilson_scaled(p, n, Normal::standard().inverse_cdf(0.5 + level / 2.0)))
}

/// Wilson's interval that reaches `z` standard deviations to each side.
pub(crate) fn wilson_scaled(p: f64, n: f64, z: f64) -> Interval {
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // At p = 0 and p = 1 one end is exactly 0 or 1; rounding must not carry it past the rate itself.
    Interval { low: (centre - half).clamp(0.0, p), high: (centre + half).clamp(p, 1.0) }
}

/// How many of the `predicted` labels are `expected`, with Wilson's 95% interval: the study's test of synthetic images, of which all
/// were made for one class.
///
/// # Errors
/// [`Error::Empty`] if `predicted` is empty.
pub fn recognition(expected: u32, predicted: &[u32]) -> Result<Proportion> {
    if predicted.is_empty() {
        return Err(Error::Empty { what: "the array of predicted labels" });
    }
    wilson(predicted.iter().filter(|&&label| label == expected).count() as u64, predicted.len() as u64)
}
