//! Images from a generator, by number.

use std::ops::Range;

use candle_core::{Device, Tensor};
use cellforge_data::{Scale, View, ViewParts};
use cellforge_gan::Generator;
use cellforge_nn::{Key, one_hot};
use rand_distr::{Distribution, StandardNormal};

use crate::{Error, Result, rejection};

/// Images made at once. The last batch is filled up with images that are thrown away, so that an image's bytes do not
/// depend on how many are asked for.
pub(crate) const BATCH: usize = 32;

/// The lowest truncation ([`SampleOptions::truncation`]): below it, nearly every draw would have to be thrown away.
pub const LOWEST_TRUNCATION: f64 = 0.01;

/// How images are sampled from a GAN ([`TrainedGan::sample_with`](crate::TrainedGan::sample_with)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleOptions {
    /// The seed of the noise.
    pub seed: u64,
    /// Draws each number of the noise again until it lies in [-T, T]; at least 0.01, or none. Lower is more typical and less
    /// varied. It is the truncation trick of Brock et al. (2019), on the noise, and means the same for generators of every kind: the
    /// styles of [`GeneratorKind::Style`](cellforge_gan::GeneratorKind::Style) are not drawn towards their mean, which is what StyleGAN
    /// calls truncation.
    pub truncation: Option<f64>,
    /// The share of candidates that is kept, from 0.001 to 1: each image is the one that the discriminator scores highest among `n`
    /// candidates, where `n` is [`SampleOptions::candidates`]. Image `i` is the best of images `n i` to `n i + n - 1` of the series
    /// without this, the first of them if they are equal.
    ///
    /// This is rejection by the discriminator, as in discriminator rejection sampling (Azadi et al. 2019), with the best of a fixed number
    /// in place of a probability to accept each. It raises fidelity as the discriminator sees it and lowers variety: what the
    /// generator makes seldom or badly is made still less often, and the images are no longer a sample of what the generator has learned.
    /// Measure both before such images are used.
    pub keep: Option<f64>,
}

impl SampleOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option.
    pub fn validate(&self) -> Result<()> {
        self.candidates()?;
        match self.truncation.filter(|limit| !limit.is_finite() || *limit < LOWEST_TRUNCATION) {
            None => Ok(()),
            Some(limit) => {
                let reason = format!("{limit} is out of range: at least {LOWEST_TRUNCATION}, or none");
                Err(Error::Invalid { field: "truncation", reason })
            }
        }
    }

    /// How many images are made for each that is kept: `1 / keep`, rounded up.
    ///
    /// ```
    /// use cellforge_train::SampleOptions;
    /// let candidates = |keep| SampleOptions { keep: Some(keep), ..SampleOptions::default() }.candidates();
    /// assert_eq!((candidates(1.0)?, candidates(0.4)?, candidates(0.1)?), (1, 3, 10));
    /// assert!(candidates(0.0).is_err());
    /// # Ok::<(), cellforge_train::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a share that is not in [0.001, 1].
    pub fn candidates(&self) -> Result<usize> {
        self.keep.map_or(Ok(1), rejection::candidates)
    }
}

/// The images of one class that a generator makes of a seed, by number.
#[derive(Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) generator: &'a Generator,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    /// Keys the noise together with the seed.
    pub(crate) class: &'a str,
    /// For a generator of several classes, the number of the class in its order, and how many there are.
    pub(crate) label: Option<(u32, usize)>,
    /// Length of the noise.
    pub(crate) latent: usize,
    pub(crate) truncation: Option<f64>,
}

impl Series<'_> {
    /// The images of these numbers.
    ///
    /// The generator's [-1, 1] becomes bytes by `(x + 1) * 127.5`, rounded to the nearest.
    pub(crate) fn images(&self, numbers: Range<usize>) -> Result<View> {
        let classes = self.label.map(|(label, of)| one_hot(&[label; BATCH], of, self.device)).transpose()?;
        let batch = |start: usize| -> Result<ViewParts> {
            let noise: Vec<f32> = (start..start + BATCH).flat_map(|index| self.noise(index)).collect();
            images_of(self.generator, &Tensor::from_vec(noise, (BATCH, self.latent), self.device)?, classes.as_ref())
        };
        // Batches start where those of the whole series do.
        let (skipped, count) = (numbers.start % BATCH, numbers.len());
        let start = numbers.start - skipped;
        let mut images = batch(start)?;
        for more in (BATCH..skipped + count).step_by(BATCH) {
            images.pixels.extend(batch(start + more)?.pixels);
        }
        let image_len = images.size.area() * images.channels;
        images.pixels.truncate((skipped + count) * image_len);
        images.pixels.drain(..skipped * image_len);
        self.named(images, numbers)
    }

    /// The images under their class and their numbers, counted from 1.
    pub(crate) fn named(&self, images: ViewParts, numbers: Range<usize>) -> Result<View> {
        let names = numbers.map(|index| format!("{:06}", index + 1)).collect();
        Ok(View::new(ViewParts { classes: vec![self.class.to_owned()], names, ..images })?)
    }

    /// The noise of image `index` of the series.
    pub(crate) fn noise(&self, index: usize) -> Vec<f32> {
        let key = Key::new(self.seed).with("generate").with(self.class).at(index as u64);
        noise(&key, self.latent, self.truncation)
    }
}

/// The images of `noise` (count, latent) and, where the generator is of several, `classes` (count, classes), with the generator in
/// inference mode.
pub(crate) fn images_of(generator: &Generator, noise: &Tensor, classes: Option<&Tensor>) -> Result<ViewParts> {
    let xs = generator.forward_class_t(noise, classes, false)?.detach(); // (b, c, h, w) in [-1, 1]
    Ok(ViewParts::from_tensor(&xs, Scale::SignedUnit)?)
}

fn noise(key: &Key, latent: usize, truncation: Option<f64>) -> Vec<f32> {
    let mut rng = key.rng();
    let limit = truncation.map_or(f32::INFINITY, |limit| limit as f32);
    let mut draw = || {
        loop {
            let value: f32 = StandardNormal.sample(&mut rng);
            if value.abs() <= limit {
                return value;
            }
        }
    };
    (0..latent).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_noise_stays_inside_and_repeats() {
        let key = Key::new(3).at(1);
        let values = noise(&key, 1000, Some(0.5));
        assert!(values.iter().all(|value| value.abs() <= 0.5));
        assert_eq!(values, noise(&key, 1000, Some(0.5)));
        assert!(noise(&key, 1000, None).iter().any(|value| value.abs() > 1.5));
    }
}
