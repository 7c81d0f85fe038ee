//! Dot products of rows, and weights over their largest singular value.

use super::op::{kernel1, kernel2};
use super::with_ptrs;
use crate::gpu::{Buffer, Gpu, Ptr, args, blocks, size};
use crate::tape::{apply1, apply2, contiguous};
use candle_core::{Result, Tensor};

impl Gpu {
    /// The dot products of the rows of `a` `(rows, cols)` with those of `b`, which are `stride` apart.
    fn row_dots(&self, a: Ptr, b: Ptr, (rows, cols): (usize, usize), stride: usize) -> Result<Buffer> {
        let out = self.buffer(rows)?;
        self.launch("row_dots", blocks(rows, 1)?, &args![a, b, &out, size(cols)?, size(stride)?])?;
        Ok(out)
    }
}

pub(crate) fn row_dot(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    const NAME: &str = "row_dot";
    let scaled = |other: &Tensor, grad: &Tensor| {
        let cols = size(other.dim(1)?)?;
        with_ptrs(NAME, [other, grad], |gpu, [x, g]| {
            let out = gpu.map("scale_rows", other.elem_count(), |out, n| args![x, g, out, n, cols])?;
            Ok(Some(out.tensor(other.shape())))
        })
    };
    let op = kernel2(
        NAME,
        |gpu, [a, b], [layout, _]| {
            let (rows, cols) = layout.shape().dims2()?;
            Ok((gpu.row_dots(a, b, (rows, cols), cols)?, (rows, 1).into()))
        },
        move |[a, b], _, grad| Ok((scaled(b, grad)?, scaled(a, grad)?)),
    );
    apply2(&contiguous(xs)?, &contiguous(ys)?, op)
}

pub(crate) fn spectral_normalised(weight: &Tensor, u: &Tensor, v: &Tensor) -> Result<Tensor> {
    const NAME: &str = "spectral_normalised";
    let (rows, cols) = (u.elem_count(), v.elem_count());
    let (u, v) = (u.detach().copy()?, v.detach().copy()?);
    let kept = (u.clone(), v.clone());
    let op = kernel1(
        NAME,
        move |gpu, w, layout| {
            let ys = with_ptrs(NAME, [&u, &v], |_, [u, v]| {
                let products = gpu.row_dots(w, v, (rows, cols), 0)?;
                let rows = size(rows)?;
                gpu.map("spectral", layout.shape().elem_count(), |ys, n| args![w, u, &products, ys, rows, n])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |weight, ys, grad| {
            with_ptrs(NAME, [weight, ys, grad, &kept.0, &kept.1], |gpu, [w, y, g, u, v]| {
                let products = gpu.row_dots(w, v, (rows, cols), 0)?;
                let along = gpu.row_dots(g, y, (rows, cols), cols)?;
                let (rows, cols) = (size(rows)?, size(cols)?);
                let out = gpu.map("spectral_gradient", weight.elem_count(), |out, n| {
                    args![g, u, v, &products, &along, out, rows, cols, n]
                })?;
                Ok(Some(out.tensor(weight.shape())))
            })
        },
    );
    apply1(&contiguous(weight)?, op)
}
