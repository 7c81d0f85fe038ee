//! The Fréchet distance between two sets of features.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt_pivoting::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::{
    matmul,
    triangular::{self, BlockStructure},
};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::prelude::default;
use faer::{Accum, Mat, MatRef, Par, Side, diag::Diag};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

use super::units::Blocks;
use crate::{BootstrapOptions, Error, Estimate, Features, Result};

/// Rows that are centred and multiplied at a time.
const ROWS: usize = 512;
/// What the difference of the traces may be, relative to their sum, and still be rounding: a distance below that is 0.
const ROUNDING: f64 = 1e-12;

/// The Fréchet distance between the normal distributions that have the means and covariances of `a` and `b`: 0 if those are equal,
/// and never below.
///
/// `|m₁ - m₂|² + tr(S₁) + tr(S₂) - 2 tr((S₁ S₂)^½)`, with covariances over `n - 1` (Dowson and Landau 1982, J. Multivariate Analysis
/// 12:450-455; for images Heusel et al. 2017, arXiv:1706.08500, who call it FID with one network's features). With factors
/// `Sᵢ = Rᵢᵀ Rᵢ` the last trace is the sum of the singular values of `R₁ R₂ᵀ`. That takes no root of a small eigenvalue that is all
/// rounding error, and needs no full rank: where there are fewer rows than dimensions, `Rᵢ` are the centred rows themselves.
/// Everything is computed in `f64`, and takes time `O(n d² + d³)` and memory `O(d²)`, or `O(n²)` where that is less.
///
/// The distance of two finite samples is above that of what they were drawn from, the more so the smaller they are: compare only
/// distances between sets of the same sizes, or [`Fidelity::frechet`](crate::Fidelity::frechet), which takes that off.
///
/// # Errors
/// [`Error::DimsDiffer`], or [`Error::Images`] if a set has fewer than 2 rows.
///
/// ```
/// use cellforge_eval::{Features, frechet_distance};
/// // In one dimension the distance is (m₁ - m₂)² + (s₁ - s₂)²: means 1 and 6, variances 2 and 8.
/// let distance = frechet_distance(Features::new(&[0.0, 2.0], 1)?, Features::new(&[4.0, 8.0], 1)?)?;
/// assert!((distance - (25.0 + 2.0)).abs() < 1e-12);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn frechet_distance(a: Features, b: Features) -> Result<f64> {
    a.same_dims(&b)?;
    for set in [a, b] {
        if set.len() < 2 {
            return Err(Error::Images { figure: "the Fréchet distance", needed: 2, rows: set.len() });
        }
    }
    let (a, b) = rayon::join(|| Moments::new(a, None), || Moments::new(b, None));
    a.zip(b).and_then(|(a, b)| a.distance(&b)).ok_or(Error::NotConverged)
}

/// The distance of two sets.
pub(super) struct Extrapolated {
    /// Of what the sets were drawn from.
    pub(super) endless: Estimate,
    /// Of the sets as they are.
    pub(super) measured: f64,
    /// The trace of the first set's covariance.
    pub(super) variance: f64,
}

/// The distance of what two sets were drawn from, with its interval.
///
/// The distance of samples is above it by about `b / n + c / n²`. What leaving out single blocks adds (the jackknife's bias of both
/// sides together) tells `b + 2 c`, and what halves of both sets add tells `b` and `c`; without both the distance is that of endless
/// samples. Chong and Forsyth 2020 (Effectively unbiased FID and where to find it, arXiv:1911.07023) draw a line through distances of
/// smaller samples over `1 / n`, and call its value at 0 FD∞. Here patients, where they are known, are what `n` counts, and the line
/// is curved: with fewer patients than dimensions a straight one ends far above.
///
/// The variance is the larger of the jackknife's, and of that between halves, which sees more where sets are small. What `c` took off
/// is not sure to be all: the interval reaches further down by as much. It is cut at 0.
pub(super) fn extrapolated(
    sets: [Features; 2],
    blocks: &[Blocks; 2],
    options: &BootstrapOptions,
) -> Result<Extrapolated> {
    let measured = frechet_distance(sets[0], sets[1])?;
    let moments = [0, 1].map(|side| Moments::new(sets[side], None));
    let [Some(a), Some(b)] = &moments else { return Err(Error::NotConverged) };
    let without = [Without::new(sets[0], a, b), Without::new(sets[1], b, a)];
    let start = without[0].distance(&[]).ok_or(Error::NotConverged)?;
    let (mut slope, mut spreads) = (0.0, Vec::new());
    for (side, without) in without.iter().enumerate() {
        let rows = blocks[side].rows();
        let found: Vec<f64> =
            super::in_order(rows.len(), |block| without.distance(&rows[block])).into_iter().flatten().collect();
        if found.len() > 1 {
            slope += (found.len() - 1) as f64 * (found.iter().sum::<f64>() / found.len() as f64 - start);
        }
        spreads.push(blocks[side].spread(&found));
    }
    let mut spread = spreads[0].and(spreads[1]);

    let pairs = super::in_order(options.resamples.div_ceil(2), |number| halved(sets, blocks, options.seed, number));
    let halves: Vec<(f64, f64)> = pairs.into_iter().flatten().collect();
    let mut curve = 0.0;
    if halves.len() > 1 {
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| halves.iter().map(of).sum::<f64>() / halves.len() as f64;
        let (over, squared, distance) = (mean(&|h| h.1), mean(&|h| h.1 * h.1), mean(&|h| h.0));
        curve = (distance - start - slope * (over - 1.0)) / (squared - 2.0 * over + 1.0);
        spread.variance = spread.variance.max(mean(&|h| (h.0 - distance).powi(2)));
    }
    let value = start - slope + curve;
    let reach = spread.quantile(options.level);
    let low = value - reach * (spread.variance + curve * curve).sqrt();
    let high = value + reach * spread.variance.sqrt();
    // A distance of 0 is known to be one only where the sets are the same.
    let high = if measured == 0.0 { 0.0 } else { high.max(0.0) };
    let endless = Estimate { value: value.clamp(0.0, high), low: low.clamp(0.0, high), high };
    Ok(Extrapolated { endless, measured, variance: a.factor.squared_norm_l2() })
}

