//! 3x3 convolutions of stride 1 with fewer multiplications (Lavin and Gray 2016, "Fast algorithms for convolutional neural
//! networks", after Winograd 1980 and Toom and Cook).
//!
//! `M` outputs in a row of a 3-tap filter are `A^T [(G w) * (B^T x)]`, with a product for each of `M + 2` points where plain sums
//! take `3 M`; in two dimensions a tile of `M x M` outputs takes `(M + 2)^2` products instead of `9 M^2`. Sums over channels
//! stand between the transforms, so each product is a matrix product over tiles. The gradient of the weights is the transpose of
//! the same map, and that of the input is a convolution again.
//!
//! The algorithm is here, the size of the tiles and their matrices in `tile.rs`, and the transforms in `transform.rs`.

mod tile;
mod transform;

use super::products::{Then, images_per_task};
use super::windows::Windows;
use crate::element::Element;
use crate::gemm::with_scratch;
use crate::memory::filled_in_pieces;
use crate::micro::{Outer, Panels};
use crate::product::Products;
use crate::simd::vectorised;
use rayon::prelude::*;
use tile::{MOST, Tile, best_tile};
use transform::{Side, ToOutputs, ToPoints, to_points};

/// Tiles that are handled together, so that what is computed of them stays in near memory.
const TILES: usize = 64;

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
        if products.are_pairs() { 48 } else { 24 }
    }

    /// The same for the gradient of the weights, of any products: what its transforms make of a batch goes through memory.
    pub const FEWEST_BY_WEIGHT: usize = 64;

    /// Whether an image is one tile: then there are too few for what is computed of the weights.
    pub fn is_one_tile(&self) -> bool {
        self.tiles.cells() == 1
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
    /// reverse order if `turned`. Nothing is added but a bias.
    pub fn forward<E: Element, Y: Element>(
        &self,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        turned: bool,
        then: Then<E>,
        xs: &[E],
    ) -> Vec<Y> {
        match self.m {
            2 => self.forward_m::<2, E, Y>(weight, kernel, turned, then, xs),
            3 => self.forward_m::<3, E, Y>(weight, kernel, turned, then, xs),
            _ => self.forward_m::<4, E, Y>(weight, kernel, turned, then, xs),
        }
    }

    fn forward_m<const M: usize, E: Element, Y: Element>(
        &self,
        weight: &[f32],
        kernel: impl Fn(usize, usize) -> usize + Sync,
        turned: bool,
        then: Then<E>,
        xs: &[E],
    ) -> Vec<Y> {
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
        let lens = [per_task * self.tiles.padded_len::<E>(), points * most * c, points * most * weights.width()];
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
                                bias: then.bias,
                                tiles: (bottom - top, across),
                                out: (height, ow, o),
                                ys,
                            }
                            .run();
                        }
                        then.activate(ys);
                    });
                }
            });
        })
    }

    /// The gradient of the weights, `(o, c, 3, 3)`.
    pub fn weight_gradient<E: Element>(&self, xs: &[E], grad: &[E]) -> Vec<f32> {
        match self.m {
            2 => self.weight_gradient_m::<2, E>(xs, grad),
            3 => self.weight_gradient_m::<3, E>(xs, grad),
            _ => self.weight_gradient_m::<4, E>(xs, grad),
        }
    }

    fn weight_gradient_m<const M: usize, E: Element>(&self, xs: &[E], grad: &[E]) -> Vec<f32> {
        let (c, o, points) = (self.tiles.image.2, self.o, self.points());
        let (oh, ow) = self.out;
        let batch = xs.len() / self.tiles.image_len();
        let count = batch * self.tiles.cells();
        let windows = Windows { image: (oh, ow, o), kernel: (M, M), stride: M, origin: (0, 0), grid: self.tiles.grid };
        let inputs = to_points::<M, E>(&self.tiles, xs, Side::Window);
        let outputs = to_points::<M, E>(&windows, grad, Side::Output);
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
