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

    /// Writes the patches of some rows of the grid to columns `at..` of a matrix of `width` columns.
    pub fn im2col(&self, image: &[f32], rows: &Range<usize>, out: &mut [f32], width: usize, at: usize) {
        let (ow, first) = (self.grid.1, rows.start);
        self.each_run(rows, |tap, row, cols, start| {
            let to = tap * width + at + (row - first) * ow;
            let out = &mut out[to..to + ow];
            let Some(start) = start else { return out.fill(0.) };
            out[..cols.start].fill(0.);
            out[cols.end..].fill(0.);
            let out = &mut out[cols];
            if self.stride == 1 {
                out.copy_from_slice(&image[start..start + out.len()]);
            } else {
                for (x, &pixel) in out.iter_mut().zip(image[start..].iter().step_by(self.stride)) {
                    *x = pixel;
                }
            }
        });
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
