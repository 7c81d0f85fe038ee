//! Pictures of copies, and of the closest pairs of a synthetic and a training image.

use std::path::Path;

use cellforge_data::{Readers, View, ViewParts, folder_name, save_grid};
use cellforge_train::{Orientation, RunDir};

use super::{PairImage, PrivacyPart, sets::SetImages};
use crate::{Error, Result, copies::CopiesPart};

/// The space of the pictures of copies.
pub(crate) const COPIES: &str = "copies";

/// Draws the copies and the closest pairs of every space into `out/pairs`, which then holds nothing else; none are drawn for 0.
pub(super) fn save(
    pairs: usize,
    copies: &CopiesPart,
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
    let (size, channels) = (real.view.size(), real.view.channels());
    // A copy may be of a training image of any class.
    let mut draw = |space: &str, number: usize, turn: Orientation, [left, right]: [usize; 2], distances: [f64; 2]| {
        let real = if space == COPIES { &real.whole } else { &real.view };
        let mut pixels = turn.apply(synthetic.view.image(left), size, channels);
        pixels.extend_from_slice(real.image(right));
        let path = RunDir::pair(&folder_name(space), number + 1);
        let both = View::new(ViewParts { size, channels, pixels, ..ViewParts::default() })?;
        save_grid(&out.join(&path), &both, 2, Readers::Owner)?;
        let [distance, holdout_distance] = distances;
        let [synthetic, real] = [(&synthetic.view, left), (real, right)].map(|(view, i)| view.name(i).to_owned());
        saved.push(PairImage { space: space.to_owned(), path, synthetic, real, distance, holdout_distance });
        Ok::<(), Error>(())
    };
    for (number, copy) in copies.found.iter().take(pairs).enumerate() {
        let pair = [copy.index, copy.training_index];
        draw(COPIES, number, Orientation::Identity, pair, [copy.distance, copy.usual])?;
    }
    for (space, figures) in privacy.iter().flat_map(|privacy| &privacy.figures.spaces) {
        for (number, pair) in figures.closest.iter().take(pairs).enumerate() {
            let turn = Orientation::of(size)[pair.orientation];
            draw(space, number, turn, [pair.synthetic, pair.train], [pair.distance, pair.holdout_distance])?;
        }
    }
    Ok(saved)
}
