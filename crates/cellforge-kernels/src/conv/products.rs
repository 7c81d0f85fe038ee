//! The three products of a convolution between images, a grid of outputs and a matrix of weights, in parallel over
//! images.

use super::patches::Geometry;
use crate::gemm::{mat, mat_mut, multiply, with_scratch};
use rayon::prelude::*;
use std::ops::Range;

/// Columns that a matrix product should have at the least, so that packing the weights pays off.
const MIN_CELLS: usize = 256;
/// Elements of the patch matrix that fit a core's own cache.
const SCRATCH: usize = 1 << 18;

/// Images and rows of the grid that are put into one matrix product. It depends on shapes alone.
struct Tiling {
    images: usize,
    rows: usize,
}

impl Tiling {
    fn new(g: &Geometry, batch: usize) -> Self {
        let cells = g.cells();
        if cells < MIN_CELLS {
            // At least eight tasks are left for the threads to share.
            let images = MIN_CELLS.div_ceil(cells).min(batch.div_ceil(8)).max(1);
            return Self { images, rows: g.grid.0 };
        }
        let rows = MIN_CELLS.max(SCRATCH / g.taps()) / g.grid.1;
        Self { images: 1, rows: rows.clamp(1, g.grid.0) }
    }

    fn row_ranges(&self, grid_rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows;
        (0..grid_rows).step_by(rows).map(move |start| start..(start + rows).min(grid_rows))
    }

    /// Lengths of the patch matrix, of the block of the grid where several images share a product, and of a spread image.
    fn scratch(&self, g: &Geometry, channels: usize) -> [usize; 3] {
        [g.taps() * self.width(g), if self.images > 1 { channels * self.width(g) } else { 0 }, g.spread_len()]
    }

    /// Columns of the widest product.
    fn width(&self, g: &Geometry) -> usize {
        self.images * self.rows * g.grid.1
    }
}

/// `grid = weight * patches(images) + bias`, where `weight` is `(channels, taps)` and the grid has `channels`.
pub(crate) fn gather(g: &Geometry, weight: &[f32], channels: usize, bias: Option<&[f32]>, images: &[f32]) -> Vec<f32> {
    let (taps, cells, image_len) = (g.taps(), g.cells(), g.image_len());
    let batch = images.len() / image_len;
    let tiling = Tiling::new(g, batch);
    let weight = mat(weight, channels, taps, taps);
    let mut grids = vec![0f32; batch * channels * cells];
    let tasks = grids.par_chunks_mut(tiling.images * channels * cells);
    let scratch = tiling.scratch(g, channels);
    tasks.zip(images.par_chunks(tiling.images * image_len)).for_each(|(grids, images)| {
        with_scratch(scratch, |[patches, block, spread]| {
            if tiling.images > 1 {
                let width = patch_block(g, images, patches, spread);
                multiply(mat_mut(block, channels, width, width), weight, mat(patches, taps, width, width), false);
                unpack(block, channels, cells, bias, grids);
                return;
            }
            if let Some(bias) = bias {
                fill_channels(grids, bias, cells);
            }
            let images = g.spread(images, spread);
            for rows in tiling.row_ranges(g.grid.0) {
                let (start, width) = (rows.start * g.grid.1, rows.len() * g.grid.1);
                let out = mat_mut(&mut grids[start..], channels, width, cells);
                if g.is_pointwise() {
                    multiply(out, weight, mat(&images[start..], taps, width, cells), bias.is_some());
                } else {
                    g.im2col(images, &rows, patches, width, 0);
                    multiply(out, weight, mat(patches, taps, width, width), bias.is_some());
                }
            }
        });
    });
    grids
}

/// `images = unpatches(weight^T * grid) + bias`, the adjoint of [`gather`]: overlapping patches add up.
pub(crate) fn scatter(g: &Geometry, weight: &[f32], channels: usize, bias: Option<&[f32]>, grids: &[f32]) -> Vec<f32> {
    let (taps, cells, image_len) = (g.taps(), g.cells(), g.image_len());
    let batch = grids.len() / (channels * cells);
    let tiling = Tiling::new(g, batch);
    let weight = mat(weight, channels, taps, taps).transpose();
    let mut images = vec![0f32; batch * image_len];
    let tasks = images.par_chunks_mut(tiling.images * image_len);
    let [patches, block, _] = tiling.scratch(g, channels);
    tasks.zip(grids.par_chunks(tiling.images * channels * cells)).for_each(|(images, grids)| {
        with_scratch([patches, block, 0], |[patches, block, _]| {
            if let Some(bias) = bias {
                fill_channels(images, bias, g.image.1 * g.image.2);
            }
            if tiling.images > 1 {
                let width = pack(grids, channels, cells, block);
                multiply(mat_mut(patches, taps, width, width), weight, mat(block, channels, width, width), false);
                for (i, image) in images.chunks_mut(image_len).enumerate() {
                    g.col2im(patches, width, i * cells, &(0..g.grid.0), image);
                }
                return;
            }
            for rows in tiling.row_ranges(g.grid.0) {
                let (start, width) = (rows.start * g.grid.1, rows.len() * g.grid.1);
                let grid = mat(&grids[start..], channels, width, cells);
                if g.is_pointwise() {
                    multiply(mat_mut(&mut images[start..], taps, width, cells), weight, grid, bias.is_some());
                } else {
                    multiply(mat_mut(patches, taps, width, width), weight, grid, false);
                    g.col2im(patches, width, 0, &rows, images);
                }
            }
        });
    });
    images
}

