//! Square windows that move over images, for pooling.

use crate::check::{images, images_only};
use candle_core::{Result, Tensor, bail};

/// How square windows move over images.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub window: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Windows {
    /// Of 2x2 pixels, side by side.
    pub const HALVES: Self = Self { window: 2, stride: 2, padding: 0 };

    /// Refuses windows that are none and images that they do not fit. Every window that passes has a cell inside the image.
    pub fn check(&self, op: &str, xs: &Tensor) -> Result<()> {
        let Self { window, stride, padding } = *self;
        images_only(op, &[("xs", xs)])?;
        let (_, _, h, w) = images(op, "xs", xs)?;
        if window == 0 || stride == 0 || 2 * padding > window {
            bail!(
                "{op}: window {window}, stride {stride}, padding {padding}: expected window and stride of at least 1 and padding of at most half the window"
            );
        }
        if h + 2 * padding < window || w + 2 * padding < window {
            bail!("{op}: a window of {window} with padding {padding} does not fit images of shape {:?}", xs.dims());
        }
        Ok(())
    }

    pub fn out_size(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.window) / self.stride + 1
    }

    /// Window, stride and padding.
    #[cfg(feature = "cuda")]
    pub fn ints(&self) -> [i32; 3] {
        // Windows that fit into an image are far smaller than the largest number.
        [self.window, self.stride, self.padding].map(|n| i32::try_from(n).unwrap_or(i32::MAX))
    }

    /// The cells of one axis that the window at output position `at` covers.
    pub fn span(&self, at: usize, size: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        start.saturating_sub(self.padding)..(start + self.window - self.padding).min(size)
    }

    /// The windows over an image `(h, w)` in reading order, numbered.
    pub fn over(&self, (h, w): (usize, usize)) -> impl Iterator<Item = (usize, Window)> + use<'_> {
        let (oh, ow) = (self.out_size(h), self.out_size(w));
        (0..oh * ow)
            .map(move |cell| (cell, Window { rows: self.span(cell / ow, h), cols: self.span(cell % ow, w), width: w }))
    }
}

/// Pixels of an image of this width.
pub(crate) struct Window {
    pub rows: std::ops::Range<usize>,
    pub cols: std::ops::Range<usize>,
    pub width: usize,
}

impl Window {
    pub fn len(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// The pixels in reading order.
    pub fn pixels(&self) -> impl Iterator<Item = usize> {
        self.rows.clone().flat_map(move |row| self.cols.clone().map(move |col| row * self.width + col))
    }
}
