//! The transforms: from tiles to points, and from sums at points to outputs.

use super::tile::{MOST, Tile};
use crate::conv::windows::Windows;
use crate::element::Element;
use crate::gemm::with_scratch;
use crate::memory::filled;
use crate::simd::dispatch;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Which transform takes a tile to points: of the input's windows, or of the output's gradient.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Window,
    Output,
}

/// The tiles of each image at all points: `(b, points, tiles, channels)`.
pub(super) fn to_points<const M: usize, E: Element>(windows: &Windows, images: &[E], side: Side) -> Vec<f32> {
    let (image_len, channels, cells) = (windows.image_len(), windows.image.2, windows.cells());
    let batch = images.len() / image_len;
    let points = Tile::<M>::A * Tile::<M>::A;
    let (rows, segments) = (windows.rows(1), windows.segments());
    let len = points * cells * channels;
    filled(batch * len, len, |i, points| {
        with_scratch([windows.padded_len::<E>(), 0, 0], |[padded, ..]| {
            let xs = windows.pad(&images[i * image_len..][..image_len], padded);
            ToPoints::<M, { MOST }> { xs, rows: &rows, segments: &segments, channels, points, matrix: side }.run();
        });
    })
}

/// Takes tiles to points.
pub(super) struct ToPoints<'a, const M: usize, const MAX: usize> {
    pub xs: &'a [f32],
    /// Where each tile begins, and its rows, seen from there.
    pub rows: &'a [usize],
    pub segments: &'a [usize],
    pub channels: usize,
    /// `(points, tiles, channels)`.
    pub points: &'a mut [f32],
    pub matrix: Side,
}

impl<const M: usize, const MAX: usize> ToPoints<'_, M, MAX> {
    pub fn run(self) {
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
pub(super) struct ToOutputs<'a, const M: usize> {
    /// `(points, tiles, width)`.
    pub points: &'a [f32],
    pub width: usize,
    /// Channels of the output that the panel holds.
    pub columns: Range<usize>,
    pub bias: Option<&'a [f32]>,
    /// Tiles of one image, down and across.
    pub tiles: (usize, usize),
    /// Height, width and channels of the output.
    pub out: (usize, usize, usize),
    pub ys: &'a mut [f32],
}

impl<const M: usize> ToOutputs<'_, M> {
    pub fn run(self) {
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
