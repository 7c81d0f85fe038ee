//! Networks that were trained on other images by others, up to the features that sets are compared by. Their weights are supplied.

mod dinov2;
mod inception;
mod resample;

pub use dinov2::{DINOV2_SIDE, DinoV2, DinoV2Config, dinov2_input};
pub use inception::{INCEPTION_FEATURES, INCEPTION_LARGEST, INCEPTION_SIDE, Inception, inception_input};

use candle_core::{Result, bail};
use cellforge_settings::ImageSize;

/// Checks images of `height * width * channels` bytes each, row by row with the channels of a pixel together.
fn check_images(images: &[&[u8]], size: ImageSize, channels: usize) -> Result<()> {
    if !matches!(channels, 1 | 3) || size.area() == 0 || images.is_empty() {
        bail!("{} images of {size:#} with {channels} channels: expected 1 or 3 channels, and images", images.len())
    }
    if let Some(image) = images.iter().find(|image| image.len() != size.area() * channels) {
        bail!("an image of {size:#} with {channels} channels does not have {} bytes", image.len())
    }
    Ok(())
}
