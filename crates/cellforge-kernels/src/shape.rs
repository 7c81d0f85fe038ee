//! Operations that networks need between the layers, with a place on the tape of [`gradients`](crate::gradients).

use crate::check::{f32_only, images, images_only, matrix, slice};
use crate::device::{on_device, ours};
use crate::element::{Element, of_type};
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::tape;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `xs` with another shape of as many elements.
pub fn reshape(xs: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if ours(xs.device()) { tape::reshape(xs, shape) } else { xs.reshape(shape) }
}

/// The dot product of each row of `xs` `(b, n)` with the same row of `ys` `(b, n)`: `(b, 1)`.
pub fn row_dot(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    f32_only("row_dot", &[("xs", xs), ("ys", ys)])?;
    matrix("row_dot", "xs", xs)?;
    if xs.dims() != ys.dims() {
        bail!("row_dot: xs has shape {:?}, ys {:?}", xs.dims(), ys.dims());
    }
    on_device!(
        xs.device(),
        cpu = tape::apply2(&tape::contiguous(xs)?, &tape::contiguous(ys)?, RowDot),
        cuda = crate::cuda::row_dot(xs, ys),
        composed = xs.mul(ys)?.sum_keepdim(1),
    )
}

/// Adds `rows` rows of zeros below images `(b, c, h, w)` and as many columns on their right.
pub fn pad_bottom_right(xs: &Tensor, rows: usize) -> Result<Tensor> {
    images_only("pad_bottom_right", &[("xs", xs)])?;
    images("pad_bottom_right", "xs", xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&tape::apply1(&channels_last(xs)?, Pad(rows))?),
        cuda = crate::cuda::pad_bottom_right(xs, rows),
        composed = xs.pad_with_zeros(2, 0, rows)?.pad_with_zeros(3, 0, rows),
    )
}

struct RowDot;

impl CustomOp2 for RowDot {
    fn name(&self) -> &'static str {
        "row_dot"
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_l: &Layout, b: &CpuStorage, b_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, cols) = a_l.shape().dims2()?;
        let (a, b) = (slice("row_dot", a, a_l)?, slice("row_dot", b, b_l)?);
        let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let dots = a.chunks_exact(cols).zip(b.chunks_exact(cols)).map(|rows| dot(rows) as f32).collect();
        Ok((CpuStorage::F32(dots), (rows, 1).into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let times = |other: &Tensor| -> Result<Tensor> {
            let cols = other.dim(1)?;
            let values = with_slice("row_dot", grad, |grad: &[f32]| {
                with_slice("row_dot", other, |other: &[f32]| {
                    let rows = other.chunks_exact(cols).zip(grad);
                    Ok(rows.flat_map(|(row, g)| row.iter().map(move |x| x * g)).collect::<Vec<f32>>())
                })
            })?;
            Tensor::from_vec(values, other.shape(), other.device())
        };
        Ok((Some(times(b)?), Some(times(a)?)))
    }
}

struct Pad(usize);

impl CustomOp1 for Pad {
    fn name(&self) -> &'static str {
        "pad_bottom_right"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        let (oh, ow) = (h + self.0, w + self.0);
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            let mut ys = vec![E::default(); b * oh * ow * c];
            ys.par_chunks_mut(oh * ow * c).zip(xs.par_chunks(h * w * c)).for_each(|(ys, xs)| {
                for (y, x) in ys.chunks_mut(ow * c).zip(xs.chunks(w * c)) {
                    y[..w * c].copy_from_slice(x);
                }
            });
            Ok((E::storage(ys), (b, oh, ow, c).into()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, h, w, c) = xs.dims4()?;
        let (oh, ow) = (h + self.0, w + self.0);
        of_type!(xs.dtype(), E => {
            let mut grad_xs = vec![E::default(); xs.elem_count()];
            with_slice(self.name(), grad, |grad: &[E]| {
                grad_xs.par_chunks_mut(h * w * c).zip(grad.par_chunks(oh * ow * c)).for_each(|(to, from)| {
                    for (to, from) in to.chunks_mut(w * c).zip(from.chunks(ow * c)) {
                        to.copy_from_slice(&from[..w * c]);
                    }
                });
                Ok(())
            })?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}
