//! What a model consists of, as a table.

use crate::Conv2dConfig;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One layer of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Its path in the model.
    pub name: String,
    /// What it is, for example `Conv2D 3x3/2`.
    pub kind: String,
    /// The shape of its output without the batch: `[c, h, w]` or `[features]`.
    pub output: Vec<usize>,
    /// Its parameters as Keras counts them: running statistics included.
    pub params: usize,
    /// Those of its parameters that training changes by gradient.
    pub trainable: usize,
    /// Multiply-adds of one forward pass of one image.
    pub macs: u64,
}

/// A model: its layers in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The model's name.
    pub model: String,
    /// The shape of its input without the batch.
    pub input: Vec<usize>,
    /// Its layers.
    pub layers: Vec<LayerSummary>,
}

impl ModelSummary {
    /// All parameters, as Keras counts them.
    pub fn params(&self) -> usize {
        self.layers.iter().map(|layer| layer.params).sum()
    }

    /// The parameters that training changes by gradient.
    pub fn trainable(&self) -> usize {
        self.layers.iter().map(|layer| layer.trainable).sum()
    }

    /// Multiply-adds of one forward pass of one image.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }
}

/// A layer table in the making, which follows the shape of one image through the layers. Kinds are Keras's words, so that a
/// table can be laid beside a published one, and multiply-adds are those of convolutions and dense layers.
///
/// ```
/// use cellforge_nn::{Conv2dConfig, Padding, summary::Table};
///
/// let mut table = Table::new("small", &[3, 32, 32]);
/// table.conv("stem", 8, 3, true, Conv2dConfig::new(2, Padding::uniform(1)));
/// table.keep("relu", "Activation relu");
/// table.flatten("flatten");
/// table.dense("fc", 2);
/// let summary = table.finish();
/// assert_eq!(summary.layers[0].kind, "Conv2D 3x3/2");
/// assert_eq!(summary.layers[0].output, [8, 16, 16]);
/// assert_eq!(summary.params(), (3 * 8 * 9 + 8) + (8 * 16 * 16 * 2 + 2));
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    summary: ModelSummary,
    shape: Vec<usize>,
}

impl Table {
    /// The table of a model of this name that takes `input`: `[c, h, w]` or `[features]`.
    pub fn new(model: &str, input: &[usize]) -> Self {
        let summary = ModelSummary { model: model.to_string(), input: input.to_vec(), layers: Vec::new() };
        Self { summary, shape: input.to_vec() }
    }

    /// A `k` by `k` convolution to `c_out` channels. A kernel that does not fit leaves an empty image.
    pub fn conv(&mut self, name: &str, c_out: usize, k: usize, bias: bool, cfg: Conv2dConfig) {
        let (c, h, w) = self.image();
        let (h, w) = cfg.out_size((h, w), (k, k)).unwrap_or((0, 0));
        let weights = c_out * c * k * k;
        let params = weights + if bias { c_out } else { 0 };
        let kind = match cfg.stride {
            1 => format!("Conv2D {k}x{k}"),
            stride => format!("Conv2D {k}x{k}/{stride}"),
        };
        self.push(name, &kind, vec![c_out, h, w], (params, params), weights * h * w);
    }

    /// A 1x1 convolution without bias of an earlier image `from`, `(c, h, w)`, whose output is added to the present one and has
    /// its shape.
    pub fn branch(&mut self, name: &str, from: (usize, usize, usize), c_out: usize, cfg: Conv2dConfig) {
        let (c, h, w) = from;
        self.shape = vec![c, h, w];
        self.conv(name, c_out, 1, false, cfg);
    }

    /// Batch normalisation: scale and shift are trained, the running mean and variance are counted beside them.
    pub fn batch_norm(&mut self, name: &str) {
        let (c, ..) = self.image();
        self.push(name, "BatchNormalization", self.shape.clone(), (4 * c, 2 * c), 0);
    }

    /// A fully connected layer to `out` features, with bias.
    pub fn dense(&mut self, name: &str, out: usize) {
        let weights = self.features() * out;
        self.push(name, "Dense", vec![out], (weights + out, weights + out), weights);
    }

    /// A layer beside the path that the table follows, such as one that makes the scales of another: its output, parameters (all
    /// trained) and multiply-adds. The shape at this point stays.
    pub fn beside(&mut self, name: &str, kind: &str, output: &[usize], params: usize, macs: usize) {
        let shape = self.shape.clone();
        self.push(name, kind, output.to_vec(), (params, params), macs);
        self.shape = shape;
    }

    /// So many numbers that training changes but not by gradient.
    pub fn buffers(&mut self, name: &str, kind: &str, count: usize) {
        self.push(name, kind, self.shape.clone(), (count, 0), 0);
    }

    /// A layer without parameters that keeps the shape.
    pub fn keep(&mut self, name: &str, kind: &str) {
        self.reshape(name, kind, self.shape.clone());
    }

    /// A layer without parameters whose output has another shape.
    pub fn reshape(&mut self, name: &str, kind: &str, output: Vec<usize>) {
        self.push(name, kind, output, (0, 0), 0);
    }

    /// All values of one image in a row.
    pub fn flatten(&mut self, name: &str) {
        self.reshape(name, "Flatten", vec![self.features()]);
    }

    /// Channels, height and width at this point; features count as channels of one pixel.
    pub fn image(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [c, h, w] => (c, h, w),
            _ => (self.features(), 1, 1),
        }
    }

    /// Values of one image at this point.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }

    /// The table as it stands.
    pub fn finish(self) -> ModelSummary {
        self.summary
    }

    fn push(&mut self, name: &str, kind: &str, output: Vec<usize>, (params, trainable): (usize, usize), macs: usize) {
        self.shape.clone_from(&output);
        let (name, kind) = (name.to_string(), kind.to_string());
        self.summary.layers.push(LayerSummary { name, kind, output, params, trainable, macs: macs as u64 });
    }
}

/// A plain table: one line a layer, then the totals.
impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["layer", "kind", "output", "parameters", "multiply-adds"].map(String::from)];
        rows.push([String::from("input"), String::new(), shape(&self.input), String::new(), String::new()]);
        for l in &self.layers {
            let (params, macs) = (grouped(l.params as u64), grouped(l.macs));
            rows.push([l.name.clone(), l.kind.clone(), shape(&l.output), params, macs]);
        }
        let total = format!("{} trainable", grouped(self.trainable() as u64));
        let (params, macs) = (grouped(self.params() as u64), grouped(self.macs()));
        rows.push([String::from("total"), total, String::new(), params, macs]);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        writeln!(f, "{}", self.model)?;
        for [name, kind, output, params, macs] in &rows {
            let [a, b, c, d, e] = widths;
            writeln!(f, "{name:a$}  {kind:b$}  {output:c$}  {params:>d$}  {macs:>e$}")?;
        }
        Ok(())
    }
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
