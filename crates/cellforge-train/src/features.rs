//! What networks make of images: rows of numbers to compare sets by.

use candle_core::{Device, Tensor};
use cellforge_classify::{Classifier, DinoV2, Inception, dinov2_input, inception_input};
use cellforge_data::{Batch, ImageSize, Scale, View};
use cellforge_eval::Features;
use cellforge_gan::Discriminator;
use cellforge_nn::{Key, one_hot};

use crate::predict::{at_once, positions};
use crate::{Error, Result};

/// Images judged at once by Inception-v3 and DINOv2, whose images are larger than those of the other networks.
pub(crate) const ENCODER_BATCH: usize = 16;

/// Features of images as they were computed or read: rows of numbers, one row an image, that belong to whoever holds them and that nobody
/// has checked. What compares sets takes [`cellforge_eval::Features`], which borrows them ([`FeatureMatrix::checked`]).
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMatrix {
    /// All rows, one after the other.
    pub values: Vec<f32>,
    /// Numbers in a row, at least 1.
    pub dims: usize,
}

impl FeatureMatrix {
    /// These rows, to be compared with others.
    ///
    /// # Errors
    /// If there are none, or a number is not finite.
    pub fn checked(&self) -> cellforge_eval::Result<Features<'_>> {
        Features::new(&self.values, self.dims)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dims..][..self.dims]
    }
}

/// What the classifier's last layer judges the images by, in their order.
pub(crate) fn features(classifier: &Classifier, images: &View, device: &Device) -> Result<FeatureMatrix> {
    in_batches(images, at_once(images.size()), |chunk| {
        Ok(classifier.features(&Batch::gather(images, chunk, Scale::Unit, None, device)?.images)?)
    })
}

/// The 2048 features of Inception-v3 of the images, in their order. Images of any size are brought to 299x299 as
/// [`inception_input`] says.
///
/// # Errors
/// If there are no images.
pub fn inception_features(network: &Inception, images: &View, device: &Device) -> Result<FeatureMatrix> {
    in_batches(images, ENCODER_BATCH, |chunk| {
        let bytes: Vec<&[u8]> = chunk.iter().map(|&i| images.image(i)).collect();
        Ok(network.features(&inception_input(&bytes, images.size(), images.channels(), device)?)?)
    })
}

/// The features of DINOv2 of the images, in their order: 384 of ViT-S/14. Images of any size are brought to 224x224 as
/// [`dinov2_input`] says.
///
/// # Errors
/// If there are no images.
pub fn dinov2_features(network: &DinoV2, images: &View, device: &Device) -> Result<FeatureMatrix> {
    in_batches(images, ENCODER_BATCH, |chunk| {
        let bytes: Vec<&[u8]> = chunk.iter().map(|&i| images.image(i)).collect();
        Ok(network.features(&dinov2_input(&bytes, images.size(), images.channels(), device)?)?)
    })
}

/// The pixels of the images, in their order, each image averaged over areas to `to`, or as many pixels a side. A row holds
/// them row by row with the channels of a pixel together, in [0, 1].
///
/// # Errors
/// [`Error::Invalid`] if a side of `to` is 0 or more than the images', or if there are no images.
pub fn pixel_features(images: &View, to: impl Into<ImageSize>) -> Result<FeatureMatrix> {
    check(images)?;
    let (from, to) = (images.size(), to.into());
    if to.area() == 0 || to.height > from.height || to.width > from.width {
        let reason = format!("{to:#} is out of range: from 1x1 to the {from:#} pixels of the images");
        return Err(Error::Invalid { field: "size", reason });
    }
    let taps = (taps(from.height, to.height), taps(from.width, to.width));
    let mut values = Vec::with_capacity(images.len() * to.area() * images.channels());
    for i in 0..images.len() {
        average(images.image(i), from, images.channels(), &taps, &mut values);
    }
    Ok(FeatureMatrix { values, dims: to.area() * images.channels() })
}

/// The logits that the discriminator gives to the images, in their order. One of several classes takes all images for those of the class
/// `label`: its number in the discriminator's order, and how many there are.
pub(crate) fn discriminator_scores(
    discriminator: &Discriminator,
    label: Option<(u32, usize)>,
    images: &View,
    device: &Device,
) -> Result<Vec<f64>> {
    let batch = at_once(images.size());
    let classes = label.map(|(label, of)| one_hot(&vec![label; batch], of, device)).transpose()?; // (batch, of)
    let logits = in_batches(images, batch, |chunk| {
        let xs = Batch::gather(images, chunk, Scale::SignedUnit, None, device)?.images;
        // The key is of dropout, which inference has none of.
        Ok(discriminator.forward_class_t(&xs, classes.as_ref(), false, &Key::new(0))?)
    })?;
    Ok(logits.values.into_iter().map(f64::from).collect())
}

