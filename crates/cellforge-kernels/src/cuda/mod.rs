//! The operations on an NVIDIA GPU: convolutions by cuDNN, matrix products by cuBLAS through Candle, and everything else by kernels of
//! our own (see [`gpu`](crate::gpu)).

mod bias;
mod conv;
mod elements;
mod linear;
mod loss;
mod norm;
mod op;
mod optim;
mod pool;
mod remap;
mod rows;
mod styles;

pub(crate) use conv::{conv2d, conv2d_add, upsample2x_conv2d};
pub(crate) use elements::{add, drawn_mask, dropout, leaky_relu, leaky_relu_jvp, mul, scale, tanh};
pub(crate) use linear::linear;
pub(crate) use loss::{BCE, CROSS_ENTROPY, HINGE, MEAN, SOFTMAX_BCE, row_loss};
pub(crate) use norm::{batch_norm_eval, batch_norm_train};
pub(crate) use optim::{adam_update, ema_update, sgd_update};
pub(crate) use pool::{avg_pool2d, avg_pool2d_global, max_pool2d, pad_bottom_right, upsample_nearest2x};
pub(crate) use remap::remap;
pub(crate) use rows::{row_dot, spectral_normalised};
pub(crate) use styles::{demodulation, modulate};

use crate::gather::gathered;
use crate::gpu::{Gpu, Ptr, with_contiguous};
use candle_core::{DType, Result, Tensor, bail};

/// Runs `f` on the addresses of tensors, which are made contiguous first if need be.
pub(crate) fn with_ptrs<const N: usize, T>(
    op: &str,
    tensors: [&Tensor; N],
    f: impl FnOnce(&Gpu, [Ptr; N]) -> Result<T>,
) -> Result<T> {
    let mut kept = Vec::with_capacity(N);
    for tensor in tensors {
        kept.push(if tensor.is_contiguous() { tensor.clone() } else { gathered(tensor)? });
    }
    with_contiguous(op, std::array::from_fn(|i| &kept[i]), f)
}

/// The address of an optional tensor of bytes, which must be held until its kernel is in the stream.
pub(crate) fn bytes_ptr(op: &str, tensor: Option<&Tensor>) -> Result<Option<Ptr>> {
    let Some(tensor) = tensor else { return Ok(None) };
    if tensor.dtype() != DType::U8 {
        bail!("{op}: a mask is {:?}", tensor.dtype());
    }
    with_ptrs(op, [tensor], |_, [ptr]| Ok(Some(ptr)))
}
