//! The three products of a convolution between images, a grid of outputs and the weights, in parallel over images. All are
//! `(b, h, w, c)` in memory.

use super::windows::Windows;
use crate::element::Element;
use crate::elements::leak;
use crate::gemm::with_scratch;
use crate::memory::{PIECE, filled, filled_in_pieces};
use crate::micro::{Gather, MOST_IN_TILES, Outer, Panels};
use crate::product::Products;
use crate::sum::add_up;
use crate::tiles::{Aligned, SIDE};
use rayon::prelude::*;
use std::ops::Range;

/// Cells that one product should have at the least, so that the weights are read from near memory often enough.
const MIN_CELLS: usize = 256;
/// Tasks to be left for the threads to share.
const MIN_TASKS: usize = 8;

/// Images that one task takes. It depends on shapes alone.
pub(crate) fn images_per_task(cells: usize, batch: usize) -> usize {
    MIN_CELLS.div_ceil(cells).min(batch.div_ceil(MIN_TASKS)).max(1)
}

/// A part of a convolution's output: the pixels at rows `first.0, first.0 + step, ..` and so for columns, with the windows
/// and weights that make them.
pub(crate) struct Phase {
    pub windows: Windows,
    /// `(windows.depth(), channels)`, in tiles with what fills the last of each of the windows' rows up.
    pub weights: Panels,
    pub first: (usize, usize),
}

/// Where the windows of a phase begin, the rows of a window seen from there, and the pixels.
type Places = (Vec<usize>, Vec<usize>, Vec<usize>);

/// What becomes of a convolution's sums: a bias for each channel and images of the result's size are added, and then a leaky ReLU of this slope
/// below zero is taken.
#[derive(Clone, Copy)]
pub(crate) struct Then<'a, E> {
    pub bias: Option<&'a [f32]>,
    pub addend: Option<&'a [E]>,
    pub negative_slope: Option<f32>,
}

impl<E> Default for Then<'_, E> {
    fn default() -> Self {
        Self { bias: None, addend: None, negative_slope: None }
    }
}

impl<E> Then<'_, E> {
    /// Takes the leaky ReLU of finished sums.
    pub fn activate(&self, ys: &mut [f32]) {
        if let Some(negative_slope) = self.negative_slope {
            leak(ys, negative_slope);
        }
    }
}

