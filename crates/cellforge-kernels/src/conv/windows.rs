//! Where the windows of a convolution lie in memory.

use crate::element::{Element, widen_all};
use crate::product::{pair_channels, pair_up};
use crate::tiles::SIDE;
use std::ops::Range;

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

    /// Numbers that [`Windows::pad`] needs for one image, 0 if none.
    pub fn padded_len<E: Element>(&self) -> usize {
        let (h, w) = self.covered();
        if self.fits() { E::room(self.image_len()) } else { h * w * self.image.2 }
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

    /// Images as `f32` with the zeros around them, made in `padded` (of [`Windows::padded_len`] for each image) where they are not that
    /// already.
    pub fn pad<'a, E: Element>(&self, images: &'a [E], padded: &'a mut [f32]) -> &'a [f32] {
        if self.fits() {
            return E::wide(images, padded);
        }
        self.pad_rows(images, self.image.2, padded, |pixels, to| widen_all(pixels, to))
    }

    /// Elements that the functions below need for so many images: they copy them, and zeros follow the last, over which the last tile of a
    /// window may reach.
    pub fn words_len(&self, images: usize) -> usize {
        let (h, w) = self.extent();
        images * h * w * self.image.2 + SIDE
    }

    /// As [`Windows::pad`], from images of so many channels to words of each two of them, of which the sum over a run takes `whole`. Images
    /// whose memory is that already are not copied.
    pub fn pad_channel_pairs<'a, E: Element>(
        &self,
        images: &'a [E],
        channels: usize,
        whole: usize,
        padded: &'a mut [f32],
    ) -> &'a [f32] {
        if channels.is_multiple_of(2)
            && self.fits()
            && whole == self.segment()
            && let Some(words) = E::words(images)
        {
            return words;
        }
        let len = self.pad_rows(images, channels, padded, |pixels, to| pair_channels(pixels, channels, to)).len();
        Self::with_zeros(len, padded)
    }

    /// As [`Windows::pad`], to words of each pixel with the one that the next window shows in its place. Only where two windows lie side
    /// by side are the words in their windows of use.
    pub fn pad_pixel_pairs<'a, E: Element>(&self, images: &[E], padded: &'a mut [f32]) -> &'a [f32] {
        let c = self.image.2;
        let ((padded_h, padded_w), shift, (left, from)) = (self.extent(), self.stride * c, self.columns());
        let len = images.len() / self.image_len() * padded_h * padded_w * c;
        // A row of pixels with the zeros around it, and more zeros, with which the last of them are paired.
        let mut row = vec![E::default(); padded_w * c + shift];
        let rows = padded[..len].chunks_exact_mut(padded_w * c);
        for (n, words) in rows.enumerate() {
            match self.row(n % padded_h).filter(|_| !from.is_empty()) {
                Some(y) => {
                    let at = (n / padded_h * self.image.0 + y) * self.image.1;
                    let pixels = &images[(at + from.start) * c..(at + from.end) * c];
                    row[left * c..][..pixels.len()].copy_from_slice(pixels);
                    pair_up(&row[..padded_w * c], &row[shift..], words);
                }
                None => words.fill(0.),
            }
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

    /// Where, in a row with the zeros around it, the pixels of the image begin, and which of them these are.
    fn columns(&self) -> (usize, Range<usize>) {
        let ((_, w, _), (_, padded_w)) = (self.image, self.extent());
        let origin = if self.fits() { 0 } else { self.origin.1 };
        let left = origin.min(0).unsigned_abs().min(padded_w);
        let first = origin.max(0).unsigned_abs();
        (left, first..first + w.saturating_sub(first).min(padded_w - left))
    }

    /// The row of the image that a row with the zeros around it shows, if any.
    fn row(&self, padded: usize) -> Option<usize> {
        let origin = if self.fits() { 0 } else { self.origin.0 };
        usize::try_from(padded as isize + origin).ok().filter(|&row| row < self.image.0)
    }

    /// Copies images of `channels` with the zeros around them. `copy` writes pixels of one row, of the windows' channels.
    fn pad_rows<'a, E: Element>(
        &self,
        images: &[E],
        channels: usize,
        padded: &'a mut [f32],
        copy: impl Fn(&[E], &mut [f32]),
    ) -> &'a [f32] {
        let ((h, w, c), (padded_h, padded_w), (left, from)) = (self.image, self.extent(), self.columns());
        let len = h * w * channels;
        let padded = &mut padded[..images.len() / len * padded_h * padded_w * c];
        for (image, padded) in images.chunks_exact(len).zip(padded.chunks_exact_mut(padded_h * padded_w * c)) {
            for (y, row) in padded.chunks_exact_mut(padded_w * c).enumerate() {
                let Some(y) = self.row(y).filter(|_| !from.is_empty()) else {
                    row.fill(0.);
                    continue;
                };
                row[..left * c].fill(0.);
                let pixels = &image[(y * w + from.start) * channels..(y * w + from.end) * channels];
                copy(pixels, &mut row[left * c..][..from.len() * c]);
                row[(left + from.len()) * c..].fill(0.);
            }
        }
        padded
    }
}
