//! Matrix products of rows that lie anywhere in memory, for one thread.
//!
//! An image's channels lie side by side, so one row of a convolution's window is a contiguous run of numbers. The products here
//! take their rows as such runs, wherever they begin: no matrix of patches is made. Tiles of the result stay in registers while
//! the sum runs over the full depth, in an order that depends on shapes alone.

use crate::product::{Kernel, Product, Products, Single, multiply, pair, pair_up};
use crate::simd::{dispatch, lanes, panel_vectors, vectorised};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix `(depth, cols)` in the order in which [`Gather`] reads it: panels of a few vectors' width, each row after row.
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
    fn panels(&self) -> impl Iterator<Item = (&[f32], Range<usize>)> {
        let full = panel_vectors() * lanes();
        let panels = self.data.chunks((self.depth * full).max(1)).enumerate();
        panels.map(move |(panel, data)| (data, panel * full..self.cols.min((panel + 1) * full)))
    }

    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// `out[m] = bias + a[m] * weights + addend[m]`: row `m` of the left matrix is made of runs of `segment` numbers, which begin at
/// `rows[m] + segments[..]`, and row `m` of the result and of the addend begins at `out_rows[m]`.
pub(crate) struct Gather<'a> {
    pub a: &'a [f32],
    pub rows: &'a [usize],
    pub segments: &'a [usize],
    pub segment: usize,
    pub weights: &'a Panels,
    pub bias: Option<&'a [f32]>,
    pub addend: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    pub out_rows: &'a [usize],
    /// Of what the left matrix and the weights are.
    pub products: Products,
}

impl Gather<'_> {
    pub fn run(self) {
        debug_assert_eq!(self.rows.len(), self.out_rows.len());
        assert_eq!(self.weights.depth, self.segments.len() * self.segment, "the weights are of another depth");
        check_runs(self.a, self.rows, self.segments, self.segment);
        let products = self.products;
        multiply(self, products);
    }

    #[inline(always)]
    fn panel<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        panel: &[f32],
        columns: &Range<usize>,
    ) {
        let start = load_bias::<S, NV>(with.0, self.bias, columns);
        let panel = S::as_simd_f32s(panel).0;
        let rows = self.rows.len();
        let mut m = 0;
        while m + MR <= rows {
            self.tile::<S, P, MR, NV>(with, m, panel, columns, start);
            m += MR;
        }
        if m < rows && rows >= MR {
            // A last tile that overlaps the one before computes some rows twice, to the same result.
            self.tile::<S, P, MR, NV>(with, rows - MR, panel, columns, start);
        } else {
            for m in m..rows {
                self.tile::<S, P, 1, NV>(with, m, panel, columns, start);
            }
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "see `multiply_add`")]
    fn tile<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        m: usize,
        panel: &[S::f32s],
        columns: &Range<usize>,
        start: [S::f32s; NV],
    ) {
        let at: &[usize; MR] = self.rows[m..].first_chunk().expect("a tile of rows");
        let mut sums = [start; MR];
        for (&segment, panel) in self.segments.iter().zip(panel.chunks_exact(self.segment * NV)) {
            // SAFETY: `run` has checked that every run of every row ends within `a`, and the panel's part has as many rows.
            sums = unsafe { multiply_add::<S, P, MR, NV>(with, self.a, at.map(|at| at + segment), panel, sums) };
        }
        for (sums, &at) in sums.iter().zip(&self.out_rows[m..m + MR]) {
            let columns = at + columns.start..at + columns.end;
            match self.addend {
                Some(addend) => {
                    let mut sums = *sums;
                    let (whole, rest) = S::as_simd_f32s(&addend[columns.clone()]);
                    for (sum, &x) in sums.iter_mut().zip(whole) {
                        *sum = with.0.add_f32s(*sum, x);
                    }
                    if let Some(sum) = sums.get_mut(whole.len()) {
                        *sum = with.0.add_f32s(*sum, with.0.partial_load_f32s(rest));
                    }
                    store::<S, NV>(with.0, &sums, &mut self.out[columns]);
                }
                None => store::<S, NV>(with.0, sums, &mut self.out[columns]),
            }
        }
    }
}

