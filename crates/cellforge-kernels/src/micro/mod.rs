//! Matrix products of rows that lie anywhere in memory, for one thread.
//!
//! An image's channels lie side by side, so one row of a convolution's window is a contiguous run of numbers. The products here
//! take their rows as such runs, wherever they begin: no matrix of patches is made. Tiles of the result stay in registers while
//! the sum runs over the full depth, in an order that depends on shapes alone.
//!
//! Each kind of product has a file of its own. Here is what they share: the loop over a tile's depth, and how tiles are begun, checked
//! and written.

mod each;
mod gather;
mod outer;
mod panels;
mod tiled;
mod upsampled;

pub(crate) use gather::Gather;
pub(crate) use outer::{MOST_IN_TILES, Outer};
pub(crate) use panels::Panels;
pub(crate) use upsampled::{PRODUCTS, Upsampled};

use crate::product::Product;
use crate::tiles::{SIDE, TILE};
use pulp::Simd;
use std::ops::Range;

/// Numbers in the widest panel: four vectors of AVX-512.
const WIDEST: usize = 64;

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

/// Fails unless runs of `len` numbers from all places in `rows`, seen from all those in `segments`, end within `a`.
fn check_runs(a: &[f32], rows: &[usize], segments: &[usize], len: usize) {
    let furthest = |places: &[usize]| places.iter().max().copied().unwrap_or(0);
    let end = furthest(rows) + furthest(segments) + len;
    assert!(rows.is_empty() || end <= a.len(), "a row ends at {end}, beyond the {} numbers there are", a.len());
}

/// Rows of a product that are computed together in tiles.
struct RowBlock {
    left: Left,
    /// Which of the product's rows each row of the block is, if any.
    results: [Option<usize>; SIDE],
}

impl RowBlock {
    /// Rows of the block, and which of the product's they are.
    fn results(&self) -> impl Iterator<Item = (usize, usize)> {
        self.results.iter().enumerate().filter_map(|(row, result)| Some((row, (*result)?)))
    }
}

/// Where the rows of a block lie.
enum Left {
    /// Where they are, evenly spaced in each half with one distance for both.
    InPlace { rows: [usize; 2], pitch: usize },
    /// These, copied side by side.
    Copied(Range<usize>),
}

/// The blocks of a product whose rows begin at `rows`. Some rows may be computed twice, to the same result.
fn row_blocks(rows: &[usize]) -> Vec<RowBlock> {
    let block = |(first, count): (usize, usize)| {
        let results = std::array::from_fn(|i| (i < count).then_some(first + i));
        RowBlock { left: left(rows, first..first + count), results }
    };
    let blocks: Vec<RowBlock> = spans(rows.len()).map(block).collect();
    if blocks.iter().all(|block| matches!(block.left, Left::InPlace { .. })) {
        return blocks;
    }
    // Windows that lie side by side in several lines of an image are at places of one grid, of which the windows beyond a line's end are
    // not asked for. To compute these as well costs less than to copy all.
    let Some((pitch, places)) = on_grid(rows) else { return blocks };
    let of_grid = |(first, _): (usize, usize)| {
        let results = std::array::from_fn(|i| places[first + i]);
        let rows = [first, first + TILE].map(|place| rows[0] + place * pitch);
        RowBlock { left: Left::InPlace { rows, pitch }, results }
    };
    spans(places.len()).map(of_grid).collect()
}

/// Two tiles can take rows in place where these are evenly spaced in each, with one distance for both.
fn left(rows: &[usize], taken: Range<usize>) -> Left {
    let rows = &rows[taken.clone()];
    match even_pitch(rows) {
        Some(pitch) if rows.len() == SIDE => Left::InPlace { rows: [rows[0], rows[TILE]], pitch },
        _ => Left::Copied(taken),
    }
}

/// The distance from each row to the next, where it is the same in all tiles and these are whole.
fn even_pitch(rows: &[usize]) -> Option<usize> {
    let distance = |pair: &[usize]| pair[1].checked_sub(pair[0]).filter(|&distance| distance > 0);
    let (tiles, rest) = rows.as_chunks::<TILE>();
    let pitch = distance(tiles.first()?)?;
    let even = |tile: &[usize; TILE]| tile.windows(2).all(|pair| distance(pair) == Some(pitch));
    (rest.is_empty() && tiles.iter().all(even)).then_some(pitch)
}

