//! Matrix products on one thread, and scratch memory that each thread keeps between them.
//!
//! Work is shared out by the callers, image by image: `faer` is told to stay on its thread, so that a product adds
//! its terms in the same order at any number of threads.

use crate::tiles::Aligned;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::cell::Cell;

/// `rows` by `cols`, row-major, with `stride` elements from one row to the next.
pub(crate) fn mat(data: &[f32], rows: usize, cols: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_column_major_slice_with_stride(data, cols, rows, stride).transpose()
}

/// As [`mat`], to be written to.
pub(crate) fn mat_mut(data: &mut [f32], rows: usize, cols: usize, stride: usize) -> MatMut<'_, f32> {
    MatMut::from_column_major_slice_with_stride_mut(data, cols, rows, stride).transpose_mut()
}

/// `out = a * b`, or `out += a * b` where `accumulate`.
pub(crate) fn multiply(out: MatMut<'_, f32>, a: MatRef<'_, f32>, b: MatRef<'_, f32>, accumulate: bool) {
    let accumulate = if accumulate { Accum::Add } else { Accum::Replace };
    matmul(out, accumulate, a, b, 1f32, Par::Seq);
}

thread_local! {
    static SCRATCH: Cell<[Aligned; 3]> = Cell::default();
}

/// Lends three buffers of at least these lengths with arbitrary contents. They belong to the thread and are kept, so
/// that a training step does not ask the system for the same memory again and again.
pub(crate) fn with_scratch<T>(lengths: [usize; 3], f: impl FnOnce([&mut [f32]; 3]) -> T) -> T {
    let [a, b, c] = SCRATCH.take();
    let mut buffers = [a.at_least(lengths[0]), b.at_least(lengths[1]), c.at_least(lengths[2])];
    let [a, b, c] = &mut buffers;
    let result = f([&mut a[..lengths[0]], &mut b[..lengths[1]], &mut c[..lengths[2]]]);
    SCRATCH.set(buffers);
    result
}
