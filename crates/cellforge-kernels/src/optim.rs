//! Optimiser updates in place. On the CPU they change the storage of the tensors they are given in one pass each.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, Var, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::check::{f32_only, slice};
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

/// One Adam update (Kingma and Ba 2015, in PyTorch's form) of `param` and its moments `m` and `v`:
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and
/// `param -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`. All have the shape of `param`.
pub fn adam_update(param: &Var, grad: &Tensor, m: &Var, v: &Var, step: &AdamStep) -> Result<()> {
    same_shape("adam_update", param, &[("grad", grad), ("m", m), ("v", v)])?;
    let _span = span("update", || ("adam".to_owned(), 0., 28. * param.elem_count() as f64));
    let AdamStep { lr, beta1, beta2, eps, step: t } = *step;
    let rate = lr / (1. - beta1.powf(t as f64));
    let root = (1. - beta2.powf(t as f64)).sqrt();
    if !param.device().is_cpu() {
        let new_m = ((m.as_detached_tensor() * beta1)? + (grad * (1. - beta1))?)?;
        let new_v = ((v.as_detached_tensor() * beta2)? + (grad.sqr()? * (1. - beta2))?)?;
        let change = (&new_m * rate)?.div(&((new_v.sqrt()? * (1. / root))? + eps)?)?;
        m.set(&new_m)?;
        v.set(&new_v)?;
        return param.set(&(param.as_detached_tensor() - change)?);
    }
    let grad = grad.contiguous()?;
    let (b1, b2) = (beta1 as f32, beta2 as f32);
    let (c1, c2) = ((1. - beta1) as f32, (1. - beta2) as f32);
    m.inplace_op3(&grad, &grad, &Update(|m: f32, g: f32, _| b1 * m + c1 * g))?;
    v.inplace_op3(&grad, &grad, &Update(|v: f32, g: f32, _| b2 * v + c2 * g * g))?;
    let (rate, root, eps) = (rate as f32, root as f32, eps as f32);
    param.inplace_op3(m, v, &Update(|w: f32, m: f32, v: f32| w - rate * m / (v.sqrt() / root + eps)))
}

/// Moves `average` towards `value`, of one shape: `average = decay * average + (1 - decay) * value`.
pub fn average_update(average: &Var, value: &Tensor, decay: f64) -> Result<()> {
    same_shape("average_update", average, &[("value", value)])?;
    let _span = span("update", || ("average".to_owned(), 0., 12. * average.elem_count() as f64));
    if !average.device().is_cpu() {
        return average.set(&((average.as_detached_tensor() * decay)? + (value.detach() * (1. - decay))?)?);
    }
    let value = value.detach().contiguous()?;
    let (kept, new) = (decay as f32, (1. - decay) as f32);
    average.inplace_op3(&value, &value, &Update(|a: f32, x: f32, _| kept * a + new * x))
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
    /// Keras's `l2(r)`: `2 r param` is added to the gradient.
    pub l2: f64,
}

/// One update of stochastic gradient descent in Keras's form, on `param` and its `velocity`:
/// `g += 2 r param`, `velocity = momentum * velocity - lr * g`, and `param += velocity`, or with Nesterov's form
/// `param += momentum * velocity - lr * g`. All have the shape of `param`.
pub fn sgd_update(param: &Var, grad: &Tensor, velocity: &Var, step: &SgdStep) -> Result<()> {
    same_shape("sgd_update", param, &[("grad", grad), ("velocity", velocity)])?;
    let _span = span("update", || ("sgd".to_owned(), 0., 20. * param.elem_count() as f64));
    let SgdStep { lr, momentum, nesterov, l2 } = *step;
    let grad = grad.contiguous()?;
    if !param.device().is_cpu() {
        let weight = param.as_detached_tensor();
        let change = ((grad + (&weight * (2. * l2))?)? * -lr)?;
        let new = ((velocity.as_detached_tensor() * momentum)? + &change)?;
        let moved = if nesterov { ((&new * momentum)? + change)? } else { new.clone() };
        velocity.set(&new)?;
        return param.set(&(weight + moved)?);
    }
    let (lr, momentum, decay) = (lr as f32, momentum as f32, (2. * l2) as f32);
    velocity.inplace_op3(&grad, param, &Update(|u: f32, g: f32, w: f32| momentum * u - lr * (g + decay * w)))?;
    if nesterov {
        // The decayed gradient is formed again from the parameter, which has not changed yet.
        let step = |w: f32, u: f32, g: f32| w + momentum * u - lr * (g + decay * w);
        param.inplace_op3(velocity, &grad, &Update(step))
    } else {
        param.inplace_op3(velocity, velocity, &Update(|w: f32, u: f32, _| w + u))
    }
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

/// Replaces each element of the first tensor by a function of it and of the same elements of two others.
struct Update<F>(F);

impl<F: Fn(f32, f32, f32) -> f32 + Sync> InplaceOp3 for Update<F> {
    fn name(&self) -> &'static str {
        "optimiser update"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        a: &CpuStorage,
        a_l: &Layout,
        b: &CpuStorage,
        b_l: &Layout,
    ) -> Result<()> {
        const CHUNK: usize = 1 << 14;
        let op = self.name();
        let (a, b) = (slice(op, a, a_l)?, slice(op, b, b_l)?);
        let Some((start, end)) = dst_l.contiguous_offsets() else {
            bail!("{op}: a parameter of shape {:?} is not contiguous", dst_l.dims());
        };
        let CpuStorage::F32(dst) = dst else { bail!("{op}: the parameter is not F32") };
        let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
        dst[start..end].par_chunks_mut(CHUNK).zip(chunks).for_each(|(dst, (a, b))| {
            dispatch(Chunk { dst, a, b, f: &self.0 });
        });
        Ok(())
    }
}

struct Chunk<'a, F> {
    dst: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
    f: &'a F,
}

impl<F: Fn(f32, f32, f32) -> f32> WithSimd for Chunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (x, (&a, &b)) in self.dst.iter_mut().zip(self.a.iter().zip(self.b)) {
            *x = (self.f)(*x, a, b);
        }
    }
}
