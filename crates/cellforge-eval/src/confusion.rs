//! The confusion matrix, and what follows from it alone.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Counts of images by true and predicted class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `counts[t][p]` images of class `t` were taken for class `p`.
    pub counts: Vec<Vec<u64>>,
}

/// Counts `predicted` against `truth`, both labels below `classes`.
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`] or [`Error::Label`] if the arrays are empty, differ in length, or hold a label that names no
/// class.
pub fn confusion(truth: &[u32], predicted: &[u32], classes: usize) -> Result<Confusion> {
    check_labels(truth, classes)?;
    if predicted.len() != truth.len() {
        return Err(Error::Length {
            what: "the array of predicted labels",
            found: predicted.len(),
            expected: truth.len(),
        });
    }
    check_labels(predicted, classes)?;
    Ok(Confusion::weighted(truth, predicted, None, classes))
}

pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::Empty { what: "the array of labels" });
    }
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(index) => Err(Error::Label { index, label: labels[index], classes }),
        None => Ok(()),
    }
}

impl Confusion {
    /// Counts checked labels, each image as often as its weight says (once without weights).
    pub(crate) fn weighted(truth: &[u32], predicted: &[u32], weights: Option<&[u32]>, classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (i, (&t, &p)) in truth.iter().zip(predicted).enumerate() {
            counts[t as usize][p as usize] += weights.map_or(1, |w| u64::from(w[i]));
        }
        Self { counts }
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Images in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Images whose predicted class is the true one.
    #[must_use]
    pub fn correct(&self) -> u64 {
        (0..self.classes()).map(|c| self.counts[c][c]).sum()
    }

    /// Images of class `class`.
    #[must_use]
    pub fn support(&self, class: usize) -> u64 {
        self.counts[class].iter().sum()
    }

    /// Images taken for class `class`.
    #[must_use]
    pub fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// Precision, recall and F1 of a class; `None` where the figure divides by 0.
    #[must_use]
    pub fn scores(&self, class: usize) -> [Option<f64>; 3] {
        let hits = self.counts[class][class];
        let (predicted, support) = (self.predicted(class), self.support(class));
        [ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)]
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