/// The distances of two halves of the blocks of one set to two halves of the other's, each with the whole number of blocks over that
/// in the half, in the mean of both sets.
fn halved(sets: [Features; 2], blocks: &[Blocks; 2], seed: u64, number: usize) -> Vec<(f64, f64)> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(number as u64);
    let drawn = [0, 1].map(|side| {
        let mut order: Vec<usize> = (0..blocks[side].count).collect();
        order.shuffle(&mut rng);
        let first = order.len() / 2;
        let mut in_first = vec![false; order.len()];
        order[..first].iter().for_each(|&block| in_first[block] = true);
        let weights = |wanted: bool| -> Vec<u32> {
            blocks[side].of.iter().map(|&block| u32::from(in_first[block] == wanted)).collect()
        };
        let over = |count: usize| blocks[side].count as f64 / count.max(1) as f64;
        [(weights(true), over(first)), (weights(false), over(order.len() - first))]
    });
    let one = |half: usize| {
        let [a, b] = [0, 1].map(|side| (Moments::new(sets[side], Some(&drawn[side][half].0)), drawn[side][half].1));
        let distance = a.0?.quick_distance(&b.0?)?;
        Some((distance, (a.1 + b.1) / 2.0))
    };
    (0..2).filter_map(one).collect()
}

/// What is needed for the distance of a set without some of its rows to another set, whose factor `r` stays as it is: all products are
/// taken through `r`, so that leaving rows out takes no more than their products off.
struct Without<'a> {
    set: Features<'a>,
    own: &'a Moments,
    other: &'a Moments,
    /// `r (n - 1) S rᵀ` for the set's covariance `S`.
    product: Mat<f64>,
}

impl<'a> Without<'a> {
    fn new(set: Features<'a>, own: &'a Moments, other: &'a Moments) -> Self {
        let mixed = other.factor.as_ref() * own.factor.transpose();
        let mut product = Mat::zeros(mixed.nrows(), mixed.nrows());
        let scale = (set.len() - 1) as f64;
        matmul(product.as_mut(), Accum::Replace, mixed.as_ref(), mixed.transpose(), scale, Par::Seq);
        Self { set, own, other, product }
    }

    /// `None` where fewer than 2 rows are left, or eigenvalues are not found.
    fn distance(&self, left_out: &[usize]) -> Option<f64> {
        let (all, dims) = (self.set.len(), self.set.dims());
        let n = (all - left_out.len()) as f64;
        if n < 2.0 {
            return None;
        }
        let mut mean = self.own.mean.clone();
        let mut product = self.product.clone();
        let mut trace = (all - 1) as f64 * self.own.factor.squared_norm_l2();
        if !left_out.is_empty() {
            let of = |&row: &usize| self.set.row(row).iter().zip(&self.own.mean).map(|(&x, mean)| f64::from(x) - mean);
            let mut values: Vec<f64> = left_out.iter().flat_map(of).collect();
            let mut sums = vec![0.0; dims];
            values.chunks(dims).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
            mean.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean -= sum / n);
            // The mean of those that are left moves, which counts as one more row.
            values.extend(sums.iter().map(|sum| sum / n.sqrt()));
            trace -= values.iter().map(|x| x * x).sum::<f64>();
            let rows = MatRef::from_row_major_slice(&values, left_out.len() + 1, dims);
            let projected = rows * self.other.factor.transpose();
            matmul(product.as_mut(), Accum::Add, projected.transpose(), projected.as_ref(), -1.0, Par::Seq);
        }
        let means: f64 = mean.iter().zip(&self.other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let roots: f64 = eigenvalues(product.as_ref())?.iter().map(|value| (value.max(0.0) / (n - 1.0)).sqrt()).sum();
        Some(means + trace.max(0.0) / (n - 1.0) + self.other.factor.squared_norm_l2() - 2.0 * roots)
    }
}

