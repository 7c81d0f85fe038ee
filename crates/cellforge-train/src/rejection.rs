//! The images that the discriminator judges best.

use std::ops::Range;

use cellforge_data::{View, ViewParts};
use cellforge_gan::Discriminator;

use crate::features::discriminator_scores;
use crate::generate::Series;
use crate::{Error, Result};

/// The smallest share that can be kept; one image is the best of a thousand then.
const LEAST: f64 = 1e-3;
/// Candidates in memory at once.
const CHUNK: usize = 256;

/// How many candidates are made for each image when a share `keep` of them is kept: `1 / keep`, rounded up.
pub(crate) fn candidates(keep: f64) -> Result<usize> {
    if !(LEAST..=1.0).contains(&keep) {
        let reason = format!("{keep} is out of range: a share of the images, from {LEAST} to 1");
        return Err(Error::Invalid { field: "keep", reason });
    }
    // The reciprocal of a decimal fraction may come out a little above the whole number that is meant.
    Ok((1.0 / keep - 1e-9).ceil() as usize)
}

/// The images of these numbers, each the one of `group` images of the series that the discriminator scores highest.
pub(crate) fn sample(
    series: &Series<'_>,
    discriminator: &Discriminator,
    group: usize,
    numbers: Range<usize>,
) -> Result<View> {
    let (mut at, end) = (numbers.start * group, numbers.end * group);
    let mut kept: Option<ViewParts> = None;
    let mut highest = f64::NEG_INFINITY;
    while at < end {
        let count = (CHUNK - at % CHUNK).min(end - at);
        let images = series.images(at..at + count)?;
        let scores = discriminator_scores(discriminator, series.label, &images, series.device)?;
        let (size, channels) = (images.size(), images.channels());
        let kept = kept.get_or_insert(ViewParts { size, channels, ..ViewParts::default() });
        let image_len = size.area() * channels;
        for (i, score) in scores.into_iter().enumerate() {
            if !score.is_finite() {
                let reason = format!("its score of an image is {score}, by which no image can be chosen");
                return Err(Error::Invalid { field: "discriminator", reason });
            }
            let is_first = (at + i).is_multiple_of(group);
            if is_first || score > highest {
                let others = kept.pixels.len() / image_len - usize::from(!is_first);
                kept.pixels.truncate(others * image_len);
                kept.pixels.extend_from_slice(images.image(i));
                highest = score;
            }
        }
        at += count;
    }
    // Where none are asked for, it is the series that knows the size of no images.
    match kept {
        Some(kept) => series.named(kept, numbers),
        None => series.images(numbers),
    }
}
