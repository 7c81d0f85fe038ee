//! Batch normalisation over `(b, h, w)` of each channel.

use crate::check::{f32_only, images, images_only, slice, vector};
use crate::composed;
use crate::config::BatchStats;
use crate::device::on_device;
use crate::element::{Element, of_type, widen_all};
use crate::elements::slope_at;
use crate::gather::with_slice;
use crate::gemm::with_scratch;
use crate::layout::{channels_first, channels_last};
use crate::mask::DropoutMask;
use crate::memory::filled;
use crate::profile::span;
use crate::simd::vectorised;
use crate::sum::{CHUNK, add_rows, channel_sums_of, chunk_len, fold, repeat, row_len};
use crate::tape::{BackwardAdding, apply3, apply3_adding, contiguous, wants};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers that one task normalises.
const PART: usize = 1 << 14;

/// Normalises each channel of `xs` `(b, c, h, w)` by its mean and (biased) variance over the batch, then scales by
/// `gamma` `(c)` and shifts by `beta` `(c)`. The gradient goes through the statistics.
pub fn batch_norm_train(xs: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStats)> {
    batch_norm_leaky_relu_train(xs, gamma, beta, eps, 1., None)
}

/// [`batch_norm_train`], then [`leaky_relu`](crate::leaky_relu) of this negative slope and, with a mask, [`dropout`](crate::dropout), in the
/// same passes over memory. A negative slope of 0 is ReLU, of 1 no activation.
pub fn batch_norm_leaky_relu_train(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    negative_slope: f32,
    mask: Option<DropoutMask>,
) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_train";
    images_only(op, &[("xs", xs)])?;
    f32_only(op, &[("gamma", gamma), ("beta", beta)])?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    vector(op, "gamma", gamma, c)?;
    vector(op, "beta", beta, c)?;
    if let Some(mask) = &mask {
        mask.check(op, xs)?;
    }
    on_device!(
        xs.device(),
        cpu = train_on_cpu(xs, gamma, beta, eps, negative_slope, mask),
        cuda = crate::cuda::batch_norm_train(xs, gamma, beta, eps, negative_slope, mask.as_ref()),
        composed = {
            let (ys, stats) = composed::batch_norm_train(xs, gamma, beta, eps)?;
            let ys = if negative_slope == 1. { ys } else { composed::leaky_relu(&ys, negative_slope)? };
            Ok((mask.map_or(Ok(ys.clone()), |mask| composed::dropout(&ys, &mask))?, stats))
        },
    )
}

fn train_on_cpu(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    negative_slope: f32,
    mask: Option<DropoutMask>,
) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_train";
    let xs = channels_last(xs)?;
    let c = gamma.elem_count();
    let n = xs.elem_count() / c;
    let bytes = xs.elem_count() * xs.dtype().size_in_bytes();
    let describe = || (format!("{op} {:?}", xs.dims()), 0., bytes as f64);
    let stats = {
        let _span = span("statistics", describe);
        of_type!(xs.dtype(), E => with_slice(op, &xs, |xs: &[E]| Ok(statistics(xs, c)))?)
    };
    let correction = n as f64 / (n.max(2) - 1) as f64;
    let tensor = |f: &dyn Fn(&(f64, f64)) -> f64| {
        Tensor::from_vec(stats.iter().map(|s| f(s) as f32).collect::<Vec<_>>(), c, xs.device())
    };
    let batch_stats = BatchStats { mean: tensor(&|s| s.0)?, var_unbiased: tensor(&|s| s.1 * correction)? };
    let norm = Norm { mask, ..Norm::new(&stats, eps, negative_slope, true) };
    let ys = apply3_adding(&xs, &contiguous(gamma)?, &contiguous(beta)?, norm)?;
    Ok((channels_first(&ys)?, batch_stats))
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

