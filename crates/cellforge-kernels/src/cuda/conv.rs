//! Convolutions, with a bias or images to be added, and behind an upsampling.

use super::bias::bias_gradient;
use super::op::{Gradients2, kernel2, kernel3};
use super::with_ptrs;
use crate::config::{Conv2dConfig, Padding};
use crate::gpu::cudnn::{Geometry, Operand, Pass};
use crate::gpu::{Buffer, Gpu, Ptr, args, elements, size};
use crate::layout::{channels_first, channels_last};
use crate::product::Precision;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::{Layout, Result, Shape, Tensor, bail};

const CONV: &str = "conv2d";
const UPSAMPLED: &str = "upsample2x_conv2d";

pub(crate) fn conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let (xs, weight, cfg) = (channels_last(xs)?, contiguous(weight)?, *cfg);
    let Some(bias) = bias else {
        let op = kernel2(
            CONV,
            move |gpu, ptrs, layouts| conv_forward(gpu, ptrs, layouts, Addend::Nothing, &cfg),
            move |args, _, grad| conv_gradients(args, grad, &cfg),
        );
        return channels_first(&apply2(&xs, &weight, op)?);
    };
    let op = kernel3(
        CONV,
        move |gpu, [x, w, bias], [x_l, w_l, _]| conv_forward(gpu, [x, w], [x_l, w_l], Addend::Bias(bias), &cfg),
        move |[x, w, bias], _, grad, _| {
            let (by_x, by_w) = conv_gradients([x, w], grad, &cfg)?;
            Ok((by_x, by_w, bias_gradient(CONV, bias, grad)?))
        },
    );
    channels_first(&apply3(&xs, &weight, &contiguous(bias)?, op)?)
}

pub(crate) fn conv2d_add(xs: &Tensor, weight: &Tensor, addend: &Tensor, cfg: &Conv2dConfig) -> Result<Tensor> {
    let cfg = *cfg;
    let op = kernel3(
        CONV,
        move |gpu, [x, w, images], [x_l, w_l, _]| conv_forward(gpu, [x, w], [x_l, w_l], Addend::Images(images), &cfg),
        move |[x, w, _], _, grad, _| {
            let (by_x, by_w) = conv_gradients([x, w], grad, &cfg)?;
            Ok((by_x, by_w, Some(grad.clone())))
        },
    );
    channels_first(&apply3(&channels_last(xs)?, &contiguous(weight)?, &channels_last(addend)?, op)?)
}

pub(crate) fn upsample2x_conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<Tensor> {
    let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
    let Some(bias) = bias else {
        let op = kernel2(
            UPSAMPLED,
            move |gpu, ptrs, layouts| upsampled_forward(gpu, ptrs, layouts, None, precision),
            move |args, _, grad| upsampled_gradients(args, grad, precision),
        );
        return channels_first(&apply2(&xs, &weight, op)?);
    };
    let op = kernel3(
        UPSAMPLED,
        move |gpu, [x, w, bias], [x_l, w_l, _]| upsampled_forward(gpu, [x, w], [x_l, w_l], Some(bias), precision),
        move |[x, w, bias], _, grad, _| {
            let (by_x, by_w) = upsampled_gradients([x, w], grad, precision)?;
            Ok((by_x, by_w, bias_gradient(UPSAMPLED, bias, grad)?))
        },
    );
    channels_first(&apply3(&xs, &weight, &contiguous(bias)?, op)?)
}

/// A convolution as it was asked for, which may have more padding on one side than on the other. cuDNN has no such thing: the image is
/// then framed with zeros first.
struct Framed {
    geometry: Geometry,
    /// Height and width of the image without the frame, and the rows above and columns left of it, where there is one.
    frame: Option<((usize, usize), (i32, i32))>,
}

impl Framed {
    /// For images `(b, h, w, c)` and weights `(o, c, kh, kw)`.
    fn new(xs: &[usize], weight: &[usize], cfg: &Conv2dConfig) -> Result<Self> {
        let (&[batch, h, w, c], &[o, _, kh, kw]) = (xs, weight) else {
            bail!("{CONV}: expected images and kernels, got shapes {xs:?} and {weight:?}")
        };
        let Padding { top, bottom, left, right } = cfg.padding;
        let kernel = (o, kh, kw);
        if top == bottom && left == right {
            let geometry = Geometry { batch, image: (h, w, c), kernel, stride: cfg.stride, padding: (top, left) };
            return Ok(Self { geometry, frame: None });
        }
        let image = (h + top + bottom, w + left + right, c);
        let geometry = Geometry { batch, image, kernel, stride: cfg.stride, padding: (0, 0) };
        Ok(Self { geometry, frame: Some(((h, w), (top as i32, left as i32))) })
    }

