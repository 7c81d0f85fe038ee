//! Back-propagation without Candle's graph.
//!
//! Candle adds every gradient to a tensor of zeros that it makes first, which costs several passes over memory for each
//! operation of a network. While [`gradients`] runs, the operations of this crate note themselves on a tape instead, and the
//! tape is walked backwards: a gradient is handed on as it is, and only where a tensor was used more than once are two added.

mod origin;
mod result;

use crate::device::ours;
use crate::gather;
use crate::profile::{Span, span};
use candle_core::backprop::GradStore;
use candle_core::op::BackpropOp;
use candle_core::{CustomOp1, CustomOp2, CustomOp3, DType, Device, Result, Shape, Storage, Tensor, TensorId, bail};
use origin::{Origin, origin};
use result::tracked;
use std::cell::RefCell;
use std::collections::HashMap;

/// An operation with its inputs.
enum Op {
    One(Tensor, Box<dyn CustomOp1 + Send + Sync>),
    Two([Tensor; 2], Box<dyn CustomOp2 + Send + Sync>),
    Three([Tensor; 3], Box<dyn CustomOp3 + Send + Sync>),
    Adding([Tensor; 3], Box<dyn BackwardAdding + Send + Sync>),
    AddingOne(Tensor, Box<dyn BackwardAddingOne + Send + Sync>),
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

/// As [`BackwardAdding`], of one input.
pub(crate) trait BackwardAddingOne: CustomOp1 {
    /// [`CustomOp1::bwd`] with `more`, of the shape of the input, added.
    fn bwd_adding(&self, arg: &Tensor, grad: &Tensor, more: &Tensor) -> Result<Option<Tensor>>;
}

#[derive(Default)]
struct Tape {
    /// Each operation and its result, in the order in which they ran.
    nodes: Vec<(Op, Tensor)>,
    /// Results that depend on a variable, and the operations that they are of.
    results: HashMap<TensorId, &'static str>,
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
/// From the variables to the loss there must be operations of this crate alone: arithmetic such as [`add`](crate::add),
/// [`sub`](crate::sub), [`mul`](crate::mul), [`scale`](crate::scale) and [`sqr`](crate::sqr), [`reshape`](crate::reshape), and sums
/// such as [`sum`](crate::sum), [`mean`](crate::mean) and [`mse`](crate::mse) are there for it. A loss that reaches a variable through
/// one of Candle's own operations, of which the tape knows no gradient, is an error that names the operation; views of Candle's, such
/// as `t()` and `narrow`, are operations too. What is computed on the side, to be looked at, may go through any.
/// [`detach`](Tensor::detach) makes a constant of a value, and so does Candle itself where it has no gradient (`argmax`).
///
/// On devices that this crate has no kernels for, this is Candle's back-propagation, and any operation will do.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use cellforge_kernels::{Precision, gradients, linear, mean, sqr};
///
/// # fn main() -> candle_core::Result<()> {
/// let (xs, weight) = (Tensor::new(&[[1f32, 2.]], &Device::Cpu)?, Var::new(&[[3f32, 4.]], &Device::Cpu)?);
/// let (loss, grads) = gradients(|| mean(&sqr(&linear(&xs, &weight, None, Precision::F32)?)?))?;
/// assert_eq!(loss.to_scalar::<f32>()?, 121.);
/// // 2 * 11 times the inputs.
/// assert_eq!(grads.get(&weight).expect("a variable").to_vec2::<f32>()?, [[22., 44.]]);
///
/// let error = gradients(|| mean(&linear(&xs, &weight, None, Precision::F32)?.sqr()?)).unwrap_err().to_string();
/// assert!(error.contains("`sqr`"), "{error}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `forward`; one of Candle's own operations on the way to the loss; a loss that is not a scalar, or that no operation of this
/// crate computed from a variable; a variable that was used but that no gradient reaches; a call from within `forward`.
pub fn gradients(forward: impl FnOnce() -> Result<Tensor>) -> Result<(Tensor, GradStore)> {
    if recording() {
        bail!("gradients: called from within its own closure");
    }
    TAPE.set(Some(Tape::default()));
    let recording = Recording;
    let loss = forward()?;
    if !on_tape("the loss", &loss)? && loss.track_op() && !loss.is_variable() {
        drop(recording);
        let grads = loss.backward()?;
        return Ok((loss.detach(), grads));
    }
    if loss.elem_count() != 1 || !on_tape("the loss", &loss)? {
        bail!("gradients: the loss, of shape {:?}, is no scalar computed from variables by this crate", loss.dims());
    }
    let nodes = TAPE.with_borrow_mut(|tape| tape.as_mut().map(|tape| std::mem::take(&mut tape.nodes)));
    let grads = walk(&loss, loss.ones_like()?, nodes.unwrap_or_default())?;
    Ok((loss.detach(), grads))
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
/// Those of `forward`; one of Candle's own operations on the way to the result; a call from within the closure of this function or of
/// [`gradients`].
pub fn record(forward: impl FnOnce() -> Result<Tensor>) -> Result<Recorded> {
    if recording() {
        bail!("record: called from within another recording");
    }
    TAPE.set(Some(Tape::default()));
    let recording = Recording;
    let result = forward()?;
    let on_candles_graph = !on_tape("the result", &result)? && result.track_op();
    let tape = if on_candles_graph { None } else { TAPE.take() };
    drop(recording);
    Ok(Recorded { result, tape })
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
        if recording() {
            bail!("gradients: called from within a recording");
        }
        if grad.dims() != result.dims() {
            bail!("gradients: the gradient has shape {:?}, the result {:?}", grad.dims(), result.dims());
        }
        if grad.dtype() != result.dtype() {
            bail!("gradients: the gradient is {:?}, the result {:?}", grad.dtype(), result.dtype());
        }
        let Some(mut tape) = tape else {
            return result.mul(&grad.detach())?.sum_all()?.backward();
        };
        let nodes = std::mem::take(&mut tape.nodes);
        TAPE.set(Some(tape));
        let _recording = Recording;
        walk(&result, grad.detach(), nodes)
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
            Op::Adding([xs, ..], _) | Op::AddingOne(xs, _) => take_pending(&mut grads, nodes.last(), xs)?,
            _ => None,
        };
        for (arg, grad) in op.backward(&result, &grad, more.as_ref())? {
            let sum = match grads.remove(&arg.id()) {
                Some(other) => gather::add(&other, &grad)?,
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
                "gradients: none reaches a variable of shape {:?} that {op} used; what came of it is a constant, or no part of the loss",
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
            Self::One(arg, _)
            | Self::AddingOne(arg, _)
            | Self::Reshape(arg)
            | Self::Permute(arg, _)
            | Self::Contiguous(arg) => std::slice::from_ref(arg),
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
            Self::AddingOne(_, op) => op.name(),
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
            Self::AddingOne(arg, op) => vec![match more {
                Some(more) => op.bwd_adding(arg, grad, more)?,
                None => op.bwd(arg, result, grad)?,
            }],
            Self::Reshape(arg) => vec![Some(dense(grad)?.reshape(arg.shape())?)],
            Self::Permute(_, back) => vec![Some(grad.permute(*back)?)],
            Self::Contiguous(_) => vec![Some(grad.clone())],
        };
        let wanted = self.args().iter().zip(grads).filter(|(arg, _)| wants(arg));
        // A gradient that was computed from an operand by Candle would keep its graph.
        Ok(wanted.filter_map(|(arg, grad)| Some((arg.clone(), grad?.detach()))).collect())
    }
}

/// Whether the gradient of a tensor is needed: it is a variable, or depends on one.
pub(crate) fn wants(tensor: &Tensor) -> bool {
    tensor.track_op()
}

fn recording() -> bool {
    TAPE.with_borrow(Option::is_some)
}

fn is_result(tensor: &Tensor) -> bool {
    TAPE.with_borrow(|tape| tape.as_ref().is_some_and(|tape| tape.results.contains_key(&tensor.id())))
}

/// Whether a tensor depends on variables through anything but this recording. What moves its elements leaves it to the operation that
/// takes it to say so, by its name.
fn is_foreign(tensor: &Tensor) -> bool {
    tensor.track_op() && !tensor.is_variable() && !is_result(tensor)
}

/// Whether a tensor is a result of this recording. One that depends on variables in another way is an error, unless it is on a device
/// where all is Candle's business. `user` is what the error calls whoever met the tensor.
fn on_tape(user: &str, tensor: &Tensor) -> Result<bool> {
    if is_result(tensor) {
        return Ok(true);
    }
    if tensor.is_variable() || !tensor.track_op() || !ours(tensor.device()) {
        return Ok(false);
    }
    let (name, from) = match origin(tensor, is_result) {
        Origin::Ended => bail!(
            "gradients: {user} depends on a value of shape {:?} from a recording that has ended; .detach() makes a constant of it",
            tensor.dims()
        ),
        Origin::Candle(name, from) => (name, from),
    };
    let made_by =
        |from: &Tensor| TAPE.with_borrow(|tape| tape.as_ref().and_then(|tape| tape.results.get(&from.id()).copied()));
    let from = match from {
        Some(from) if from.is_variable() => format!("a variable of shape {:?}", from.dims()),
        Some(from) => match made_by(&from) {
            Some(op) => format!("the result of {op}, of shape {:?}", from.dims()),
            None => format!("a tensor of shape {:?} that was not recorded", from.dims()),
        },
        None => "what depends on a variable".to_owned(),
    };
    bail!(
        "gradients: {user} depends on a variable through Candle's own `{name}`, applied to {from}; \
         use an operation of cellforge_kernels, or .detach() what is meant as a constant"
    )
}

/// Notes an operation and its result on the tape, unless it depends on no variable.
fn note_down(op: Op, storage: Storage, shape: Shape) -> Result<Tensor> {
    if !op.args().iter().any(wants) {
        return Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false));
    }
    let result = tracked(op.name(), storage, shape)?;
    Ok(note_view(op, result))
}

