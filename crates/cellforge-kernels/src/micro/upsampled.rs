//! The products of a convolution after 2x upsampling, nine for each small pixel.

use super::{
    Left, Panels, block_bias, check_runs, copied_pitch, copy_rows, multiply_add, row_blocks, store, tiled::Tiled,
    write_row,
};
use crate::product::{Kernel, Product, Products, multiply};
use crate::tiles::{Block, Engine, SIDE, Scratch, Steps, TILE};
use pulp::Simd;
use std::ops::Range;

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
        assert_eq!(self.rows.len(), self.out_rows.len());
        assert_eq!(self.weights.depth(), PRODUCTS * self.depth, "the weights are of another depth");
        check_runs(self.a, self.rows, &self.segments, self.depth);
        let products = self.products;
        multiply(self, products);
    }
}

impl Tiled for Upsampled<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn bias(&self) -> Option<&[f32]> {
        self.bias
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
}

impl Upsampled<'_> {
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
        let weights = self.weights;
        self.panels((simd, product), weights);
    }

    #[inline(always)]
    fn run_in_tiles<E: Engine>(self, engine: E) {
        const BLOCK: usize = SIDE * SIDE;
        let pitch = copied_pitch(PRODUCTS * self.depth);
        let mut scratch = Scratch::take([SIDE * pitch, PRODUCTS * BLOCK]);
        let [copied, sums] = scratch.buffers();
        let row_blocks = row_blocks(self.rows);
        for (panel, columns) in self.weights.panels() {
            let width = panel.len() / (PRODUCTS * self.depth);
            assert!(
                self.depth.is_multiple_of(TILE) && width.is_multiple_of(SIDE),
                "runs or columns are no whole tiles"
            );
            let steps: [Steps; PRODUCTS] = std::array::from_fn(|i| {
                let first = i * self.depth * width;
                Steps::new((0..self.depth).step_by(TILE).map(|k| [k, first + k * width]))
            });
            for block in &row_blocks {
                let (left, rows, left_pitch, segments): (&[f32], _, _, _) = match &block.left {
                    Left::InPlace { rows, pitch } => (self.a, *rows, *pitch, self.segments),
                    Left::Copied(taken) => {
                        copy_rows(self.a, &self.rows[taken.clone()], &self.segments, self.depth, copied);
                        (copied, [0, TILE * pitch], pitch, std::array::from_fn(|i| i * self.depth))
                    }
                };
                for column in (0..width).step_by(SIDE) {
                    for ((segment, steps), sums) in segments.iter().zip(&steps).zip(sums.chunks_exact_mut(BLOCK)) {
                        engine.multiply(Block {
                            left,
                            rows: rows.map(|row| row + segment),
                            left_pitch,
                            right: panel,
                            column,
                            right_pitch: width,
                            steps,
                            sums,
                            pitch: SIDE,
                            accumulate: false,
                        });
                    }
                    let columns = columns.start + column..columns.end.min(columns.start + column + SIDE);
                    let bias = block_bias(self.bias, &columns);
                    let sums: [&[[f32; SIDE]]; PRODUCTS] =
                        std::array::from_fn(|i| sums[i * BLOCK..][..BLOCK].as_chunks::<SIDE>().0);
                    for (row, result) in block.results() {
                        let at = self.out_rows[result];
                        let [p0, p1, p2, p3, p4, p5, p6, p7, p8] = sums.map(|sums| &sums[row]);
                        let corners = [(p1, p3, p5), (p2, p3, p6), (p1, p4, p7), (p2, p4, p8)];
                        for (phase, (side, line, corner)) in self.phases.into_iter().zip(corners) {
                            // All of a row: loops of constant length are the ones that are vectorised.
                            let mut values = [0f32; SIDE];
                            for (n, value) in values.iter_mut().enumerate() {
                                *value = p0[n] + bias[n] + side[n] + line[n] + corner[n];
                            }
                            write_row(&values, &mut self.out[at + phase + columns.start..at + phase + columns.end]);
                        }
                    }
                }
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
