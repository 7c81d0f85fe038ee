//! The Vendi score: how many different images a set is worth.

use faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};

use super::{frechet::eigenvalues, units::Blocks};
use crate::{Error, Estimate, Features, Result};

/// The Vendi score of a set: the effective number of different images, from 1 where all are alike up to the number of images.
///
/// `exp(-Σ λᵢ ln λᵢ)` with the eigenvalues `λᵢ` of `K / n`, where `K` holds the cosines between all pairs of rows: Friedman and Dieng
/// 2023, The Vendi score, arXiv:2210.02410. Where there are more rows than dimensions, `λᵢ` are those of the mean outer product of the
/// rows at length 1, which are the same. Rows of zeros are left out. It grows with the number of images: compare sets of one size.
///
/// # Errors
/// [`Error::Empty`] if all rows are zero, [`Error::NotConverged`].
///
/// ```
/// use cellforge_eval::{Features, vendi_score};
/// // Two images of one kind and two of another, at a right angle: λ = 1/2, 1/2.
/// let found = vendi_score(Features::new(&[1.0, 0.0, 3.0, 0.0, 0.0, 2.0, 0.0, 1.0], 2)?)?;
/// assert!((found - 2.0).abs() < 1e-12);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn vendi_score(set: Features) -> Result<f64> {
    Unit::new(set).score(None, None)
}

/// The score with the interval of what other sets of this size would have.
pub(super) fn vendi(set: Features, blocks: &Blocks, level: f64) -> Result<Estimate> {
    let unit = Unit::new(set);
    let whole = unit.outer(|_| true);
    let value = unit.score(whole.as_ref(), None)?;
    let without = super::in_order(blocks.count, |block| unit.score(whole.as_ref(), Some((blocks, block))).ok());
    let spread = blocks.spread(&without.into_iter().flatten().collect::<Vec<_>>());
    let found = spread.above_0(value, level);
    Ok(Estimate { low: found.low.max(1.0).min(value), ..found })
}

/// Rows at length 1.
struct Unit {
    values: Vec<f64>,
    rows: usize,
    dims: usize,
}

impl Unit {
    fn new(set: Features) -> Self {
        let mut values: Vec<f64> = set.values().iter().map(|&value| f64::from(value)).collect();
        for row in values.chunks_mut(set.dims()) {
            let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|value| *value /= norm);
            }
        }
        Self { values, rows: set.len(), dims: set.dims() }
    }

    /// The sum of the outer products of some rows, `(d, d)`; none where products between rows are smaller.
    fn outer(&self, keep: impl Fn(usize) -> bool) -> Option<Mat<f64>> {
        if self.rows <= self.dims {
            return None;
        }
        Some(self.products(keep, true))
    }

    /// Of the rows kept, their outer products' sum or the products between them.
    fn products(&self, keep: impl Fn(usize) -> bool, outer: bool) -> Mat<f64> {
        let all = self.values.chunks(self.dims).enumerate();
        let values: Vec<f64> = all.filter(|(row, _)| keep(*row)).flat_map(|(_, row)| row).copied().collect();
        let rows = MatRef::from_row_major_slice(&values, values.len() / self.dims, self.dims);
        let (left, right) = if outer { (rows.transpose(), rows) } else { (rows, rows.transpose()) };
        let mut product = Mat::zeros(left.nrows(), right.ncols());
        matmul(product.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
        product
    }

    /// The score of all rows, or without a block; `whole` is the outer product of all, where it is known.
    fn score(&self, whole: Option<&Mat<f64>>, left_out: Option<(&Blocks, usize)>) -> Result<f64> {
        let kept = |row: usize| left_out.is_none_or(|(blocks, block)| blocks.of[row] != block);
        let matrix = match (whole, left_out) {
            (Some(whole), None) => whole.clone(),
            (Some(whole), Some(_)) => whole - self.products(|row| !kept(row), true),
            (None, _) => self.outer(kept).unwrap_or_else(|| self.products(kept, false)),
        };
        let trace: f64 = (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum();
        if trace <= 0.0 {
            return Err(Error::Empty { what: "the array of features that are not all zero" });
        }
        let entropy = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        let values = eigenvalues(matrix.as_ref()).ok_or(Error::NotConverged)?;
        Ok(values.into_iter().map(|value| entropy(value / trace)).sum::<f64>().exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Rows (1, 0) and (0.6, 0.8): cosine 0.6, eigenvalues of K / 2 are 0.8 and 0.2.
        let two = Features::new(&[1.0, 0.0, 3.0, 4.0], 2).unwrap();
        let expected = (-0.8 * 0.8_f64.ln() - 0.2 * 0.2_f64.ln()).exp();
        assert!((vendi_score(two).unwrap() - expected).abs() < 1e-7);
        // The same pairs five times over, with more rows than dimensions.
        let ten = [1.0, 0.0, 3.0, 4.0].repeat(5);
        assert!((vendi_score(Features::new(&ten, 2).unwrap()).unwrap() - expected).abs() < 1e-7);
        // One kind of image, and as many kinds as images.
        assert!((vendi_score(Features::new(&[2.0; 12], 3).unwrap()).unwrap() - 1.0).abs() < 1e-9);
        let apart: Vec<f32> = (0..16).map(|i| if i % 5 == 0 { 7.0 } else { 0.0 }).collect();
        assert!((vendi_score(Features::new(&apart, 4).unwrap()).unwrap() - 4.0).abs() < 1e-9);
        assert!(matches!(vendi_score(Features::new(&[0.0; 4], 2).unwrap()), Err(Error::Empty { .. })));
    }
}
