//! The residual networks of torchvision (He et al. 2016, "Deep residual learning for image recognition"), for weights that were trained elsewhere.

use crate::IMAGENET;
use crate::config::check_common;
use candle_core::{Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, Module, ModuleT, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{batch_norm2d, conv2d_with, linear, ops};
use cellforge_settings::ImageSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Torchvision's start of convolutions: normal, by the fan out, for a ReLU (He et al. 2015).
const START: Init =
    Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };

/// 7x7 at stride 2.
const STEM: Conv2dConfig = Conv2dConfig::new(2, Padding::uniform(3));

/// Filters of the stem, and of the 3x3 convolutions of the first stage; each stage after it has twice as many.
const FILTERS: usize = 64;

/// Size of one of torchvision's networks. All else about them is fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TorchvisionConfig {
    /// Size of the images in pixels, one that [`ImageSize::check`] allows.
    #[schemars(skip)]
    pub image_size: ImageSize,
    /// Channels of an image: 3 (RGB) or 1 (grey), which the network sees three times.
    #[schemars(skip)]
    pub channels: usize,
    /// Number of classes, at least 2.
    #[schemars(skip)]
    pub classes: usize,
    /// What convolutions and matrix products multiply.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    #[schemars(skip)]
    pub precision: Precision,
}

impl Default for TorchvisionConfig {
    fn default() -> Self {
        Self { image_size: ImageSize::square(64), channels: 3, classes: 2, precision: Precision::F32 }
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Two 3x3 convolutions a block, two blocks a stage.
    D18,
    /// Bottlenecks of 1x1, 3x3 and 1x1 with four times the filters at their end; 3, 4, 6 and 3 of them.
    D50,
}

impl Depth {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::D18 => "resnet18",
            Self::D50 => "resnet50",
        }
    }

    fn blocks(self) -> [usize; 4] {
        match self {
            Self::D18 => [2, 2, 2, 2],
            Self::D50 => [3, 4, 6, 3],
        }
    }

    /// Channels of a block's output for each of its filters.
    fn expansion(self) -> usize {
        match self {
            Self::D18 => 1,
            Self::D50 => 4,
        }
    }

    /// The blocks, with the name of each.
    fn plan(self) -> Vec<(String, BlockPlan)> {
        let mut c_in = FILTERS;
        let mut plan = Vec::new();
        for (stage, count) in self.blocks().into_iter().enumerate() {
            let filters = FILTERS << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let c_out = filters * self.expansion();
                let project = stride != 1 || c_in != c_out;
                plan.push((
                    format!("layer{}.{block}", stage + 1),
                    BlockPlan { depth: self, c_in, filters, stride, project },
                ));
                c_in = c_out;
            }
        }
        plan
    }
}

/// One block: how wide it is, and whether its shortcut is a convolution.
#[derive(Debug, Clone, Copy)]
struct BlockPlan {
    depth: Depth,
    c_in: usize,
    filters: usize,
    stride: usize,
    project: bool,
}

impl BlockPlan {
    fn c_out(&self) -> usize {
        self.filters * self.depth.expansion()
    }

    /// Kernel, stride and output channels of each convolution. A bottleneck is strided in its 3x3 (torchvision's, "ResNet v1.5").
    fn convs(&self) -> Vec<(usize, usize, usize)> {
        let Self { filters, stride, .. } = *self;
        match self.depth {
            Depth::D18 => vec![(3, stride, filters), (3, 1, filters)],
            Depth::D50 => vec![(1, 1, filters), (3, stride, filters), (1, 1, self.c_out())],
        }
    }
}

/// A `k` by `k` convolution that keeps the size at stride 1.
fn square(k: usize, stride: usize) -> Conv2dConfig {
    Conv2dConfig::new(stride, Padding::uniform(k / 2))
}

impl TorchvisionConfig {
    /// Refuses values that no network can be built from; the message names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        check_common(self.image_size, self.channels, self.classes)
    }

    pub(crate) fn summary(&self, depth: Depth) -> ModelSummary {
        let mut table = Table::new(depth.name(), &[self.channels, self.image_size.height, self.image_size.width]);
        table.reshape(
            "normalise",
            "Normalisation as for ImageNet",
            vec![3, self.image_size.height, self.image_size.width],
        );
        table.conv("conv1", FILTERS, 7, false, STEM);
        table.batch_norm("bn1");
        table.keep("relu", "Activation relu");
        let (c, h, w) = table.image();
        let halved = |n: usize| (n + 2 - 3) / 2 + 1;
        table.reshape("maxpool", "MaxPooling2D 3x3/2", vec![c, halved(h), halved(w)]);
        for (name, block) in depth.plan() {
            let input = table.image();
            let convs = block.convs();
            for (i, (k, stride, c_out)) in convs.iter().enumerate() {
                table.conv(&format!("{name}.conv{}", i + 1), *c_out, *k, false, square(*k, *stride));
                table.batch_norm(&format!("{name}.bn{}", i + 1));
                if i + 1 < convs.len() {
                    table.keep(&format!("{name}.relu{}", i + 1), "Activation relu");
                }
            }
            if block.project {
                table.branch(&format!("{name}.downsample.0"), input, block.c_out(), square(1, block.stride));
                table.batch_norm(&format!("{name}.downsample.1"));
            }
            table.keep(&format!("{name}.add"), "Add");
            table.keep(&format!("{name}.relu"), "Activation relu");
        }
        let (c, h, w) = table.image();
        table.reshape("avgpool", &format!("AveragePooling2D {h}x{w}"), vec![c, 1, 1]);
        table.flatten("flatten");
        table.dense("fc", self.classes);
        table.finish()
    }
}

