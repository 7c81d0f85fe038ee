//! How dense images lie around a target, and the ratio of two such densities.

use crate::{Features, Result, nearest};

/// A distance below this share of the mean distance counts as this share: a copy lies infinitely dense.
const LEAST: f64 = 1e-3;

/// The log density of `set` at each target, by its nearest images: `-(1/k) Σⱼ ln rⱼ`, where `rⱼ` is the distance of the `j`-th nearest of
/// `k`. One number for each target, in nats per dimension, up to a constant that all targets share.
///
/// A density by nearest neighbours is `j / (n V rⱼᵈ)` (Loftsgaarden and Quesenberry 1965, A nonparametric estimate of a multivariate density
/// function). Its logarithm is averaged over `j`, so that one copy counts as well as many images that crowd around, and divided by the
/// dimension `d`, which changes no order. It was chosen over Gaussian kernels because it has no bandwidth, and needs no
/// space of few dimensions: distances alone decide. Distances below a thousandth of the mean one count as that.
///
/// # Errors
/// [`Error::DimsDiffer`](crate::Error::DimsDiffer), or [`Error::Neighbours`](crate::Error::Neighbours) if `k` is 0 or above the number of images
/// in `set`.
pub fn log_density(targets: Features, set: Features, k: usize) -> Result<Vec<f64>> {
    let found: Vec<Vec<f64>> =
        nearest(targets, set, k)?.into_iter().map(|near| near.iter().map(|one| one.distance).collect()).collect();
    let mean = found.iter().flatten().sum::<f64>() / (found.len() * k) as f64;
    let least = (LEAST * mean).max(f64::MIN_POSITIVE);
    let density = |distances: Vec<f64>| -distances.iter().map(|r| r.max(least).ln()).sum::<f64>() / k as f64;
    Ok(found.into_iter().map(density).collect())
}

/// DOMIAS: the log ratio of the density of synthetic images to that of reference images at each target, by `k` neighbours in both
/// ([`log_density`]). Higher means more likely a member.
///
/// Reference images are real images of patients who are no targets, or what another generator made. Where the synthetic images are dense and
/// the reference images are not, the generator overfits there. Van Breugel et al. (2023); they fit the densities with flows or kernels.
///
/// # Errors
/// As [`log_density`].
pub fn domias(targets: Features, synthetic: Features, reference: Features, k: usize) -> Result<Vec<f64>> {
    let (made, usual) = (log_density(targets, synthetic, k)?, log_density(targets, reference, k)?);
    Ok(made.into_iter().zip(usual).map(|(made, usual)| made - usual).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn line(values: &[f32]) -> Features<'_> {
        Features::new(values, 1).unwrap()
    }

    #[test]
    fn densities_by_hand() {
        // Target 0: distances 1 and 2, -(ln 1 + ln 2) / 2. Target 10: distances 8 and 9 (to 2 and 1), -(ln 8 + ln 9) / 2.
        let found = log_density(line(&[0.0, 10.0]), line(&[1.0, 2.0, -20.0]), 2).unwrap();
        let expected = [-(2.0_f64.ln()) / 2.0, -(72.0_f64.ln()) / 2.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        // Against references at 4 and 14, target 0 has 4 and 14, target 10 has 4 and 6: ratios ln(56 / 2) / 2 and ln(24 / 72) / 2.
        let ratio = domias(line(&[0.0, 10.0]), line(&[1.0, 2.0, -20.0]), line(&[4.0, 14.0]), 2).unwrap();
        let expected = [28.0_f64.ln() / 2.0, (1.0_f64 / 3.0).ln() / 2.0];
        assert!(ratio.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{ratio:?}");
    }

    #[test]
    fn a_copy_is_dense_and_finite() {
        // Distances 0 and 2: the mean is 1, and a thousandth of it stands for the copy's.
        let found = log_density(line(&[0.0, 3.0]), line(&[0.0, 1.0]), 1).unwrap();
        assert!((found[0] - 1000.0_f64.ln()).abs() < 1e-12 && (found[1] + 2.0_f64.ln()).abs() < 1e-12, "{found:?}");
        // Copies of all targets are equally dense.
        let all = log_density(line(&[0.0, 3.0]), line(&[0.0, 3.0]), 1).unwrap();
        assert!(all[0] == all[1] && all[0].is_finite());
        let error = log_density(line(&[0.0]), line(&[0.0, 3.0]), 3).unwrap_err();
        assert_eq!(error, Error::Neighbours { k: 3, needed: 3, rows: 2 });
    }
}
