//! What is left out, and what follows for an interval: the jackknife over whole patients of both sets.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Sample;
use crate::{Error, Estimate, Interval, Resampler, Result, effective_groups, proportion::wilson_scaled};

/// Most blocks of a set. Each is left out once, and costs about as much as the figure itself.
const BLOCKS: usize = 48;

/// The images of one set in blocks that are left out one after the other: the patients, or single images where these are not known,
/// put together at random where there are more than 48.
pub(super) struct Blocks {
    /// The block of each image.
    pub(super) of: Vec<usize>,
    /// Number of blocks; at least 1.
    pub(super) count: usize,
    /// What is drawn from the population: groups where there are several, single images otherwise.
    pub(super) units: Resampler,
    /// Whether the units are groups.
    pub(super) by_group: bool,
    /// Groups, where they are known.
    pub(super) groups: Option<usize>,
    /// Kish's effective number of groups, where they are known.
    pub(super) effective_groups: Option<f64>,
    /// Kish's effective number of units.
    pub(super) effective_units: f64,
    /// Degrees of freedom of a variance from these blocks: Kish's effective number of blocks, less 1.
    df: f64,
}

impl Blocks {
    pub(super) fn new(sample: &Sample, seed: u64) -> Result<Self> {
        let n = sample.features.len();
        if let Some(groups) = sample.groups.filter(|groups| groups.len() != n) {
            return Err(Error::Length { what: "the array of groups", found: groups.len(), expected: n });
        }
        let by_group = sample.groups.map(Resampler::groups).transpose()?;
        let groups = by_group.as_ref().map(Resampler::units);
        let of_groups = by_group.as_ref().map(|units| effective_groups(units.unit_of()));
        let (units, by_group) = match by_group {
            Some(units) if units.units() > 1 => (units, true),
            _ => (Resampler::images(n)?, false),
        };
        let mut numbers: Vec<usize> = (0..units.units()).collect();
        if numbers.len() > BLOCKS {
            numbers.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
        }
        let of: Vec<usize> = units.unit_of().iter().map(|&unit| numbers[unit] % BLOCKS).collect();
        let count = units.units().min(BLOCKS);
        let effective_units = effective_groups(units.unit_of());
        let df = (effective_groups(&of) - 1.0).max(1.0);
        Ok(Self { of, count, units, by_group, groups, effective_groups: of_groups, effective_units, df })
    }

    /// The images of each block.
    pub(super) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.count];
        self.of.iter().enumerate().for_each(|(row, &block)| rows[block].push(row));
        rows
    }

    /// The variance of a figure from its values without one block each; 0 where fewer than 2 are known.
    ///
    /// `(g - 1) / g · Σ (θ₍₋ᵦ₎ - mean)²` (Tukey 1958; Efron and Stein 1981, Annals of Statistics 9:586-596, show that it is rather too
    /// large than too small).
    pub(super) fn spread(&self, without: &[f64]) -> Spread {
        let g = without.len() as f64;
        if g < 2.0 {
            return Spread { variance: 0.0, df: self.df };
        }
        let mean = without.iter().sum::<f64>() / g;
        let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { variance: (g - 1.0) / g * squares, df: self.df }
    }
}

/// A variance, and how well it is known.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) variance: f64,
    /// Degrees of freedom.
    pub(super) df: f64,
}

impl Spread {
    /// The variance of a figure of two sets that were drawn apart from each other (Satterthwaite 1946, Biometrics Bulletin 2:110-114).
    pub(super) fn and(self, other: Self) -> Self {
        let variance = self.variance + other.variance;
        let parts = self.variance.powi(2) / self.df + other.variance.powi(2) / other.df;
        let df = if parts > 0.0 { variance.powi(2) / parts } else { self.df.min(other.df) };
        Self { variance, df }
    }

    /// How many standard deviations an interval of this coverage reaches to each side.
    pub(super) fn quantile(self, level: f64) -> f64 {
        StudentsT::new(0.0, 1.0, self.df.max(1.0)).map_or(f64::INFINITY, |t| t.inverse_cdf(0.5 + level / 2.0))
    }

    /// The interval of a figure of any size.
    pub(super) fn around(self, value: f64, level: f64) -> Estimate {
        let half = self.quantile(level) * self.variance.sqrt();
        Estimate { value, low: value - half, high: value + half }
    }

    /// The interval of a figure that is 0 or above.
    pub(super) fn above_0(self, value: f64, level: f64) -> Estimate {
        let found = self.around(value, level);
        Estimate { low: found.low.max(0.0), ..found }
    }

    /// The interval of a figure in [0, 1]: Wilson's, of as many trials as have this variance. Where no block made a difference it is
    /// that of `units` trials: that all are alike is not certain of all.
    pub(super) fn share(self, value: f64, units: f64, level: f64) -> Estimate {
        let value = value.clamp(0.0, 1.0);
        let inner = value * (1.0 - value);
        let trials = if self.variance > 0.0 && inner > 0.0 { inner / self.variance } else { units };
        let Interval { low, high } = wilson_scaled(value, trials, self.quantile(level));
        Estimate { value, low, high }
    }
}