impl Kernel for Gather<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Product<S>>(mut self, simd: S, product: P) {
        let with = (simd, product);
        let weights = self.weights;
        for (panel, columns) in weights.panels() {
            match (S::REGISTER_COUNT >= 32, columns.len().div_ceil(S::F32_LANES)) {
                (true, 4) => self.panel::<S, P, 6, 4>(with, panel, &columns),
                (true, 3) => self.panel::<S, P, 8, 3>(with, panel, &columns),
                (true, 2) => self.panel::<S, P, 12, 2>(with, panel, &columns),
                (false, 2) => self.panel::<S, P, 6, 2>(with, panel, &columns),
                _ => self.panel::<S, P, 12, 1>(with, panel, &columns),
            }
        }
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

/// See [`Panels::multiply_each`].
struct Each<'a> {
    a: &'a [f32],
    rows: usize,
    depth: usize,
    weights: &'a [f32],
    out: &'a mut [f32],
}

impl Each<'_> {
    #[inline(always)]
    fn all<S: Simd, const MR: usize, const NV: usize>(self, simd: S) {
        let (rows, depth) = (self.rows, self.depth);
        let weights = S::as_simd_f32s(self.weights).0.chunks_exact(depth * NV);
        let out = S::as_mut_simd_f32s(self.out).0.chunks_exact_mut(rows * NV);
        for ((a, weights), out) in self.a.chunks_exact(rows * depth).zip(weights).zip(out) {
            let mut m = 0;
            while m + MR <= rows {
                Self::tile::<S, MR, NV>(simd, a, depth, m, weights, out);
                m += MR;
            }
            if m < rows && rows >= MR {
                Self::tile::<S, MR, NV>(simd, a, depth, rows - MR, weights, out);
            } else {
                for m in m..rows {
                    Self::tile::<S, 1, NV>(simd, a, depth, m, weights, out);
                }
            }
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "see `multiply_add`")]
    fn tile<S: Simd, const MR: usize, const NV: usize>(
        simd: S,
        a: &[f32],
        depth: usize,
        m: usize,
        weights: &[S::f32s],
        out: &mut [S::f32s],
    ) {
        let (a, weights) = (&a[m * depth..][..MR * depth], &weights[..depth * NV]);
        let (starts, zero) = (std::array::from_fn(|i| i * depth), [[simd.splat_f32s(0.); NV]; MR]);
        // SAFETY: `a` is `MR` runs of `depth` numbers, and the panel has `depth` rows.
        let sums = unsafe { multiply_add::<S, Single, MR, NV>((simd, Single), a, starts, weights, zero) };
        for (to, sums) in out[m * NV..].as_chunks_mut::<NV>().0.iter_mut().zip(sums) {
            *to = sums;
        }
    }
}

impl WithSimd for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::REGISTER_COUNT >= 32, self.out.len() * self.depth / (self.a.len() * S::F32_LANES)) {
            (true, 4) => self.all::<S, 6, 4>(simd),
            (true, 3) => self.all::<S, 8, 3>(simd),
            (true, 2) => self.all::<S, 12, 2>(simd),
            (false, 2) => self.all::<S, 6, 2>(simd),
            _ => self.all::<S, 12, 1>(simd),
        }
    }
}

/// Products that a 2x upsampling convolution takes of each small pixel: see [`Upsampled`].
pub(crate) const PRODUCTS: usize = 9;

/// Four rows of results from nine products of rows: of the products `p[0] + bias, p[1], ..`, row `m` is the run of `depth` numbers
/// at `rows[m] + segments[i]` times rows `i * depth..` of the weights, and with `left = p0 + p1` and `right = p0 + p2`
///
/// - `out[0] = left + p3 + p5` and `out[1] = right + p3 + p6`,
/// - `out[2] = left + p4 + p7` and `out[3] = right + p4 + p8`,
///
/// where `out[i]` begins at `out_rows[m] + phases[i]`.
pub(crate) struct Upsampled<'a> {
    pub a: &'a [f32],
    pub rows: &'a [usize],
    pub segments: [usize; PRODUCTS],
    pub depth: usize,
    pub weights: &'a Panels,
    pub bias: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    pub out_rows: &'a [usize],
    pub phases: [usize; 4],
    /// Of what the rows and the weights are.
    pub products: Products,
}

