//! Back-propagation without Candle's graph.
//!
//! Candle adds every gradient to a tensor of zeros that it makes first, which costs several passes over memory for each
//! operation of a network. While [`gradients`] runs, the operations of this crate note themselves on a tape instead, and the
//! tape is walked backwards: a gradient is handed on as it is, and only where a tensor was used more than once are two added.

use crate::layout;
use crate::profile::{Span, span};
use candle_core::backprop::GradStore;
use candle_core::{CustomOp1, CustomOp2, CustomOp3, DType, Device, Result, Tensor, TensorId, bail};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// An operation with its inputs.
enum Op {
    One(Tensor, Box<dyn CustomOp1 + Send + Sync>),
    Two([Tensor; 2], Box<dyn CustomOp2 + Send + Sync>),
    Three([Tensor; 3], Box<dyn CustomOp3 + Send + Sync>),
    Adding([Tensor; 3], Box<dyn BackwardAdding + Send + Sync>),
    Reshape(Tensor),
    /// With the order of dimensions that brings a gradient back.
    Permute(Tensor, [usize; 4]),
    Contiguous(Tensor),
}

/// An operation that can add another gradient of its first input to the one it computes, in the same pass over memory.
pub(crate) trait BackwardAdding: CustomOp3 {
    /// [`CustomOp3::bwd`] with `more`, of the shape of the first input, added to the first gradient.
    fn bwd_adding(
        &self,
        args: [&Tensor; 3],
        grad: &Tensor,
        more: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)>;
}

#[derive(Default)]
struct Tape {
    /// Each operation and its result, in the order in which they ran.
    nodes: Vec<(Op, Tensor)>,
    /// Results that depend on a variable.
    tracked: HashSet<TensorId>,
}

