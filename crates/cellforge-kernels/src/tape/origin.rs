//! Where a tensor comes from that the tape did not make.
//!
//! Candle keeps its graph to itself: it tells which tensors a tensor was computed from ([`Tensor::sorted_nodes`]), but not by which
//! operation. So the operation is told by what it did: the memory it shares, or the values that it made of those it had, and the
//! gradient that Candle passes back through it.

use super::result::is_marker;
use candle_core::{DType, Result, Shape, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// While [`through_candle`] runs: the gradients that arrive at recorded results.
    static ARRIVED: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Takes the gradient that Candle's back-propagation brings to a recorded result, if this module asked for it.
pub(super) fn take_arrived(result: &Tensor, grad: &Tensor) -> bool {
    ARRIVED.with_borrow_mut(|arrived| match arrived {
        Some(arrived) => {
            arrived.insert(result.id(), grad.clone());
            true
        }
        None => false,
    })
}

/// What stands between a tensor and what is known of it.
pub(super) enum Origin {
    /// A result of a recording that has ended.
    Ended,
    /// Candle's operation of this name, applied to this tensor.
    Candle(&'static str, Option<Tensor>),
}

/// The first of Candle's own operations on the way from tensors that are `known`, and from variables, to `tensor`.
pub(super) fn origin(tensor: &Tensor, known: impl Fn(&Tensor) -> bool) -> Origin {
    let leaf = |node: &Tensor| known(node) || node.is_variable();
    // Operations come before those that they depend on.
    let Some(made) = tensor.sorted_nodes().into_iter().rev().find(|node| !leaf(node)).cloned() else {
        return Origin::Candle("comparison, rounding or conversion", None);
    };
    let parents = made.sorted_nodes();
    if parents[1..].iter().all(|parent| is_marker(parent)) {
        return Origin::Ended;
    }
    let leaves: Vec<&Tensor> = parents[1..].iter().filter(|node| leaf(node) && !is_marker(node)).copied().collect();
    let of_views = leaves.iter().find_map(|leaf| Some((view(leaf, &made)?, *leaf)));
    let (name, leaf) = of_views
        .or_else(|| by_values(&leaves, &made))
        .or_else(|| {
            leaves.first().map(|leaf| (by_gradient(leaf, &made).unwrap_or_else(|| by_shape(leaf, &made)), *leaf))
        })
        .unwrap_or(("operation", &made));
    Origin::Candle(name, Some(leaf.clone()))
}

/// The operation that made a view of the memory of another tensor.
fn view(from: &Tensor, to: &Tensor) -> Option<&'static str> {
    let ((a, a_layout), (b, b_layout)) = (from.storage_and_layout(), to.storage_and_layout());
    if !std::ptr::eq(&raw const *a, &raw const *b) {
        return None;
    }
    let axes = |layout: &candle_core::Layout| -> Vec<(usize, usize)> {
        layout.dims().iter().copied().zip(layout.stride().iter().copied()).collect()
    };
    let (a, b) = (axes(a_layout), axes(b_layout));
    let sorted = |axes: &[(usize, usize)]| {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes
    };
    let repeats = |axes: &[(usize, usize)]| axes.iter().filter(|(size, stride)| *size > 1 && *stride == 0).count();
    Some(if repeats(&b) > repeats(&a) {
        "broadcast_as"
    } else if from.elem_count() != to.elem_count() {
        "narrow"
    } else if a.len() == b.len() && a != b && sorted(&a) == sorted(&b) {
        if a.iter().zip(&b).filter(|(a, b)| a != b).count() == 2 { "transpose" } else { "permute" }
    } else {
        "reshape"
    })
}

type Unary = fn(&Tensor) -> Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;
type Reduction = fn(&Tensor, usize) -> Result<Tensor>;

const UNARY: [(&str, Unary); 17] = [
    ("contiguous", |xs| xs.copy()),
    ("sqr", |xs| xs.sqr()),
    ("sqrt", |xs| xs.sqrt()),
    ("neg", |xs| xs.neg()),
    ("recip", |xs| xs.recip()),
    ("exp", |xs| xs.exp()),
    ("log", |xs| xs.log()),
    ("sin", |xs| xs.sin()),
    ("cos", |xs| xs.cos()),
    ("abs", |xs| xs.abs()),
    ("relu", |xs| xs.relu()),
    ("tanh", |xs| xs.tanh()),
    ("silu", |xs| xs.silu()),
    ("gelu", |xs| xs.gelu()),
    ("gelu_erf", |xs| xs.gelu_erf()),
    ("erf", |xs| xs.erf()),
    ("elu", |xs| xs.elu(1.)),
];

const BINARY: [(&str, Binary); 7] = [
    ("add", |a, b| a + b),
    ("sub", |a, b| a - b),
    ("mul", |a, b| a * b),
    ("div", |a, b| a / b),
    ("maximum", |a, b| a.maximum(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("matmul", |a, b| a.matmul(b)),
];

const REDUCTIONS: [(&str, Reduction); 3] = [
    ("sum", |xs, dim| xs.sum_keepdim(dim)),
    ("max", |xs, dim| xs.max_keepdim(dim)),
    ("min", |xs, dim| xs.min_keepdim(dim)),
];

/// The operation that makes these very values of tensors that are at hand.
fn by_values<'a>(leaves: &[&'a Tensor], made: &Tensor) -> Option<(&'static str, &'a Tensor)> {
    let want = values(made).ok()?;
    let is = |got: Result<Tensor>| {
        got.is_ok_and(|got| got.dims() == made.dims() && values(&got).is_ok_and(|got| same_bits(&got, &want)))
    };
    let plain: Vec<Tensor> = leaves.iter().map(|leaf| leaf.detach()).collect();
    for (leaf, xs) in leaves.iter().zip(&plain) {
        if let Some((name, _)) = UNARY.iter().find(|(_, op)| xs.dims() == made.dims() && is(op(xs))) {
            return Some((name, leaf));
        }
        for ys in &plain {
            if let Some((name, _)) = BINARY.iter().find(|(_, op)| is(op(xs, ys))) {
                return Some((name, leaf));
            }
        }
        // Candle reduces several dimensions at once, in its own order, so that the values may differ in their last bits.
        if xs.rank() == made.rank() && xs.dims() != made.dims() {
            let dims = || (0..xs.rank()).filter(|&dim| xs.dims()[dim] != made.dims()[dim]);
            let close = |got: &Tensor| got.dims() == made.dims() && values(got).is_ok_and(|got| near(&got, &want));
            let reduced = |op: &Reduction| dims().try_fold(xs.clone(), |xs, dim| op(&xs, dim));
            if let Some((name, _)) = REDUCTIONS.iter().find(|(_, op)| reduced(op).is_ok_and(|got| close(&got))) {
                return Some((name, leaf));
            }
        }
    }
    None
}

/// Arithmetic with a constant, which is not at hand, by the gradient of the sum of all values.
fn by_gradient(leaf: &Tensor, made: &Tensor) -> Option<&'static str> {
    if leaf.dims() != made.dims() {
        return None;
    }
    let grad = values(&through_candle(leaf, made)?).ok()?;
    let (xs, ys) = (values(leaf).ok()?, values(made).ok()?);
    let uniform = |xs: &[f32]| near(xs, &vec![xs[0]; xs.len()]);
    let rest: Vec<f32> = ys.iter().zip(&xs).zip(&grad).map(|((y, x), g)| y - x * g).collect();
    let products: Vec<f32> = xs.iter().zip(&grad).map(|(x, g)| x * g).collect();
    if uniform(&grad) && near_by(&rest, &vec![rest[0]; rest.len()], &ys) {
        return Some("affine");
    }
    if grad.iter().all(|g| *g == 1.) {
        return Some("add");
    }
    if grad.iter().all(|g| *g == -1.) {
        return Some("sub");
    }
    if same_bits(&products, &ys) {
        return Some("mul");
    }
    near(&products, &ys).then_some("div")
}