/// Images `(h, w, c)` of `size` whose pixels are `then` of `weights^T * window`. Pixels that no phase makes are 0; for more than one phase there
/// is nothing to be done then. Images have so many `channels`; for products of pairs, windows and weights are those of words.
pub(crate) fn gather<E: Element>(
    phases: &[Phase],
    step: usize,
    then: Then<E>,
    (images, channels): (&[E], usize),
    size: (usize, usize, usize),
    products: Products,
) -> Vec<E> {
    let ((h, w, c), Then { bias, addend, .. }) = (size, then);
    let pairs = products.are_pairs();
    let Some(image_len) = phases.first().map(|phase| phase.windows.image.0 * phase.windows.image.1 * channels) else {
        return Vec::new();
    };
    let batch = images.len() / image_len;
    let per_task = images_per_task(h * w, batch);
    let places: Vec<Places> = phases
        .iter()
        .map(|phase| {
            let (rows, cols) = phase.windows.grid;
            let ((top, left), segments) = (phase.first, phase.windows.segments());
            let pixel = move |i: usize, y: usize, x: usize| ((i * h + top + y * step) * w + left + x * step) * c;
            let out: Vec<usize> = (0..per_task)
                .flat_map(|i| (0..rows).flat_map(move |y| (0..cols).map(move |x| pixel(i, y, x))))
                .collect();
            (phase.windows.rows(per_task), segments, out)
        })
        .collect();
    let padded_len = |windows: &Windows| match pairs {
        true => windows.words_len(per_task),
        false => per_task * windows.padded_len::<E>(),
    };
    let piece = (PIECE / c).max(MIN_CELLS);
    let added = if addend.is_some() { E::room(piece * c) } else { 0 };
    let padded = phases.iter().map(|phase| padded_len(&phase.windows)).max().unwrap_or(0);
    let made: usize = phases.iter().map(|phase| phase.windows.cells()).sum();
    filled_in_pieces(batch * h * w * c, per_task * h * w * c, |task, pieces| {
        let first = task * per_task;
        let count = per_task.min(batch - first);
        let images = &images[first * image_len..][..count * image_len];
        with_scratch([padded, added, 0], |[padded, added, _]| {
            let product = |a: &[f32],
                           phase: &Phase,
                           places: &Places,
                           cells: Range<usize>,
                           addend: Option<&[f32]>,
                           out: &mut [f32]| {
                let (rows, segments, out_rows) = places;
                Gather {
                    a,
                    rows: &rows[cells.clone()],
                    segments,
                    segment: phase.windows.segment(),
                    weights: &phase.weights,
                    bias,
                    addend,
                    out,
                    out_rows: &out_rows[..cells.len()],
                    products,
                }
                .run();
            };
            /// In words of so many channels, or as they are.
            fn pad<'a, E: Element>(
                windows: &Windows,
                (channels, products): (usize, Products),
                images: &'a [E],
                padded: &'a mut [f32],
            ) -> &'a [f32] {
                match products.are_pairs() {
                    true => {
                        let whole = products.whole_segment(windows.segment());
                        windows.pad_channel_pairs(images, channels, whole, padded)
                    }
                    false => windows.pad(images, padded),
                }
            }
            let of = (channels, products);
            if let ([phase], [places]) = (phases, places.as_slice())
                && step == 1
            {
                // The pixels of one phase are made in their order.
                let (images, cells) = (pad(&phase.windows, of, images, padded), count * h * w);
                for start in (0..cells).step_by(piece) {
                    let end = cells.min(start + piece);
                    let addend = addend.map(|addend| &addend[(first * h * w + start) * c..][..(end - start) * c]);
                    let addend = addend.map(|addend| E::wide(addend, added));
                    pieces.next((end - start) * c, |out| {
                        product(images, phase, places, start..end, addend, out);
                        then.activate(out);
                    });
                }
            } else {
                pieces.next(count * h * w * c, |out| {
                    if made < h * w {
                        out.fill(0.);
                    }
                    for (phase, places) in phases.iter().zip(&places) {
                        let images = pad(&phase.windows, of, images, padded);
                        product(images, phase, places, 0..count * phase.windows.cells(), None, out);
                    }
                });
            }
        });
    })
}

/// Images whose windows are the sums of `weights^T * grid`, the adjoint of [`gather`]; windows overlap and add up, `then` is done to the sums, and
/// nothing is added but a bias. `weights` is `(channels of the grid, windows.depth())`.
pub(crate) fn scatter<E: Element, Y: Element>(
    windows: &Windows,
    weights: &Panels,
    then: Then<E>,
    grids: &[E],
) -> Vec<Y> {
    /// Cells whose windows are kept in near memory.
    const STRIP: usize = 256;
    let (cells, image_len, depth, segment) = (windows.cells(), windows.image_len(), windows.depth(), windows.segment());
    let ((h, w, c), (_, grid_w)) = (windows.image, windows.grid);
    let grid_c = weights.depth();
    let batch = grids.len() / (cells * grid_c);
    let starts = |n: usize, len: usize| (0..n).map(|i| i * len).collect::<Vec<_>>();
    let (rows, out_rows) = (starts(cells, grid_c), starts(STRIP, depth));
    filled(batch * image_len, image_len, |i, image| {
        let grid = &grids[i * cells * grid_c..][..cells * grid_c];
        with_scratch([STRIP * depth, E::room(grid.len()), 0], |[patches, wide, _]| {
            let grid = E::wide(grid, wide);
            match then.bias {
                Some(bias) => image.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(bias)),
                None => image.fill(0.),
            }
            for first in (0..cells).step_by(STRIP) {
                let count = STRIP.min(cells - first);
                Gather {
                    a: grid,
                    rows: &rows[first..first + count],
                    segments: &[0],
                    segment: grid_c,
                    weights,
                    bias: None,
                    addend: None,
                    out: patches,
                    out_rows: &out_rows[..count],
                    products: Products::Single,
                }
                .run();
                for (cell, patch) in (first..first + count).zip(patches.chunks_exact(depth)) {
                    let place = |cell: usize, origin: isize| (cell * windows.stride) as isize + origin;
                    let (y, x) = (place(cell / grid_w, windows.origin.0), place(cell % grid_w, windows.origin.1));
                    // The columns of the window that lie in the image.
                    let left = x.min(0).unsigned_abs().min(windows.kernel.1);
                    let end = (w as isize - x).clamp(left as isize, windows.kernel.1 as isize) as usize;
                    for (i, run) in patch.chunks_exact(segment).enumerate() {
                        let y = y + i as isize;
                        if (0..h as isize).contains(&y) && left < end {
                            let at = (y as usize * w + (x + left as isize) as usize) * c;
                            for (pixel, x) in image[at..].iter_mut().zip(&run[left * c..end * c]) {
                                *pixel += x;
                            }
                        }
                    }
                }
            }
        });
        then.activate(image);
    })
}

