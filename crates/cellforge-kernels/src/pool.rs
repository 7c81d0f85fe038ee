//! Max and average pooling over windows, and global average pooling.

use crate::check::{images, images_only, slice};
use crate::composed;
use crate::device::on_device;
use crate::element::{Element, of_type, widen_all};
use crate::elements::slope_at;
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::memory::{filled, filled_in_pieces};
use crate::pool_windows::{Window, Windows};
use crate::simd::vectorised;
use crate::tape::{BackwardAddingOne, apply1, apply1_adding};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// The maximum over square windows: `(b, c, h, w)` to `(b, c, (h + 2p - k) / s + 1, (w + 2p - k) / s + 1)`, rounded
/// down. Padded cells never win, and of equal maxima the first in reading order takes the whole gradient, as in
/// PyTorch. `padding` may be at most half the window.
pub fn max_pool2d(xs: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let windows = Windows { window, stride, padding };
    windows.check("max_pool2d", xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1(&channels_last(xs)?, MaxPool(windows))?),
        cuda = crate::cuda::max_pool2d(xs, windows),
        composed = composed::max_pool2d(xs, window, stride, padding),
    )
}

/// The mean over square windows, of the same shapes and with the same limits as [`max_pool2d`]. With `count_include_pad` padded
/// cells count as zeros, as PyTorch has it by default and Keras never; without it the mean is that of the window's cells inside
/// the image.
pub fn avg_pool2d(
    xs: &Tensor,
    window: usize,
    stride: usize,
    padding: usize,
    count_include_pad: bool,
) -> Result<Tensor> {
    let windows = Windows { window, stride, padding };
    windows.check("avg_pool2d", xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1_adding(&channels_last(xs)?, AveragePool { windows, count_include_pad })?),
        cuda = crate::cuda::avg_pool2d(xs, windows, count_include_pad),
        composed = composed::avg_pool2d(xs, window, stride, padding, count_include_pad),
    )
}

/// The mean over 2x2 pixels, side by side, of [`leaky_relu`](crate::leaky_relu): `(b, c, h, w)` to `(b, c, h / 2, w / 2)`, rounded down.
pub fn leaky_relu_avg_pool2x2(xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let op = "leaky_relu_avg_pool2x2";
    Windows::HALVES.check(op, xs)?;
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1(&channels_last(xs)?, LeakyAverage(negative_slope))?),
        cuda = crate::cuda::avg_pool2d(&crate::activation::leaky_relu(xs, negative_slope)?, Windows::HALVES, true),
        composed = composed::avg_pool2d(&composed::leaky_relu(xs, negative_slope)?, 2, 2, 0, true),
    )
}

/// The mean of each channel over the whole image: `(b, c, h, w)` to `(b, c)`, in `f32` whatever the images are.
pub fn avg_pool2d_global(xs: &Tensor) -> Result<Tensor> {
    images_only("avg_pool2d_global", &[("xs", xs)])?;
    images("avg_pool2d_global", "xs", xs)?;
    on_device!(
        xs.device(),
        cpu = apply1(&channels_last(xs)?, GlobalAverage),
        cuda = crate::cuda::avg_pool2d_global(xs),
        composed = composed::avg_pool2d_global(xs),
    )
}

/// Whether `x` takes the place of the maximum so far: NaN does, so that a broken network shows, and of equal numbers the first
/// stays.
#[inline(always)]
fn wins(x: f32, max: f32) -> bool {
    (x > max) | x.is_nan()
}

