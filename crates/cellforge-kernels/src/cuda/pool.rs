//! Pools, and images that change their size.

use super::op::kernel1;
use super::with_ptrs;
use crate::gpu::{args, channels, size};
use crate::layout::{channels_first, channels_last};
use crate::pool_windows::Windows;
use crate::tape::apply1;
use candle_core::{Result, Shape, Tensor};

/// The numbers of pixels of an operation on images: their heights, widths and channels before and after.
struct Sizes {
    from: (usize, usize, usize, usize),
    to: (usize, usize),
}

impl Sizes {
    /// The sizes as kernels take them.
    fn ints(&self) -> Result<[i32; 5]> {
        let (_, h, w, c) = self.from;
        let int = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
        Ok([int(h)?, int(w)?, int(c)?, int(self.to.0)?, int(self.to.1)?])
    }

    fn out_shape(&self) -> Shape {
        (self.from.0, self.to.0, self.to.1, self.from.3).into()
    }
}

fn pool_sizes(xs: &Shape, windows: &Windows) -> Result<Sizes> {
    let from = xs.dims4()?;
    Ok(Sizes { from, to: (windows.out_size(from.1), windows.out_size(from.2)) })
}

pub(crate) fn max_pool2d(xs: &Tensor, windows: Windows) -> Result<Tensor> {
    const NAME: &str = "max_pool2d";
    let [window, stride, padding] = windows.ints();
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let sizes = pool_sizes(layout.shape(), &windows)?;
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("max_pool", shape.elem_count(), |ys, n| {
                args![x, ys, n, h, w, c, oh, ow, window, stride, padding]
            })?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let [h, w, c, oh, ow] = pool_sizes(xs.shape(), &windows)?.ints()?;
            with_ptrs(NAME, [xs, grad], |gpu, [x, g]| {
                let out = gpu.map("max_pool_gradient", xs.elem_count(), |out, n| {
                    args![x, g, out, n, h, w, c, oh, ow, window, stride, padding]
                })?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn avg_pool2d(xs: &Tensor, windows: Windows, count_include_pad: bool) -> Result<Tensor> {
    const NAME: &str = "avg_pool2d";
    let ([window, stride, padding], count) = (windows.ints(), i32::from(count_include_pad));
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let sizes = pool_sizes(layout.shape(), &windows)?;
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("avg_pool", shape.elem_count(), |ys, n| {
                args![x, ys, n, h, w, c, oh, ow, window, stride, padding, count]
            })?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let [h, w, c, oh, ow] = pool_sizes(xs.shape(), &windows)?.ints()?;
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("avg_pool_gradient", xs.elem_count(), |out, n| {
                    args![g, out, n, h, w, c, oh, ow, window, stride, padding, count]
                })?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn avg_pool2d_global(xs: &Tensor) -> Result<Tensor> {
    const NAME: &str = "avg_pool2d_global";
    let op = kernel1(
        NAME,
        |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let ys = gpu.buffer(b * c)?;
            gpu.launch("global_average", channels(c, b)?, &args![x, &ys, size(h * w)?, size(c)?])?;
            Ok((ys, (b, c).into()))
        },
        |xs, _, grad| {
            let (_, h, w, c) = xs.dims4()?;
            let (pixels, c) = (size(h * w)?, size(c)?);
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("global_average_gradient", xs.elem_count(), |out, n| args![g, out, n, pixels, c])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    apply1(&channels_last(xs)?, op)
}

pub(crate) fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    const NAME: &str = "upsample_nearest2x";
    let op = kernel1(
        NAME,
        |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let (rows, cols, channels) = (size(h)?, size(w)?, size(c)?);
            let ys = gpu.map("upsample", 4 * b * h * w * c, |ys, n| args![x, ys, n, rows, cols, channels])?;
            Ok((ys, (b, 2 * h, 2 * w, c).into()))
        },
        |xs, _, grad| {
            let (_, h, w, c) = xs.dims4()?;
            let (h, w, c) = (size(h)?, size(w)?, size(c)?);
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("upsample_gradient", xs.elem_count(), |out, n| args![g, out, n, h, w, c])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn pad_bottom_right(xs: &Tensor, rows: usize) -> Result<Tensor> {
    const NAME: &str = "pad_bottom_right";
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let from = layout.shape().dims4()?;
            let sizes = Sizes { from, to: (from.1 + rows, from.2 + rows) };
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("pad", shape.elem_count(), |ys, n| args![x, ys, n, h, w, c, oh, ow, 0i32, 0i32])?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let from = xs.dims4()?;
            let [oh, ow, c, h, w] = Sizes { from, to: (from.1 + rows, from.2 + rows) }.ints()?;
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("pad", xs.elem_count(), |out, n| args![g, out, n, h, w, c, oh, ow, 0i32, 0i32])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}
