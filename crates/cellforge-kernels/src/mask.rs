//! Dropout's masks.

use crate::simd::vectorised;
use candle_core::{Device, Result, Tensor, bail};
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

    /// A mask in the memory of a device.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(mask: Tensor, scale: f32) -> Self {
        Self { keep: Vec::new(), on_device: Some(mask), scale }
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
    pub(crate) fn on(&self, device: &Device) -> Result<Tensor> {
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
