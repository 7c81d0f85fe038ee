//! Two-dimensional convolution.

mod op;
mod products;
mod upsampled;
mod windows;
mod winograd;

use crate::check::{f32_only, images, vector};
use crate::composed;
use crate::layout::{channels_first, channels_last};
use crate::tape::{apply2, apply3, contiguous};
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

/// Zeros added around an image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const NONE: Self = Self::uniform(0);

    /// `p` pixels on all four sides.
    pub const fn uniform(p: usize) -> Self {
        Self { top: p, bottom: p, left: p, right: p }
    }

    /// Keras's 'same' padding of a `side_h` by `side_w` image for a kernel of `k` by `k`: the output has
    /// `ceil(side / stride)` pixels a side, and an odd pixel goes to the bottom and to the right.
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn same(side_h: usize, side_w: usize, k: usize, stride: usize) -> Self {
        let total = |side: usize| ((side.div_ceil(stride).max(1) - 1) * stride + k).saturating_sub(side);
        let (h, w) = (total(side_h), total(side_w));
        Self { top: h / 2, bottom: h - h / 2, left: w / 2, right: w - w / 2 }
    }
}

/// How a convolution moves over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Pixels between neighbouring windows, on both axes.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: Padding,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: Padding::NONE }
    }
}

impl Conv2dConfig {
    /// The height and width of the output for an `h` by `w` image and a `kh` by `kw` kernel, or `None` where the
    /// kernel does not fit.
    pub fn out_size(&self, (h, w): (usize, usize), (kh, kw): (usize, usize)) -> Option<(usize, usize)> {
        let axis = |size: usize, k: usize| Some(size.checked_sub(k)?.checked_div(self.stride)? + 1);
        let p = self.padding;
        Some((axis(h + p.top + p.bottom, kh)?, axis(w + p.left + p.right, kw)?))
    }
}

/// Convolution (as networks mean it: the kernel is not flipped). `xs` is `(b, c, h, w)`, `weight` `(o, c, kh, kw)`,
/// `bias` `(o)`, and the result `(b, o, oh, ow)`.
pub fn conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let op = "conv2d";
    let (size, kernel) = check(op, xs, weight, bias)?;
    if cfg.out_size(size, kernel).is_none() {
        bail!("{op}: a kernel of {:?} with {cfg:?} does not fit images of shape {:?}", weight.dims(), xs.dims());
    }
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() {
        return crate::cuda::conv2d(xs, weight, bias, cfg);
    }
    if !xs.device().is_cpu() {
        return composed::conv2d(xs, weight, bias, cfg);
    }
    let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
    channels_first(&match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, op::Conv(*cfg)),
        None => apply2(&xs, &weight, op::Conv(*cfg)),
    }?)
}

/// The sum of [`conv2d`] without a bias and `addend` `(b, o, oh, ow)`, such as the shortcut of a residual block, without a pass
/// over memory of its own.
pub fn conv2d_add(xs: &Tensor, weight: &Tensor, addend: &Tensor, cfg: &Conv2dConfig) -> Result<Tensor> {
    let op = "conv2d_add";
    let (size, kernel) = check(op, xs, weight, None)?;
    f32_only(op, &[("addend", addend)])?;
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
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() {
        return crate::cuda::conv2d_add(xs, weight, addend, cfg);
    }
    if !xs.device().is_cpu() {
        return composed::conv2d(xs, weight, None, cfg)? + addend;
    }
    let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
    channels_first(&apply3(&xs, &weight, &channels_last(addend)?, op::ConvAdd(*cfg))?)
}

/// Nearest 2x upsampling, then a 3x3 convolution with padding 1: `xs` is `(b, c, h, w)`, `weight` `(o, c, 3, 3)`,
/// `bias` `(o)`, and the result `(b, o, 2h, 2w)`.
pub fn upsample2x_conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "upsample2x_conv2d";
    let (_, kernel) = check(op, xs, weight, bias)?;
    if kernel != (3, 3) {
        bail!("{op}: weight has shape {:?}, expected kernels of 3x3", weight.dims());
    }
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() {
        return crate::cuda::upsample2x_conv2d(xs, weight, bias);
    }
    if !xs.device().is_cpu() {
        return composed::upsample2x_conv2d(xs, weight, bias);
    }
    let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
    channels_first(&match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, upsampled::UpsampledConv),
        None => apply2(&xs, &weight, upsampled::UpsampledConv),
    }?)
}

/// Checks types and shapes; the heights and widths of the images and of the kernels.
fn check(op: &str, xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<((usize, usize), (usize, usize))> {
    f32_only(op, &[("xs", xs), ("weight", weight)])?;
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
