//! Products of several matrices that lie one after the other, each with a matrix of its own.

use super::multiply_add;
use crate::product::Single;
use pulp::{Simd, WithSimd};

/// See [`Panels::multiply_each`](super::Panels::multiply_each).
pub(super) struct Each<'a> {
    pub a: &'a [f32],
    pub rows: usize,
    pub depth: usize,
    pub weights: &'a [f32],
    pub out: &'a mut [f32],
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
