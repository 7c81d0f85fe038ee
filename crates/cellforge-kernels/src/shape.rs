//! Operations that networks need between the layers, with a place on the tape of [`gradients`](crate::gradients).

use crate::activation::zip_map;
use crate::check::{f32_only, images, slice, with_slice};
use crate::tape;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `xs` with another shape of as many elements.
pub fn reshape(xs: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if xs.device().is_cpu() { tape::reshape(xs, shape) } else { xs.reshape(shape) }
}

/// The sum of two tensors of one shape.
pub fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    f32_only("add", &[("xs", xs), ("ys", ys)])?;
    if xs.dims() != ys.dims() {
        bail!("add: xs has shape {:?}, ys {:?}", xs.dims(), ys.dims());
    }
    if xs.device().is_cpu() { tape::apply2(&xs.contiguous()?, &ys.contiguous()?, Add) } else { xs + ys }
}

/// Adds `rows` rows of zeros below images `(b, c, h, w)` and as many columns on their right.
pub fn pad_bottom_right(xs: &Tensor, rows: usize) -> Result<Tensor> {
    f32_only("pad_bottom_right", &[("xs", xs)])?;
    images("pad_bottom_right", "xs", xs)?;
    if xs.device().is_cpu() {
        tape::apply1(&xs.contiguous()?, Pad(rows))
    } else {
        xs.pad_with_zeros(2, 0, rows)?.pad_with_zeros(3, 0, rows)
    }
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_l: &Layout, b: &CpuStorage, b_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let sum = zip_map(slice("add", a, a_l)?, slice("add", b, b_l)?, |a, b| a + b);
        Ok((CpuStorage::F32(sum), a_l.shape().clone()))
    }

    fn bwd(&self, _a: &Tensor, _b: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(grad.clone())))
    }
}

struct Pad(usize);

impl CustomOp1 for Pad {
    fn name(&self) -> &'static str {
        "pad_bottom_right"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (b, c, h, w) = layout.shape().dims4()?;
        let (oh, ow) = (h + self.0, w + self.0);
        let mut ys = vec![0f32; b * c * oh * ow];
        ys.par_chunks_mut(oh * ow).zip(xs.par_chunks(h * w)).for_each(|(ys, xs)| {
            for (y, x) in ys.chunks_mut(ow).zip(xs.chunks(w)) {
                y[..w].copy_from_slice(x);
            }
        });
        Ok((CpuStorage::F32(ys), (b, c, oh, ow).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = xs.dims4()?;
        let (oh, ow) = (h + self.0, w + self.0);
        let mut grad_xs = vec![0f32; xs.elem_count()];
        with_slice(self.name(), grad, |grad| {
            grad_xs.par_chunks_mut(h * w).zip(grad.par_chunks(oh * ow)).for_each(|(to, from)| {
                for (to, from) in to.chunks_mut(w).zip(from.chunks(ow)) {
                    to.copy_from_slice(&from[..w]);
                }
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
