//! Element-wise activations.

use crate::check::{images_only, slice};
use crate::composed;
use crate::device::on_device;
use crate::element::{Element, of_type};
use crate::elements::{map, masked, slope_at, zip_map};
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last, elementwise};
use crate::mask::DropoutMask;
use crate::tape::{apply1, contiguous};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// `max(x, 0)`; `xs` may have any shape. The gradient at 0 is 0, as in PyTorch and Keras.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    apply(xs, "relu", Kind::Leaky(0.))
}

/// `x` where positive and `negative_slope * x` elsewhere; `xs` may have any shape. The gradient at 0 is `negative_slope`, as in PyTorch.
pub fn leaky_relu(xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
    apply(xs, "leaky_relu", Kind::Leaky(negative_slope))
}

/// [`leaky_relu`] and then [`dropout`](crate::dropout), in the same pass over memory.
pub fn leaky_relu_dropout(xs: &Tensor, negative_slope: f32, mask: DropoutMask) -> Result<Tensor> {
    let name = "leaky_relu_dropout";
    images_only(name, &[("xs", xs)])?;
    mask.check(name, xs)?;
    on_device!(
        xs.device(),
        cpu = {
            let op = Activation { name, kind: Kind::Leaky(negative_slope), mask: Some(mask) };
            match xs.rank() {
                4 => channels_first(&apply1(&channels_last(xs)?, op)?),
                _ => apply1(&contiguous(xs)?, op),
            }
        },
        cuda = crate::cuda::leaky_relu(name, xs, negative_slope, Some(&mask)),
        composed = composed::dropout(&composed::leaky_relu(xs, negative_slope)?, &mask),
    )
}

/// What a [`leaky_relu`] at `at` does to a small change of its input: `xs` where `at` is positive and `negative_slope * xs` elsewhere. Both
/// are of one shape, and `at` takes no gradient.
pub fn leaky_relu_jvp(xs: &Tensor, at: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let name = "leaky_relu_jvp";
    images_only(name, &[("xs", xs), ("at", at)])?;
    if xs.dims() != at.dims() {
        bail!("{name}: xs has shape {:?}, at {:?}", xs.dims(), at.dims());
    }
    on_device!(
        xs.device(),
        cpu = {
            match xs.rank() {
                4 => {
                    let at = channels_last(&at.detach())?;
                    channels_first(&apply1(&channels_last(xs)?, Jvp { at, negative_slope })?)
                }
                _ => apply1(&contiguous(xs)?, Jvp { at: at.detach().contiguous()?, negative_slope }),
            }
        },
        cuda = crate::cuda::leaky_relu_jvp(xs, at, negative_slope),
        composed = composed::leaky_relu_jvp(xs, at, negative_slope),
    )
}

/// The hyperbolic tangent; `xs` may have any shape.
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    apply(xs, "tanh", Kind::Tanh)
}

fn apply(xs: &Tensor, name: &'static str, kind: Kind) -> Result<Tensor> {
    images_only(name, &[("xs", xs)])?;
    on_device!(
        xs.device(),
        cpu = elementwise(xs, |xs| apply1(xs, Activation { name, kind, mask: None })),
        cuda = match kind {
            Kind::Leaky(negative_slope) => crate::cuda::leaky_relu(name, xs, negative_slope, None),
            Kind::Tanh => crate::cuda::tanh(xs),
        },
        composed = match kind {
            Kind::Leaky(negative_slope) => composed::leaky_relu(xs, negative_slope),
            Kind::Tanh => composed::tanh(xs),
        },
    )
}

#[derive(Clone, Copy)]
enum Kind {
    Leaky(f32),
    Tanh,
}

struct Activation {
    name: &'static str,
    kind: Kind,
    /// Applied to the result.
    mask: Option<DropoutMask>,
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        of_type!(storage.dtype(), E => {
            let xs = slice::<E>(self.name, storage, layout)?;
            let ys = match self.kind {
                Kind::Leaky(negative_slope) => {
                    masked(xs, xs, move |x, _| x * slope_at(x, negative_slope), self.mask.as_ref())
                }
                Kind::Tanh => map(xs, tanh_of),
            };
            Ok((E::storage(ys), layout.shape().clone()))
        })
    }

    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => {
            let grad_xs = with_slice(self.name, grad, |g: &[E]| match self.kind {
                Kind::Leaky(negative_slope) => with_slice(self.name, xs, |xs| {
                    Ok(masked(xs, g, move |x, g| g * slope_at(x, negative_slope), self.mask.as_ref()))
                }),
                Kind::Tanh => with_slice(self.name, ys, |ys: &[E]| Ok(zip_map(ys, g, |y, g| g * (1. - y * y)))),
            })?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}

struct Jvp {
    at: Tensor,
    negative_slope: f32,
}

impl Jvp {
    fn applied<E: Element>(&self, xs: &[E]) -> Result<Vec<E>> {
        let negative_slope = self.negative_slope;
        with_slice(self.name(), &self.at, |at: &[E]| Ok(zip_map(at, xs, move |at, x| x * slope_at(at, negative_slope))))
    }
}

impl CustomOp1 for Jvp {
    fn name(&self) -> &'static str {
        "leaky_relu_jvp"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        of_type!(storage.dtype(), E => {
            let ys = self.applied(slice::<E>(self.name(), storage, layout)?)?;
            Ok((E::storage(ys), layout.shape().clone()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), E => {
            let grad_xs = with_slice(self.name(), grad, |grad: &[E]| self.applied(grad))?;
            Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
        })
    }
}

/// The hyperbolic tangent within a few units in the last place, in operations that the processor does on whole vectors.
///
/// With `e = exp(2 |x|) - 1` it is `e / (e + 2)`. The exponential is split as `2^n exp(r)` with `|r| <= ln(2) / 2`, and `exp(r) - 1` is
/// its Taylor polynomial, so that nothing cancels near zero.
#[inline(always)]
fn tanh_of(x: f32) -> f32 {
    /// From here on the result rounds to 1.
    const MOST: f32 = 10.;
    // ln(2) in two parts, of which the first times a small whole number is exact.
    const LN_2: (f32, f32) = (355. / 512., -2.121_944_4e-4);
    // A NaN passes through `clamp`.
    let twice = 2. * x.abs().clamp(0., MOST);
    let n = (twice * std::f32::consts::LOG2_E).round_ties_even();
    let r = (twice - n * LN_2.0) - n * LN_2.1;
    let series = [1. / 5040., 1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1.];
    let exp_m1 = series.iter().fold(0., |sum, term| sum * r + term) * r;
    // n lies between 0 and 29.
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    let e = power * exp_m1 + (power - 1.);
    (e / (e + 2.)).copysign(x)
}
