//! The shape of a GAN: one configuration for both networks.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

/// Side of the smallest feature map of the generator, the one its dense layer is reshaped to.
pub(crate) const SEED_SIDE: usize = 4;
/// Filters of that feature map at width 1.
const SEED_FILTERS: usize = 256;
/// The longest noise vector; a longer one is a mistake, or a damaged file's.
const MAX_LATENT: usize = 1 << 14;
/// No layer is narrower than this, whatever the width multiplier.
const MIN_FILTERS: usize = 8;
/// How many of the discriminator's convolutions halve the image; the rest keep its side.
pub(crate) const STRIDED: usize = 3;

/// Size and constants of a generator and its discriminator. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanConfig {
    /// Side of the square images in pixels: 32, 64 or 128.
    pub image_size: usize,
    /// Channels of an image: 3 (RGB) or 1 (grey).
    pub channels: usize,
    /// Length of the noise vector.
    pub latent: usize,
    /// Multiplies every filter count; no layer goes below 8 filters.
    pub width: f64,
    /// Filters of the generator's upsampling blocks at width 1, one for each doubling from 4 pixels to `image_size`.
    /// Without it: 256, 256, 128 for 32 pixels, 256, 256, 128, 128 for 64 and 256, 256, 128, 128, 64 for 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_filters: Option<Vec<usize>>,
    /// Filters of the discriminator's convolutions at width 1. The first three have stride 2, later ones stride 1;
    /// three is the fewest.
    pub discriminator_filters: Vec<usize>,
    /// Chance that the discriminator's dropout clears a value in training, in `[0, 1)`.
    pub dropout: f64,
    /// Slope of the discriminator's leaky ReLU below zero.
    pub leak: f64,
    /// Weight of the newest batch in the running statistics, PyTorch's meaning (1 minus Keras's momentum).
    pub bn_momentum: f64,
    /// Added to the variance in batch normalisation.
    pub bn_eps: f64,
}

impl Default for GanConfig {
    fn default() -> Self {
        Self {
            image_size: 64,
            channels: 3,
            latent: 100,
            width: 1.0,
            generator_filters: None,
            discriminator_filters: vec![32, 64, 128, 256, 512],
            dropout: 0.25,
            leak: 0.2,
            bn_momentum: 0.2,
            bn_eps: 1e-3,
        }
    }
}

impl GanConfig {
    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        if ![32, 64, 128].contains(&self.image_size) {
            bail!("image_size is {}: a GAN's images have a side of 32, 64 or 128 pixels", self.image_size)
        }
        if ![1, 3].contains(&self.channels) {
            bail!("channels is {}: images have 1 (grey) or 3 (RGB)", self.channels)
        }
        if !(1..=MAX_LATENT).contains(&self.latent) {
            bail!("latent is {}: the generator takes 1 to {MAX_LATENT} noise values", self.latent)
        }
        if !(self.width > 0.0 && self.width <= 16.0) {
            bail!("width is {}: the filter multiplier must be above 0 and at most 16", self.width)
        }
        let doublings = (self.image_size / SEED_SIDE).ilog2() as usize;
        if let Some(filters) = &self.generator_filters
            && (filters.len() != doublings || filters.contains(&0))
        {
            bail!(
                "generator_filters is {filters:?}: images of {} pixels take {doublings} counts, each above 0",
                self.image_size
            )
        }
        if self.discriminator_filters.len() < STRIDED || self.discriminator_filters.contains(&0) {
            bail!(
                "discriminator_filters is {:?}: give at least {STRIDED} counts, each above 0",
                self.discriminator_filters
            )
        }
        for (name, value) in [("dropout", self.dropout), ("leak", self.leak)] {
            if !(0.0..1.0).contains(&value) {
                bail!("{name} is {value}: it must be at least 0 and below 1")
            }
        }
        if !(self.bn_momentum > 0.0 && self.bn_momentum <= 1.0) {
            bail!("bn_momentum is {}: it must be above 0 and at most 1", self.bn_momentum)
        }
        if !(self.bn_eps > 0.0 && self.bn_eps < 1.0) {
            bail!("bn_eps is {}: it must be above 0 and below 1", self.bn_eps)
        }
        Ok(())
    }

    /// Filters of the 4x4 map that the generator starts from.
    pub(crate) fn seed_filters(&self) -> usize {
        self.scaled(SEED_FILTERS)
    }

    /// Filters of each upsampling block of the generator, smallest image first.
    pub(crate) fn up_filters(&self) -> Vec<usize> {
        let study: &[usize] = match self.image_size {
            32 => &[256, 256, 128],
            64 => &[256, 256, 128, 128],
            _ => &[256, 256, 128, 128, 64],
        };
        self.generator_filters.as_deref().unwrap_or(study).iter().map(|&n| self.scaled(n)).collect()
    }

    /// Filters of each convolution of the discriminator.
    pub(crate) fn down_filters(&self) -> Vec<usize> {
        self.discriminator_filters.iter().map(|&n| self.scaled(n)).collect()
    }

    fn scaled(&self, filters: usize) -> usize {
        ((filters as f64 * self.width).round() as usize).max(MIN_FILTERS)
    }
}
