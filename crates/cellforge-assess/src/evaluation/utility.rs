//! Whether a classifier can be trained on the synthetic images.

use std::path::Path;

use super::{
    UtilityPart, Words,
    sets::{SetImages, parted},
};
use crate::{
    Control, Result,
    utility::{self, UtilityConfig, UtilityData, utility},
};

/// Share of the real images that networks are judged on where there are no held-out images.
const ASIDE: f64 = 0.2;

pub(super) fn measure(
    config: &UtilityConfig,
    sets: (&SetImages, Option<&SetImages>, &SetImages),
    words: &Words,
    out: &Path,
    control: &Control,
) -> Result<UtilityPart> {
    let (data, judged_on) = images(config, sets, words)?;
    Ok(UtilityPart { judged_on, figures: utility(config, &data, out, control)? })
}

/// Fails if nothing can be trained on these images.
pub(super) fn check(
    config: &UtilityConfig,
    sets: (&SetImages, Option<&SetImages>, &SetImages),
    words: &Words,
) -> Result<()> {
    utility::check(&images(config, sets, words)?.0)
}

/// The images to train and to judge on, and whose they are.
fn images(
    config: &UtilityConfig,
    (real, holdout, synthetic): (&SetImages, Option<&SetImages>, &SetImages),
    words: &Words,
) -> Result<(UtilityData, String)> {
    let (train, test, judged_on) = match holdout {
        Some(holdout) => (real.view.clone(), holdout.view.clone(), format!("the held-out {}", words.many)),
        None => {
            let [test, train] = parted(real, ASIDE, config.seed)?;
            let whose = if real.several_patients() { ", of other patients," } else { "" };
            let share = 100.0 * test.len() as f64 / real.view.len() as f64;
            let judged_on = format!("{share:.0}% of the real {}{whose} which were set aside", words.many);
            (real.view.part(&train), real.view.part(&test), judged_on)
        }
    };
    Ok((UtilityData { real: train, test, synthetic: synthetic.view.clone() }, judged_on))
}