/// Mean and covariance of a set of rows.
pub(super) struct Moments {
    mean: Vec<f64>,
    /// `r`, `(rank or more, d)`, with `rᵀ r` the covariance.
    factor: Mat<f64>,
}

impl Moments {
    /// Moments of rows that occur as often as their weights say, once each without any. `None` if there are fewer than 2 in all.
    pub(super) fn new(set: Features, weights: Option<&[u32]>) -> Option<Self> {
        let rows: Vec<(usize, f64)> = match weights {
            None => (0..set.len()).map(|row| (row, 1.0)).collect(),
            Some(weights) => weights.iter().map(|&w| f64::from(w)).enumerate().filter(|(_, w)| *w > 0.0).collect(),
        };
        let total: f64 = rows.iter().map(|(_, weight)| weight).sum();
        if total < 2.0 {
            return None;
        }
        let mut mean = vec![0.0; set.dims()];
        for &(row, weight) in &rows {
            mean.iter_mut().zip(set.row(row)).for_each(|(sum, &value)| *sum += weight * f64::from(value));
        }
        mean.iter_mut().for_each(|sum| *sum /= total);
        let scaled = |rows: &[(usize, f64)]| -> Vec<f64> {
            let scale = |weight: f64| (weight / (total - 1.0)).sqrt();
            let one = |&(row, weight): &(usize, f64)| {
                set.row(row).iter().zip(&mean).map(move |(&value, mean)| scale(weight) * (f64::from(value) - mean))
            };
            rows.iter().flat_map(one).collect()
        };
        let factor = if rows.len() <= set.dims() {
            MatRef::from_row_major_slice(&scaled(&rows), rows.len(), set.dims()).to_owned()
        } else {
            let mut covariance = Mat::zeros(set.dims(), set.dims());
            for rows in rows.chunks(ROWS) {
                let values = scaled(rows);
                let values = MatRef::from_row_major_slice(&values, rows.len(), set.dims());
                let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
                let out = covariance.as_mut();
                triangular::matmul(out, lower, Accum::Add, values.transpose(), whole, values, whole, 1.0, Par::Seq);
            }
            factor(covariance)?
        };
        Some(Self { mean, factor })
    }

    /// The Fréchet distance from eigenvalues, in less time: roots of small ones are right to 1e-8 of the largest only.
    fn quick_distance(&self, other: &Self) -> Option<f64> {
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let mixed = self.factor.as_ref() * other.factor.transpose();
        let product =
            if mixed.nrows() <= mixed.ncols() { &mixed * mixed.transpose() } else { mixed.transpose() * &mixed };
        let roots: f64 = eigenvalues(product.as_ref())?.iter().map(|value| value.max(0.0).sqrt()).sum();
        Some(means + self.factor.squared_norm_l2() + other.factor.squared_norm_l2() - 2.0 * roots)
    }

    /// The Fréchet distance, or `None` if the singular values cannot be found.
    pub(super) fn distance(&self, other: &Self) -> Option<f64> {
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let traces = self.factor.squared_norm_l2() + other.factor.squared_norm_l2();
        let mut product = Mat::zeros(self.factor.nrows(), other.factor.nrows());
        let (left, right) = (self.factor.as_ref(), other.factor.transpose());
        matmul(product.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
        let covariances = traces - 2.0 * sum_of_singular_values(product.as_ref())?;
        Some(means + if covariances > ROUNDING * traces { covariances } else { 0.0 })
    }
}

/// A factor `r`, `(rank, d)`, of a covariance `rᵀ r` whose lower half is given, by Cholesky's method with pivots: it ends where all
/// that is left is rounding.
fn factor(mut covariance: Mat<f64>) -> Option<Mat<f64>> {
    let dims = covariance.nrows();
    if (0..dims).all(|i| covariance[(i, i)] <= 0.0) {
        return Some(Mat::zeros(0, dims));
    }
    let (mut order, mut inverse) = (vec![0_usize; dims], vec![0_usize; dims]);
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<usize, f64>(dims, Par::Seq, default()));
    let stack = MemStack::new(&mut memory);
    let (info, _) =
        cholesky_in_place(covariance.as_mut(), &mut order, &mut inverse, Par::Seq, stack, default()).ok()?;
    // Row `i` of the lower factor belongs to dimension `order[i]`.
    Some(Mat::from_fn(info.rank, dims, |k, dim| {
        let i = inverse[dim];
        if k <= i { covariance[(i, k)] } else { 0.0 }
    }))
}

