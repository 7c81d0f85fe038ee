//! A blinded panel: raters say of real and synthetic images, mixed, which are which.
//!
//! [`make`] chooses images and gives a [`Panel`]: one HTML page for the raters and a [`Key`] that stays with whoever asked them. Each rater sends
//! back a CSV file. [`read_answers`] checks it against the key, and [`score`] says how well synthetic images were told from real ones.
//!
//! # Blinding
//!
//! The page holds no truth, no class, no patient and no file name. All images are decoded, brought to one size and stored as PNG files without
//! compression, so that all of them have the same length. An image is known by a keyed hash, and the order is drawn by such hashes.
//! Their key is derived from the seed and all images of both sets: who knows the seed alone cannot compute it.

mod answers;
mod key;
mod page;
mod score;
mod select;

use cellforge_data::{View, derive_seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, evaluation::Words, files::hash_texts};

pub use answers::{Answers, read_answers};
pub use key::{Key, KeyImage, Source};
pub use score::{PANEL_SCHEMA, PairScore, PanelScore, Published, RaterScore, markdown, score};

/// What decides which images a panel shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PanelConfig {
    /// Real images of a panel, and as many synthetic ones, shared out evenly over the classes. A class with fewer shows what it has.
    #[schemars(range(min = 1, max = 100_000))]
    pub images: usize,
    /// Share of the images that a panel shows twice, to see whether raters agree with themselves.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub repeats: f64,
    /// Seed of the choice and the order.
    #[schemars(skip)]
    pub seed: u64,
}

impl Default for PanelConfig {
    fn default() -> Self {
        Self { images: 100, repeats: 0.1, seed: 1 }
    }
}

/// The images that a panel chooses from.
#[derive(Clone, Debug)]
pub struct PanelImages<'a> {
    /// Real images, with their patients where known.
    pub real: &'a View,
    /// Synthetic images of the same size.
    pub synthetic: &'a View,
    /// What they are called.
    pub words: Words,
    /// Whether a program drew the real images, so that they show no patient.
    pub drawn_by_program: bool,
}

/// A panel, ready to be saved.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What the images are. It must not reach a rater.
    pub key: Key,
    /// The HTML page for the raters: self-contained, without anything of the key.
    pub page: String,
    /// Classes of the real images that have no synthetic ones, and are not shown.
    pub left_out: Vec<String>,
}

/// Makes a panel: as many real as synthetic images of each class that both sets have. Real ones are taken evenly over the patients.
///
/// # Errors
/// [`Error::Settings`] for settings out of range; [`Error::PanelImages`] where sizes or classes differ, there are too few images, or a chosen
/// image is in both sets.
///
/// ```
/// use cellforge_assess::{evaluation::Words, panel::{PanelConfig, PanelImages, Source, make}};
/// use cellforge_data::phantom::{self, PhantomConfig};
///
/// let set = |seed| phantom::render(&PhantomConfig { size: 16.into(), images_per_class: 12, seed, ..PhantomConfig::default() });
/// let (real, synthetic) = (set(1)?, set(2)?);
/// let images = PanelImages { real: &real, synthetic: &synthetic, words: Words::default(), drawn_by_program: true };
/// let made = make(&PanelConfig { images: 10, ..PanelConfig::default() }, &images)?;
/// assert_eq!(made.key.images.len(), 20);
/// assert_eq!(made.key.images.iter().filter(|image| image.source == Source::Real).count(), 10);
/// // One of five real and of five synthetic images of each class is shown twice.
/// assert_eq!(made.key.showings(), 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn make(config: &PanelConfig, images: &PanelImages<'_>) -> Result<Panel> {
    cellforge_settings::check(config, "panel")?;
    let (real, synthetic) = (images.real, images.synthetic);
    if (real.size(), real.channels()) != (synthetic.size(), synthetic.channels()) {
        return Err(Error::PanelImages(format!(
            "the real ones have {0}x{0} pixels and {1} channels, the synthetic ones {2}x{2} and {3}",
            real.size(),
            real.channels(),
            synthetic.size(),
            synthetic.channels()
        )));
    }
    let secret = hash_texts([
        derive_seed(config.seed, "panel").to_string().as_str(),
        &real.fingerprint(),
        &synthetic.fingerprint(),
        &config.images.to_string(),
        &config.repeats.to_string(),
    ]);
    let chosen = select::choose(config, real, synthetic, &secret)?;
    let page = page::render(&chosen.key, &chosen.pictures, images)?;
    Ok(Panel { key: chosen.key, page, left_out: chosen.left_out })
}
