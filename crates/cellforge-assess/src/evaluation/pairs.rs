//! Pictures of the closest pairs of a synthetic and a training image.

use std::path::Path;

use cellforge_data::{View, ViewParts, folder_name, save_grid};
use cellforge_train::{Orientation, RunDir};

use super::{PairImage, PrivacyPart, sets::SetImages};
use crate::{Error, Result};

/// Draws the closest pairs of every space into `out/pairs`, which then holds nothing else; none are drawn for 0.
pub(super) fn save(
    pairs: usize,
    privacy: Option<&PrivacyPart>,
    real: &SetImages,
    synthetic: &SetImages,
    out: &Path,
) -> Result<Vec<PairImage>> {
    let folder = RunDir::new(out).pairs();
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder).map_err(Error::io("empty the folder", &folder))?;
    }
    let mut saved = Vec::new();
    let Some(privacy) = privacy.filter(|_| pairs > 0) else { return Ok(saved) };
    let (side, channels) = (real.view.side(), real.view.channels());
    for (space, figures) in &privacy.figures.spaces {
        for (number, pair) in figures.closest.iter().take(pairs).enumerate() {
            let turn = Orientation::ALL[pair.orientation];
            let mut pixels = turn.apply(synthetic.view.image(pair.synthetic), side, channels);
            pixels.extend_from_slice(real.view.image(pair.train));
            let path = RunDir::pair(&folder_name(space), number + 1);
            let both = View::new(ViewParts { side, channels, pixels, ..ViewParts::default() })?;
            save_grid(&out.join(&path), &both, 2)?;
            saved.push(PairImage {
                space: space.clone(),
                path,
                synthetic: synthetic.view.name(pair.synthetic).to_owned(),
                real: real.view.name(pair.train).to_owned(),
                distance: pair.distance,
                holdout_distance: pair.holdout_distance,
            });
        }
    }
    Ok(saved)
}