/// [`batch_norm_eval`] and then [`leaky_relu`](crate::leaky_relu) of this negative slope, as in [`batch_norm_leaky_relu_train`].
pub fn batch_norm_leaky_relu_eval(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
    negative_slope: f32,
) -> Result<Tensor> {
    let op = "batch_norm_eval";
    let vectors = [("gamma", gamma), ("beta", beta), ("running_mean", running_mean), ("running_var", running_var)];
    images_only(op, &[("xs", xs)])?;
    f32_only(op, &vectors)?;
    let (_, c, _, _) = images(op, "xs", xs)?;
    for (name, tensor) in vectors {
        vector(op, name, tensor, c)?;
    }
    on_device!(
        xs.device(),
        cpu = {
            let (mean, var) = (running_mean.to_vec1::<f32>()?, running_var.to_vec1::<f32>()?);
            let stats: Vec<(f64, f64)> = mean.iter().zip(&var).map(|(&m, &v)| (f64::from(m), f64::from(v))).collect();
            let norm = Norm::new(&stats, eps, negative_slope, false);
            channels_first(&apply3(&channels_last(xs)?, &contiguous(gamma)?, &contiguous(beta)?, norm)?)
        },
        cuda = crate::cuda::batch_norm_eval(xs, [gamma, beta, running_mean, running_var], eps, negative_slope),
        composed = {
            let ys = composed::batch_norm_eval(xs, gamma, beta, running_mean, running_var, eps)?;
            if negative_slope == 1. { Ok(ys) } else { composed::leaky_relu(&ys, negative_slope) }
        },
    )
}

/// The mean and the biased variance of each channel of `(pixels, channels)`: of chunks first, then of all from theirs (Chan, Golub
/// and LeVeque 1979), so that a mean that is large beside the deviation costs no precision.
fn statistics<E: Element>(xs: &[E], channels: usize) -> Vec<(f64, f64)> {
    let (row, chunk) = (row_len(channels), chunk_len(channels, CHUNK));
    let parts: Vec<(f64, Vec<(f64, f64)>)> = xs
        .par_chunks(chunk)
        .map(|xs| {
            let n = (xs.len() / channels) as f64;
            let mut sums = [vec![0f32; row]];
            add_rows(xs, row, &mut sums[0]);
            let means: Vec<f64> = fold(&sums, channels).iter().map(|[sum]| sum / n).collect();
            let rounded = repeat(&means.iter().map(|&mean| mean as f32).collect::<Vec<_>>());
            let mut squares = [vec![0f32; row]];
            add_squares(xs, &rounded, &mut squares[0]);
            let squares = fold(&squares, channels).into_iter().zip(&means).zip(&rounded);
            // What the rounding of the mean added is taken away again.
            let part = squares.map(|(([squares], &mean), &rounded)| {
                let shift = mean - f64::from(rounded);
                (mean, (squares - n * shift * shift).max(0.))
            });
            (n, part.collect())
        })
        .collect();
    let (mut count, mut total) = (0., vec![(0f64, 0f64); channels]);
    for (n, part) in &parts {
        let all = count + n;
        for ((mean, squares), (part_mean, part_squares)) in total.iter_mut().zip(part) {
            let delta = part_mean - *mean;
            *mean += delta * n / all;
            *squares += part_squares + delta * delta * count * n / all;
        }
        count = all;
    }
    total.into_iter().map(|(mean, squares)| (mean, squares / count)).collect()
}

/// `dropout(leaky_relu(gamma * (x - mean) * inv_std + beta))` for contiguous CPU tensors `(b, h, w, c)`.
struct Norm {
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    /// Of the activation; 1 is none.
    negative_slope: f32,
    /// Whether mean and deviation are those of `x` itself, so that the gradient goes through them.
    from_batch: bool,
    mask: Option<DropoutMask>,
}

/// What the passes over memory need of each channel, repeated to rows of pixels.
struct Rows {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    fn new(stats: &[(f64, f64)], eps: f64, negative_slope: f32, from_batch: bool) -> Self {
        Self {
            mean: stats.iter().map(|&(mean, _)| mean as f32).collect(),
            inv_std: stats.iter().map(|&(_, var)| (1. / (var + eps).sqrt()) as f32).collect(),
            negative_slope,
            from_batch,
            mask: None,
        }
    }

    fn rows(&self, gamma: &[f32], beta: &[f32]) -> Rows {
        let scale: Vec<f32> = self.inv_std.iter().zip(gamma).map(|(inv_std, gamma)| inv_std * gamma).collect();
        Rows { mean: repeat(&self.mean), scale: repeat(&scale), shift: repeat(beta) }
    }

