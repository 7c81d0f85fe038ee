//! The order in which the tiles of a product are computed.

use super::{Panels, load_bias};
use crate::product::Product;
use pulp::Simd;
use std::ops::Range;

/// A product whose results are computed some rows and some columns at a time.
pub(super) trait Tiled {
    fn rows(&self) -> usize;

    fn bias(&self) -> Option<&[f32]>;

    /// Computes `MR` rows from row `m` on, for the columns of a panel. Sums begin at `start`.
    fn tile<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        m: usize,
        panel: &[S::f32s],
        columns: &Range<usize>,
        start: [S::f32s; NV],
    );

    /// Computes all rows for the columns of a panel, in tiles of `MR` rows.
    #[inline(always)]
    fn panel<S: Simd, P: Product<S>, const MR: usize, const NV: usize>(
        &mut self,
        with: (S, P),
        panel: &[f32],
        columns: &Range<usize>,
    ) {
        let start = load_bias::<S, NV>(with.0, self.bias(), columns);
        let panel = S::as_simd_f32s(panel).0;
        let rows = self.rows();
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

    /// Computes everything, in tiles that fill the registers.
    #[inline(always)]
    fn panels<S: Simd, P: Product<S>>(&mut self, with: (S, P), weights: &Panels) {
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
