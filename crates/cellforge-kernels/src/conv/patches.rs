//! From images to the matrix of their patches (im2col) and back (its adjoint, col2im).

use std::ops::Range;

/// How a grid of windows lies over an image. The patch matrix has a row for each (channel, kernel row, kernel
/// column) and a column for each cell of the grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Channels, height and width of the image.
    pub image: (usize, usize, usize),
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Rows of zeros above and columns of zeros on the left of the image.
    pub pad: (usize, usize),
    /// Height and width of the grid.
    pub grid: (usize, usize),
}

impl Geometry {
    /// Rows of the patch matrix.
    pub fn taps(&self) -> usize {
        self.image.0 * self.kernel.0 * self.kernel.1
    }

    /// Columns of the patch matrix of one image.
    pub fn cells(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Elements of one image.
    pub fn image_len(&self) -> usize {
        self.image.0 * self.image.1 * self.image.2
    }

    /// Whether the patch matrix is the image itself.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.pad == (0, 0) && self.grid == (self.image.1, self.image.2)
    }

    /// The cells along one axis whose window has kernel offset `tap` inside an image of `size` pixels.
    fn inside(&self, tap: usize, pad: usize, size: usize, cells: usize) -> Range<usize> {
        let end = (size + pad).saturating_sub(tap).div_ceil(self.stride).min(cells);
        pad.saturating_sub(tap).div_ceil(self.stride).min(end)..end
    }

    /// Calls `f(patch row, cells of this row of the grid, row of the grid, its pixels' place in the image)`, where
    /// the place is `None` for cells in the padding and else the index of the first cell's pixel.
    fn each_run(&self, rows: &Range<usize>, mut f: impl FnMut(usize, usize, Range<usize>, Option<usize>)) {
        let ((channels, h, w), (kh, kw)) = (self.image, self.kernel);
        for c in 0..channels {
            for i in 0..kh {
                let valid = self.inside(i, self.pad.0, h, self.grid.0);
                for j in 0..kw {
                    let cols = self.inside(j, self.pad.1, w, self.grid.1);
                    let tap = (c * kh + i) * kw + j;
                    for row in rows.clone() {
                        let start = (valid.contains(&row) && !cols.is_empty()).then(|| {
                            let y = row * self.stride + i - self.pad.0;
                            (c * h + y) * w + cols.start * self.stride + j - self.pad.1
                        });
                        f(tap, row, cols.clone(), start);
                    }
                }
            }
        }
    }

    /// Elements of what [`Geometry::spread`] writes, 0 where it is not needed.
    pub fn spread_len(&self) -> usize {
        let (qh, qw) = self.spread_size();
        if self.is_pointwise() || self.fits() { 0 } else { self.image.0 * self.stride * self.stride * qh * qw }
    }

    /// Height and width of a plane of the spread image: what the grid's windows see of one remainder modulo the stride.
    fn spread_size(&self) -> (usize, usize) {
        let axis = |grid: usize, k: usize| grid + (k - 1) / self.stride;
        (axis(self.grid.0, self.kernel.0), axis(self.grid.1, self.kernel.1))
    }

    /// Whether the windows cover the image exactly, so that it is its own spread form.
    fn fits(&self) -> bool {
        self.stride == 1 && self.pad == (0, 0) && self.spread_size() == (self.image.1, self.image.2)
    }

