//! Images turned, mirrored, shifted, recoloured and covered in part, each in a way of its own, with the gradient through it.

use crate::check::{f32_only, images, slice};
use crate::composed;
use crate::config::ImageMap;
use crate::device::on_device;
use crate::gather::with_slice;
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::tape::apply1;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

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
    on_device!(
        xs.device(),
        cpu = channels_first(&apply1(&channels_last(xs)?, Remap(maps.to_vec()))?),
        cuda = crate::cuda::remap(xs, maps),
        composed = composed::remap(xs, maps),
    )
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
        let grad_xs = with_slice(self.name(), grad, |grad: &[f32]| {
            Ok(filled::<f32>(xs.elem_count(), image, |n, to| {
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
