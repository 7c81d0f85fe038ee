//! Dropout's masks: what they do to an input, and to its gradient.

use crate::check::{f32_only, slice, with_slice};
use crate::composed;
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::simd::vectorised;
use crate::tape::{apply1, contiguous};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use std::ops::Range;

/// Which elements of a tensor dropout keeps, and what it multiplies these by.
#[derive(Clone, Debug)]
pub struct DropoutMask {
    /// One byte for each element, 0 where it is dropped: in row-major order, but for images `(b, c, h, w)` pixel by pixel, with the
    /// channels of each side by side.
    pub keep: Vec<u8>,
    /// The factor of the others, `1 / (1 - p)` in dropout's inverted form.
    pub scale: f32,
}

impl DropoutMask {
    /// Fails unless there is a byte for each element.
    pub(crate) fn check(&self, op: &str, xs: &Tensor) -> Result<()> {
        if self.keep.len() != xs.elem_count() {
            bail!("{op}: the mask has {} elements, xs has shape {:?}", self.keep.len(), xs.dims());
        }
        Ok(())
    }

    /// Drops and scales a part of the elements.
    pub(crate) fn apply(&self, part: Range<usize>, xs: &mut [f32]) {
        drop_and_scale(&self.keep[part], self.scale, xs);
    }
}

vectorised! {
    fn drop_and_scale(keep: &'a [u8], scale: f32, xs: &'a mut [f32]) {
        for (x, &keep) in xs.iter_mut().zip(keep) {
            *x = if keep != 0 { *x * scale } else { 0. };
        }
    }
}

/// Elements that the mask keeps, scaled, and zeros; `xs` may have any shape. The mask takes no gradient.
pub fn dropout(xs: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    f32_only("dropout", &[("xs", xs)])?;
    mask.check("dropout", xs)?;
    if !xs.device().is_cpu() {
        return composed::dropout(xs, &mask);
    }
    match xs.rank() {
        4 => channels_first(&apply1(&channels_last(xs)?, mask)?),
        _ => apply1(&contiguous(xs)?, mask),
    }
}

impl DropoutMask {
    fn applied(&self, xs: &[f32]) -> Vec<f32> {
        const CHUNK: usize = 1 << 14;
        filled(xs.len(), CHUNK, |i, ys| {
            let part = i * CHUNK..i * CHUNK + ys.len();
            ys.copy_from_slice(&xs[part.clone()]);
            self.apply(part, ys);
        })
    }
}

impl CustomOp1 for DropoutMask {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ys = self.applied(slice(self.name(), storage, layout)?);
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad_xs = with_slice(self.name(), grad, |g| Ok(self.applied(g)))?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
