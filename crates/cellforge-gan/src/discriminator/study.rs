//! The study's discriminator.

use crate::config::STRIDED;
use crate::{GanConfig, ImageSize};
use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Dropout, Key, Linear, Padding, Precision};
use cellforge_nn::{batch_norm2d, conv2d, linear, ops};

/// 3x3 convolutions with leaky ReLU and dropout, then one dense layer on everything that is left.
///
/// The first three halve the sides with Keras's 'same' padding, all but the first have batch norm, and a row and a
/// column of zeros are added at the bottom and the right of the second's output. Checkpoint keys are
/// `body.{index}.conv` for convolutions and `body.{index}` for batch norm and the dense layer, where the index counts
/// every layer: convolution, zero padding (after the second), batch norm (after all but the first), leaky ReLU,
/// dropout; and flatten before the dense layer.
#[derive(Debug, Clone)]
pub(super) struct StudyDiscriminator {
    blocks: Vec<DownBlock>,
    fc: Linear,
    dropout: Dropout,
    negative_slope: f32,
    precision: Precision,
}

/// Convolution, zero padding where the study has it, batch norm where the study has it.
#[derive(Debug, Clone)]
struct DownBlock {
    conv: Conv2d,
    extend: bool,
    bn: Option<BatchNorm2d>,
}

/// What one block is made of, and the numbers of its layers in the checkpoint.
struct BlockPlan {
    filters: usize,
    conv: usize,
    cfg: Conv2dConfig,
    extend: Option<usize>,
    bn: Option<usize>,
    act: usize,
    dropout: usize,
}

/// The blocks, the number of the flatten layer after them, and the size of what it flattens.
fn plan(cfg: &GanConfig) -> (Vec<BlockPlan>, usize, ImageSize) {
    let (mut next, ImageSize { mut height, mut width }) = (0, cfg.image_size);
    let mut number = || {
        next += 1;
        next - 1
    };
    let mut blocks = Vec::new();
    for (i, filters) in cfg.down_filters().into_iter().enumerate() {
        let stride = if i < STRIDED { 2 } else { 1 };
        let block = BlockPlan {
            filters,
            conv: number(),
            cfg: Conv2dConfig::new(stride, Padding::same(height, width, 3, stride)),
            extend: (i == 1).then(&mut number),
            bn: (i > 0).then(&mut number),
            act: number(),
            dropout: number(),
        };
        let extended = usize::from(block.extend.is_some());
        (height, width) = (height.div_ceil(stride) + extended, width.div_ceil(stride) + extended);
        blocks.push(block);
    }
    (blocks, number(), ImageSize::new(height, width))
}

impl StudyDiscriminator {
    /// Builds the network in `vb`; weights start Glorot uniform, biases at zero.
    pub(super) fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let bn_cfg = BatchNormConfig { eps: cfg.bn_eps, momentum: cfg.bn_momentum };
        let body = vb.pp("body");
        let (plans, flatten, size) = plan(cfg);
        let mut c = cfg.channels;
        let mut blocks = Vec::new();
        for plan in plans {
            let conv =
                conv2d(c, plan.filters, 3, true, plan.cfg.in_precision(cfg.precision), body.pp(plan.conv).pp("conv"))?;
            let bn = plan.bn.map(|number| batch_norm2d(plan.filters, bn_cfg, body.pp(number))).transpose()?;
            blocks.push(DownBlock { conv, extend: plan.extend.is_some(), bn });
            c = plan.filters;
        }
        let fc = linear(c * size.area(), 1, body.pp(flatten + 1))?.in_precision(cfg.precision);
        Ok(Self {
            blocks,
            fc,
            dropout: Dropout::new(cfg.dropout),
            negative_slope: cfg.negative_slope as f32,
            precision: cfg.precision,
        })
    }

    /// Images `(b, channels, height, width)` in `[-1, 1]` to logits `(b, 1)`: above zero means judged real. With `train`,
    /// batch norm uses and records the statistics of this batch, and dropout draws its masks from `key` (a key per
    /// step); without it the key is not used.
    pub(super) fn forward_t(&self, xs: &Tensor, train: bool, key: &Key) -> Result<Tensor> {
        let mut xs = ops::to_precision(xs, self.precision)?;
        for (i, block) in self.blocks.iter().enumerate() {
            xs = block.conv.forward(&xs)?; // (b, filters, ceil(h / stride), ceil(w / stride))
            if block.extend {
                xs = ops::pad_bottom_right(&xs, 1)?; // (b, filters, h + 1, w + 1)
            }
            let (dropout, key) = (&self.dropout, key.at(i as u64));
            xs = match &block.bn {
                Some(bn) => bn.forward_leaky_relu_dropout_t(&xs, self.negative_slope, dropout, train, &key)?,
                None => dropout.forward_after_leaky_relu_t(&xs, self.negative_slope, train, &key)?,
            };
        }
        let features = xs.elem_count() / xs.dim(0)?;
        let flat = ops::reshape(&xs, &[xs.dim(0)?, features])?;
        self.fc.forward(&ops::to_precision(&flat, Precision::F32)?) // (b, 1)
    }
}

/// See [`GanConfig::discriminator_layers`].
pub(super) fn layers(cfg: &GanConfig) -> Vec<Vec<String>> {
    let numbers = |block: &BlockPlan| [Some(block.conv), block.bn].into_iter().flatten().map(|n| format!("body.{n}"));
    plan(cfg).0.iter().map(|block| numbers(block).collect()).collect()
}

/// The layers of the discriminator.
pub(super) fn summary(cfg: &GanConfig) -> ModelSummary {
    let mut table = Table::new("discriminator", &[cfg.channels, cfg.image_size.height, cfg.image_size.width]);
    let (blocks, flatten, _) = plan(cfg);
    for block in blocks {
        table.conv(&format!("body.{}", block.conv), block.filters, 3, true, block.cfg);
        if let Some(number) = block.extend {
            let (c, h, w) = table.image();
            table.reshape(&format!("body.{number}"), "ZeroPadding2D", vec![c, h + 1, w + 1]);
        }
        if let Some(number) = block.bn {
            table.batch_norm(&format!("body.{number}"));
        }
        table.keep(&format!("body.{}", block.act), "LeakyReLU");
        table.keep(&format!("body.{}", block.dropout), "Dropout");
    }
    table.flatten(&format!("body.{flatten}"));
    table.dense(&format!("body.{}", flatten + 1), 1);
    table.finish()
}
