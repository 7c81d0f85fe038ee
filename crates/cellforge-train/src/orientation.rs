//! The eight ways to lay a square image down.

use cellforge_data::View;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A flip or right-angle rotation of a square image, or none. An image has no upright, so a copy of one may lie in any of the eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// As it is.
    Identity,
    /// Clockwise by a quarter turn.
    Rotate90,
    /// By half a turn.
    Rotate180,
    /// Clockwise by three quarter turns.
    Rotate270,
    /// Left and right exchanged.
    FlipHorizontal,
    /// Top and bottom exchanged.
    FlipVertical,
    /// Rows and columns exchanged: mirrored at the diagonal from the top left.
    Transpose,
    /// Mirrored at the diagonal from the top right.
    Transverse,
}

impl Orientation {
    /// All eight, [`Orientation::Identity`] first.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Rotate90,
        Self::Rotate180,
        Self::Rotate270,
        Self::FlipHorizontal,
        Self::FlipVertical,
        Self::Transpose,
        Self::Transverse,
    ];

    /// The image of `side * side * channels` bytes, row by row with the channels of a pixel together, laid down this way.
    ///
    /// # Panics
    /// If `image` is shorter than that.
    #[must_use]
    pub fn apply(self, image: &[u8], side: usize, channels: usize) -> Vec<u8> {
        let mut turned = Vec::with_capacity(side * side * channels);
        for y in 0..side {
            for x in 0..side {
                let (row, col) = self.source(y, x, side - 1);
                turned.extend_from_slice(&image[(row * side + col) * channels..][..channels]);
            }
        }
        turned
    }

    /// The row and column that come to lie at row `y` and column `x`, of which `last` is the last.
    fn source(self, y: usize, x: usize, last: usize) -> (usize, usize) {
        match self {
            Self::Identity => (y, x),
            Self::Rotate90 => (last - x, y),
            Self::Rotate180 => (last - y, last - x),
            Self::Rotate270 => (x, last - y),
            Self::FlipHorizontal => (y, last - x),
            Self::FlipVertical => (last - y, x),
            Self::Transpose => (x, y),
            Self::Transverse => (last - x, last - y),
        }
    }
}

/// The images as a set of their own that lies in this orientation. What takes features of images takes them of this.
///
/// # Errors
/// None for a view, whose images are whole.
pub fn oriented(images: &View, orientation: Orientation) -> Result<View> {
    let (side, channels) = (images.side(), images.channels());
    Ok(images.mapped(side, channels, |image| Ok(orientation.apply(image, side, channels)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn two_by_two_by_hand() {
        // 1 2
        // 3 4
        let expected: [[u8; 4]; 8] = [
            [1, 2, 3, 4],
            [3, 1, 4, 2],
            [4, 3, 2, 1],
            [2, 4, 1, 3],
            [2, 1, 4, 3],
            [3, 4, 1, 2],
            [1, 3, 2, 4],
            [4, 2, 3, 1],
        ];
        for (orientation, expected) in Orientation::ALL.into_iter().zip(expected) {
            assert_eq!(orientation.apply(&[1, 2, 3, 4], 2, 1), expected, "{orientation:?}");
        }
    }

    #[test]
    fn one_after_another_is_again_one_of_the_eight() {
        let image: Vec<u8> = (0..27).collect();
        let all: BTreeSet<Vec<u8>> = Orientation::ALL.iter().map(|o| o.apply(&image, 3, 3)).collect();
        assert_eq!(all.len(), 8);
        for first in Orientation::ALL {
            for second in Orientation::ALL {
                assert!(all.contains(&second.apply(&first.apply(&image, 3, 3), 3, 3)), "{first:?}, {second:?}");
            }
        }
        let quarter = |image: &[u8]| Orientation::Rotate90.apply(image, 3, 3);
        assert_eq!(quarter(&quarter(&image)), Orientation::Rotate180.apply(&image, 3, 3));
    }
}
