//! Transposed matrices.

/// Writes the transposed matrix of `from`, which has rows of `cols` numbers: row `i` of the result begins at `i * pitch` in `to`.
///
/// # Panics
/// If `pitch` is less than the number of rows of `from`, or `to` ends before the result does.
pub(crate) fn transpose(from: &[f32], cols: usize, to: &mut [f32], pitch: usize) {
    if from.is_empty() {
        return;
    }
    let rows = from.len() / cols;
    assert!(
        rows <= pitch && (cols - 1) * pitch + rows <= to.len(),
        "{rows} rows of {cols} do not fit, transposed, into {}",
        to.len()
    );
    // Whole tiles of 16 by 16 numbers, and what is left below and beside them.
    let (whole_rows, whole_cols) = whole_tiles(from, cols, to, pitch);
    turn(from, cols, to, pitch, 0..whole_rows, whole_cols..cols);
    turn(from, cols, to, pitch, whole_rows..rows, 0..cols);
}

/// The numbers of some rows and columns, one after the other.
fn turn(
    from: &[f32],
    cols: usize,
    to: &mut [f32],
    pitch: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    const TILE: usize = 16;
    for first in rows.clone().step_by(TILE) {
        for col in columns.clone() {
            let some = first..rows.end.min(first + TILE);
            for (to, row) in to[col * pitch + some.start..].iter_mut().zip(some) {
                *to = from[row * cols + col];
            }
        }
    }
}

/// Transposes as many whole tiles as there are, and returns how many rows and columns they have; none without AVX-512.
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "the processor must have the instructions, and a check for each number costs more than moving it"
)]
fn whole_tiles(from: &[f32], cols: usize, to: &mut [f32], pitch: usize) -> (usize, usize) {
    use avx512::TILE;
    if crate::simd::avx512().is_none() {
        return (0, 0);
    }
    let (rows, whole_cols) = (from.len() / cols / TILE * TILE, cols / TILE * TILE);
    for col in (0..whole_cols).step_by(TILE) {
        for row in (0..rows).step_by(TILE) {
            let (from, to) = (&from[row * cols + col..], &mut to[col * pitch + row..]);
            assert!(
                (TILE - 1) * cols + TILE <= from.len() && (TILE - 1) * pitch + TILE <= to.len(),
                "a tile within both matrices"
            );
            // SAFETY: the processor has AVX-512, and the tiles lie within both matrices, as was just seen.
            unsafe { avx512::transpose(from.as_ptr(), cols, to.as_mut_ptr(), pitch) };
        }
    }
    (rows, whole_cols)
}

#[cfg(not(target_arch = "x86_64"))]
fn whole_tiles(_: &[f32], _: usize, _: &mut [f32], _: usize) -> (usize, usize) {
    (0, 0)
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "loads and stores by pointers")]
mod avx512 {
    use core::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    /// Rows and columns of a tile.
    pub(super) const TILE: usize = 16;

    /// Transposes one tile.
    ///
    /// # Safety
    /// The processor has AVX-512; 16 rows of 16 numbers, so many numbers apart, can be read from `from` on and written from `to` on.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose(from: *const f32, pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: the caller's promise.
        let mut rows: [__m512; TILE] = core::array::from_fn(|i| unsafe { _mm512_loadu_ps(from.add(i * pitch)) });
        // Blocks of 2 by 2 numbers, of 4 by 4, of 8 by 8 and of 16 by 16 are transposed in turn.
        for i in (0..TILE).step_by(2) {
            let [a, b] = [rows[i], rows[i + 1]];
            (rows[i], rows[i + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        }
        for i in (0..TILE).step_by(4) {
            let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]].map(|x| _mm512_castps_pd(x));
            rows[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
            rows[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
            rows[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
            rows[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
        }
        for half in [0, 8] {
            for i in half..half + 4 {
                let [a, b] = [rows[i], rows[i + 4]];
                rows[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                rows[i + 4] = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
            }
        }
        for i in 0..8 {
            let [a, b] = [rows[i], rows[i + 8]];
            rows[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
            rows[i + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        }
        for (i, row) in rows.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to.add(i * to_pitch), row) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        for (rows, cols, pitch) in [(48, 32, 53), (81, 35, 81), (3, 100, 3), (16, 16, 16), (17, 1, 20), (1, 50, 2)] {
            let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let mut to = vec![-1f32; cols * pitch];
            transpose(&from, cols, &mut to, pitch);
            for (i, &x) in to.iter().enumerate() {
                let (col, row) = (i / pitch, i % pitch);
                let want = if row < rows { (row * cols + col) as f32 } else { -1. };
                assert_eq!(x, want, "{rows} rows of {cols}: column {col}, row {row}");
            }
        }
        transpose(&[], 0, &mut [], 0);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_result_has_room() {
        transpose(&[0.; 64], 8, &mut [0.; 63], 8);
    }
}
