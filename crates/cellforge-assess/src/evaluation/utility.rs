//! Whether a classifier can be trained on the synthetic images.

use std::path::Path;

use super::{UtilityPart, sets};
use crate::{
    Control, Result,
    utility::{UtilityConfig, UtilityData, utility},
};

/// Share of the real images that networks are judged on where there are no held-out images.
const ASIDE: f64 = 0.2;

pub(super) fn measure(
    config: &UtilityConfig,
    real: &sets::SetImages,
    holdout: Option<&sets::SetImages>,
    synthetic: &sets::SetImages,
    out: &Path,
    control: &Control,
) -> Result<UtilityPart> {
    let all: Vec<usize> = (0..real.set.len()).collect();
    let (train, test_set, test, judged_on) = match holdout {
        Some(holdout) => {
            (all, &holdout.set, (0..holdout.set.len()).collect::<Vec<_>>(), "the held-out images".to_owned())
        }
        None => {
            let [test, train] = sets::parted(real, ASIDE, config.seed)?;
            let whose = if real.several_patients() { ", of other patients," } else { "" };
            let share = 100.0 * test.len() as f64 / real.set.len() as f64;
            (train, &real.set, test, format!("{share:.0}% of the real images{whose} which were set aside"))
        }
    };
    let data = UtilityData { real: &real.set, train: &train, test_set, test: &test, synthetic: &synthetic.set };
    Ok(UtilityPart { judged_on, figures: utility(config, &data, out, control)? })
}
