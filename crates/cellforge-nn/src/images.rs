//! The sizes of images that the networks take.

use candle_core::{Result, bail};

/// Sides of the square images, in pixels.
pub const SIDES: [usize; 3] = [32, 64, 128];

/// Channels of an image: 1 is grey, 3 is colour.
pub const CHANNELS: [usize; 2] = [1, 3];

/// Refuses images of a size that no network takes.
///
/// # Errors
/// If `side` is none of [`SIDES`], or `channels` none of [`CHANNELS`].
pub fn check_size(side: usize, channels: usize) -> Result<()> {
    if !SIDES.contains(&side) {
        bail!("image_size is {side}: images have a side of {} pixels", either(&SIDES))
    }
    if !CHANNELS.contains(&channels) {
        bail!("channels is {channels}: images have {} (grey or colour)", either(&CHANNELS))
    }
    Ok(())
}

/// Numbers to choose from, in words.
fn either(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let (last, others) = texts.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    format!("{} or {last}", others.join(", "))
}
