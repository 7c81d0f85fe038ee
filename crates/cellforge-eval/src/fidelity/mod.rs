//! How close one set of images comes to another in a space of features: its distance, and what each set has that the other lacks.

mod frechet;
mod halves;
mod kid;
mod prdc;
mod spread;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::frechet::frechet_distance;
pub use self::halves::halves;
pub use self::kid::{Kid, kid};
pub use self::prdc::{Prdc, prdc};
pub use self::spread::mean_distance;

use self::frechet::Moments;
use self::kid::{Bundled, Discrepancy};
use self::prdc::Inside;
use crate::{
    BootstrapOptions, Error, Estimate, Features, Interval, Resampler, Result,
    bootstrap::percentiles,
    proportion::{wilson_at, wilson_interval},
};

/// Features of the images of one set, and the patients they come from.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// One row per image.
    pub features: Features<'a>,
    /// The group (patient) of each image, where it is known.
    pub groups: Option<&'a [String]>,
}

/// How [`fidelity`] compares two sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FidelityOptions {
    /// Nearest neighbour that counts as near, for precision, recall, density and coverage.
    #[schemars(range(min = 1, max = 1000))]
    pub k: usize,
    /// Images of each set in a subset of the kernel distance (KID).
    ///
    /// It has all images of the smaller set if that has fewer.
    #[schemars(range(min = 2, max = 100_000))]
    pub kid_subset: usize,
    /// Subsets of the kernel distance (KID). 0 leaves them out.
    #[schemars(range(max = 100_000))]
    pub kid_subsets: usize,
    /// Resamples, seed and coverage of the intervals.
    #[schemars(skip)]
    pub bootstrap: BootstrapOptions,
    /// Bootstrap resamples of the Fréchet distance. Each costs as much as the distance itself.
    #[schemars(range(min = 20, max = 100_000))]
    pub frechet_resamples: usize,
}

impl Default for FidelityOptions {
    fn default() -> Self {
        Self {
            k: 5,
            kid_subset: 1000,
            kid_subsets: 100,
            bootstrap: BootstrapOptions::default(),
            frechet_resamples: 100,
        }
    }
}

/// How close a set comes to its reference, with intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// [`frechet_distance`]; 0 or above, lower is better.
    pub frechet: Estimate,
    /// The kernel distance of [`kid()`] over all pairs, which is what its mean comes to with more and more subsets; lower is better.
    pub kid: Estimate,
    /// The kernel distance over subsets, as other programs report it.
    pub kid_subsets: Option<Kid>,
    /// [`Prdc::precision`], in [0, 1].
    pub precision: Estimate,
    /// [`Prdc::recall`], in [0, 1].
    pub recall: Estimate,
    /// [`Prdc::density`], 0 or above.
    pub density: Estimate,
    /// [`Prdc::coverage`], in [0, 1].
    pub coverage: Estimate,
    /// Images in the reference.
    pub reference: usize,
    /// Images compared with it.
    pub compared: usize,
    /// Groups (patients) in the reference, where they are known. With a single one, its images are resampled: the spread between
    /// patients is unknown then and the intervals are too narrow.
    pub reference_groups: Option<usize>,
    /// Groups (patients) among the images compared, in the same way.
    pub compared_groups: Option<usize>,
    /// Numbers per image.
    pub dims: usize,
    /// The neighbour that balls reach to.
    pub k: usize,
}