/// As [`note_down`], of a result that Candle tracks already.
fn note_view(op: Op, result: Tensor) -> Tensor {
    if result.track_op() {
        TAPE.with_borrow_mut(|tape| {
            if let Some(tape) = tape {
                tape.results.insert(result.id(), op.name());
                tape.nodes.push((op, result.clone()));
            }
        });
    }
    result
}

/// Notes the time of an operation, unless it does so itself or takes none.
fn note(pass: &'static str, op: &'static str, xs: &Tensor) -> Option<Span> {
    let own = ["conv2d", "upsample2x_conv2d", "reshape", "permute", "contiguous"];
    let bytes = 2 * xs.elem_count() * xs.dtype().size_in_bytes();
    let describe = || (format!("{op} {:?}", xs.dims()), 0., bytes as f64);
    if own.contains(&op) { None } else { span(pass, describe) }
}

/// Fails if an operand depends on variables through anything but this recording.
fn check_operands(op: &str, operands: &[&Tensor]) -> Result<()> {
    if !recording() {
        return Ok(());
    }
    operands.iter().try_for_each(|operand| on_tape(op, operand).map(drop))
}

fn on_two_devices<T>(op: &str) -> Result<T> {
    bail!("{op}: the operands are on two devices")
}

/// Applies an operation on the tape where one is being recorded, and else on Candle's graph.
pub(crate) fn apply1(xs: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), xs);
    if !recording() {
        return xs.apply_op1(op);
    }
    let (storage, shape) = forward1(xs, &op)?;
    note_down(Op::One(xs.clone(), Box::new(op)), storage, shape)
}