/// The eigenvalues of a symmetric matrix, of which the lower half is read.
pub(super) fn eigenvalues(matrix: MatRef<'_, f64>) -> Option<Vec<f64>> {
    if matrix.nrows() == 0 {
        return Some(Vec::new());
    }
    matrix.self_adjoint_eigenvalues(Side::Lower).ok()
}

fn sum_of_singular_values(matrix: MatRef<'_, f64>) -> Option<f64> {
    let (rows, columns) = matrix.shape();
    if rows.min(columns) == 0 {
        return Some(0.0);
    }
    let mut values = Diag::zeros(rows.min(columns));
    let none = ComputeSvdVectors::No;
    let mut memory = MemBuffer::new(svd_scratch::<f64>(rows, columns, none, none, Par::Seq, default()));
    svd(matrix, values.as_mut(), None, None, Par::Seq, MemStack::new(&mut memory), default()).ok()?;
    Some(values.column_vector().iter().sum())
}

#[cfg(test)]
mod tests {
    use super::super::congruential;
    use super::*;

    /// Whole numbers from -4 to 4.
    fn numbers(n: usize, x: u64) -> Vec<f32> {
        congruential(n, x).map(|x| ((x >> 33) % 9) as f32 - 4.0).collect()
    }

    #[test]
    fn factors_give_the_covariance_back() {
        for (n, dims, dependent) in [(40, 7, false), (40, 7, true), (5, 7, false), (700, 3, true)] {
            let mut values = numbers(n * dims, 3);
            if dependent {
                // Two dimensions hold the same, and one is constant.
                values.chunks_mut(dims).for_each(|row| (row[1], row[2]) = (row[0], 2.0));
            }
            let weights: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
            let repeated: Vec<usize> = (0..n).flat_map(|i| std::iter::repeat_n(i, weights[i] as usize)).collect();
            let set = Features::new(&values, dims).unwrap();
            let moments = Moments::new(set, Some(&weights)).unwrap();
            let found = moments.factor.transpose() * &moments.factor;
            let total = repeated.len() as f64;
            let mean = |d: usize| repeated.iter().map(|&i| f64::from(set.row(i)[d])).sum::<f64>() / total;
            for (a, b) in (0..dims).flat_map(|a| (0..dims).map(move |b| (a, b))) {
                assert!((moments.mean[a] - mean(a)).abs() < 1e-12);
                let centred = |i: usize| (f64::from(set.row(i)[a]) - mean(a)) * (f64::from(set.row(i)[b]) - mean(b));
                let expected = repeated.iter().map(|&i| centred(i)).sum::<f64>() / (total - 1.0);
                assert!((found[(a, b)] - expected).abs() < 1e-12, "{a} {b}: {} and {expected}", found[(a, b)]);
            }
        }
    }

    #[test]
    fn rows_left_out_as_if_they_had_never_been_there() {
        let (a, b) = (numbers(60 * 5, 1), numbers(40 * 5, 2));
        let (a, b) = (Features::new(&a, 5).unwrap(), Features::new(&b, 5).unwrap());
        let (of_a, of_b) = (Moments::new(a, None).unwrap(), Moments::new(b, None).unwrap());
        let without = Without::new(a, &of_a, &of_b);
        for left_out in [vec![], vec![3], vec![0, 7, 8, 59], (0..57).collect()] {
            let kept = a.select(&(0..60).filter(|row| !left_out.contains(row)).collect::<Vec<_>>());
            let expected = frechet_distance(Features::new(&kept, 5).unwrap(), b).unwrap();
            let found = without.distance(&left_out).unwrap();
            assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
        }
        assert!(without.distance(&(0..59).collect::<Vec<_>>()).is_none());
        assert!((of_a.quick_distance(&of_b).unwrap() - frechet_distance(a, b).unwrap()).abs() < 1e-6);
    }

    #[test]
    fn constant_sets_differ_by_their_means_alone() {
        let (a, b) = ([1.0_f32; 12], [3.0_f32; 15]);
        let distance = frechet_distance(Features::new(&a, 3).unwrap(), Features::new(&b, 3).unwrap()).unwrap();
        assert_eq!(distance, 12.0);
    }

    #[test]
    fn the_same_set_is_at_distance_0() {
        for (n, dims) in [(300, 8), (8, 300), (30, 30), (2, 1)] {
            let values = numbers(n * dims, 5);
            let set = Features::new(&values, dims).unwrap();
            assert_eq!(frechet_distance(set, set).unwrap(), 0.0);
        }
        let one = Features::new(&[1.0, 2.0], 2).unwrap();
        assert!(matches!(frechet_distance(one, one), Err(Error::Images { needed: 2, rows: 1, .. })));
    }
}
