//! The study's pre-activation ResNet (He et al. 2016, "Identity mappings in deep residual networks").

use crate::config::{check_common, check_counts, scaled};
use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, ModuleT, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{batch_norm2d, conv2d, linear, ops};
use cellforge_settings::ImageSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// 1x1 convolution with stride 1.
const POINT: Conv2dConfig = Conv2dConfig::new(1, Padding::NONE);
/// The stem keeps the size of the image.
const STEM: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(2));
/// Keras `l2` of the stem's and the dense layer's weights.
const L2_ENDS: f64 = 5e-4;
/// Keras `l2` of the weights of all other convolutions.
const L2_BLOCKS: f64 = 1e-4;

/// Size and constants of the ResNet. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Height and width of the images, within the rule of [`ImageSize::check`].
    #[schemars(skip)]
    pub image_size: ImageSize,
    /// Channels of an image: 3 (RGB) or 1 (grey).
    #[schemars(skip)]
    pub channels: usize,
    /// Number of classes, at least 2.
    #[schemars(skip)]
    pub classes: usize,
    /// Width: factor on every filter count, which is rounded to a multiple of 4 and never below 8.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Bottleneck blocks in each stage of the ResNet. Stages after the first halve both sides.
    #[schemars(inner(range(min = 1, max = 256)))]
    pub stages: Vec<usize>,
    /// Filters of the ResNet at width 1: the stem's, then each stage's output. One more count than `stages` has.
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub filters: Vec<usize>,
    /// Batch-norm momentum, as in PyTorch: weight of the newest batch (1 minus Keras's).
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub bn_momentum: f64,
    /// Batch-norm epsilon, which is added to the variance.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub bn_eps: f64,
    /// The stem sees every channel twice: as it is, and as the logarithm of the odds of its grey level, which spreads both ends of the range.
    /// Differences among dark or among bright pixels, small beside those between images, are then learned within few updates.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    pub spread_ends: bool,
    /// What convolutions and matrix products multiply.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    #[schemars(skip)]
    pub precision: Precision,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            image_size: ImageSize::square(64),
            channels: 3,
            classes: 2,
            width: 1.0,
            stages: vec![3, 4, 6],
            filters: vec![64, 128, 256, 512],
            bn_momentum: 0.1,
            bn_eps: 2e-5,
            spread_ends: false,
            precision: Precision::F32,
        }
    }
}

/// One bottleneck block: where it sits and how wide it is.
struct BlockPlan {
    c_in: usize,
    c_out: usize,
    stride: usize,
    /// Size of its input.
    size: ImageSize,
    /// Whether its shortcut is a 1x1 convolution; only a stage's first block's is.
    project: bool,
}

impl BlockPlan {
    /// Filters inside the bottleneck.
    fn mid(&self) -> usize {
        self.c_out / 4
    }

    fn conv2(&self) -> Conv2dConfig {
        Conv2dConfig::new(self.stride, Padding::same(self.size.height, self.size.width, 3, self.stride))
    }

    /// Key of the 3x3 convolution. Where it is strided, PyTorch's network has explicit padding as layer 0 of a
    /// sequence, which makes the convolution layer 1.
    fn conv2_name(&self) -> &'static str {
        if self.stride == 1 { "conv2" } else { "conv2.1" }
    }

    fn shortcut(&self) -> Conv2dConfig {
        Conv2dConfig::new(self.stride, Padding::NONE)
    }
}

