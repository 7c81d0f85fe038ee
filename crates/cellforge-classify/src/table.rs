//! Writes down a model's layers, following the shape of one image through them.

use cellforge_nn::Conv2dConfig;
use cellforge_nn::summary::{LayerSummary, ModelSummary};

/// A layer table in the making. Kinds are Keras's words, so that a table can be laid beside a published one.
pub(crate) struct Table {
    summary: ModelSummary,
    shape: Vec<usize>,
}

impl Table {
    /// A model that takes `input`: `[c, h, w]` or `[features]`.
    pub(crate) fn new(model: &str, input: &[usize]) -> Self {
        let summary = ModelSummary { model: model.to_string(), input: input.to_vec(), layers: Vec::new() };
        Self { summary, shape: input.to_vec() }
    }

    /// A `k` by `k` convolution to `c_out` channels.
    pub(crate) fn conv(&mut self, name: &str, c_out: usize, k: usize, bias: bool, cfg: Conv2dConfig) {
        let (c, h, w) = self.image();
        // A kernel that does not fit leaves an empty image, which the configurations refuse before this runs.
        let (h, w) = cfg.out_size((h, w), (k, k)).unwrap_or((0, 0));
        let weights = c_out * c * k * k;
        let params = weights + if bias { c_out } else { 0 };
        let kind = match cfg.stride {
            1 => format!("Conv2D {k}x{k}"),
            stride => format!("Conv2D {k}x{k}/{stride}"),
        };
        self.push(name, &kind, vec![c_out, h, w], (params, params), weights * h * w);
    }

    /// A 1x1 convolution of an earlier image, whose output is added to the present one and has its shape.
    pub(crate) fn branch(&mut self, name: &str, from: (usize, usize, usize), c_out: usize, cfg: Conv2dConfig) {
        let (c, h, w) = from;
        self.shape = vec![c, h, w];
        self.conv(name, c_out, 1, false, cfg);
    }

    /// Batch normalisation: scale and shift are trained, the running mean and variance are counted beside them.
    pub(crate) fn batch_norm(&mut self, name: &str) {
        let (c, ..) = self.image();
        self.push(name, "BatchNormalization", self.shape.clone(), (4 * c, 2 * c), 0);
    }

    /// A fully connected layer.
    pub(crate) fn dense(&mut self, name: &str, out: usize) {
        let weights = self.features() * out;
        self.push(name, "Dense", vec![out], (weights + out, weights + out), weights);
    }

    /// A layer without parameters that keeps the shape.
    pub(crate) fn keep(&mut self, name: &str, kind: &str) {
        self.reshape(name, kind, self.shape.clone());
    }

    /// A layer without parameters whose output has another shape.
    pub(crate) fn reshape(&mut self, name: &str, kind: &str, output: Vec<usize>) {
        self.push(name, kind, output, (0, 0), 0);
    }

    /// All values of one image in a row.
    pub(crate) fn flatten(&mut self, name: &str) {
        self.reshape(name, "Flatten", vec![self.features()]);
    }

    /// Channels, height and width at this point.
    pub(crate) fn image(&self) -> (usize, usize, usize) {
        match self.shape[..] {
            [c, h, w] => (c, h, w),
            _ => (self.features(), 1, 1),
        }
    }

    /// Values of one image at this point.
    pub(crate) fn features(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn finish(self) -> ModelSummary {
        self.summary
    }

    fn push(&mut self, name: &str, kind: &str, output: Vec<usize>, (params, trainable): (usize, usize), macs: usize) {
        self.shape.clone_from(&output);
        let (name, kind) = (name.to_string(), kind.to_string());
        self.summary.layers.push(LayerSummary { name, kind, output, params, trainable, macs: macs as u64 });
    }
}
