//! 3x3 convolutions of stride 1 with fewer multiplications (Lavin and Gray 2016, "Fast algorithms for convolutional neural
//! networks", after Winograd 1980 and Toom and Cook).
//!
//! `M` outputs in a row of a 3-tap filter are `A^T [(G w) * (B^T x)]`, with a product for each of `M + 2` points where plain sums
//! take `3 M`; in two dimensions a tile of `M x M` outputs takes `(M + 2)^2` products instead of `9 M^2`. Sums over channels
//! stand between the transforms, so each product is a matrix product over tiles. The gradient of the weights is the transpose of
//! the same map, and that of the input is a convolution again.

use super::products::images_per_task;
use super::windows::Windows;
use crate::gemm::with_scratch;
use crate::memory::{filled, filled_in_pieces};
use crate::micro::{Outer, Panels};
use crate::product::Products;
use crate::simd::{dispatch, vectorised};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles that are handled together, so that what is computed of them stays in near memory.
const TILES: usize = 64;

/// Points of the largest tile.
const MOST: usize = 6;

/// The matrices of one size of tile; beyond its own rows and columns they hold zeros.
struct Matrices {
    /// From a window to points.
    bt: [[f32; MOST]; MOST],
    /// From taps to points.
    g: [[f32; 3]; MOST],
    /// From points to outputs.
    at: [[f32; MOST]; 4],
}

/// The tile with `M` outputs a side.
struct Tile<const M: usize>;

impl<const M: usize> Tile<M> {
    /// Points a side.
    const A: usize = M + 2;
    const MATRICES: Matrices = matrices(M);

    /// What each tap of a kernel, turned by 180 degrees or not, contributes to each point.
    fn factors(turned: bool) -> Vec<[f32; 9]> {
        let g = Self::MATRICES.g;
        let factor = |point: usize, tap: usize| {
            let tap = if turned { 8 - tap } else { tap };
            g[point / Self::A][tap / 3] * g[point % Self::A][tap % 3]
        };
        (0..Self::A * Self::A).map(|point| std::array::from_fn(|tap| factor(point, tap))).collect()
    }
}

/// The Toom-Cook matrices for `m` outputs: the points are the first of `0, 1, -1, -1/2` (or `1/2` and `-2`), and infinity. For
/// random numbers the root mean square error is 1.5 times that of plain sums for `m = 2` and 6 times for 3 and 4.
const fn matrices(m: usize) -> Matrices {
    let points: [f64; MOST - 1] = if m == 4 { [0., 1., -1., 0.5, -2.] } else { [0., 1., -1., -0.5, 0.] };
    let finite = m + 1;
    let (mut bt, mut g, mut at) = ([[0f32; MOST]; MOST], [[0f32; 3]; MOST], [[0f32; MOST]; 4]);
    let mut row = 0;
    // The last row, of infinity, is the product of all factors (x - point).
    while row <= finite {
        let mut poly = [0f64; MOST + 1];
        poly[0] = 1.;
        let mut scale = 1f64;
        let mut k = 0;
        while k < finite {
            if k != row {
                let mut i = MOST;
                while i > 0 {
                    poly[i] = poly[i - 1] - points[k] * poly[i];
                    i -= 1;
                }
                poly[0] *= -points[k];
                if row < finite {
                    scale *= points[row] - points[k];
                }
            }
            k += 1;
        }
        let mut i = 0;
        while i < MOST {
            bt[row][i] = poly[i] as f32;
            i += 1;
        }
        let mut power = 1f64;
        let mut i = 0;
        while row < finite && i < 4 {
            if i < 3 {
                g[row][i] = (power / scale) as f32;
            }
            if i < m {
                at[i][row] = power as f32;
            }
            power *= points[row];
            i += 1;
        }
        row += 1;
    }
    g[finite][2] = 1.;
    at[m - 1][finite] = 1.;
    Matrices { bt, g, at }
}

/// Outputs a side of the tiles with which a grid takes the fewest products.
fn best_tile((h, w): (usize, usize)) -> usize {
    let products = |m: &usize| h.div_ceil(*m) * w.div_ceil(*m) * (m + 2) * (m + 2);
    [2, 3, 4].into_iter().min_by_key(products).unwrap_or(2)
}

