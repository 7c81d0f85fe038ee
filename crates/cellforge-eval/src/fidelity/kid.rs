//! The kernel distance between two sets of features (KID).

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rand::{SeedableRng, seq::SliceRandom, seq::index};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::units::Blocks;
use crate::{Error, Estimate, Features, Resampler, Result};

/// Rows on each side of a block of kernel values. Fixed, because the order of sums depends on it.
const ROWS: usize = 256;
/// Most bundles of images or groups that are resampled: sums of kernel values are kept for every pair of them.
const BUNDLES: usize = 256;

/// The kernel distance over random subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kid {
    /// Mean over the subsets.
    pub mean: f64,
    /// Standard deviation over the subsets (with their number as divisor): how much one subset differs from another, not how well
    /// the mean is known. None where a subset is all of both sets, so that no two differ, and where there is one alone.
    pub std: Option<f64>,
    /// Rows of each set in a subset.
    pub subset: usize,
    /// Number of subsets.
    pub subsets: usize,
}

/// The kernel distance of `a` and `b` over `subsets` random subsets: `subset` rows of each set, or all of the smaller set if it has
/// fewer, drawn without replacement.
///
/// It is the unbiased squared maximum mean discrepancy with the kernel `(x·y / d + 1)³`: Bińkowski et al. 2018, Demystifying MMD
/// GANs, arXiv:1801.01401, who call it KID with the features of one network. It does not grow as sets get smaller, and is below 0
/// about half the time where both sets come from one distribution. With more than one subset the mean comes close to the value over
/// all pairs, which [`fidelity`](crate::fidelity()) reports.
///
/// # Errors
/// [`Error::DimsDiffer`], [`Error::Images`] if a set or a subset has fewer than 2 rows, or [`Error::Empty`] if there are no subsets.
///
/// ```
/// use cellforge_eval::{Features, kid};
/// // In one dimension the kernel is (xy + 1)³. Within {0, 1} the one pair has 1, within {1, 2} 27; between them the four pairs have
/// // 1, 1, 8 and 27: 1 + 27 - 2 · 37 / 4.
/// let found = kid(Features::new(&[0.0, 1.0], 1)?, Features::new(&[1.0, 2.0], 1)?, 1000, 1, 0)?;
/// assert_eq!((found.mean, found.subset), (9.5, 2));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn kid(a: Features, b: Features, subset: usize, subsets: usize, seed: u64) -> Result<Kid> {
    a.same_dims(&b)?;
    let subset = subset.min(a.len()).min(b.len());
    if subset < 2 {
        return Err(Error::Images { figure: "the kernel distance", needed: 2, rows: subset });
    }
    if subsets == 0 {
        return Err(Error::Empty { what: "the list of subsets" });
    }
    let one = |number: u64| {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let mut draw = |set: Features<'_>| {
            let mut rows = index::sample(&mut rng, set.len(), subset).into_vec();
            rows.sort_unstable();
            set.select(&rows)
        };
        let (a_values, b_values) = (draw(a), draw(b));
        let bundled = |values| Ok(Bundled::one(Features::new(values, a.dims())?));
        Ok(Discrepancy::new(&bundled(&a_values)?, &bundled(&b_values)?).value().unwrap_or(0.0))
    };
    // Subsets that are all of both sets are one and the same.
    let different = if subset < a.len() || subset < b.len() { subsets } else { 1 };
    let found: Vec<f64> = (0..different as u64).into_par_iter().map(one).collect::<Result<_>>()?;
    let mean = found.iter().sum::<f64>() / different as f64;
    let variance = found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / different as f64;
    Ok(Kid { mean, std: (different > 1).then(|| variance.sqrt()), subset, subsets })
}

/// A set of rows in bundles that are resampled whole.
pub(super) struct Bundled<'a> {
    set: Features<'a>,
    /// The rows, bundle after bundle.
    order: Vec<usize>,
    /// The bundle of each of `order`.
    bundle: Vec<usize>,
    /// Rows in each bundle.
    sizes: Vec<f64>,
}

