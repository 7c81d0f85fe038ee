//! A residual discriminator without normalisation by the batch.

use crate::GanConfig;
use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use cellforge_nn::summary::{ModelSummary, Table};
use cellforge_nn::{Conv2d, Conv2dConfig, Linear, Padding, Precision, SpectralNorm};
use cellforge_nn::{conv2d_with, embedding, he_normal, linear_with, ops, spectral_norm};

const SAME: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(1));
const POINT: Conv2dConfig = Conv2dConfig::new(1, Padding::uniform(0));
/// Standard deviation of a class's numbers at the start.
const CLASS_START: f64 = 0.02;

/// A convolution, then residual blocks that halve the side until it is 4 (convolution, leaky ReLU, mean over 2x2 pixels,
/// convolution, leaky ReLU, beside the mean and a 1x1 convolution), a convolution and a dense layer to features, and the answer: a
/// linear function of the features, and their product with the class's numbers.
///
/// Everything between the activations is linear and acts on each image alone, which [`Discriminator::squared_slope`] relies on.
///
/// [`Discriminator::squared_slope`]: crate::Discriminator::squared_slope
#[derive(Debug, Clone)]
pub(super) struct ResidualDiscriminator {
    stem: Normed<Conv2d>,
    blocks: Vec<Block>,
    conv: Normed<Conv2d>,
    fc: Normed<Linear>,
    head: Normed<Linear>,
    class: Option<Normed<Linear>>,
    negative_slope: f32,
    precision: Precision,
}

#[derive(Debug, Clone)]
struct Block {
    conv1: Normed<Conv2d>,
    conv2: Normed<Conv2d>,
    skip: Normed<Conv2d>,
}

/// A layer whose weights may be normalised.
#[derive(Debug, Clone)]
struct Normed<L> {
    layer: L,
    norm: Option<SpectralNorm>,
}

trait Layer: Sized + Clone {
    fn weight(&self) -> &Tensor;
    fn with_weight(&self, weight: Tensor) -> Self;
    fn run_leaky_relu(&self, xs: &Tensor, negative_slope: f32) -> Result<Tensor>;
    fn jvp(&self, xs: &Tensor) -> Result<Tensor>;
}

macro_rules! layer {
    ($type:ty, $run_leaky_relu:expr) => {
        impl Layer for $type {
            fn weight(&self) -> &Tensor {
                self.weight()
            }
            fn with_weight(&self, weight: Tensor) -> Self {
                self.with_weight(weight)
            }
            fn run_leaky_relu(&self, xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
                $run_leaky_relu(self, xs, negative_slope)
            }
            fn jvp(&self, xs: &Tensor) -> Result<Tensor> {
                self.jvp(xs)
            }
        }
    };
}

layer!(Conv2d, Conv2d::forward_leaky_relu);
layer!(Linear, |layer: &Linear, xs, negative_slope| ops::leaky_relu(&layer.forward(xs)?, negative_slope));

impl<L: Layer> Normed<L> {
    fn new(layer: L, cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let norm = if cfg.spectral_norm { Some(spectral_norm(layer.weight(), vb)?) } else { None };
        Ok(Self { layer, norm })
    }

    /// What [`Pass::Train`] does to the vectors of the layer.
    fn power_iteration(&self) -> Result<()> {
        self.norm.as_ref().map_or(Ok(()), |norm| norm.iterate(&self.layer.weight().detach()))
    }

    /// The layer with the weights it has in this pass.
    fn at(&self, pass: &Pass) -> Result<L> {
        match &self.norm {
            Some(norm) => Ok(self.layer.with_weight(norm.apply(self.layer.weight(), matches!(pass, Pass::Train))?)),
            None => Ok(self.layer.clone()),
        }
    }
}