vectorised! {
    /// The maxima of an image's windows.
    fn maxima<E: Element>(windows: Windows, size: (usize, usize), xs: &'a [E], ys: &'a mut [f32]) {
        let c = xs.len() / (size.0 * size.1);
        for (cell, window) in windows.over(size) {
            let max = &mut ys[cell * c..][..c];
            max.fill(f32::NEG_INFINITY);
            for pixel in window.pixels() {
                for (max, x) in max.iter_mut().zip(&xs[pixel * c..][..c]) {
                    let x = x.widen();
                    *max = if wins(x, *max) { x } else { *max };
                }
            }
        }
    }

    /// The means of an image's windows.
    fn means<E: Element>(pool: &'a AveragePool, size: (usize, usize), xs: &'a [E], ys: &'a mut [f32]) {
        let c = xs.len() / (size.0 * size.1);
        for (cell, window) in pool.windows.over(size) {
            let mean = &mut ys[cell * c..][..c];
            mean.fill(0.);
            for pixel in window.pixels() {
                for (mean, x) in mean.iter_mut().zip(&xs[pixel * c..][..c]) {
                    *mean += x.widen();
                }
            }
            let share = pool.share(&window);
            for mean in mean {
                *mean *= share;
            }
        }
    }

    /// Two rows of pixels to the means of their leaky ReLUs over 2x2 pixels. `sums` is of a row's length.
    fn leaky_means<E: Element>(rows: [&'a [E]; 2], c: usize, negative_slope: f32, sums: &'a mut [f32], ys: &'a mut [f32]) {
        for ((sum, a), b) in sums.iter_mut().zip(rows[0]).zip(rows[1]) {
            let (a, b) = (a.widen(), b.widen());
            *sum = a * slope_at(a, negative_slope) + b * slope_at(b, negative_slope);
        }
        for (ys, sums) in ys.chunks_exact_mut(c).zip(sums.chunks_exact(2 * c)) {
            let (a, b) = sums.split_at(c);
            for ((y, a), b) in ys.iter_mut().zip(a).zip(b) {
                *y = (a + b) * 0.25;
            }
        }
    }

    /// The gradient of a row of pixels from that of the row of means that it is in. `shares` is of a row's length.
    fn leaky_shares<E: Element>(
        xs: &'a [E],
        grad: &'a [E],
        c: usize,
        negative_slope: f32,
        shares: &'a mut [f32],
        to: &'a mut [f32],
    ) {
        for (shares, grad) in shares.chunks_exact_mut(2 * c).zip(grad.chunks_exact(c)) {
            let (a, b) = shares.split_at_mut(c);
            for ((a, b), g) in a.iter_mut().zip(b).zip(grad) {
                *a = g.widen() * 0.25;
                *b = *a;
            }
        }
        for ((to, &share), &x) in to.iter_mut().zip(shares.iter()).zip(xs) {
            *to = share * slope_at(x.widen(), negative_slope);
        }
    }

    /// Adds, to an image, the gradients of its windows, shared out among their pixels.
    fn share_out<E: Element>(pool: &'a AveragePool, size: (usize, usize), grad: &'a [E], grad_xs: &'a mut [f32]) {
        let c = grad_xs.len() / (size.0 * size.1);
        for (cell, window) in pool.windows.over(size) {
            let share = pool.share(&window);
            for pixel in window.pixels() {
                for (to, g) in grad_xs[pixel * c..][..c].iter_mut().zip(&grad[cell * c..][..c]) {
                    *to += g.widen() * share;
                }
            }
        }
    }

    /// Adds the pixels of an image to sums of their channels.
    fn add_pixels<E: Element>(image: &'a [E], sums: &'a mut [f64]) {
        for pixel in image.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(pixel) {
                *sum += f64::from(x.widen());
            }
        }
    }

    /// Gives the gradients of an image's windows to the pixels that had the maxima.
    fn hand_back<E: Element>(
        windows: Windows,
        size: (usize, usize),
        xs: &'a [E],
        grad: &'a [E],
        grad_xs: &'a mut [f32],
    ) {
        grad_xs.fill(0.);
        let c = xs.len() / (size.0 * size.1);
        let (mut max, mut from) = (vec![0f32; c], vec![0u32; c]);
        for (cell, window) in windows.over(size) {
            max.fill(f32::NEG_INFINITY);
            from.fill(u32::MAX);
            for pixel in window.pixels() {
                let place = pixel as u32;
                for ((max, from), x) in max.iter_mut().zip(&mut from).zip(&xs[pixel * c..][..c]) {
                    let x = x.widen();
                    let wins = wins(x, *max);
                    *max = if wins { x } else { *max };
                    *from = if wins { place } else { *from };
                }
            }
            let grad = &grad[cell * c..][..c];
            for pixel in window.pixels() {
                let place = pixel as u32;
                for ((to, &from), &g) in grad_xs[pixel * c..][..c].iter_mut().zip(&from).zip(grad) {
                    *to += if from == place { g.widen() } else { 0. };
                }
            }
        }
    }
}

struct MaxPool(Windows);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        let (oh, ow) = (self.0.out_size(h), self.0.out_size(w));
        let image = h * w * c;
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            let max = |i: usize, ys: &mut [f32]| maxima(self.0, (h, w), &xs[i * image..][..image], ys);
            let ys = filled::<E>(b * oh * ow * c, oh * ow * c, max);
            Ok((E::storage(ys), (b, oh, ow, c).into()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => {
            let values = with_slice(self.name(), xs, |values| {
                with_slice(self.name(), grad, |grad| self.gradient::<E>(xs.shape(), values, grad))
            })?;
            Ok(Some(Tensor::from_vec(values, xs.shape(), xs.device())?))
        })
    }
}

impl MaxPool {
    fn gradient<E: Element>(&self, shape: &Shape, xs: &[E], grad: &[E]) -> Result<Vec<E>> {
        let (_, h, w, c) = shape.dims4()?;
        let (image, out) = (h * w * c, self.0.out_size(h) * self.0.out_size(w) * c);
        Ok(filled(xs.len(), image, |i, grad_xs| {
            hand_back(self.0, (h, w), &xs[i * image..][..image], &grad[i * out..][..out], grad_xs);
        }))
    }
}

struct AveragePool {
    windows: Windows,
    count_include_pad: bool,
}

