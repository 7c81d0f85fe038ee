//! Two-dimensional convolution.

mod op;
mod products;
mod upsampled;
mod windows;
mod winograd;

use crate::check::{f32_only, images, images_only, vector};
use crate::composed;
use crate::config::Conv2dConfig;
use crate::device::on_device;
use crate::layout::{channels_first, channels_last};
use crate::product::Precision;
use crate::tape::{apply3, contiguous};
use crate::weighted;
use candle_core::{Result, Tensor, bail};
use std::cell::Cell;

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with convolutions that add up products in plain order, whatever is faster. Where [`conv2d`] takes fewer products
/// (Winograd's algorithm, for kernels of 3x3 and stride 1), its rounding error is some six times that of plain sums: about a
/// millionth of the largest output. That is far below what training notices, but a comparison with another program may.
pub fn with_plain_sums<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _restore = Restore(PLAIN.replace(true));
    f()
}

/// Convolution (as networks mean it: the kernel is not flipped). `xs` is `(b, c, h, w)`, `weight` `(o, c, kh, kw)`,
/// `bias` `(o)`, and the result `(b, o, oh, ow)`.
pub fn conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let op = "conv2d";
    check_fit(op, xs, weight, bias, cfg)?;
    on_device!(
        xs.device(),
        cpu = {
            let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
            channels_first(&weighted::apply(&xs, &weight, bias, op::Conv(*cfg))?)
        },
        cuda = crate::cuda::conv2d(xs, weight, bias, cfg),
        composed = composed::conv2d(xs, weight, bias, cfg),
    )
}

/// [`leaky_relu`](crate::leaky_relu) of [`conv2d`], without a pass over memory of its own. `negative_slope` must not be below 0.
pub fn conv2d_leaky_relu(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    cfg: &Conv2dConfig,
    negative_slope: f32,
) -> Result<Tensor> {
    let op = "conv2d_leaky_relu";
    check_fit(op, xs, weight, Some(bias), cfg)?;
    if negative_slope.is_nan() || negative_slope < 0. {
        bail!("{op}: the slope below zero is {negative_slope}, expected 0 or more");
    }
    on_device!(
        xs.device(),
        cpu = {
            let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
            channels_first(&apply3(&xs, &weight, &contiguous(bias)?, op::ConvLeakyRelu(*cfg, negative_slope))?)
        },
        cuda = crate::activation::leaky_relu(&crate::cuda::conv2d(xs, weight, Some(bias), cfg)?, negative_slope),
        composed = composed::leaky_relu(&composed::conv2d(xs, weight, Some(bias), cfg)?, negative_slope),
    )
}

/// The sum of [`conv2d`] without a bias and `addend` `(b, o, oh, ow)`, such as the shortcut of a residual block, without a pass
/// over memory of its own.
pub fn conv2d_add(xs: &Tensor, weight: &Tensor, addend: &Tensor, cfg: &Conv2dConfig) -> Result<Tensor> {
    let op = "conv2d_add";
    let (size, kernel) = check(op, xs, weight, None)?;
    images_only(op, &[("xs", xs), ("addend", addend)])?;
    let (b, _, _, _) = images(op, "xs", xs)?;
    let expected = cfg.out_size(size, kernel).map(|(oh, ow)| [b, weight.dims()[0], oh, ow]);
    if expected.is_none_or(|expected| addend.dims() != expected) {
        bail!(
            "{op}: images of shape {:?} and a kernel of {:?} with {cfg:?} do not give the addend's shape, {:?}",
            xs.dims(),
            weight.dims(),
            addend.dims()
        );
    }
    on_device!(
        xs.device(),
        cpu = {
            let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
            channels_first(&apply3(&xs, &weight, &channels_last(addend)?, op::ConvAdd(*cfg))?)
        },
        cuda = crate::cuda::conv2d_add(xs, weight, addend, cfg),
        composed = composed::conv2d(xs, weight, None, cfg)? + addend,
    )
}

/// Nearest 2x upsampling, then a 3x3 convolution with padding 1: `xs` is `(b, c, h, w)`, `weight` `(o, c, 3, 3)`,
/// `bias` `(o)`, and the result `(b, o, 2h, 2w)`. `precision` is what it multiplies, as in [`Conv2dConfig`].
pub fn upsample2x_conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Tensor> {
    let op = "upsample2x_conv2d";
    let (_, kernel) = check(op, xs, weight, bias)?;
    if kernel != (3, 3) {
        bail!("{op}: weight has shape {:?}, expected kernels of 3x3", weight.dims());
    }
    on_device!(
        xs.device(),
        cpu = {
            let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
            channels_first(&weighted::apply(&xs, &weight, bias, upsampled::UpsampledConv(precision))?)
        },
        cuda = crate::cuda::upsample2x_conv2d(xs, weight, bias, precision),
        composed = composed::upsample2x_conv2d(xs, weight, bias),
    )
}

/// As [`check`], and that a kernel fits the images.
fn check_fit(op: &str, xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<()> {
    let (size, kernel) = check(op, xs, weight, bias)?;
    if cfg.out_size(size, kernel).is_none() {
        bail!("{op}: a kernel of {:?} with {cfg:?} does not fit images of shape {:?}", weight.dims(), xs.dims());
    }
    Ok(())
}

/// Checks types and shapes; the heights and widths of the images and of the kernels.
fn check(op: &str, xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<((usize, usize), (usize, usize))> {
    images_only(op, &[("xs", xs)])?;
    f32_only(op, &[("weight", weight)])?;
    let (_, c, h, w) = images(op, "xs", xs)?;
    let (o, weight_c, kh, kw) = images(op, "weight", weight)?;
    if c != weight_c {
        bail!("{op}: xs {:?} and weight {:?} differ in their number of input channels", xs.dims(), weight.dims());
    }
    if let Some(bias) = bias {
        f32_only(op, &[("bias", bias)])?;
        vector(op, "bias", bias, o)?;
    }
    Ok(((h, w), (kh, kw)))
}