/// How the network is gone through.
enum Pass<'a> {
    /// As in training: spectral normalisation takes a step.
    Train,
    /// As in inference.
    Infer,
    /// As in inference, and what has the sign of each activation's input is written down.
    Trace(&'a mut Vec<Tensor>),
    /// For a small change of the input, where the activations had inputs of these signs. Biases are left out.
    Change(std::slice::Iter<'a, Tensor>),
}

impl Pass<'_> {
    /// The product of a layer's Jacobian, and that of its activation, with a change of its input. None where the pass is one of values.
    fn change<L: Layer>(&mut self, layer: &L, xs: &Tensor, negative_slope: f32) -> Result<Option<Tensor>> {
        let Self::Change(signs) = self else { return Ok(None) };
        let Some(at) = signs.next() else { bail!("the trace is of another discriminator") };
        ops::leaky_relu_jvp(&layer.jvp(xs)?, at, negative_slope).map(Some)
    }

    fn note(&mut self, signs: &Tensor) {
        if let Self::Trace(trace) = self {
            trace.push(signs.detach());
        }
    }

    /// A layer and its activation.
    fn activated<L: Layer>(&mut self, layer: &Normed<L>, xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
        let layer = layer.at(self)?;
        if let Some(ys) = self.change(&layer, xs, negative_slope)? {
            return Ok(ys);
        }
        let ys = layer.run_leaky_relu(xs, negative_slope)?;
        self.note(&ys);
        Ok(ys)
    }

    /// A convolution, its activation and the mean over 2x2 pixels.
    fn activated_and_halved(&mut self, layer: &Normed<Conv2d>, xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
        let layer = layer.at(self)?;
        if let Some(ys) = self.change(&layer, xs, negative_slope)? {
            return halved(&ys);
        }
        let ys = layer.forward(xs)?;
        self.note(&ys);
        ops::leaky_relu_avg_pool2x2(&ys, negative_slope)
    }
}

/// The mean over 2x2 pixels.
fn halved(xs: &Tensor) -> Result<Tensor> {
    ops::avg_pool2d(xs, 2, 2, 0, true)
}

impl ResidualDiscriminator {
    pub(super) fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        let conv = |(c_in, c_out, k): (usize, usize, usize),
                    gain: f64,
                    negative_slope: f64,
                    conf: Conv2dConfig,
                    vb: VarBuilder| {
            // Of this variance for each sum over the inputs: with a gain of a half, two such outputs add up to one.
            let start = he_normal(((c_in * k * k) as f64 / gain) as usize, negative_slope);
            let layer = conv2d_with(
                start,
                (c_in, c_out, k),
                negative_slope < 1.0,
                conf.in_precision(cfg.precision),
                vb.clone(),
            )?;
            Normed::new(layer, cfg, vb)
        };
        let filters = cfg.down_filters();
        let mut c = filters[0];
        let stem = conv((cfg.channels, c, 3), 1.0, cfg.negative_slope, SAME, vb.pp("stem"))?;
        let mut blocks = Vec::new();
        for (i, &next) in filters[1..].iter().enumerate() {
            let vb = vb.pp("blocks").pp(i);
            blocks.push(Block {
                conv1: conv((c, c, 3), 1.0, cfg.negative_slope, SAME, vb.pp("conv1"))?,
                conv2: conv((c, next, 3), 0.5, cfg.negative_slope, SAME, vb.pp("conv2"))?,
                skip: conv((c, next, 1), 0.5, 1.0, POINT, vb.pp("skip"))?,
            });
            c = next;
        }
        let dense = |sizes: (usize, usize), negative_slope: f64, vb: VarBuilder| {
            let layer = linear_with(he_normal(sizes.0, negative_slope), Some(0.), sizes, vb.clone())?;
            Normed::new(layer.in_precision(cfg.precision), cfg, vb)
        };
        let class = if cfg.classes > 1 {
            let vb = vb.pp("class");
            let rows = embedding(cfg.classes, c, CLASS_START, vb.clone())?.in_precision(cfg.precision);
            Some(Normed::new(rows, cfg, vb)?)
        } else {
            None
        };
        Ok(Self {
            stem,
            blocks,
            conv: conv((c, c, 3), 1.0, cfg.negative_slope, SAME, vb.pp("conv"))?,
            fc: dense((c * cfg.seed().area(), c), cfg.negative_slope, vb.pp("fc"))?,
            head: dense((c, 1), 1.0, vb.pp("head"))?,
            class,
            negative_slope: cfg.negative_slope as f32,
            precision: cfg.precision,
        })
    }

    /// The step of power iteration of every layer, as in a pass of training.
    pub(super) fn power_iteration(&self) -> Result<()> {
        self.stem.power_iteration()?;
        for block in &self.blocks {
            block.conv1.power_iteration()?;
            block.conv2.power_iteration()?;
            block.skip.power_iteration()?;
        }
        self.conv.power_iteration()?;
        self.fc.power_iteration()?;
        self.head.power_iteration()?;
        self.class.as_ref().map_or(Ok(()), Normed::power_iteration)
    }

    pub(super) fn forward_t(&self, xs: &Tensor, classes: Option<&Tensor>, train: bool) -> Result<Tensor> {
        self.run(xs, classes, &mut if train { Pass::Train } else { Pass::Infer })
    }

    /// The logits as in inference, and of each activation a tensor that has the signs of its input.
    pub(super) fn traced(&self, xs: &Tensor, classes: Option<&Tensor>, trace: &mut Vec<Tensor>) -> Result<Tensor> {
        self.run(xs, classes, &mut Pass::Trace(trace))
    }

    /// What a small change of the images changes about the logits, where the activations had inputs of the signs of `trace`.
    pub(super) fn jvp(&self, xs: &Tensor, classes: Option<&Tensor>, trace: &[Tensor]) -> Result<Tensor> {
        self.run(xs, classes, &mut Pass::Change(trace.iter()))
    }

    /// One pass through the network, the same for values and for their changes.
    fn run(&self, xs: &Tensor, classes: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        let slope = self.negative_slope;
        let xs = ops::to_precision(xs, self.precision)?;
        let mut xs = pass.activated(&self.stem, &xs, slope)?; // (b, c, height, width)
        for block in &self.blocks {
            // Before the convolution, whose gradient is then there to be added to.
            let shortcut = halved(&xs)?;
            let ys = pass.activated_and_halved(&block.conv1, &xs, slope)?;
            let ys = pass.activated(&block.conv2, &ys, slope)?;
            xs = block.skip.at(pass)?.forward_add(&shortcut, &ys)?; // (b, c', h / 2, w / 2)
        }
        xs = pass.activated(&self.conv, &xs, slope)?;
        let b = xs.dim(0)?;
        let flat = ops::to_precision(&ops::reshape(&xs, &[b, xs.elem_count() / b])?, Precision::F32)?;
        let features = pass.activated(&self.fc, &flat, slope)?; // (b, c)
        let head = self.head.at(pass)?;
        let mut logits = if matches!(pass, Pass::Change(_)) { head.jvp(&features)? } else { head.forward(&features)? };
        if let (Some(class), Some(classes)) = (&self.class, classes) {
            // Without a bias, so that it is the same in every pass.
            let rows = class.at(pass)?.forward(classes)?;
            logits = ops::add(&logits, &ops::row_dot(&features, &rows)?)?;
        }
        Ok(logits)
    }
}