    /// The images, in their frame where they need one.
    fn framed(&self, gpu: &Gpu, xs: Ptr) -> Result<Operand> {
        let Some((inner, margin)) = self.frame else { return Ok(Operand::Plain(xs)) };
        let (h, w, c) = self.geometry.image;
        gpu.framed(xs, (self.geometry.batch, c), inner, (h, w), margin).map(Operand::Made)
    }

    fn out_shape(&self) -> Shape {
        let (oh, ow) = self.geometry.grid();
        (self.geometry.batch, oh, ow, self.geometry.kernel.0).into()
    }
}

impl Gpu {
    /// `(o, rows, cols)` to `(o, cols, rows)`: kernels between the two orders of channels and taps, which are one for kernels of one tap.
    fn turned(&self, kernels: Ptr, o: usize, rows: usize, cols: usize) -> Result<Operand> {
        if rows == 1 || cols == 1 {
            return Ok(Operand::Plain(kernels));
        }
        let turned = self.buffer(o * rows * cols)?;
        self.transpose(kernels, turned.ptr, o, rows, cols)?;
        Ok(Operand::Made(turned))
    }

    /// Images with zeros around them, or without some of their edges: `from` and `to` are heights and widths.
    fn framed(
        &self,
        xs: Ptr,
        (b, c): (usize, usize),
        from: (usize, usize),
        to: (usize, usize),
        (top, left): (i32, i32),
    ) -> Result<Buffer> {
        let [h, w, channels, oh, ow] = [from.0, from.1, c, to.0, to.1].map(|n| n as i32);
        self.map("pad", b * to.0 * to.1 * c, |ys, n| args![xs, ys, n, h, w, channels, oh, ow, top, left])
    }
}

/// What is added to a convolution's result.
enum Addend {
    Nothing,
    /// A number for each channel.
    Bias(Ptr),
    /// Images of the result's shape.
    Images(Ptr),
}

/// The convolution of images `(b, h, w, c)` with weights `(o, c, kh, kw)`.
fn conv_forward(
    gpu: &Gpu,
    [xs, weight]: [Ptr; 2],
    [xs_l, weight_l]: [&Layout; 2],
    addend: Addend,
    cfg: &Conv2dConfig,
) -> Result<(Buffer, Shape)> {
    let plan = Framed::new(xs_l.dims(), weight_l.dims(), cfg)?;
    let (c, (o, kh, kw)) = (plan.geometry.image.2, plan.geometry.kernel);
    let images = plan.framed(gpu, xs)?;
    let kernels = gpu.turned(weight, o, c, kh * kw)?;
    let ys = gpu.convolve(Pass::Forward, plan.geometry, cfg.precision, [images.ptr(), kernels.ptr()])?;
    let (bias, images) = match addend {
        Addend::Nothing => return Ok((ys, plan.out_shape())),
        Addend::Bias(bias) => (Some(bias), None),
        Addend::Images(images) => (None, Some(images)),
    };
    let len = plan.geometry.output_len();
    gpu.launch("add_in_place", elements(len)?, &args![&ys, bias, images, size(len)?, size(o)?])?;
    Ok((ys, plan.out_shape()))
}

/// The gradients of the input `(b, h, w, c)` and of the weights `(o, c, kh, kw)`, each where it is asked for.
fn conv_gradients([xs, weight]: [&Tensor; 2], grad: &Tensor, cfg: &Conv2dConfig) -> Result<Gradients2> {
    let plan = Framed::new(xs.dims(), weight.dims(), cfg)?;
    let geometry = plan.geometry;
    let ((h, w, c), (o, kh, kw)) = (geometry.image, geometry.kernel);
    with_ptrs(CONV, [xs, weight, grad], |gpu, [xs_ptr, weight_ptr, grad]| {
        let grad_xs = match wants(xs) {
            true => {
                let kernels = gpu.turned(weight_ptr, o, c, kh * kw)?;
                let whole = gpu.convolve(Pass::InputGradient, geometry, cfg.precision, [kernels.ptr(), grad])?;
                let inner = match plan.frame {
                    None => whole,
                    Some((inner, (top, left))) => {
                        gpu.framed(whole.ptr, (geometry.batch, c), (h, w), inner, (-top, -left))?
                    }
                };
                Some(inner.tensor(xs.shape()))
            }
            false => None,
        };
        let grad_weight = match wants(weight) {
            true => {
                let images = plan.framed(gpu, xs_ptr)?;
                let kernels = gpu.convolve(Pass::WeightGradient, geometry, cfg.precision, [images.ptr(), grad])?;
                let turned = match gpu.turned(kernels.ptr, o, kh * kw, c)? {
                    Operand::Plain(_) => kernels,
                    Operand::Made(turned) => turned,
                };
                Some(turned.tensor(weight.shape()))
            }
            false => None,
        };
        Ok((grad_xs, grad_weight))
    })
}

