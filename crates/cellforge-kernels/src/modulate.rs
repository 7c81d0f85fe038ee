//! Styles: channels scaled image by image, and the factors that undo what a style does to a convolution's variance.

use crate::check::{f32_only, images, images_only, matrix, slice};
use crate::composed;
use crate::config::DEMODULATION_EPS;
use crate::device::on_device;
use crate::element::{Element, of_type};
use crate::elements::slope_at;
use crate::gather::with_slice;
use crate::gemm::{mat, mat_mut, multiply};
use crate::layout::{channels_first, channels_last};
use crate::memory::{PIECE, filled, filled_with};
use crate::simd::vectorised;
use crate::tape::{apply2, apply3, contiguous};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Channels scaled by a factor of each image's own, shifted, and a leaky ReLU, in one pass over memory:
/// `leaky_relu(xs * scale + shift, negative_slope)` with `xs` `(b, c, h, w)`, `scale` `(b, c)`, and `shift` `(b, c)`, or `(c)` for all images
/// alike. A negative slope of 1 is no activation.
pub fn modulate(xs: &Tensor, scale: &Tensor, shift: &Tensor, negative_slope: f32) -> Result<Tensor> {
    check_modulation("modulate", xs, scale, shift)?;
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

/// [`modulate`], and then a second factor of each image's own, `next` `(b, c)`, in the same pass over memory:
/// `leaky_relu(xs * scale + shift, negative_slope) * next`.
pub fn modulate_twice(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    negative_slope: f32,
    next: &Tensor,
) -> Result<Tensor> {
    let op = "modulate_twice";
    check_modulation(op, xs, scale, shift)?;
    f32_only(op, &[("next", next)])?;
    if next.dims() != scale.dims() {
        bail!("{op}: next has shape {:?}, expected {:?}", next.dims(), scale.dims());
    }
    let one_after_the_other = || {
        let zeros = Tensor::zeros(scale.dim(1)?, candle_core::DType::F32, scale.device())?;
        modulate(&modulate(xs, scale, shift, negative_slope)?, next, &zeros, 1.)
    };
    on_device!(
        xs.device(),
        cpu = {
            let factors = apply2(&contiguous(scale)?, &contiguous(next)?, SideBySide)?;
            channels_first(&apply3(&channels_last(xs)?, &factors, &contiguous(shift)?, Modulate(negative_slope))?)
        },
        cuda = one_after_the_other(),
        composed = one_after_the_other(),
    )
}

fn check_modulation(op: &str, xs: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<()> {
    images_only(op, &[("xs", xs)])?;
    f32_only(op, &[("scale", scale), ("shift", shift)])?;
    let (b, c, ..) = images(op, "xs", xs)?;
    if scale.dims() != [b, c] {
        bail!("{op}: scale has shape {:?}, expected [{b}, {c}]", scale.dims());
    }
    if shift.dims() != [c] && shift.dims() != [b, c] {
        bail!("{op}: shift has shape {:?}, expected [{c}] or [{b}, {c}]", shift.dims());
    }
    Ok(())
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

/// With this slope below zero. Each image has `c` factors, or as many again that come after the activation.
struct Modulate(f32);

/// What is done to the channels of one image.
#[derive(Clone, Copy)]
struct Factors<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    /// Ones where there is no second factor.
    next: &'a [f32],
    negative_slope: f32,
}

/// The numbers of image `i`, where each has its own, or else those of all.
fn of_image(numbers: &[f32], i: usize, c: usize) -> &[f32] {
    if numbers.len() == c { numbers } else { &numbers[i * c..][..c] }
}

/// The factors of a batch.
struct Batch<'a> {
    factors: &'a [f32],
    shift: &'a [f32],
    ones: Vec<f32>,
    negative_slope: f32,
    c: usize,
}

impl<'a> Batch<'a> {
    fn new(factors: &'a [f32], shift: &'a [f32], negative_slope: f32, c: usize) -> Self {
        Self { factors, shift, ones: vec![1.; c], negative_slope, c }
    }

    /// Whether there is a second factor, in a batch of so many images.
    fn has_next(&self, b: usize) -> bool {
        self.factors.len() > b * self.c
    }

    fn of(&self, i: usize, b: usize) -> Factors<'_> {
        let own = &self.factors[i * (self.factors.len() / b)..][..self.factors.len() / b];
        let (scale, next) = own.split_at(self.c);
        Factors {
            scale,
            shift: of_image(self.shift, i, self.c),
            next: if next.is_empty() { &self.ones } else { next },
            negative_slope: self.negative_slope,
        }
    }
}

