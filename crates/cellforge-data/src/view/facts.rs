//! What is known of how a set was read.

use serde::{Deserialize, Serialize};

use crate::Fit;
use crate::intensity::Intensities;
use crate::left_out::{HIDDEN, LeftOut};

/// What is known of how the images of a set were read; nothing where they were made in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facts {
    /// What the folders above the images were taken for, as a layout; empty where they say nothing.
    pub layout: String,
    /// What is no image of the set, counted by reason and ending.
    pub left_out: Vec<LeftOut>,
    /// How intensities beyond 8 bits became grey levels; none where no image has any.
    pub intensities: Option<Intensities>,
    /// How images of another shape became ones of the set's size; [`Fit::Auto`] where they were made in memory.
    pub fit: Fit,
    /// Sizes and kinds of the images before they were made alike, each with the number of images.
    pub originals: Vec<Original>,
}

impl Facts {
    /// What was left out, but for hidden files and folders, which are nobody's images.
    pub fn told(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.iter().filter(|left| left.reason != HIDDEN)
    }

    /// How images of another shape become ones of the set's size wherever they stand beside this set.
    #[must_use]
    pub fn used_fit(&self) -> Fit {
        if self.fit == Fit::Auto { Fit::Stretch } else { self.fit }
    }
}

/// What images were before they were made alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Original {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// How they are stored, as in "16-bit grey".
    pub mode: String,
    /// Whether they show no colour, however they are stored.
    pub is_grey: bool,
    /// How many images there are of this kind.
    pub images: usize,
}