impl AveragePool {
    /// What each cell counts for in the mean of its window.
    fn share(&self, window: &Window) -> f32 {
        let cells = if self.count_include_pad { self.windows.window.pow(2) } else { window.len() };
        1. / cells as f32
    }
}

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        let (oh, ow) = (self.windows.out_size(h), self.windows.out_size(w));
        let image = h * w * c;
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            let mean = |i: usize, ys: &mut [f32]| means(self, (h, w), &xs[i * image..][..image], ys);
            let ys = filled::<E>(b * oh * ow * c, oh * ow * c, mean);
            Ok((E::storage(ys), (b, oh, ow, c).into()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => self.gradient::<E>(xs, grad, |_, image| image.fill(0.)))
    }
}

impl AveragePool {
    /// What `begin` makes of each image's memory, by its number, and the gradient added to it.
    fn gradient<E: Element>(
        &self,
        xs: &Tensor,
        grad: &Tensor,
        begin: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Option<Tensor>> {
        let (_, h, w, c) = xs.dims4()?;
        let out = self.windows.out_size(h) * self.windows.out_size(w) * c;
        let grad_xs = with_slice(self.name(), grad, |grad: &[E]| {
            Ok(filled::<E>(xs.elem_count(), h * w * c, |i, grad_xs| {
                begin(i, grad_xs);
                share_out(self, (h, w), &grad[i * out..][..out], grad_xs);
            }))
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}

impl BackwardAddingOne for AveragePool {
    fn bwd_adding(&self, xs: &Tensor, grad: &Tensor, more: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => with_slice(self.name(), more, |more: &[E]| {
            self.gradient::<E>(xs, grad, |i, image| widen_all(&more[i * image.len()..][..image.len()], image))
        }))
    }
}

/// See [`leaky_relu_avg_pool2x2`]; with this slope below zero.
struct LeakyAverage(f32);

impl CustomOp1 for LeakyAverage {
    fn name(&self) -> &'static str {
        "leaky_relu_avg_pool2x2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        let (oh, ow, row) = (h / 2, w / 2, w * c);
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            let ys = filled::<E>(b * oh * ow * c, oh * ow * c, |i, ys| {
                let image = &xs[i * h * row..][..h * row];
                let mut sums = vec![0f32; row];
                for (ys, rows) in ys.chunks_exact_mut(ow * c).zip(image.chunks_exact(2 * row)) {
                    let (upper, lower) = rows.split_at(row);
                    leaky_means([upper, lower], c, self.0, &mut sums, ys);
                }
            });
            Ok((E::storage(ys), (b, oh, ow, c).into()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => {
            let values = with_slice(self.name(), xs, |values| {
                with_slice(self.name(), grad, |grad| self.gradient::<E>(xs.shape(), values, grad))
            })?;
            Ok(Some(Tensor::from_vec(values, xs.shape(), xs.device())?))
        })
    }
}

impl LeakyAverage {
    fn gradient<E: Element>(&self, shape: &Shape, xs: &[E], grad: &[E]) -> Result<Vec<E>> {
        let (_, h, w, c) = shape.dims4()?;
        let (oh, ow, row) = (h / 2, w / 2, w * c);
        Ok(filled_in_pieces(xs.len(), h * row, |i, pieces| {
            let image = &xs[i * h * row..][..h * row];
            // What is beyond the last window gets nothing.
            let mut shares = vec![0f32; row];
            for (y, xs) in image.chunks_exact(row).enumerate() {
                pieces.next(row, |to| match y / 2 < oh {
                    true => {
                        let grad = &grad[(i * oh + y / 2) * ow * c..][..ow * c];
                        leaky_shares(xs, grad, c, self.0, &mut shares, to);
                    }
                    false => to.fill(0.),
                });
            }
        }))
    }
}

struct GlobalAverage;

impl CustomOp1 for GlobalAverage {
    fn name(&self) -> &'static str {
        "avg_pool2d_global"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = layout.shape().dims4()?;
        let image = h * w * c;
        let ys = of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name(), storage, layout)?;
            filled(b * c, c, |i, means| {
                let mut sums = vec![0f64; c];
                add_pixels(&xs[i * image..][..image], &mut sums);
                for (mean, sum) in means.iter_mut().zip(sums) {
                    *mean = (sum / (h * w) as f64) as f32;
                }
            })
        });
        Ok((CpuStorage::F32(ys), (b, c).into()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, h, w, c) = xs.dims4()?;
        let spread = |grad: &[f32], i: usize, image: &mut [f32]| {
            let grad: Vec<f32> = grad[i * c..][..c].iter().map(|g| g / (h * w) as f32).collect();
            image.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(&grad));
        };
        of_type!(xs.dtype(), E => {
            let grad_xs = with_slice(self.name(), grad, |grad| {
                Ok(filled::<E>(xs.elem_count(), h * w * c, |i, image| spread(grad, i, image)))
            })?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}
