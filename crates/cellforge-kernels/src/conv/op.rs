//! The custom op of the convolution on the CPU.

use super::Conv2dConfig;
use super::products::{Phase, gather, outer, outer_turned, scatter};
use super::windows::Windows;
use super::winograd::Winograd;
use crate::check::{slice, with_slice};
use crate::micro::Panels;
use crate::profile::{Span, span};
use crate::sum::channel_sums;
use crate::tape::wants;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

const NAME: &str = "conv2d";

/// Fewer channels than this leave a vector of the processor partly empty.
const FEW: usize = 16;

/// Convolution of contiguous CPU tensors whose shapes have been checked: images `(b, h, w, c)`, weights `(o, c, kh, kw)`. With a
/// bias it is a ternary op, without one a binary op.
pub(super) struct Conv(pub Conv2dConfig);

/// The readings of a convolution, from which each pass takes the one that is cheaper.
///
/// A convolution sums over windows of its input, `y = W window(x)`. A window's numbers meet all output channels, which fill the
/// vectors of the processor. Where the output has few channels, vectors would be nearly empty: then a convolution of stride 1
/// is read the other way round, as windows of its output that add up, `window(y) = W' x`, where `W'` is the kernel turned by 180
/// degrees with its channels exchanged. The last layer of a generator makes 3 channels of 128.
struct Plan<'a> {
    weight: &'a [f32],
    /// Windows of the input over the grid of the output.
    direct: Windows,
    /// Windows of the output over the grid of the input, where the convolution can be read so.
    turned: Option<Windows>,
    o: usize,
    cfg: Conv2dConfig,
}

impl<'a> Plan<'a> {
    fn new(xs: &[usize], weight: &'a [f32], weight_dims: &[usize], cfg: Conv2dConfig) -> Result<Self> {
        let (&[_, h, w, c], &[o, _, kh, kw]) = (xs, weight_dims) else {
            bail!("{NAME}: expected images and kernels, got shapes {xs:?} and {weight_dims:?}");
        };
        let Some((oh, ow)) = cfg.out_size((h, w), (kh, kw)) else {
            bail!("{NAME}: a kernel of {weight_dims:?} with {cfg:?} does not fit images of shape {xs:?}");
        };
        let (p, kernel) = (cfg.padding, (kh, kw));
        let origin = (-(p.top as isize), -(p.left as isize));
        let direct = Windows { image: (h, w, c), kernel, stride: cfg.stride, origin, grid: (oh, ow) };
        let turned = (cfg.stride == 1).then(|| {
            let origin = (p.top as isize + 1 - kh as isize, p.left as isize + 1 - kw as isize);
            Windows { image: (oh, ow, o), kernel, stride: 1, origin, grid: (h, w) }
        });
        Ok(Self { weight, direct, turned, o, cfg })
    }

    fn out_shape(&self, batch: usize) -> Shape {
        (batch, self.direct.grid.0, self.direct.grid.1, self.o).into()
    }

    fn span(&self, pass: &'static str, batch: usize) -> Option<Span> {
        span(pass, || {
            let ((h, w, c), (kh, kw), (oh, ow)) = (self.direct.image, self.direct.kernel, self.direct.grid);
            let layer = format!("{NAME} {kh}x{kw}/{} {c}x{h}x{w} to {}x{oh}x{ow}", self.direct.stride, self.o);
            let weights = self.o * self.direct.depth();
            let flop = 2. * (batch * self.direct.cells() * weights) as f64;
            (layer, flop, 4. * (batch * (self.direct.image_len() + self.direct.cells() * self.o) + weights) as f64)
        })
    }

    fn weight(&self, o: usize, c: usize, i: usize, j: usize) -> f32 {
        let ((kh, kw), channels) = (self.direct.kernel, self.direct.image.2);
        self.weight[((o * channels + c) * kh + i) * kw + j]
    }

    fn forward(&self, xs: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let _span = self.span("forward", xs.len() / self.direct.image_len());
        let (c, o, (kh, kw)) = (self.direct.image.2, self.o, self.direct.kernel);
        if let Some(winograd) = Winograd::new(&self.direct, o) {
            return winograd.forward(self.weight, |k, n| (n * c + k) * 9, false, bias, xs);
        }
        if let Some(windows) = self.turned.filter(|_| kh * kw > 1 && o < FEW && 4 * o <= c) {
            // Columns are (kernel row, kernel column, output channel) of the kernel turned by 180 degrees.
            let weights = Panels::new(c, kh * kw * o, |k, n| {
                let (tap, channel) = (n / o, n % o);
                self.weight(channel, k, kh - 1 - tap / kw, kw - 1 - tap % kw)
            });
            return scatter(&windows, &weights, bias, xs);
        }
        let weights = Panels::new(kh * kw * c, o, |k, n| self.weight(n, k % c, k / c / kw, k / c % kw));
        let phase = Phase { windows: self.direct, weights, first: (0, 0) };
        gather(&[phase], 1, bias, xs, (self.direct.grid.0, self.direct.grid.1, o))
    }

