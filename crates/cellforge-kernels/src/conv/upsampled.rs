//! Nearest 2x upsampling followed by a 3x3 convolution of padding 1, without the upsampled image.
//!
//! Each output pixel of one parity of row and column (a *phase*) sees only 2x2 distinct pixels of the small image, so the
//! convolution is four 2x2 convolutions of the small image, one for each phase, whose taps are sums of the 3x3 kernel's:
//! 16 products for each 36 of the plain form. Seen from the small image it is the adjoint of a convolution with a 4x4 kernel
//! and stride 2, which gives the gradients.

use super::op::bias_gradient;
use super::patches::Geometry;
use super::products::{gather, outer};
use crate::check::{slice, with_slice};
use crate::tape::wants;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

const NAME: &str = "upsample2x_conv2d";

/// Which of the 3 taps along one axis fall together, for each of the 4 taps of the stride 2 form. Output `2i + t - 1` sees
/// small pixel `i` through the taps `TAPS[t]`.
const TAPS: [&[usize]; 4] = [&[2], &[1, 2], &[0, 1], &[0]];

/// The two taps of each phase along one axis, as indices into [`TAPS`], in the order of the small image's pixels.
const PHASES: [[usize; 2]; 2] = [[3, 1], [2, 0]];

/// The op for contiguous CPU tensors whose shapes have been checked, with a bias (ternary) or without one (binary).
pub(super) struct UpsampledConv;

/// Sizes of one call.
struct Plan {
    c: usize,
    o: usize,
    h: usize,
    w: usize,
}

impl Plan {
    fn new(xs: &[usize], weight: &[usize]) -> Result<Self> {
        match (xs, weight) {
            (&[_, c, h, w], &[o, _, 3, 3]) => Ok(Self { c, o, h, w }),
            _ => bail!("{NAME}: expected images and 3x3 kernels, got shapes {xs:?} and {weight:?}"),
        }
    }

    fn out_shape(&self, batch: usize) -> Shape {
        (batch, self.o, 2 * self.h, 2 * self.w).into()
    }

    fn forward(&self, xs: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let Self { c, o, h, w } = *self;
        let phases: Vec<Vec<f32>> = (0..4)
            .map(|phase| {
                let (row, col) = (phase / 2, phase % 2);
                // The first phase looks one pixel back, the second one pixel ahead.
                let pad = (1 - row, 1 - col);
                let g = Geometry { image: (c, h, w), kernel: (2, 2), stride: 1, pad, grid: (h, w) };
                let taps = |t: usize| (TAPS[PHASES[row][t / 2]], TAPS[PHASES[col][t % 2]]);
                gather(&g, &sum_taps::<4>(weight, taps), o, bias, xs)
            })
            .collect();
        let mut ys = vec![0f32; 4 * phases[0].len()];
        ys.par_chunks_mut(4 * h * w).enumerate().for_each(|(plane, ys)| {
            let phase = |p: usize| &phases[p][plane * h * w..][..h * w];
            let rows = |p: usize| phase(p).chunks(w).zip(phase(p + 1).chunks(w));
            for (pair, (even, odd)) in ys.chunks_mut(4 * w).zip(rows(0).zip(rows(2))) {
                for (row, (left, right)) in pair.chunks_mut(2 * w).zip([even, odd]) {
                    for (y, (&a, &b)) in row.chunks_exact_mut(2).zip(left.iter().zip(right)) {
                        y.copy_from_slice(&[a, b]);
                    }
                }
            }
        });
        ys
    }

    /// The windows of the stride 2 form over the output's gradient; the grid is the small image.
    fn adjoint(&self) -> Geometry {
        let Self { o, h, w, .. } = *self;
        Geometry { image: (o, 2 * h, 2 * w), kernel: (4, 4), stride: 2, pad: (1, 1), grid: (h, w) }
    }

    fn input_gradient(&self, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        let kernels = sum_taps::<16>(weight, |t| (TAPS[t / 4], TAPS[t % 4]));
        // (o, c, 4, 4) to (c, o, 4, 4)
        let mut turned = vec![0f32; kernels.len()];
        for (i, to) in turned.chunks_exact_mut(16).enumerate() {
            to.copy_from_slice(&kernels[(i % self.o * self.c + i / self.o) * 16..][..16]);
        }
        gather(&self.adjoint(), &turned, self.c, None, grad)
    }

    fn weight_gradient(&self, xs: &[f32], grad: &[f32]) -> Vec<f32> {
        let sums = outer(&self.adjoint(), self.c, xs, grad); // (c, o, 4, 4)
        let mut grad_weight = vec![0f32; self.o * self.c * 9];
        for (i, to) in grad_weight.chunks_exact_mut(9).enumerate() {
            let from = &sums[(i % self.c * self.o + i / self.c) * 16..][..16];
            for (t, &x) in from.iter().enumerate() {
                for &row in TAPS[t / 4] {
                    for &col in TAPS[t % 4] {
                        to[row * 3 + col] += x;
                    }
                }
            }
        }
        grad_weight
    }

    /// The gradients of the input and of the weights, each where it is asked for.
    fn gradients(xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plan = Self::new(xs.dims(), weight.dims())?;
        with_slice(NAME, grad, |grad| {
            let of = |wanted: &Tensor, other: &Tensor, f: &dyn Fn(&[f32]) -> Vec<f32>| match wants(wanted) {
                true => {
                    let values = with_slice(NAME, other, |other| Ok(f(other)))?;
                    Tensor::from_vec(values, wanted.shape(), wanted.device()).map(Some)
                }
                false => Ok(None),
            };
            let grad_xs = of(xs, weight, &|weight| plan.input_gradient(weight, grad))?;
            Ok((grad_xs, of(weight, xs, &|xs| plan.weight_gradient(xs, grad))?))
        })
    }
}

/// Kernels of `N` taps, each the sum of the 3x3 kernel's taps in the rows and columns that `taps` names.
fn sum_taps<const N: usize>(weight: &[f32], taps: impl Fn(usize) -> (&'static [usize], &'static [usize])) -> Vec<f32> {
    let mut kernels = vec![0f32; weight.len() / 9 * N];
    for (to, from) in kernels.chunks_exact_mut(N).zip(weight.chunks_exact(9)) {
        for (t, sum) in to.iter_mut().enumerate() {
            let (rows, cols) = taps(t);
            *sum = rows.iter().flat_map(|row| cols.iter().map(move |col| from[row * 3 + col])).sum();
        }
    }
    kernels
}

impl CustomOp2 for UpsampledConv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, xs: &CpuStorage, xs_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), w_l.dims())?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, slice(NAME, w, w_l)?, None);
        Ok((CpuStorage::F32(ys), plan.out_shape(xs_l.dims()[0])))
    }

    fn bwd(&self, xs: &Tensor, w: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Plan::gradients(xs, w, grad)
    }
}

impl CustomOp3 for UpsampledConv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        w: &CpuStorage,
        w_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = Plan::new(xs_l.dims(), w_l.dims())?;
        let bias = slice(NAME, bias, bias_l)?;
        let ys = plan.forward(slice(NAME, xs, xs_l)?, slice(NAME, w, w_l)?, Some(bias));
        Ok((CpuStorage::F32(ys), plan.out_shape(xs_l.dims()[0])))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _ys: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (grad_xs, grad_w) = Plan::gradients(xs, w, grad)?;
        Ok((grad_xs, grad_w, bias_gradient(NAME, bias, grad)?))
    }
}
