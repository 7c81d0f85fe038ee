//! What operations are told beside their tensors, and the constants that two forms of an operation share.

use crate::product::Precision;
use candle_core::Tensor;

/// Keras's fuzz factor: probabilities are clipped to `[1e-7, 1 - 1e-7]` before their logarithm is taken.
pub(crate) const KERAS_EPSILON: f32 = 1e-7;

/// Added to the sum of squares in [`demodulation`](crate::demodulation), as in StyleGAN2.
pub(crate) const DEMODULATION_EPS: f32 = 1e-8;

/// Zeros added around an image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const NONE: Self = Self::uniform(0);

    /// `p` pixels on all four sides.
    pub const fn uniform(p: usize) -> Self {
        Self { top: p, bottom: p, left: p, right: p }
    }

    /// Keras's 'same' padding of a `side_h` by `side_w` image for a kernel of `k` by `k`: the output has
    /// `ceil(side / stride)` pixels a side, and an odd pixel goes to the bottom and to the right.
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn same(side_h: usize, side_w: usize, k: usize, stride: usize) -> Self {
        let total = |side: usize| ((side.div_ceil(stride).max(1) - 1) * stride + k).saturating_sub(side);
        let (h, w) = (total(side_h), total(side_w));
        Self { top: h / 2, bottom: h - h / 2, left: w / 2, right: w - w / 2 }
    }
}

/// How a convolution moves over the image, and what it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Pixels between neighbouring windows, on both axes.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: Padding,
    /// The numbers that are multiplied, forwards and in the gradients.
    pub precision: Precision,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self::new(1, Padding::NONE)
    }
}

impl Conv2dConfig {
    /// Windows so far apart over an image with these zeros around it, in `f32`.
    pub const fn new(stride: usize, padding: Padding) -> Self {
        Self { stride, padding, precision: Precision::F32 }
    }

    /// The same in another precision.
    #[must_use]
    pub const fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The height and width of the output for an `h` by `w` image and a `kh` by `kw` kernel, or `None` where the
    /// kernel does not fit.
    pub fn out_size(&self, (h, w): (usize, usize), (kh, kw): (usize, usize)) -> Option<(usize, usize)> {
        let axis = |size: usize, k: usize| Some(size.checked_sub(k)?.checked_div(self.stride)? + 1);
        let p = self.padding;
        Some((axis(h + p.top + p.bottom, kh)?, axis(w + p.left + p.right, kw)?))
    }
}

/// What a batch tells about each channel; both are `(c)` and take no gradient.
#[derive(Clone, Debug)]
pub struct BatchStats {
    /// The mean.
    pub mean: Tensor,
    /// The variance with Bessel's correction, which is what PyTorch puts into the running variance.
    pub var_unbiased: Tensor,
}

/// What is done to one image: first turned, then mirrored, shifted, recoloured, and covered.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageMap {
    /// Quarter turns, 0 to 3; images that are not square take an even number.
    pub turns: u8,
    /// Whether left and right change places.
    pub mirrored: bool,
    /// Pixels by which the image moves down and to the right; what comes into view has the value `fill`.
    pub shift: [isize; 2],
    /// The value of pixels that come into view.
    pub fill: f32,
    /// For each channel of the result: the factors of the three channels, and what is added. Images of one channel use the first
    /// factor and the last number of the first row.
    pub colour: [[f32; 4]; 3],
    /// A rectangle, as first row, first column, rows and columns, whose pixels become 0. It may reach beyond the image,
    /// and without rows or columns it covers nothing.
    pub hole: [isize; 4],
}

impl Default for ImageMap {
    /// The map that changes nothing.
    fn default() -> Self {
        let colour = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]];
        Self { turns: 0, mirrored: false, shift: [0, 0], fill: 0., colour, hole: [0; 4] }
    }
}

impl ImageMap {
    /// Where the pixel of the result at row `i` and column `j` comes from: `None` for one that the hole covers, `Some(None)` for one
    /// that came into view, and otherwise row and column of the source.
    pub(crate) fn source(&self, (i, j): (usize, usize), (h, w): (usize, usize)) -> Option<Option<(usize, usize)>> {
        let (i, j) = (i as isize, j as isize);
        let [top, left, rows, cols] = self.hole;
        if (top..top + rows).contains(&i) && (left..left + cols).contains(&j) {
            return None;
        }
        let (i, j) = (i - self.shift[0], j - self.shift[1]);
        let (h, w) = (h as isize, w as isize);
        if !(0..h).contains(&i) || !(0..w).contains(&j) {
            return Some(None);
        }
        let j = if self.mirrored { w - 1 - j } else { j };
        // Counter-clockwise turns; with an odd number the image is square.
        let (i, j) = match self.turns % 4 {
            0 => (i, j),
            1 => (j, h - 1 - i),
            2 => (h - 1 - i, w - 1 - j),
            _ => (w - 1 - j, i),
        };
        Some(Some((i as usize, j as usize)))
    }
}