impl ResNetConfig {
    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        check_common(self.image_size, self.channels, self.classes)?;
        cellforge_settings::check(self, "model").map_err(candle_core::Error::wrap)?;
        check_counts("stages", &self.stages)?;
        check_counts("filters", &self.filters)?;
        if self.filters.len() != self.stages.len() + 1 {
            bail!(
                "filters has {} counts for {} stages: give one for the stem and one for each stage",
                self.filters.len(),
                self.stages.len()
            )
        }
        // Pooling leaves half of each side and each stage after the first halves it again.
        if self.image_size.shorter() >> self.stages.len().min(32) == 0 {
            bail!("stages has {} counts: images of {:#} pixels are too small", self.stages.len(), self.image_size)
        }
        if !(self.bn_momentum > 0.0 && self.bn_momentum <= 1.0) {
            bail!("bn_momentum is {}: it must be above 0 and at most 1", self.bn_momentum)
        }
        if !(self.bn_eps > 0.0 && self.bn_eps < 1.0) {
            bail!("bn_eps is {}: it must be above 0 and below 1", self.bn_eps)
        }
        Ok(())
    }

    /// The layers of a valid configuration, as [`ResNet::new`] builds them. Multiply-adds are those of convolutions
    /// and dense layers.
    pub fn summary(&self) -> ModelSummary {
        let mut table = Table::new("resnet", &[self.channels, self.image_size.height, self.image_size.width]);
        if self.spread_ends {
            table.reshape(
                "spread",
                "Concatenate log-odds",
                vec![self.stem_channels(), self.image_size.height, self.image_size.width],
            );
        }
        table.batch_norm("bn0");
        table.conv("stem", self.stem_filters(), 5, false, STEM);
        table.batch_norm("bn1");
        table.keep("relu", "Activation relu");
        let (c, h, w) = table.image();
        table.reshape("pool.0", "ZeroPadding2D", vec![c, h + 2, w + 2]);
        table.reshape("pool.1", "MaxPooling2D 3x3/2", vec![c, h / 2, w / 2]);
        for (i, block) in self.plan().iter().enumerate() {
            let name = |layer: &str| format!("blocks.{i}.{layer}");
            let input = table.image();
            table.batch_norm(&name("bn1"));
            table.keep(&name("relu1"), "Activation relu");
            table.conv(&name("conv1"), block.mid(), 1, false, POINT);
            table.batch_norm(&name("bn2"));
            table.keep(&name("relu2"), "Activation relu");
            table.conv(&name(block.conv2_name()), block.mid(), 3, false, block.conv2());
            table.batch_norm(&name("bn3"));
            table.keep(&name("relu3"), "Activation relu");
            table.conv(&name("conv3"), block.c_out, 1, false, POINT);
            if block.project {
                table.branch(&name("shortcut"), input, block.c_out, block.shortcut());
            }
            table.keep(&name("add"), "Add");
        }
        table.batch_norm("bn2");
        table.keep("relu_last", "Activation relu");
        let (c, h, w) = table.image();
        table.reshape("average", &format!("AveragePooling2D {h}x{w}"), vec![c, 1, 1]);
        table.flatten("flatten");
        table.dense("fc", self.classes);
        table.finish()
    }

    /// Keras's `l2(r)` of every weight that has one: `r` is 5e-4 for the stem and the dense layer and 1e-4 for the
    /// convolutions of the blocks. Keras applies these to kernels alone, so batch norm and biases have none.
    pub fn keras_l2(&self) -> BTreeMap<String, f64> {
        let mut l2 = BTreeMap::from([("stem.weight".to_string(), L2_ENDS), ("fc.weight".to_string(), L2_ENDS)]);
        for (i, block) in self.plan().iter().enumerate() {
            let shortcut = block.project.then_some("shortcut");
            for layer in ["conv1", block.conv2_name(), "conv3"].into_iter().chain(shortcut) {
                l2.insert(format!("blocks.{i}.{layer}.weight"), L2_BLOCKS);
            }
        }
        l2
    }

    /// Length of the features that the dense layer judges by.
    pub fn feature_len(&self) -> usize {
        self.filters.last().map_or(0, |&n| self.scaled(n))
    }

    /// Channels that the stem sees.
    fn stem_channels(&self) -> usize {
        if self.spread_ends { 2 * self.channels } else { self.channels }
    }

    fn stem_filters(&self) -> usize {
        self.filters.first().map_or(0, |&n| self.scaled(n))
    }

    fn scaled(&self, filters: usize) -> usize {
        scaled(filters, self.width, 4)
    }

    fn plan(&self) -> Vec<BlockPlan> {
        let ImageSize { height, width } = self.image_size;
        let (mut c_in, mut size) = (self.stem_filters(), ImageSize::new(height / 2, width / 2));
        let mut blocks = Vec::new();
        for (stage, (&count, &filters)) in self.stages.iter().zip(self.filters.iter().skip(1)).enumerate() {
            let c_out = self.scaled(filters);
            for j in 0..count {
                let stride = if stage > 0 && j == 0 { 2 } else { 1 };
                blocks.push(BlockPlan { c_in, c_out, stride, size, project: j == 0 });
                size = ImageSize::new(size.height.div_ceil(stride), size.width.div_ceil(stride));
                c_in = c_out;
            }
        }
        blocks
    }
}

/// Batch norm, 5x5 stem, max pooling, stages of bottleneck blocks, average pooling, one dense layer.
///
/// Checkpoint keys: `bn0`, `stem`, `bn1`, `blocks.{i}` (see [`Bottleneck`]), `bn2`, `fc`. Convolutions have no bias.
#[derive(Debug, Clone)]
pub struct ResNet {
    spread_ends: bool,
    bn0: BatchNorm2d,
    stem: Conv2d,
    bn1: BatchNorm2d,
    blocks: Vec<Bottleneck>,
    bn2: BatchNorm2d,
    fc: Linear,
    precision: Precision,
}

