//! The settings of the two-sample test.

use cellforge_data::{ImageSize, derive_seed};
use cellforge_eval::BootstrapOptions;
use cellforge_train::ClassifierTrainConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, network::narrow_resnet};

/// Everything that decides what a two-sample test computes from its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TwoSampleConfig {
    /// Most images of each class on each side.
    #[schemars(range(min = 30, max = 1_000_000))]
    pub images: usize,
    /// Seeds: how often the real patients are halved, each half being told from the synthetic images and from the other half.
    #[schemars(range(min = 1, max = 100))]
    pub seeds: usize,
    /// Folds: each image is scored by a network that was trained on the other folds.
    #[schemars(range(min = 2, max = 10))]
    pub folds: usize,
    /// Updates of each training. 0 trains no network and leaves the statistics of images.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub updates: u64,
    /// Batch size: images in an update.
    #[schemars(range(min = 2, max = 4096))]
    pub batch: usize,
    /// Width: factor on every filter count of the network.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Random halvings of the real patients for the p-values of the statistics of images.
    #[schemars(range(min = 50, max = 100_000))]
    pub halvings: usize,
    /// Plant differences of graded strength in real images, and report the weakest that is found.
    ///
    /// Without it, no verdict says that the images cannot be told apart.
    pub planted: bool,
    /// Pictures of each class that show where the network sees a synthetic image. 0 draws none.
    #[schemars(range(min = 0, max = 20))]
    pub pictures: usize,
    /// Everything random derives from this number.
    #[schemars(skip)]
    pub seed: u64,
    /// How the intervals are computed.
    #[schemars(skip)]
    pub bootstrap: BootstrapOptions,
}

impl Default for TwoSampleConfig {
    fn default() -> Self {
        Self {
            images: 1000,
            seeds: 3,
            folds: 2,
            updates: 200,
            batch: 32,
            width: 1.0,
            halvings: 500,
            planted: true,
            pictures: 3,
            seed: 1,
            bootstrap: BootstrapOptions::default(),
        }
    }
}

impl TwoSampleConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Settings`](crate::Error::Settings) with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        Ok(cellforge_settings::check(self, "evaluate.two_sample")?)
    }

    /// How the network of `run` is trained, for images of this size in so many classes.
    pub(crate) fn training(
        &self,
        size: ImageSize,
        channels: usize,
        classes: usize,
        run: &str,
    ) -> ClassifierTrainConfig {
        narrow_resnet(self.width, self.batch, derive_seed(self.seed, run)).for_images(size, channels, classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = TwoSampleConfig::default();
        good.validate().unwrap();
        good.training(64.into(), 3, 4, "a").validate().unwrap();
        assert_ne!(good.training(64.into(), 3, 4, "a").seed, good.training(64.into(), 3, 4, "b").seed);
        for (bad, name) in [
            (TwoSampleConfig { images: 29, ..good.clone() }, "images"),
            (TwoSampleConfig { folds: 1, ..good.clone() }, "folds"),
            (TwoSampleConfig { width: 0.0, ..good.clone() }, "width"),
            (TwoSampleConfig { halvings: 10, ..good.clone() }, "halvings"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("evaluate.two_sample.{name}")), "{error}");
        }
    }
}
