//! Whether a classifier can be trained on the synthetic images.

use std::path::Path;

use super::{UtilityPart, Words, sets};
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
    words: &Words,
    out: &Path,
    control: &Control,
) -> Result<UtilityPart> {
    let (train, test, judged_on) = match holdout {
        Some(holdout) => (real.view.clone(), holdout.view.clone(), format!("the held-out {}", words.many)),
        None => {
            let [test, train] = sets::parted(real, ASIDE, config.seed)?;
            let whose = if real.several_patients() { ", of other patients," } else { "" };
            let share = 100.0 * test.len() as f64 / real.view.len() as f64;
            let judged_on = format!("{share:.0}% of the real {}{whose} which were set aside", words.many);
            (real.view.part(&train), real.view.part(&test), judged_on)
        }
    };
    let data = UtilityData { real: train, test, synthetic: synthetic.view.clone() };
    Ok(UtilityPart { judged_on, figures: utility(config, &data, out, control)? })
}