impl Upsampled<'_> {
    pub fn run(self) {
        debug_assert_eq!(self.rows.len(), self.out_rows.len());
        assert_eq!(self.weights.depth, PRODUCTS * self.depth, "the weights are of another depth");
        check_runs(self.a, self.rows, &self.segments, self.depth);
        let products = self.products;
        multiply(self, products);
    }

    #[inline(always)]
    fn panel<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        panel: &[f32],
        columns: &Range<usize>,
    ) {
        let start = load_bias::<S, NV>(with.0, self.bias, columns);
        let panel = S::as_simd_f32s(panel).0;
        let rows = self.rows.len();
        let mut m = 0;
        while m + MR <= rows {
            self.tile::<S, P, MR, NV>(with, m, panel, columns, start);
            m += MR;
        }
        if m < rows && rows >= MR {
            self.tile::<S, P, MR, NV>(with, rows - MR, panel, columns, start);
        } else {
            for m in m..rows {
                self.tile::<S, P, 1, NV>(with, m, panel, columns, start);
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        m: usize,
        panel: &[S::f32s],
        columns: &Range<usize>,
        start: [S::f32s; NV],
    ) {
        let at: &[usize; MR] = self.rows[m..].first_chunk().expect("a tile of rows");
        let zero = [[with.0.splat_f32s(0.); NV]; MR];
        let whole = self.product(with, 0, at, panel, [start; MR]);
        let left = self.product(with, 1, at, panel, whole);
        let right = self.product(with, 2, at, panel, whole);
        let upper = self.product(with, 3, at, panel, zero);
        let lower = self.product(with, 4, at, panel, zero);
        for (phase, (side, row)) in
            [(left, upper), (right, upper), (left, lower), (right, lower)].into_iter().enumerate()
        {
            let sums = self.product(with, 5 + phase, at, panel, plus::<S, MR, NV>(with.0, side, row));
            for (sums, &at) in sums.iter().zip(&self.out_rows[m..m + MR]) {
                let at = at + self.phases[phase];
                store::<S, NV>(with.0, sums, &mut self.out[at + columns.start..at + columns.end]);
            }
        }
    }

    /// `sums` and product `i` of a tile.
    #[inline(always)]
    #[expect(unsafe_code, reason = "see `multiply_add`")]
    fn product<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &self,
        with: (S, P),
        i: usize,
        at: &[usize; MR],
        panel: &[S::f32s],
        sums: [[S::f32s; NV]; MR],
    ) -> [[S::f32s; NV]; MR] {
        let panel = &panel[i * self.depth * NV..][..self.depth * NV];
        // SAFETY: `run` has checked that every run of every row ends within `a`, and the panel's part has as many rows.
        unsafe { multiply_add::<S, P, MR, NV>(with, self.a, at.map(|at| at + self.segments[i]), panel, sums) }
    }
}

impl Kernel for Upsampled<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Product<S>>(mut self, simd: S, product: P) {
        let with = (simd, product);
        let weights = self.weights;
        for (panel, columns) in weights.panels() {
            match (S::REGISTER_COUNT >= 32, columns.len().div_ceil(S::F32_LANES)) {
                (true, 4) => self.panel::<S, P, 6, 4>(with, panel, &columns),
                (true, 3) => self.panel::<S, P, 8, 3>(with, panel, &columns),
                (true, 2) => self.panel::<S, P, 12, 2>(with, panel, &columns),
                (false, 2) => self.panel::<S, P, 6, 2>(with, panel, &columns),
                _ => self.panel::<S, P, 12, 1>(with, panel, &columns),
            }
        }
    }
}

#[inline(always)]
fn plus<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    mut a: [[S::f32s; NV]; MR],
    b: [[S::f32s; NV]; MR],
) -> [[S::f32s; NV]; MR] {
    for (a, b) in a.iter_mut().zip(b) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = simd.add_f32s(*a, b);
        }
    }
    a
}

