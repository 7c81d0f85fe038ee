//! The shape of a GAN: one configuration for both networks.

use candle_core::{Result, bail};
use cellforge_nn::Precision;
use cellforge_settings::{ImageSize, check_image};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The least side of the generator's first map, the one its dense layer is reshaped to.
const SEED_SIDE: usize = 4;
/// Filters of that map at width 1.
const SEED_FILTERS: usize = 256;
/// The longest noise vector; a longer one is a mistake, or a damaged file's.
const MAX_LATENT: usize = 1 << 14;
/// The most classes of one GAN; more are a mistake, or a damaged file's.
const MAX_CLASSES: usize = 1 << 10;
/// No layer is narrower than this, whatever the width multiplier.
const MIN_FILTERS: usize = 8;
/// How many of the discriminator's convolutions halve the image; the rest keep its side.
pub(crate) const STRIDED: usize = 3;

/// Filters at width 1 by the size of the map that they make, of the study's generator: for maps of 4 to 7 pixels a side, of 8 to 15 and so
/// on up to 512. The side of a rectangle is the square root of its area. Each doubling has four times as many pixels, so counts fall.
const STUDY_FILTERS: [usize; 8] = [256, 256, 256, 128, 128, 64, 32, 16];
/// The same of the other generators.
const UP_FILTERS: [usize; 8] = [192, 192, 128, 64, 32, 16, 16, 8];
/// The same of the residual discriminator.
const DOWN_FILTERS: [usize; 8] = [192, 192, 96, 48, 24, 12, 12, 8];

/// The architecture of a generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// The study's: a dense layer, then upsampling, convolution, batch norm and ReLU at each size.
    #[default]
    Study,
    /// Residual blocks of two convolutions, with batch norm whose scale and shift depend on the class (Miyato and Koyama 2018).
    Residual,
    /// Convolutions whose inputs are scaled by styles, which a small network makes of noise and class (StyleGAN2, Karras et al. 2020), two
    /// at each size; no normalisation by the batch.
    Style,
}

/// The architecture of a discriminator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiscriminatorKind {
    /// The study's: convolutions with batch norm and dropout.
    #[default]
    Study,
    /// Residual blocks without any normalisation by the batch. Its answer on a class is a projection (Miyato and Koyama 2018): the dot
    /// product of the last features with a row of numbers that the class has.
    Residual,
}

/// Size and constants of a generator and its discriminator. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GanConfig {
    /// Height and width of the images, within the rule of [`ImageSize::check`].
    #[schemars(skip)]
    pub image_size: ImageSize,
    /// Channels of an image: 3 (RGB) or 1 (grey).
    #[schemars(skip)]
    pub channels: usize,
    /// Latent size: numbers in the noise vector.
    #[schemars(range(min = 1, max = MAX_LATENT))]
    pub latent: usize,
    /// Width: factor on every filter count. No layer has fewer than 8 filters.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Generator architecture.
    pub generator: GeneratorKind,
    /// Discriminator architecture.
    pub discriminator: DiscriminatorKind,
    /// Classes of one GAN. 1 is a GAN without classes, such as the study's.
    #[schemars(skip)]
    pub classes: usize,
    /// Spectral normalisation of the residual discriminator (Miyato et al. 2018).
    ///
    /// Its weights are divided by their largest singular value.
    pub spectral_norm: bool,
    /// Filters of the generator's upsampling blocks at width 1, smallest image first.
    ///
    /// There is one count for each doubling from the first map to the images' size. Without it, counts go by the size of the maps: from 8 pixels
    /// a side on, doubling by doubling, they are 256, 256, 128, 128, 64, 32, 16 in the study's generator and 192, 128, 64, 32, 16, 16, 8 in the
    /// others. The side of a rectangle is the square root of its area.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub generator_filters: Option<Vec<usize>>,
    /// Filters of the discriminator's convolutions at width 1, largest image first.
    ///
    /// In the study's discriminator the first three have stride 2 and later ones stride 1. It needs at least three; its own are 32, 64, 128,
    /// 256, 512. The residual discriminator takes a count for the images' size and one for each halving from there to the smallest map. Without it, those
    /// go by the size of the maps: 8 at 512 pixels a side, 12 from 128 on, 24 from 64, 48 from 32, 96 from 16, and 192 below.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub discriminator_filters: Option<Vec<usize>>,
    /// Dropout: probability that the study's discriminator clears a value in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Negative slope of the discriminator's leaky ReLU.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub negative_slope: f64,
    /// Batch-norm momentum, as in PyTorch: weight of the newest batch (1 minus Keras's).
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub bn_momentum: f64,
    /// Batch-norm epsilon, which is added to the variance.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub bn_eps: f64,
    /// What convolutions and matrix products multiply.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    #[schemars(skip)]
    pub precision: Precision,
}

