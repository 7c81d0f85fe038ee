//! Where the windows of a convolution lie in memory.

use crate::product::{pair_channels, pair_up_in_place};
use crate::tiles::SIDE;

/// A grid of windows over images `(h, w, c)` with zeros around them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Height, width and channels of the image.
    pub image: (usize, usize, usize),
    /// Height and width of a window.
    pub kernel: (usize, usize),
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Row and column of the image at which the first window begins; negative in the padding.
    pub origin: (isize, isize),
    /// Height and width of the grid.
    pub grid: (usize, usize),
}

impl Windows {
    /// Windows in the grid.
    pub fn cells(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Elements of one image.
    pub fn image_len(&self) -> usize {
        self.image.0 * self.image.1 * self.image.2
    }

    /// Numbers that a window shows in one of its rows, side by side.
    pub fn segment(&self) -> usize {
        self.kernel.1 * self.image.2
    }

    /// Numbers that a window shows.
    pub fn depth(&self) -> usize {
        self.kernel.0 * self.segment()
    }

    /// Height and width of what all windows together cover.
    fn covered(&self) -> (usize, usize) {
        let axis = |grid: usize, kernel: usize| (grid - 1) * self.stride + kernel;
        (axis(self.grid.0, self.kernel.0), axis(self.grid.1, self.kernel.1))
    }

    /// Whether no window reaches beyond the image.
    fn fits(&self) -> bool {
        let inside = |origin: isize, covered: usize, size: usize| origin >= 0 && origin as usize + covered <= size;
        let (h, w) = self.covered();
        inside(self.origin.0, h, self.image.0) && inside(self.origin.1, w, self.image.1)
    }

    /// Elements that [`Windows::pad`] needs for one image, 0 if none.
    pub fn padded_len(&self) -> usize {
        let (h, w) = self.covered();
        if self.fits() { 0 } else { h * w * self.image.2 }
    }

    /// Elements from one image to the next and from one row of pixels to the next, and the first window's place, in what
    /// [`Windows::pad`] returns.
    fn pitch(&self) -> (usize, usize, usize) {
        let ((_, w, c), (padded_h, padded_w)) = (self.image, self.covered());
        if self.fits() {
            let start = (self.origin.0.unsigned_abs() * w + self.origin.1.unsigned_abs()) * c;
            (self.image_len(), w * c, start)
        } else {
            (padded_h * padded_w * c, padded_w * c, 0)
        }
    }

    /// Where the windows of some images begin, row after row of the grid.
    pub fn rows(&self, images: usize) -> Vec<usize> {
        let (image, row, start) = self.pitch();
        let places =
            (0..images).flat_map(|i| (0..self.grid.0).flat_map(move |y| (0..self.grid.1).map(move |x| (i, y, x))));
        places.map(|(i, y, x)| start + i * image + y * self.stride * row + x * self.stride * self.image.2).collect()
    }

    /// Where the rows of a window begin, seen from the window's beginning.
    pub fn segments(&self) -> Vec<usize> {
        (0..self.kernel.0).map(|i| i * self.pitch().1).collect()
    }

    /// Images with the zeros around them, made in `padded` (of [`Windows::padded_len`] for each image) where there are any.
    pub fn pad<'a>(&self, images: &'a [f32], padded: &'a mut [f32]) -> &'a [f32] {
        if self.fits() {
            return images;
        }
        self.pad_rows(images, self.image.2, padded, |pixels, to| to.copy_from_slice(pixels))
    }

    /// Elements that the functions below need for so many images: they copy them in any case, and zeros follow the last, over which the
    /// last tile of a window may reach.
    pub fn words_len(&self, images: usize) -> usize {
        let (h, w) = self.extent();
        images * h * w * self.image.2 + SIDE
    }

    /// As [`Windows::pad`], from images of so many channels to words of each two of them.
    pub fn pad_channel_pairs<'a>(&self, images: &[f32], channels: usize, padded: &'a mut [f32]) -> &'a [f32] {
        let len = self.pad_rows(images, channels, padded, |pixels, to| pair_channels(pixels, channels, to)).len();
        Self::with_zeros(len, padded)
    }

    /// As [`Windows::pad`], to words of each pixel with the one that the next window shows in its place. Only where two windows lie side
    /// by side are the words in their windows of use.
    pub fn pad_pixel_pairs<'a>(&self, images: &[f32], padded: &'a mut [f32]) -> &'a [f32] {
        let (width, shift) = (self.extent().1 * self.image.2, self.stride * self.image.2);
        let len = self.pad_rows(images, self.image.2, padded, |pixels, to| to.copy_from_slice(pixels)).len();
        let mut upper = vec![0f32; width];
        for row in padded[..len].chunks_exact_mut(width) {
            let partners = row.get(shift..).unwrap_or(&[]);
            upper[..partners.len()].copy_from_slice(partners);
            pair_up_in_place(row, &upper);
        }
        Self::with_zeros(len, padded)
    }

    /// The first `len` elements, and zeros after them.
    fn with_zeros(len: usize, padded: &mut [f32]) -> &[f32] {
        padded[len..len + SIDE].fill(0.);
        &padded[..len + SIDE]
    }

    /// Height and width of an image with the zeros around it.
    fn extent(&self) -> (usize, usize) {
        if self.fits() { (self.image.0, self.image.1) } else { self.covered() }
    }

    /// Copies images of `channels` with the zeros around them. `copy` writes pixels of one row, of the windows' channels.
    fn pad_rows<'a>(
        &self,
        images: &[f32],
        channels: usize,
        padded: &'a mut [f32],
        copy: impl Fn(&[f32], &mut [f32]),
    ) -> &'a [f32] {
        let ((h, w, c), (padded_h, padded_w)) = (self.image, self.extent());
        let origin = if self.fits() { (0, 0) } else { self.origin };
        // The part of a row that lies in the image.
        let left = origin.1.min(0).unsigned_abs().min(padded_w);
        let first = origin.1.max(0) as usize;
        let width = w.saturating_sub(first).min(padded_w - left);
        let len = h * w * channels;
        let padded = &mut padded[..images.len() / len * padded_h * padded_w * c];
        for (image, padded) in images.chunks_exact(len).zip(padded.chunks_exact_mut(padded_h * padded_w * c)) {
            for (y, row) in padded.chunks_exact_mut(padded_w * c).enumerate() {
                let y = y as isize + origin.0;
                if y < 0 || y >= h as isize || width == 0 {
                    row.fill(0.);
                    continue;
                }
                let from = (y.unsigned_abs() * w + first) * channels;
                row[..left * c].fill(0.);
                copy(&image[from..from + width * channels], &mut row[left * c..][..width * c]);
                row[(left + width) * c..].fill(0.);
            }
        }
        padded
    }
}
