//! The settings of the synthetic images and of the figures of the classifiers.

use cellforge_data::{ImageFormat, WriteOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The synthetic images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateStage {
    /// Synthetic images of each class. In a study, 0 makes as many as the class has training images.
    #[schemars(range(max = 1_000_000))]
    pub per_class: usize,
    /// Format of the images: PNG or JPEG files, or one file of NumPy's arrays. A study writes PNG files.
    pub format: ImageFormat,
    /// Prefix of the names of images: a number of six digits follows. A study's images are called `synthetic_`.
    pub prefix: String,
    /// Whether the manifest has the discriminator's score of each image: the higher, the more real the image looks to it.
    pub scores: bool,
    /// Truncated-normal noise: numbers beyond this many standard deviations are redrawn.
    ///
    /// Lower values give more typical and less varied images.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = cellforge_train::LOWEST_TRUNCATION))]
    pub truncation: Option<f64>,
    /// Rejection (Azadi et al. 2019): share of candidates to keep, those that the discriminator scores highest. 1 keeps all.
    #[schemars(range(min = 0.001, max = 1.0))]
    pub keep: f64,
    /// Interpolation: strips of each class in place of images, each a row of images from one to another. 0 makes images.
    ///
    /// A study makes images.
    #[schemars(range(max = 100_000))]
    pub strips: usize,
    /// Images in a strip, ends included.
    #[schemars(range(min = 2, max = 64))]
    pub strip_steps: usize,
    /// Class that strips lead to, for a GAN of several classes. Without it, strips stay in their class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_to: Option<String>,
}

impl Default for GenerateStage {
    fn default() -> Self {
        let WriteOptions { format, prefix, .. } = WriteOptions::default();
        Self {
            per_class: 1_000,
            format,
            prefix,
            scores: false,
            truncation: None,
            keep: 1.0,
            strips: 0,
            strip_steps: 8,
            strip_to: None,
        }
    }
}

/// The figures of the classifiers and their intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeStage {
    /// Bootstrap resamples per interval of the figures of classifiers and panels.
    #[schemars(range(min = 20, max = 100_000))]
    pub resamples: usize,
    /// Confidence level of all intervals.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub level: f64,
}

impl Default for JudgeStage {
    fn default() -> Self {
        Self { resamples: 1_000, level: 0.95 }
    }
}
