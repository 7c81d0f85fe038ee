//! Styles: channels scaled image by image, and the factors that undo what a style does to a convolution's variance.

use crate::check::{f32_only, images, matrix, slice};
use crate::composed;
use crate::config::DEMODULATION_EPS;
use crate::device::on_device;
use crate::elements::slope_at;
use crate::gather::with_slice;
use crate::gemm::{mat, mat_mut, multiply};
use crate::layout::{channels_first, channels_last};
use crate::memory::filled;
use crate::simd::vectorised;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Channels scaled by a factor of each image's own, shifted, and a leaky ReLU, in one pass over memory:
/// `leaky_relu(xs * scale + shift, negative_slope)` with `xs` `(b, c, h, w)`, `scale` `(b, c)`, and `shift` `(b, c)`, or `(c)` for all images
/// alike. A negative slope of 1 is no activation.
pub fn modulate(xs: &Tensor, scale: &Tensor, shift: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let op = "modulate";
    f32_only(op, &[("xs", xs), ("scale", scale), ("shift", shift)])?;
    let (b, c, ..) = images(op, "xs", xs)?;
    if scale.dims() != [b, c] {
        bail!("{op}: scale has shape {:?}, expected [{b}, {c}]", scale.dims());
    }
    if shift.dims() != [c] && shift.dims() != [b, c] {
        bail!("{op}: shift has shape {:?}, expected [{c}] or [{b}, {c}]", shift.dims());
    }
    on_device!(
        xs.device(),
        cpu = channels_first(&apply3(
            &channels_last(xs)?,
            &contiguous(scale)?,
            &contiguous(shift)?,
            Modulate(negative_slope)
        )?),
        cuda = crate::cuda::modulate(xs, scale, shift, negative_slope),
        composed = composed::modulate(xs, scale, shift, negative_slope),
    )
}

/// The factors `(b, out)` by which the outputs of a convolution with `weight` `(out, in, k, k)` are to be multiplied, once its
/// inputs were scaled by `styles` `(b, in)`, so that inputs of unit variance give outputs of unit variance:
/// `1 / sqrt(sum over in and taps of (weight * style)^2 + 1e-8)` (Karras et al. 2020, equation 3).
pub fn demodulation(weight: &Tensor, styles: &Tensor) -> Result<Tensor> {
    let op = "demodulation";
    f32_only(op, &[("weight", weight), ("styles", styles)])?;
    let (_, c_in, ..) = images(op, "weight", weight)?;
    let (_, features) = matrix(op, "styles", styles)?;
    if features != c_in {
        bail!("{op}: styles {:?} and weight {:?} differ in their number of inputs", styles.dims(), weight.dims());
    }
    on_device!(
        weight.device(),
        cpu = apply2(&contiguous(weight)?, &contiguous(styles)?, Demodulation),
        cuda = crate::cuda::demodulation(weight, styles),
        composed = composed::demodulation(weight, styles),
    )
}

struct Modulate(f32);

/// The `c` numbers of image `i`, where each has its own, or else those of all.
fn of_image(numbers: &[f32], i: usize, c: usize) -> &[f32] {
    if numbers.len() == c { numbers } else { &numbers[i * c..][..c] }
}

vectorised! {
    /// One image.
    fn scaled(xs: &'a [f32], scale: &'a [f32], shift: &'a [f32], negative_slope: f32, ys: &'a mut [f32]) {
        let c = scale.len();
        for (ys, xs) in ys.chunks_exact_mut(c).zip(xs.chunks_exact(c)) {
            for (((y, &x), &s), &t) in ys.iter_mut().zip(xs).zip(scale).zip(shift) {
                let z = x * s + t;
                *y = z * slope_at(z, negative_slope);
            }
        }
    }

    /// The gradient by an image's pixels.
    fn gradient(
        xs: &'a [f32],
        grad: &'a [f32],
        scale: &'a [f32],
        shift: &'a [f32],
        negative_slope: f32,
        grad_xs: &'a mut [f32],
    ) {
        let c = scale.len();
        for ((to, xs), grad) in grad_xs.chunks_exact_mut(c).zip(xs.chunks_exact(c)).zip(grad.chunks_exact(c)) {
            for ((((to, &x), &g), &s), &t) in to.iter_mut().zip(xs).zip(grad).zip(scale).zip(shift) {
                *to = g * slope_at(x * s + t, negative_slope) * s;
            }
        }
    }

    /// The sums over an image's pixels of the gradients by scale and by shift.
    fn gradient_sums(
        xs: &'a [f32],
        grad: &'a [f32],
        scale: &'a [f32],
        shift: &'a [f32],
        negative_slope: f32,
        by_scale: &'a mut [f32],
        by_shift: &'a mut [f32],
    ) {
        let c = scale.len();
        for (xs, grad) in xs.chunks_exact(c).zip(grad.chunks_exact(c)) {
            let sums = by_scale.iter_mut().zip(by_shift.iter_mut());
            for (((((by_scale, by_shift), &x), &g), &s), &t) in sums.zip(xs).zip(grad).zip(scale).zip(shift) {
                let g = g * slope_at(x * s + t, negative_slope);
                *by_scale += g * x;
                *by_shift += g;
            }
        }
    }
}

