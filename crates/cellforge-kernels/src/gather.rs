//! The elements of tensors in the order in which operations take them, off the tape and off Candle's graph.

use crate::check::slice;
use crate::device::on_device;
use crate::element::{Element, of_type};
use crate::elements::zip_map;
use crate::gemm::with_scratch;
use crate::memory::filled;
use crate::profile::span;
use crate::transpose;
use candle_core::op::BackpropOp;
use candle_core::{Result, Storage, Tensor, bail};

/// The order of dimensions that brings channels last, and the one that brings them back.
pub(crate) const LAST: [usize; 4] = [0, 2, 3, 1];
pub(crate) const FIRST: [usize; 4] = [0, 3, 1, 2];

/// Whether a tensor is a view of contiguous images whose channels lie side by side, and not contiguous itself.
pub(crate) fn is_channels_last(xs: &Tensor) -> bool {
    xs.rank() == 4 && !xs.is_contiguous() && xs.permute((0, 2, 3, 1)).is_ok_and(|view| view.is_contiguous())
}

/// Runs `f` on the elements of a CPU tensor, after making it contiguous if need be.
pub(crate) fn with_slice<E: Element, T>(op: &str, xs: &Tensor, f: impl FnOnce(&[E]) -> Result<T>) -> Result<T> {
    let xs = if xs.is_contiguous() { xs.clone() } else { gathered(xs)? };
    let (storage, layout) = xs.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(slice(op, cpu, layout)?),
        _ => bail!("{op}: expected a CPU tensor, got one on {:?}", xs.device().location()),
    }
}

/// The elements in order, as a constant.
pub(crate) fn gathered(xs: &Tensor) -> Result<Tensor> {
    match gathered_storage(xs)? {
        Some(storage) => Ok(Tensor::from_storage(storage, xs.shape(), BackpropOp::none(), false)),
        None => xs.detach().contiguous(),
    }
}

/// The elements in order. Images are transposed in parallel between their two orders; other views are left to Candle.
pub(crate) fn gathered_storage(xs: &Tensor) -> Result<Option<Storage>> {
    let Ok(&[b, d1, d2, d3]) = <&[usize; 4]>::try_from(xs.dims()) else { return Ok(None) };
    let [from_last, from_first] = [xs.permute(FIRST)?, xs.permute(LAST)?];
    // The memory of one image as a matrix, of which the transpose is asked for.
    let (source, rows, cols) = if from_last.is_contiguous() {
        (from_last, d3, d1 * d2)
    } else if from_first.is_contiguous() {
        (from_first, d2 * d3, d1)
    } else {
        return Ok(None);
    };
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() && xs.dtype() == candle_core::DType::F32 {
        return crate::gpu::transposed(&source.detach(), b, rows, cols).map(Some);
    }
    let (storage, layout) = source.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { return Ok(None) };
    let bytes = 2 * xs.elem_count() * xs.dtype().size_in_bytes();
    let _span = span("copy", || (format!("layout {:?}", xs.dims()), 0., bytes as f64));
    of_type!(xs.dtype(), E => {
        let from = slice::<E>("layout", cpu, layout)?;
        let image = from.len() / b.max(1);
        let to = filled::<E>(from.len(), image, |i, to| {
            with_scratch([E::room(image), 0, 0], |[wide, ..]| {
                transposed(E::wide(&from[i * image..][..image], wide), rows, cols, to);
            });
        });
        Ok(Some(Storage::Cpu(E::storage(to))))
    })
}

/// `(rows, cols)` to `(cols, rows)`, in tiles that stay in cache.
fn transposed(from: &[f32], rows: usize, cols: usize, to: &mut [f32]) {
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
    transpose::transpose(from, cols, to, rows);
}

/// The sum of two tensors of one shape, off the graph, in the layout of the first where that is contiguous or channels last.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let bytes = 3 * a.elem_count() * a.dtype().size_in_bytes();
    let _span = span("copy", || (format!("sum of gradients {:?}", a.dims()), 0., bytes as f64));
    let sum = |a: &Tensor, b: &Tensor| {
        on_device!(
            a.device(),
            cpu = of_type!(a.dtype(), E => {
                let sum = |a: &[E], b: &[E]| zip_map::<E, E, E>(a, b, |x, y| x + y);
                let values = with_slice("add", a, |a| with_slice("add", b, |b| Ok(sum(a, b))))?;
                Tensor::from_vec(values, a.shape(), a.device())
            }),
            cuda = {
                let contiguous = |xs: &Tensor| if xs.is_contiguous() { Ok(xs.clone()) } else { gathered(xs) };
                crate::gpu::sum_of(&contiguous(a)?, &contiguous(b)?)
            },
            composed = a + b,
        )
    };
    match is_channels_last(a) {
        true => sum(&a.permute(LAST)?, &b.permute(LAST)?)?.permute(FIRST),
        false => sum(a, b),
    }
}