impl ResNet {
    /// Builds the network in `vb`; weights start Glorot uniform, the bias at zero.
    pub fn new(cfg: &ResNetConfig, vb: VarBuilder) -> Result<Self> {
        cfg.validate()?;
        let bn_cfg = BatchNormConfig { eps: cfg.bn_eps, momentum: cfg.bn_momentum };
        let blocks = vb.pp("blocks");
        Ok(Self {
            spread_ends: cfg.spread_ends,
            bn0: batch_norm2d(cfg.stem_channels(), bn_cfg, vb.pp("bn0"))?,
            stem: conv2d(
                cfg.stem_channels(),
                cfg.stem_filters(),
                5,
                false,
                STEM.in_precision(cfg.precision),
                vb.pp("stem"),
            )?,
            bn1: batch_norm2d(cfg.stem_filters(), bn_cfg, vb.pp("bn1"))?,
            blocks: (cfg.plan().iter().enumerate())
                .map(|(i, plan)| Bottleneck::new(plan, bn_cfg, cfg.precision, blocks.pp(i)))
                .collect::<Result<_>>()?,
            bn2: batch_norm2d(cfg.feature_len(), bn_cfg, vb.pp("bn2"))?,
            fc: linear(cfg.feature_len(), cfg.classes, vb.pp("fc"))?.in_precision(cfg.precision),
            precision: cfg.precision,
        })
    }

    /// Images `(b, channels, height, width)` to logits `(b, classes)`. With `train`, batch norm uses the statistics of
    /// this batch and moves its running ones towards them.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.logits(&self.pooled(xs, train)?)
    }

    /// The averaged last feature map `(b, filters)` to logits `(b, classes)`.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        self.fc.forward(features)
    }

    /// Images `(b, channels, height, width)` to the averaged last feature map `(b, filters)`, in inference mode.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        self.pooled(xs, false)
    }

    fn pooled(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let spread = if self.spread_ends { Some(Tensor::cat(&[xs, &log_odds(xs)?], 1)?) } else { None };
        let xs = spread.as_ref().unwrap_or(xs);
        // Images are normalised before they are rounded: beside their spread a grey level is a larger number.
        let xs = ops::to_precision(&self.bn0.forward_t(xs, train)?, self.precision)?;
        let ys = self.stem.forward(&xs)?; // (b, c, s, s)
        let ys = self.bn1.forward_relu_t(&ys, train)?;
        // The study pads with zeros and pools without padding. After a ReLU that is the same as padding whose values
        // never win, in the output and, because ReLU's gradient at 0 is 0, in the gradient.
        let mut ys = ops::max_pool2d(&ys, 3, 2, 1)?; // (b, c, s/2, s/2)
        for block in &self.blocks {
            ys = block.forward_t(&ys, train)?;
        }
        ops::avg_pool2d_global(&self.bn2.forward_relu_t(&ys, train)?) // (b, c)
    }
}

/// The logarithm of the odds of grey levels in [0, 1], one level of 255 away from either end, scaled to [-1, 1].
fn log_odds(xs: &Tensor) -> Result<Tensor> {
    let level = 1.0 / 255.0;
    let odds = ((xs + level)? / ((1.0 + level) - xs)?)?;
    odds.log()? / f64::ln((1.0 + level) / level)
}

/// Pre-activation bottleneck block: `(b, c, h, w)` in, `(b, c', h/s, w/s)` out.
///
/// Checkpoint keys: `bn1`, `conv1`, `bn2`, `conv2` (`conv2.1` where the block is strided), `bn3`, `conv3`, and
/// `shortcut` in the first block of a stage.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    bn1: BatchNorm2d,
    conv1: Conv2d,
    bn2: BatchNorm2d,
    conv2: Conv2d,
    bn3: BatchNorm2d,
    conv3: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Bottleneck {
    fn new(plan: &BlockPlan, bn_cfg: BatchNormConfig, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let (c_in, mid, c_out) = (plan.c_in, plan.mid(), plan.c_out);
        let conv = |c_in, c_out, k, cfg: Conv2dConfig, name| {
            conv2d(c_in, c_out, k, false, cfg.in_precision(precision), vb.pp(name))
        };
        let shortcut = plan.project.then(|| conv(c_in, c_out, 1, plan.shortcut(), "shortcut"));
        Ok(Self {
            bn1: batch_norm2d(c_in, bn_cfg, vb.pp("bn1"))?,
            conv1: conv(c_in, mid, 1, POINT, "conv1")?,
            bn2: batch_norm2d(mid, bn_cfg, vb.pp("bn2"))?,
            conv2: conv(mid, mid, 3, plan.conv2(), plan.conv2_name())?,
            bn3: batch_norm2d(mid, bn_cfg, vb.pp("bn3"))?,
            conv3: conv(mid, c_out, 1, POINT, "conv3")?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let act = self.bn1.forward_relu_t(xs, train)?;
        let ys = self.conv1.forward(&act)?; // (b, c'/4, h, w)
        let ys = self.conv2.forward(&self.bn2.forward_relu_t(&ys, train)?)?; // (b, c'/4, h/s, w/s)
        let ys = self.bn3.forward_relu_t(&ys, train)?;
        // (b, c', h/s, w/s)
        match &self.shortcut {
            Some(shortcut) => self.conv3.forward_add(&ys, &shortcut.forward(&act)?),
            None => self.conv3.forward_add(&ys, xs),
        }
    }
}
