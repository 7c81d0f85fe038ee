//! How close one set of images comes to another in a space of features: its distance, and what each set has that the other lacks.

mod alpha;
mod balls;
mod fld;
mod frechet;
mod halves;
mod kid;
mod prdc;
mod spread;
mod units;
mod vendi;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::fld::fld;
pub use self::frechet::frechet_distance;
pub use self::halves::halves;
pub use self::kid::{Kid, kid};
pub use self::prdc::{ImageScore, Prdc, image_scores, prdc};
pub use self::spread::mean_distance;
pub use self::vendi::vendi_score;

use self::balls::Balls;
use self::kid::{Bundled, Discrepancy};
use self::prdc::Inside;
use self::units::Blocks;
use crate::{BootstrapOptions, Error, Estimate, Features, Result};

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
    /// Halves of both sets from which the Fréchet distance is extrapolated. Each costs about as much as the distance itself.
    #[schemars(range(min = 20, max = 100_000))]
    pub frechet_resamples: usize,
}

impl Default for FidelityOptions {
    fn default() -> Self {
        Self { k: 5, kid_subset: 1000, kid_subsets: 100, bootstrap: BootstrapOptions::default(), frechet_resamples: 40 }
    }
}

/// How close a set comes to its reference, with intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// The Fréchet distance of what the two sets were drawn from (FD∞): [`frechet_distance`] extrapolated to endless samples; 0 or
    /// above, lower is better.
    pub frechet: Estimate,
    /// [`frechet_distance`] of the two sets as they are, as other programs report it. It is above `frechet`, the more so the smaller
    /// the sets are, and may lie above its interval: compare it only between sets of the same sizes.
    pub frechet_measured: f64,
    /// Sum of the variances of the reference's features, the trace of their covariance: what a distance is large or small beside.
    pub variance: f64,
    /// The kernel distance of [`kid()`] over all pairs of two groups, or of two images where groups are not known; lower is better.
    pub kid: Estimate,
    /// The kernel distance over subsets, as other programs report it, with pairs within groups.
    pub kid_subsets: Option<Kid>,
    /// [`Prdc::precision`], in [0, 1].
    pub precision: Estimate,
    /// [`Prdc::recall`], in [0, 1].
    pub recall: Estimate,
    /// [`Prdc::density`], 0 or above.
    pub density: Estimate,
    /// [`Prdc::coverage`], in [0, 1].
    pub coverage: Estimate,
    /// Integrated alpha-precision (Alaa et al. 2022), in [0, 1]: whether the compared images are as typical of the reference as its
    /// own are, for every size of the typical part.
    pub alpha_precision: Estimate,
    /// Integrated beta-recall (Alaa et al. 2022), in [0, 1]: whether the reference's images have a compared image as near as their
    /// nearest fellow, for every size of the compared images' typical part. About half for sets of one kind.
    pub beta_recall: Estimate,
    /// [`vendi_score`] of the compared images, from 1 to their number.
    pub vendi: Estimate,
    /// Share of the compared images with an [`ImageScore::realism`] of 1 or above, in [0, 1].
    pub realistic: Estimate,
    /// Mean [`ImageScore::rarity`] of the compared images that have one; none where no image has.
    pub rarity: Option<Estimate>,
    /// Images in the reference.
    pub reference: usize,
    /// Images compared with it.
    pub compared: usize,
    /// Groups (patients) in the reference, where they are known. With a single one, its images are left out one by one: the spread
    /// between patients is unknown then and the intervals are too narrow.
    pub reference_groups: Option<usize>,
    /// Groups (patients) among the images compared, in the same way.
    pub compared_groups: Option<usize>,
    /// [`effective_groups`](crate::effective_groups) of the reference.
    pub reference_effective_groups: Option<f64>,
    /// [`effective_groups`](crate::effective_groups) of the images compared.
    pub compared_effective_groups: Option<f64>,
    /// Numbers per image.
    pub dims: usize,
    /// The neighbour that balls reach to.
    pub k: usize,
}