impl<'a> Bundled<'a> {
    /// The units of `resampler` as bundles, or put together at random where they are very many: units that are drawn independently
    /// can be drawn in bundles as well.
    pub(super) fn new(set: Features<'a>, resampler: &Resampler, seed: u64) -> Self {
        let units = resampler.units();
        let mut numbers: Vec<usize> = (0..units).collect();
        if units > BUNDLES {
            numbers.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
        }
        let bundle_of: Vec<usize> = resampler.unit_of().iter().map(|&unit| numbers[unit] % BUNDLES).collect();
        Self::with(set, &bundle_of, units.min(BUNDLES))
    }

    /// All rows in one bundle.
    fn one(set: Features<'a>) -> Self {
        Self::with(set, &vec![0; set.len()], 1)
    }

    fn with(set: Features<'a>, bundle_of: &[usize], bundles: usize) -> Self {
        let mut order: Vec<usize> = (0..set.len()).collect();
        order.sort_by_key(|&row| bundle_of[row]);
        let bundle: Vec<usize> = order.iter().map(|&row| bundle_of[row]).collect();
        let mut sizes = vec![0.0; bundles];
        bundle.iter().for_each(|&bundle| sizes[bundle] += 1.0);
        Self { set, order, bundle, sizes }
    }

    pub(super) fn bundles(&self) -> usize {
        self.sizes.len()
    }

    /// Rows `from` to `to` of the order in `f64`, row-major.
    fn rows(&self, from: usize, to: usize) -> Vec<f64> {
        self.order[from..to].iter().flat_map(|&row| self.set.row(row)).map(|&value| f64::from(value)).collect()
    }
}

/// Sums of kernel values between and within two sets, by pairs of bundles, from which the discrepancy of every resample follows.
pub(super) struct Discrepancy {
    /// Sums over pairs of two different rows, each pair once, `(bundles, bundles)`: 0 below the diagonal.
    within: [Vec<f64>; 2],
    /// Sums over all pairs, `(bundles of the first set, bundles of the second)`.
    between: Vec<f64>,
    sizes: [Vec<f64>; 2],
}

impl Discrepancy {
    pub(super) fn new(a: &Bundled, b: &Bundled) -> Self {
        Self {
            within: [kernel_sums(a, a, true), kernel_sums(b, b, true)],
            between: kernel_sums(a, b, false),
            sizes: [a.sizes.clone(), b.sizes.clone()],
        }
    }

    /// The unbiased squared discrepancy over all pairs of different rows. `None` where a set has no two.
    fn value(&self) -> Option<f64> {
        let once = [0, 1].map(|side| vec![1; self.sizes[side].len()]);
        self.weighted(&once[0], &once[1], [true; 2])
    }

    /// The discrepancy with its interval. `own` counts pairs of rows of one bundle, for each set: to be left out where rows of one bundle are more
    /// alike than those of two, so that two sets of different patients would seem further apart than what they come from.
    pub(super) fn estimate(&self, own: [bool; 2], blocks: &[Blocks; 2], level: f64) -> Option<Estimate> {
        let all = [0, 1].map(|side| vec![1; self.sizes[side].len()]);
        let value = self.weighted(&all[0], &all[1], own)?;
        let without = |side: usize| -> Vec<f64> {
            let one = |left_out: usize| {
                let mut weights = all.clone();
                weights[side][left_out] = 0;
                self.weighted(&weights[0], &weights[1], own)
            };
            super::in_order(self.sizes[side].len(), one).into_iter().flatten().collect()
        };
        let spread = blocks[0].spread(&without(0)).and(blocks[1].spread(&without(1)));
        Some(spread.around(value, level))
    }

    fn weighted(&self, a_weights: &[u32], b_weights: &[u32], own: [bool; 2]) -> Option<f64> {
        let weights = [a_weights, b_weights].map(|w| w.iter().map(|&w| f64::from(w)).collect::<Vec<f64>>());
        let mut value = 0.0;
        for side in 0..2 {
            let (weights, sizes) = (&weights[side], &self.sizes[side]);
            let (mut sum, mut pairs) = (0.0, 0.0);
            for (g, sums) in self.within[side].chunks(sizes.len()).enumerate().filter(|(g, _)| weights[*g] > 0.0) {
                let (mut others, mut rows) = (0.0, 0.0);
                for h in g + 1..sizes.len() {
                    others += weights[h] * sums[h];
                    rows += weights[h] * sizes[h];
                }
                sum += weights[g] * others;
                pairs += weights[g] * sizes[g] * rows;
                if own[side] {
                    sum += weights[g] * sums[g];
                    pairs += weights[g] * sizes[g] * (sizes[g] - 1.0) / 2.0;
                }
            }
            if pairs == 0.0 {
                return None;
            }
            value += sum / pairs;
        }
        let [a, b] = &weights;
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let sum: f64 = self.between.chunks(b.len()).zip(a).map(|(sums, weight)| weight * dot(sums, b)).sum();
        Some(value - 2.0 * sum / (dot(a, &self.sizes[0]) * dot(b, &self.sizes[1])))
    }
}