vectorised! {
    /// Pixels of one image.
    fn scaled<E: Element>(xs: &'a [E], factors: Factors<'a>, ys: &'a mut [f32]) {
        let Factors { scale, shift, next, negative_slope } = factors;
        let c = scale.len();
        for (ys, xs) in ys.chunks_exact_mut(c).zip(xs.chunks_exact(c)) {
            for ((((y, x), &s), &t), &n) in ys.iter_mut().zip(xs).zip(scale).zip(shift).zip(next) {
                let z = x.widen() * s + t;
                *y = z * slope_at(z, negative_slope) * n;
            }
        }
    }

    /// The gradient by pixels of an image, and the sums over them of the gradients by scale, shift and the second factor, which are added to
    /// `sums`, `c` numbers each.
    fn gradient<E: Element>(
        xs: &'a [E],
        grad: &'a [E],
        factors: Factors<'a>,
        grad_xs: &'a mut [f32],
        sums: &'a mut [f32],
    ) {
        let Factors { scale, shift, next, negative_slope } = factors;
        let c = scale.len();
        let (by_scale, rest) = sums.split_at_mut(c);
        let (by_shift, by_next) = rest.split_at_mut(c);
        let (shift, next, by_next) = (&shift[..c], &next[..c], &mut by_next[..c]);
        for ((to, xs), grad) in grad_xs.chunks_exact_mut(c).zip(xs.chunks_exact(c)).zip(grad.chunks_exact(c)) {
            for i in 0..c {
                let (x, g) = (xs[i].widen(), grad[i].widen());
                let z = x * scale[i] + shift[i];
                let slope = slope_at(z, negative_slope);
                let by_sum = g * next[i] * slope;
                to[i] = by_sum * scale[i];
                by_scale[i] += by_sum * x;
                by_shift[i] += by_sum;
                by_next[i] += g * (z * slope);
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
        factors: &CpuStorage,
        factors_l: &Layout,
        shift: &CpuStorage,
        shift_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let (b, h, w, c) = xs_l.shape().dims4()?;
        let batch = Batch::new(slice(name, factors, factors_l)?, slice(name, shift, shift_l)?, self.0, c);
        let image = h * w * c;
        of_type!(xs.dtype(), E => {
            let xs = slice::<E>(name, xs, xs_l)?;
            let ys = filled::<E>(xs.len(), image, |i, ys| scaled(&xs[i * image..][..image], batch.of(i, b), ys));
            Ok((E::storage(ys), xs_l.shape().clone()))
        })
    }

    fn bwd(
        &self,
        xs: &Tensor,
        factors: &Tensor,
        shift: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        of_type!(xs.dtype(), E => self.gradients::<E>([xs, factors, shift], grad))
    }
}

impl Modulate {
    fn gradients<E: Element>(
        &self,
        [xs, factors, shift]: [&Tensor; 3],
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (name, device) = (self.name(), xs.device());
        let (b, _, _, c) = xs.dims4()?;
        let (factor_values, shift_values) = (factors.flatten_all()?.to_vec1()?, shift.flatten_all()?.to_vec1()?);
        let batch = Batch::new(&factor_values, &shift_values, self.0, c);
        let image = xs.elem_count() / b;
        let piece = (PIECE / c).max(1) * c;
        let of_images = |xs: &[E], grad: &[E]| {
            filled_with::<E, _>(xs.len(), image, |i, pieces| {
                let mut sums = vec![0f32; 3 * c];
                for first in (0..image).step_by(piece) {
                    let len = piece.min(image - first);
                    let pixels = i * image + first..i * image + first + len;
                    pieces.next(len, |to| {
                        gradient(&xs[pixels.clone()], &grad[pixels.clone()], batch.of(i, b), to, &mut sums);
                    });
                }
                sums
            })
        };
        let (by_xs, sums) = with_slice(name, xs, |xs| with_slice(name, grad, |grad| Ok(of_images(xs, grad))))?;
        let parts: &[usize] = if batch.has_next(b) { &[0, 2] } else { &[0] };
        let of = |sums: &[f32], part: usize| sums[part * c..][..c].to_vec();
        let by_factors: Vec<f32> = sums.iter().flat_map(|sums| parts.iter().flat_map(|&part| of(sums, part))).collect();
        let by_shift: Vec<f32> = match shift.rank() {
            1 => (0..c).map(|i| sums.iter().map(|sums| f64::from(sums[c + i])).sum::<f64>() as f32).collect(),
            _ => sums.iter().flat_map(|sums| of(sums, 1)).collect(),
        };
        Ok((
            Some(Tensor::from_vec(by_xs, xs.shape(), device)?),
            Some(Tensor::from_vec(by_factors, factors.shape(), device)?),
            Some(Tensor::from_vec(by_shift, shift.shape(), device)?),
        ))
    }
}

/// The columns of one matrix and then those of another: `(b, m)` and `(b, n)` to `(b, m + n)`.
struct SideBySide;

impl CustomOp2 for SideBySide {
    fn name(&self) -> &'static str {
        "side_by_side"
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_l: &Layout, b: &CpuStorage, b_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((rows, m), (_, n)) = (a_l.shape().dims2()?, b_l.shape().dims2()?);
        let (a, b) = (slice::<f32>(self.name(), a, a_l)?, slice::<f32>(self.name(), b, b_l)?);
        let both = a.chunks_exact(m).zip(b.chunks_exact(n)).flat_map(|(a, b)| [a, b]).flatten().copied().collect();
        Ok((CpuStorage::F32(both), (rows, m + n).into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (m, n) = (a.dim(1)?, b.dim(1)?);
        let part = |columns: std::ops::Range<usize>, like: &Tensor| -> Result<Option<Tensor>> {
            let values = with_slice(self.name(), grad, |grad: &[f32]| {
                Ok(grad.chunks_exact(m + n).flat_map(|row| row[columns.clone()].to_vec()).collect::<Vec<f32>>())
            })?;
            Ok(Some(Tensor::from_vec(values, like.shape(), like.device())?))
        };
        Ok((part(0..m, a)?, part(m..m + n, b)?))
    }
}

struct Demodulation;

/// Kernels that one task takes.
const KERNELS: usize = 1 << 12;

/// The sum over the taps of each kernel's squares, `(out, in)`.
fn energies(weight: &[f32], taps: usize) -> Vec<f32> {
    filled(weight.len() / taps, KERNELS, |task, energies| {
        let weight = &weight[task * KERNELS * taps..];
        for (energy, kernel) in energies.iter_mut().zip(weight.chunks_exact(taps)) {
            *energy = kernel.iter().map(|w| w * w).sum();
        }
    })
}

impl CustomOp2 for Demodulation {
    fn name(&self) -> &'static str {
        "demodulation"
    }

    fn cpu_fwd(&self, w: &CpuStorage, w_l: &Layout, s: &CpuStorage, s_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (w, s) = (slice(self.name(), w, w_l)?, slice(self.name(), s, s_l)?);
        let ((out, c_in, kh, kw), (b, _)) = (w_l.shape().dims4()?, s_l.shape().dims2()?);
        let squares: Vec<f32> = s.iter().map(|s: &f32| s * s).collect();
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
        let by_sum: Vec<f32> = with_slice(name, ys, |ys: &[f32]| {
            with_slice(name, grad, |g: &[f32]| Ok(ys.iter().zip(g).map(|(y, g)| -0.5 * y * y * y * g).collect()))
        })?;
        let by_sum = mat(&by_sum, b, out, out);
        with_slice(name, w, |w_| {
            with_slice(name, s, |s_: &[f32]| {
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
                let taps = kh * kw;
                let by_weight = filled::<f32>(w_.len(), KERNELS * taps, |task, by_weight| {
                    let kernels = w_[task * KERNELS * taps..].chunks_exact(taps).zip(&by_energy[task * KERNELS..]);
                    for (to, (kernel, energy)) in by_weight.chunks_exact_mut(taps).zip(kernels) {
                        for (to, w) in to.iter_mut().zip(kernel) {
                            *to = 2. * w * energy;
                        }
                    }
                });
                Ok((
                    Some(Tensor::from_vec(by_weight, w.shape(), w.device())?),
                    Some(Tensor::from_vec(by_styles, s.shape(), s.device())?),
                ))
            })
        })
    }
}