/// The bias of a panel's columns, or zeros.
#[inline(always)]
fn load_bias<S: Simd, const NV: usize>(simd: S, bias: Option<&[f32]>, columns: &Range<usize>) -> [S::f32s; NV] {
    let mut start = [simd.splat_f32s(0.); NV];
    if let Some(bias) = bias {
        for (start, bias) in start.iter_mut().zip(bias[columns.clone()].chunks(S::F32_LANES)) {
            *start = simd.partial_load_f32s(bias);
        }
    }
    start
}

/// The sums and, for each row of the tile, the run that begins at `starts[i]` in `a`, times the panel.
///
/// Loops over a tile have constant bounds and plain indices, and nothing in them can fail: only so does the compiler keep all sums
/// in registers.
///
/// # Safety
/// As many numbers as the panel has rows follow each beginning in `a`.
#[inline(always)]
#[expect(unsafe_code, reason = "a check for each number costs as much as its product")]
unsafe fn multiply_add<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
    (simd, product): (S, P),
    a: &[f32],
    starts: [usize; MR],
    panel: &[S::f32s],
    mut sums: [[S::f32s; NV]; MR],
) -> [[S::f32s; NV]; MR] {
    // SAFETY: a run begins within `a`, or at its end where it is empty.
    let runs = starts.map(|start| unsafe { a.as_ptr().add(start) });
    for (k, weights) in panel.as_chunks::<NV>().0.iter().enumerate() {
        for i in 0..MR {
            // SAFETY: the caller's promise.
            let x = simd.splat_f32s(unsafe { *runs[i].add(k) });
            for j in 0..NV {
                sums[i][j] = product.multiply_add(simd, x, weights[j], sums[i][j]);
            }
        }
    }
    sums
}

/// Fails unless runs of `len` numbers from all places in `rows`, seen from all those in `segments`, end within `a`.
fn check_runs(a: &[f32], rows: &[usize], segments: &[usize], len: usize) {
    let furthest = |places: &[usize]| places.iter().max().copied().unwrap_or(0);
    let end = furthest(rows) + furthest(segments) + len;
    assert!(rows.is_empty() || end <= a.len(), "a row ends at {end}, beyond the {} numbers there are", a.len());
}

/// Writes as many of the numbers as there is room for.
#[inline(always)]
fn store<S: Simd, const NV: usize>(simd: S, values: &[S::f32s; NV], to: &mut [f32]) {
    let (whole, rest) = S::as_mut_simd_f32s(to);
    let mut values = values.iter();
    for (to, &value) in whole.iter_mut().zip(&mut values) {
        *to = value;
    }
    if let Some(&value) = values.next() {
        simd.partial_store_f32s(rest, value);
    }
}

/// `out[k] += sum over m of a[m][k] * g[m]`: row `m` of `a` is made of runs of `depth` numbers from `a_rows[m] + a_segments[..]`,
/// row `m` of `g` of runs of `segment` numbers from `g_rows[m] + segments[..]`, and row `k` of the result begins at
/// `k * stride`.
///
/// Of words, `a` holds words of two rows that are summed over, and each row of `g` is given with its partner, `partner` numbers after it;
/// both are `f32` in `g`, and are paired here. Where `lone` is not 0, the last of every `lone` rows has no partner.
pub(crate) struct Outer<'a> {
    pub a: &'a [f32],
    pub a_rows: &'a [usize],
    pub a_segments: &'a [usize],
    pub depth: usize,
    pub g: &'a [f32],
    pub g_rows: &'a [usize],
    pub segments: &'a [usize],
    pub segment: usize,
    pub out: &'a mut [f32],
    pub stride: usize,
    pub products: Products,
    pub partner: usize,
    pub lone: usize,
}

/// Rows of `a` and `g` that are multiplied while a part of `g` stays in the first cache.
const BLOCK: usize = 64;
/// Numbers in the widest panel: four vectors of AVX-512.
const WIDEST: usize = 64;

