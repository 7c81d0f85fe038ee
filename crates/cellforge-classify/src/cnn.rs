//! The study's small convolutional network.

use crate::config::{check_common, check_counts, scaled};
use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{conv2d, linear, ops};
use cellforge_settings::ImageSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Convolutions take only whole 3x3 windows, so each shortens both sides by 2.
const VALID: Conv2dConfig = Conv2dConfig::new(1, Padding::NONE);
/// Layers of one block in the checkpoint's numbering: convolution, ReLU, max pooling.
const BLOCK: usize = 3;

/// Size of the small CNN. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {
    /// Height and width of the images, within the rule of [`ImageSize::check`].
    #[schemars(skip)]
    pub image_size: ImageSize,
    /// Channels of an image: 3 (RGB) or 1 (grey).
    #[schemars(skip)]
    pub channels: usize,
    /// Number of classes, at least 2.
    #[schemars(skip)]
    pub classes: usize,
    /// Width: factor on every filter count, never below 8 filters. 1 is the study's network.
    ///
    /// In the small CNN it is a factor on `dense`, too. In the ResNet counts are rounded to a multiple of 4.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Filters at width 1: of each convolution (small CNN), or of the stem and of each stage (ResNet).
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub filters: Vec<usize>,
    /// Units of the small CNN's hidden dense layer at width 1.
    #[schemars(range(min = 1, max = 4096))]
    pub dense: usize,
    /// What convolutions and matrix products multiply.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    #[schemars(skip)]
    pub precision: Precision,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self {
            image_size: ImageSize::square(64),
            channels: 3,
            classes: 2,
            width: 1.0,
            filters: vec![32, 32, 64],
            dense: 64,
            precision: Precision::F32,
        }
    }
}

impl CnnConfig {
    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        check_common(self.image_size, self.channels, self.classes)?;
        cellforge_settings::check(self, "model").map_err(candle_core::Error::wrap)?;
        check_counts("filters", &self.filters)?;
        check_counts("dense", &[self.dense])?;
        if self.final_size().area() == 0 {
            bail!(
                "filters has {} counts: images of {:#} pixels are used up before the last of them",
                self.filters.len(),
                self.image_size
            )
        }
        Ok(())
    }

    /// The layers of a valid configuration, as [`SmallCnn::new`] builds them. The hidden dense layer's ReLU is part of
    /// its row, as in the study's table, and multiply-adds are those of convolutions and dense layers.
    pub fn summary(&self) -> ModelSummary {
        let mut table = Table::new("cnn", &[self.channels, self.image_size.height, self.image_size.width]);
        for (i, filters) in self.scaled_filters().into_iter().enumerate() {
            table.conv(&(BLOCK * i).to_string(), filters, 3, true, VALID);
            table.keep(&(BLOCK * i + 1).to_string(), "Activation relu");
            let (c, h, w) = table.image();
            table.reshape(&(BLOCK * i + 2).to_string(), "MaxPooling2D 2x2", vec![c, h / 2, w / 2]);
        }
        let flatten = BLOCK * self.filters.len();
        table.flatten(&flatten.to_string());
        table.dense(&(flatten + 1).to_string(), self.hidden());
        table.dense(&(flatten + 3).to_string(), self.classes);
        table.finish()
    }

    /// The path of the last layer.
    pub(crate) fn last_layer(&self) -> String {
        (BLOCK * self.filters.len() + 3).to_string()
    }

    fn scaled_filters(&self) -> Vec<usize> {
        self.filters.iter().map(|&n| scaled(n, self.width, 1)).collect()
    }

    fn hidden(&self) -> usize {
        scaled(self.dense, self.width, 1)
    }

    /// Size of what is flattened, with a side of 0 where the image is too small for so many layers.
    fn final_size(&self) -> ImageSize {
        let left = |side: usize| self.filters.iter().fold(side, |side, _| side.saturating_sub(2) / 2);
        ImageSize::new(left(self.image_size.height), left(self.image_size.width))
    }
}

/// Valid 3x3 convolutions, each with ReLU and 2x2 max pooling, then two dense layers.
///
/// Checkpoint keys are the layers' numbers: convolution `i` is `{3i}`, and after `n` of them the dense layers are
/// `{3n + 1}` and `{3n + 3}`.
#[derive(Debug, Clone)]
pub struct SmallCnn {
    convs: Vec<Conv2d>,
    hidden: Linear,
    out: Linear,
    precision: Precision,
}

impl SmallCnn {
    /// Builds the network in `vb`; weights start Glorot uniform, biases at zero.
    pub fn new(cfg: &CnnConfig, vb: VarBuilder) -> Result<Self> {
        cfg.validate()?;
        let mut c = cfg.channels;
        let mut convs = Vec::new();
        for (i, filters) in cfg.scaled_filters().into_iter().enumerate() {
            convs.push(conv2d(c, filters, 3, true, VALID.in_precision(cfg.precision), vb.pp(BLOCK * i))?);
            c = filters;
        }
        let (size, flatten) = (cfg.final_size(), BLOCK * convs.len());
        let hidden = linear(c * size.area(), cfg.hidden(), vb.pp(flatten + 1))?.in_precision(cfg.precision);
        let out = linear(cfg.hidden(), cfg.classes, vb.pp(flatten + 3))?.in_precision(cfg.precision);
        Ok(Self { convs, hidden, out, precision: cfg.precision })
    }

    /// Images `(b, channels, height, width)` to logits `(b, classes)`. No layer depends on the mode.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.logits(&self.features(xs)?)
    }

    /// The hidden layer's output `(b, dense)` to logits `(b, classes)`.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        self.out.forward(features)
    }

    /// Images `(b, channels, height, width)` to the hidden layer's output `(b, dense)`.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = ops::to_precision(xs, self.precision)?;
        for conv in &self.convs {
            // (b, filters, h - 2, w - 2), then half of that, rounded down. ReLU comes first in the study, but the largest of a
            // window is the same before and after it, and so is the gradient: this way there are four times fewer to go over.
            xs = ops::relu(&ops::max_pool2d(&conv.forward(&xs)?, 2, 2, 0)?)?;
        }
        let features = xs.elem_count() / xs.dim(0)?;
        let flat = ops::to_precision(&ops::reshape(&xs, &[xs.dim(0)?, features])?, Precision::F32)?;
        ops::relu(&self.hidden.forward(&flat)?) // (b, dense)
    }
}