/// See [`GanConfig::discriminator_layers`].
pub(super) fn layers(cfg: &GanConfig) -> Vec<Vec<String>> {
    let blocks = (0..cfg.down_filters().len() - 1).map(|i| format!("blocks.{i}"));
    let ends = ["conv", "fc"].map(str::to_owned);
    ["stem".to_owned()].into_iter().chain(blocks).chain(ends).map(|path| vec![path]).collect()
}

/// The layers of the discriminator.
pub(super) fn summary(cfg: &GanConfig) -> ModelSummary {
    let mut table = Table::new("discriminator", &[cfg.channels, cfg.image_size.height, cfg.image_size.width]);
    let filters = cfg.down_filters();
    // The singular vectors of a layer's weights.
    let vectors = |table: &mut Table, name: &str, rows: usize, columns: usize| {
        if cfg.spectral_norm {
            table.buffers(&format!("{name}.norm"), "SpectralNormalization", rows + columns);
        }
    };
    let conv = |table: &mut Table, name: &str, n: usize, conf: Conv2dConfig| {
        let (c, ..) = table.image();
        table.conv(name, n, 3, true, conf);
        vectors(table, name, n, 9 * c);
        table.keep(&format!("{name}.0"), "LeakyReLU");
    };
    conv(&mut table, "stem", filters[0], SAME);
    let halve = |table: &mut Table, name: &str| {
        let (c, h, w) = table.image();
        table.reshape(name, "AveragePooling2D 2x2/2", vec![c, h / 2, w / 2]);
    };
    for (i, &next) in filters[1..].iter().enumerate() {
        let name = |part: &str| format!("blocks.{i}.{part}");
        let (c, h, w) = table.image();
        let area = h / 2 * (w / 2);
        table.beside(&name("skip"), "Conv2D 1x1", &[next, h / 2, w / 2], c * next, c * next * area);
        vectors(&mut table, &name("skip"), next, c);
        conv(&mut table, &name("conv1"), c, SAME);
        halve(&mut table, &name("pool"));
        conv(&mut table, &name("conv2"), next, SAME);
        table.keep(&name("add"), "Add");
    }
    let (c, ..) = table.image();
    conv(&mut table, "conv", c, SAME);
    table.flatten("flatten");
    let inputs = table.features();
    table.dense("fc", c);
    vectors(&mut table, "fc", c, inputs);
    table.keep("fc.0", "LeakyReLU");
    if cfg.classes > 1 {
        table.beside("class", "Embedding", &[1], cfg.classes * c, c);
        vectors(&mut table, "class", c, cfg.classes);
    }
    table.dense("head", 1);
    vectors(&mut table, "head", 1, c);
    table.finish()
}