/// Compares `compared` (synthetic images, or real ones for the floor, see [`halves`]) with `reference` (real images).
///
/// # Intervals
/// Both sets are resampled, apart from each other: whole groups where they are known and there is more than one, single images
/// otherwise.
///
/// - Fréchet distance: moments of the resampled rows. Resampling adds its own noise to both covariances, and noise adds to the
///   distance, as the noise of the sample has done once already. The basic (reverse percentile) interval, from `2 v - q` of the upper
///   to `2 v - q` of the lower quantile, takes that excess off instead of adding it a second time. It is cut at 0, and widened where
///   it would not hold the value itself.
/// - Kernel distance: percentiles of the unbiased estimate over pairs of resampled images. Pairs within a group are left out, with
///   those of a group with a second copy of itself: images of one patient are alike, so that with these pairs two sets of different
///   patients would seem apart even where all come from one population. The interval is that population's, widened where it would
///   not hold the value itself. More than 256 groups or images are drawn in 256 random bundles.
/// - Precision and density rest on the compared images, recall and coverage on those of the reference. The balls stay as they are and
///   the images that are counted are resampled, since a resample with its doubles would have smaller balls. So these intervals say
///   how well the figures are known for these balls. Without groups, shares have [`wilson`](crate::wilson)'s interval; where no
///   group is unlike the others, Wilson's with the number of groups.
///
/// # Errors
/// [`Error::DimsDiffer`], [`Error::Length`] if groups are not one per image, [`Error::Neighbours`] if a set has fewer than `k + 1`
/// images, and [`Error::Resamples`] or [`Error::Level`] for options that make no sense.
///
/// ```
/// use cellforge_eval::{Features, FidelityOptions, Sample, fidelity};
/// let real: Vec<f32> = (0..200).map(|i| (i as f32 * 0.7).sin()).collect();
/// let real = Sample { features: Features::new(&real, 2)?, groups: None };
/// let found = fidelity(&real, &real, &FidelityOptions::default())?;
/// assert_eq!((found.frechet.value, found.precision.value, found.density.value), (0.0, 1.0, 1.0));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn fidelity(reference: &Sample, compared: &Sample, options: &FidelityOptions) -> Result<Fidelity> {
    reference.features.same_dims(&compared.features)?;
    options.bootstrap.check()?;
    let frechet_options = BootstrapOptions { resamples: options.frechet_resamples, ..options.bootstrap };
    frechet_options.check()?;
    let units = [Units::new(reference)?, Units::new(compared)?];
    let inside = Inside::new(reference.features, compared.features, options.k)?;
    let shares = inside.shares();
    let [reference_units, compared_units] = &units;
    let bootstrap = &options.bootstrap;
    Ok(Fidelity {
        frechet: frechet([reference.features, compared.features], &units, &frechet_options)?,
        kid: discrepancy([reference.features, compared.features], &units, bootstrap)?,
        kid_subsets: match options.kid_subsets {
            0 => None,
            subsets => Some(kid(reference.features, compared.features, options.kid_subset, subsets, bootstrap.seed)?),
        },
        precision: compared_units.share(shares.precision, &inside.precise(), bootstrap)?,
        recall: reference_units.share(shares.recall, &inside.recalled, bootstrap)?,
        density: compared_units.mean(shares.density, &inside.densities(), bootstrap)?,
        coverage: reference_units.share(shares.coverage, &inside.covered, bootstrap)?,
        reference: reference.features.len(),
        compared: compared.features.len(),
        reference_groups: reference_units.groups,
        compared_groups: compared_units.groups,
        dims: reference.features.dims(),
        k: options.k,
    })
}

/// What is resampled of one set.
struct Units {
    resampler: Resampler,
    by_group: bool,
    groups: Option<usize>,
}

impl Units {
    fn new(sample: &Sample) -> Result<Self> {
        let n = sample.features.len();
        if let Some(groups) = sample.groups.filter(|groups| groups.len() != n) {
            return Err(Error::Length { what: "the array of groups", found: groups.len(), expected: n });
        }
        let by_group = sample.groups.map(Resampler::groups).transpose()?;
        let groups = by_group.as_ref().map(Resampler::units);
        Ok(match by_group {
            Some(resampler) if resampler.units() > 1 => Self { resampler, by_group: true, groups },
            _ => Self { resampler: Resampler::images(n)?, by_group: false, groups },
        })
    }

