//! The images that the discriminator judges best.

use candle_core::Device;
use cellforge_data::{View, ViewParts};
use cellforge_gan::{Discriminator, Generator};

use crate::{Error, GenerateOptions, Result, discriminator_scores, generate};

/// The smallest share that can be kept; one image is the best of a thousand then.
const LEAST: f64 = 1e-3;
/// Candidates in memory at once.
const CHUNK: usize = 256;

/// How many candidates [`generate_kept`] makes for each image when it keeps a share `keep` of them: `1 / keep`, rounded up.
///
/// ```
/// # use cellforge_train::candidates;
/// assert_eq!([1.0, 0.5, 0.3, 0.1].map(|keep| candidates(keep).unwrap()), [1, 2, 4, 10]);
/// assert!(candidates(0.0).is_err());
/// ```
///
/// # Errors
/// [`Error::Invalid`] for a share that is not in [0.001, 1].
pub fn candidates(keep: f64) -> Result<usize> {
    if !(LEAST..=1.0).contains(&keep) {
        let reason = format!("{keep} is out of range: a share of the images, from {LEAST} to 1");
        return Err(Error::Invalid { field: "keep", reason });
    }
    // The reciprocal of a decimal fraction may come out a little above the whole number that is meant.
    Ok((1.0 / keep - 1e-9).ceil() as usize)
}

/// As [`generate`], but each image is the one that the discriminator scores highest ([`discriminator_scores`]) among `n` candidates, where `n` is
/// [`candidates`]`(keep)`: image `i` is the best of images `n i` to `n i + n - 1` of what `generate` makes, the first of them if they are
/// equal. So it depends on the two networks, seed, class, truncation, `keep` and `i` alone, and a series can be made in parts.
///
/// This is rejection by the discriminator, as in discriminator rejection sampling (Azadi et al. 2019), with the best of a fixed number
/// in place of a probability to accept each. It raises fidelity as the discriminator sees it and lowers variety: what the
/// generator makes seldom or badly is made still less often, and the images are no longer a sample of what the generator has learned.
/// Measure both before such images are used.
///
/// # Errors
/// [`Error::Invalid`] for a truncation or share out of range, or if a score is not a finite number; a discriminator of images of
/// another size, or of other classes, than the generator's.
pub fn generate_kept(
    generator: &Generator,
    discriminator: &Discriminator,
    keep: f64,
    options: &GenerateOptions,
    device: &Device,
) -> Result<View> {
    let group = candidates(keep)?;
    let (mut at, end) = (options.first * group, (options.first + options.count) * group);
    let mut kept: Option<ViewParts> = None;
    let mut highest = f64::NEG_INFINITY;
    while at < end {
        let count = (CHUNK - at % CHUNK).min(end - at);
        let images = generate(generator, &GenerateOptions { first: at, count, ..options.clone() }, device)?;
        let scores = discriminator_scores(discriminator, options.label, &images, device)?;
        let (side, channels) = (images.side(), images.channels());
        let kept = kept.get_or_insert(ViewParts { side, channels, ..ViewParts::default() });
        let image_len = side * side * channels;
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
    // Where none are asked for, it is `generate` that knows the size of no images.
    match kept {
        Some(kept) => Ok(View::new(options.named(kept))?),
        None => generate(generator, options, device),
    }
}
