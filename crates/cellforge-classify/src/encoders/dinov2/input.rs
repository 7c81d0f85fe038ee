//! Images as DINOv2 takes them.

use super::DINOV2_SIDE;
use crate::IMAGENET;
use crate::encoders::{check_images, resample::pillow_bicubic};
use candle_core::{Device, Result, Tensor};
use cellforge_settings::ImageSize;
use rayon::prelude::*;

/// Pixels a side before the middle is cut out.
const SHORTEST_EDGE: usize = 256;

/// Images of `height * width * channels` bytes each, row by row with the channels of a pixel together, as [`DinoV2`] takes them,
/// `(b, 3, 224, 224)`. Grey images are given three equal channels.
///
/// This is what Hugging Face's `BitImageProcessor` does with the settings of `facebook/dinov2-small`: to 256x256 with Pillow's
/// antialiased bicubic kernel, byte for byte (a rectangle is stretched); the middle 224x224; pixels in `[0, 1]` less ImageNet's mean, over its standard
/// deviation. The processor that resizes with torchvision can differ from Pillow's by a grey level.
///
/// # Errors
/// If there are no images, `channels` is neither 1 nor 3, or an image has another number of bytes.
///
/// [`DinoV2`]: crate::DinoV2
pub fn dinov2_input(images: &[&[u8]], size: impl Into<ImageSize>, channels: usize, device: &Device) -> Result<Tensor> {
    let size = size.into();
    check_images(images, size, channels)?;
    let [mean, sd] = IMAGENET;
    let plane = DINOV2_SIDE * DINOV2_SIDE;
    let mut values = vec![0f32; images.len() * 3 * plane];
    values.par_chunks_mut(3 * plane).zip(images).for_each(|(planes, image)| {
        let resized = pillow_bicubic(image, size, channels, SHORTEST_EDGE);
        for (channel, values) in planes.chunks_exact_mut(plane).enumerate() {
            for (i, value) in values.iter_mut().enumerate() {
                let edge = (SHORTEST_EDGE - DINOV2_SIDE) / 2;
                let (y, x) = (i / DINOV2_SIDE + edge, i % DINOV2_SIDE + edge);
                let byte = resized[(y * SHORTEST_EDGE + x) * channels + channel % channels];
                *value = ((f64::from(byte) / 255.) as f32 - mean[channel]) / sd[channel];
            }
        }
    });
    Tensor::from_vec(values, (images.len(), 3, DINOV2_SIDE, DINOV2_SIDE), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_grey_image_is_its_level_in_each_channel() -> Result<()> {
        let xs = dinov2_input(&[&[51; 9]], 3, 1, &Device::Cpu)?;
        assert_eq!(xs.dims(), [1, 3, 224, 224]);
        // 51 / 255 is 0.2.
        for (channel, expected) in [(0, -1.244_541_5), (1, -1.142_857_1), (2, -0.915_555_6)] {
            for value in xs.get(0)?.get(channel)?.flatten_all()?.to_vec1::<f32>()? {
                assert!((value - expected).abs() < 1e-6, "{value} in channel {channel}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_middle_is_cut_out() -> Result<()> {
        // At 256 a side nothing is resized: the first pixel of the result is the one 16 down and 16 to the right.
        let mut image = vec![0u8; 256 * 256 * 3];
        image[(16 * 256 + 16) * 3 + 2] = 255;
        let xs = dinov2_input(&[&image], 256, 3, &Device::Cpu)?;
        let value = xs.get(0)?.get(2)?.get(0)?.get(0)?.to_scalar::<f32>()?;
        assert!((value - (1. - 0.406) / 0.225).abs() < 1e-6, "{value}");
        let sum = xs.get(0)?.get(2)?.sum_all()?.to_scalar::<f32>()?;
        let expected = 224. * 224. * (-0.406 / 0.225) + 1. / 0.225;
        assert!((sum - expected).abs() < 1., "{sum}, expected {expected}");
        Ok(())
    }
}
