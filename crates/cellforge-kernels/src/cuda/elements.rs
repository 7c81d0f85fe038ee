//! Operations on single elements, and masks of dropout.

use super::op::{kernel1, kernel2};
use super::{bytes_ptr, with_ptrs};
use crate::gather::is_channels_last;
use crate::gpu::{Gpu, Ptr, args, elements, gpu, size};
use crate::layout::{channels_first, channels_last, elementwise};
use crate::mask::DropoutMask;
use crate::tape::{apply1, apply2, contiguous, wants};
use candle_core::{CudaStorage, Device, Result, Tensor};

/// A mask in the memory of a device, of elements as they lie in images `(b, h, w, c)`.
pub(super) fn mask_on(mask: Option<&DropoutMask>, device: &Device) -> Result<(Option<Tensor>, f32)> {
    match mask {
        Some(mask) => Ok((Some(mask.on(device)?), mask.scale())),
        None => Ok((None, 1.)),
    }
}

/// Applies an operation to images in their order in memory, to others as they are.
fn in_order(xs: &Tensor, op: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match xs.rank() {
        4 => channels_first(&op(&channels_last(xs)?)?),
        _ => op(&contiguous(xs)?),
    }
}

/// `grad` through a leaky ReLU at `at` and a mask.
fn leaky_slope(
    op: &str,
    at: &Tensor,
    grad: &Tensor,
    keep: Option<&Tensor>,
    negative_slope: f32,
    scale: f32,
) -> Result<Tensor> {
    let keep = bytes_ptr(op, keep)?;
    with_ptrs(op, [at, grad], |gpu, [at_ptr, g]| {
        let out = gpu
            .map("leaky_relu_slope", at.elem_count(), |out, n| args![at_ptr, g, keep, out, n, negative_slope, scale])?;
        Ok(out.tensor(at.shape()))
    })
}

pub(crate) fn leaky_relu(
    name: &'static str,
    xs: &Tensor,
    negative_slope: f32,
    mask: Option<&DropoutMask>,
) -> Result<Tensor> {
    let (keep, scale) = mask_on(mask, xs.device())?;
    let kept = keep.clone();
    let op = kernel1(
        name,
        move |gpu, x, layout| {
            let keep = bytes_ptr(name, keep.as_ref())?;
            let len = layout.shape().elem_count();
            let ys = gpu.map("leaky_relu", len, |ys, n| args![x, keep, ys, n, negative_slope, scale])?;
            Ok((ys, layout.shape().clone()))
        },
        move |xs, _, grad| leaky_slope(name, xs, grad, kept.as_ref(), negative_slope, scale).map(Some),
    );
    match mask {
        Some(_) => in_order(xs, |xs| apply1(xs, op)),
        None => elementwise(xs, |xs| apply1(xs, op)),
    }
}

