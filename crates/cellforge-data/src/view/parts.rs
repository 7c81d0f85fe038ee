//! What a view is made from.

use image::{GrayImage, RgbImage};

use crate::{Error, ImageSize, Result};

/// What a view is made from: see [`View::new`](crate::View::new). Lists that are left empty get a value for each image.
///
/// ```
/// use cellforge_data::{View, ViewParts};
///
/// let black = View::new(ViewParts { size: 4.into(), channels: 1, pixels: vec![0; 3 * 16], ..ViewParts::default() })?;
/// assert_eq!((black.len(), black.name(2), black.label(2), black.group(2)), (3, "000003", 0, None));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewParts {
    /// Class names; a label is an index into them. Empty: one class without a name.
    pub classes: Vec<String>,
    /// Each image's name; for one from a folder or zip its path inside, with `/` between the parts. Empty: `000001` and so on.
    pub names: Vec<String>,
    /// Each image's class. Empty: all are of the first.
    pub labels: Vec<u32>,
    /// Each image's group, where known: images of one patient are one group. Empty: none is known.
    pub groups: Vec<Option<String>>,
    /// Height and width of the images.
    pub size: ImageSize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// All images one after the other, `height * width * channels` bytes each: row by row, channels last.
    pub pixels: Vec<u8>,
}

impl ViewParts {
    /// The size and pixels of RGB images, without labels, groups and names.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no image, or their sizes differ.
    pub fn from_rgb(images: impl IntoIterator<Item = RgbImage>) -> Result<Self> {
        Self::collect(3, images.into_iter().map(|image| (image.dimensions(), image.into_raw())))
    }

    /// The size and pixels of grey images, without labels, groups and names.
    ///
    /// # Errors
    /// As [`ViewParts::from_rgb`].
    pub fn from_grey(images: impl IntoIterator<Item = GrayImage>) -> Result<Self> {
        Self::collect(1, images.into_iter().map(|image| (image.dimensions(), image.into_raw())))
    }

    fn collect(channels: usize, images: impl Iterator<Item = ((u32, u32), Vec<u8>)>) -> Result<Self> {
        let mut parts = Self { channels, ..Self::default() };
        for (number, ((width, height), bytes)) in images.enumerate() {
            let size = ImageSize::new(height as usize, width as usize);
            if number == 0 {
                parts.size = size;
            }
            if size != parts.size {
                let wanted = parts.size;
                let reason = format!("image {number} has {size:#} pixels, not {wanted:#} as the first");
                return Err(Error::Invalid(reason));
            }
            parts.pixels.extend(bytes);
        }
        if parts.size.area() == 0 {
            return Err(Error::Invalid("there is no image, and so no size of images".to_owned()));
        }
        Ok(parts)
    }
}