/// The rows `(batch, dims)` that `of` makes of so many images at a time. The last batch is filled up with images whose rows are thrown away: sums
/// of another number of rows may run in another order, and then two equal images would not have equal features.
fn in_batches(images: &View, batch: usize, of: impl Fn(&[usize]) -> Result<Tensor>) -> Result<FeatureMatrix> {
    check(images)?;
    let mut matrix = FeatureMatrix { values: Vec::new(), dims: 0 };
    for chunk in positions(images).chunks(batch) {
        let filled: Vec<usize> = chunk.iter().copied().cycle().take(batch).collect();
        let rows = of(&filled)?.detach().narrow(0, 0, chunk.len())?;
        matrix.dims = rows.dim(1)?;
        matrix.values.extend(rows.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(matrix)
}

fn check(images: &View) -> Result<()> {
    if images.is_empty() {
        return Err(Error::Invalid { field: "images", reason: "there are none to take features of".to_owned() });
    }
    Ok(())
}

/// The pixels of an axis that a pixel of the result covers, with how much of each, in parts of which `side` make a pixel.
type Cover = Vec<(usize, u64)>;

/// What each of `side` pixels covers of an axis of `from` pixels.
fn taps(from: usize, side: usize) -> Vec<Cover> {
    let cover = |i: usize| {
        // Of parts, a pixel of the result has `from` and a pixel of the image `side`.
        let (start, end) = (i * from, (i + 1) * from);
        let part = |pixel: usize| (end.min((pixel + 1) * side) - start.max(pixel * side)) as u64;
        (start / side..end.div_ceil(side)).map(|pixel| (pixel, part(pixel))).collect()
    };
    (0..side).map(cover).collect()
}

/// Appends an image's averages. Sums are of whole numbers, so that a turned image has the same averages, turned.
fn average(
    image: &[u8],
    from: ImageSize,
    channels: usize,
    (down, across): &(Vec<Cover>, Vec<Cover>),
    values: &mut Vec<f32>,
) {
    let whole = (from.area() * 255) as f64;
    for rows in down {
        for cols in across {
            for channel in 0..channels {
                let mut sum = 0;
                for &(row, height) in rows {
                    let line = |&(col, width): &(usize, u64)| {
                        width * u64::from(image[(row * from.width + col) * channels + channel])
                    };
                    sum += height * cols.iter().map(line).sum::<u64>();
                }
                values.push((sum as f64 / whole) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Orientation, oriented};
    use cellforge_data::ViewParts;

    /// One class of images with these pixels.
    fn set(size: impl Into<ImageSize>, channels: usize, pixels: Vec<u8>) -> View {
        View::new(ViewParts { size: size.into(), channels, pixels, ..ViewParts::default() }).unwrap()
    }

    #[test]
    fn averages_by_hand() {
        // Blocks of 2x2: (0 + 255 + 255 + 0) / 4, (255 + 255 + 0 + 255) / 4, ...
        let four = set(4, 1, vec![0, 255, 255, 255, 255, 0, 0, 255, 51, 51, 0, 0, 51, 51, 0, 51]);
        let pixels = pixel_features(&four.part(&[0]), 2).unwrap();
        assert_eq!((pixels.dims, pixels.len()), (4, 1));
        assert_eq!(pixels.row(0), [0.5, 0.75, 0.2, 0.05]);
        // Of three pixels a side, each of two covers one and a half. Top left: (a + b / 2 + d / 2 + e / 4) / 2.25.
        let three = set(3, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 0]);
        let pixels = pixel_features(&three.part(&[0, 0]), 2).unwrap();
        let expected = [1.25, 0.25, 0.25, 0.25].map(|sum| (sum / 2.25) as f32);
        assert_eq!((pixels.row(0), pixels.row(1)), (&expected[..], &expected[..]));
        // Two rows of four to one row of two: (0 + 51 + 102 + 51) / 4 and (255 + 255 + 0 + 0) / 4 of 255.
        let wide = set(ImageSize::new(2, 4), 1, vec![0, 51, 255, 255, 102, 51, 0, 0]);
        let expected = [0.2, 0.5];
        assert_eq!(pixel_features(&wide, ImageSize::new(1, 2)).unwrap().values, expected);
        // The size itself: channels stay together.
        let own = set(1, 3, vec![0, 51, 255, 255, 0, 0]);
        assert_eq!(pixel_features(&own.part(&[1, 0]), 1).unwrap().values, [1., 0., 0., 0., 0.2, 1.]);
    }

    #[test]
    fn a_turned_image_has_the_same_averages_turned() {
        let pixels: Vec<u8> = (0..5 * 5).map(|i| (i * 37 % 256) as u8).collect();
        let images = set(5, 1, pixels);
        let straight = pixel_features(&images.part(&[0]), 3).unwrap();
        for orientation in Orientation::ALL {
            let turned = pixel_features(&oriented(&images, orientation).unwrap(), 3).unwrap();
            let places = orientation.apply(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 3, 1);
            let expected: Vec<f32> = places.iter().map(|&place| straight.values[usize::from(place)]).collect();
            assert_eq!(turned.values, expected, "{orientation:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        let images = set(2, 1, vec![0; 8]);
        for (indices, side, expected) in [(&[][..], 1, "none"), (&[0], 0, "size: 0x0"), (&[0], 3, "size: 3x3")] {
            let error = pixel_features(&images.part(indices), side).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