/// Columns that one task takes: as many as the widest panel has.
const WIDTH: usize = 64;

/// The same in tiles, where more columns share the work of finding what they meet.
const WIDTH_IN_TILES: usize = 128;

/// A sum over the pixels of a batch of the products of two images' rows: `(depth of left, depth of right)`, in tasks over columns
/// of the right side and parts of the batch, whose number depends on shapes alone. `product` gets the images and the columns,
/// and adds to a matrix of `(depth of left, columns)`. The result is one matrix for each range of columns.
pub(crate) fn sum_over_batch(
    (depth, cols): (usize, usize),
    batch: usize,
    products: Products,
    product: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
) -> Blocks {
    /// Sums in the matrices of all parts together.
    const MOST: usize = 1 << 23;
    let parts = (2 * MIN_TASKS).div_ceil(cols.div_ceil(WIDTH)).min((MOST / (depth * cols)).max(1)).min(batch);
    let images = batch.div_ceil(parts);
    let parts = batch.div_ceil(images);
    let width = if products.are_tiles() { WIDTH_IN_TILES } else { WIDTH };
    let blocks = cols.div_ceil(width);
    let sums: Vec<Aligned> = (0..blocks * parts)
        .into_par_iter()
        .map(|task| {
            let (block, part) = (task / parts, task % parts);
            let columns = block * width..cols.min((block + 1) * width);
            let taken = if products.are_tiles() { columns.len().next_multiple_of(SIDE) } else { columns.len() };
            let mut sum = Aligned::zeros(depth * taken);
            product(part * images..batch.min((part + 1) * images), columns, &mut sum);
            sum
        })
        .collect();
    let mut sums = sums.into_iter();
    let blocks = (0..blocks).map(|_| add_up(sums.by_ref().take(parts).collect())).collect();
    Blocks { blocks, width, cols }
}

/// A matrix in blocks of some `width` of columns.
pub(crate) struct Blocks {
    blocks: Vec<Aligned>,
    width: usize,
    cols: usize,
}

impl Blocks {
    /// An element of a block's matrix that has a row for each row.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let (block, within) = (col / self.width, col % self.width);
        self.blocks[block][row * self.width.min(self.cols - block * self.width) + within]
    }

    /// An element of blocks that hold their matrix transposed, with `rows` numbers for each column.
    pub fn get_turned(&self, row: usize, col: usize, rows: usize) -> f32 {
        self.blocks[col / self.width][col % self.width * rows + row]
    }
}

/// Rows of the sums over these windows: as many as they show numbers, in tiles with what fills the last of each of their rows up.
pub(crate) fn depth_of(windows: &Windows, products: Products) -> usize {
    windows.kernel.0 * segment_of(windows, products)
}

/// Of these, the rows for one of a window's rows.
pub(crate) fn segment_of(windows: &Windows, products: Products) -> usize {
    if products.are_tiles() { windows.segment().next_multiple_of(SIDE) } else { windows.segment() }
}

