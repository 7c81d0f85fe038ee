//! Whether a network or a statistic tells the synthetic images from real ones.

use std::path::Path;

use super::{Words, sets::SetImages};
use crate::{
    Control, Result,
    two_sample::{TwoSample, TwoSampleConfig, TwoSampleData, two_sample},
};

/// Tells the synthetic images from the held-out ones, which no generator saw; without these, from those that the generators learned from.
pub(super) fn measure(
    config: &TwoSampleConfig,
    real: &SetImages,
    holdout: Option<&SetImages>,
    synthetic: &SetImages,
    words: &Words,
    out: &Path,
    control: &Control,
) -> Result<TwoSample> {
    let (from, which) = match holdout {
        Some(holdout) => (holdout, "the held-out"),
        None => (real, "the training"),
    };
    let data = TwoSampleData {
        real: from.view.clone(),
        also: holdout.map(|_| real.view.clone()),
        synthetic: synthetic.view.clone(),
        judged_on: format!("{which} {}", words.many),
    };
    two_sample(config, &data, out, control)
}
