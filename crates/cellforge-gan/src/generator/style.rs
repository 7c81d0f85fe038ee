//! A small generator after StyleGAN2.

use crate::{GanConfig, ImageSize};
use candle_core::{DType, Error, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{Conv2d, Conv2dConfig, Linear, Padding, Precision};
use cellforge_nn::{conv2d_with, embedding, he_normal, linear_with, ops};

const SAME: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(1));
/// Length of the style vector.
const STYLE: usize = 128;
/// Slope of the leaky ReLUs below zero.
const NEGATIVE_SLOPE: f32 = 0.2;

/// A mapping network makes a style of noise and class; the first map is a linear function of it; at each size two
/// convolutions, of which the first doubles the side, have their inputs scaled by the style and their outputs scaled back to unit
/// variance. The image is a convolution of the last map.
///
/// Left out of StyleGAN2: noise at each pixel, blurred resampling, images at every size, mixing of styles.
#[derive(Debug, Clone)]
pub(super) struct StyleGenerator {
    noise: Linear,
    class: Option<Linear>,
    mapping: Linear,
    start: Linear,
    seed: ImageSize,
    /// In place of a shift of the first map.
    start_zeros: Tensor,
    layers: Vec<StyledConv>,
    image_style: Linear,
    to_image: Conv2d,
    precision: Precision,
}

#[derive(Debug, Clone)]
struct StyledConv {
    conv: Conv2d,
    style: Linear,
    bias: Tensor,
    up: bool,
}

impl StyledConv {
    fn new((c_in, c_out): (usize, usize), up: bool, precision: Precision, vb: VarBuilder) -> Result<Self> {
        let same = SAME.in_precision(precision);
        Ok(Self {
            conv: conv2d_with(he_normal(c_in * 9, 1.0), (c_in, c_out, 3), false, same, vb.clone())?,
            style: style(c_in, precision, vb.pp("style"))?,
            bias: vb.get_with_hints(c_out, "bias", Init::Const(0.))?,
            up,
        })
    }

    /// Of inputs that are multiplied by `scale` `(b, c)` already, to outputs that are multiplied by `next`, the next layer's.
    fn forward(&self, xs: &Tensor, scale: &Tensor, next: &Tensor) -> Result<Tensor> {
        let ys = if self.up { self.conv.forward_upsampled2x(xs)? } else { self.conv.forward(xs)? };
        // What the leaky ReLU takes of the variance is given back, as in StyleGAN2.
        let back = ops::scale(&ops::demodulation(self.conv.weight(), scale)?, std::f32::consts::SQRT_2)?;
        ops::modulate_twice(&ys, &back, &self.bias, NEGATIVE_SLOPE, next)
    }
}

/// The scale of `c` channels as a function of the style, 1 on average at the start.
fn style(c: usize, precision: Precision, vb: VarBuilder) -> Result<Linear> {
    Ok(linear_with(he_normal(STYLE, 1.0), Some(1.), (STYLE, c), vb)?.in_precision(precision))
}