/// Sums of kernel values by bundles of `a` and of `b`. With `once`, where both are one set, each pair of different rows counts once.
fn kernel_sums(a: &Bundled, b: &Bundled, once: bool) -> Vec<f64> {
    let dims = a.set.dims();
    let starts: Vec<usize> = (0..a.order.len()).step_by(ROWS).collect();
    // Blocks run in parallel and are added up one after the other, so that the sum does not depend on the threads.
    let block = |from: usize| {
        let to = (from + ROWS).min(a.order.len());
        let xs = a.rows(from, to);
        let (first, last) = (a.bundle[from], a.bundle[to - 1]);
        let mut sums = vec![0.0; (last + 1 - first) * b.bundles()];
        let mut products = vec![0.0; (to - from) * ROWS];
        for start in (if once { from } else { 0 }..b.order.len()).step_by(ROWS) {
            let end = (start + ROWS).min(b.order.len());
            let products = &mut products[..(to - from) * (end - start)];
            multiply(products, &xs, &b.rows(start, end), dims);
            for (i, row) in products.chunks(end - start).enumerate() {
                let sums = &mut sums[(a.bundle[from + i] - first) * b.bundles()..][..b.bundles()];
                let skip = if once { (from + i + 1).saturating_sub(start).min(end - start) } else { 0 };
                for (product, &bundle) in row[skip..].iter().zip(&b.bundle[start + skip..end]) {
                    sums[bundle] += (product / dims as f64 + 1.0).powi(3);
                }
            }
        }
        (first, sums)
    };
    let blocks: Vec<(usize, Vec<f64>)> = starts.into_par_iter().map(block).collect();
    let mut total = vec![0.0; a.bundles() * b.bundles()];
    for (first, sums) in blocks {
        total[first * b.bundles()..].iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// `x·y` of all rows of `xs` and `ys`, `(xs, ys)`, row-major, on this thread.
fn multiply(products: &mut [f64], xs: &[f64], ys: &[f64], dims: usize) {
    let (rows, columns) = (xs.len() / dims, ys.len() / dims);
    let out = MatMut::from_row_major_slice_mut(products, rows, columns);
    let xs = MatRef::from_row_major_slice(xs, rows, dims);
    let ys = MatRef::from_row_major_slice(ys, columns, dims);
    matmul(out, Accum::Replace, xs, ys.transpose(), 1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::super::congruential;
    use super::*;

    fn numbers(n: usize, x: u64) -> Vec<f32> {
        congruential(n, x).map(|x| (x >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
    }

    fn kernel(a: &[f32], b: &[f32]) -> f64 {
        let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        (dot / a.len() as f64 + 1.0).powi(3)
    }

    /// The weighted discrepancy over copies of groups, pair by pair; `own` with pairs of one group.
    fn by_pairs(own: bool, sets: [Features; 2], groups: [&[usize]; 2], weights: [&[u32]; 2]) -> f64 {
        // Row and group of each image that was drawn.
        let [a, b] = [0, 1].map(|side| -> Vec<(usize, usize)> {
            let copies = |row: usize| std::iter::repeat_n(row, weights[side][groups[side][row]] as usize);
            (0..sets[side].len()).flat_map(copies).map(|row| (row, groups[side][row])).collect()
        });
        let mut value = 0.0;
        for (side, drawn) in [&a, &b].into_iter().enumerate() {
            let pairs = drawn.iter().flat_map(|x| drawn.iter().map(move |y| (x, y)));
            let kept = pairs.filter(|(x, y)| x.1 != y.1 || (own && x.0 != y.0));
            let values: Vec<f64> = kept.map(|(x, y)| kernel(sets[side].row(x.0), sets[side].row(y.0))).collect();
            value += values.iter().sum::<f64>() / values.len() as f64;
        }
        let between =
            |x: &(usize, usize)| -> f64 { b.iter().map(|y| kernel(sets[0].row(x.0), sets[1].row(y.0))).sum() };
        value - 2.0 * a.iter().map(between).sum::<f64>() / (a.len() * b.len()) as f64
    }

    #[test]
    fn resamples_of_groups_as_pair_by_pair() {
        let (a_values, b_values) = (numbers(300 * 5, 1), numbers(70 * 5, 2));
        let sets = [Features::new(&a_values, 5).unwrap(), Features::new(&b_values, 5).unwrap()];
        let a_groups: Vec<usize> = (0..300).map(|i| i * i % 7).collect();
        let b_groups: Vec<usize> = (0..70).map(|i| i / 10).collect();
        let [a, b] = [&a_groups, &b_groups].map(|groups| Resampler::groups(groups).unwrap());
        let (a, b) = (Bundled::new(sets[0], &a, 0), Bundled::new(sets[1], &b, 0));
        // Of i² mod 7 there are the numbers 0, 1, 2 and 4, which the resampler counts through.
        let a_groups: Vec<usize> = a_groups.iter().map(|&g| [0, 1, 2, 9, 3][g]).collect();
        let sums = Discrepancy::new(&a, &b);
        for (a_weights, b_weights) in [([1; 4], [1; 7]), ([0, 3, 1, 2], [1, 0, 2, 0, 1, 3, 0]), ([0, 0, 3, 1], [2; 7])]
        {
            let found = sums.weighted(&a_weights, &b_weights, [false; 2]).unwrap();
            let expected = by_pairs(false, sets, [&a_groups, &b_groups], [&a_weights, &b_weights]);
            assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
        }
        let (found, expected) =
            (sums.value().unwrap(), by_pairs(true, sets, [&a_groups, &b_groups], [&[1; 4], &[1; 7]]));
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
        assert_eq!(sums.weighted(&[0, 0, 4, 0], &[1; 7], [false; 2]), None);
    }

    #[test]
    fn many_images_are_put_together_in_bundles_of_one_size() {
        let values = numbers(1000, 3);
        let set = Features::new(&values, 1).unwrap();
        let bundled = Bundled::new(set, &Resampler::images(1000).unwrap(), 7);
        assert_eq!(bundled.bundles(), 256);
        assert!(bundled.sizes.iter().all(|&size| size == 3.0 || size == 4.0));
        // The value over all pairs is that of one subset of all rows.
        let all = kid(set, set, 1000, 1, 0).unwrap();
        let found = Discrepancy::new(&bundled, &bundled).value().unwrap();
        assert!((found - all.mean).abs() < 1e-12);
        assert!(found < 0.0, "{found}: of the same set the unbiased estimate is a little below 0");
    }

    #[test]
    fn subsets_are_drawn_from_the_seed() {
        let (a, b) = (numbers(90 * 3, 1), numbers(120 * 3, 2));
        let (a, b) = (Features::new(&a, 3).unwrap(), Features::new(&b, 3).unwrap());
        let found = kid(a, b, 40, 30, 1).unwrap();
        assert_eq!(found, kid(a, b, 40, 30, 1).unwrap());
        assert_ne!(found, kid(a, b, 40, 30, 2).unwrap());
        let all = kid(a, b, 1000, 1, 0).unwrap();
        assert_eq!((all.subset, all.std), (90, None));
        // The smaller set whole and the larger in part: subsets differ. The same set whole on both sides: they do not.
        assert!(kid(a, b, 1000, 5, 0).unwrap().std.unwrap() > 0.0);
        assert_eq!(kid(a, a, 1000, 5, 0).unwrap().std, None);
        assert!((found.mean - all.mean).abs() < 4.0 * found.std.unwrap() / 30_f64.sqrt());
        assert!(matches!(kid(a, b, 1, 3, 0), Err(Error::Images { .. })));
        assert!(matches!(kid(a, b, 9, 0, 0), Err(Error::Empty { .. })));
    }
}
