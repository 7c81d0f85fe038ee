//! Nearest 2x upsampling.

use crate::check::{f32_only, images, slice};
use crate::composed;
use crate::device::on_device;
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Each pixel becomes a 2x2 block: `(b, c, h, w)` to `(b, c, 2h, 2w)`.
pub fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    f32_only("upsample_nearest2x", &[("xs", xs)])?;
    images("upsample_nearest2x", "xs", xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1(&channels_last(xs)?, Upsample2x)?),
        cuda = crate::cuda::upsample_nearest2x(xs),
        composed = composed::upsample_nearest2x(xs),
    )
}

struct Upsample2x;

impl CustomOp1 for Upsample2x {
    fn name(&self) -> &'static str {
        "upsample_nearest2x"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (b, h, w, c) = layout.shape().dims4()?;
        // A row of pixels becomes two.
        let ys = filled(4 * xs.len(), 4 * w * c, |i, pair| {
            let row = &xs[i * w * c..][..w * c];
            let (first, second) = pair.split_at_mut(2 * w * c);
            for (to, pixel) in first.chunks_mut(2 * c).zip(row.chunks(c)) {
                to[..c].copy_from_slice(pixel);
                to[c..].copy_from_slice(pixel);
            }
            second.copy_from_slice(first);
        });
        Ok((CpuStorage::F32(ys), (b, 2 * h, 2 * w, c).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, w, c) = xs.dims4()?;
        let grad_xs = with_slice(self.name(), grad, |grad| {
            Ok(filled(xs.elem_count(), w * c, |i, row| {
                let (first, second) = grad[i * 4 * w * c..][..4 * w * c].split_at(2 * w * c);
                for ((to, a), b) in row.chunks_mut(c).zip(first.chunks(2 * c)).zip(second.chunks(2 * c)) {
                    for i in 0..c {
                        to[i] = (a[i] + a[c + i]) + (b[i] + b[c + i]);
                    }
                }
            }))
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
