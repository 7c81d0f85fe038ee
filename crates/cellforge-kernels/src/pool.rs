//! Max pooling and global average pooling.

use crate::check::{f32_only, images, slice, with_slice};
use crate::composed;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The maximum over square windows: `(b, c, h, w)` to `(b, c, (h + 2p - k) / s + 1, (w + 2p - k) / s + 1)`, rounded
/// down. Padded cells never win, and of equal maxima the first in reading order takes the whole gradient, as in
/// PyTorch. `padding` may be at most half the window.
pub fn max_pool2d(xs: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let op = "max_pool2d";
    f32_only(op, &[("xs", xs)])?;
    let (_, _, h, w) = images(op, "xs", xs)?;
    if window == 0 || stride == 0 || 2 * padding > window {
        bail!(
            "{op}: window {window}, stride {stride}, padding {padding}: expected window and stride of at least 1 and padding of at most half the window"
        );
    }
    if h + 2 * padding < window || w + 2 * padding < window {
        bail!("{op}: a window of {window} with padding {padding} does not fit images of shape {:?}", xs.dims());
    }
    if xs.device().is_cpu() {
        apply1(&xs.contiguous()?, MaxPool { window, stride, padding })
    } else {
        composed::max_pool2d(xs, window, stride, padding)
    }
}

/// The mean of each channel over the whole image: `(b, c, h, w)` to `(b, c)`.
pub fn avg_pool2d_global(xs: &Tensor) -> Result<Tensor> {
    f32_only("avg_pool2d_global", &[("xs", xs)])?;
    images("avg_pool2d_global", "xs", xs)?;
    if xs.device().is_cpu() { apply1(&xs.contiguous()?, GlobalAverage) } else { composed::avg_pool2d_global(xs) }
}

struct MaxPool {
    window: usize,
    stride: usize,
    padding: usize,
}

impl MaxPool {
    fn out_size(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.window) / self.stride + 1
    }

    /// The cells of one axis that the window at output position `at` covers.
    fn span(&self, at: usize, size: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        start.saturating_sub(self.padding)..(start + self.window - self.padding).min(size)
    }

    /// Calls `f(output position, index of the maximum)` for each window of one channel of one image.
    fn maxima(&self, plane: &[f32], (h, w): (usize, usize), mut f: impl FnMut(usize, usize)) {
        let (oh, ow) = (self.out_size(h), self.out_size(w));
        // The maximum of each column over the rows of the windows, and its row. Columns are independent, so that
        // this part, most of the comparisons, runs in vectors.
        let (mut values, mut from) = (vec![0f32; w], vec![0u32; w]);
        for i in 0..oh {
            let rows = self.span(i, h);
            values.copy_from_slice(&plane[rows.start * w..][..w]);
            from.fill(rows.start as u32);
            for row in rows.start + 1..rows.end {
                for ((value, from), &x) in values.iter_mut().zip(&mut from).zip(&plane[row * w..][..w]) {
                    let wins = (x > *value) | x.is_nan();
                    *value = if wins { x } else { *value };
                    *from = if wins { row as u32 } else { *from };
                }
            }
            for j in 0..ow {
                let cols = self.span(j, w);
                let mut best = cols.start;
                for col in cols.start + 1..cols.end {
                    let (x, value) = (values[col], values[best]);
                    // NaN wins, so that a broken network shows; of equal cells the first in reading order.
                    if x > value || x.is_nan() || (x == value && from[col] < from[best]) {
                        best = col;
                    }
                }
                f(i * ow + j, from[best] as usize * w + best);
            }
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (b, c, h, w) = layout.shape().dims4()?;
        let (oh, ow) = (self.out_size(h), self.out_size(w));
        let mut ys = vec![0f32; b * c * oh * ow];
        ys.par_chunks_mut(oh * ow).zip(xs.par_chunks(h * w)).for_each(|(ys, plane)| {
            self.maxima(plane, (h, w), |to, from| ys[to] = plane[from]);
        });
        Ok((CpuStorage::F32(ys), (b, c, oh, ow).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = xs.dims4()?;
        let (oh, ow) = (self.out_size(h), self.out_size(w));
        let mut grad_xs = vec![0f32; xs.elem_count()];
        with_slice(self.name(), xs, |xs| {
            with_slice(self.name(), grad, |grad| {
                let planes = xs.par_chunks(h * w).zip(grad.par_chunks(oh * ow));
                grad_xs.par_chunks_mut(h * w).zip(planes).for_each(|(grad_xs, (plane, grad))| {
                    self.maxima(plane, (h, w), |to, from| grad_xs[from] += grad[to]);
                });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}

struct GlobalAverage;

impl CustomOp1 for GlobalAverage {
    fn name(&self) -> &'static str {
        "avg_pool2d_global"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (b, c, h, w) = layout.shape().dims4()?;
        let mean = |plane: &[f32]| (plane.iter().map(|&x| f64::from(x)).sum::<f64>() / (h * w) as f64) as f32;
        let ys = xs.chunks(h * w).map(mean).collect();
        Ok((CpuStorage::F32(ys), (b, c).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = xs.dims4()?;
        let mut grad_xs = vec![0f32; xs.elem_count()];
        with_slice(self.name(), grad, |grad| {
            grad_xs.chunks_mut(h * w).zip(grad).for_each(|(plane, &g)| plane.fill(g / (h * w) as f32));
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
