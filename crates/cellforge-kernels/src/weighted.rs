//! The ops of layers with weights, with a bias and without.

use crate::check::slice;
use crate::element::{Element, of_type};
use crate::gather::with_slice;
use crate::profile::span;
use crate::sum::channel_sums;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// A layer on the CPU, of contiguous tensors whose shapes have been checked. Its results have the channels, one for each number of the
/// bias, as their last dimension.
pub(crate) trait Weighted {
    const NAME: &'static str;

    fn forward(
        &self,
        xs: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)>;

    /// The gradients of the input and of the weights, each where it is asked for.
    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>;
}

/// The result of a layer.
pub(crate) fn apply(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    layer: impl Weighted + Send + Sync + 'static,
) -> Result<Tensor> {
    match bias {
        Some(bias) => apply3(xs, weight, &contiguous(bias)?, Op(layer)),
        None => apply2(xs, weight, Op(layer)),
    }
}

/// The gradients of a layer: that of the input is `by_xs` of the weights and the result's gradient, that of the weights `by_weight` of the
/// input and the result's gradient.
pub(crate) fn gradients<E: Element>(
    op: &str,
    [xs, weight, grad]: [&Tensor; 3],
    by_xs: impl FnOnce(&[f32], &[E]) -> Vec<E>,
    by_weight: impl FnOnce(&[E], &[E]) -> Vec<f32>,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    with_slice(op, grad, |grad| {
        let grad_xs = gradient(op, xs, weight, |weight| by_xs(weight, grad))?;
        Ok((grad_xs, gradient(op, weight, xs, |xs| by_weight(xs, grad))?))
    })
}

/// The gradient of `of`, where it is asked for, as `value` of the numbers of `other`.
fn gradient<X: Element, Y: Element>(
    op: &str,
    of: &Tensor,
    other: &Tensor,
    value: impl FnOnce(&[X]) -> Vec<Y>,
) -> Result<Option<Tensor>> {
    if !wants(of) {
        return Ok(None);
    }
    let values = with_slice(op, other, |other| Ok(value(other)))?;
    Ok(Some(Tensor::from_vec(values, of.shape(), of.device())?))
}

/// The gradient of a bias that was added to each channel, where it is asked for.
pub(crate) fn bias_gradient(op: &str, bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !wants(bias) {
        return Ok(None);
    }
    let channels = bias.elem_count();
    let bytes = grad.elem_count() * grad.dtype().size_in_bytes();
    let _span = span("bias gradient", || (format!("{op} {channels}"), 0., bytes as f64));
    let sums = of_type!(grad.dtype(), E => with_slice(op, grad, |grad: &[E]| Ok(channel_sums(grad, channels)))?);
    Ok(Some(Tensor::from_vec(sums, bias.shape(), grad.device())?))
}

/// With a bias a ternary op, without one a binary op.
struct Op<L>(L);

impl<L: Weighted> CustomOp2 for Op<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn cpu_fwd(&self, xs: &CpuStorage, xs_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.forward((xs, xs_l), (w, w_l), None)
    }

    fn bwd(&self, xs: &Tensor, w: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.0.gradients(xs, w, grad)
    }
}

impl<L: Weighted> CustomOp3 for Op<L> {
    fn name(&self) -> &'static str {
        L::NAME
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
        self.0.forward((xs, xs_l), (w, w_l), Some(slice(L::NAME, bias, bias_l)?))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (grad_xs, grad_w) = self.0.gradients(xs, w, grad)?;
        Ok((grad_xs, grad_w, bias_gradient(L::NAME, bias, grad)?))
    }
}
