//! The study's generator.

use crate::{GanConfig, ImageSize};
use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{batch_norm2d, conv2d, linear, ops};

/// Every convolution of the generator is 3x3 and keeps the side of its input.
const SAME: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(1));
/// Layers of one upsampling block in the checkpoint's numbering: upsample, convolution, batch norm, ReLU.
const BLOCK: usize = 4;

/// A dense layer reshaped to the first map, then blocks that double its sides until they are the image's.
///
/// Checkpoint keys: `fc`, then for block `i` `body.{4i + 1}` (convolution) and `body.{4i + 2}` (batch norm), and
/// `body.{4n}` for the convolution to the image after `n` blocks.
#[derive(Debug, Clone)]
pub(super) struct StudyGenerator {
    fc: Linear,
    blocks: Vec<UpBlock>,
    to_image: Conv2d,
    seed_filters: usize,
    seed: ImageSize,
    precision: Precision,
}

/// Nearest 2x upsampling, convolution, batch norm, ReLU.
#[derive(Debug, Clone)]
struct UpBlock {
    conv: Conv2d,
    bn: BatchNorm2d,
}

impl UpBlock {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let ys = self.conv.forward_upsampled2x(xs)?; // (b, c', 2h, 2w)
        self.bn.forward_relu_t(&ys, train)
    }
}

impl StudyGenerator {
    /// Builds the network in `vb`; weights start Glorot uniform, biases at zero.
    pub(super) fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let bn_cfg = BatchNormConfig { eps: cfg.bn_eps, momentum: cfg.bn_momentum };
        let same = SAME.in_precision(cfg.precision);
        let body = vb.pp("body");
        let seed_filters = cfg.seed_filters();
        let mut c = seed_filters;
        let mut blocks = Vec::new();
        for (i, filters) in cfg.up_filters().into_iter().enumerate() {
            let conv = conv2d(c, filters, 3, true, same, body.pp(BLOCK * i + 1))?;
            blocks.push(UpBlock { conv, bn: batch_norm2d(filters, bn_cfg, body.pp(BLOCK * i + 2))? });
            c = filters;
        }
        let to_image = conv2d(c, cfg.channels, 3, true, same, body.pp(BLOCK * blocks.len()))?;
        let fc = linear(cfg.latent, seed_filters * cfg.seed().area(), vb.pp("fc"))?.in_precision(cfg.precision);
        Ok(Self { fc, blocks, to_image, seed_filters, seed: cfg.seed(), precision: cfg.precision })
    }

    /// Noise `(b, latent)`, standard normal, to images `(b, channels, height, width)` in `[-1, 1]`. With `train`, batch
    /// norm uses the statistics of this batch and moves its running ones towards them.
    pub(super) fn forward_t(&self, zs: &Tensor, train: bool) -> Result<Tensor> {
        let b = zs.dim(0)?;
        let ImageSize { height, width } = self.seed;
        let xs = ops::relu(&self.fc.forward(zs)?)?; // (b, c * seed)
        let xs = ops::reshape(&xs, &[b, self.seed_filters, height, width])?; // (b, c, seed)
        let mut xs = ops::to_precision(&xs, self.precision)?;
        for block in &self.blocks {
            xs = block.forward_t(&xs, train)?;
        }
        ops::tanh(&ops::to_precision(&self.to_image.forward(&xs)?, Precision::F32)?) // (b, channels, height, width)
    }
}

/// The layers of the generator.
pub(super) fn summary(cfg: &GanConfig) -> ModelSummary {
    let mut table = Table::new("generator", &[cfg.latent]);
    let ImageSize { height, width } = cfg.seed();
    table.dense("fc", cfg.seed_filters() * height * width);
    table.reshape("reshape", "Reshape", vec![cfg.seed_filters(), height, width]);
    let filters = cfg.up_filters();
    for (i, &n) in filters.iter().enumerate() {
        let (c, h, w) = table.image();
        table.reshape(&format!("body.{}", BLOCK * i), "UpSampling2D 2x2", vec![c, 2 * h, 2 * w]);
        table.conv(&format!("body.{}", BLOCK * i + 1), n, 3, true, SAME);
        table.batch_norm(&format!("body.{}", BLOCK * i + 2));
        table.keep(&format!("body.{}", BLOCK * i + 3), "Activation relu");
    }
    let last = BLOCK * filters.len();
    table.conv(&format!("body.{last}"), cfg.channels, 3, true, SAME);
    table.keep(&format!("body.{}", last + 1), "Activation tanh");
    table.finish()
}
