//! The custom op of the convolution on the CPU.

use super::Conv2dConfig;
use super::patches::Geometry;
use super::products::{gather, outer, scatter};
use crate::check::{slice, with_slice};
use crate::sum::channel_sums;
use crate::tape::wants;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "conv2d";

/// Convolution of contiguous CPU tensors whose shapes have been checked. With a bias it is a ternary op, without one
/// a binary op.
pub(super) struct Conv(pub Conv2dConfig);

/// The two readings of a convolution, from which each pass takes the one that is cheaper.
///
/// A convolution gathers patches of its input, `y = W patches(x)`. One of stride 1 can also be read the other way
/// round, as scattering patches of its output, `y = unpatches(W' x)`, where `W'` is the kernel turned by 180 degrees
/// with its channels exchanged; its input gradient then gathers patches of the output's gradient. Gathering is the
/// faster form, but a patch matrix has a row for each tap of each channel of the patched side, so a side with far
/// fewer channels is the better one to patch: the last layer of a generator makes 3 channels of 128.
struct Plan {
    /// Patches of the input.
    direct: Geometry,
    /// Patches of the output, where the convolution can be read so.
    turned: Option<Geometry>,
    c: usize,
    o: usize,
}

impl Plan {
    fn new(xs: &[usize], weight: &[usize], cfg: &Conv2dConfig) -> Result<Self> {
        let (&[_, c, h, w], &[o, _, kh, kw]) = (xs, weight) else {
            bail!("{NAME}: expected images and kernels, got shapes {xs:?} and {weight:?}");
        };
        let Some((oh, ow)) = cfg.out_size((h, w), (kh, kw)) else {
            bail!("{NAME}: a kernel of {weight:?} with {cfg:?} does not fit images of shape {xs:?}");
        };
        let (p, kernel) = (cfg.padding, (kh, kw));
        let pad = (p.top, p.left);
        let direct = Geometry { image: (c, h, w), kernel, stride: cfg.stride, pad, grid: (oh, ow) };
        let turns = cfg.stride == 1 && !direct.is_pointwise() && p.top < kh && p.left < kw;
        let turned = turns.then(|| {
            let pad = (kh - 1 - p.top, kw - 1 - p.left);
            Geometry { image: (o, oh, ow), kernel, stride: 1, pad, grid: (h, w) }
        });
        Ok(Self { direct, turned, c, o })
    }

    fn out_shape(&self, batch: usize) -> Shape {
        (batch, self.o, self.direct.grid.0, self.direct.grid.1).into()
    }

    fn forward(&self, xs: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        match &self.turned {
            Some(g) if 4 * self.o <= self.c => scatter(g, &turn(weight, self.o, self.c, g.kernel), self.c, bias, xs),
            _ => gather(&self.direct, weight, self.o, bias, xs),
        }
    }

    fn input_gradient(&self, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        match &self.turned {
            Some(g) if self.o <= 2 * self.c => gather(g, &turn(weight, self.o, self.c, g.kernel), self.c, None, grad),
            _ => scatter(&self.direct, weight, self.o, None, grad),
        }
    }

    fn weight_gradient(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        match &self.turned {
            Some(g) if self.o < self.c => turn(&outer(g, self.c, xs, grad), self.c, self.o, g.kernel),
            _ => outer(&self.direct, self.o, grad, xs),
        }
    }
}

/// `(a, b, kh, kw)` to `(b, a, kh, kw)` with every kernel turned by 180 degrees.
fn turn(weight: &[f32], a: usize, b: usize, (kh, kw): (usize, usize)) -> Vec<f32> {
    let taps = kh * kw;
    let mut turned = vec![0f32; weight.len()];
    for (to, kernel) in turned.chunks_mut(taps).enumerate() {
        let from = (to % a * b + to / a) * taps;
        kernel.copy_from_slice(&weight[from..from + taps]);
        kernel.reverse();
    }
    turned
}

impl Conv {
    /// The gradients of the input and of the weights, each where it is asked for.
    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plan = Plan::new(xs.dims(), weight.dims(), &self.0)?;
        let device = grad.device();
        with_slice(NAME, grad, |grad| {
            let grad_xs = if wants(xs) {
                let values = with_slice(NAME, weight, |weight| Ok(plan.input_gradient(weight, grad)))?;
                Some(Tensor::from_vec(values, xs.shape(), device)?)
            } else {
                None
            };
            let grad_weight = if wants(weight) {
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
    if !wants(bias) {
        return Ok(None);
    }
    let (_, c, h, w) = grad.dims4()?;
    let sums = with_slice(op, grad, |grad| Ok(channel_sums(grad, c, h * w)))?;
    Ok(Some(Tensor::from_vec(sums, c, grad.device())?))
}
