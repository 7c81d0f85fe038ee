//! The right matrices of products, laid out in the order in which the products read them.

use super::WIDEST;
use super::each::Each;
use crate::product::{Products, pair, pair_up};
use crate::simd::{dispatch, lanes, panel_vectors, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix `(depth, cols)` in the order in which [`Gather`](super::Gather) reads it: panels of a few vectors' width, each
/// row after row.
pub(crate) struct Panels {
    data: Vec<f32>,
    depth: usize,
    cols: usize,
}

impl Panels {
    /// The matrix whose element of row `k` and column `n` is `weight[rows[k] + cols[n]]`, put together in parallel.
    pub fn new(weight: &[f32], rows: &[usize], cols: &[usize]) -> Self {
        Self::build(rows.len(), cols, |row| {
            let weight = &weight[rows[row]..];
            |col: usize| weight[col]
        })
    }

    /// As [`Panels::new`], of words: of `rows`, which come in runs of `2 * half`, each in the first half of a run is paired with that
    /// as far into the second.
    pub fn of_pairs(weight: &[f32], rows: &[usize], half: usize, cols: &[usize]) -> Self {
        Self::build(rows.len() / 2, cols, |row| {
            let place = row / half * 2 * half + row % half;
            let (lower, upper) = (&weight[rows[place]..], &weight[rows[place + half]..]);
            |col: usize| pair(lower[col], upper[col])
        })
    }

    /// `of_row` gives for each row a function of the elements of `cols`.
    fn build<V: Fn(usize) -> f32>(depth: usize, cols: &[usize], of_row: impl Fn(usize) -> V + Sync) -> Self {
        /// Rows filled by one task.
        const ROWS: usize = 64;
        let (lanes, full) = (lanes(), panel_vectors() * lanes());
        let (col_places, cols) = (cols, cols.len());
        let mut data = vec![0f32; depth * cols.next_multiple_of(lanes)];
        let (whole, last) = data.split_at_mut(depth * (cols / full * full));
        let fill = |panel: usize, width: usize, data: &mut [f32]| {
            let columns = panel * full..cols.min((panel + 1) * full);
            data.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, rows)| {
                for (k, row) in rows.chunks_exact_mut(width).enumerate() {
                    let value = of_row(chunk * ROWS + k);
                    for (x, &place) in row.iter_mut().zip(&col_places[columns.clone()]) {
                        *x = value(place);
                    }
                }
            });
        };
        whole.par_chunks_mut((depth * full).max(1)).enumerate().for_each(|(panel, data)| fill(panel, full, data));
        if !last.is_empty() {
            fill(cols / full, (cols % full).next_multiple_of(lanes), last);
        }
        Self { data, depth, cols }
    }

    /// As [`Panels::new`], for a matrix of `(factors, depth)` rows whose elements are sums of the nine taps of 3x3 kernels, each
    /// times its factor. `kernel(k, n)` is where in `weight` the taps of row `k` and column `n` begin. Of words, row `k` is paired with
    /// row `k + depth / 2`, and the matrix has `(factors, depth / 2)` rows.
    pub fn from_kernels(
        factors: &[[f32; 9]],
        depth: usize,
        cols: usize,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        products: Products,
    ) -> Self {
        let (lanes, full) = (lanes(), panel_vectors() * lanes());
        let rows = if products.are_pairs() { depth / 2 } else { depth };
        let mut data = vec![0f32; factors.len() * rows * cols.next_multiple_of(lanes)];
        data.par_chunks_mut((factors.len() * rows * full).max(1)).enumerate().for_each(|(panel, data)| {
            let columns = panel * full..cols.min((panel + 1) * full);
            let width = columns.len().next_multiple_of(lanes);
            let combined = |k: usize, to: &mut [f32], stride: usize| {
                let mut taps = [[0f32; WIDEST]; 9];
                for (n, col) in columns.clone().enumerate() {
                    for (taps, &x) in taps.iter_mut().zip(&weight[kernel(k, col)..][..9]) {
                        taps[n] = x;
                    }
                }
                combine(factors, &taps, to, stride, width);
            };
            if products.are_pairs() {
                let mut halves = [vec![0f32; factors.len() * width], vec![0f32; factors.len() * width]];
                for k in 0..rows {
                    let [lower, upper] = &mut halves;
                    combined(k, lower, width);
                    combined(k + rows, upper, width);
                    let parts = lower.chunks_exact(width).zip(upper.chunks_exact(width));
                    for (factor, (lower, upper)) in parts.enumerate() {
                        pair_up(lower, upper, &mut data[(factor * rows + k) * width..][..width]);
                    }
                }
            } else {
                for k in 0..rows {
                    combined(k, &mut data[k * width..], rows * width);
                }
            }
        });
        Self { data, depth: factors.len() * rows, cols }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.cols.div_ceil(panel_vectors() * lanes())
    }

    /// Columns of the matrix in a panel.
    pub fn columns(&self, panel: usize) -> Range<usize> {
        let full = panel_vectors() * lanes();
        panel * full..self.cols.min((panel + 1) * full)
    }

    /// Columns of a panel, those that fill its last vector included.
    pub fn panel_width(&self, panel: usize) -> usize {
        self.columns(panel).len().next_multiple_of(lanes())
    }

    /// The widest panel's columns.
    pub fn width(&self) -> usize {
        self.panel_width(0)
    }

    /// Takes the matrix as several, one below the other, and multiplies each of as many matrices of `rows` rows, one after the
    /// other in `a`, with its own, for the columns of one panel: `(matrices, rows, panel_width)` into `out`.
    pub fn multiply_each(&self, panel: usize, a: &[f32], rows: usize, out: &mut [f32]) {
        let (full, width) = (panel_vectors() * lanes(), self.panel_width(panel));
        let weights = &self.data[panel * full * self.depth..][..width * self.depth];
        let depth = self.depth * rows * width / out.len();
        dispatch(Each { a, rows, depth, weights, out });
    }

    /// The rows of a panel, and the columns of the matrix that it holds.
    pub(super) fn panels(&self) -> impl Iterator<Item = (&[f32], Range<usize>)> {
        let full = panel_vectors() * lanes();
        let panels = self.data.chunks((self.depth * full).max(1)).enumerate();
        panels.map(move |(panel, data)| (data, panel * full..self.cols.min((panel + 1) * full)))
    }

    pub fn depth(&self) -> usize {
        self.depth
    }
}

vectorised! {
    /// Rows of `width` numbers, `stride` apart, that are sums of the taps times their factors.
    fn combine(
        factors: &'a [[f32; 9]],
        taps: &'a [[f32; WIDEST]; 9],
        to: &'a mut [f32],
        stride: usize,
        width: usize,
    ) {
        for (row, factors) in factors.iter().enumerate() {
            let mut sums = [0f32; WIDEST];
            for (taps, &factor) in taps.iter().zip(factors) {
                if factor != 0. {
                    for (sum, x) in sums.iter_mut().zip(taps) {
                        *sum += factor * x;
                    }
                }
            }
            to[row * stride..][..width].copy_from_slice(&sums[..width]);
        }
    }
}
