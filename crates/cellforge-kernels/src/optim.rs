//! Optimiser updates in place. On the CPU each changes the storage of the tensors it is given in one pass over all of them.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::check::{f32_only, with_slice};
use crate::profile::span;
use crate::simd::dispatch;

/// The numbers of one Adam update.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment, after its bias is corrected.
    pub eps: f64,
    /// The number of this update, from 1.
    pub step: u64,
}

/// A parameter that Adam changes, its gradient, and its moments, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate<'a> {
    /// What is trained.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The mean of gradients.
    pub m: &'a Var,
    /// The mean of squared gradients.
    pub v: &'a Var,
}

/// One Adam update (Kingma and Ba 2015, in PyTorch's form) of each parameter and its moments:
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and
/// `param -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`. On a GPU it is one launch for all of them.
pub fn adam_update(updates: &[AdamUpdate<'_>], step: &AdamStep) -> Result<()> {
    for AdamUpdate { param, grad, m, v } in updates {
        same_shape("adam_update", param, &[("grad", grad), ("m", m), ("v", v)])?;
    }
    let numbers = AdamNumbers::new(step);
    #[cfg(feature = "cuda")]
    if updates.first().is_some_and(|update| update.param.device().is_cuda()) {
        return crate::cuda::adam_update(updates, &numbers);
    }
    updates.iter().try_for_each(|update| adam(update, &numbers))
}

fn adam(AdamUpdate { param, grad, m, v }: &AdamUpdate<'_>, numbers: &AdamNumbers) -> Result<()> {
    let _span = span("update", || ("adam".to_owned(), 0., 28. * param.elem_count() as f64));
    let AdamNumbers { b1, b2, c1, c2, rate, root, eps } = *numbers;
    if !param.device().is_cpu() {
        let [b1, b2, c1, c2, rate, root, eps] = [b1, b2, c1, c2, rate, root, eps].map(f64::from);
        let new_m = ((m.as_detached_tensor() * b1)? + (*grad * c1)?)?;
        let new_v = ((v.as_detached_tensor() * b2)? + (grad.sqr()? * c2)?)?;
        let change = (&new_m * rate)?.div(&((new_v.sqrt()? * (1. / root))? + eps)?)?;
        m.set(&new_m)?;
        v.set(&new_v)?;
        return param.set(&(param.as_detached_tensor() - change)?);
    }
    update([param, m, v], grad, move |[w, m, v], g| {
        let (m, v) = (b1 * m + c1 * g, b2 * v + c2 * g * g);
        [w - rate * m / (v.sqrt() / root + eps), m, v]
    })
}

/// What an Adam update multiplies by.
#[derive(Clone, Copy)]
pub(crate) struct AdamNumbers {
    pub b1: f32,
    pub b2: f32,
    pub c1: f32,
    pub c2: f32,
    pub rate: f32,
    pub root: f32,
    pub eps: f32,
}

impl AdamNumbers {
    fn new(step: &AdamStep) -> Self {
        let AdamStep { lr, beta1, beta2, eps, step: t } = *step;
        Self {
            b1: beta1 as f32,
            b2: beta2 as f32,
            c1: (1. - beta1) as f32,
            c2: (1. - beta2) as f32,
            rate: (lr / (1. - beta1.powf(t as f64))) as f32,
            root: (1. - beta2.powf(t as f64)).sqrt() as f32,
            eps: eps as f32,
        }
    }
}

/// Moves each average towards its value, of one shape: `average = decay * average + (1 - decay) * value`. On a GPU it is one launch for all
/// of them.
pub fn average_update(pairs: &[(&Var, &Tensor)], decay: f64) -> Result<()> {
    for (average, value) in pairs {
        same_shape("average_update", average, &[("value", value)])?;
    }
    let (kept, new) = (decay as f32, (1. - decay) as f32);
    #[cfg(feature = "cuda")]
    if pairs.first().is_some_and(|(average, _)| average.device().is_cuda()) {
        return crate::cuda::average_update(pairs, kept, new);
    }
    for (average, value) in pairs {
        let _span = span("update", || ("average".to_owned(), 0., 12. * average.elem_count() as f64));
        if average.device().is_cpu() {
            update([average], value, move |[a], x| [kept * a + new * x])?;
        } else {
            average.set(&((average.as_detached_tensor() * decay)? + (value.detach() * (1. - decay))?)?)?;
        }
    }
    Ok(())
}

/// The numbers of one SGD update.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 is plain gradient descent.
    pub momentum: f64,
    /// Nesterov's form: the change looks one step of momentum ahead.
    pub nesterov: bool,
}

/// A parameter that SGD changes, its gradient, and its velocity, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct SgdUpdate<'a> {
    /// What is trained.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The last change.
    pub velocity: &'a Var,
    /// Keras's `l2(r)`: `2 r param` is added to the gradient.
    pub l2: f64,
}

/// One update of stochastic gradient descent in Keras's form, of each parameter and its velocity:
/// `g += 2 r param`, `velocity = momentum * velocity - lr * g`, and `param += velocity`, or with Nesterov's form
/// `param += momentum * velocity - lr * g`. On a GPU it is one launch for all of them.
pub fn sgd_update(updates: &[SgdUpdate<'_>], step: &SgdStep) -> Result<()> {
    for SgdUpdate { param, grad, velocity, .. } in updates {
        same_shape("sgd_update", param, &[("grad", grad), ("velocity", velocity)])?;
    }
    #[cfg(feature = "cuda")]
    if updates.first().is_some_and(|update| update.param.device().is_cuda()) {
        return crate::cuda::sgd_update(updates, step);
    }
    updates.iter().try_for_each(|update| sgd(update, step))
}

fn sgd(SgdUpdate { param, grad, velocity, l2 }: &SgdUpdate<'_>, step: &SgdStep) -> Result<()> {
    let _span = span("update", || ("sgd".to_owned(), 0., 20. * param.elem_count() as f64));
    let SgdStep { lr, momentum, nesterov } = *step;
    if !param.device().is_cpu() {
        let weight = param.as_detached_tensor();
        let change = ((*grad + (&weight * (2. * l2))?)? * -lr)?;
        let new = ((velocity.as_detached_tensor() * momentum)? + &change)?;
        let moved = if nesterov { ((&new * momentum)? + change)? } else { new.clone() };
        velocity.set(&new)?;
        return param.set(&(weight + moved)?);
    }
    let (lr, momentum, decay) = (lr as f32, momentum as f32, (2. * l2) as f32);
    update([param, velocity], grad, move |[w, u], g| {
        let change = lr * (g + decay * w);
        let u = momentum * u - change;
        [if nesterov { w + momentum * u - change } else { w + u }, u]
    })
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
    with_slice("optimiser update", &grad.detach(), |grad| {
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
        "optimiser update"
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
