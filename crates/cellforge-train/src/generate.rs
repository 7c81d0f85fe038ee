//! Images from a trained generator.

use candle_core::{Device, Tensor};
use cellforge_data::{Scale, View, ViewParts};
use cellforge_gan::Generator;
use cellforge_nn::{Key, one_hot};
use rand_distr::{Distribution, StandardNormal};

use crate::{Error, Result};

/// Images made at once. The last batch is filled up with images that are thrown away, so that an image's bytes do not
/// depend on how many are asked for.
pub(crate) const BATCH: usize = 32;

/// The lowest truncation allowed: below it, nearly every draw would have to be thrown away.
const LOWEST_TRUNCATION: f64 = 0.01;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The seed of the noise.
    pub seed: u64,
    /// The class the generator was trained on; keys the noise together with the seed.
    pub class: String,
    /// For a generator of several classes, the number of the class in its order, and how many there are.
    pub label: Option<(u32, usize)>,
    /// Length of the generator's noise, `GanConfig::latent`.
    pub latent: usize,
    /// Number of the first image, from 0: a long series can be made in parts.
    pub first: usize,
    /// How many images.
    pub count: usize,
    /// Draws each number of the noise again until it lies in [-T, T]; at least 0.01. Lower is more typical and less
    /// varied. It is the truncation trick of Brock et al. (2019), on the noise, and means the same for generators of every kind: the
    /// styles of [`GeneratorKind::Style`](cellforge_gan::GeneratorKind::Style) are not drawn towards their mean, which is what StyleGAN
    /// calls truncation.
    pub truncation: Option<f64>,
}

/// Whether noise can be truncated at `limit` ([`GenerateOptions::truncation`]): a finite number, at least 0.01.
#[must_use]
pub fn can_truncate_at(limit: f64) -> bool {
    limit.is_finite() && limit >= LOWEST_TRUNCATION
}

impl GenerateOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a truncation below 0.01 or not finite.
    pub fn validate(&self) -> Result<()> {
        match self.truncation.filter(|limit| !can_truncate_at(*limit)) {
            None => Ok(()),
            Some(limit) => {
                let reason = format!("{limit} is out of range: at least {LOWEST_TRUNCATION}, or none");
                Err(Error::Invalid { field: "truncation", reason })
            }
        }
    }

    /// The images under their class and their numbers, counted from 1.
    pub(crate) fn named(&self, images: ViewParts) -> ViewParts {
        let names = (self.first..self.first + self.count).map(|index| format!("{:06}", index + 1)).collect();
        ViewParts { classes: vec![self.class.clone()], names, ..images }
    }

    /// The noise of image `index` of the series.
    pub(crate) fn noise(&self, index: usize) -> Vec<f32> {
        let key = Key::new(self.seed).with("generate").with(&self.class).at(index as u64);
        noise(&key, self.latent, self.truncation)
    }
}

/// Makes `options.count` images, from number `options.first`. Image `i` is a function of the generator, seed, class,
/// truncation and `i` alone: the first images of a longer run are those of a shorter one.
///
/// The view has one class, `options.class`, and the images' names are their numbers, counted from 1: `000001`.
///
/// The generator's [-1, 1] becomes bytes by `(x + 1) * 127.5`, rounded to the nearest.
///
/// # Errors
/// [`Error::Invalid`] for a truncation below 0.01 or not finite.
pub fn generate(generator: &Generator, options: &GenerateOptions, device: &Device) -> Result<View> {
    options.validate()?;
    let classes = options.label.map(|(label, of)| one_hot(&[label; BATCH], of, device)).transpose()?;
    let batch = |start: usize| -> Result<ViewParts> {
        let noise: Vec<f32> = (start..start + BATCH).flat_map(|index| options.noise(index)).collect();
        images_of(generator, &Tensor::from_vec(noise, (BATCH, options.latent), device)?, classes.as_ref())
    };
    // Batches start where those of the whole series do.
    let skipped = options.first % BATCH;
    let start = options.first - skipped;
    let mut images = batch(start)?;
    for more in (BATCH..skipped + options.count).step_by(BATCH) {
        images.pixels.extend(batch(start + more)?.pixels);
    }
    let image_len = images.side * images.side * images.channels;
    images.pixels.truncate((skipped + options.count) * image_len);
    images.pixels.drain(..skipped * image_len);
    Ok(View::new(options.named(images))?)
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
