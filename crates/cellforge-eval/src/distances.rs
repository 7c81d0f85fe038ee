//! Nearest neighbours among features, exact and in bounded memory.
//!
//! Squared distances of a block of queries to a block of references come out of one matrix product in `f32`, as
//! `|x|² + |y|² - 2 x·y` of centred rows. That is fast, and wrong by a little: for near neighbours by more than their distance.
//! So the product only rules pairs out. Its error has a bound (see [`Row`]), and a pair that may matter within that bound is
//! computed again as the sum of squared differences in `f64`. The answers are those of that plain sum, on any processor and with any
//! number of threads, and two equal rows are at distance 0.
//!
//! Per thread, a block of `256` queries and one of `512` references are held with their products: `4 · (768 d + 131,072)` bytes for
//! `d` dimensions (2 MiB at 512 dimensions, 36 MiB for 64x64 pixels in colour). Beside that there are 4 bytes per row and the answers.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Features, Result};

/// Most queries in a block. Smaller sets are cut finer, so that every thread has work.
const QUERIES: usize = 256;
/// References in a block.
const REFS: usize = 512;

/// A row that was found near another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its number in the set that was searched.
    pub index: usize,
    /// Its Euclidean distance, 0 or above.
    pub distance: f64,
}

/// The `k` rows of `refs` nearest to each row of `queries`, nearest first; of rows equally far, those with lower numbers.
///
/// # Errors
/// [`Error::DimsDiffer`], or [`Error::Neighbours`] if `k` is 0 or above the number of references.
///
/// ```
/// use cellforge_eval::{Features, nearest};
/// let refs = [0.0, 0.0, 3.0, 4.0, 6.0, 8.0];
/// let found = nearest(Features::new(&[0.0, 0.0], 2)?, Features::new(&refs, 2)?, 2)?;
/// assert_eq!((found[0][0].index, found[0][0].distance), (0, 0.0));
/// assert_eq!((found[0][1].index, found[0][1].distance), (1, 5.0));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn nearest(queries: Features, refs: Features, k: usize) -> Result<Vec<Vec<Neighbour>>> {
    if k == 0 || k > refs.len() {
        return Err(Error::Neighbours { k, needed: k.max(1), rows: refs.len() });
    }
    Ok(with_roots(search(queries, refs, k, |_, _| false)?))
}

/// The `k` other rows of `set` nearest to each of its rows, in the order of [`nearest`]. A row is not its own neighbour; a second row
/// equal to it is, at distance 0.
///
/// # Errors
/// [`Error::Neighbours`] if `k` is 0 or `set` has fewer than `k + 1` rows.
pub fn nearest_other(set: Features, k: usize) -> Result<Vec<Vec<Neighbour>>> {
    if k == 0 || k >= set.len() {
        return Err(Error::Neighbours { k, needed: k.max(1) + 1, rows: set.len() });
    }
    Ok(with_roots(search(set, set, k, |query, reference| query == reference)?))
}

/// The smallest distance from each query to each group of references, `(queries, groups)`, row-major; infinite for a group that has
/// no reference. `group_of[j]`, below `groups`, is the group of reference `j`.
///
/// # Errors
/// [`Error::DimsDiffer`], [`Error::Length`] if `group_of` is not one per reference, or [`Error::Group`].
pub fn nearest_in_groups(queries: Features, refs: Features, group_of: &[usize], groups: usize) -> Result<Vec<f64>> {
    if group_of.len() != refs.len() {
        return Err(Error::Length { what: "the array of groups", found: group_of.len(), expected: refs.len() });
    }
    if let Some(index) = group_of.iter().position(|&group| group >= groups) {
        return Err(Error::Group { index, group: group_of[index], groups });
    }
    let start = |_| (vec![f64::INFINITY; groups], vec![f32::INFINITY; groups]);
    let found = scan(queries, refs, start, |(best, limits), query, first, row| {
        // Bounds first: of each group in the block only what may be its nearest is computed exactly.
        for (j, &group) in group_of[first..first + row.len()].iter().enumerate() {
            let upper = row.upper(j);
            if upper < limits[group] {
                limits[group] = upper;
            }
        }
        for j in 0..row.len() {
            let group = group_of[first + j];
            if row.lower(j) > limits[group] {
                continue;
            }
            let squared = squared_distance(queries.row(query), refs.row(first + j));
            if squared < best[group] {
                best[group] = squared;
                limits[group] = limits[group].min(round_up(squared));
            }
        }
    })?;
    Ok(found.into_iter().flat_map(|(best, _)| best).map(f64::sqrt).collect())
}