thread_local! {
    static TAPE: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Takes the tape away when the recording ends, in whatever way.
struct Recording;

impl Drop for Recording {
    fn drop(&mut self) {
        TAPE.set(None);
    }
}

/// Runs `forward`, which computes a scalar loss, and returns the loss with its gradients by all variables. It is
/// `loss.backward()`, with the same figures, in less time and memory.
///
/// From the variables to the loss there must be operations of this crate alone ([`reshape`](crate::reshape) and
/// [`add`](crate::add) are there for it). What one of Candle's own, arithmetic and `t()` included, makes of a result of this
/// crate is a constant, and nothing in Candle tells of it. It is noticed where it leaves a variable that was used, or the loss,
/// without any gradient. **Where other paths still lead from the variable to the loss, its gradient is the sum over those, which
/// is wrong, and there is no error**: compare with `loss.backward()` in a test of each network. On devices that this crate has
/// no kernels for, this is Candle's back-propagation, and any operation will do.
///
/// # Errors
/// Those of `forward`; a loss that is not a scalar, that no operation of this crate computed from a variable, or that depends
/// on variables both through this crate and on Candle's own graph; a variable that was used but that no gradient reaches; a
/// call from within `forward`.
pub fn gradients(forward: impl FnOnce() -> Result<Tensor>) -> Result<(Tensor, GradStore)> {
    if TAPE.with_borrow(Option::is_some) {
        bail!("gradients: called from within its own closure");
    }
    TAPE.set(Some(Tape::default()));
    let recording = Recording;
    let loss = forward()?;
    let nodes = TAPE.with_borrow_mut(|tape| tape.as_mut().map(|tape| std::mem::take(&mut tape.nodes)));
    let nodes = nodes.unwrap_or_default();
    if loss.track_op() {
        if !nodes.is_empty() {
            bail!(
                "gradients: the loss depends on variables through operations of Candle's own; use those of this crate"
            );
        }
        drop(recording);
        let grads = loss.backward()?;
        return Ok((loss, grads));
    }
    if loss.elem_count() != 1 || !wants(&loss) {
        bail!("gradients: the loss, of shape {:?}, is no scalar computed from variables by this crate", loss.dims());
    }
    let grads = walk(&loss, loss.ones_like()?, nodes)?;
    Ok((loss, grads))
}

/// A computation that was noted down, for [`Recorded::gradients`] to walk back later.
pub struct Recorded {
    result: Tensor,
    /// None where the result is on Candle's own graph.
    tape: Option<Tape>,
}

/// Runs `forward` and keeps what it did, so that the gradient of its result can be handed to [`Recorded::gradients`] later, with other
/// things done in between. What [`gradients`] says of Candle's own operations is true of `forward`.
///
/// # Errors
/// Those of `forward`; a result that depends on variables both through this crate and on Candle's own graph; a call from within the
/// closure of this function or of [`gradients`].
pub fn record(forward: impl FnOnce() -> Result<Tensor>) -> Result<Recorded> {
    if TAPE.with_borrow(Option::is_some) {
        bail!("record: called from within another recording");
    }
    TAPE.set(Some(Tape::default()));
    let recording = Recording;
    let result = forward()?;
    let tape = TAPE.take();
    drop(recording);
    if !result.track_op() {
        return Ok(Recorded { result, tape });
    }
    if tape.is_some_and(|tape| !tape.nodes.is_empty()) {
        bail!("record: the result depends on variables through operations of Candle's own; use those of this crate");
    }
    Ok(Recorded { result, tape: None })
}

impl Recorded {
    /// The result, as a constant.
    #[must_use]
    pub fn result(&self) -> Tensor {
        self.result.detach()
    }

    /// The gradients by all variables of a loss whose gradient by the result is `grad`. Variables must not have changed since.
    ///
    /// # Errors
    /// A gradient of another shape than the result's; a variable that was used but that no gradient reaches; a call from within the
    /// closure of [`record`] or of [`gradients`].
    pub fn gradients(self, grad: &Tensor) -> Result<GradStore> {
        let Self { result, tape } = self;
        if TAPE.with_borrow(Option::is_some) {
            bail!("gradients: called from within a recording");
        }
        if grad.dims() != result.dims() {
            bail!("gradients: the gradient has shape {:?}, the result {:?}", grad.dims(), result.dims());
        }
        let Some(mut tape) = tape else {
            return result.mul(&grad.detach())?.sum_all()?.backward();
        };
        let nodes = std::mem::take(&mut tape.nodes);
        TAPE.set(Some(tape));
        let _recording = Recording;
        walk(&result, grad.clone(), nodes)
    }
}

/// From a result and its gradient back to the variables. Intermediate results are dropped as soon as they have been passed.
fn walk(result: &Tensor, grad: Tensor, mut nodes: Vec<(Op, Tensor)>) -> Result<GradStore> {
    let mut grads = HashMap::from([(result.id(), grad)]);
    let mut variables: Vec<(Tensor, String)> = Vec::new();
    while let Some((op, result)) = nodes.pop() {
        for arg in op.args().iter().filter(|arg| arg.is_variable()) {
            variables.push(((*arg).clone(), op.name().to_owned()));
        }
        let Some(grad) = grads.remove(&result.id()) else { continue };
        let more = match &op {
            Op::Adding([xs, ..], _) => take_pending(&mut grads, nodes.last(), xs)?,
            _ => None,
        };
        for (arg, grad) in op.backward(&result, &grad, more.as_ref())? {
            let sum = match grads.remove(&arg.id()) {
                Some(other) => layout::add(&other, &grad)?,
                None => grad,
            };
            grads.insert(arg.id(), sum);
        }
    }
    // Candle makes a store only by back-propagation; that of a constant is the smallest.
    let mut store = Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?;
    for (variable, op) in variables {
        match grads.get(&variable.id()) {
            Some(grad) => _ = store.insert(&variable, grad.clone()),
            None => bail!(
                "gradients: none reaches a variable of shape {:?} that {op} used; an operation of Candle's lies in between",
                variable.dims()
            ),
        }
    }
    Ok(store)
}

/// Takes the gradient of `xs` that other operations have computed so far, if any. Where `xs` is a permuted view, made by the
/// operation `before`, that is the gradient of what it is a view of.
fn take_pending(
    grads: &mut HashMap<TensorId, Tensor>,
    before: Option<&(Op, Tensor)>,
    xs: &Tensor,
) -> Result<Option<Tensor>> {
    match before {
        Some((Op::Permute(source, back), view)) if view.id() == xs.id() => {
            let order: [usize; 4] = std::array::from_fn(|i| back.iter().position(|&b| b == i).unwrap_or(i));
            grads.remove(&source.id()).map(|grad| grad.permute(order)).transpose()
        }
        _ => Ok(grads.remove(&xs.id())),
    }
}

impl Op {
    fn args(&self) -> &[Tensor] {
        match self {
            Self::One(arg, _) | Self::Reshape(arg) | Self::Permute(arg, _) | Self::Contiguous(arg) => {
                std::slice::from_ref(arg)
            }
            Self::Two(args, _) => args,
            Self::Three(args, _) | Self::Adding(args, _) => args,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::One(_, op) => op.name(),
            Self::Two(_, op) => op.name(),
            Self::Three(_, op) => op.name(),
            Self::Adding(_, op) => op.name(),
            Self::Reshape(_) => "reshape",
            Self::Permute(..) => "permute",
            Self::Contiguous(_) => "contiguous",
        }
    }

    /// The gradients of those inputs that want one; `more` is added to that of the first.
    fn backward(&self, result: &Tensor, grad: &Tensor, more: Option<&Tensor>) -> Result<Vec<(Tensor, Tensor)>> {
        let _span = note("gradient", self.name(), &self.args()[0]);
        let grads = match self {
            Self::One(arg, op) => vec![op.bwd(arg, result, grad)?],
            Self::Two([a, b], op) => <[_; 2]>::from(op.bwd(a, b, result, grad)?).into(),
            Self::Three([a, b, c], op) => <[_; 3]>::from(op.bwd(a, b, c, result, grad)?).into(),
            Self::Adding([a, b, c], op) => <[_; 3]>::from(match more {
                Some(more) => op.bwd_adding([a, b, c], grad, more)?,
                None => op.bwd(a, b, c, result, grad)?,
            })
            .into(),
            Self::Reshape(arg) => vec![Some(dense(grad)?.reshape(arg.shape())?)],
            Self::Permute(_, back) => vec![Some(grad.permute(*back)?)],
            Self::Contiguous(_) => vec![Some(grad.clone())],
        };
        let wanted = self.args().iter().zip(grads).filter(|(arg, _)| wants(arg));
        Ok(wanted.filter_map(|(arg, grad)| Some((arg.clone(), grad?))).collect())
    }
}

/// Whether the gradient of a tensor is needed, on Candle's graph or on the tape.
pub(crate) fn wants(tensor: &Tensor) -> bool {
    let on_tape = |tape: &Option<Tape>| tape.as_ref().is_some_and(|tape| tape.tracked.contains(&tensor.id()));
    tensor.track_op() || TAPE.with_borrow(on_tape)
}

fn recording() -> bool {
    TAPE.with_borrow(Option::is_some)
}

/// Notes an operation whose result was computed outside Candle's graph.
fn note_down(op: Op, result: Tensor) -> Tensor {
    if op.args().iter().any(wants) {
        TAPE.with_borrow_mut(|tape| {
            if let Some(tape) = tape {
                tape.tracked.insert(result.id());
                tape.nodes.push((op, result.clone()));
            }
        });
    }
    result
}

/// Notes the time of an operation, unless it does so itself or takes none.
fn note(pass: &'static str, op: &'static str, xs: &Tensor) -> Option<Span> {
    let own = ["conv2d", "upsample2x_conv2d", "reshape", "permute", "contiguous"];
    let describe = || (format!("{op} {:?}", xs.dims()), 0., 8. * xs.elem_count() as f64);
    if own.contains(&op) { None } else { span(pass, describe) }
}

/// Applies an operation on the tape where one is being recorded, and else on Candle's graph.
pub(crate) fn apply1(xs: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), xs);
    if !recording() || xs.op_is_on_graph() {
        return xs.apply_op1(op);
    }
    let result = xs.apply_op1_no_bwd(&op)?;
    Ok(note_down(Op::One(xs.clone(), Box::new(op)), result))
}

