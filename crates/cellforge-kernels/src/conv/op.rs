//! The custom op of the convolution on the CPU.

use super::products::{Phase, Then, depth_of, gather, outer, outer_turned, scatter, segment_of};
use super::windows::Windows;
use super::winograd::Winograd;
use crate::check::slice;
use crate::config::Conv2dConfig;
use crate::element::{Element, of_type};
use crate::elements::{slope_at, zip_map};
use crate::gather::with_slice;
use crate::memory::filled;
use crate::micro::Panels;
use crate::product::{Products, words};
use crate::profile::{Span, span};
use crate::tape::wants;
use crate::weighted::{Weighted, bias_gradient};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "conv2d";

/// Fewer channels than this leave a vector of the processor partly empty.
const FEW: usize = 16;

/// Convolution of contiguous CPU tensors whose shapes have been checked: images `(b, h, w, c)`, weights `(o, c, kh, kw)`.
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
    products: Products,
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
        let products = Products::of(cfg.precision);
        Ok(Self { weight, direct, turned, o, cfg, products })
    }

    /// Winograd's algorithm for windows and `o` channels of output, where it is the cheaper way than these products of plain sums.
    fn winograd(&self, windows: &Windows, o: usize, products: Products) -> Option<Winograd> {
        self.winograd_from(Winograd::fewest(products), windows, o, products).filter(|winograd| !winograd.is_one_tile())
    }

    /// Winograd's algorithm where there are at least so many channels on both sides, and no tiles.
    fn winograd_from(&self, fewest: usize, windows: &Windows, o: usize, products: Products) -> Option<Winograd> {
        let cheaper = windows.image.2.min(o) >= fewest && !products.are_tiles() && !super::PLAIN.get();
        Winograd::new(windows, o).filter(|_| cheaper)
    }

    fn out_shape(&self, batch: usize) -> Shape {
        (batch, self.direct.grid.0, self.direct.grid.1, self.o).into()
    }

    fn span<E>(&self, pass: &'static str, batch: usize) -> Option<Span> {
        span(pass, || {
            let ((h, w, c), (kh, kw), (oh, ow)) = (self.direct.image, self.direct.kernel, self.direct.grid);
            let layer = format!("{NAME} {kh}x{kw}/{} {c}x{h}x{w} to {}x{oh}x{ow}", self.direct.stride, self.o);
            let weights = self.o * self.direct.depth();
            let flop = 2. * (batch * self.direct.cells() * weights) as f64;
            let images = batch * (self.direct.image_len() + self.direct.cells() * self.o);
            (layer, flop, (size_of::<E>() * images + size_of::<f32>() * weights) as f64)
        })
    }

    /// Elements of the weights from one output channel, and from one input channel, to the next.
    fn pitch(&self) -> (usize, usize) {
        let (kh, kw) = self.direct.kernel;
        (self.direct.depth(), kh * kw)
    }

    fn forward<E: Element>(&self, xs: &[E], then: Then<E>) -> Vec<E> {
        let _span = self.span::<E>("forward", xs.len() / self.direct.image_len());
        let (c, o, (kh, kw)) = (self.direct.image.2, self.o, self.direct.kernel);
        let (of_output, of_input) = self.pitch();
        if let Some(winograd) = self.winograd(&self.direct, o, self.products_over(c)) {
            let kernel = |k: usize, n: usize| (n * c + k) * 9;
            return match then.addend {
                None => winograd.forward(self.weight, kernel, false, then, xs),
                Some(addend) => {
                    let sums: Vec<f32> = winograd.forward(self.weight, kernel, false, then.sums(), xs);
                    then.of(&sums, addend)
                }
            };
        }
        let products = self.products_over(c);
        if let Some(windows) = self.turned.filter(|_| kh * kw > 1 && is_turned(o, c, products)) {
            // Columns are (kernel row, kernel column, output channel) of the kernel turned by 180 degrees.
            let cols = taps_and_channels((0..kh * kw).rev(), o, of_output);
            let weights = Panels::new(self.weight, &places(c, of_input), &cols);
            return match then.addend {
                None => scatter(&windows, &weights, then, xs),
                Some(addend) => then.of(&scatter::<E, f32>(&windows, &weights, then.sums(), xs), addend),
            };
        }
        let taps = taps_and_channels(0..kh * kw, c, of_input);
        let phase = self.phase(self.direct, &taps, &places(o, of_output), (0, 0), products);
        gather(&[phase], 1, then, (xs, c), (self.direct.grid.0, self.direct.grid.1, o), products)
    }

    /// Products whose sums run over so many channels.
    fn products_over(&self, channels: usize) -> Products {
        // A word holds two channels. Tiles are so much faster that they may be partly empty.
        self.products.if_pairs(channels.is_multiple_of(2) || self.products.are_tiles())
    }

    /// A phase of what these windows and the weights at these places make.
    fn phase(
        &self,
        windows: Windows,
        rows: &[usize],
        cols: &[usize],
        first: (usize, usize),
        products: Products,
    ) -> Phase {
        if !products.are_pairs() {
            return Phase { windows, weights: Panels::new(self.weight, rows, cols), first };
        }
        let ((h, w, c), taps) = (windows.image, windows.kernel.1);
        let weights = Panels::of_pairs(self.weight, rows, (taps, c), cols, products);
        Phase { windows: Windows { image: (h, w, words(c)), ..windows }, weights, first }
    }

    fn input_gradient<E: Element>(&self, grad: &[E]) -> Vec<E> {
        let _span = self.span::<E>("input gradient", grad.len() / (self.direct.cells() * self.o));
        let ((h, w, c), o, (kh, kw)) = (self.direct.image, self.o, self.direct.kernel);
        let (of_output, of_input) = self.pitch();
        if let Some(winograd) = self.turned.and_then(|windows| self.winograd(&windows, c, self.products_over(o))) {
            return winograd.forward(self.weight, |k, n| (k * c + n) * 9, true, Then::default(), grad);
        }
        let products = self.products_over(o);
        if kh * kw > 1 && is_turned(c, o, products) {
            let cols = taps_and_channels(0..kh * kw, c, of_input);
            return scatter(
                &self.direct,
                &Panels::new(self.weight, &places(o, of_output), &cols),
                Then::default(),
                grad,
            );
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
                let taps = (0..rows.count).flat_map(|i| (0..cols.count).map(move |j| (i, j)));
                let taps = taps.map(|(i, j)| rows.tap(i) * kw + cols.tap(j));
                let taps = taps_and_channels(taps, o, of_output);
                Some(self.phase(windows, &taps, &places(c, of_input), first, products))
            })
            .collect();
        if phases.is_empty() {
            return vec![E::default(); grad.len() / (self.direct.cells() * o) * self.direct.image_len()];
        }
        gather(&phases, step, Then::default(), (grad, o), (h, w, c), products)
    }

    fn weight_gradient<E: Element>(&self, xs: &[E], grad: &[E]) -> Vec<f32> {
        let _span = self.span::<E>("weight gradient", xs.len() / self.direct.image_len());
        let (c, o, (kh, kw)) = (self.direct.image.2, self.o, self.direct.kernel);
        let products = self.products;
        if let Some(winograd) = self.winograd_from(Winograd::FEWEST_BY_WEIGHT, &self.direct, o, products) {
            return winograd.weight_gradient(xs, grad);
        }
        let taps = kh * kw;
        // As above, the side with more channels is the one that tiles of the product are cut from.
        if let Some(windows) = self.turned.filter(|_| taps > 1 && is_turned(o, c, products)) {
            let sums = outer_turned(&windows, c, grad, xs);
            self.kernels(|n, k| sums.get_turned((taps - 1 - k / c) * o + n, k % c, windows.depth()))
        } else {
            let sums = outer(&self.direct, o, xs, grad, products);
            if products.are_tiles() {
                let (segment, whole) = (self.direct.segment(), segment_of(&self.direct, products));
                let depth = depth_of(&self.direct, products);
                self.kernels(|n, k| sums.get_turned(k / segment * whole + k % segment, n, depth))
            } else {
                self.kernels(|n, k| sums.get(k, n))
            }
        }
    }

    /// Something of the weights' shape, from a function of the output channel and of the place in the window.
    fn kernels(&self, value: impl Fn(usize, usize) -> f32 + Sync) -> Vec<f32> {
        let ((kh, kw), c, (of_output, of_input)) = (self.direct.kernel, self.direct.image.2, self.pitch());
        let places = taps_and_channels(0..kh * kw, c, of_input);
        filled(self.weight.len(), of_output, |n, kernel| {
            for (k, &place) in places.iter().enumerate() {
                kernel[place] = value(n, k);
            }
        })
    }
}