    /// The sums over each channel of the gradient (behind the activation) and of the gradient times the normalised input: the
    /// gradients of beta and gamma.
    fn sums<E: Element>(&self, xs: &[E], grad: &[E], rows: &Rows) -> Vec<(f64, f64)> {
        let (channels, negative_slope) = (self.mean.len(), self.negative_slope);
        let sums = channel_sums_of(xs.len(), channels, |range, [sums, products]: &mut [Vec<f32>; 2]| {
            let (xs, grad) = (&xs[range.clone()], &grad[range.clone()]);
            match &self.mask {
                None => add_products(xs, grad, rows, negative_slope, sums, products),
                Some(mask) => with_masked(mask, range, grad, |grad| {
                    add_products(xs, grad, rows, negative_slope, sums, products);
                }),
            }
        });
        let inv_std = self.inv_std.iter().map(|&x| f64::from(x));
        sums.into_iter().zip(inv_std).map(|([sum, product], inv_std)| (sum, product * inv_std)).collect()
    }
}

/// Gives `f` a part of the gradient of the output, behind the mask.
fn with_masked<E: Element>(mask: &DropoutMask, part: Range<usize>, grad: &[E], f: impl FnOnce(&[f32])) {
    with_scratch([grad.len(), 0, 0], |[masked, ..]| {
        widen_all(grad, masked);
        mask.apply(part, masked);
        f(masked);
    });
}

