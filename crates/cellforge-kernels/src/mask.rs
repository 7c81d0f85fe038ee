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
    /// Empty where the mask lies on a device.
    keep: Vec<u8>,
    on_device: Option<Tensor>,
    scale: f32,
}

impl DropoutMask {
    /// A mask with one byte for each element, 0 where it is dropped: in row-major order, but for images `(b, c, h, w)` pixel by pixel,
    /// with the channels of each side by side. The others are multiplied by `scale`, which is `1 / (1 - p)` in dropout's inverted form.
    #[must_use]
    pub fn new(keep: Vec<u8>, scale: f32) -> Self {
        Self { keep, on_device: None, scale }
    }

    /// The mask of `len` elements that a generator of `ChaCha12Rng::from_seed(seed)` draws, made on the GPU: elements are kept where 16
    /// bits of it are not below `threshold`, taken in their order from `next_u64`, the lowest first, and each `chunk` of elements (a
    /// multiple of 32) begins the next stream of the generator.
    ///
    /// # Errors
    /// Those of the device.
    #[cfg(feature = "cuda")]
    pub fn drawn_on(
        device: &candle_core::Device,
        seed: &[u8; 32],
        len: usize,
        chunk: usize,
        threshold: u32,
        scale: f32,
    ) -> Result<Self> {
        let on_device = crate::cuda::drawn_mask(device, seed, len, chunk, threshold)?;
        Ok(Self { keep: Vec::new(), on_device: Some(on_device), scale })
    }

    /// Fails unless there is a byte for each element, where the elements are.
    pub(crate) fn check(&self, op: &str, xs: &Tensor) -> Result<()> {
        let len = self.on_device.as_ref().map_or(self.keep.len(), Tensor::elem_count);
        if len != xs.elem_count() {
            bail!("{op}: the mask has {len} elements, xs has shape {:?}", xs.dims());
        }
        if self.on_device.as_ref().is_some_and(|mask| !mask.device().same_device(xs.device())) {
            bail!("{op}: the mask and xs are on two devices");
        }
        Ok(())
    }

    /// The bytes in the memory of a device.
    pub(crate) fn on(&self, device: &candle_core::Device) -> Result<Tensor> {
        match &self.on_device {
            Some(mask) => Ok(mask.clone()),
            None => Tensor::from_slice(&self.keep, self.keep.len(), device),
        }
    }

    /// The factor of the elements that are kept.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
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
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() {
        return crate::cuda::dropout(xs, &mask);
    }
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