/// A convolution of 3x3 kernels and stride 1 as products over tiles.
#[derive(Clone, Copy)]
pub(super) struct Winograd {
    /// Outputs a side of a tile.
    m: usize,
    /// The windows from which tiles are made, on the grid of tiles.
    tiles: Windows,
    /// Height and width of the output.
    out: (usize, usize),
    /// Channels of the output.
    o: usize,
}

impl Winograd {
    /// Channels from which on the transforms cost less than the products that they save, beside plain sums of such products.
    pub fn fewest(products: Products) -> usize {
        if products.are_pairs() { 48 } else { 32 }
    }

    /// None for other kernels than 3x3 of stride 1, and for grids of less than a tile.
    pub fn new(windows: &Windows, o: usize) -> Option<Self> {
        let (h, w) = windows.grid;
        if windows.kernel != (3, 3) || windows.stride != 1 || h.min(w) < 2 {
            return None;
        }
        let m = best_tile(windows.grid);
        let grid = (h.div_ceil(m), w.div_ceil(m));
        let tiles = Windows { kernel: (m + 2, m + 2), stride: m, grid, ..*windows };
        Some(Self { m, tiles, out: windows.grid, o })
    }

    fn points(&self) -> usize {
        (self.m + 2) * (self.m + 2)
    }

    /// `kernel(k, n)` is where in `weight` the nine taps from input channel `k` to output channel `n` begin; they are taken in
    /// reverse order if `turned`.
    pub fn forward(
        &self,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        turned: bool,
        bias: Option<&[f32]>,
        xs: &[f32],
    ) -> Vec<f32> {
        match self.m {
            2 => self.forward_m::<2>(weight, kernel, turned, bias, xs),
            3 => self.forward_m::<3>(weight, kernel, turned, bias, xs),
            _ => self.forward_m::<4>(weight, kernel, turned, bias, xs),
        }
    }

    fn forward_m<const M: usize>(
        &self,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        turned: bool,
        bias: Option<&[f32]>,
        xs: &[f32],
    ) -> Vec<f32> {
        let (c, o, (oh, ow)) = (self.tiles.image.2, self.o, self.out);
        let points = self.points();
        let weights = Panels::from_kernels(&Tile::<M>::factors(turned), c, o, weight, kernel, Products::Single);
        let image_len = self.tiles.image_len();
        let batch = xs.len() / image_len;
        let per_task = images_per_task(self.tiles.cells(), batch);
        let (down, across) = self.tiles.grid;
        // Rows of tiles that are handled together: some of one image or all of a few.
        let group = if per_task == 1 { TILES.div_ceil(across).min(down) } else { down };
        let most = per_task * group * across;
        let (rows, segments) = (self.tiles.rows(per_task), self.tiles.segments());
        let lens = [per_task * self.tiles.padded_len(), points * most * c, points * most * weights.width()];
        filled_in_pieces(batch * oh * ow * o, per_task * oh * ow * o, |task, pieces| {
            let first = task * per_task;
            let images = per_task.min(batch - first);
            with_scratch(lens, |[padded, inputs, sums]| {
                let xs = self.tiles.pad(&xs[first * image_len..][..images * image_len], padded);
                for top in (0..down).step_by(group) {
                    let bottom = down.min(top + group);
                    let count = images * (bottom - top) * across;
                    let inputs = &mut inputs[..points * count * c];
                    ToPoints::<M, { MOST }> {
                        xs,
                        rows: &rows[top * across..][..count],
                        segments: &segments,
                        channels: c,
                        points: inputs,
                        matrix: Side::Window,
                    }
                    .run();
                    let height = oh.min(bottom * M) - top * M;
                    pieces.next(images * height * ow * o, |ys| {
                        for panel in 0..weights.count() {
                            let width = weights.panel_width(panel);
                            let sums = &mut sums[..points * count * width];
                            weights.multiply_each(panel, inputs, count, sums);
                            ToOutputs::<M> {
                                points: sums,
                                width,
                                columns: weights.columns(panel),
                                bias,
                                tiles: (bottom - top, across),
                                out: (height, ow, o),
                                ys,
                            }
                            .run();
                        }
                    });
                }
            });
        })
    }

