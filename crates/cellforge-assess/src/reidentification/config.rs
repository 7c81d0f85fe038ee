//! The settings of re-identification.

use cellforge_data::{Augment, ImageSize};
use cellforge_train::ClassifierTrainConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, network::narrow_resnet};

/// Everything that decides how patients are re-identified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReidentificationConfig {
    /// Updates of each of the two networks that learn to tell patients apart. 0 leaves re-identification out.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub updates: u64,
    /// Batch size: images in an update.
    #[schemars(range(min = 2, max = 4096))]
    pub batch: usize,
    /// Most images of a patient.
    #[schemars(range(min = 2, max = 100_000))]
    pub images: usize,
    /// Width: factor on every filter count of the network.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Everything random derives from this number.
    #[schemars(skip)]
    pub seed: u64,
}

impl Default for ReidentificationConfig {
    fn default() -> Self {
        Self { updates: 300, batch: 64, images: 40, width: 1.0, seed: 1 }
    }
}

impl ReidentificationConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Settings`](crate::Error::Settings) with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        Ok(cellforge_settings::check(self, "evaluate.reidentification")?)
    }

    /// How a network learns to tell so many patients apart: mirrored or not, which says nothing of a patient.
    pub(super) fn training(
        &self,
        size: ImageSize,
        channels: usize,
        patients: usize,
        seed: u64,
    ) -> ClassifierTrainConfig {
        let training = narrow_resnet(self.width, self.batch, seed);
        ClassifierTrainConfig { augment: Augment::FLIPS, ..training }.for_images(size, channels, patients)
    }
}
