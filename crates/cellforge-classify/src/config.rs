//! Which classifier, and the checks that all configurations share.

use crate::torchvision::Depth;
use crate::{CnnConfig, ResNetConfig, TorchvisionConfig};
use candle_core::{Result, bail};
use cellforge_nn::Precision;
use cellforge_nn::summary::ModelSummary;
use cellforge_settings::{ImageSize, check_image};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No layer is narrower than this, whatever the width multiplier.
const MIN_FILTERS: usize = 8;

/// Which classifier, and its size. In TOML or JSON the field `kind` is `cnn`, `resnet`, `resnet18` or `resnet50`, beside the fields
/// of that network; those left out are the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ClassifierConfig {
    /// The small CNN.
    Cnn(CnnConfig),
    /// The pre-activation ResNet.
    Resnet(ResNetConfig),
    /// ResNet-18 with torchvision's names, which takes weights that were trained on ImageNet.
    Resnet18(TorchvisionConfig),
    /// ResNet-50 with torchvision's names, likewise.
    Resnet50(TorchvisionConfig),
}

impl Default for ClassifierConfig {
    /// The study's ResNet.
    fn default() -> Self {
        Self::study_resnet()
    }
}

impl ClassifierConfig {
    /// The study's small CNN: 176,290 parameters.
    pub fn study_cnn() -> Self {
        Self::Cnn(CnnConfig::default())
    }

    /// The study's ResNet: 2,164,174 parameters in Keras's count, 2,150,472 of them trainable.
    pub fn study_resnet() -> Self {
        Self::Resnet(ResNetConfig::default())
    }

    /// Height and width of the images.
    pub fn image_size(&self) -> ImageSize {
        match self {
            Self::Cnn(cfg) => cfg.image_size,
            Self::Resnet(cfg) => cfg.image_size,
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.image_size,
        }
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        match self {
            Self::Cnn(cfg) => cfg.channels,
            Self::Resnet(cfg) => cfg.channels,
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.channels,
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Cnn(cfg) => cfg.classes,
            Self::Resnet(cfg) => cfg.classes,
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.classes,
        }
    }

    /// What convolutions and matrix products multiply.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Cnn(cfg) => cfg.precision,
            Self::Resnet(cfg) => cfg.precision,
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.precision,
        }
    }

    /// The same in another precision.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        match &mut self {
            Self::Cnn(cfg) => cfg.precision = precision,
            Self::Resnet(cfg) => cfg.precision = precision,
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.precision = precision,
        }
        self
    }

    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Cnn(cfg) => cfg.validate(),
            Self::Resnet(cfg) => cfg.validate(),
            Self::Resnet18(cfg) | Self::Resnet50(cfg) => cfg.validate(),
        }
    }

    /// The layers of a valid configuration.
    pub fn summary(&self) -> ModelSummary {
        match self {
            Self::Cnn(cfg) => cfg.summary(),
            Self::Resnet(cfg) => cfg.summary(),
            Self::Resnet18(cfg) => cfg.summary(Depth::D18),
            Self::Resnet50(cfg) => cfg.summary(Depth::D50),
        }
    }

    /// Its name, which is its `kind`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cnn(_) => "cnn",
            Self::Resnet(_) => "resnet",
            Self::Resnet18(_) => Depth::D18.name(),
            Self::Resnet50(_) => Depth::D50.name(),
        }
    }

    /// The path of its last layer, which has a row for each class.
    pub fn last_layer(&self) -> String {
        match self {
            Self::Cnn(cfg) => cfg.last_layer(),
            Self::Resnet(_) | Self::Resnet18(_) | Self::Resnet50(_) => "fc".to_owned(),
        }
    }

    /// Keras's `l2(r)` by parameter name, for [`Sgd`](cellforge_nn::Sgd): empty for the networks that have none, and see
    /// [`ResNetConfig::keras_l2`].
    pub fn keras_l2(&self) -> BTreeMap<String, f64> {
        match self {
            Self::Cnn(_) | Self::Resnet18(_) | Self::Resnet50(_) => BTreeMap::new(),
            Self::Resnet(cfg) => cfg.keras_l2(),
        }
    }
}

/// The checks of the fields that every classifier has.
pub(crate) fn check_common(image_size: ImageSize, channels: usize, classes: usize) -> Result<()> {
    check_image(image_size, channels).map_err(candle_core::Error::msg)?;
    if classes < 2 {
        bail!("classes is {classes}: a classifier needs at least 2 to tell apart")
    }
    Ok(())
}

/// Refuses an empty list of counts and a count of 0.
pub(crate) fn check_counts(field: &str, counts: &[usize]) -> Result<()> {
    if counts.is_empty() || counts.contains(&0) {
        bail!("{field} is {counts:?}: give at least one count, each above 0")
    }
    Ok(())
}

/// `count` times `width`, rounded to a multiple of `multiple`, at least 8.
pub(crate) fn scaled(count: usize, width: f64, multiple: usize) -> usize {
    let multiples = (count as f64 * width / multiple as f64).round() as usize;
    (multiples * multiple).max(MIN_FILTERS)
}