    /// The gradient of the weights, `(o, c, 3, 3)`.
    pub fn weight_gradient(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        match self.m {
            2 => self.weight_gradient_m::<2>(xs, grad),
            3 => self.weight_gradient_m::<3>(xs, grad),
            _ => self.weight_gradient_m::<4>(xs, grad),
        }
    }

    fn weight_gradient_m<const M: usize>(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        let (c, o, points) = (self.tiles.image.2, self.o, self.points());
        let (oh, ow) = self.out;
        let batch = xs.len() / self.tiles.image_len();
        let count = batch * self.tiles.cells();
        let windows = Windows { image: (oh, ow, o), kernel: (M, M), stride: M, origin: (0, 0), grid: self.tiles.grid };
        let inputs = to_points::<M>(&self.tiles, xs, Side::Window);
        let outputs = to_points::<M>(&windows, grad, Side::Output);
        // Where each tile's numbers lie, seen from those of the first at the same point.
        let cells = self.tiles.cells();
        let place = |tile: usize| tile / cells * points * cells + tile % cells;
        let places = |channels: usize| (0..count).map(|tile| place(tile) * channels).collect::<Vec<_>>();
        let (a_rows, g_rows) = (places(c), places(o));
        let sums: Vec<Vec<f32>> = (0..points)
            .into_par_iter()
            .map(|point| {
                let mut sum = vec![0f32; c * o];
                Outer {
                    a: &inputs[point * cells * c..],
                    a_rows: &a_rows,
                    a_segments: &[0],
                    depth: c,
                    g: &outputs[point * cells * o..],
                    g_rows: &g_rows,
                    segments: &[0],
                    segment: o,
                    out: &mut sum,
                    stride: o,
                    products: Products::Single,
                    partner: 0,
                    lone: 0,
                }
                .run();
                sum
            })
            .collect();
        let factors = Tile::<M>::factors(false);
        let mut gradient = vec![0f32; o * c * 9];
        // Channels of the output go one after the other in the gradient, but side by side in the sums.
        gradient.par_chunks_mut(WIDTH * c * 9).enumerate().for_each(|(block, gradient)| {
            let width = gradient.len() / (c * 9);
            for k in 0..c {
                let mut taps = [[0f32; WIDTH]; 9];
                fold_points(&sums, k * o + block * WIDTH, width, &factors, &mut taps);
                for n in 0..width {
                    for (to, taps) in gradient[(n * c + k) * 9..][..9].iter_mut().zip(&taps) {
                        *to = taps[n];
                    }
                }
            }
        });
        gradient
    }
}

/// Channels of the output whose gradients are put together at once.
const WIDTH: usize = 64;

vectorised! {
    /// Sums over points of `width` numbers from `at`, times the points' factors, for each tap.
    fn fold_points(
        sums: &'a [Vec<f32>],
        at: usize,
        width: usize,
        factors: &'a [[f32; 9]],
        taps: &'a mut [[f32; WIDTH]; 9],
    ) {
        for (sum, factors) in sums.iter().zip(factors) {
            for (taps, &factor) in taps.iter_mut().zip(factors) {
                if factor != 0. {
                    for (x, sum) in taps.iter_mut().zip(&sum[at..at + width]) {
                        *x += factor * sum;
                    }
                }
            }
        }
    }
}

/// Which transform takes a tile to points: of the input's windows, or of the output's gradient.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Window,
    Output,
}

/// The tiles of each image at all points: `(b, points, tiles, channels)`.
fn to_points<const M: usize>(windows: &Windows, images: &[f32], side: Side) -> Vec<f32> {
    let (image_len, channels, cells) = (windows.image_len(), windows.image.2, windows.cells());
    let batch = images.len() / image_len;
    let points = Tile::<M>::A * Tile::<M>::A;
    let (rows, segments) = (windows.rows(1), windows.segments());
    let len = points * cells * channels;
    filled(batch * len, len, |i, points| {
        with_scratch([windows.padded_len(), 0, 0], |[padded, ..]| {
            let xs = windows.pad(&images[i * image_len..][..image_len], padded);
            ToPoints::<M, { MOST }> { xs, rows: &rows, segments: &segments, channels, points, matrix: side }.run();
        });
    })
}

