//! Optimizer updates in place. On the CPU each changes the storage of the tensors it is given in one pass over all of them.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::check::f32_only;
use crate::composed;
use crate::device::on_device;
use crate::gather::with_slice;
use crate::profile::span;
use crate::simd::dispatch;
use crate::updates::{AdamNumbers, AdamStep, AdamUpdate, SgdStep, SgdUpdate};

/// One Adam update (Kingma and Ba 2015, in PyTorch's form) of each parameter and its moments:
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and
/// `param -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`. On a GPU it is one launch for all of them.
pub fn adam_update(updates: &[AdamUpdate<'_>], step: &AdamStep) -> Result<()> {
    for AdamUpdate { param, grad, m, v } in updates {
        same_shape("adam_update", param, &[("grad", grad), ("m", m), ("v", v)])?;
    }
    let numbers = AdamNumbers::new(step);
    let Some(first) = updates.first() else { return Ok(()) };
    on_device!(
        first.param.device(),
        cpu = updates.iter().try_for_each(|AdamUpdate { param, grad, m, v }| {
            let _span = span("update", || ("adam".to_owned(), 0., 28. * param.elem_count() as f64));
            let AdamNumbers { b1, b2, c1, c2, rate, root, eps } = numbers;
            update([param, m, v], grad, move |[w, m, v], g| {
                let (m, v) = (b1 * m + c1 * g, b2 * v + c2 * g * g);
                [w - rate * m / (v.sqrt() / root + eps), m, v]
            })
        }),
        cuda = crate::cuda::adam_update(updates, &numbers),
        composed = updates.iter().try_for_each(|update| composed::adam_update(update, &numbers)),
    )
}

/// Moves each average towards its value, of one shape: `average = decay * average + (1 - decay) * value`. On a GPU it is one launch for all
/// of them.
pub fn ema_update(pairs: &[(&Var, &Tensor)], decay: f64) -> Result<()> {
    for (average, value) in pairs {
        same_shape("ema_update", average, &[("value", value)])?;
    }
    let (kept, new) = (decay as f32, (1. - decay) as f32);
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    on_device!(
        first.device(),
        cpu = pairs.iter().try_for_each(|(average, value)| {
            let _span = span("update", || ("ema".to_owned(), 0., 12. * average.elem_count() as f64));
            update([average], value, move |[a], x| [kept * a + new * x])
        }),
        cuda = crate::cuda::ema_update(pairs, kept, new),
        composed = pairs.iter().try_for_each(|(average, value)| composed::ema_update(average, value, decay)),
    )
}

/// One update of stochastic gradient descent in Keras's form, of each parameter and its velocity:
/// `g += 2 r param`, `velocity = momentum * velocity - lr * g`, and `param += velocity`, or with Nesterov's form
/// `param += momentum * velocity - lr * g`. On a GPU it is one launch for all of them.
pub fn sgd_update(updates: &[SgdUpdate<'_>], step: &SgdStep) -> Result<()> {
    for SgdUpdate { param, grad, velocity, .. } in updates {
        same_shape("sgd_update", param, &[("grad", grad), ("velocity", velocity)])?;
    }
    let Some(first) = updates.first() else { return Ok(()) };
    let SgdStep { lr, momentum, nesterov } = *step;
    let (lr, momentum) = (lr as f32, momentum as f32);
    on_device!(
        first.param.device(),
        cpu = updates.iter().try_for_each(|SgdUpdate { param, grad, velocity, l2 }| {
            let _span = span("update", || ("sgd".to_owned(), 0., 20. * param.elem_count() as f64));
            let decay = (2. * l2) as f32;
            update([param, velocity], grad, move |[w, u], g| {
                let change = lr * (g + decay * w);
                let u = momentum * u - change;
                [if nesterov { w + momentum * u - change } else { w + u }, u]
            })
        }),
        cuda = crate::cuda::sgd_update(updates, step),
        composed = updates.iter().try_for_each(|update| composed::sgd_update(update, step)),
    )
}

fn same_shape(op: &str, param: &Var, others: &[(&str, &Tensor)]) -> Result<()> {
    f32_only(op, &[("param", param)])?;
    f32_only(op, others)?;
    for (name, tensor) in others {
        if tensor.dims() != param.dims() {
            bail!("{op}: {name} has shape {:?}, the parameter {:?}", tensor.dims(), param.dims());
        }
    }
    Ok(())
}

/// Replaces each element of `vars`, of the shape of `grad` and each with a storage of its own, by a function of the same element of all.
fn update<const N: usize>(
    vars: [&Var; N],
    grad: &Tensor,
    f: impl Fn([f32; N], f32) -> [f32; N] + Copy + Sync + Send,
) -> Result<()> {
    const CHUNK: usize = 1 << 14;
    with_slice("optimizer update", &grad.detach(), |grad| {
        with_slices_mut(&vars, Vec::new(), &mut |slices| {
            let mut rests: [&mut [f32]; N] = slices.try_into().expect("a slice for each variable");
            let chunks: Vec<_> = grad
                .chunks(CHUNK)
                .map(|grad| (rests.each_mut().map(|rest| rest.split_off_mut(..grad.len()).expect("as long")), grad))
                .collect();
            chunks.into_par_iter().for_each(|(vars, grad)| dispatch(Chunk { vars, grad, f }));
            Ok(())
        })
    })
}

/// Runs `f` on the elements of all variables, each borrowed within the borrow of the one before it.
fn with_slices_mut(
    vars: &[&Var],
    slices: Vec<&mut [f32]>,
    f: &mut dyn FnMut(Vec<&mut [f32]>) -> Result<()>,
) -> Result<()> {
    let Some((var, rest)) = vars.split_first() else { return f(slices) };
    let borrow = |slice: &mut [f32]| {
        let mut slices: Vec<&mut [f32]> = slices;
        slices.push(slice);
        with_slices_mut(rest, slices, f)
    };
    var.inplace_op1(&Borrow(Cell::new(Some(borrow))))
}

/// Lends the elements of a tensor, once.
struct Borrow<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Borrow<F> {
    fn name(&self) -> &'static str {
        "optimizer update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let op = self.name();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{op}: a variable of shape {:?} is not contiguous", layout.dims());
        };
        let CpuStorage::F32(all) = storage else { bail!("{op}: a variable is not F32") };
        self.0.take().expect("called once")(&mut all[start..end])
    }
}

/// It owns what `f` holds: behind a reference that would be read again for each element, for all that the compiler knows.
struct Chunk<'a, const N: usize, F> {
    vars: [&'a mut [f32]; N],
    grad: &'a [f32],
    f: F,
}

impl<const N: usize, F: Fn([f32; N], f32) -> [f32; N]> WithSimd for Chunk<'_, N, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let vars = self.vars.map(|var| &mut var[..self.grad.len()]);
        for (i, &g) in self.grad.iter().enumerate() {
            let new = (self.f)(std::array::from_fn(|k| vars[k][i]), g);
            for k in 0..N {
                vars[k][i] = new[k];
            }
        }
    }
}