/// See [`apply1`].
pub(crate) fn apply1_adding(xs: &Tensor, op: impl BackwardAddingOne + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), xs);
    if !recording() {
        return xs.apply_op1(op);
    }
    let (storage, shape) = forward1(xs, &op)?;
    note_down(Op::AddingOne(xs.clone(), Box::new(op)), storage, shape)
}

fn forward1(xs: &Tensor, op: &impl CustomOp1) -> Result<(Storage, Shape)> {
    check_operands(op.name(), &[xs])?;
    let (x, x_l) = xs.storage_and_layout();
    match &*x {
        Storage::Cpu(x) => on(Storage::Cpu, op.cpu_fwd(x, x_l)),
        Storage::Cuda(x) => on(Storage::Cuda, op.cuda_fwd(x, x_l)),
        Storage::Metal(x) => on(Storage::Metal, op.metal_fwd(x, x_l)),
    }
}

/// See [`apply1`].
pub(crate) fn apply2(a: &Tensor, b: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() {
        return a.apply_op2(b, op);
    }
    check_operands(op.name(), &[a, b])?;
    let (storage, shape) = {
        let ((x, x_l), (y, y_l)) = (a.storage_and_layout(), b.storage_and_layout());
        match (&*x, &*y) {
            (Storage::Cpu(x), Storage::Cpu(y)) => on(Storage::Cpu, op.cpu_fwd(x, x_l, y, y_l))?,
            (Storage::Cuda(x), Storage::Cuda(y)) => on(Storage::Cuda, op.cuda_fwd(x, x_l, y, y_l))?,
            (Storage::Metal(x), Storage::Metal(y)) => on(Storage::Metal, op.metal_fwd(x, x_l, y, y_l))?,
            _ => on_two_devices(op.name())?,
        }
    };
    note_down(Op::Two([a.clone(), b.clone()], Box::new(op)), storage, shape)
}