vectorised! {
    /// Adds the squares of deviations from a row of means.
    fn add_squares<E: Element>(xs: &'a [E], means: &'a [f32], sums: &'a mut [f32]) {
        for xs in xs.chunks(means.len()) {
            for ((sum, x), mean) in sums.iter_mut().zip(xs).zip(means) {
                *sum += (x.widen() - mean) * (x.widen() - mean);
            }
        }
    }

    fn normalise<E: Element>(xs: &'a [E], rows: &'a Rows, negative_slope: f32, ys: &'a mut [f32]) {
        let row = rows.mean.len();
        let (mean, scale, shift) = (&rows.mean[..row], &rows.scale[..row], &rows.shift[..row]);
        for (ys, xs) in ys.chunks_mut(row).zip(xs.chunks(row)) {
            let ys = &mut ys[..xs.len()];
            for i in 0..xs.len().min(row) {
                let normed = (xs[i].widen() - mean[i]) * scale[i] + shift[i];
                ys[i] = normed * slope_at(normed, negative_slope);
            }
        }
    }

    /// Adds the gradients behind the activation, and these times the deviations from the mean.
    fn add_products<E: Element, G: Element>(
        xs: &'a [E],
        grad: &'a [G],
        rows: &'a Rows,
        negative_slope: f32,
        sums: &'a mut [f32],
        products: &'a mut [f32],
    ) {
        let row = rows.mean.len();
        let (sums, products) = (&mut sums[..row], &mut products[..row]);
        let (mean, scale, shift) = (&rows.mean[..row], &rows.scale[..row], &rows.shift[..row]);
        for (xs, grad) in xs.chunks(row).zip(grad.chunks(row)) {
            let grad = &grad[..xs.len()];
            for i in 0..xs.len().min(row) {
                let deviation = xs[i].widen() - mean[i];
                let g = grad[i].widen() * slope_at(deviation * scale[i] + shift[i], negative_slope);
                sums[i] += g;
                products[i] += deviation * g;
            }
        }
    }

    fn gradient_of_input<E: Element, G: Element>(
        xs_and_grad: (&'a [E], &'a [G]),
        rows: &'a Rows,
        level_and_tilt: (&'a [f32], &'a [f32]),
        negative_slope: f32,
        out: &'a mut [f32],
    ) {
        let row = rows.mean.len();
        let (mean, scale, shift) = (&rows.mean[..row], &rows.scale[..row], &rows.shift[..row]);
        let (level, tilt) = (&level_and_tilt.0[..row], &level_and_tilt.1[..row]);
        let chunks = xs_and_grad.0.chunks(row).zip(xs_and_grad.1.chunks(row));
        for (out, (xs, grad)) in out.chunks_mut(row).zip(chunks) {
            let (out, grad) = (&mut out[..xs.len()], &grad[..xs.len()]);
            for i in 0..xs.len().min(row) {
                let deviation = xs[i].widen() - mean[i];
                // The same expression as in the forward pass, so that both agree on the side of zero to the last bit.
                let g = grad[i].widen() * slope_at(deviation * scale[i] + shift[i], negative_slope);
                out[i] = scale[i] * (g - level[i] - deviation * tilt[i]);
            }
        }
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        if self.from_batch { "batch_norm_train" } else { "batch_norm_eval" }
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
        let rows = self.rows(slice(self.name(), gamma, gamma_l)?, slice(self.name(), beta, beta_l)?);
        let (chunk, negative_slope) = (chunk_len(self.mean.len(), PART), self.negative_slope);
        of_type!(xs.dtype(), E => {
            let xs = slice::<E>(self.name(), xs, xs_l)?;
            let ys = filled::<E>(xs.len(), chunk, |i, ys| {
                let part = i * chunk..i * chunk + ys.len();
                normalise(&xs[part.clone()], &rows, negative_slope, ys);
                if let Some(mask) = &self.mask {
                    mask.apply(part, ys);
                }
            });
            Ok((E::storage(ys), xs_l.shape().clone()))
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        of_type!(xs.dtype(), E => self.gradients::<E>([xs, gamma, beta], grad, None))
    }
}

impl BackwardAdding for Norm {
    fn bwd_adding(
        &self,
        args: [&Tensor; 3],
        grad: &Tensor,
        more: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        of_type!(more.dtype(), E => with_slice(self.name(), more, |more| self.gradients::<E>(args, grad, Some(more))))
    }
}

impl Norm {
    /// The gradients of the input, to which `more` is added, of gamma and of beta.
    fn gradients<E: Element>(
        &self,
        [xs, gamma, beta]: [&Tensor; 3],
        grad: &Tensor,
        more: Option<&[E]>,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let channels = self.mean.len();
        let (n, device) = ((xs.elem_count() / channels) as f64, xs.device());
        let rows = self.rows(&gamma.to_vec1::<f32>()?, &beta.to_vec1::<f32>()?);
        let wanted = wants(xs);
        let (sums, grad_xs) = with_slice(self.name(), xs, |xs: &[E]| {
            with_slice(self.name(), grad, |grad| {
                let sums = self.sums(xs, grad, &rows);
                let grad_xs = if wanted { self.input_gradient(xs, grad, &rows, &sums, n, more) } else { Vec::new() };
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

    /// The gradient of gamma times the normalised input: that of the output less its mean and less its part along the input. To
    /// this `more` is added.
    fn input_gradient<E: Element>(
        &self,
        xs: &[E],
        grad: &[E],
        rows: &Rows,
        sums: &[(f64, f64)],
        n: f64,
        more: Option<&[E]>,
    ) -> Vec<E> {
        let (chunk, negative_slope) = (chunk_len(self.mean.len(), PART), self.negative_slope);
        let part = |f: &dyn Fn(&(f64, f64), f32) -> f32| -> Vec<f32> {
            let parts = sums
                .iter()
                .zip(&self.inv_std)
                .map(|(sums, &inv_std)| if self.from_batch { f(sums, inv_std) } else { 0. });
            repeat(&parts.collect::<Vec<_>>())
        };
        let level = part(&|sums, _| (sums.0 / n) as f32);
        let tilt = part(&|sums, inv_std| (sums.1 / n) as f32 * inv_std);
        filled(xs.len(), chunk, |i, out| {
            let part = i * chunk..i * chunk + out.len();
            let (xs, grad, means) = (&xs[part.clone()], &grad[part.clone()], (level.as_slice(), tilt.as_slice()));
            match &self.mask {
                None => gradient_of_input((xs, grad), rows, means, negative_slope, out),
                Some(mask) => with_masked(mask, part.clone(), grad, |grad| {
                    gradient_of_input((xs, grad), rows, means, negative_slope, out);
                }),
            }
            if let Some(more) = more {
                add_rows(&more[part], out.len(), out);
            }
        })
    }
}