/// See [`apply1`].
pub(crate) fn apply2(a: &Tensor, b: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() || a.op_is_on_graph() || b.op_is_on_graph() {
        return a.apply_op2(b, op);
    }
    let result = a.apply_op2_no_bwd(b, &op)?;
    Ok(note_down(Op::Two([a.clone(), b.clone()], Box::new(op)), result))
}

/// See [`apply1`].
pub(crate) fn apply3(a: &Tensor, b: &Tensor, c: &Tensor, op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() || [a, b, c].into_iter().any(OnGraph::op_is_on_graph) {
        return a.apply_op3(b, c, op);
    }
    let result = a.apply_op3_no_bwd(b, c, &op)?;
    Ok(note_down(Op::Three([a.clone(), b.clone(), c.clone()], Box::new(op)), result))
}

/// See [`apply1`].
pub(crate) fn apply3_adding(
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    op: impl BackwardAdding + Send + Sync + 'static,
) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() || [a, b, c].into_iter().any(OnGraph::op_is_on_graph) {
        return a.apply_op3(b, c, op);
    }
    let result = a.apply_op3_no_bwd(b, c, &op)?;
    Ok(note_down(Op::Adding([a.clone(), b.clone(), c.clone()], Box::new(op)), result))
}

/// `xs` with another shape of as many elements.
pub(crate) fn reshape(xs: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let xs = contiguous(xs)?;
    let result = xs.reshape(shape)?;
    if !recording() || xs.op_is_on_graph() {
        return Ok(result);
    }
    Ok(note_down(Op::Reshape(xs), result.detach()))
}

/// `xs` with its dimensions in another order, of which `back` is the inverse.
pub(crate) fn permute(xs: &Tensor, order: [usize; 4], back: [usize; 4]) -> Result<Tensor> {
    let result = xs.permute(order)?;
    if !recording() || xs.op_is_on_graph() {
        return Ok(result);
    }
    Ok(note_down(Op::Permute(xs.clone(), back), result.detach()))
}

/// `xs`, copied if its elements do not lie in their order.
pub(crate) fn contiguous(xs: &Tensor) -> Result<Tensor> {
    if xs.is_contiguous() {
        return Ok(xs.clone());
    }
    if xs.op_is_on_graph() || (!recording() && xs.track_op()) {
        return xs.contiguous();
    }
    Ok(note_down(Op::Contiguous(xs.clone()), layout::gathered(xs)?))
}

/// A gradient whose elements lie in their order.
fn dense(grad: &Tensor) -> Result<Tensor> {
    if grad.is_contiguous() { Ok(grad.clone()) } else { layout::gathered(grad) }
}

trait OnGraph {
    /// Whether a tensor is the tracked result of an operation of Candle's own. Its gradient is Candle's business, so what is
    /// computed from it stays on Candle's graph.
    fn op_is_on_graph(&self) -> bool;
}

impl OnGraph for Tensor {
    fn op_is_on_graph(&self) -> bool {
        self.track_op() && !self.is_variable()
    }
}