pub(crate) fn leaky_relu_jvp(xs: &Tensor, at: &Tensor, negative_slope: f32) -> Result<Tensor> {
    const NAME: &str = "leaky_relu_jvp";
    let at = match xs.rank() {
        4 => channels_last(&at.detach())?,
        _ => contiguous(&at.detach())?,
    };
    let kept = at.clone();
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let ys = with_ptrs(NAME, [&at], |_, [at]| {
                let len = layout.shape().elem_count();
                gpu.map("leaky_relu_slope", len, |ys, n| args![at, x, Ptr::NULL, ys, n, negative_slope, 1f32])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |_, _, grad| leaky_slope(NAME, &kept, grad, None, negative_slope, 1.).map(Some),
    );
    in_order(xs, |xs| apply1(xs, op))
}

pub(crate) fn tanh(xs: &Tensor) -> Result<Tensor> {
    let op = kernel1(
        "tanh",
        |gpu, x, layout| {
            let ys = gpu.map("tanh_forward", layout.shape().elem_count(), |ys, n| args![x, ys, n])?;
            Ok((ys, layout.shape().clone()))
        },
        |_, ys, grad| {
            with_ptrs("tanh", [ys, grad], |gpu, [y, g]| {
                let out = gpu.map("tanh_gradient", ys.elem_count(), |out, n| args![y, g, out, n])?;
                Ok(Some(out.tensor(ys.shape())))
            })
        },
    );
    elementwise(xs, |xs| apply1(xs, op))
}

pub(crate) fn dropout(xs: &Tensor, mask: &DropoutMask) -> Result<Tensor> {
    let (keep, scale) = (mask.on(xs.device())?, mask.scale());
    let kept = keep.clone();
    let dropped = move |gpu: &Gpu, x: Ptr, keep: &Tensor| {
        let keep_ptr = bytes_ptr("dropout", Some(keep))?;
        gpu.map("dropout", keep.elem_count(), |ys, n| args![x, keep_ptr, ys, n, scale])
    };
    let op = kernel1(
        "dropout",
        move |gpu, x, layout| Ok((dropped(gpu, x, &keep)?, layout.shape().clone())),
        move |xs, _, grad| {
            let out = with_ptrs("dropout", [grad], |gpu, [g]| dropped(gpu, g, &kept))?;
            Ok(Some(out.tensor(xs.shape())))
        },
    );
    in_order(xs, |xs| apply1(xs, op))
}

/// The bytes of a mask that the host would draw: 16 bits of a ChaCha generator with 12 rounds decide over each element, and each `chunk`
/// of elements has a stream of its own.
pub(crate) fn drawn_mask(device: &Device, seed: &[u8; 32], len: usize, chunk: usize, threshold: u32) -> Result<Tensor> {
    use candle_core::Storage;
    use candle_core::op::BackpropOp;
    let gpu = gpu(device.as_cuda_device()?)?;
    let words: [u32; 8] = std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|k| seed[4 * i + k])));
    let [a, b, c, d, e, f, g, h] = words;
    #[expect(unsafe_code, reason = "the contents are arbitrary")]
    // SAFETY: the kernel writes all of them.
    let keep = unsafe { device.as_cuda_device()?.alloc::<u8>(len)? };
    let address = gpu.address(&keep);
    // A thread draws 32 elements.
    gpu.launch(
        "dropout_mask",
        elements(len.div_ceil(32))?,
        &args![address, size(len)?, size(chunk)?, threshold, a, b, c, d, e, f, g, h],
    )?;
    let storage = CudaStorage::wrap_cuda_slice(keep, device.as_cuda_device()?.clone());
    Ok(Tensor::from_storage(Storage::Cuda(storage), len, BackpropOp::none(), false))
}

/// Applies an operation on pairs of elements to images in their order in memory, to others as they are.
fn pairwise(xs: &Tensor, ys: &Tensor, op: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match is_channels_last(xs) || is_channels_last(ys) {
        true => channels_first(&op(&channels_last(xs)?, &channels_last(ys)?)?),
        false => op(&contiguous(xs)?, &contiguous(ys)?),
    }
}

pub(crate) fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    let op = kernel2(
        "add",
        |gpu, [a, b], [layout, _]| {
            let sum = gpu.map("add", layout.shape().elem_count(), |out, n| args![a, b, out, n])?;
            Ok((sum, layout.shape().clone()))
        },
        |_, _, grad| Ok((Some(grad.clone()), Some(grad.clone()))),
    );
    pairwise(xs, ys, |xs, ys| apply2(xs, ys, op))
}

pub(crate) fn mul(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    // The gradient of one operand, where it is wanted.
    let product = |wanted: &Tensor, other: &Tensor, grad: &Tensor| -> Result<Option<Tensor>> {
        if !wants(wanted) {
            return Ok(None);
        }
        with_ptrs("mul", [other, grad], |gpu, [x, g]| {
            let out = gpu.map("mul", other.elem_count(), |out, n| args![x, g, out, n])?;
            Ok(Some(out.tensor(other.shape())))
        })
    };
    let op = kernel2(
        "mul",
        |gpu, [a, b], [layout, _]| {
            let ys = gpu.map("mul", layout.shape().elem_count(), |out, n| args![a, b, out, n])?;
            Ok((ys, layout.shape().clone()))
        },
        move |[a, b], _, grad| Ok((product(a, b, grad)?, product(b, a, grad)?)),
    );
    pairwise(xs, ys, |xs, ys| apply2(xs, ys, op))
}

pub(crate) fn scale(xs: &Tensor, factor: f32) -> Result<Tensor> {
    let scaled = move |gpu: &Gpu, x: Ptr, len: usize| gpu.map("scale", len, |ys, n| args![x, ys, n, factor]);
    let op = kernel1(
        "scale",
        move |gpu, x, layout| Ok((scaled(gpu, x, layout.shape().elem_count())?, layout.shape().clone())),
        move |xs, _, grad| {
            let out = with_ptrs("scale", [grad], |gpu, [g]| scaled(gpu, g, grad.elem_count()))?;
            Ok(Some(out.tensor(xs.shape())))
        },
    );
    elementwise(xs, |xs| apply1(xs, op))
}
