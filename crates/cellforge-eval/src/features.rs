//! Features of images: one row of numbers per image.

use crate::{Error, Result};

/// Features of images, `(n, d)`, row-major: one row of `d` numbers per image. They may come from a network or be the pixels themselves.
/// They are borrowed from whoever holds them, such as a `FeatureMatrix` of `cellforge-train`.
///
/// Checked once, when made: there is at least one row, all rows have one length, and every number is finite.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    values: &'a [f32],
    dims: usize,
}

impl<'a> Features<'a> {
    /// Takes `values`, `(n, dims)`, row-major.
    ///
    /// # Errors
    /// [`Error::Empty`] if there are no values, [`Error::Dims`] if they are not whole rows of `dims`, and
    /// [`Error::NotFiniteFeature`] for the first NaN or infinity.
    ///
    /// ```
    /// use cellforge_eval::Features;
    /// let features = Features::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)?;
    /// assert_eq!((features.len(), features.row(1)), (2, [4.0, 5.0, 6.0].as_slice()));
    /// assert!(Features::new(&[1.0, f32::NAN], 2).is_err());
    /// # Ok::<(), cellforge_eval::Error>(())
    /// ```
    pub fn new(values: &'a [f32], dims: usize) -> Result<Self> {
        if values.is_empty() {
            return Err(Error::Empty { what: "the array of features" });
        }
        if dims == 0 || !values.len().is_multiple_of(dims) {
            return Err(Error::Dims { values: values.len(), dims });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFiniteFeature { row: at / dims, col: at % dims, value: values[at] });
        }
        Ok(Self { values, dims })
    }

    /// Number of rows, that is of images; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "features are never empty")]
    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Numbers per row; at least 1.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Row `i`, `(d,)`.
    ///
    /// # Panics
    /// If `i` is not below [`Self::len`].
    #[must_use]
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dims..][..self.dims]
    }

    /// All values, `(n, d)`, row-major.
    #[must_use]
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// A copy of the given rows in the given order, `(rows.len(), d)`, row-major.
    ///
    /// # Panics
    /// If a row is not below [`Self::len`].
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&row| self.row(row)).copied().collect()
    }

    /// Fails where two sets do not have rows of one length.
    pub(crate) fn same_dims(&self, other: &Features) -> Result<()> {
        if self.dims == other.dims { Ok(()) } else { Err(Error::DimsDiffer { left: self.dims, right: other.dims }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_rows_of_numbers_is_refused() {
        assert_eq!(Features::new(&[], 2).unwrap_err(), Error::Empty { what: "the array of features" });
        assert_eq!(Features::new(&[1.0; 5], 2).unwrap_err(), Error::Dims { values: 5, dims: 2 });
        assert_eq!(Features::new(&[1.0; 5], 0).unwrap_err(), Error::Dims { values: 5, dims: 0 });
        let error = Features::new(&[0.0, 1.0, 2.0, 3.0, f32::INFINITY, f32::NAN], 3).unwrap_err();
        assert_eq!(error, Error::NotFiniteFeature { row: 1, col: 1, value: f32::INFINITY });
        assert!(error.to_string().contains("image 1"), "{error}");
    }

    #[test]
    fn rows_are_selected_in_the_order_asked_for() {
        let features = Features::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2).unwrap();
        assert_eq!(features.select(&[2, 0, 2]), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
        assert_eq!(features.values().len(), 6);
    }
}