/// Takes tiles to points.
struct ToPoints<'a, const M: usize, const MAX: usize> {
    xs: &'a [f32],
    /// Where each tile begins, and its rows, seen from there.
    rows: &'a [usize],
    segments: &'a [usize],
    channels: usize,
    /// `(points, tiles, channels)`.
    points: &'a mut [f32],
    matrix: Side,
}

impl<const M: usize, const MAX: usize> ToPoints<'_, M, MAX> {
    fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    fn tile<S: Simd, const WINDOW: bool>(&mut self, simd: S, tile: usize, channels: &Range<usize>) {
        let side = if WINDOW { Tile::<M>::A } else { M };
        let zero = simd.splat_f32s(0.);
        let mut window = [[zero; MAX]; MAX];
        for (i, line) in window.iter_mut().enumerate().take(side) {
            let at = self.rows[tile] + self.segments[i] + channels.start;
            for (j, x) in line.iter_mut().enumerate().take(side) {
                let from = &self.xs[at + j * self.channels..][..channels.len()];
                *x = load(simd, from);
            }
        }
        let mut half = [[zero; MAX]; MAX];
        for j in 0..side {
            let mut column = [zero; MAX];
            for i in 0..side {
                column[i] = window[i][j];
            }
            let points = to_points_1d::<S, M, MAX, WINDOW>(simd, column);
            for i in 0..Tile::<M>::A {
                half[i][j] = points[i];
            }
        }
        let tiles = self.rows.len();
        for (i, line) in half.into_iter().enumerate().take(Tile::<M>::A) {
            let points = to_points_1d::<S, M, MAX, WINDOW>(simd, line);
            for (j, x) in points.into_iter().enumerate().take(Tile::<M>::A) {
                let point = i * Tile::<M>::A + j;
                let at = (point * tiles + tile) * self.channels;
                store(simd, x, &mut self.points[at + channels.start..at + channels.end]);
            }
        }
    }
}

impl<const M: usize, const MAX: usize> WithSimd for ToPoints<'_, M, MAX> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for tile in 0..self.rows.len() {
            for start in (0..self.channels).step_by(S::F32_LANES) {
                let channels = start..self.channels.min(start + S::F32_LANES);
                match self.matrix {
                    Side::Window => self.tile::<S, true>(simd, tile, &channels),
                    Side::Output => self.tile::<S, false>(simd, tile, &channels),
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant bounds and indices are what the compiler unrolls")]
fn to_points_1d<S: Simd, const M: usize, const MAX: usize, const WINDOW: bool>(
    simd: S,
    line: [S::f32s; MAX],
) -> [S::f32s; MAX] {
    let mut points = [simd.splat_f32s(0.); MAX];
    for i in 0..Tile::<M>::A {
        for j in 0..if WINDOW { Tile::<M>::A } else { M } {
            let factor = if WINDOW { Tile::<M>::MATRICES.bt[i][j] } else { Tile::<M>::MATRICES.at[j][i] };
            points[i] = add_multiple(simd, points[i], factor, line[j]);
        }
    }
    points
}

/// `sum + factor * x`; for constant factors only what is needed of it is left.
#[inline(always)]
fn add_multiple<S: Simd>(simd: S, sum: S::f32s, factor: f32, x: S::f32s) -> S::f32s {
    if factor == 0. {
        sum
    } else if factor == 1. {
        simd.add_f32s(sum, x)
    } else if factor == -1. {
        simd.sub_f32s(sum, x)
    } else {
        simd.mul_add_e_f32s(simd.splat_f32s(factor), x, sum)
    }
}

#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0 {
        [whole] => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, x: S::f32s, to: &mut [f32]) {
    match S::as_mut_simd_f32s(to).0 {
        [whole] => *whole = x,
        _ => simd.partial_store_f32s(to, x),
    }
}

/// Takes sums at points to pixels of the output, for the channels of one panel.
struct ToOutputs<'a, const M: usize> {
    /// `(points, tiles, width)`.
    points: &'a [f32],
    width: usize,
    /// Channels of the output that the panel holds.
    columns: Range<usize>,
    bias: Option<&'a [f32]>,
    /// Tiles of one image, down and across.
    tiles: (usize, usize),
    /// Height, width and channels of the output.
    out: (usize, usize, usize),
    ys: &'a mut [f32],
}

