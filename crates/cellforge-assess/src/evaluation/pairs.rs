//! Pictures of the closest pairs of a synthetic and a training image.

use std::path::Path;

use cellforge_data::folder_name;
use cellforge_train::{Images, Orientation};

use super::{PairImage, PrivacyPart, sets::SetImages};
use crate::{Error, Result, save_grid};

/// Draws the closest pairs of every space into `out/pairs`, which then holds nothing else; none are drawn for 0.
pub(super) fn save(
    pairs: usize,
    privacy: Option<&PrivacyPart>,
    real: &SetImages,
    synthetic: &SetImages,
    out: &Path,
) -> Result<Vec<PairImage>> {
    let folder = out.join("pairs");
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder).map_err(Error::io("empty the folder", &folder))?;
    }
    let mut saved = Vec::new();
    let Some(privacy) = privacy.filter(|_| pairs > 0) else { return Ok(saved) };
    let (side, channels) = (real.set.side(), real.set.channels());
    for (space, figures) in &privacy.figures.spaces {
        for (number, pair) in figures.closest.iter().take(pairs).enumerate() {
            let turn = Orientation::ALL[pair.orientation];
            let mut pixels = turn.apply(synthetic.set.image(pair.synthetic), side, channels);
            pixels.extend_from_slice(real.set.image(pair.train));
            let path = format!("pairs/{}-{:02}.png", folder_name(space), number + 1);
            save_grid(&out.join(&path), &Images { side, channels, pixels }, 2)?;
            saved.push(PairImage {
                space: space.clone(),
                path,
                synthetic: synthetic.set.names[pair.synthetic].clone(),
                real: real.set.names[pair.train].clone(),
                distance: pair.distance,
                holdout_distance: pair.holdout_distance,
            });
        }
    }
    Ok(saved)
}