/// The distance of the first two rows, and which row is at each place of a grid of this distance, if all are, in their order, with few gaps and
/// at least a block of places.
fn on_grid(rows: &[usize]) -> Option<(usize, Vec<Option<usize>>)> {
    let pitch = rows.get(1)?.checked_sub(rows[0]).filter(|&pitch| pitch > 0)?;
    let count = rows.last()?.checked_sub(rows[0])? / pitch + 1;
    if count < SIDE || 4 * count > 5 * rows.len() {
        return None;
    }
    let mut places = vec![None; count];
    let mut next = 0;
    for (row, &at) in rows.iter().enumerate() {
        let distance = at.checked_sub(rows[0])?;
        let place = distance / pitch;
        if !distance.is_multiple_of(pitch) || place < next {
            return None;
        }
        *places.get_mut(place)? = Some(row);
        next = place + 1;
    }
    Some((pitch, places))
}

/// Numbers from one copied row to the next. Rows of a whole number of pages would fall on the same lines of the cache.
fn copied_pitch(depth: usize) -> usize {
    depth + TILE
}

/// Rows of `depth` numbers from `rows`, seen from all of `segments`, side by side. What is missing to a block repeats the last row.
#[inline(always)]
fn copy_rows(a: &[f32], rows: &[usize], segments: &[usize], segment: usize, to: &mut [f32]) {
    let pitch = copied_pitch(segments.len() * segment);
    for (i, to) in to.chunks_mut(pitch).take(SIDE).enumerate() {
        let row = rows[i.min(rows.len() - 1)];
        for (&start, to) in segments.iter().zip(to.chunks_exact_mut(segment)) {
            to.copy_from_slice(&a[row + start..][..segment]);
        }
    }
}

/// Beginnings and lengths of the blocks of `rows` rows. The last overlaps the one before; only where there are too few rows for one block
/// is it shorter.
fn spans(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(SIDE).map(move |first| match rows {
        _ if first + SIDE <= rows => (first, SIDE),
        SIDE.. => (rows - SIDE, SIDE),
        _ => (0, rows),
    })
}

/// The bias of a block's columns, with zeros for those that are missing to a whole block or where there is none.
#[inline(always)]
fn block_bias(bias: Option<&[f32]>, columns: &Range<usize>) -> [f32; SIDE] {
    let mut values = [0f32; SIDE];
    if let Some(bias) = bias {
        values[..columns.len()].copy_from_slice(&bias[columns.clone()]);
    }
    values
}

/// Writes as many of a row's numbers as there is room for.
#[inline(always)]
fn write_row(values: &[f32; SIDE], to: &mut [f32]) {
    // Moves of a constant length are instructions, others are calls.
    const PART: usize = 8;
    if let Ok(to) = <&mut [f32; SIDE]>::try_from(&mut *to) {
        *to = *values;
        return;
    }
    let (whole, rest) = to.as_chunks_mut::<PART>();
    let (values, _) = values.as_chunks::<PART>();
    for (to, values) in whole.iter_mut().zip(values) {
        *to = *values;
    }
    if let Some(values) = values.get(whole.len()) {
        for (to, value) in rest.iter_mut().zip(values) {
            *to = *value;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Products;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.).collect()
    }

    fn close(got: &[f32], want: &[f64]) {
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            assert!((f64::from(got) - want).abs() < 1e-4 * (1. + want.abs()), "element {i} is {got}, expected {want}");
        }
    }

    #[test]
    fn blocks_have_each_row() {
        let rows = |lines: usize, width: usize, pitch: usize| -> Vec<usize> {
            (0..lines).flat_map(|y| (0..width).map(move |x| 5 + (y * pitch + x) * 7)).collect()
        };
        for (rows, in_place) in [
            (rows(4, 32, 34), true),
            (rows(4, 16, 40), true),
            (rows(9, 9, 11), true),
            (rows(9, 9, 30), false),
            (rows(1, 20, 20), false),
            ((0..64).map(|i| i * i).collect(), false),
            (vec![3; 40], false),
            ((0..40).rev().collect(), false),
        ] {
            let blocks = row_blocks(&rows);
            let mut found = vec![false; rows.len()];
            for block in &blocks {
                assert_eq!(matches!(block.left, Left::InPlace { .. }), in_place, "{rows:?}");
                for (i, row) in block.results() {
                    found[row] = true;
                    let at = match &block.left {
                        Left::InPlace { rows, pitch } => rows[i / TILE] + i % TILE * pitch,
                        Left::Copied(taken) => rows[taken.start + i],
                    };
                    assert_eq!(at, rows[row], "{rows:?}");
                }
            }
            assert!(found.into_iter().all(|found| found), "{rows:?}");
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
