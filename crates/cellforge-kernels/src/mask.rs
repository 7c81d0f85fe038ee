//! Multiplication by a constant mask, which is what dropout does to its input and to its gradient.

use crate::activation::zip_map;
use crate::check::{f32_only, slice, with_slice};
use crate::composed;
use crate::layout::{channels_first, channels_last};
use crate::tape::{apply1, contiguous};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// `scale * x` where `keep` is 1 and 0 where it is 0; `xs` may have any shape and `keep` holds one byte for each of its elements:
/// in row-major order, but for images `(b, c, h, w)` pixel by pixel, with the channels of each side by side. The mask takes no
/// gradient.
pub fn mask_scale(xs: &Tensor, keep: Vec<u8>, scale: f32) -> Result<Tensor> {
    f32_only("mask_scale", &[("xs", xs)])?;
    if keep.len() != xs.elem_count() {
        bail!("mask_scale: the mask has {} elements, xs has shape {:?}", keep.len(), xs.dims());
    }
    if xs.device().is_cpu() {
        let op = MaskScale { keep, scale };
        match xs.rank() {
            4 => channels_first(&apply1(&channels_last(xs)?, op)?),
            _ => apply1(&contiguous(xs)?, op),
        }
    } else {
        composed::mask_scale(xs, &keep, scale)
    }
}

struct MaskScale {
    keep: Vec<u8>,
    scale: f32,
}

impl MaskScale {
    fn apply(&self, xs: &[f32]) -> Vec<f32> {
        let scale = self.scale;
        zip_map(&self.keep, xs, move |keep, x| if keep != 0 { x * scale } else { 0. })
    }
}

impl CustomOp1 for MaskScale {
    fn name(&self) -> &'static str {
        "mask_scale"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ys = self.apply(slice(self.name(), storage, layout)?);
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad_xs = with_slice(self.name(), grad, |g| Ok(self.apply(g)))?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