impl Default for GanConfig {
    fn default() -> Self {
        Self {
            image_size: ImageSize::square(64),
            channels: 3,
            latent: 100,
            width: 1.0,
            generator: GeneratorKind::Study,
            discriminator: DiscriminatorKind::Study,
            classes: 1,
            spectral_norm: false,
            generator_filters: None,
            discriminator_filters: None,
            dropout: 0.25,
            negative_slope: 0.2,
            bn_momentum: 0.2,
            bn_eps: 1e-3,
            precision: Precision::F32,
        }
    }
}

impl GanConfig {
    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        check_image(self.image_size, self.channels).map_err(candle_core::Error::msg)?;
        cellforge_settings::check(self, "model").map_err(candle_core::Error::wrap)?;
        let doublings = self.doublings();
        if let Some(filters) = &self.generator_filters
            && (filters.len() != doublings || filters.contains(&0))
        {
            bail!(
                "generator_filters is {filters:?}: images of {:#} pixels take {doublings} counts, each above 0",
                self.image_size
            )
        }
        let (least, most) = match self.discriminator {
            DiscriminatorKind::Study => (STRIDED, usize::MAX),
            DiscriminatorKind::Residual => (doublings + 1, doublings + 1),
        };
        if let Some(filters) = &self.discriminator_filters
            && (!(least..=most).contains(&filters.len()) || filters.contains(&0))
        {
            let exactly = if least == most { "exactly" } else { "at least" };
            bail!("discriminator_filters is {filters:?}: give {exactly} {least} counts, each above 0")
        }
        if !(1..=MAX_CLASSES).contains(&self.classes) {
            bail!("classes is {}: a GAN is of 1 to {MAX_CLASSES} classes", self.classes)
        }
        let is_study = (self.generator == GeneratorKind::Study, self.discriminator == DiscriminatorKind::Study);
        if self.classes > 1 && (is_study.0 || is_study.1) {
            bail!(
                "classes is {}: the study's networks know of no classes; take generator \"style\" or \"residual\" and discriminator \"residual\"",
                self.classes
            )
        }
        if self.spectral_norm && is_study.1 {
            bail!("spectral_norm is true: the study's discriminator has none; take discriminator \"residual\"")
        }
        Ok(())
    }

    /// How often both sides double from the generator's first map to the image, and are halved on the discriminator's way back: as often as
    /// both can be halved to whole numbers of at least [`SEED_SIDE`].
    pub(crate) fn doublings(&self) -> usize {
        let ImageSize { height, width } = self.image_size;
        let halves = |side: usize| side.trailing_zeros().min((side / SEED_SIDE).max(1).ilog2());
        halves(height).min(halves(width)) as usize
    }

    /// The size of the first map: 4x4 for squares of 32, 64, 128, 256 and 512 pixels.
    pub(crate) fn seed(&self) -> ImageSize {
        self.map(0)
    }

    /// The size of the map after so many doublings of the first.
    fn map(&self, doublings: usize) -> ImageSize {
        let halved = |side: usize| side >> (self.doublings() - doublings);
        ImageSize::new(halved(self.image_size.height), halved(self.image_size.width))
    }

    /// Filters of a map after so many doublings, by a table that goes by the size of maps.
    fn by_size(&self, table: &[usize; 8], doublings: usize) -> usize {
        let side = self.map(doublings).area().isqrt();
        table[((side / SEED_SIDE).max(1).ilog2() as usize).min(table.len() - 1)]
    }

    /// Filters of the first map that the generator starts from.
    pub(crate) fn seed_filters(&self) -> usize {
        match self.generator {
            GeneratorKind::Study => self.scaled(SEED_FILTERS),
            _ => self.up_filters()[0],
        }
    }

    /// Filters of each upsampling block of the generator, smallest image first.
    pub(crate) fn up_filters(&self) -> Vec<usize> {
        let table = match self.generator {
            GeneratorKind::Study => &STUDY_FILTERS,
            _ => &UP_FILTERS,
        };
        let usual = || (1..=self.doublings()).map(|i| self.by_size(table, i)).collect();
        self.generator_filters.clone().unwrap_or_else(usual).iter().map(|&n| self.scaled(n)).collect()
    }

    /// Filters of each convolution of the study's discriminator, or at each side of the residual one, largest first.
    pub(crate) fn down_filters(&self) -> Vec<usize> {
        let usual = || match self.discriminator {
            DiscriminatorKind::Study => vec![32, 64, 128, 256, 512],
            DiscriminatorKind::Residual => {
                (0..=self.doublings()).rev().map(|i| self.by_size(&DOWN_FILTERS, i)).collect()
            }
        };
        self.discriminator_filters.clone().unwrap_or_else(usual).iter().map(|&n| self.scaled(n)).collect()
    }

    fn scaled(&self, filters: usize) -> usize {
        ((filters as f64 * self.width).round() as usize).max(MIN_FILTERS)
    }
}