impl StyleGenerator {
    pub(super) fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let negative_slope = f64::from(NEGATIVE_SLOPE);
        let mapping = vb.pp("mapping");
        let dense = |negative_slope: f64, sizes: (usize, usize), vb: VarBuilder| {
            let layer = linear_with(he_normal(sizes.0, negative_slope), Some(0.), sizes, vb)?;
            Ok::<_, Error>(layer.in_precision(cfg.precision))
        };
        let class = (cfg.classes > 1).then(|| embedding(cfg.classes, STYLE, 1.0, mapping.pp("class"))).transpose()?;
        let class = class.map(|rows| rows.in_precision(cfg.precision));
        let mut c = cfg.seed_filters();
        let start = dense(1.0, (STYLE, c * cfg.seed().area()), vb.pp("start"))?;
        let start_zeros = Tensor::zeros(c, DType::F32, vb.device())?;
        let mut layers = Vec::new();
        for (i, filters) in cfg.up_filters().into_iter().enumerate() {
            let block = vb.pp("blocks").pp(i);
            layers.push(StyledConv::new((c, filters), true, cfg.precision, block.pp("conv1"))?);
            layers.push(StyledConv::new((filters, filters), false, cfg.precision, block.pp("conv2"))?);
            c = filters;
        }
        let image = vb.pp("to_image");
        Ok(Self {
            noise: dense(negative_slope, (cfg.latent, STYLE), mapping.pp("noise"))?,
            class,
            mapping: dense(negative_slope, (STYLE, STYLE), mapping.pp("fc"))?,
            start,
            seed: cfg.seed(),
            start_zeros,
            layers,
            image_style: style(c, cfg.precision, image.pp("style"))?,
            to_image: conv2d_with(
                he_normal(c * 9, 1.0),
                (c, cfg.channels, 3),
                true,
                SAME.in_precision(cfg.precision),
                image,
            )?,
            precision: cfg.precision,
        })
    }

    pub(super) fn forward(&self, zs: &Tensor, classes: Option<&Tensor>) -> Result<Tensor> {
        let mut mapped = self.noise.forward(zs)?;
        if let (Some(class), Some(classes)) = (&self.class, classes) {
            mapped = ops::add(&mapped, &class.forward(classes)?)?;
        }
        let mapped = ops::leaky_relu(&mapped, NEGATIVE_SLOPE)?;
        let style = ops::leaky_relu(&self.mapping.forward(&mapped)?, NEGATIVE_SLOPE)?; // (b, STYLE)
        let start = self.start.forward(&style)?;
        let ImageSize { height, width } = self.seed;
        let channels = start.dim(1)? / self.seed.area();
        let xs = ops::reshape(&start, &[zs.dim(0)?, channels, height, width])?; // (b, c, seed)
        let xs = ops::to_precision(&xs, self.precision)?;
        let styles = self.layers.iter().map(|layer| &layer.style).chain([&self.image_style]);
        let scales = styles.map(|layer| layer.forward(&style)).collect::<Result<Vec<_>>>()?; // (b, c) each
        let mut xs = ops::modulate(&xs, &scales[0], &self.start_zeros, 1.)?;
        for (layer, scales) in self.layers.iter().zip(scales.windows(2)) {
            xs = layer.forward(&xs, &scales[0], &scales[1])?;
        }
        ops::tanh(&ops::to_precision(&self.to_image.forward(&xs)?, Precision::F32)?) // (b, channels, height, width)
    }
}

/// The layers of the generator.
pub(super) fn summary(cfg: &GanConfig) -> ModelSummary {
    let mut table = Table::new("generator", &[cfg.latent]);
    table.dense("mapping.noise", STYLE);
    if cfg.classes > 1 {
        table.beside("mapping.class", "Embedding", &[STYLE], cfg.classes * STYLE, 0);
    }
    table.keep("mapping.0", "LeakyReLU");
    table.dense("mapping.fc", STYLE);
    table.keep("mapping.1", "LeakyReLU");
    let (ImageSize { height, width }, c) = (cfg.seed(), cfg.seed_filters());
    table.dense("start", c * height * width);
    table.reshape("reshape", "Reshape", vec![c, height, width]);
    let style = |table: &mut Table, name: &str| {
        let (c, ..) = table.image();
        table.beside(&format!("{name}.style"), "Dense", &[c], (STYLE + 1) * c, STYLE * c);
    };
    for (i, filters) in cfg.up_filters().into_iter().enumerate() {
        let (c, h, w) = table.image();
        for (conv, up) in [("conv1", true), ("conv2", false)] {
            let name = format!("blocks.{i}.{conv}");
            style(&mut table, &name);
            if up {
                table.reshape(&format!("blocks.{i}"), "UpSampling2D 2x2", vec![c, 2 * h, 2 * w]);
            }
            table.conv(&name, filters, 3, true, SAME);
            table.keep(&format!("{name}.0"), "LeakyReLU");
        }
    }
    style(&mut table, "to_image");
    table.conv("to_image", cfg.channels, 3, true, SAME);
    table.keep("tanh", "Activation tanh");
    table.finish()
}
