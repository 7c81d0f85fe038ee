//! Images turned, mirrored, shifted, recoloured and covered in part, each in a way of its own, with the gradient through it.

use crate::check::{f32_only, images, slice, with_slice};
use crate::composed;
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

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

/// Applies one map to each of the images `xs` `(b, c, h, w)`, with 1 or 3 channels. The result depends linearly on `xs` (but for the
/// constants of the colours), and every pixel of the source is used at most once.
pub fn remap(xs: &Tensor, maps: &[ImageMap]) -> Result<Tensor> {
    let op = "remap";
    f32_only(op, &[("xs", xs)])?;
    let (b, c, h, w) = images(op, "xs", xs)?;
    if maps.len() != b || ![1, 3].contains(&c) {
        bail!(
            "{op}: {} maps for xs of shape {:?}, expected one for each image, of 1 or 3 channels",
            maps.len(),
            xs.dims()
        );
    }
    if h != w && maps.iter().any(|map| map.turns % 2 == 1) {
        bail!("{op}: a quarter turn of images of {h}x{w} pixels, which are not square");
    }
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda() {
        return crate::cuda::remap(xs, maps);
    }
    if !xs.device().is_cpu() {
        return composed::remap(xs, maps);
    }
    channels_first(&apply1(&channels_last(xs)?, Remap(maps.to_vec()))?)
}

struct Remap(Vec<ImageMap>);

impl CustomOp1 for Remap {
    fn name(&self) -> &'static str {
        "remap"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice(self.name(), storage, layout)?;
        let (_, h, w, c) = layout.shape().dims4()?;
        let image = h * w * c;
        let ys = filled(xs.len(), image, |n, ys| {
            let (map, xs) = (&self.0[n], &xs[n * image..][..image]);
            let fill = [map.fill; 3];
            for (at, y) in ys.chunks_exact_mut(c).enumerate() {
                let from = match map.source((at / w, at % w), (h, w)) {
                    None => {
                        y.fill(0.);
                        continue;
                    }
                    Some(None) => &fill[..c],
                    Some(Some((i, j))) => &xs[(i * w + j) * c..][..c],
                };
                for (y, row) in y.iter_mut().zip(&map.colour) {
                    *y = from.iter().zip(row).fold(row[3], |sum, (x, factor)| sum + factor * x);
                }
            }
        });
        Ok((CpuStorage::F32(ys), layout.shape().clone()))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, h, w, c) = xs.dims4()?;
        let image = h * w * c;
        let grad_xs = with_slice(self.name(), grad, |grad| {
            Ok(filled(xs.elem_count(), image, |n, to| {
                let (map, grad) = (&self.0[n], &grad[n * image..][..image]);
                to.fill(0.);
                for (at, g) in grad.chunks_exact(c).enumerate() {
                    let Some(Some((i, j))) = map.source((at / w, at % w), (h, w)) else { continue };
                    for (k, to) in to[(i * w + j) * c..][..c].iter_mut().enumerate() {
                        *to = g.iter().zip(&map.colour).map(|(g, row)| g * row[k]).sum();
                    }
                }
            }))
        })?;
        Ok(Some(Tensor::from_vec(grad_xs, xs.shape(), xs.device())?))
    }
}
