//! The right matrices of products, laid out in the order in which the products read them.

use super::WIDEST;
use super::each::Each;
use crate::product::{Products, pair_up, pair_up_in_place, words};
use crate::simd::{dispatch, lanes, panel_vectors, vectorised};
use crate::tiles::{Aligned, SIDE};
use crate::transpose::transpose;
use rayon::prelude::*;
use std::ops::Range;

/// A matrix `(depth, cols)` in the order in which [`Gather`](super::Gather) reads it: panels of a few vectors' width, each
/// row after row.
pub(crate) struct Panels {
    data: Aligned,
    widths: Widths,
    depth: usize,
    cols: usize,
}

/// How many columns panels have.
#[derive(Clone, Copy)]
struct Widths {
    /// Of all but the last.
    full: usize,
    /// The last panel has a multiple of so many, of which some may be of no use.
    least: usize,
}

impl Widths {
    fn of(products: Products) -> Self {
        if products.are_tiles() { Self { full: WIDEST, least: SIDE } } else { Self::of_vectors() }
    }

    /// As many as a few vectors have numbers.
    fn of_vectors() -> Self {
        Self { full: panel_vectors() * lanes(), least: lanes() }
    }
}

impl Panels {
    /// The matrix whose element of row `k` and column `n` is `weight[rows[k] + cols[n]]`, put together in parallel.
    pub fn new(weight: &[f32], rows: &[usize], cols: &[usize]) -> Self {
        Self::build(rows.len(), cols.len(), Widths::of_vectors(), |rows_taken, col, to| {
            let weight = &weight[cols[col]..];
            for (to, &row) in to.iter_mut().zip(&rows[rows_taken]) {
                *to = weight[row];
            }
        })
    }

    /// As [`Panels::new`], of words: `rows` come in runs of `channels`, of which each two side by side make a word. The last of an odd number is
    /// paired with 0. In tiles, every `taps` runs are followed by rows of zeros that fill the last tile up.
    pub fn of_pairs(
        weight: &[f32],
        rows: &[usize],
        (taps, channels): (usize, usize),
        cols: &[usize],
        products: Products,
    ) -> Self {
        let segment = products.whole_segment(taps * words(channels));
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        for taps in rows.chunks_exact(taps * channels) {
            for two in taps.chunks_exact(channels).flat_map(|run| run.chunks(2)) {
                lower.push(Some(two[0]));
                upper.push(two.get(1).copied());
            }
            let filled = lower.len().next_multiple_of(segment);
            lower.resize(filled, None);
            upper.resize(filled, None);
        }
        Self::build(lower.len(), cols.len(), Widths::of(products), |rows_taken, col, to| {
            let weight = &weight[cols[col]..];
            let at = |place: &Option<usize>| place.map_or(0., |place| weight[place]);
            for (to, place) in to.iter_mut().zip(&lower[rows_taken.clone()]) {
                *to = at(place);
            }
            let upper: Vec<f32> = upper[rows_taken].iter().map(at).collect();
            pair_up_in_place(to, &upper);
        })
    }

    /// `fill` writes what some rows have in a column.
    fn build(depth: usize, cols: usize, widths: Widths, fill: impl Fn(Range<usize>, usize, &mut [f32]) + Sync) -> Self {
        /// Tasks for each panel: one alone has to be shared out, too.
        const TASKS: usize = 4;
        let Widths { full, least } = widths;
        let rows_each = depth.div_ceil(TASKS).max(1);
        let mut data = Aligned::zeros(depth * cols.next_multiple_of(least));
        let (whole, last) = data.split_at_mut(depth * (cols / full * full));
        let fill_panel = |panel: usize, width: usize, data: &mut [f32]| {
            let columns = panel * full..cols.min((panel + 1) * full);
            data.par_chunks_mut(rows_each * width).enumerate().for_each(|(task, data)| {
                let rows = task * rows_each..task * rows_each + data.len() / width;
                // A column's weights lie close together: they are read at a time, and then turned.
                let mut turned = vec![0f32; data.len()];
                for (col, turned) in columns.clone().zip(turned.chunks_exact_mut(rows.len())) {
                    fill(rows.clone(), col, turned);
                }
                transpose(&turned, rows.len(), data, width);
            });
        };
        whole.par_chunks_mut((depth * full).max(1)).enumerate().for_each(|(panel, data)| fill_panel(panel, full, data));
        if !last.is_empty() {
            fill_panel(cols / full, (cols % full).next_multiple_of(least), last);
        }
        Self { data, widths, depth, cols }
    }

    /// As [`Panels::new`], for a matrix of `(factors, depth)` rows whose elements are sums of the nine taps of 3x3 kernels, each
    /// times its factor. `kernel(k, n)` is where in `weight` the taps of row `k` and column `n` begin. Of words, rows `2 k` and
    /// `2 k + 1` are paired, and the matrix has `(factors, depth / 2)` rows.
    pub fn from_kernels(
        factors: &[[f32; 9]],
        depth: usize,
        cols: usize,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        products: Products,
    ) -> Self {
        let widths = Widths::of(products);
        let Widths { full, least } = widths;
        let rows = if products.are_pairs() { depth / 2 } else { depth };
        let mut data = Aligned::zeros(factors.len() * rows * cols.next_multiple_of(least));
        data.par_chunks_mut((factors.len() * rows * full).max(1)).enumerate().for_each(|(panel, data)| {
            let columns = panel * full..cols.min((panel + 1) * full);
            let width = columns.len().next_multiple_of(least);
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
                    combined(2 * k, lower, width);
                    combined(2 * k + 1, upper, width);
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
        Self { data, widths, depth: factors.len() * rows, cols }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.cols.div_ceil(self.widths.full)
    }

    /// Columns of the matrix in a panel.
    pub fn columns(&self, panel: usize) -> Range<usize> {
        let full = self.widths.full;
        panel * full..self.cols.min((panel + 1) * full)
    }

    /// Columns of a panel, those that fill it up included.
    pub fn panel_width(&self, panel: usize) -> usize {
        self.columns(panel).len().next_multiple_of(self.widths.least)
    }

    /// The widest panel's columns.
    pub fn width(&self) -> usize {
        self.panel_width(0)
    }

    /// Takes the matrix as several, one below the other, and multiplies each of as many matrices of `rows` rows, one after the
    /// other in `a`, with its own, for the columns of one panel: `(matrices, rows, panel_width)` into `out`.
    pub fn multiply_each(&self, panel: usize, a: &[f32], rows: usize, out: &mut [f32]) {
        let (full, width) = (self.widths.full, self.panel_width(panel));
        let weights = &self.data[panel * full * self.depth..][..width * self.depth];
        let depth = self.depth * rows * width / out.len();
        dispatch(Each { a, rows, depth, weights, out });
    }

    /// The rows of a panel, and the columns of the matrix that it holds.
    pub(super) fn panels(&self) -> impl Iterator<Item = (&[f32], Range<usize>)> {
        let panels = self.data.chunks((self.depth * self.widths.full).max(1));
        panels.enumerate().map(|(panel, data)| (data, self.columns(panel)))
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