    /// A share of images with its interval.
    fn share(&self, value: f64, flags: &[bool], options: &BootstrapOptions) -> Result<Estimate> {
        let hits = flags.iter().filter(|&&flag| flag).count();
        if !self.by_group {
            let found = wilson_at(hits as u64, flags.len() as u64, options.level)?;
            return Ok(Estimate { value, low: found.low, high: found.high });
        }
        if hits == 0 || hits == flags.len() {
            let found = wilson_interval(value, self.resampler.units() as f64, options.level)?;
            return Ok(Estimate { value, low: found.low, high: found.high });
        }
        let values: Vec<f64> = flags.iter().map(|&flag| f64::from(u8::from(flag))).collect();
        self.mean(value, &values, options)
    }

    /// A mean over images with the interval of its percentiles.
    fn mean(&self, value: f64, values: &[f64], options: &BootstrapOptions) -> Result<Estimate> {
        if values.iter().all(|&value| value == 0.0) {
            // That no image has any is not certain of all images: Wilson's interval, as though those that have were 1.
            let found = wilson_interval(0.0, self.resampler.units() as f64, options.level)?;
            return Ok(Estimate { value, low: 0.0, high: found.high });
        }
        let mean = |weights: &[u32]| {
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let sum: f64 = weights.iter().zip(values).map(|(&weight, value)| f64::from(weight) * value).sum();
            Some(sum / total as f64)
        };
        Ok(around(value, self.resampler.interval(options, mean)?))
    }
}

/// The streams of random numbers of one resample for the two sets, which are drawn apart from each other.
fn streams(number: u64) -> [u64; 2] {
    [2 * number, 2 * number + 1]
}

fn frechet(sets: [Features; 2], units: &[Units; 2], options: &BootstrapOptions) -> Result<Estimate> {
    let value = frechet_distance(sets[0], sets[1])?;
    let one = |number| {
        let [a, b] = streams(number);
        let a = Moments::new(sets[0], Some(&units[0].resampler.weights(options.seed, a)))?;
        a.distance(&Moments::new(sets[1], Some(&units[1].resampler.weights(options.seed, b)))?)
    };
    let found: Vec<f64> = (0..options.resamples as u64).into_par_iter().filter_map(one).collect();
    let reversed = |found: Interval| Interval {
        low: (2.0 * value - found.high).max(0.0),
        high: (2.0 * value - found.low).max(0.0),
    };
    Ok(around(value, percentiles(found, options.level).map(reversed)))
}

fn discrepancy(sets: [Features; 2], units: &[Units; 2], options: &BootstrapOptions) -> Result<Estimate> {
    let bundled = [0, 1].map(|side| Bundled::new(sets[side], &units[side].resampler, options.seed));
    let sums = Discrepancy::new(&bundled[0], &bundled[1]);
    let needed = Error::Images { figure: "the kernel distance", needed: 2, rows: sets[0].len().min(sets[1].len()) };
    let value = sums.value().ok_or(needed)?;
    let [a, b] = [Resampler::images(bundled[0].bundles())?, Resampler::images(bundled[1].bundles())?];
    let one = |number| {
        let streams = streams(number);
        sums.resampled(&a.weights(options.seed, streams[0]), &b.weights(options.seed, streams[1]))
    };
    let found: Vec<f64> = (0..options.resamples as u64).into_par_iter().filter_map(one).collect();
    Ok(around(value, percentiles(found, options.level)))
}

/// A figure with an interval that holds it.
fn around(value: f64, interval: Option<Interval>) -> Estimate {
    let Interval { low, high } = interval.unwrap_or(Interval { low: value, high: value });
    Estimate { value, low: low.min(value), high: high.max(value) }
}

/// `n` numbers of a linear congruential generator that begins at `x`, for tests.
#[cfg(test)]
fn congruential(n: usize, mut x: u64) -> impl Iterator<Item = u64> {
    (0..n).map(move |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x
    })
}
