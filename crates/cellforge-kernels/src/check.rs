//! Argument checks whose errors name the operation, and access to CPU storage.

use crate::element::Element;
use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};

/// Fails unless every tensor is `f32`.
pub(crate) fn f32_only(op: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        if tensor.dtype() != DType::F32 {
            bail!("{op}: {name} is {:?}, expected F32 (convert it with to_dtype)", tensor.dtype());
        }
    }
    Ok(())
}

/// Fails unless every tensor is of a type that images may have, all of the same: `f32`, or on the CPU `bf16`.
pub(crate) fn images_only(op: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        let is_one = tensor.dtype() == DType::F32 || tensor.dtype() == DType::BF16 && tensor.device().is_cpu();
        if !is_one {
            bail!("{op}: {name} is {:?}, expected F32 (convert it with to_dtype)", tensor.dtype());
        }
        let (first, other) = tensors[0];
        if tensor.dtype() != other.dtype() {
            bail!("{op}: {first} is {:?} and {name} {:?}, expected one type", other.dtype(), tensor.dtype());
        }
    }
    Ok(())
}

/// The shape of a tensor of images, `(b, c, h, w)`; no dimension may be empty.
pub(crate) fn images(op: &str, name: &str, xs: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match *xs.dims() {
        [b, c, h, w] if b * c * h * w > 0 => Ok((b, c, h, w)),
        _ => bail!("{op}: {name} has shape {:?}, expected non-empty (b, c, h, w)", xs.dims()),
    }
}

/// The shape of a non-empty matrix.
pub(crate) fn matrix(op: &str, name: &str, xs: &Tensor) -> Result<(usize, usize)> {
    match *xs.dims() {
        [rows, cols] if rows * cols > 0 => Ok((rows, cols)),
        _ => bail!("{op}: {name} has shape {:?}, expected a non-empty matrix", xs.dims()),
    }
}

/// Fails unless `xs` is a vector of `len` elements.
pub(crate) fn vector(op: &str, name: &str, xs: &Tensor, len: usize) -> Result<()> {
    if xs.dims() != [len] {
        bail!("{op}: {name} has shape {:?}, expected [{len}]", xs.dims());
    }
    Ok(())
}

/// The elements of contiguous CPU storage.
pub(crate) fn slice<'a, E: Element>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [E]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<E>()?[start..end]),
        None => bail!("{op}: an operand of shape {:?} is not contiguous", layout.dims()),
    }
}
