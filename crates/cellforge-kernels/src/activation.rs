//! Element-wise activations.

use crate::check::{f32_only, slice, with_slice};
use crate::composed;
use crate::layout::elementwise;
use crate::memory::filled;
use crate::simd::dispatch;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};

/// Elements handled by one task; small enough to balance, large enough to hide the cost of the task.
const CHUNK: usize = 1 << 14;

/// `max(x, 0)`; `xs` may have any shape. The gradient at 0 is 0, as in PyTorch and Keras.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    apply(xs, "relu", Kind::Leaky(0.))
}

/// `x` where positive and `slope * x` elsewhere; `xs` may have any shape. The gradient at 0 is `slope`, as in PyTorch.
pub fn leaky_relu(xs: &Tensor, slope: f32) -> Result<Tensor> {
    apply(xs, "leaky_relu", Kind::Leaky(slope))
}

/// The hyperbolic tangent; `xs` may have any shape.
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    apply(xs, "tanh", Kind::Tanh)
}

fn apply(xs: &Tensor, name: &'static str, kind: Kind) -> Result<Tensor> {
    f32_only(name, &[("xs", xs)])?;
    if xs.device().is_cpu() {
        return elementwise(xs, |xs| apply1(xs, Activation { name, kind }));
    }
    match kind {
        Kind::Leaky(slope) => composed::leaky_relu(xs, slope),
        Kind::Tanh => composed::tanh(xs),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Leaky(f32),
    Tanh,
}

struct Activation {
    name: &'static str,
    kind: Kind,
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name, storage, layout)?;
        let ys = match self.kind {
            Kind::Leaky(slope) => map(xs, move |x| x * leak(x, slope)),
            Kind::Tanh => map(xs, f32::tanh),
        };
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad_xs = with_slice(self.name, grad, |g| match self.kind {
            Kind::Leaky(slope) => with_slice(self.name, xs, |xs| Ok(zip_map(xs, g, move |x, g| g * leak(x, slope)))),
            Kind::Tanh => with_slice(self.name, ys, |ys| Ok(zip_map(ys, g, |y, g| g * (1. - y * y)))),
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}

/// The slope at `x`. A choice between two constants compiles to a selection; one between `x` and `slope * x` became a
/// branch, which is mispredicted half of the time.
#[inline(always)]
pub(crate) fn leak(x: f32, slope: f32) -> f32 {
    if x > 0. { 1. } else { slope }
}

/// `f` of each element, in parallel.
pub(crate) fn map(xs: &[f32], f: impl Fn(f32) -> f32 + Copy + Sync + Send) -> Vec<f32> {
    zip_map(xs, xs, move |x, _| f(x))
}

/// `f` of each pair of elements, in parallel.
pub(crate) fn zip_map<T: Copy + Sync>(
    xs: &[T],
    gs: &[f32],
    f: impl Fn(T, f32) -> f32 + Copy + Sync + Send,
) -> Vec<f32> {
    filled(gs.len(), CHUNK, move |i, ys| {
        let part = i * CHUNK..i * CHUNK + ys.len();
        dispatch(Zipped { xs: &xs[part.clone()], gs: &gs[part], ys, f });
    })
}

struct Zipped<'a, T, F> {
    xs: &'a [T],
    gs: &'a [f32],
    ys: &'a mut [f32],
    f: F,
}

impl<T: Copy, F: Fn(T, f32) -> f32> WithSimd for Zipped<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (y, (&x, &g)) in self.ys.iter_mut().zip(self.xs.iter().zip(self.gs)) {
            *y = (self.f)(x, g);
        }
    }
}
