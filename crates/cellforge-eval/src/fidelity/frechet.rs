//! The Fréchet distance between two sets of features.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt_pivoting::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::{
    matmul,
    triangular::{self, BlockStructure},
};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::prelude::default;
use faer::{Accum, Mat, MatRef, Par, diag::Diag};

use crate::{Error, Features, Result};

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
/// distances between sets of the same sizes, as to [`halves`](crate::halves) of the real set.
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
