//! Images as the network of the Fréchet Inception distance takes them.

use super::INCEPTION_SIDE;
use crate::encoders::check_images;
use candle_core::{Device, Result, Tensor};
use cellforge_settings::ImageSize;

/// Images of `height * width * channels` bytes each, row by row with the channels of a pixel together, as [`Inception`] takes them:
/// brought to 299x299 and scaled by `(x - 128) / 128`, `(b, 3, 299, 299)`. Grey images are given three equal channels.
///
/// The size is brought about as TensorFlow 1 did it, bilinearly and with pixel `i` of the result at `i * side / 299` of the
/// image. Other programs take the middles of pixels, `(i + 0.5) * side / 299 - 0.5`, and filter where they make an image smaller;
/// Parmar et al. (2022) show how far that moves the distance.
///
/// # Errors
/// If there are no images, `channels` is neither 1 nor 3, or an image has another number of bytes.
///
/// [`Inception`]: crate::Inception
pub fn inception_input(
    images: &[&[u8]],
    size: impl Into<ImageSize>,
    channels: usize,
    device: &Device,
) -> Result<Tensor> {
    let size = size.into();
    check_images(images, size, channels)?;
    let (down, across) = (taps(size.height), taps(size.width));
    let mut values = Vec::with_capacity(images.len() * INCEPTION_SIDE * INCEPTION_SIDE * 3);
    for image in images {
        enlarge(image, (&down, &across), size.width, channels, &mut values);
    }
    Tensor::from_vec(values, (images.len(), INCEPTION_SIDE, INCEPTION_SIDE, 3), device)?.permute((0, 3, 1, 2))
}

/// Where a pixel of the result lies along an axis: between two pixels of the image, and how far from the first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    before: usize,
    after: usize,
    part: f32,
}

/// The taps of an axis of `side` pixels.
fn taps(side: usize) -> Vec<Tap> {
    let tap = |i: usize| {
        // i * side / 299, in whole pixels and the rest.
        let (before, rest) = (i * side / INCEPTION_SIDE, i * side % INCEPTION_SIDE);
        Tap { before, after: (before + 1).min(side - 1), part: rest as f32 / INCEPTION_SIDE as f32 }
    };
    (0..INCEPTION_SIDE).map(tap).collect()
}

/// Appends an image, pixel by pixel with three channels each.
fn enlarge(image: &[u8], (down, across): (&[Tap], &[Tap]), width: usize, channels: usize, values: &mut Vec<f32>) {
    for row in down {
        for col in across {
            for channel in 0..3 {
                // The channel of a grey image is each of the three.
                let at = |y: usize, x: usize| f32::from(image[(y * width + x) * channels + channel % channels]);
                let along = |y: usize| at(y, col.before) + (at(y, col.after) - at(y, col.before)) * col.part;
                let (above, below) = (along(row.before), along(row.after));
                values.push((above + (below - above) * row.part - 128.) / 128.);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a channel at a row and column of the only image, in bytes again.
    fn at(xs: &Tensor, channel: usize, row: usize, col: usize) -> Result<f32> {
        let value = xs.get(0)?.get(channel)?.get(row)?.get(col)?.to_scalar::<f32>()?;
        Ok(value * 128. + 128.)
    }

    #[test]
    fn two_by_two_by_hand() -> Result<()> {
        // Red is 0 and 100 above 200 and 40, green and blue are flat.
        let image = [0, 7, 255, 100, 7, 255, 200, 7, 255, 40, 7, 255];
        let xs = inception_input(&[&image], 2, 3, &Device::Cpu)?;
        assert_eq!(xs.dims(), [1, 3, 299, 299]);
        // Pixel i lies at 2i / 299: up to i = 149 between the two, from 150 on past the second, which is all there is.
        for (row, col, expected) in [
            (0, 0, 0.),
            (0, 149, 100. * 298. / 299.),
            (0, 150, 100.),
            (0, 298, 100.),
            (298, 0, 200.),
            (298, 298, 40.),
            (0, 60, 100. * 120. / 299.),
            // 90 / 299 down and 120 / 299 to the right: 40.134 between the upper two, 135.786 between the lower two.
            (45, 60, 40.133_78 + (135.785_95 - 40.133_78) * 90. / 299.),
        ] {
            let got = at(&xs, 0, row, col)?;
            assert!((got - expected).abs() < 1e-3, "({row}, {col}) is {got}, expected {expected}");
            assert_eq!((at(&xs, 1, row, col)?, at(&xs, 2, row, col)?), (7., 255.));
        }
        Ok(())
    }

    #[test]
    fn its_own_size_and_its_double_are_picked_pixel_by_pixel() -> Result<()> {
        for double in [1, 2] {
            let side = INCEPTION_SIDE * double;
            let image: Vec<u8> = (0..side * side).map(|i| (i % 251) as u8).collect();
            let xs = inception_input(&[&image], side, 1, &Device::Cpu)?;
            for (row, col) in [(0, 0), (1, 0), (17, 250), (298, 298)] {
                let expected = f32::from(image[row * double * side + col * double]);
                assert_eq!([0, 1, 2].map(|channel| at(&xs, channel, row, col).ok()), [Some(expected); 3]);
            }
        }
        Ok(())
    }

    #[test]
    fn a_rectangle_by_hand() -> Result<()> {
        // Two rows of one pixel: along a row nothing changes, down it is as in the square.
        let xs = inception_input(&[&[0, 200]], ImageSize::new(2, 1), 1, &Device::Cpu)?;
        for (row, col, expected) in [(0, 0, 0.), (0, 298, 0.), (149, 7, 200. * 298. / 299.), (150, 0, 200.)] {
            assert!((at(&xs, 0, row, col)? - expected).abs() < 1e-3, "({row}, {col})");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let refused = |images: &[&[u8]], channels| {
            inception_input(images, 2, channels, &Device::Cpu).expect_err("this must fail").to_string()
        };
        assert!(refused(&[&[0; 12], &[0; 11]], 3).contains("11 bytes"));
        assert!(refused(&[&[0; 8]], 2).contains("2 channels"));
        assert!(refused(&[], 3).contains("0 images"));
    }
}
