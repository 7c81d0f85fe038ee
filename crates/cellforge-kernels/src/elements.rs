//! Loops over single elements, in parallel.

use crate::element::Element;
use crate::mask::DropoutMask;
use crate::memory::filled;
use crate::simd::{dispatch, vectorised};
use pulp::{Simd, WithSimd};

/// Elements handled by one task; small enough to balance, large enough to hide the cost of the task.
const CHUNK: usize = 1 << 14;

/// The slope at `x`. A choice between two constants compiles to a selection; one between `x` and `negative_slope * x` became a
/// branch, which is mispredicted half of the time.
#[inline(always)]
pub(crate) fn slope_at(x: f32, negative_slope: f32) -> f32 {
    if x > 0. { 1. } else { negative_slope }
}

vectorised! {
    /// A leaky ReLU of each element.
    pub(crate) fn leak(xs: &'a mut [f32], negative_slope: f32) {
        for x in xs {
            *x *= slope_at(*x, negative_slope);
        }
    }
}

/// `f` of each element, in parallel.
pub(crate) fn map<E: Element>(xs: &[E], f: impl Fn(f32) -> f32 + Copy + Sync + Send) -> Vec<E> {
    zip_map(xs, xs, move |x, _| f(x))
}

/// [`zip_map`], with a mask applied to the results.
pub(crate) fn masked<E: Element>(
    xs: &[E],
    gs: &[E],
    f: impl Fn(f32, f32) -> f32 + Copy + Sync + Send,
    mask: Option<&DropoutMask>,
) -> Vec<E> {
    filled(gs.len(), CHUNK, move |i, ys| {
        let part = i * CHUNK..i * CHUNK + ys.len();
        dispatch(Zipped { xs: &xs[part.clone()], gs: &gs[part.clone()], ys, f });
        if let Some(mask) = mask {
            mask.apply(part, ys);
        }
    })
}

/// `f` of each pair of elements, in parallel.
pub(crate) fn zip_map<X: Element, G: Element, Y: Element>(
    xs: &[X],
    gs: &[G],
    f: impl Fn(f32, f32) -> f32 + Copy + Sync + Send,
) -> Vec<Y> {
    filled(gs.len(), CHUNK, move |i, ys| {
        let part = i * CHUNK..i * CHUNK + ys.len();
        dispatch(Zipped { xs: &xs[part.clone()], gs: &gs[part], ys, f });
    })
}

struct Zipped<'a, X, G, F> {
    xs: &'a [X],
    gs: &'a [G],
    ys: &'a mut [f32],
    f: F,
}

impl<X: Element, G: Element, F: Fn(f32, f32) -> f32> WithSimd for Zipped<'_, X, G, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (y, (&x, &g)) in self.ys.iter_mut().zip(self.xs.iter().zip(self.gs)) {
            *y = (self.f)(x.widen(), g.widen());
        }
    }
}