/// Squared Euclidean distance in `f64`, of eight sums side by side, so that it does not depend on the processor.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_rows, a_rest) = a.as_chunks::<8>();
    let (b_rows, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_rows.iter().zip(b_rows) {
        for lane in 0..8 {
            let difference = f64::from(a[lane]) - f64::from(b[lane]);
            sums[lane] += difference * difference;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

fn with_roots(mut found: Vec<Vec<Neighbour>>) -> Vec<Vec<Neighbour>> {
    found.iter_mut().flatten().for_each(|neighbour| neighbour.distance = neighbour.distance.sqrt());
    found
}

/// The `k` nearest references, with squared distances, that `skip(query, reference)` does not leave out; there are at least `k`.
fn search(
    queries: Features,
    refs: Features,
    k: usize,
    skip: impl Fn(usize, usize) -> bool + Sync,
) -> Result<Vec<Vec<Neighbour>>> {
    scan(
        queries,
        refs,
        |_| Vec::with_capacity(k + 1),
        |best: &mut Vec<Neighbour>, query, first, row| {
            let limit_of = |best: &[Neighbour]| best.get(k - 1).map_or(f32::INFINITY, |last| round_up(last.distance));
            let mut limit = limit_of(best);
            for j in 0..row.len() {
                let index = first + j;
                if row.lower(j) > limit || skip(query, index) {
                    continue;
                }
                let distance = squared_distance(queries.row(query), refs.row(index));
                // References come in rising order: behind those that are as near.
                let place = best.partition_point(|other| other.distance <= distance);
                if place < k {
                    best.insert(place, Neighbour { index, distance });
                    best.truncate(k);
                    limit = limit_of(best);
                }
            }
        },
    )
}

/// An `f32` above `value`, and not far.
pub(crate) fn round_up(value: f64) -> f32 {
    (value as f32).next_up()
}

/// Bounds of the squared distances of one query to a block of references.
///
/// With `u = 2^-24`, the error of `f32`, products of `d` terms summed in any order are wrong by at most `d u |x| |y|`, which twice is
/// at most `d u (|x|² + |y|²)`; centring and the other sums add less than `16 u (|x|² + |y|²)`. What is lost below the smallest normal
/// number is added on its own. Where numbers are so large that the product overflows, the bounds are NaN: ask whether a bound is on
/// the far side, never whether it is on the near one.
pub(crate) struct Row<'a> {
    /// `-2 x·y` of centred rows, one per reference.
    products: &'a [f32],
    /// `|y|²` of centred rows, one per reference.
    ref_norms: &'a [f32],
    /// `|x|²` of the centred query.
    norm: f32,
    /// The bound of the error, relative to `|x|² + |y|²`.
    relative: f32,
    /// The bound of the error that is not relative.
    absolute: f32,
}

impl Row<'_> {
    /// Number of references in the block.
    pub(crate) fn len(&self) -> usize {
        self.products.len()
    }

    /// No more than the squared distance to reference `j` of the block, or NaN.
    pub(crate) fn lower(&self, j: usize) -> f32 {
        self.products[j] + (1.0 - self.relative) * (self.norm + self.ref_norms[j]) - self.absolute
    }

    /// No less than the squared distance to reference `j` of the block, or NaN.
    pub(crate) fn upper(&self, j: usize) -> f32 {
        self.products[j] + (1.0 + self.relative) * (self.norm + self.ref_norms[j]) + self.absolute
    }
}

/// Goes over all pairs. Every query has a state, made by `start(query)`; `visit(state, query, first, row)` is called for its blocks of
/// references in rising order, where `first` is the number of the block's first reference. Returns the states in the order of the
/// queries. Blocks of queries run in parallel.
pub(crate) fn scan<T: Send>(
    queries: Features,
    refs: Features,
    start: impl Fn(usize) -> T + Sync,
    visit: impl Fn(&mut T, usize, usize, &Row) + Sync,
) -> Result<Vec<T>> {
    queries.same_dims(&refs)?;
    let dims = queries.dims();
    let centre = centre(queries, refs);
    let norms = squared_norms(refs, &centre);
    let relative = (dims as f32 + 16.0) * (f32::EPSILON / 2.0);
    let absolute = 4.0 * dims as f32 * f32::MIN_POSITIVE;

    let block = queries.len().div_ceil(4 * rayon::current_num_threads()).clamp(16, QUERIES);
    let starts: Vec<usize> = (0..queries.len()).step_by(block).collect();
    let blocks: Vec<Vec<T>> = starts
        .into_par_iter()
        .map(|from| {
            let count = block.min(queries.len() - from);
            let xs = centred(&queries.values()[from * dims..(from + count) * dims], &centre);
            let x_norms: Vec<f32> = xs.chunks(dims).map(squared_norm).collect();
            let mut states: Vec<T> = (from..from + count).map(&start).collect();
            let mut products = vec![0.0; count * REFS.min(refs.len())];
            for (number, values) in refs.values().chunks(REFS * dims).enumerate() {
                let (first, width) = (number * REFS, values.len() / dims);
                let products = &mut products[..count * width];
                multiply(products, &xs, &centred(values, &centre), dims);
                for (i, state) in states.iter_mut().enumerate() {
                    let row = Row {
                        products: &products[i * width..][..width],
                        ref_norms: &norms[first..first + width],
                        norm: x_norms[i],
                        relative,
                        absolute,
                    };
                    visit(state, from + i, first, &row);
                }
            }
            states
        })
        .collect();
    Ok(blocks.into_iter().flatten().collect())
}

/// `-2 x·y` of all rows of `xs` and `ys`, `(xs, ys)`, row-major, on this thread.
fn multiply(products: &mut [f32], xs: &[f32], ys: &[f32], dims: usize) {
    let (rows, columns) = (xs.len() / dims, ys.len() / dims);
    let out = MatMut::from_row_major_slice_mut(products, rows, columns);
    let xs = MatRef::from_row_major_slice(xs, rows, dims);
    let ys = MatRef::from_row_major_slice(ys, columns, dims);
    matmul(out, Accum::Replace, xs, ys.transpose(), -2.0, Par::Seq);
}

/// The mean of all rows of both sets, `(d,)`: subtracting one vector from all rows changes no distance.
fn centre(queries: Features, refs: Features) -> Vec<f32> {
    let mut sums = vec![0.0_f64; queries.dims()];
    for row in queries.values().chunks(queries.dims()).chain(refs.values().chunks(refs.dims())) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let rows = (queries.len() + refs.len()) as f64;
    sums.into_iter().map(|sum| (sum / rows) as f32).collect()
}

fn centred(values: &[f32], centre: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks(centre.len()) {
        out.extend(row.iter().zip(centre).map(|(value, centre)| value - centre));
    }
    out
}

fn squared_norms(set: Features, centre: &[f32]) -> Vec<f32> {
    set.values().par_chunks(set.dims()).map(|row| squared_norm(&centred(row, centre))).collect()
}

fn squared_norm(row: &[f32]) -> f32 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>() as f32
}