impl CustomOp3 for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        scale: &CpuStorage,
        scale_l: &Layout,
        shift: &CpuStorage,
        shift_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let (xs, scale, shift) = (slice(name, xs, xs_l)?, slice(name, scale, scale_l)?, slice(name, shift, shift_l)?);
        let b = xs_l.dims()[0];
        let (image, c) = (xs.len() / b, scale.len() / b);
        let ys = filled(xs.len(), image, |i, ys| {
            scaled(&xs[i * image..][..image], &scale[i * c..][..c], of_image(shift, i, c), self.0, ys);
        });
        Ok((CpuStorage::F32(ys), xs_l.shape().clone()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (name, negative_slope) = (self.name(), self.0);
        let (b, c) = scale.dims2()?;
        let image = xs.elem_count() / b;
        let (wants_xs, wants_sums) = (wants(xs), wants(scale) || wants(shift));
        let (grad_xs, sums) = with_slice(name, xs, |xs_| {
            with_slice(name, grad, |g| {
                with_slice(name, scale, |s| {
                    with_slice(name, shift, |t| {
                        let part = |i: usize| (i * image..(i + 1) * image, i * c..(i + 1) * c);
                        let grad_xs = wants_xs.then(|| {
                            filled(xs_.len(), image, |i, to| {
                                let (pixels, channels) = part(i);
                                let t = of_image(t, i, c);
                                gradient(&xs_[pixels.clone()], &g[pixels], &s[channels], t, negative_slope, to);
                            })
                        });
                        let sums_of = |i: usize| {
                            let ((pixels, channels), t) = (part(i), of_image(t, i, c));
                            let mut sums = [vec![0f32; c], vec![0f32; c]];
                            let [a, b] = &mut sums;
                            gradient_sums(&xs_[pixels.clone()], &g[pixels], &s[channels], t, negative_slope, a, b);
                            sums
                        };
                        let sums: Vec<[Vec<f32>; 2]> =
                            if wants_sums { (0..b).into_par_iter().map(sums_of).collect() } else { vec![] };
                        Ok((grad_xs, sums))
                    })
                })
            })
        })?;
        let device = xs.device();
        let grad_xs = grad_xs.map(|values| Tensor::from_vec(values, xs.shape(), device)).transpose()?;
        if !wants_sums {
            return Ok((grad_xs, None, None));
        }
        let (by_scale, by_shift): (Vec<_>, Vec<_>) = sums.into_iter().map(|[scale, shift]| (scale, shift)).unzip();
        let by_shift: Vec<f32> = match shift.rank() {
            1 => (0..c).map(|c| by_shift.iter().map(|image| f64::from(image[c])).sum::<f64>() as f32).collect(),
            _ => by_shift.concat(),
        };
        Ok((
            grad_xs,
            Some(Tensor::from_vec(by_scale.concat(), (b, c), device)?),
            Some(Tensor::from_vec(by_shift, shift.shape(), device)?),
        ))
    }
}

struct Demodulation;

/// The sum over the taps of each kernel's squares, `(out, in)`.
fn energies(weight: &[f32], taps: usize) -> Vec<f32> {
    weight.chunks_exact(taps).map(|kernel| kernel.iter().map(|w| w * w).sum()).collect()
}

impl CustomOp2 for Demodulation {
    fn name(&self) -> &'static str {
        "demodulation"
    }

    fn cpu_fwd(&self, w: &CpuStorage, w_l: &Layout, s: &CpuStorage, s_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (w, s) = (slice(self.name(), w, w_l)?, slice(self.name(), s, s_l)?);
        let ((out, c_in, kh, kw), (b, _)) = (w_l.shape().dims4()?, s_l.shape().dims2()?);
        let squares: Vec<f32> = s.iter().map(|s| s * s).collect();
        let energies = energies(w, kh * kw);
        let mut ys = vec![0f32; b * out];
        let turned = mat(&energies, out, c_in, c_in).transpose();
        multiply(mat_mut(&mut ys, b, out, out), mat(&squares, b, c_in, c_in), turned, false);
        for y in &mut ys {
            *y = 1. / (*y + DEMODULATION_EPS).sqrt();
        }
        Ok((CpuStorage::F32(ys), (b, out).into()))
    }

    fn bwd(&self, w: &Tensor, s: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let name = self.name();
        let ((out, c_in, kh, kw), (b, _)) = (w.dims4()?, s.dims2()?);
        // The gradient by the sum under the root, (b, out).
        let by_sum: Vec<f32> = with_slice(name, ys, |ys| {
            with_slice(name, grad, |g| Ok(ys.iter().zip(g).map(|(y, g)| -0.5 * y * y * y * g).collect()))
        })?;
        let by_sum = mat(&by_sum, b, out, out);
        with_slice(name, w, |w_| {
            with_slice(name, s, |s_| {
                let mut by_styles = vec![0f32; b * c_in];
                let energies = energies(w_, kh * kw);
                let (to, energies) = (mat_mut(&mut by_styles, b, c_in, c_in), mat(&energies, out, c_in, c_in));
                multiply(to, by_sum, energies, false);
                for (g, s) in by_styles.iter_mut().zip(s_) {
                    *g *= 2. * s;
                }
                let squares: Vec<f32> = s_.iter().map(|s| s * s).collect();
                let mut by_energy = vec![0f32; out * c_in];
                let (to, squares) = (mat_mut(&mut by_energy, out, c_in, c_in), mat(&squares, b, c_in, c_in));
                multiply(to, by_sum.transpose(), squares, false);
                let pairs = w_.chunks_exact(kh * kw).zip(&by_energy);
                let by_weight: Vec<f32> = pairs.flat_map(|(w, g)| w.iter().map(move |w| 2. * w * g)).collect();
                Ok((
                    Some(Tensor::from_vec(by_weight, w.shape(), w.device())?),
                    Some(Tensor::from_vec(by_styles, s.shape(), s.device())?),
                ))
            })
        })
    }
}
