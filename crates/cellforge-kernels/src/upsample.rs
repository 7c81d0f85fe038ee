//! Nearest 2x upsampling.

use crate::check::{images, images_only, slice};
use crate::composed;
use crate::device::on_device;
use crate::element::{Element, of_type};
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::simd::vectorised;
use crate::tape::apply1;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Each pixel becomes a 2x2 block: `(b, c, h, w)` to `(b, c, 2h, 2w)`.
pub fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    images_only("upsample_nearest2x", &[("xs", xs)])?;
    images("upsample_nearest2x", "xs", xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1(&channels_last(xs)?, Upsample2x)?),
        cuda = crate::cuda::upsample_nearest2x(xs),
        composed = composed::upsample_nearest2x(xs),
    )
}

vectorised! {
    /// A row of pixels becomes two.
    fn doubled<E: Element>(row: &'a [E], c: usize, pair: &'a mut [f32]) {
        let (first, second) = pair.split_at_mut(2 * row.len());
        for (to, pixel) in first.chunks_exact_mut(2 * c).zip(row.chunks_exact(c)) {
            let (left, right) = to.split_at_mut(c);
            for (to, x) in left.iter_mut().zip(pixel) {
                *to = x.widen();
            }
            right.copy_from_slice(left);
        }
        second.copy_from_slice(first);
    }

    /// Two rows of pixels become one of sums.
    fn summed<E: Element>(pair: &'a [E], c: usize, row: &'a mut [f32]) {
        let (first, second) = pair.split_at(2 * row.len());
        for ((to, a), b) in row.chunks_exact_mut(c).zip(first.chunks_exact(2 * c)).zip(second.chunks_exact(2 * c)) {
            for i in 0..c {
                to[i] = (a[i].widen() + a[c + i].widen()) + (b[i].widen() + b[c + i].widen());
            }
        }
    }
}

struct Upsample2x;

impl CustomOp1 for Upsample2x {
    fn name(&self) -> &'static str {
        "upsample_nearest2x"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            let row = w * c;
            let ys = filled::<E>(4 * xs.len(), 4 * row, |i, pair| doubled(&xs[i * row..][..row], c, pair));
            Ok((E::storage(ys), (b, 2 * h, 2 * w, c).into()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, w, c) = xs.dims4()?;
        of_type!(xs.dtype(), E => {
            let pair = 4 * w * c;
            let grad_xs = with_slice(self.name(), grad, |grad: &[E]| {
                Ok(filled::<E>(xs.elem_count(), w * c, |i, row| summed(&grad[i * pair..][..pair], c, row)))
            })?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}