/// The gradient of the sum of `made` by `leaf` on Candle's graph.
fn through_candle(leaf: &Tensor, made: &Tensor) -> Option<Tensor> {
    ARRIVED.set(Some(HashMap::new()));
    let grads = made.backward();
    let mut arrived = ARRIVED.take()?;
    arrived.remove(&leaf.id()).or_else(|| grads.ok()?.get(leaf).cloned())
}

/// What an operation must have been to make this shape of that one.
fn by_shape(leaf: &Tensor, made: &Tensor) -> &'static str {
    if leaf.dtype() != made.dtype() {
        return "to_dtype";
    }
    if !leaf.device().same_device(made.device()) {
        return "to_device";
    }
    let (from, to) = (leaf.dims(), made.dims());
    if from == to {
        return "element-wise operation";
    }
    let changed: Vec<usize> = (0..from.len().min(to.len())).filter(|&dim| from[dim] != to[dim]).collect();
    match (from.len() == to.len(), changed[..] == [from.len() - 1] || changed[..] == [from.len().saturating_sub(2)]) {
        (true, _) if from.len() == 4 && changed.iter().any(|&dim| dim > 1) => "convolution, pooling or upsampling",
        (true, _) if changed.len() == 1 && holds(made, leaf) => "index_select",
        (true, _) if changed.len() == 1 && from[changed[0]] < to[changed[0]] && holds(leaf, made) => "cat",
        (true, true) => "matmul",
        _ => "operation",
    }
}

/// Whether every value of one tensor is among those of the other.
fn holds(part: &Tensor, whole: &Tensor) -> bool {
    let (Ok(part), Ok(whole)) = (values(part), values(whole)) else { return false };
    let whole: std::collections::HashSet<u32> = whole.into_iter().map(f32::to_bits).collect();
    part.into_iter().all(|x| whole.contains(&x.to_bits()))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.detach().to_dtype(DType::F32)?.reshape(Shape::from(tensor.elem_count()))?.to_vec1()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn near(a: &[f32], b: &[f32]) -> bool {
    near_by(a, b, b)
}

/// Whether numbers differ by rounding alone, beside numbers of this size.
fn near_by(a: &[f32], b: &[f32], size: &[f32]) -> bool {
    let size = size.iter().chain(b).fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * size)
}