    /// The image with its padding, taken apart by the remainders of row and column modulo the stride: `(c, s, s, qh, qw)`.
    /// In it the pixels that one tap of the kernel meets along a row of the grid lie side by side.
    pub fn spread<'a>(&self, image: &'a [f32], out: &'a mut [f32]) -> &'a [f32] {
        if out.is_empty() {
            return image;
        }
        let ((channels, h, w), s, (qh, qw)) = (self.image, self.stride, self.spread_size());
        for (image, out) in image.chunks_exact(h * w).zip(out.chunks_exact_mut(s * s * qh * qw)) {
            for (remainder, plane) in out.chunks_exact_mut(qh * qw).enumerate() {
                let (first_row, first_col) = (remainder / s, remainder % s);
                // The columns of the plane that lie inside the image.
                let start = self.pad.1.saturating_sub(first_col).div_ceil(s).min(qw);
                let end = (w + self.pad.1).saturating_sub(first_col).div_ceil(s).clamp(start, qw);
                for (q, row) in plane.chunks_exact_mut(qw).enumerate() {
                    let y = (q * s + first_row).wrapping_sub(self.pad.0);
                    if y >= h || start == end {
                        row.fill(0.);
                        continue;
                    }
                    row[..start].fill(0.);
                    row[end..].fill(0.);
                    let pixels = &image[y * w + start * s + first_col - self.pad.1..(y + 1) * w];
                    copy_every(pixels, s, &mut row[start..end]);
                }
            }
        }
        &out[..channels * s * s * qh * qw]
    }

    /// Writes the patches of some rows of the grid to columns `at..` of a matrix of `width` columns, from the image as
    /// [`Geometry::spread`] returns it.
    pub fn im2col(&self, spread: &[f32], rows: &Range<usize>, out: &mut [f32], width: usize, at: usize) {
        let ((kh, kw), s, (qh, qw), ow) = (self.kernel, self.stride, self.spread_size(), self.grid.1);
        for (tap, out) in out.chunks_mut(width).enumerate().take(self.taps()) {
            let (c, i, j) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let plane = ((c * s + i % s) * s + j % s) * qh * qw;
            let from = &spread[plane + (rows.start + i / s) * qw + j / s..];
            let to = &mut out[at..at + rows.len() * ow];
            // Copies of a known length compile to a few moves; short rows would spend their time in calls.
            match ow {
                4 => copy_rows::<4>(from, qw, to),
                8 => copy_rows::<8>(from, qw, to),
                16 => copy_rows::<16>(from, qw, to),
                32 => copy_rows::<32>(from, qw, to),
                64 => copy_rows::<64>(from, qw, to),
                _ => {
                    to.chunks_exact_mut(ow).zip(from.chunks(qw)).for_each(|(to, from)| to.copy_from_slice(&from[..ow]))
                }
            }
        }
    }

    /// Adds columns `at..` of a matrix of `width` columns to the pixels that [`Geometry::im2col`] takes them from.
    pub fn col2im(&self, patches: &[f32], width: usize, at: usize, rows: &Range<usize>, image: &mut [f32]) {
        let (ow, first) = (self.grid.1, rows.start);
        self.each_run(rows, |tap, row, cols, start| {
            let Some(start) = start else { return };
            let from = tap * width + at + (row - first) * ow;
            let patches = &patches[from + cols.start..from + cols.end];
            if self.stride == 1 {
                for (pixel, &x) in image[start..start + patches.len()].iter_mut().zip(patches) {
                    *pixel += x;
                }
            } else {
                for (pixel, &x) in image[start..].iter_mut().step_by(self.stride).zip(patches) {
                    *pixel += x;
                }
            }
        });
    }
}

/// Copies every `step`-th element of `from`, beginning with the first.
fn copy_every(from: &[f32], step: usize, to: &mut [f32]) {
    match (step, to.split_last_mut()) {
        (1, _) => to.copy_from_slice(&from[..to.len()]),
        (2, Some((last, rest))) => {
            // Pairs compile to shuffles of vectors, single steps of two do not.
            *last = from[2 * rest.len()];
            for (x, pair) in rest.iter_mut().zip(from.chunks_exact(2)) {
                *x = pair[0];
            }
        }
        _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(x, &pixel)| *x = pixel),
    }
}

/// Copies rows of `N` elements that lie `stride` apart.
fn copy_rows<const N: usize>(from: &[f32], stride: usize, to: &mut [f32]) {
    for (to, from) in to.chunks_exact_mut(N).zip(from.chunks(stride)) {
        to.copy_from_slice(&from[..N]);
    }
}
