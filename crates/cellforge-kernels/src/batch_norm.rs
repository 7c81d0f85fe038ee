//! Batch normalisation over `(b, h, w)` of each channel.

use crate::check::{f32_only, images, vector};
use crate::composed;
use candle_core::{Result, Tensor};

/// What a batch tells about each channel; both are `(c)` and take no gradient.
#[derive(Clone, Debug)]
pub struct BatchStats {
    /// The mean.
    pub mean: Tensor,
    /// The variance with Bessel's correction, which is what PyTorch puts into the running variance.
    pub var_unbiased: Tensor,
}

/// Normalises each channel of `xs` `(b, c, h, w)` by its mean and (biased) variance over the batch, then scales by
/// `gamma` `(c)` and shifts by `beta` `(c)`. The gradient goes through the statistics.
pub fn batch_norm_train(xs: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_train";
    f32_only(op, &[("xs", xs), ("gamma", gamma), ("beta", beta)])?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    vector(op, "gamma", gamma, c)?;
    vector(op, "beta", beta, c)?;
    composed::batch_norm_train(xs, gamma, beta, eps)
}

/// Normalises each channel of `xs` `(b, c, h, w)` by fixed statistics `(c)`, which take no gradient, then scales by
/// `gamma` `(c)` and shifts by `beta` `(c)`.
pub fn batch_norm_eval(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let op = "batch_norm_eval";
    let vectors = [("gamma", gamma), ("beta", beta), ("running_mean", running_mean), ("running_var", running_var)];
    f32_only(op, &[("xs", xs)])?;
    f32_only(op, &vectors)?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    for (name, tensor) in vectors {
        vector(op, name, tensor, c)?;
    }
    composed::batch_norm_eval(xs, gamma, beta, running_mean, running_var, eps)
}