/// The sum over the batch of `window * grid^T`, `(depth_of(windows), channels)`: the gradient of the weights. In tiles, blocks hold the
/// transposed matrix.
pub(crate) fn outer<E: Element>(
    windows: &Windows,
    channels: usize,
    images: &[E],
    grids: &[E],
    products: Products,
) -> Blocks {
    let (segments, segment) = (windows.segments(), windows.segment());
    // Two cells that lie side by side make a pair; the last of an odd number has none.
    sum_of_products(windows, channels, images, grids, products, |images, rows, grids, grid_rows, columns, sum, _| {
        Outer {
            a: images,
            a_rows: rows,
            a_segments: &segments,
            depth: segment,
            g: &grids[columns.start..],
            g_rows: grid_rows,
            segments: &[0],
            segment: columns.len(),
            out: sum,
            stride: if products.are_tiles() { depth_of(windows, products) } else { columns.len() },
            products,
            partner: channels,
            lone: if products.are_pairs() && windows.grid.1 % 2 == 1 { windows.grid.1.div_ceil(2) } else { 0 },
        }
        .run();
    })
}

/// As [`outer`], for windows that show far fewer numbers than the grid has channels; blocks hold the transposed matrix.
pub(crate) fn outer_turned<E: Element>(windows: &Windows, channels: usize, images: &[E], grids: &[E]) -> Blocks {
    let (segments, segment) = (windows.segments(), windows.segment());
    let products = Products::Single;
    sum_of_products(windows, channels, images, grids, products, |images, rows, grids, grid_rows, columns, sum, wide| {
        // Tasks take blocks of the grid's channels, which are the rows of this product.
        Outer {
            a: &E::wide(grids, wide)[columns.start..],
            a_rows: grid_rows,
            a_segments: &[0],
            depth: columns.len(),
            g: images,
            g_rows: rows,
            segments: &segments,
            segment,
            out: sum,
            stride: windows.depth(),
            products,
            partner: 0,
            lone: 0,
        }
        .run();
    })
}

/// Cuts the sum over a batch into groups of images: `product` gets these with the zeros around them, where their windows begin,
/// the grids with where their cells begin, the channels of the grid that the sum is for, the sum, and room for the grids as `f32`.
fn sum_of_products<E: Element>(
    windows: &Windows,
    channels: usize,
    images: &[E],
    grids: &[E],
    products: Products,
    product: impl Fn(&[f32], &[usize], &[E], &[usize], Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> Blocks {
    let (cells, image_len) = (windows.cells(), windows.image_len());
    let batch = images.len() / image_len;
    let together = match products.are_tiles() {
        true => (MOST_IN_TILES / (windows.grid.0 * windows.grid.1.div_ceil(2))).max(1),
        false => MIN_CELLS.div_ceil(cells),
    };
    let (step, padded_len) = match products.are_pairs() {
        true => (2, windows.words_len(together)),
        false => (1, together * windows.padded_len::<E>()),
    };
    // Every cell, or every other of each line.
    let (across, all) = (windows.grid.1, windows.rows(together));
    let cells_taken: Vec<usize> = (0..all.len()).filter(|cell| cell % across % step == 0).collect();
    let rows: Vec<usize> = cells_taken.iter().map(|&cell| all[cell]).collect();
    let grid_rows: Vec<usize> = cells_taken.iter().map(|&cell| cell * channels).collect();
    let taken = rows.len() / together;
    sum_over_batch((depth_of(windows, products), channels), batch, products, |part, columns, sum| {
        let wide = if products.are_pairs() { 0 } else { E::room(together * cells * channels) };
        with_scratch([padded_len, wide, 0], |[padded, wide, _]| {
            for first in part.clone().step_by(together) {
                let count = together.min(part.end - first);
                let images = &images[first * image_len..][..count * image_len];
                let images = match products.are_pairs() {
                    true => windows.pad_pixel_pairs(images, padded),
                    false => windows.pad(images, padded),
                };
                let (rows, grid_rows) = (&rows[..count * taken], &grid_rows[..count * taken]);
                let grids = &grids[first * cells * channels..][..count * cells * channels];
                product(images, rows, grids, grid_rows, columns.clone(), sum, wide);
            }
        });
    })
}
