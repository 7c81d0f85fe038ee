//! Products that are summed over rows of both matrices, as gradients of weights are.

use super::{WIDEST, check_runs, even_pitch};
use crate::element::Element;
use crate::product::{Kernel, Product, Products, multiply};
use crate::tiles::{Block, Engine, SIDE, Scratch, Steps, TILE};
use crate::transpose::transpose;
use pulp::Simd;
use std::ops::Range;

/// `out[k] += sum over m of a[m][k] * g[m]`: row `m` of `a` is made of runs of `depth` numbers from `a_rows[m] + a_segments[..]`,
/// row `m` of `g` of runs of `segment` numbers from `g_rows[m] + segments[..]`, and row `k` of the result begins at
/// `k * stride`.
///
/// Of words, `a` holds words of two rows that are summed over, and each row of `g` is given with its partner, `partner` numbers after it;
/// both are single numbers in `g`, of any type, and are paired here. Where `lone` is not 0, the last of every `lone` rows has no partner.
///
/// In tiles, what is written is transposed: column `n` of the result above is a row that begins at `n * stride`. Runs of `a`, and columns, are
/// then filled up to multiples of [`SIDE`]: there are as many rows of the result, `a` is read as far, and what is written beyond the runs and
/// the columns is of no use.
pub(crate) struct Outer<'a, G> {
    pub a: &'a [f32],
    pub a_rows: &'a [usize],
    pub a_segments: &'a [usize],
    pub depth: usize,
    pub g: &'a [G],
    pub g_rows: &'a [usize],
    pub segments: &'a [usize],
    pub segment: usize,
    pub out: &'a mut [f32],
    pub stride: usize,
    pub products: Products,
    pub partner: usize,
    pub lone: usize,
}

/// Rows that are multiplied together in tiles, at most: each time, all sums are read and written once.
pub(crate) const MOST_IN_TILES: usize = 256;

/// Rows of `a` and `g` that are multiplied while a part of `g` stays in the first cache.
const BLOCK: usize = 64;

impl<G: Element> Outer<'_, G> {
    pub fn run(self) {
        assert_eq!(self.a_rows.len(), self.g_rows.len());
        let products = self.products;
        let depth = if products.are_tiles() { self.depth.next_multiple_of(SIDE) } else { self.depth };
        check_runs(self.a, self.a_rows, self.a_segments, depth);
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
                        *word = G::pair(lower, G::default());
                    }
                } else if self.products.are_pairs() {
                    for ((word, &lower), &upper) in to.iter_mut().zip(&g[..n]).zip(&g[self.partner..][..n]) {
                        *word = G::pair(lower, upper);
                    }
                } else {
                    for (to, g) in to.iter_mut().zip(&g[..n]) {
                        *to = g.widen();
                    }
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

/// The sums over the panel's rows of `MR` numbers from `a[rows[..]]` times those of the panel. As in
/// [`multiply_add`](super::multiply_add), the sums are handed on by value and nothing in the loop can fail, so that they stay in registers.
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

impl<G: Element> Kernel for Outer<'_, G> {
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

    #[inline(always)]
    fn run_in_tiles<E: Engine>(self, engine: E) {
        const BLOCK: usize = MOST_IN_TILES;
        let (given_cols, depth) = (self.segments.len() * self.segment, self.depth.next_multiple_of(SIDE));
        let cols = given_cols.next_multiple_of(SIDE);
        let turned_pitch = BLOCK + TILE;
        let mut scratch = Scratch::take([cols * (turned_pitch + BLOCK), BLOCK * SIDE]);
        let [g, copied] = scratch.buffers();
        let (turned, packed) = g.split_at_mut(cols * turned_pitch);
        for (block, (a_rows, g_rows)) in self.a_rows.chunks(BLOCK).zip(self.g_rows.chunks(BLOCK)).enumerate() {
            let rows = a_rows.len().next_multiple_of(TILE);
            let packed = &mut packed[..rows * cols];
            let (given, missing) = packed.split_at_mut(a_rows.len() * cols);
            self.pack(block * BLOCK, g_rows, &(0..given_cols), cols, given);
            missing.fill(0.);
            transpose(packed, cols, turned, turned_pitch);
            // Rows that tiles can take in place are not copied.
            let pitch = even_pitch(a_rows);
            let steps = match pitch {
                Some(_) => Steps::new(a_rows.iter().step_by(TILE).enumerate().map(|(step, &row)| [step * TILE, row])),
                None => Steps::new((0..rows).step_by(TILE).map(|row| [row, row * SIDE])),
            };
            for (segment, &start) in self.a_segments.iter().enumerate() {
                for k in (0..depth).step_by(SIDE) {
                    let (right, right_at, right_pitch): (&[f32], _, _) = match pitch {
                        Some(pitch) => (self.a, start + k, pitch),
                        None => {
                            // What is missing to a tile repeats the last row, which meets zeros.
                            for (row, to) in copied.chunks_exact_mut(SIDE).take(rows).enumerate() {
                                let at = a_rows[row.min(a_rows.len() - 1)] + start + k;
                                to.copy_from_slice(&self.a[at..][..SIDE]);
                            }
                            (copied, 0, SIDE)
                        }
                    };
                    for column in (0..cols).step_by(SIDE) {
                        engine.multiply(Block {
                            left: turned,
                            rows: [column, column + TILE].map(|column| column * turned_pitch),
                            left_pitch: turned_pitch,
                            right,
                            column: right_at,
                            right_pitch,
                            steps: &steps,
                            sums: &mut self.out[column * self.stride + segment * depth + k..],
                            pitch: self.stride,
                            accumulate: true,
                        });
                    }
                }
            }
        }
    }
}
