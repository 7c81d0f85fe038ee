//! The fully connected layer.

use crate::check::{f32_only, matrix, slice, vector};
use crate::composed;
use crate::device::on_device;
use crate::gemm::{mat, mat_mut, multiply, with_scratch};
use crate::memory::filled;
use crate::product::Precision;
use crate::tape::contiguous;
use crate::weighted::{self, Weighted};
use candle_core::{CpuStorage, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

const NAME: &str = "linear";

/// Rows of the weight that one task takes.
const TILE: usize = 64;

/// From so many rows of the input on, tasks take rows of the input, exactly so many each.
const MANY_ROWS: usize = 256;

/// `xs * weight^T + bias`: `xs` is `(b, in)`, `weight` `(out, in)`, `bias` `(out)`, and the result `(b, out)`.
///
/// `precision` counts on NVIDIA GPUs alone, where products are of `tf32` in any but [`Precision::F32`]; elsewhere they are of `f32`.
#[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "the precision is for NVIDIA GPUs"))]
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Tensor> {
    let op = NAME;
    f32_only(op, &[("xs", xs), ("weight", weight)])?;
    let (_, features) = matrix(op, "xs", xs)?;
    let (out, weight_features) = matrix(op, "weight", weight)?;
    if features != weight_features {
        bail!("{op}: xs {:?} and weight {:?} differ in their number of input features", xs.dims(), weight.dims());
    }
    if let Some(bias) = bias {
        f32_only(op, &[("bias", bias)])?;
        vector(op, "bias", bias, out)?;
    }
    on_device!(
        xs.device(),
        cpu = {
            let (xs, weight) = (contiguous(xs)?, contiguous(weight)?);
            weighted::apply(&xs, &weight, bias, Linear)
        },
        cuda = crate::cuda::linear(xs, weight, bias, precision),
        composed = composed::linear(xs, weight, bias),
    )
}

struct Linear;

impl Weighted for Linear {
    const NAME: &'static str = NAME;

    fn forward(
        &self,
        xs: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, features), (out, _)) = (xs.1.shape().dims2()?, w.1.shape().dims2()?);
        let (xs, weight) = (slice(NAME, xs.0, xs.1)?, slice(NAME, w.0, w.1)?);
        if b >= MANY_ROWS {
            return Ok((CpuStorage::F32(many_rows(xs, weight, bias, (b, features, out))), (b, out).into()));
        }
        // Tasks own rows of the transposed result, (out, b), which is turned afterwards: it is small.
        let mut turned = vec![0f32; out * b];
        let tiles = weight.par_chunks(TILE * features);
        turned.par_chunks_mut(TILE * b).zip(tiles).for_each(|(ys, weight)| {
            let rows = ys.len() / b;
            let xs = mat(xs, b, features, features).transpose();
            multiply(mat_mut(ys, rows, b, b), mat(weight, rows, features, features), xs, false);
        });
        let mut ys = vec![0f32; b * out];
        for (o, row) in turned.chunks(b).enumerate() {
            let bias = bias.map_or(0., |bias| bias[o]);
            for (i, &y) in row.iter().enumerate() {
                ys[i * out + o] = y + bias;
            }
        }
        Ok((CpuStorage::F32(ys), (b, out).into()))
    }

    fn gradients(&self, xs: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((b, features), (out, _)) = (xs.dims2()?, w.dims2()?);
        let sizes = (b, features, out);
        let by_xs = |w: &[f32], grad: &[f32]| input_gradient(grad, w, sizes);
        weighted::gradients(NAME, [xs, w, grad], by_xs, |xs, grad| weight_gradient(grad, xs, sizes))
    }
}

/// `grad * weight`, `(b, features)`, in tiles of rows.
fn input_gradient(grad: &[f32], weight: &[f32], (b, features, out): (usize, usize, usize)) -> Vec<f32> {
    const ROWS: usize = 8;
    let mut grad_xs = vec![0f32; b * features];
    grad_xs.par_chunks_mut(ROWS * features).zip(grad.par_chunks(ROWS * out)).for_each(|(grad_xs, grad)| {
        let rows = grad.len() / out;
        let (grad, weight) = (mat(grad, rows, out, out), mat(weight, out, features, features));
        multiply(mat_mut(grad_xs, rows, features, features), grad, weight, false);
    });
    grad_xs
}

/// `grad^T * xs`, `(out, features)`, in tiles of rows.
fn weight_gradient(grad: &[f32], xs: &[f32], (b, features, out): (usize, usize, usize)) -> Vec<f32> {
    let mut grad_w = vec![0f32; out * features];
    grad_w.par_chunks_mut(TILE * features).enumerate().for_each(|(tile, grad_w)| {
        let rows = grad_w.len() / features;
        let grad = mat(&grad[tile * TILE..], b, rows, out).transpose();
        multiply(mat_mut(grad_w, rows, features, features), grad, mat(xs, b, features, features), false);
    });
    grad_w
}

/// The layer of many rows: `(b, out)`. Every task multiplies [`MANY_ROWS`] rows, the last one some of its neighbour's again: products of
/// another number of rows may add their terms in another order, and two equal rows are to give the same.
fn many_rows(xs: &[f32], weight: &[f32], bias: Option<&[f32]>, (b, features, out): (usize, usize, usize)) -> Vec<f32> {
    filled(b * out, MANY_ROWS * out, |task, ys| {
        let rows = ys.len() / out;
        let first = task * MANY_ROWS + rows - MANY_ROWS;
        let xs = mat(&xs[first * features..][..MANY_ROWS * features], MANY_ROWS, features, features);
        let weight = mat(weight, out, features, features).transpose();
        if rows == MANY_ROWS {
            multiply(mat_mut(ys, rows, out, out), xs, weight, false);
        } else {
            with_scratch([MANY_ROWS * out, 0, 0], |[all, ..]| {
                multiply(mat_mut(all, MANY_ROWS, out, out), xs, weight, false);
                ys.copy_from_slice(&all[(MANY_ROWS - rows) * out..]);
            });
        }
        if let Some(bias) = bias {
            ys.chunks_exact_mut(out).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        }
    })
}
