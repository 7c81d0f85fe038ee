//! The settings of an audit.

use cellforge_data::{ImageSize, View};
use cellforge_eval::{BootstrapOptions, PrivacyOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Everything that decides how a training recipe is audited; the recipe itself are the settings of a GAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Reference GANs. Two and two share the patients between them, so an even number is best.
    #[schemars(range(min = 2, max = 256))]
    pub references: usize,
    /// Images drawn of each GAN and class.
    #[schemars(range(min = 20, max = 1_000_000))]
    pub draws: usize,
    /// Nearest drawn images by which the density around a real image is estimated.
    #[schemars(range(min = 1, max = 20))]
    pub k: usize,
    /// Side to which images are averaged for distances between pixels. Larger than the images counts as theirs.
    #[schemars(range(min = 1, max = 128))]
    pub pixel_side: usize,
    /// Share of the patients to guess about, those with the highest and the lowest scores. It must be chosen before an audit is seen.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub guesses: f64,
    /// Delta for which the bound of epsilon holds.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub delta: f64,
    /// False positive rate at which true positives are counted.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub fpr: f64,
    /// Permutations of who was in training, for the p-values.
    #[schemars(range(min = 20, max = 1_000_000))]
    pub relabellings: usize,
    /// Bootstrap resamples per interval.
    #[schemars(range(min = 20, max = 100_000))]
    pub resamples: usize,
    /// Coverage of the intervals, and the confidence of the bound of epsilon.
    #[schemars(skip)]
    pub level: f64,
    /// Seed of everything random, the coins and the trainings among it.
    #[schemars(skip)]
    pub seed: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            references: 4,
            draws: 20_000,
            k: 5,
            pixel_side: 16,
            guesses: 0.3,
            delta: 0.0,
            fpr: 0.01,
            relabellings: 2000,
            resamples: 1000,
            level: 0.95,
            seed: 1,
        }
    }
}

impl AuditConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "audit")?;
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::Setting { setting: "audit.level", problem: "must lie between 0 and 1".to_owned() });
        }
        Ok(())
    }

    /// The size to which these images are averaged.
    pub(super) fn size(&self, images: &View) -> ImageSize {
        images.size().within(self.pixel_side)
    }

    pub(super) fn privacy_options(&self) -> PrivacyOptions {
        let bootstrap = BootstrapOptions { resamples: self.resamples, seed: self.seed, level: self.level };
        PrivacyOptions {
            bootstrap,
            relabellings: self.relabellings,
            fpr: self.fpr,
            seed: self.seed,
            ..PrivacyOptions::default()
        }
    }
}
