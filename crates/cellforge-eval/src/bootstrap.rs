//! Bootstrap intervals: how a figure varies when the images, or the patients they come from, are drawn again.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, Result, proportion::LEVEL};

/// How to compute bootstrap intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootstrapOptions {
    /// Number of resamples, at least 20.
    pub resamples: usize,
    /// Seed of the draws. Each resample is keyed by its number, so that results do not depend on the number of threads.
    pub seed: u64,
    /// Coverage of the intervals, in (0, 1).
    pub level: f64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self { resamples: 1000, seed: 0, level: LEVEL }
    }
}

impl BootstrapOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if self.resamples < 20 {
            return Err(Error::Resamples(self.resamples));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::Level(self.level));
        }
        Ok(())
    }
}

/// Draws images with replacement, one by one or whole groups at a time.
///
/// Images of one patient resemble each other, so that drawing single images gives intervals that are too narrow; drawing whole patients
/// (the cluster bootstrap) keeps what the images of a patient share.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// The unit (image or group) of each image.
    unit_of: Vec<usize>,
    units: usize,
}

impl Resampler {
    /// Draws single images out of `n`.
    ///
    /// # Errors
    /// [`Error::Empty`] if `n` is 0.
    pub fn images(n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::Empty { what: "the array of labels" });
        }
        Ok(Self { unit_of: (0..n).collect(), units: n })
    }

    /// Draws whole groups; `groups[i]` is the group of image `i`.
    ///
    /// # Errors
    /// [`Error::Empty`] if there are no images.
    pub fn groups<G: Ord>(groups: &[G]) -> Result<Self> {
        if groups.is_empty() {
            return Err(Error::Empty { what: "the array of groups" });
        }
        let mut numbers: BTreeMap<&G, usize> = groups.iter().map(|group| (group, 0)).collect();
        for (number, slot) in numbers.values_mut().enumerate() {
            *slot = number;
        }
        Ok(Self { unit_of: groups.iter().map(|group| numbers[group]).collect(), units: numbers.len() })
    }

    /// Units that are drawn: images or groups.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// The unit of each image, below [`Self::units`].
    pub(crate) fn unit_of(&self) -> &[usize] {
        &self.unit_of
    }

    /// How often each image occurs in resample `number`: as many units are drawn, with replacement, as there are.
    #[must_use]
    pub fn weights(&self, seed: u64, number: u64) -> Vec<u32> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let mut drawn = vec![0_u32; self.units];
        for _ in 0..self.units {
            drawn[rng.random_range(0..self.units)] += 1;
        }
        self.unit_of.iter().map(|&unit| drawn[unit]).collect()
    }

    /// Applies `statistic` to the weights of every resample, in parallel; the results are in the order of the resamples.
    pub(crate) fn map<T: Send>(
        &self,
        options: &BootstrapOptions,
        statistic: impl Fn(&[u32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        resamples(options, |number| statistic(&self.weights(options.seed, number)))
    }

    /// The percentile interval of a figure. `statistic` is given how often each image occurs in a resample, and answers `None` where
    /// the figure is not defined; such resamples are left out. The answer is `None` if no resample defines the figure.
    ///
    /// # Errors
    /// [`Error::Resamples`] or [`Error::Level`] for options that make no sense.
    ///
    /// ```
    /// use cellforge_eval::{BootstrapOptions, Resampler};
    /// let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    /// let patients = ["a", "a", "b", "b", "c", "c"];
    /// let mean = |weights: &[u32]| {
    ///     let total: f64 = weights.iter().zip(values).map(|(&w, v)| f64::from(w) * v).sum();
    ///     Some(total / f64::from(weights.iter().sum::<u32>()))
    /// };
    /// let interval = Resampler::groups(&patients)?.interval(&BootstrapOptions::default(), mean)?.unwrap();
    /// assert!(interval.low < 3.5 && 3.5 < interval.high);
    /// # Ok::<(), cellforge_eval::Error>(())
    /// ```
    pub fn interval(
        &self,
        options: &BootstrapOptions,
        statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Result<Option<Interval>> {
        Ok(percentiles(self.map(options, statistic)?.into_iter().flatten().collect(), options.level))
    }
}

/// Kish's effective number of groups (patients): as many groups of one size would tell as much as these do, `(Σ nᵢ)² / Σ nᵢ²` for `nᵢ`
/// images of group `i`. `groups[j]` is the group of image `j`; 0 where there are no images.
///
/// Kish, L. (1965), Survey Sampling. It lies between 1 and the number of groups, which it reaches where all have as many images.
///
/// ```
/// // Patients with 3, 1 and 1 images: 25 / 11.
/// let found = cellforge_eval::effective_groups(&["a", "a", "a", "b", "c"]);
/// assert!((found - 25.0 / 11.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn effective_groups<G: Ord>(groups: &[G]) -> f64 {
    let mut sizes: BTreeMap<&G, f64> = BTreeMap::new();
    groups.iter().for_each(|group| *sizes.entry(group).or_default() += 1.0);
    let squares: f64 = sizes.values().map(|size| size * size).sum();
    if groups.is_empty() { 0.0 } else { (groups.len() as f64).powi(2) / squares }
}

/// What `statistic` says of every resample, by its number, in parallel and in their order.
pub(crate) fn resamples<T: Send>(
    options: &BootstrapOptions,
    statistic: impl Fn(u64) -> T + Send + Sync,
) -> Result<Vec<T>> {
    options.check()?;
    Ok((0..options.resamples as u64).into_par_iter().map(statistic).collect())
}

/// The central part of `values` that holds a share `level` of them; `None` if there are none.
pub(crate) fn percentiles(mut values: Vec<f64>, level: f64) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
}

/// The `q` quantile of sorted values, linear between neighbours (NumPy's default).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let position = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        // Of 10, 20, 30, 40 the quantile 0.25 lies at position 0.25 * 3 = 0.75: 10 + 0.75 * 10.
        assert_eq!(quantile(&[10.0, 20.0, 30.0, 40.0], 0.25), Some(17.5));
        assert_eq!(quantile(&[10.0, 20.0, 30.0, 40.0], 1.0), Some(40.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn groups_are_drawn_whole() {
        let resampler = Resampler::groups(&["b", "a", "b", "c", "a", "b"]).unwrap();
        assert_eq!(resampler.units(), 3);
        for number in 0..50 {
            let w = resampler.weights(7, number);
            assert!(w[0] == w[2] && w[2] == w[5] && w[1] == w[4]);
            // Three units are drawn: the weights of one image per group add up to three.
            assert_eq!(w[0] + w[1] + w[3], 3);
        }
        assert_ne!(resampler.weights(7, 0), resampler.weights(8, 0));
    }
}
