//! How images lie in memory.
//!
//! Tensors of images have the shape `(b, c, h, w)`, but the kernels keep the channels of a pixel side by side, as PyTorch's
//! `channels_last` does: what they return is a view, with permuted strides, of a contiguous `(b, h, w, c)`. Images in any other
//! order are copied first.

use crate::check::{slice, with_slice};
use crate::memory::filled;
use crate::profile::span;
use crate::tape;
use crate::turn;
use candle_core::{Result, Storage, Tensor};

const LAST: [usize; 4] = [0, 2, 3, 1];
const FIRST: [usize; 4] = [0, 3, 1, 2];

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

/// Whether a tensor is a view of contiguous images whose channels lie side by side, and not contiguous itself.
pub(crate) fn is_channels_last(xs: &Tensor) -> bool {
    xs.rank() == 4 && !xs.is_contiguous() && xs.permute((0, 2, 3, 1)).is_ok_and(|view| view.is_contiguous())
}

/// The elements in order, on the CPU. Images are turned in parallel between the two orders; other views are left to Candle.
pub(crate) fn gathered(xs: &Tensor) -> Result<Tensor> {
    let Ok(&[b, d1, d2, d3]) = <&[usize; 4]>::try_from(xs.dims()) else { return xs.detach().contiguous() };
    let [from_last, from_first] = [xs.permute(FIRST)?, xs.permute(LAST)?];
    // The memory of one image as a matrix, of which the transpose is asked for.
    let (source, rows, cols) = if from_last.is_contiguous() {
        (from_last, d3, d1 * d2)
    } else if from_first.is_contiguous() {
        (from_first, d2 * d3, d1)
    } else {
        return xs.detach().contiguous();
    };
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() && xs.dtype() == candle_core::DType::F32 {
        return crate::cuda::transposed(&source.detach(), b, rows, cols, xs.shape());
    }
    let (storage, layout) = source.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { return xs.detach().contiguous() };
    let from = slice("layout", cpu, layout)?;
    let _span = span("copy", || (format!("layout {:?}", xs.dims()), 0., 8. * from.len() as f64));
    let image = from.len() / b.max(1);
    let to = filled(from.len(), image, |i, to| transpose(&from[i * image..][..image], rows, cols, to));
    Tensor::from_vec(to, xs.shape(), xs.device())
}

/// `(rows, cols)` to `(cols, rows)`, in tiles that stay in cache.
fn transpose(from: &[f32], rows: usize, cols: usize, to: &mut [f32]) {
    // The three colours of an image.
    if rows == 3 {
        let (a, rest) = from.split_at(cols);
        let (b, c) = rest.split_at(cols);
        for (((to, &a), &b), &c) in to.as_chunks_mut::<3>().0.iter_mut().zip(a).zip(b).zip(c) {
            *to = [a, b, c];
        }
        return;
    }
    if cols == 3 {
        for (n, to) in to.chunks_exact_mut(rows).enumerate() {
            for (to, pixel) in to.iter_mut().zip(from.as_chunks::<3>().0) {
                *to = pixel[n];
            }
        }
        return;
    }
    turn::transpose(from, cols, to, rows);
}

/// The sum of two tensors of one shape, off the graph, in the layout of the first where that is contiguous or channels last.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let _span = span("copy", || (format!("sum of gradients {:?}", a.dims()), 0., 12. * a.elem_count() as f64));
    let contiguous = |a: &Tensor, b: &Tensor| {
        #[cfg(feature = "cuda")]
        if a.device().is_cuda() {
            return crate::cuda::sum_of(a, b);
        }
        let values =
            with_slice("add", a, |a| with_slice("add", b, |b| Ok(crate::activation::zip_map(a, b, |x, y| x + y))))?;
        Tensor::from_vec(values, a.shape(), a.device())
    };
    match is_channels_last(a) {
        true => contiguous(&a.permute(LAST)?, &b.permute(LAST)?)?.permute(FIRST),
        false => contiguous(a, b),
    }
}
