//! The inputs of a verb.

use std::path::PathBuf;

use cellforge_data::SplitPart;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Inputs beside the images of `data`. A study finds all of them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// Class to train a GAN on, or to generate. Without it, all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Split of the images: a CSV file of `data split`. Without it, classifiers have one by the settings of `data`, and GANs learn from all images.
    ///
    /// An evaluation takes its training part for the real images, and its test part for the held-out ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<PathBuf>,
    /// Folds: so many splits or trainings, in each of which another part of the images is the test.
    ///
    /// `data split` writes a file for each. `train classifier` trains a network for each, and judges every image by the one that did not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1000))]
    pub folds: Option<usize>,
    /// Part of the split that is classified. Without it, test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<SplitPart>,
    /// Strata: a CSV file with a header, whose first column names images or patients. What is classified gets figures for each value of a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strata: Option<PathBuf>,
    /// Column of the strata, such as `site` or `sex`. Without it, the only one after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strata_column: Option<String>,
    /// Judge: folder of a classifier that judges a GAN as it trains, on the split's validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// Checkpoint: folder of a trained network, a run or a study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Real images, in an evaluation those that the generator learned from: a folder or zip with one folder per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<String>,
    /// Holdout: real images of other patients, which the generator never saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<String>,
    /// Synthetic images: a folder or zip with one folder per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    /// Features to compare images by: `pixels`, `self-supervised`, `resnet:DIR`, `inception:FILE`, `dinov2:FILE` or `safetensors:FILE`. Repeat it for several.
    ///
    /// Tests for leaks rest on the first. Fidelity is measured by all of them.
    pub features: Vec<String>,
    /// Folders of trained GANs, for membership inference by their discriminators.
    pub discriminators: Vec<PathBuf>,
}