impl Outer<'_> {
    pub fn run(self) {
        debug_assert_eq!(self.a_rows.len(), self.g_rows.len());
        check_runs(self.a, self.a_rows, self.a_segments, self.depth);
        let products = self.products;
        multiply(self, products);
    }

    /// Writes columns of some rows of `g` side by side, `width` apart, with zeros where there are fewer columns.
    #[inline(always)]
    fn pack(&self, first: usize, rows: &[usize], columns: &Range<usize>, width: usize, to: &mut [f32]) {
        for (i, (to, &row)) in to.chunks_exact_mut(width).zip(rows).enumerate() {
            let lone = self.lone > 0 && (first + i) % self.lone == self.lone - 1;
            let mut filled = 0;
            while filled < columns.len() {
                let column = columns.start + filled;
                let (run, within) = (column / self.segment, column % self.segment);
                let n = (self.segment - within).min(columns.len() - filled);
                let g = &self.g[row + self.segments[run] + within..];
                let to = &mut to[filled..filled + n];
                if lone {
                    for (word, &lower) in to.iter_mut().zip(&g[..n]) {
                        *word = pair(lower, 0.);
                    }
                } else if self.products.are_pairs() {
                    for ((word, &lower), &upper) in to.iter_mut().zip(&g[..n]).zip(&g[self.partner..][..n]) {
                        *word = pair(lower, upper);
                    }
                } else {
                    to.copy_from_slice(&g[..n]);
                }
                filled += n;
            }
            to[filled..].fill(0.);
        }
    }

    #[inline(always)]
    fn panel<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        rows: &[usize],
        panel: &[S::f32s],
        columns: &Range<usize>,
    ) {
        for segment in 0..self.a_segments.len() {
            let mut k = 0;
            while k + MR <= self.depth {
                self.tile::<S, P, MR, NV>(with, rows, segment, k, panel, columns);
                k += MR;
            }
            while k + 3 <= self.depth {
                self.tile::<S, P, 3, NV>(with, rows, segment, k, panel, columns);
                k += 3;
            }
            for k in k..self.depth {
                self.tile::<S, P, 1, NV>(with, rows, segment, k, panel, columns);
            }
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a check for each row costs as much as a part of its products")]
    fn tile<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        rows: &[usize],
        segment: usize,
        k: usize,
        panel: &[S::f32s],
        columns: &Range<usize>,
    ) {
        let a = &self.a[self.a_segments[segment] + k..];
        // SAFETY: `run` has checked that `depth` numbers follow each row's beginning in each segment, and `k + MR` is no more.
        let sums = unsafe { multiply_rows::<S, P, MR, NV>(with, a, rows, panel) };
        for (i, sums) in sums.into_iter().enumerate() {
            let at = (segment * self.depth + k + i) * self.stride;
            let (whole, rest) = S::as_mut_simd_f32s(&mut self.out[at + columns.start..at + columns.end]);
            let mut sums = sums.into_iter();
            for (to, sum) in whole.iter_mut().zip(&mut sums) {
                *to = with.0.add_f32s(*to, sum);
            }
            if let Some(sum) = sums.next() {
                let old = with.0.partial_load_f32s(rest);
                with.0.partial_store_f32s(rest, with.0.add_f32s(old, sum));
            }
        }
    }
}