/// For the ways that cannot add images: those are added in a pass of their own, and whatever comes after that is done there.
impl<E: Element> Then<'_, E> {
    /// All but the adding of images, and what comes after.
    fn sums(&self) -> Self {
        Self { bias: self.bias, ..Self::default() }
    }

    /// The rest, of these sums.
    fn of(&self, sums: &[f32], addend: &[E]) -> Vec<E> {
        let negative_slope = self.negative_slope.unwrap_or(1.);
        zip_map(sums, addend, move |y, x| (y + x) * slope_at(y + x, negative_slope))
    }
}

/// Whether a convolution from `many` channels to `few`, of these products, is to be read as windows of its output.
fn is_turned(few: usize, many: usize, products: Products) -> bool {
    few < FEW && 4 * few <= many && !products.are_tiles()
}

/// Where in the weights the channels of one side begin.
fn places(channels: usize, pitch: usize) -> Vec<usize> {
    (0..channels).map(|channel| channel * pitch).collect()
}

/// Where in the weights, for each tap, the channels of one side lie.
fn taps_and_channels(taps: impl Iterator<Item = usize>, channels: usize, pitch: usize) -> Vec<usize> {
    taps.flat_map(|tap| (0..channels).map(move |channel| channel * pitch + tap)).collect()
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

impl Weighted for Conv {
    const NAME: &'static str = NAME;

    fn forward(
        &self,
        xs: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        of_type!(xs.0.dtype(), E => self.sum::<E>(xs, w, Then { bias, ..Then::default() }))
    }

    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        of_type!(xs.dtype(), E => with_slice(NAME, grad, |grad: &[E]| {
            with_slice(NAME, weight, |values| {
                let plan = Plan::new(xs.dims(), values, weight.dims(), self.0)?;
                let grad_xs = match wants(xs) {
                    true => Some(Tensor::from_vec(plan.input_gradient(grad), xs.shape(), xs.device())?),
                    false => None,
                };
                let grad_weight = match wants(weight) {
                    true => {
                        let values = with_slice(NAME, xs, |xs| Ok(plan.weight_gradient(xs, grad)))?;
                        Some(Tensor::from_vec(values, weight.shape(), xs.device())?)
                    }
                    false => None,
                };
                Ok((grad_xs, grad_weight))
            })
        }))
    }
}

