//! Dropout: what a mask does to an input, and to its gradient.

use crate::check::{images_only, slice};
use crate::composed;
use crate::device::on_device;
use crate::element::{Element, of_type, widen_all};
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::mask::DropoutMask;
use crate::memory::filled;
use crate::tape::{apply1, contiguous};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Elements that the mask keeps, scaled, and zeros; `xs` may have any shape. The mask takes no gradient.
pub fn dropout(xs: &Tensor, mask: DropoutMask) -> Result<Tensor> {
    images_only("dropout", &[("xs", xs)])?;
    mask.check("dropout", xs)?;
    on_device!(
        xs.device(),
        cpu = {
            match xs.rank() {
                4 => channels_first(&apply1(&channels_last(xs)?, mask)?),
                _ => apply1(&contiguous(xs)?, mask),
            }
        },
        cuda = crate::cuda::dropout(xs, &mask),
        composed = composed::dropout(xs, &mask),
    )
}

impl DropoutMask {
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
        Ok(Self::on_device(on_device, scale))
    }

    fn applied<E: Element>(&self, xs: &[E]) -> Vec<E> {
        const CHUNK: usize = 1 << 14;
        filled(xs.len(), CHUNK, |i, ys| {
            let part = i * CHUNK..i * CHUNK + ys.len();
            widen_all(&xs[part.clone()], ys);
            self.apply(part, ys);
        })
    }
}

impl CustomOp1 for DropoutMask {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        of_type!(storage.dtype(), E => {
            let ys = self.applied(slice::<E>(self.name(), storage, layout)?);
            Ok((E::storage(ys), layout.shape().clone()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => {
            let grad_xs = with_slice(self.name(), grad, |g: &[E]| Ok(self.applied(g)))?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}
