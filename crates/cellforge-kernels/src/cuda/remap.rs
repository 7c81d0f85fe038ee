//! Images turned, shifted and recoloured.

use super::op::kernel1;
use super::with_ptrs;
use crate::config::ImageMap;
use crate::gpu::{args, elements, gpu_of, size};
use crate::layout::{channels_first, channels_last};
use crate::tape::apply1;
use candle_core::{Result, Tensor};

/// The maps as the kernel reads them.
fn packed(maps: &[ImageMap]) -> Vec<f32> {
    let pack = |map: &ImageMap| {
        let first = [f32::from(map.turns % 4), f32::from(u8::from(map.mirrored))];
        let shift = map.shift.map(|n| n as f32);
        let colour = map.colour.into_iter().flatten();
        first.into_iter().chain(shift).chain([map.fill]).chain(colour).chain(map.hole.map(|n| n as f32))
    };
    maps.iter().flat_map(pack).collect()
}

pub(crate) fn remap(xs: &Tensor, maps: &[ImageMap]) -> Result<Tensor> {
    const NAME: &str = "remap";
    let packed = packed(maps);
    let maps = gpu_of(xs)?.upload(&packed)?.tensor(packed.len());
    let kept = maps.clone();
    let int = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let ys = gpu.buffer(layout.shape().elem_count())?;
            with_ptrs(NAME, [&maps], |_, [maps]| {
                let pixels = b * h * w;
                gpu.launch("remap", elements(pixels)?, &args![x, maps, &ys, size(pixels)?, int(h)?, int(w)?, int(c)?])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |xs, _, grad| {
            let (b, h, w, c) = xs.dims4()?;
            with_ptrs(NAME, [grad, &kept], |gpu, [g, maps]| {
                let out = gpu.zeros(xs.elem_count())?;
                let pixels = b * h * w;
                let arguments = args![g, maps, &out, size(pixels)?, int(h)?, int(w)?, int(c)?];
                gpu.launch("remap_gradient", elements(pixels)?, &arguments)?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}
