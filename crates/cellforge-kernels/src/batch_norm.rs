//! Batch normalisation over `(b, h, w)` of each channel.

use crate::activation::leak;
use crate::check::{f32_only, images, slice, vector, with_slice};
use crate::composed;
use crate::sum::{planes, sum_by, sum_pairs};
use crate::tape::{apply3, wants};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

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
    batch_norm_leaky_relu_train(xs, gamma, beta, eps, 1.)
}

/// [`batch_norm_train`] and then [`leaky_relu`](crate::leaky_relu) of this slope, in the same passes over memory. Slope 0 is
/// ReLU, 1 no activation.
pub fn batch_norm_leaky_relu_train(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    slope: f32,
) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_train";
    f32_only(op, &[("xs", xs), ("gamma", gamma), ("beta", beta)])?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    vector(op, "gamma", gamma, c)?;
    vector(op, "beta", beta, c)?;
    if !xs.device().is_cpu() {
        let (ys, stats) = composed::batch_norm_train(xs, gamma, beta, eps)?;
        return Ok((if slope == 1. { ys } else { composed::leaky_relu(&ys, slope)? }, stats));
    }
    let xs = xs.contiguous()?;
    let (b, _, h, w) = xs.dims4()?;
    let n = b * h * w;
    let stats = with_slice(op, &xs, |xs| Ok(statistics(xs, c, h * w, n)))?;
    let correction = n as f64 / (n.max(2) - 1) as f64;
    let tensor = |f: &dyn Fn(&(f64, f64)) -> f64| {
        Tensor::from_vec(stats.iter().map(|s| f(s) as f32).collect::<Vec<_>>(), c, xs.device())
    };
    let batch_stats = BatchStats { mean: tensor(&|s| s.0)?, var_unbiased: tensor(&|s| s.1 * correction)? };
    let norm = Norm::new(&stats, eps, slope, true);
    Ok((apply3(&xs, &gamma.contiguous()?, &beta.contiguous()?, norm)?, batch_stats))
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
    batch_norm_leaky_relu_eval(xs, gamma, beta, running_mean, running_var, eps, 1.)
}

/// [`batch_norm_eval`] and then [`leaky_relu`](crate::leaky_relu) of this slope, as in [`batch_norm_leaky_relu_train`].
pub fn batch_norm_leaky_relu_eval(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
    slope: f32,
) -> Result<Tensor> {
    let op = "batch_norm_eval";
    let vectors = [("gamma", gamma), ("beta", beta), ("running_mean", running_mean), ("running_var", running_var)];
    f32_only(op, &[("xs", xs)])?;
    f32_only(op, &vectors)?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    for (name, tensor) in vectors {
        vector(op, name, tensor, c)?;
    }
    if !xs.device().is_cpu() {
        let ys = composed::batch_norm_eval(xs, gamma, beta, running_mean, running_var, eps)?;
        return if slope == 1. { Ok(ys) } else { composed::leaky_relu(&ys, slope) };
    }
    let (mean, var) = (running_mean.to_vec1::<f32>()?, running_var.to_vec1::<f32>()?);
    let stats: Vec<(f64, f64)> = mean.iter().zip(&var).map(|(&m, &v)| (f64::from(m), f64::from(v))).collect();
    apply3(&xs.contiguous()?, &gamma.contiguous()?, &beta.contiguous()?, Norm::new(&stats, eps, slope, false))
}

/// The mean and the biased variance of each channel of `(b, channels, plane)`, where a channel has `n` elements.
fn statistics(xs: &[f32], channels: usize, plane: usize, n: usize) -> Vec<(f64, f64)> {
    (0..channels)
        .into_par_iter()
        .map(|c| {
            let channel = || planes(xs, channels, plane, c);
            let mean = channel().map(|xs| sum_by(xs, |x| x)).sum::<f64>() / n as f64;
            // Deviations from the rounded mean are small numbers, so that `f32` squares lose nothing that matters;
            // the second term takes away what the rounding of the mean added.
            let rounded = mean as f32;
            let squares: f64 = channel().map(|xs| sum_by(xs, |x| (x - rounded) * (x - rounded))).sum();
            let shift = mean - f64::from(rounded);
            (mean, (squares / n as f64 - shift * shift).max(0.))
        })
        .collect()
}

/// `leaky_relu(gamma * (x - mean) * inv_std + beta)` for contiguous CPU tensors.
struct Norm {
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    /// Of the activation; 1 is none.
    slope: f32,
    /// Whether mean and deviation are those of `x` itself, so that the gradient goes through them.
    of_batch: bool,
}