impl Conv {
    /// `then` of the convolution.
    fn sum<E: Element>(
        &self,
        (xs, xs_l): (&CpuStorage, &Layout),
        (w, w_l): (&CpuStorage, &Layout),
        then: Then<E>,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), slice(NAME, w, w_l)?, w_l.dims(), self.0)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, then);
        Ok((E::storage(ys), plan.out_shape(xs_l.dims()[0])))
    }
}

/// As [`Conv`], with images `(b, oh, ow, o)` that are added to the result.
pub(super) struct ConvAdd(pub Conv2dConfig);

impl CustomOp3 for ConvAdd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        w: &CpuStorage,
        w_l: &Layout,
        addend: &CpuStorage,
        addend_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        of_type!(xs.dtype(), E => {
            let then = Then { addend: Some(slice::<E>(NAME, addend, addend_l)?), ..Then::default() };
            Conv(self.0).sum((xs, xs_l), (w, w_l), then)
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        w: &Tensor,
        _addend: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (grad_xs, grad_w) = Conv(self.0).gradients(xs, w, grad)?;
        Ok((grad_xs, grad_w, Some(grad.clone())))
    }
}

/// As [`Conv`] with a bias, and a leaky ReLU of this slope below zero, which must not be negative.
pub(super) struct ConvLeakyRelu(pub Conv2dConfig, pub f32);

impl CustomOp3 for ConvLeakyRelu {
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
        let (bias, negative_slope) = (Some(slice(NAME, bias, bias_l)?), Some(self.1));
        let (xs, w) = ((xs, xs_l), (w, w_l));
        of_type!(xs.0.dtype(), E => Conv(self.0).sum::<E>(xs, w, Then { bias, negative_slope, ..Then::default() }))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let negative_slope = self.1;
        // A result has the sign of what it was taken of.
        let grad = of_type!(ys.dtype(), E => {
            let bytes = 3 * ys.elem_count() * size_of::<E>();
            let _span = span("gradient", || (format!("leaky_relu {:?}", ys.dims()), 0., bytes as f64));
            let through = |y: &[E], g: &[E]| zip_map::<E, E, E>(y, g, move |y, g| g * slope_at(y, negative_slope));
            let values = with_slice(NAME, ys, |ys| with_slice(NAME, grad, |grad| Ok(through(ys, grad))))?;
            Tensor::from_vec(values, grad.shape(), grad.device())?
        });
        let (grad_xs, grad_w) = Conv(self.0).gradients(xs, w, &grad)?;
        Ok((grad_xs, grad_w, bias_gradient(NAME, bias, &grad)?))
    }
}
