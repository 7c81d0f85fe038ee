//! What a verb is pointed at.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a verb is pointed at beside the images of `data`. A study finds all of it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// The one class that a GAN is trained on, or that is generated. Otherwise all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// A split of the images, as `data split` leaves it, in place of one made by the settings of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<PathBuf>,
    /// The folder of a classifier that judges a GAN on the split's validation images as it trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// The folder of a trained network, or of several: a run, a checkpoint, or a study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// The real images that a generator learned from: a folder or zip with one folder per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<String>,
    /// Real images of other patients, which no generator saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<String>,
    /// The synthetic images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    /// What images are compared by: `resnet:DIR`, `pixels`, `inception:FILE`, or `safetensors:FILE`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// Folders of trained GANs, for the test of membership by their discriminators.
    pub discriminators: Vec<PathBuf>,
}
