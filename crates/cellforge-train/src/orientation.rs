//! The ways to lay an image down: eight for a square, four for a rectangle.

use cellforge_data::{ImageSize, View};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A flip or right-angle rotation of an image, or none. An image has no upright, so a copy of one may lie in any of those that keep its
/// shape: [`Orientation::of`].
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

    /// The orientations that images of a size keep their shape in: all eight for squares, and for rectangles the four without a quarter turn.
    /// [`Orientation::Identity`] is the first.
    #[must_use]
    pub fn of(size: ImageSize) -> &'static [Self] {
        const FOUR: [Orientation; 4] =
            [Orientation::Identity, Orientation::Rotate180, Orientation::FlipHorizontal, Orientation::FlipVertical];
        if size.is_square() { &Self::ALL } else { &FOUR }
    }

    /// The image of `height * width * channels` bytes, row by row with the channels of a pixel together, laid down this way.
    ///
    /// # Panics
    /// If `image` is shorter than that, or a rectangle is to be turned by a quarter.
    #[must_use]
    pub fn apply(self, image: &[u8], size: impl Into<ImageSize>, channels: usize) -> Vec<u8> {
        let size = size.into();
        assert!(Self::of(size).contains(&self), "{self:?} does not keep the shape of {size:#} pixels");
        let mut turned = Vec::with_capacity(size.area() * channels);
        for y in 0..size.height {
            for x in 0..size.width {
                let (row, col) = self.source(y, x, (size.height - 1, size.width - 1));
                turned.extend_from_slice(&image[(row * size.width + col) * channels..][..channels]);
            }
        }
        turned
    }

    /// The row and column that come to lie at row `y` and column `x`, of which `bottom` and `right` are the last.
    fn source(self, y: usize, x: usize, (bottom, right): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Identity => (y, x),
            Self::Rotate90 => (bottom - x, y),
            Self::Rotate180 => (bottom - y, right - x),
            Self::Rotate270 => (x, right - y),
            Self::FlipHorizontal => (y, right - x),
            Self::FlipVertical => (bottom - y, x),
            Self::Transpose => (x, y),
            Self::Transverse => (bottom - x, right - y),
        }
    }
}

/// The images as a set of their own that lies in this orientation. What takes features of images takes them of this.
///
/// # Errors
/// [`Error::Invalid`] where rectangles are to be turned by a quarter.
pub fn oriented(images: &View, orientation: Orientation) -> Result<View> {
    let (size, channels) = (images.size(), images.channels());
    if !Orientation::of(size).contains(&orientation) {
        let reason = format!("{orientation:?} does not keep the shape of {size:#} pixels");
        return Err(Error::Invalid { field: "orientation", reason });
    }
    Ok(images.mapped(size, channels, |image| Ok(orientation.apply(image, size, channels)))?)
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
    fn a_rectangle_lies_four_ways() {
        // 1 2 3
        // 4 5 6
        let size = ImageSize::new(2, 3);
        let expected = [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [3, 2, 1, 6, 5, 4], [4, 5, 6, 1, 2, 3]];
        let found: Vec<Vec<u8>> = Orientation::of(size).iter().map(|o| o.apply(&[1, 2, 3, 4, 5, 6], size, 1)).collect();
        assert_eq!(found, expected);
        let images =
            View::new(cellforge_data::ViewParts { size, channels: 1, pixels: vec![0; 6], ..Default::default() });
        let error = oriented(&images.unwrap(), Orientation::Rotate90).unwrap_err().to_string();
        assert!(error.contains("Rotate90") && error.contains("3x2"), "{error}");
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
