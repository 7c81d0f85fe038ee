//! A residual generator.

use crate::{GanConfig, ImageSize};
use candle_core::{DType, Error, Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{batch_norm2d, conv2d, embedding, linear, ops};

const SAME: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(1));
const POINT: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(0));

/// A dense layer reshaped to the first map, then residual blocks that double the side: batch norm, ReLU, upsampling and convolution, batch norm,
/// ReLU, convolution, beside a 1x1 convolution that is upsampled (Miyato and Koyama 2018; Brock et al. 2019).
#[derive(Debug, Clone)]
pub(super) struct ResidualGenerator {
    fc: Linear,
    blocks: Vec<Block>,
    bn: BatchNorm2d,
    to_image: Conv2d,
    seed_filters: usize,
    seed: ImageSize,
    precision: Precision,
}

#[derive(Debug, Clone)]
struct Block {
    bn1: ClassNorm,
    conv1: Conv2d,
    bn2: ClassNorm,
    conv2: Conv2d,
    skip: Conv2d,
}

impl Block {
    fn forward_t(&self, xs: &Tensor, classes: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let ys = self.conv1.forward_upsampled2x(&self.bn1.forward_relu_t(xs, classes, train)?)?;
        let ys = self.bn2.forward_relu_t(&ys, classes, train)?;
        // A 1x1 convolution and upsampling change places without changing anything but the work.
        let skip = ops::upsample_nearest2x(&self.skip.forward(xs)?)?;
        self.conv2.forward_add(&ys, &skip) // (b, c', 2h, 2w)
    }
}

/// Batch norm, then a scale and a shift that each class adds to.
#[derive(Debug, Clone)]
struct ClassNorm {
    bn: BatchNorm2d,
    class: Option<(Linear, Linear)>,
}

impl ClassNorm {
    fn new(c: usize, cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let bn = batch_norm2d(c, bn_config(cfg), vb.clone())?;
        let rows =
            |name: &str| Ok::<_, Error>(embedding(cfg.classes, c, 0.0, vb.pp(name))?.in_precision(cfg.precision));
        let class = if cfg.classes > 1 { Some((rows("scale")?, rows("shift")?)) } else { None };
        Ok(Self { bn, class })
    }

    fn forward_relu_t(&self, xs: &Tensor, classes: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let (Some((scale, shift)), Some(classes)) = (&self.class, classes) else {
            return self.bn.forward_relu_t(xs, train);
        };
        let more = scale.forward(classes)?; // (b, c)
        let ones = Tensor::ones(more.shape(), DType::F32, more.device())?;
        ops::modulate(&self.bn.forward_t(xs, train)?, &ops::add(&more, &ones)?, &shift.forward(classes)?, 0.)
    }
}

fn bn_config(cfg: &GanConfig) -> BatchNormConfig {
    BatchNormConfig { eps: cfg.bn_eps, momentum: cfg.bn_momentum }
}

impl ResidualGenerator {
    pub(super) fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let (same, point) = (SAME.in_precision(cfg.precision), POINT.in_precision(cfg.precision));
        let seed_filters = cfg.seed_filters();
        let mut c = seed_filters;
        let mut blocks = Vec::new();
        for (i, filters) in cfg.up_filters().into_iter().enumerate() {
            let vb = vb.pp("blocks").pp(i);
            blocks.push(Block {
                bn1: ClassNorm::new(c, cfg, vb.pp("bn1"))?,
                conv1: conv2d(c, filters, 3, true, same, vb.pp("conv1"))?,
                bn2: ClassNorm::new(filters, cfg, vb.pp("bn2"))?,
                conv2: conv2d(filters, filters, 3, true, same, vb.pp("conv2"))?,
                skip: conv2d(c, filters, 1, false, point, vb.pp("skip"))?,
            });
            c = filters;
        }
        Ok(Self {
            fc: linear(cfg.latent, seed_filters * cfg.seed().area(), vb.pp("fc"))?.in_precision(cfg.precision),
            blocks,
            bn: batch_norm2d(c, bn_config(cfg), vb.pp("bn"))?,
            to_image: conv2d(c, cfg.channels, 3, true, same, vb.pp("to_image"))?,
            seed_filters,
            seed: cfg.seed(),
            precision: cfg.precision,
        })
    }

    pub(super) fn forward_t(&self, zs: &Tensor, classes: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let xs = self.fc.forward(zs)?;
        let ImageSize { height, width } = self.seed;
        let xs = ops::reshape(&xs, &[zs.dim(0)?, self.seed_filters, height, width])?; // (b, c, seed)
        let mut xs = ops::to_precision(&xs, self.precision)?;
        for block in &self.blocks {
            xs = block.forward_t(&xs, classes, train)?;
        }
        let image = self.to_image.forward(&self.bn.forward_relu_t(&xs, train)?)?;
        ops::tanh(&ops::to_precision(&image, Precision::F32)?) // (b, channels, height, width)
    }
}

/// The layers of the generator.
pub(super) fn summary(cfg: &GanConfig) -> ModelSummary {
    let mut table = Table::new("generator", &[cfg.latent]);
    let ImageSize { height, width } = cfg.seed();
    table.dense("fc", cfg.seed_filters() * height * width);
    table.reshape("reshape", "Reshape", vec![cfg.seed_filters(), height, width]);
    let norm = |table: &mut Table, name: &str| {
        let (c, ..) = table.image();
        table.batch_norm(name);
        if cfg.classes > 1 {
            for part in ["scale", "shift"] {
                table.beside(&format!("{name}.{part}"), "Embedding", &[c], cfg.classes * c, 0);
            }
        }
        table.keep(&format!("{name}.0"), "Activation relu");
    };
    for (i, filters) in cfg.up_filters().into_iter().enumerate() {
        let (c, h, w) = table.image();
        let name = |part: &str| format!("blocks.{i}.{part}");
        table.beside(&name("skip"), "Conv2D 1x1", &[filters, h, w], c * filters, c * filters * h * w);
        norm(&mut table, &name("bn1"));
        table.reshape(&name("up"), "UpSampling2D 2x2", vec![c, 2 * h, 2 * w]);
        table.conv(&name("conv1"), filters, 3, true, SAME);
        norm(&mut table, &name("bn2"));
        table.conv(&name("conv2"), filters, 3, true, SAME);
        table.keep(&name("add"), "Add");
    }
    table.batch_norm("bn");
    table.keep("bn.0", "Activation relu");
    table.conv("to_image", cfg.channels, 3, true, SAME);
    table.keep("tanh", "Activation tanh");
    table.finish()
}