/// The convolution that makes all phases of an upsampled image (see `kernels.cu`), of images `(b, h, w, c)` and weights `(o, c, 3, 3)`.
fn phases(xs: &[usize], weight: &[usize]) -> Result<Geometry> {
    match (xs, weight) {
        (&[batch, h, w, c], &[o, _, 3, 3]) => {
            Ok(Geometry { batch, image: (h, w, c), kernel: (4 * o, 2, 2), stride: 1, padding: (1, 1) })
        }
        _ => bail!("{UPSAMPLED}: expected images and 3x3 kernels, got shapes {xs:?} and {weight:?}"),
    }
}

impl Gpu {
    fn phase_weights(&self, weight: Ptr, geometry: &Geometry) -> Result<Buffer> {
        let (o, c) = (size(geometry.kernel.0 / 4)?, size(geometry.image.2)?);
        self.map("phase_weights", geometry.weight_len(), |out, n| args![weight, out, n, o, c])
    }

    fn place(&self, grad: Ptr, geometry: &Geometry) -> Result<Buffer> {
        let ((h, w, _), o) = (geometry.image, size(geometry.kernel.0 / 4)?);
        let (h, w) = (size(h)?, size(w)?);
        self.map("place_phases", geometry.output_len(), |zs, n| args![grad, zs, n, h, w, o])
    }
}

/// See [`crate::upsample2x_conv2d`].
fn upsampled_forward(
    gpu: &Gpu,
    [xs, weight]: [Ptr; 2],
    [xs_l, weight_l]: [&Layout; 2],
    bias: Option<Ptr>,
    precision: Precision,
) -> Result<(Buffer, Shape)> {
    let geometry = phases(xs_l.dims(), weight_l.dims())?;
    let ((h, w, _), o) = (geometry.image, geometry.kernel.0 / 4);
    let kernels = gpu.phase_weights(weight, &geometry)?;
    let zs = gpu.convolve(Pass::Forward, geometry, precision, [xs, kernels.ptr])?;
    let shape = Shape::from((geometry.batch, 2 * h, 2 * w, o));
    let (rows, cols, out) = (size(h)?, size(w)?, size(o)?);
    let ys = gpu.map("pick_phases", shape.elem_count(), |ys, n| args![&zs, bias, ys, n, rows, cols, out])?;
    Ok((ys, shape))
}

/// The gradients of [`upsampled_forward`], each where it is asked for.
fn upsampled_gradients([xs, weight]: [&Tensor; 2], grad: &Tensor, precision: Precision) -> Result<Gradients2> {
    let geometry = phases(xs.dims(), weight.dims())?;
    let (o, c) = (size(geometry.kernel.0 / 4)?, size(geometry.image.2)?);
    with_ptrs(UPSAMPLED, [xs, weight, grad], |gpu, [xs_ptr, weight_ptr, grad]| {
        let placed = gpu.place(grad, &geometry)?;
        let grad_xs = match wants(xs) {
            true => {
                let kernels = gpu.phase_weights(weight_ptr, &geometry)?;
                let grad = gpu.convolve(Pass::InputGradient, geometry, precision, [kernels.ptr, placed.ptr])?;
                Some(grad.tensor(xs.shape()))
            }
            false => None,
        };
        let grad_weight = match wants(weight) {
            true => {
                let kernels = gpu.convolve(Pass::WeightGradient, geometry, precision, [xs_ptr, placed.ptr])?;
                let folded =
                    gpu.map("phase_weights_gradient", weight.elem_count(), |out, n| args![&kernels, out, n, o, c])?;
                Some(folded.tensor(weight.shape()))
            }
            false => None,
        };
        Ok((grad_xs, grad_weight))
    })
}