impl<const M: usize> ToOutputs<'_, M> {
    fn run(self) {
        dispatch(self);
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "constant bounds and indices are what the compiler unrolls")]
    fn tile<S: Simd>(&mut self, simd: S, tile: usize, channels: &Range<usize>) {
        let (h, w, c) = self.out;
        let tiles = self.points.len() / (Tile::<M>::A * Tile::<M>::A * self.width);
        let within = channels.start - self.columns.start;
        let zero = simd.splat_f32s(0.);
        let mut half = [[zero; MOST]; 4];
        for j in 0..Tile::<M>::A {
            for i in 0..Tile::<M>::A {
                let at = ((i * Tile::<M>::A + j) * tiles + tile) * self.width + within;
                // Panels are padded to whole vectors.
                let x = load(simd, &self.points[at..][..S::F32_LANES]);
                for row in 0..M {
                    half[row][j] = add_multiple(simd, half[row][j], Tile::<M>::MATRICES.at[row][i], x);
                }
            }
        }
        let bias = self.bias.map_or(zero, |bias| load(simd, &bias[channels.clone()]));
        let (image, cell) = (tile / (self.tiles.0 * self.tiles.1), tile % (self.tiles.0 * self.tiles.1));
        let (y, x) = (cell / self.tiles.1 * M, cell % self.tiles.1 * M);
        for row in 0..M.min(h - y) {
            let mut outputs = [bias; 4];
            for col in 0..M {
                for j in 0..Tile::<M>::A {
                    outputs[col] = add_multiple(simd, outputs[col], Tile::<M>::MATRICES.at[col][j], half[row][j]);
                }
            }
            for (col, output) in outputs.into_iter().enumerate().take(M.min(w - x)) {
                let at = ((image * h + y + row) * w + x + col) * c;
                store(simd, output, &mut self.ys[at + channels.start..at + channels.end]);
            }
        }
    }
}

impl<const M: usize> WithSimd for ToOutputs<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let tiles = self.points.len() / (Tile::<M>::A * Tile::<M>::A * self.width);
        for tile in 0..tiles {
            for start in self.columns.clone().step_by(S::F32_LANES) {
                let channels = start..self.columns.end.min(start + S::F32_LANES);
                self.tile(simd, tile, &channels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transforms give the outputs of the filter, on numbers that make every product exact.
    #[test]
    fn one_row_of_each_tile() {
        let taps = [3f64, -1., 2.];
        for m in [2, 3, 4] {
            let Matrices { bt, g, at } = matrices(m);
            let xs: Vec<f64> = (0..m + 2).map(|i| (i * i) as f64 - 3.).collect();
            let points: Vec<f64> = (0..m + 2)
                .map(|p| {
                    let weight: f64 = (0..3).map(|t| f64::from(g[p][t]) * taps[t]).sum();
                    weight * (0..m + 2).map(|i| f64::from(bt[p][i]) * xs[i]).sum::<f64>()
                })
                .collect();
            for i in 0..m {
                let got: f64 = (0..m + 2).map(|p| f64::from(at[i][p]) * points[p]).sum();
                let want: f64 = (0..3).map(|t| taps[t] * xs[i + t]).sum();
                assert!((got - want).abs() < 1e-5, "m = {m}, output {i}: {got}, expected {want}");
            }
        }
    }

    #[test]
    fn tiles_that_waste_little() {
        assert_eq!([best_tile((9, 9)), best_tile((8, 8)), best_tile((6, 6)), best_tile((2, 2))], [3, 4, 3, 2]);
    }
}
