//! How images lie in memory.
//!
//! Tensors of images have the shape `(b, c, h, w)`, but the kernels keep the channels of a pixel side by side, as PyTorch's
//! `channels_last` does: what they return is a view, with permuted strides, of a contiguous `(b, h, w, c)`. Images in any other
//! order are copied first.

use crate::gather::{FIRST, LAST, is_channels_last};
use crate::tape;
use candle_core::{Result, Tensor};

/// `(b, c, h, w)` as a contiguous `(b, h, w, c)`.
pub(crate) fn channels_last(xs: &Tensor) -> Result<Tensor> {
    tape::contiguous(&tape::permute(xs, LAST, FIRST)?)
}

/// `(b, h, w, c)` seen as `(b, c, h, w)`.
pub(crate) fn channels_first(xs: &Tensor) -> Result<Tensor> {
    tape::permute(xs, FIRST, LAST)
}

/// Applies an operation on single elements, which takes contiguous tensors, without changing how images lie in memory.
pub(crate) fn elementwise(xs: &Tensor, op: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match is_channels_last(xs) {
        true => channels_first(&op(&channels_last(xs)?)?),
        false => op(&tape::contiguous(xs)?),
    }
}