/// The sums over the panel's rows of `MR` numbers from `a[rows[..]]` times those of the panel. As in [`multiply_add`], the sums
/// are handed on by value and nothing in the loop can fail, so that they stay in registers.
///
/// # Safety
/// `MR` numbers of `a` follow the beginning of each row.
#[inline(always)]
#[expect(unsafe_code, reason = "see its callers")]
unsafe fn multiply_rows<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
    (simd, product): (S, P),
    a: &[f32],
    rows: &[usize],
    panel: &[S::f32s],
) -> [[S::f32s; NV]; MR] {
    let mut sums = [[simd.splat_f32s(0.); NV]; MR];
    for (&row, g) in rows.iter().zip(panel.as_chunks::<NV>().0) {
        // SAFETY: the caller's promise.
        let a = unsafe { a.get_unchecked(row..row + MR) };
        for i in 0..MR {
            let x = simd.splat_f32s(a[i]);
            for j in 0..NV {
                sums[i][j] = product.multiply_add(simd, x, g[j], sums[i][j]);
            }
        }
    }
    sums
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Product<S>>(mut self, simd: S, product: P) {
        let with = (simd, product);
        let cols = self.segments.len() * self.segment;
        let widest = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let (a_rows, g_rows) = (self.a_rows, self.g_rows);
        let mut packed = [0f32; BLOCK * WIDEST];
        for (block, (a_rows, g_rows)) in a_rows.chunks(BLOCK).zip(g_rows.chunks(BLOCK)).enumerate() {
            for start in (0..cols).step_by(widest * S::F32_LANES) {
                let columns = start..cols.min(start + widest * S::F32_LANES);
                let vectors = columns.len().div_ceil(S::F32_LANES);
                let packed = &mut packed[..a_rows.len() * vectors * S::F32_LANES];
                self.pack(block * BLOCK, g_rows, &columns, vectors * S::F32_LANES, packed);
                let panel = S::as_simd_f32s(packed).0;
                match (S::REGISTER_COUNT >= 32, vectors) {
                    (true, 4) => self.panel::<S, P, 6, 4>(with, a_rows, panel, &columns),
                    (true, 3) => self.panel::<S, P, 8, 3>(with, a_rows, panel, &columns),
                    (true, 2) => self.panel::<S, P, 12, 2>(with, a_rows, panel, &columns),
                    (false, 2) => self.panel::<S, P, 6, 2>(with, a_rows, panel, &columns),
                    _ => self.panel::<S, P, 12, 1>(with, a_rows, panel, &columns),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.).collect()
    }

    fn close(got: &[f32], want: &[f64]) {
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            assert!((f64::from(got) - want).abs() < 1e-4 * (1. + want.abs()), "element {i} is {got}, expected {want}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn products_of_any_shape(
            rows in 1usize..300,
            runs in 1usize..4,
            segment in 1usize..40,
            cols in 1usize..150,
            bias: bool,
        ) {
            let (gap, depth) = (segment + 3, runs * segment);
            let a = numbers(rows * 2 + runs * gap + segment, 1);
            let at: Vec<usize> = (0..rows).map(|m| (m * 5) % (rows * 2)).collect();
            let segments: Vec<usize> = (0..runs).map(|run| run * gap).collect();
            let left = |m: usize, k: usize| f64::from(a[at[m] + segments[k / segment] + k % segment]);

            let weights = numbers(depth * cols, 2);
            let row_places: Vec<usize> = (0..depth).map(|k| k * cols).collect();
            let panels = Panels::new(&weights, &row_places, &(0..cols).collect::<Vec<_>>());
            let shifts = numbers(cols, 3);
            let out_rows: Vec<usize> = (0..rows).map(|m| (rows - 1 - m) * cols).collect();
            let mut out = vec![f32::NAN; rows * cols];
            let bias = bias.then_some(shifts.as_slice());
            Gather {
                a: &a, rows: &at, segments: &segments, segment, weights: &panels, bias, addend: None, out: &mut out, out_rows: &out_rows,
                products: Products::Single,
            }.run();
            let mut want = vec![0f64; rows * cols];
            for m in 0..rows {
                for n in 0..cols {
                    let sum: f64 = (0..depth).map(|k| left(m, k) * f64::from(weights[k * cols + n])).sum();
                    want[out_rows[m] + n] = sum + bias.map_or(0., |bias| f64::from(bias[n]));
                }
            }
            close(&out, &want);

            // The right matrix's rows are found as the left one's are above; the left one is whole.
            let left_matrix = numbers(rows * cols, 4);
            let (mut out, stride) = (numbers(cols * (depth + 2), 5), depth + 2);
            let mut want: Vec<f64> = out.iter().map(|&x| f64::from(x)).collect();
            Outer {
                a: &left_matrix, a_rows: &out_rows, a_segments: &[0], depth: cols, g: &a, g_rows: &at, segments: &segments, segment,
                out: &mut out, stride, products: Products::Single, partner: 0, lone: 0,
            }.run();
            for k in 0..cols {
                for n in 0..depth {
                    want[k * stride + n] +=
                        (0..rows).map(|m| f64::from(left_matrix[out_rows[m] + k]) * left(m, n)).sum::<f64>();
                }
            }
            close(&out, &want);
        }
    }
}