/// See [`apply1`].
pub(crate) fn apply3(a: &Tensor, b: &Tensor, c: &Tensor, op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() {
        return a.apply_op3(b, c, op);
    }
    let (storage, shape) = forward3([a, b, c], &op)?;
    note_down(Op::Three([a.clone(), b.clone(), c.clone()], Box::new(op)), storage, shape)
}

/// See [`apply1`].
pub(crate) fn apply3_adding(
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    op: impl BackwardAdding + Send + Sync + 'static,
) -> Result<Tensor> {
    let _span = note("forward", op.name(), a);
    if !recording() {
        return a.apply_op3(b, c, op);
    }
    let (storage, shape) = forward3([a, b, c], &op)?;
    note_down(Op::Adding([a.clone(), b.clone(), c.clone()], Box::new(op)), storage, shape)
}

fn forward3([a, b, c]: [&Tensor; 3], op: &impl CustomOp3) -> Result<(Storage, Shape)> {
    check_operands(op.name(), &[a, b, c])?;
    let ((x, x_l), (y, y_l), (z, z_l)) = (a.storage_and_layout(), b.storage_and_layout(), c.storage_and_layout());
    match (&*x, &*y, &*z) {
        (Storage::Cpu(x), Storage::Cpu(y), Storage::Cpu(z)) => on(Storage::Cpu, op.cpu_fwd(x, x_l, y, y_l, z, z_l)),
        (Storage::Cuda(x), Storage::Cuda(y), Storage::Cuda(z)) => {
            on(Storage::Cuda, op.cuda_fwd(x, x_l, y, y_l, z, z_l))
        }
        (Storage::Metal(x), Storage::Metal(y), Storage::Metal(z)) => {
            on(Storage::Metal, op.metal_fwd(x, x_l, y, y_l, z, z_l))
        }
        _ => on_two_devices(op.name()),
    }
}

/// What an operation computed, as storage of any device.
fn on<S>(device: fn(S) -> Storage, computed: Result<(S, Shape)>) -> Result<(Storage, Shape)> {
    computed.map(|(storage, shape)| (device(storage), shape))
}

/// `xs` with another shape of as many elements.
pub(crate) fn reshape(xs: &Tensor, shape: &[usize]) -> Result<Tensor> {
    check_operands("reshape", &[xs])?;
    let xs = contiguous(xs)?;
    let result = xs.reshape(shape)?;
    if !recording() {
        return Ok(result);
    }
    Ok(note_view(Op::Reshape(xs), result))
}

/// `xs` with its dimensions in another order, of which `back` is the inverse.
pub(crate) fn permute(xs: &Tensor, order: [usize; 4], back: [usize; 4]) -> Result<Tensor> {
    let result = xs.permute(order)?;
    if !recording() || is_foreign(xs) {
        return Ok(result);
    }
    Ok(note_view(Op::Permute(xs.clone(), back), result))
}

/// `xs`, copied if its elements do not lie in their order.
pub(crate) fn contiguous(xs: &Tensor) -> Result<Tensor> {
    if xs.is_contiguous() {
        return Ok(xs.clone());
    }
    let candles = if recording() { is_foreign(xs) } else { xs.track_op() };
    if candles {
        return xs.contiguous();
    }
    match gather::gathered_storage(xs)? {
        Some(storage) => note_down(Op::Contiguous(xs.clone()), storage, xs.shape().clone()),
        None => Ok(note_view(Op::Contiguous(xs.clone()), xs.contiguous()?)),
    }
}

/// A gradient whose elements lie in their order.
fn dense(grad: &Tensor) -> Result<Tensor> {
    if grad.is_contiguous() { Ok(grad.clone()) } else { gather::gathered(grad) }
}
