//! Styles: channels scaled image by image.

use super::op::{kernel2, kernel3};
use super::with_ptrs;
use crate::config::DEMODULATION_EPS;
use crate::gpu::{Gpu, Ptr, args, channels, elements, size};
use crate::layout::{channels_first, channels_last};
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::{Result, Tensor};

pub(crate) fn modulate(xs: &Tensor, factors: &Tensor, shift: &Tensor, negative_slope: f32) -> Result<Tensor> {
    const NAME: &str = "modulate";
    // From one image's shift to the next: none where all share it.
    let stride_of = |shift: &[usize], c: usize| if shift.len() == 1 { Ok(0) } else { size(c) };
    let op = kernel3(
        NAME,
        move |gpu, [x, factors, shift], [layout, _, shift_l]| {
            let (_, h, w, c) = layout.shape().dims4()?;
            let (pixels, channels, stride) = (size(h * w)?, size(c)?, stride_of(shift_l.dims(), c)?);
            let ys = gpu.map("modulate", layout.shape().elem_count(), |ys, n| {
                args![x, factors, shift, ys, n, pixels, channels, stride, negative_slope]
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |[xs, factors, shift], _, grad, _| {
            let (b, h, w, c) = xs.dims4()?;
            let (pixels, channels_, stride) = (size(h * w)?, size(c)?, stride_of(shift.dims(), c)?);
            let (wants_xs, wants_sums) = (wants(xs), wants(factors) || wants(shift));
            with_ptrs(NAME, [xs, grad, factors, shift], |gpu, [x, g, s, t]| {
                let by_xs = match wants_xs {
                    true => {
                        let out = gpu.map("modulate_gradient", xs.elem_count(), |out, n| {
                            args![x, g, s, t, out, n, pixels, channels_, stride, negative_slope]
                        })?;
                        Some(out.tensor(xs.shape()))
                    }
                    false => None,
                };
                if !wants_sums {
                    return Ok((by_xs, None, None));
                }
                let (by_factor, by_shift) = (gpu.buffer(b * c)?, gpu.buffer(b * c)?);
                let arguments = args![x, g, s, t, &by_factor, &by_shift, pixels, channels_, stride, negative_slope];
                gpu.launch("modulate_sums", channels(c, b)?, &arguments)?;
                let by_shift = if shift.rank() == 1 { gpu.channel_sums(by_shift.ptr, b, c)? } else { by_shift };
                Ok((by_xs, Some(by_factor.tensor(factors.shape())), Some(by_shift.tensor(shift.shape()))))
            })
        },
    );
    channels_first(&apply3(&channels_last(xs)?, &contiguous(factors)?, &contiguous(shift)?, op)?)
}

pub(crate) fn demodulation(weight: &Tensor, styles: &Tensor) -> Result<Tensor> {
    const NAME: &str = "demodulation";
    let energies = |gpu: &Gpu, weight: Ptr, (o, c, kh, kw): (usize, usize, usize, usize)| {
        let taps = size(kh * kw)?;
        gpu.map("kernel_energies", o * c, |out, n| args![weight, out, n, taps])
    };
    let op = kernel2(
        NAME,
        move |gpu, [weight, styles], [weight_l, styles_l]| {
            let (dims, (b, _)) = (weight_l.shape().dims4()?, styles_l.shape().dims2()?);
            let (o, c) = (size(dims.0)?, size(dims.1)?);
            let energies = energies(gpu, weight, dims)?;
            let ys =
                gpu.map("demodulation", b * dims.0, |ys, n| args![&energies, styles, ys, n, o, c, DEMODULATION_EPS])?;
            Ok((ys, (b, dims.0).into()))
        },
        move |[weight, styles], ys, grad| {
            let (dims, b) = (weight.dims4()?, size(styles.dim(0)?)?);
            let (o, c, taps) = (size(dims.0)?, size(dims.1)?, size(dims.2 * dims.3)?);
            with_ptrs(NAME, [weight, styles, ys, grad], |gpu, [w, s, y, g]| {
                let energies = energies(gpu, w, dims)?;
                let by_styles = gpu.map("demodulation_by_style", styles.elem_count(), |out, n| {
                    args![&energies, s, y, g, out, n, o, c]
                })?;
                let by_weight = gpu.buffer(weight.elem_count())?;
                let kernels = dims.0 * dims.1;
                let arguments = args![w, s, y, g, &by_weight, size(kernels)?, b, o, c, taps];
                gpu.launch("demodulation_by_weight", elements(kernels)?, &arguments)?;
                Ok((Some(by_weight.tensor(weight.shape())), Some(by_styles.tensor(styles.shape()))))
            })
        },
    );
    apply2(&contiguous(weight)?, &contiguous(styles)?, op)
}
