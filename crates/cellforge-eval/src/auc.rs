//! The area under the ROC curve.

use crate::{Error, Result};

/// The area under the ROC curve of `scores` (higher means more likely of the class): the chance that an image of the class scores
/// above one that is not, ties counting half (the Mann-Whitney U statistic over the number of pairs).
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`], [`Error::NotFinite`], or [`Error::OneClass`] if all images are of the class or none is.
///
/// ```
/// // Of the four pairs, 0.9 and 0.6 beat 0.1, 0.9 beats 0.6 and 0.6 ties with 0.6: (3 + 1/2) / 4.
/// let auc = cellforge_eval::roc_auc(&[0.9, 0.6, 0.6, 0.1], &[true, true, false, false])?;
/// assert_eq!(auc, 0.875);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn roc_auc(scores: &[f64], positives: &[bool]) -> Result<f64> {
    if positives.is_empty() {
        return Err(Error::Empty { what: "the array of labels" });
    }
    if scores.len() != positives.len() {
        return Err(Error::Length { what: "the array of scores", found: scores.len(), expected: positives.len() });
    }
    if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::NotFinite { index, value: scores[index] });
    }
    let count = positives.iter().filter(|&&positive| positive).count();
    Ranking::new(scores, positives.to_vec())
        .auc(None)
        .ok_or(Error::OneClass { positives: count, total: positives.len() })
}

/// Images in the order of their scores, so that each bootstrap resample needs one pass and no sorting.
pub(crate) struct Ranking {
    /// Runs of images with equal scores, lowest score first.
    ties: Vec<Vec<usize>>,
    positives: Vec<bool>,
}

impl Ranking {
    /// Ranks finite scores.
    pub(crate) fn new(scores: &[f64], positives: Vec<bool>) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let ties = order.chunk_by(|&a, &b| scores[a] == scores[b]).map(<[usize]>::to_vec).collect();
        Self { ties, positives }
    }

    /// The area with each image counted as often as its weight says; `None` where one kind is missing.
    pub(crate) fn auc(&self, weights: Option<&[u32]>) -> Option<f64> {
        // Twice the number of pairs won, so that ties stay whole numbers.
        let (mut won, mut positives, mut negatives) = (0_u128, 0_u128, 0_u128);
        for tie in &self.ties {
            let (mut p, mut n) = (0_u128, 0_u128);
            for &i in tie {
                let weight = weights.map_or(1, |w| u128::from(w[i]));
                if self.positives[i] { p += weight } else { n += weight }
            }
            won += p * (2 * negatives + n);
            positives += p;
            negatives += n;
        }
        let pairs = positives * negatives;
        (pairs > 0).then(|| won as f64 / (2 * pairs) as f64)
    }
}
