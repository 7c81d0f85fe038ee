//! The custom op of the convolution on the CPU.

use super::Conv2dConfig;
use super::patches::Geometry;
use super::products::{gather, outer, scatter};
use crate::check::{slice, with_slice};
use crate::sum::channel_sums;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "conv2d";

/// Convolution of contiguous CPU tensors whose shapes have been checked. With a bias it is a ternary op, without one
/// a binary op.
pub(super) struct Conv(pub Conv2dConfig);

/// Which of two equal computations is run.
///
/// A convolution gathers patches of its input, `y = W patches(x)`. One of stride 1 can also be read the other way
/// round, as scattering patches of its output, `y = unpatches(W' x)`, where `W'` is the flipped kernel with its
/// channels exchanged. The patch matrix has as many rows for each tap as the patched side has channels, so the side
/// with fewer channels is patched: the last layer of a generator makes 3 channels of 128.
struct Plan {
    geometry: Geometry,
    /// Channels of the side that is not patched.
    channels: usize,
    scattered: bool,
}

impl Plan {
    fn new(xs: &[usize], weight: &[usize], cfg: &Conv2dConfig) -> Result<Self> {
        let (&[_, c, h, w], &[o, _, kh, kw]) = (xs, weight) else {
            bail!("{NAME}: expected images and kernels, got shapes {xs:?} and {weight:?}");
        };
        let Some((oh, ow)) = cfg.out_size((h, w), (kh, kw)) else {
            bail!("{NAME}: a kernel of {weight:?} with {cfg:?} does not fit images of shape {xs:?}");
        };
        let p = cfg.padding;
        let flips = cfg.stride == 1 && (kh, kw) != (1, 1) && p.top < kh && p.left < kw;
        if flips && 2 * o <= c {
            let pad = (kh - 1 - p.top, kw - 1 - p.left);
            let geometry = Geometry { image: (o, oh, ow), kernel: (kh, kw), stride: 1, pad, grid: (h, w) };
            return Ok(Self { geometry, channels: c, scattered: true });
        }
        let geometry = Geometry {
            image: (c, h, w),
            kernel: (kh, kw),
            stride: cfg.stride,
            pad: (p.top, p.left),
            grid: (oh, ow),
        };
        Ok(Self { geometry, channels: o, scattered: false })
    }

    fn out_shape(&self, batch: usize) -> Shape {
        let g = &self.geometry;
        if self.scattered { (batch, g.image.0, g.image.1, g.image.2) } else { (batch, self.channels, g.grid.0, g.grid.1) }
            .into()
    }

    fn forward(&self, xs: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let g = &self.geometry;
        if self.scattered {
            scatter(g, &flip(weight, g.image.0, self.channels, g.kernel), self.channels, bias, xs)
        } else {
            gather(g, weight, self.channels, bias, xs)
        }
    }

    fn input_gradient(&self, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let g = &self.geometry;
        if self.scattered {
            gather(g, &flip(weight, g.image.0, self.channels, g.kernel), self.channels, None, grad)
        } else {
            scatter(g, weight, self.channels, None, grad)
        }
    }

    fn weight_gradient(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        let g = &self.geometry;
        if self.scattered {
            flip(&outer(g, self.channels, xs, grad), self.channels, g.image.0, g.kernel)
        } else {
            outer(g, self.channels, grad, xs)
        }
    }
}

/// `(a, b, kh, kw)` to `(b, a, kh, kw)` with every kernel turned by 180 degrees.
fn flip(weight: &[f32], a: usize, b: usize, (kh, kw): (usize, usize)) -> Vec<f32> {
    let taps = kh * kw;
    let mut flipped = vec![0f32; weight.len()];
    for (to, kernel) in flipped.chunks_mut(taps).enumerate() {
        let from = (to % a * b + to / a) * taps;
        kernel.copy_from_slice(&weight[from..from + taps]);
        kernel.reverse();
    }
    flipped
}

impl Conv {
    /// The gradients of the input and of the weights, each where it is asked for.
    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plan = Plan::new(xs.dims(), weight.dims(), &self.0)?;
        let device = grad.device();
        with_slice(NAME, grad, |grad| {
            let grad_xs = if xs.track_op() {
                let values = with_slice(NAME, weight, |weight| Ok(plan.input_gradient(weight, grad)))?;
                Some(Tensor::from_vec(values, xs.shape(), device)?)
            } else {
                None
            };
            let grad_weight = if weight.track_op() {
                let values = with_slice(NAME, xs, |xs| Ok(plan.weight_gradient(xs, grad)))?;
                Some(Tensor::from_vec(values, weight.shape(), device)?)
            } else {
                None
            };
            Ok((grad_xs, grad_weight))
        })
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, xs: &CpuStorage, xs_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), w_l.dims(), &self.0)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, slice(NAME, w, w_l)?, None);
        Ok((CpuStorage::F32(ys), plan.out_shape(xs_l.dims()[0])))
    }

    fn bwd(&self, xs: &Tensor, w: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(xs, w, grad)
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        w: &CpuStorage,
        w_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), w_l.dims(), &self.0)?;
        let bias = slice(NAME, bias, bias_l)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, slice(NAME, w, w_l)?, Some(bias));
        Ok((CpuStorage::F32(ys), plan.out_shape(xs_l.dims()[0])))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (grad_xs, grad_w) = self.gradients(xs, w, grad)?;
        Ok((grad_xs, grad_w, bias_gradient(NAME, bias, grad)?))
    }
}

/// The gradient of a bias that was added to each channel of images, where it is asked for.
pub(crate) fn bias_gradient(op: &str, bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !bias.track_op() {
        return Ok(None);
    }
    let (_, c, h, w) = grad.dims4()?;
    let sums = with_slice(op, grad, |grad| Ok(channel_sums(grad, c, h * w)))?;
    Ok(Some(Tensor::from_vec(sums, c, grad.device())?))
}