/// Normalisation by ImageNet's means, 7x7 stem, max pooling, four stages of blocks, average pooling, one dense layer.
///
/// Checkpoint keys are torchvision's: `conv1`, `bn1`, `layer1.0.conv1` and so on, with `downsample.0` and `downsample.1` where a shortcut is a
/// convolution, and `fc`.
#[derive(Debug, Clone)]
pub struct TorchvisionResNet {
    /// ImageNet's means and standard deviations, `(1, 3, 1, 1)`.
    imagenet: [Tensor; 2],
    conv1: Conv2d,
    bn1: BatchNorm2d,
    blocks: Vec<Block>,
    fc: Linear,
    precision: Precision,
}

impl TorchvisionResNet {
    pub(crate) fn new(cfg: &TorchvisionConfig, depth: Depth, vb: VarBuilder) -> Result<Self> {
        cfg.validate()?;
        let [mean, sd] = IMAGENET.map(|row| Tensor::new(&row, vb.device())?.reshape((1, 3, 1, 1)));
        let plan = depth.plan();
        let features = plan.last().map_or(FILTERS, |(_, block)| block.c_out());
        let stem = STEM.in_precision(cfg.precision);
        Ok(Self {
            imagenet: [mean?, sd?],
            conv1: conv2d_with(START, (3, FILTERS, 7), false, stem, vb.pp("conv1"))?,
            bn1: batch_norm2d(FILTERS, BatchNormConfig::default(), vb.pp("bn1"))?,
            blocks: (plan.iter())
                .map(|(name, block)| Block::new(block, cfg.precision, vb.pp(name)))
                .collect::<Result<_>>()?,
            fc: linear(features, cfg.classes, vb.pp("fc"))?.in_precision(cfg.precision),
            precision: cfg.precision,
        })
    }

    /// Images `(b, channels, height, width)` in `[0, 1]` to logits `(b, classes)`. With `train`, batch norm uses the statistics of this batch and
    /// moves its running ones towards them.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.logits(&self.pooled(xs, train)?)
    }

    /// The averaged last feature map `(b, 512)` or `(b, 2048)` to logits `(b, classes)`.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        self.fc.forward(features)
    }

    /// Images `(b, channels, height, width)` in `[0, 1]` to the averaged last feature map, in inference mode.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        self.pooled(xs, false)
    }

    fn pooled(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let [mean, sd] = &self.imagenet;
        let xs = if xs.dim(1)? == 1 { Tensor::cat(&[xs, xs, xs], 1)? } else { xs.clone() };
        let xs = ops::to_precision(&xs.broadcast_sub(mean)?.broadcast_div(sd)?, self.precision)?; // (b, 3, h, w)
        let ys = self.bn1.forward_relu_t(&self.conv1.forward(&xs)?, train)?; // (b, 64, h/2, w/2)
        let mut ys = ops::max_pool2d(&ys, 3, 2, 1)?; // (b, 64, h/4, w/4)
        for block in &self.blocks {
            ys = block.forward_t(&ys, train)?;
        }
        ops::avg_pool2d_global(&ys) // (b, c)
    }
}

/// Two or three convolutions, each with batch norm, and a shortcut: `(b, c, h, w)` in, `(b, c', h/s, w/s)` out.
#[derive(Debug, Clone)]
struct Block {
    convs: Vec<(Conv2d, BatchNorm2d)>,
    downsample: Option<(Conv2d, BatchNorm2d)>,
}

impl Block {
    fn new(plan: &BlockPlan, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let norm = |c: usize, vb: VarBuilder| batch_norm2d(c, BatchNormConfig::default(), vb);
        let mut c_in = plan.c_in;
        let mut convs = Vec::new();
        for (i, (k, stride, c_out)) in (1..).zip(plan.convs()) {
            let cfg = square(k, stride).in_precision(precision);
            let conv = conv2d_with(START, (c_in, c_out, k), false, cfg, vb.pp(format!("conv{i}")))?;
            convs.push((conv, norm(c_out, vb.pp(format!("bn{i}")))?));
            c_in = c_out;
        }
        let downsample = || -> Result<_> {
            let (cfg, vb) = (square(1, plan.stride).in_precision(precision), vb.pp("downsample"));
            let conv = conv2d_with(START, (plan.c_in, plan.c_out(), 1), false, cfg, vb.pp("0"))?;
            Ok((conv, norm(plan.c_out(), vb.pp("1"))?))
        };
        Ok(Self { convs, downsample: plan.project.then(downsample).transpose()? })
    }

    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let mut ys = xs.clone();
        for (i, (conv, bn)) in self.convs.iter().enumerate() {
            ys = conv.forward(&ys)?;
            ys = if i + 1 < self.convs.len() { bn.forward_relu_t(&ys, train)? } else { bn.forward_t(&ys, train)? };
        }
        let shortcut = match &self.downsample {
            Some((conv, bn)) => bn.forward_t(&conv.forward(xs)?, train)?,
            None => xs.clone(),
        };
        ops::relu(&ops::add(&ys, &shortcut)?)
    }
}
