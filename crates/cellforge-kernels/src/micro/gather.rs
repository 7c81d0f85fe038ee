//! Products whose left rows are put together from runs of numbers.

use super::{
    Left, Panels, block_bias, check_runs, copied_pitch, copy_rows, multiply_add, row_blocks, store, tiled::Tiled,
    write_row,
};
use crate::product::{Kernel, Product, Products, multiply};
use crate::tiles::{Block, Engine, SIDE, Scratch, Steps, TILE};
use pulp::Simd;
use std::ops::Range;

/// `out[m] = bias + a[m] * weights + addend[m]`: row `m` of the left matrix is made of runs of `segment` numbers, which begin at
/// `rows[m] + segments[..]`, and row `m` of the result and of the addend begins at `out_rows[m]`. In tiles, a run is read to the end of its last
/// tile, and the weights have zeros there.
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
        assert_eq!(self.rows.len(), self.out_rows.len());
        let products = self.products;
        let segment = products.whole_segment(self.segment);
        assert_eq!(self.weights.depth(), self.segments.len() * segment, "the weights are of another depth");
        check_runs(self.a, self.rows, self.segments, segment);
        multiply(self, products);
    }
}

impl Tiled for Gather<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn bias(&self) -> Option<&[f32]> {
        self.bias
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
        let weights = self.weights;
        self.panels((simd, product), weights);
    }

    #[inline(always)]
    fn run_in_tiles<E: Engine>(self, engine: E) {
        let (depth, segment) = (self.weights.depth(), self.products.whole_segment(self.segment));
        let pitch = copied_pitch(depth);
        let mut scratch = Scratch::take([SIDE * pitch, SIDE * SIDE]);
        let [copied, sums] = scratch.buffers();
        let row_blocks = row_blocks(self.rows);
        for (panel, columns) in self.weights.panels() {
            let width = panel.len() / depth;
            assert!(width.is_multiple_of(SIDE), "{width} columns are no whole tiles");
            let places = || {
                let runs = self.segments.iter().flat_map(|start| (0..segment).step_by(TILE).map(move |k| start + k));
                runs.enumerate()
            };
            let in_place = Steps::new(places().map(|(step, place)| [place, step * TILE * width]));
            let of_copy = Steps::new(places().map(|(step, _)| [step * TILE, step * TILE * width]));
            for block in &row_blocks {
                let (left, rows, left_pitch, steps): (&[f32], _, _, _) = match &block.left {
                    Left::InPlace { rows, pitch } => (self.a, *rows, *pitch, &in_place),
                    Left::Copied(taken) => {
                        copy_rows(self.a, &self.rows[taken.clone()], self.segments, segment, copied);
                        (copied, [0, TILE * pitch], pitch, &of_copy)
                    }
                };
                for column in (0..width).step_by(SIDE) {
                    engine.multiply(Block {
                        left,
                        rows,
                        left_pitch,
                        right: panel,
                        column,
                        right_pitch: width,
                        steps,
                        sums,
                        pitch: SIDE,
                        accumulate: false,
                    });
                    let columns = columns.start + column..columns.end.min(columns.start + column + SIDE);
                    let bias = block_bias(self.bias, &columns);
                    let sums = sums.as_chunks::<SIDE>().0;
                    for (row, result) in block.results() {
                        let at = self.out_rows[result];
                        let to = at + columns.start..at + columns.end;
                        let mut values = sums[row];
                        for (value, bias) in values.iter_mut().zip(&bias) {
                            *value += bias;
                        }
                        if let Some(addend) = self.addend {
                            for (value, x) in values.iter_mut().zip(&addend[to.clone()]) {
                                *value += x;
                            }
                        }
                        write_row(&values, &mut self.out[to]);
                    }
                }
            }
        }
    }
}