/// The sum over the batch of `grid * patches(image)^T`, `(channels, taps)`: the gradient of the weights. The batch is
/// cut into a number of parts that depends on shapes alone, and the parts are added in their order.
pub(crate) fn outer(g: &Geometry, channels: usize, grids: &[f32], images: &[f32]) -> Vec<f32> {
    let (taps, cells, image_len) = (g.taps(), g.cells(), g.image_len());
    let batch = images.len() / image_len;
    let tiling = Tiling::new(g, batch);
    // Large weights in many parts would cost more to add up than the parts save.
    let parts = if channels * taps > 1 << 18 { 4 } else { 8 };
    let per_part = batch.div_ceil(parts);
    let scratch = tiling.scratch(g, channels);
    let tasks = images.par_chunks(per_part * image_len).zip(grids.par_chunks(per_part * channels * cells));
    let partial: Vec<Vec<f32>> = tasks
        .map(|(images, grids)| {
            let mut sum = vec![0f32; channels * taps];
            with_scratch(scratch, |[patches, block, spread]| {
                let tiles = images.chunks(tiling.images * image_len);
                for (images, grids) in tiles.zip(grids.chunks(tiling.images * channels * cells)) {
                    if tiling.images > 1 {
                        let width = pack(grids, channels, cells, block);
                        patch_block(g, images, patches, spread);
                        let grid = mat(block, channels, width, width);
                        let patches = mat(patches, taps, width, width).transpose();
                        multiply(mat_mut(&mut sum, channels, taps, taps), grid, patches, true);
                        continue;
                    }
                    let images = g.spread(images, spread);
                    for rows in tiling.row_ranges(g.grid.0) {
                        let (start, width) = (rows.start * g.grid.1, rows.len() * g.grid.1);
                        let grid = mat(&grids[start..], channels, width, cells);
                        let patches = if g.is_pointwise() {
                            mat(&images[start..], taps, width, cells)
                        } else {
                            g.im2col(images, &rows, patches, width, 0);
                            mat(patches, taps, width, width)
                        };
                        multiply(mat_mut(&mut sum, channels, taps, taps), grid, patches.transpose(), true);
                    }
                }
            });
            sum
        })
        .collect();
    add_up(partial)
}

/// The sum of vectors of one length, added in their order.
pub(crate) fn add_up(parts: Vec<Vec<f32>>) -> Vec<f32> {
    const CHUNK: usize = 1 << 13;
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    let rest: Vec<Vec<f32>> = parts.collect();
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, sum)| {
        for part in &rest {
            for (s, &x) in sum.iter_mut().zip(&part[chunk * CHUNK..]) {
                *s += x;
            }
        }
    });
    sum
}

/// Writes the patch matrices of whole images side by side and returns their width together.
fn patch_block(g: &Geometry, images: &[f32], patches: &mut [f32], spread: &mut [f32]) -> usize {
    let width = images.len() / g.image_len() * g.cells();
    for (i, image) in images.chunks(g.image_len()).enumerate() {
        g.im2col(g.spread(image, spread), &(0..g.grid.0), patches, width, i * g.cells());
    }
    width
}

/// `(b, channels, cells)` to `(channels, b * cells)`, whose width is returned.
fn pack(grids: &[f32], channels: usize, cells: usize, block: &mut [f32]) -> usize {
    let width = grids.len() / channels;
    for (i, grid) in grids.chunks(channels * cells).enumerate() {
        for (c, plane) in grid.chunks(cells).enumerate() {
            block[c * width + i * cells..][..cells].copy_from_slice(plane);
        }
    }
    width
}

/// `(channels, b * cells)` to `(b, channels, cells)`, with the bias added.
fn unpack(block: &[f32], channels: usize, cells: usize, bias: Option<&[f32]>, grids: &mut [f32]) {
    let width = grids.len() / channels;
    for (i, grid) in grids.chunks_mut(channels * cells).enumerate() {
        for (c, plane) in grid.chunks_mut(cells).enumerate() {
            let from = &block[c * width + i * cells..][..cells];
            let bias = bias.map_or(0., |bias| bias[c]);
            for (y, &x) in plane.iter_mut().zip(from) {
                *y = x + bias;
            }
        }
    }
}

/// Fills the planes of `(b, channels, plane)` with their channel's value.
fn fill_channels(images: &mut [f32], values: &[f32], plane: usize) {
    for (plane, &value) in images.chunks_mut(plane).zip(values.iter().cycle()) {
        plane.fill(value);
    }
}
