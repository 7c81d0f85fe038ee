//! What a vision transformer has beside [`linear`](crate::linear). Forward alone: inputs are constants.

use crate::check::{f32_only, matrix, slice, vector};
use crate::composed;
use crate::device::on_device;
use crate::elements::map;
use crate::gemm::{mat, mat_mut, multiply, with_scratch};
use crate::simd::vectorised;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x` times the normal distribution's share below `x`, `x (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016): the exact GELU, to
/// within 1e-6. `xs` may have any shape. No gradient passes: `xs` is a constant (`detach()`).
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    constants(Gelu.name(), &[("xs", xs)])?;
    on_device!(
        xs.device(),
        cpu = xs.contiguous()?.apply_op1_no_bwd(&Gelu),
        cuda = composed::gelu(xs),
        composed = composed::gelu(xs),
    )
}

/// Layer normalisation (Ba et al. 2016): each row of `xs` `(rows, d)` less its mean and over the root of its variance plus `eps`, times
/// `weight` `(d)`, plus `bias` `(d)`. No gradient passes: all three are constants (`detach()`).
pub fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let op = LayerNorm { eps };
    constants(op.name(), &[("xs", xs), ("weight", weight), ("bias", bias)])?;
    let (_, d) = matrix(op.name(), "xs", xs)?;
    vector(op.name(), "weight", weight, d)?;
    vector(op.name(), "bias", bias, d)?;
    on_device!(
        xs.device(),
        cpu = xs.contiguous()?.apply_op3_no_bwd(&weight.contiguous()?, &bias.contiguous()?, &op),
        cuda = composed::layer_norm(xs, weight, bias, eps),
        composed = composed::layer_norm(xs, weight, bias, eps),
    )
}

/// Multi-head self-attention (Vaswani et al. 2017) between the projections: `qkv` `(b, n, 3d)` holds the queries, keys and values of
/// `n` tokens, `d` numbers each, head by head; the result is `(b, n, d)`. Scores are not scaled: whoever makes the queries does it. No
/// gradient passes: `qkv` is a constant (`detach()`).
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let op = Attention { heads };
    constants(op.name(), &[("qkv", qkv)])?;
    match *qkv.dims() {
        [b, n, width] if b * n * width * heads > 0 && width.is_multiple_of(3 * heads) => {}
        _ => bail!("attention: qkv has shape {:?}, expected non-empty (b, n, 3 * {heads} heads * size)", qkv.dims()),
    }
    on_device!(
        qkv.device(),
        cpu = qkv.contiguous()?.apply_op1_no_bwd(&op),
        cuda = composed::attention(qkv, heads),
        composed = composed::attention(qkv, heads),
    )
}

/// Fails unless every tensor is of `f32` and depends on no variable: its gradient would be lost without a word.
fn constants(op: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
    f32_only(op, tensors)?;
    if let Some((name, _)) = tensors.iter().find(|(_, tensor)| tensor.track_op()) {
        bail!("{op}: {name} depends on a variable, and {op} passes no gradient on: detach() it")
    }
    Ok(())
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(map(slice(self.name(), storage, layout)?, gelu_of)), layout.shape().clone()))
    }
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weight: &CpuStorage,
        weight_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let (xs, weight, bias) = (slice(name, xs, xs_l)?, slice(name, weight, weight_l)?, slice(name, bias, bias_l)?);
        let rows = 64 * weight.len();
        let mut ys = vec![0f32; xs.len()];
        ys.par_chunks_mut(rows).zip(xs.par_chunks(rows)).for_each(|(ys, xs)| normalise(ys, xs, weight, bias, self.eps));
        Ok((CpuStorage::F32(ys), xs_l.shape().clone()))
    }
}

struct Attention {
    heads: usize,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, n, width) = layout.shape().dims3()?;
        let (qkv, d) = (slice(self.name(), storage, layout)?, width / 3);
        let size = d / self.heads;
        let mut ys = vec![0f32; b * n * d];
        ys.par_chunks_mut(n * d).zip(qkv.par_chunks(n * width)).for_each(|(ys, qkv)| {
            with_scratch([n * n, 0, 0], |[scores, ..]| {
                for head in (0..d).step_by(size) {
                    let of = |part: usize| mat(&qkv[part * d + head..], n, size, width);
                    multiply(mat_mut(scores, n, n, n), of(0), of(1).transpose(), false);
                    softmax(scores, n);
                    multiply(mat_mut(&mut ys[head..], n, size, d), mat(scores, n, n, n), of(2), false);
                }
            });
        });
        Ok((CpuStorage::F32(ys), (b, n, d).into()))
    }
}

vectorised! {
    /// Rows of `xs` normalised into `ys`.
    fn normalise(ys: &'a mut [f32], xs: &'a [f32], weight: &'a [f32], bias: &'a [f32], eps: f32) {
        let d = weight.len();
        for (ys, xs) in ys.chunks_exact_mut(d).zip(xs.chunks_exact(d)) {
            let mean = total(xs, |x| x) / d as f32;
            let root = (total(xs, |x| (x - mean) * (x - mean)) / d as f32 + eps).sqrt();
            for ((y, x), (weight, bias)) in ys.iter_mut().zip(xs).zip(weight.iter().zip(bias)) {
                *y = (x - mean) / root * weight + bias;
            }
        }
    }

    /// Each row of `n` scores as shares of their exponentials.
    fn softmax(scores: &'a mut [f32], n: usize) {
        for row in scores.chunks_exact_mut(n) {
            let largest = in_lanes(row, f32::NEG_INFINITY, |most, x| if x > most { x } else { most });
            for x in row.iter_mut() {
                *x = exp_of(*x - largest);
            }
            let sum = total(row, |x| x);
            for x in row.iter_mut() {
                *x /= sum;
            }
        }
    }
}

/// The sum of `f` of each number.
#[inline(always)]
fn total(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let (whole, rest) = xs.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for xs in whole {
        for (sum, &x) in sums.iter_mut().zip(xs) {
            *sum += f(x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// What `f` makes of all numbers one after the other, sixteen side by side; `f` is a largest or least value.
#[inline(always)]
fn in_lanes(xs: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let (whole, rest) = xs.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for xs in whole {
        for (lane, &x) in lanes.iter_mut().zip(xs) {
            *lane = f(*lane, x);
        }
    }
    lanes.iter().chain(rest).fold(start, |one, &x| f(one, x))
}

/// The exponential of a number that is not positive, within a few units in the last place, in operations that the processor does on
/// whole vectors; below the least normal number it is that number. See `tanh` for the way.
#[inline(always)]
fn exp_of(x: f32) -> f32 {
    const LEAST: f32 = -87.;
    const LN_2: (f32, f32) = (355. / 512., -2.121_944_4e-4);
    let x = x.clamp(LEAST, 0.);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = (x - n * LN_2.0) - n * LN_2.1;
    let series = [1. / 5040., 1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1., 1.];
    // n lies between -126 and 0.
    series.iter().fold(0., |sum, term| sum * r + term) * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// See [`gelu`]. The error function is 7.1.26 of Abramowitz and Stegun (1964), within 1.5e-7.
#[inline(always)]
fn gelu_of(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1. / (1. + 0.327_591_1 * z);
    let series = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    let above = series.iter().fold(0., |sum, term| sum * t + term) * t * exp_of(-z * z) / 2.;
    x * if x > 0. { 1. - above } else { above }
}
