//! How far apart the images of one set are.

use rayon::prelude::*;

use crate::{Error, Features, Result, distances::squared_distance};

/// The mean Euclidean distance between two different images of a set, over all pairs; 0 or above, and 0 only if all images are alike.
///
/// That of synthetic images over that of real ones tells a generator that makes ever the same image (well below 1) from one that makes
/// them as various as they are. Zhu et al. 2017 (Toward multimodal image-to-image translation, arXiv:1711.11586) measure variety so,
/// with features of another network.
///
/// # Errors
/// [`Error::Images`] if there are fewer than 2 images.
///
/// ```
/// use cellforge_eval::{Features, mean_distance};
/// // The corners of a right triangle with sides 3 and 4: (3 + 4 + 5) / 3.
/// assert_eq!(mean_distance(Features::new(&[0.0, 0.0, 3.0, 0.0, 0.0, 4.0], 2)?)?, 4.0);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn mean_distance(set: Features) -> Result<f64> {
    let n = set.len();
    if n < 2 {
        return Err(Error::Images { figure: "the mean distance", needed: 2, rows: n });
    }
    let later = |i: usize| -> f64 { (i + 1..n).map(|j| squared_distance(set.row(i), set.row(j)).sqrt()).sum() };
    // Added up in the order of the images, whichever thread was first.
    let sums: Vec<f64> = (0..n).into_par_iter().map(later).collect();
    Ok(2.0 * sums.iter().sum::<f64>() / (n as f64 * (n - 1) as f64))
}