/// Compares `compared` (synthetic images, or real ones for the floor) with `reference` (real images).
///
/// # Intervals
/// All hold the draw of both sets, apart from each other: groups are what is drawn where they are known and there is more than one,
/// single images otherwise. Each is left out once (blocks of them where there are more than 48), and the variance is the jackknife's.
/// No image is ever there twice, as in a bootstrap, where it would be its own nearest neighbour. Quantiles are Student's, with Kish's
/// effective number of blocks less 1 as degrees of freedom (Satterthwaite's for both sets). The example `coverage_of_intervals` shows
/// how often they hold the true figure.
///
/// - Fréchet distance: around the value that is extrapolated to endless samples, for the distance of what was drawn from. The variance
///   is not below that between random halves, and the lower end lies lower by what the curve of the extrapolation adds.
/// - Kernel distance: value and interval are of the unbiased estimate over pairs of images of two groups. Images of one patient are
///   alike, so that with pairs within patients two sets of different patients would seem apart even where all come from one
///   population. More than 256 groups or images are left out in 256 random bundles.
/// - Shares (precision, recall, coverage, realistic, alpha-precision, beta-recall): Wilson's interval of as many trials as have this
///   variance; where no block makes a difference, of as many as the smaller effective number of groups, or of images. These figures,
///   density, rarity and the Vendi score depend on the sizes of the sets: the interval is for the mean of sets of these sizes.
///
/// # Errors
/// [`Error::DimsDiffer`], [`Error::Length`] if groups are not one per image, [`Error::Neighbours`] if a set has fewer than `k + 1`
/// images, [`Error::Empty`] if all features of the compared images are 0, and [`Error::Resamples`] or [`Error::Level`] for options
/// that make no sense.
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
    let BootstrapOptions { seed, level, .. } = options.bootstrap;
    let frechet_options = BootstrapOptions { resamples: options.frechet_resamples, ..options.bootstrap };
    frechet_options.check()?;
    let blocks = [Blocks::new(reference, seed)?, Blocks::new(compared, seed)?];
    let sets = [reference.features, compared.features];
    let balls = |side: usize| Balls::new(sets[side], options.k, Some(&blocks[side]));
    let inside = Inside::new(balls(0)?, &balls(1)?, true)?;
    let shares = inside.estimates(&blocks, level);
    let [alpha_precision, beta_recall] = alpha::alpha_beta(sets[0], sets[1], &inside, &blocks, level);
    let frechet = frechet::extrapolated(sets, &blocks, &frechet_options)?;
    let [reference_blocks, compared_blocks] = &blocks;
    Ok(Fidelity {
        frechet: frechet.endless,
        frechet_measured: frechet.measured,
        variance: frechet.variance,
        kid: discrepancy(sets, &blocks, &options.bootstrap)?,
        kid_subsets: match options.kid_subsets {
            0 => None,
            subsets => Some(kid(sets[0], sets[1], options.kid_subset, subsets, seed)?),
        },
        precision: shares.precision,
        recall: shares.recall,
        density: shares.density,
        coverage: shares.coverage,
        alpha_precision,
        beta_recall,
        vendi: vendi::vendi(compared.features, compared_blocks, level)?,
        realistic: shares.realistic,
        rarity: shares.rarity,
        reference: reference.features.len(),
        compared: compared.features.len(),
        reference_groups: reference_blocks.groups,
        compared_groups: compared_blocks.groups,
        reference_effective_groups: reference_blocks.effective_groups,
        compared_effective_groups: compared_blocks.effective_groups,
        dims: reference.features.dims(),
        k: options.k,
    })
}

fn discrepancy(sets: [Features; 2], blocks: &[Blocks; 2], options: &BootstrapOptions) -> Result<Estimate> {
    let bundled = [0, 1].map(|side| Bundled::new(sets[side], &blocks[side].units, options.seed));
    let sums = Discrepancy::new(&bundled[0], &bundled[1]);
    let own = [0, 1].map(|side| !blocks[side].by_group);
    let needed = Error::Images { figure: "the kernel distance", needed: 2, rows: sets[0].len().min(sets[1].len()) };
    sums.estimate(own, blocks, options.level).ok_or(needed)
}

/// Values of `of` for 0 to `count`, in this order, computed in parallel.
fn in_order<T: Send>(count: usize, of: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    (0..count).into_par_iter().map(of).collect()
}

/// `n` numbers of a linear congruential generator that begins at `x`, for tests.
#[cfg(test)]
pub(crate) fn congruential(n: usize, mut x: u64) -> impl Iterator<Item = u64> {
    (0..n).map(move |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x
    })
}