impl Norm {
    fn new(stats: &[(f64, f64)], eps: f64, slope: f32, of_batch: bool) -> Self {
        Self {
            mean: stats.iter().map(|&(mean, _)| mean as f32).collect(),
            inv_std: stats.iter().map(|&(_, var)| (1. / (var + eps).sqrt()) as f32).collect(),
            slope,
            of_batch,
        }
    }

    /// What the activation does to the gradient at `x`. The same expression as in the forward pass, so that both agree on
    /// the side of zero to the last bit.
    fn leak(&self, c: usize, gamma: &[f32], beta: &[f32]) -> impl Fn(f32) -> f32 + Copy + use<> {
        let (mean, scale, shift, slope) = (self.mean[c], self.inv_std[c] * gamma[c], beta[c], self.slope);
        move |x| leak((x - mean) * scale + shift, slope)
    }

    /// The sums over each channel of the gradient (behind the activation) and of the gradient times the normalised input: the
    /// gradients of beta and gamma.
    fn sums(&self, xs: &[f32], grad: &[f32], plane: usize, gamma: &[f32], beta: &[f32]) -> Vec<(f64, f64)> {
        let channels = self.mean.len();
        (0..channels)
            .into_par_iter()
            .map(|c| {
                let (mean, leak, mut sum, mut product) = (self.mean[c], self.leak(c, gamma, beta), 0., 0.);
                for (xs, grad) in planes(xs, channels, plane, c).zip(planes(grad, channels, plane, c)) {
                    sum += sum_pairs(xs, grad, |x, g| g * leak(x));
                    product += sum_pairs(xs, grad, |x, g| (x - mean) * (g * leak(x)));
                }
                (sum, product * f64::from(self.inv_std[c]))
            })
            .collect()
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        if self.of_batch { "batch_norm_train" } else { "batch_norm_eval" }
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        gamma: &CpuStorage,
        gamma_l: &Layout,
        beta: &CpuStorage,
        beta_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, h, w) = xs_l.shape().dims4()?;
        let xs = slice(self.name(), xs, xs_l)?;
        let (gamma, beta) = (slice(self.name(), gamma, gamma_l)?, slice(self.name(), beta, beta_l)?);
        let mut ys = vec![0f32; xs.len()];
        ys.par_chunks_mut(h * w).zip(xs.par_chunks(h * w)).enumerate().for_each(|(plane, (ys, xs))| {
            let c = plane % channels;
            let (mean, scale, shift, slope) = (self.mean[c], self.inv_std[c] * gamma[c], beta[c], self.slope);
            for (y, &x) in ys.iter_mut().zip(xs) {
                let normed = (x - mean) * scale + shift;
                *y = normed * leak(normed, slope);
            }
        });
        Ok((CpuStorage::F32(ys), xs_l.shape().clone()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (b, channels, h, w) = xs.dims4()?;
        let (n, device) = ((b * h * w) as f64, xs.device());
        let (weights, shifts) = (gamma.to_vec1::<f32>()?, beta.to_vec1::<f32>()?);
        let wanted = wants(xs);
        let (sums, grad_xs) = with_slice(self.name(), xs, |xs| {
            with_slice(self.name(), grad, |grad| {
                let sums = self.sums(xs, grad, h * w, &weights, &shifts);
                let mut grad_xs = vec![0f32; if wanted { xs.len() } else { 0 }];
                let planes = xs.par_chunks(h * w).zip(grad.par_chunks(h * w));
                grad_xs.par_chunks_mut(h * w).zip(planes).enumerate().for_each(|(plane, (out, (xs, grad)))| {
                    let c = plane % channels;
                    let (mean, scale, leak) =
                        (self.mean[c], self.inv_std[c] * weights[c], self.leak(c, &weights, &shifts));
                    // d/dx of gamma * normalised x: the gradient less its mean and less its part along x.
                    let (level, tilt) = match self.of_batch {
                        true => ((sums[c].0 / n) as f32, (sums[c].1 / n) as f32 * self.inv_std[c]),
                        false => (0., 0.),
                    };
                    for ((out, &x), &g) in out.iter_mut().zip(xs).zip(grad) {
                        *out = scale * (g * leak(x) - level - (x - mean) * tilt);
                    }
                });
                Ok((sums, grad_xs))
            })
        })?;
        let vector = |wanted: &Tensor, f: &dyn Fn(&(f64, f64)) -> f64| match wants(wanted) {
            true => Tensor::from_vec(sums.iter().map(|s| f(s) as f32).collect::<Vec<_>>(), channels, device).map(Some),
            false => Ok(None),
        };
        let grad_xs = match wanted {
            true => Some(Tensor::from_vec(grad_xs, xs.shape(), device)?),
            false => None,
        };
        Ok((grad_xs, vector(gamma, &|s| s.1)?, vector(beta, &|s| s.0)?))
    }
}
