//! Nearest 2x upsampling.

use crate::check::{f32_only, images, slice, with_slice};
use crate::composed;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Each pixel becomes a 2x2 block: `(b, c, h, w)` to `(b, c, 2h, 2w)`.
pub fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    f32_only("upsample_nearest2x", &[("xs", xs)])?;
    images("upsample_nearest2x", "xs", xs)?;
    if xs.device().is_cpu() { apply1(&xs.contiguous()?, Upsample2x) } else { composed::upsample_nearest2x(xs) }
}

struct Upsample2x;

impl CustomOp1 for Upsample2x {
    fn name(&self) -> &'static str {
        "upsample_nearest2x"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (b, c, h, w) = layout.shape().dims4()?;
        let mut ys = vec![0f32; 4 * xs.len()];
        ys.par_chunks_mut(4 * h * w).zip(xs.par_chunks(h * w)).for_each(|(ys, xs)| {
            for (pair, row) in ys.chunks_mut(4 * w).zip(xs.chunks(w)) {
                let (first, second) = pair.split_at_mut(2 * w);
                for (y, &x) in first.chunks_mut(2).zip(row) {
                    y.fill(x);
                }
                second.copy_from_slice(first);
            }
        });
        Ok((CpuStorage::F32(ys), (b, c, 2 * h, 2 * w).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = xs.dims4()?;
        let mut grad_xs = vec![0f32; xs.elem_count()];
        with_slice(self.name(), grad, |grad| {
            grad_xs.par_chunks_mut(h * w).zip(grad.par_chunks(4 * h * w)).for_each(|(grad_xs, grad)| {
                for (row, pair) in grad_xs.chunks_mut(w).zip(grad.chunks(4 * w)) {
                    let (first, second) = pair.split_at(2 * w);
                    for ((g, a), b) in row.iter_mut().zip(first.chunks(2)).zip(second.chunks(2)) {
                        *g = (a[0] + a[1]) + (b[0] + b[1]);
                    }
                }
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