    fn input_gradient(&self, grad: &[f32]) -> Vec<f32> {
        let _span = self.span("input gradient", grad.len() / (self.direct.cells() * self.o));
        let ((h, w, c), o, (kh, kw)) = (self.direct.image, self.o, self.direct.kernel);
        if let Some(winograd) = self.turned.and_then(|windows| Winograd::new(&windows, c)) {
            return winograd.forward(self.weight, |k, n| (k * c + n) * 9, true, None, grad);
        }
        if kh * kw > 1 && c < FEW && 4 * c <= o {
            let weights = Panels::new(o, kh * kw * c, |k, n| self.weight(k, n % c, n / c / kw, n / c % kw));
            return scatter(&self.direct, &weights, None, grad);
        }
        let step = self.cfg.stride;
        let phases: Vec<Phase> = (0..step * step)
            .filter_map(|phase| {
                let first = (phase / step, phase % step);
                let rows = Taps::new(first.0, self.cfg.padding.top, step, kh, h)?;
                let cols = Taps::new(first.1, self.cfg.padding.left, step, kw, w)?;
                let windows = Windows {
                    image: (self.direct.grid.0, self.direct.grid.1, o),
                    kernel: (rows.count, cols.count),
                    stride: 1,
                    origin: (rows.origin, cols.origin),
                    grid: (rows.pixels, cols.pixels),
                };
                let weights = Panels::new(windows.depth(), c, |k, n| {
                    let tap = k / o;
                    self.weight(k % o, n, rows.tap(tap / cols.count), cols.tap(tap % cols.count))
                });
                Some(Phase { windows, weights, first })
            })
            .collect();
        if phases.is_empty() {
            return vec![0.; grad.len() / (self.direct.cells() * o) * self.direct.image_len()];
        }
        gather(&phases, step, None, grad, (h, w, c))
    }

    fn weight_gradient(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        let _span = self.span("weight gradient", xs.len() / self.direct.image_len());
        let (c, o, (kh, kw)) = (self.direct.image.2, self.o, self.direct.kernel);
        if let Some(winograd) = Winograd::new(&self.direct, o) {
            return winograd.weight_gradient(xs, grad);
        }
        let taps = kh * kw;
        let mut gradient = vec![0f32; self.weight.len()];
        let element = |at: usize| (at / (c * taps), at / taps % c, at % taps);
        if let Some(windows) = self.turned.filter(|_| taps > 1 && o < FEW && 4 * o <= c) {
            let sums = outer_turned(&windows, c, grad, xs);
            gradient.par_iter_mut().with_min_len(1 << 12).enumerate().for_each(|(at, x)| {
                let (o_, c_, tap) = element(at);
                *x = sums.get_turned((taps - 1 - tap) * o + o_, c_, windows.depth());
            });
        } else {
            let sums = outer(&self.direct, o, xs, grad);
            gradient.par_iter_mut().with_min_len(1 << 12).enumerate().for_each(|(at, x)| {
                let (o_, c_, tap) = element(at);
                *x = sums.get(tap * c + c_, o_);
            });
        }
        gradient
    }
}

/// Along one axis, the taps of a kernel that meet the pixels `first, first + step, ..` of its input, as windows over its output.
struct Taps {
    /// Number of such taps.
    count: usize,
    /// Number of such pixels.
    pixels: usize,
    /// Where in the output the first pixel's window begins.
    origin: isize,
    /// The last of the taps, which comes first in the window.
    last: usize,
    step: usize,
}

impl Taps {
    /// None if there are no such taps or pixels.
    fn new(first: usize, pad: usize, step: usize, kernel: usize, size: usize) -> Option<Self> {
        // Pixel y meets output (y + pad - tap) / step where that is whole.
        let (base, lowest) = ((first + pad) / step, (first + pad) % step);
        let count = kernel.checked_sub(lowest)?.div_ceil(step);
        let pixels = size.checked_sub(first)?.div_ceil(step);
        if count == 0 || pixels == 0 {
            return None;
        }
        let origin = base as isize - (count as isize - 1);
        Some(Self { count, pixels, origin, last: lowest + (count - 1) * step, step })
    }

    /// The tap at a place in the window.
    fn tap(&self, place: usize) -> usize {
        self.last - place * self.step
    }
}

impl Conv {
    /// The gradients of the input and of the weights, each where it is asked for.
    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let device = grad.device();
        with_slice(NAME, grad, |grad| {
            with_slice(NAME, weight, |values| {
                let plan = Plan::new(xs.dims(), values, weight.dims(), self.0)?;
                let grad_xs = match wants(xs) {
                    true => Some(Tensor::from_vec(plan.input_gradient(grad), xs.shape(), device)?),
                    false => None,
                };
                let grad_weight = match wants(weight) {
                    true => {
                        let values = with_slice(NAME, xs, |xs| Ok(plan.weight_gradient(xs, grad)))?;
                        Some(Tensor::from_vec(values, weight.shape(), device)?)
                    }
                    false => None,
                };
                Ok((grad_xs, grad_weight))
            })
        })
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, xs: &CpuStorage, xs_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), slice(NAME, w, w_l)?, w_l.dims(), self.0)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, None);
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
        let plan = Plan::new(xs_l.dims(), slice(NAME, w, w_l)?, w_l.dims(), self.0)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, Some(slice(NAME, bias, bias_l)?));
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

/// The gradient of a bias that was added to each channel of images `(b, h, w, c)`, where it is asked for.
pub(crate) fn bias_gradient(op: &str, bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !wants(bias) {
        return Ok(None);
    }
    let channels = bias.elem_count();
    let _span = span("bias gradient", || (format!("{op} {channels}"), 0., 4. * grad.elem_count() as f64));
    let sums = with_slice(op, grad, |grad| Ok(channel_sums(grad, channels)))?;
    Ok(Some(Tensor::from_vec(sums, channels, grad.device())?))
}
