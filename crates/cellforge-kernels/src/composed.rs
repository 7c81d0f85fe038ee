//! The same functions written with Candle's own operations, for devices that have no kernel of ours.
//!
//! Where Candle's gradient is wrong or missing (max pooling, nearest upsampling, strided convolution of images that
//! are not square, ReLU at zero) the expression is arranged so that only operations with right gradients take part.
//! Arguments are checked by the functions of the crate root, which call these on devices other than the CPU and
//! NVIDIA GPUs; on the CPU they serve as the reference that the fast kernels are tested against.

use crate::config::{BatchStats, Conv2dConfig, DEMODULATION_EPS, ImageMap, KERAS_EPSILON, Padding};
use crate::mask::DropoutMask;
use crate::updates::{AdamNumbers, AdamUpdate, SgdStep, SgdUpdate};
use candle_core::{D, DType, Result, Tensor, Var};

/// See [`crate::conv2d`].
pub fn conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    let (_, _, kh, kw) = weight.dims4()?;
    let Padding { top, bottom, left, right } = cfg.padding;
    let mut xs = xs.clone();
    if top + bottom > 0 {
        xs = xs.pad_with_zeros(2, top, bottom)?;
    }
    if left + right > 0 {
        xs = xs.pad_with_zeros(3, left, right)?;
    }
    // Candle derives the output padding of both axes from the height. Rows and columns that no window reaches are
    // dropped first, so that no output padding is needed on either axis.
    let used = |size: usize, k: usize| (size - k) / cfg.stride * cfg.stride + k;
    let used_h = used(h + top + bottom, kh);
    let used_w = used(w + left + right, kw);
    let xs = xs.narrow(2, 0, used_h)?.narrow(3, 0, used_w)?.contiguous()?;
    let ys = xs.conv2d(&weight.contiguous()?, 0, cfg.stride, 1, 1)?;
    match bias {
        Some(bias) => ys.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(ys),
    }
}

/// See [`crate::upsample_nearest2x`].
pub fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    xs.reshape((b, c, h, 1, w, 1))?.broadcast_as((b, c, h, 2, w, 2))?.reshape((b, c, 2 * h, 2 * w))
}

/// See [`crate::upsample2x_conv2d`].
pub fn upsample2x_conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    conv2d(&upsample_nearest2x(xs)?, weight, bias, &cfg)
}

/// See [`crate::linear`].
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ys = xs.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => ys.broadcast_add(bias),
        None => Ok(ys),
    }
}

/// See [`crate::batch_norm_train`].
pub fn batch_norm_train(xs: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStats)> {
    let (b, c, h, w) = xs.dims4()?;
    let n = (b * h * w) as f64;
    let mean = xs.mean_keepdim((0, 2, 3))?;
    let centred = xs.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let normed = centred.broadcast_div(&(&var + eps)?.sqrt()?)?;
    let ys = normed.broadcast_mul(&gamma.reshape((1, c, 1, 1))?)?.broadcast_add(&beta.reshape((1, c, 1, 1))?)?;
    let var_unbiased = (var.flatten_all()?.detach() * (n / (n - 1.).max(1.)))?;
    Ok((ys, BatchStats { mean: mean.flatten_all()?.detach(), var_unbiased }))
}

/// See [`crate::batch_norm_eval`].
pub fn batch_norm_eval(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let per_channel = |t: &Tensor| t.reshape((1, (), 1, 1));
    let std = (running_var.detach() + eps)?.sqrt()?;
    xs.broadcast_sub(&per_channel(&running_mean.detach())?)?
        .broadcast_div(&per_channel(&std)?)?
        .broadcast_mul(&per_channel(gamma)?)?
        .broadcast_add(&per_channel(beta)?)
}

/// See [`crate::max_pool2d`].
pub fn max_pool2d(xs: &Tensor, window: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let (oh, ow) = ((h + 2 * padding - window) / stride + 1, (w + 2 * padding - window) / stride + 1);
    let mut xs = xs.clone();
    if padding > 0 {
        let device = &xs.device().clone();
        let rows = Tensor::full(f32::MIN, (b, c, padding, w), device)?;
        xs = Tensor::cat(&[&rows, &xs, &rows], 2)?;
        let cols = Tensor::full(f32::MIN, (b, c, h + 2 * padding, padding), device)?;
        xs = Tensor::cat(&[&cols, &xs, &cols], 3)?;
    }
    // A later cell wins only if it is strictly greater, so the first maximum takes the whole gradient.
    over_window(&xs, window, stride, (oh, ow), |best, cell| cell.gt(&best)?.where_cond(cell, &best))
}

/// See [`crate::avg_pool2d`].
pub fn avg_pool2d(
    xs: &Tensor,
    window: usize,
    stride: usize,
    padding: usize,
    count_include_pad: bool,
) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    let out = |size: usize| (size + 2 * padding - window) / stride + 1;
    let padded = xs.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
    let sums = over_window(&padded, window, stride, (out(h), out(w)), |sum, cell| sum + cell)?;
    // How many cells of an axis each window covers.
    let counts = |size: usize| {
        let inside = |at: usize| (at * stride + window).min(size + padding) - (at * stride).max(padding);
        let counts = (0..out(size)).map(|at| if count_include_pad { window } else { inside(at) } as f32);
        Tensor::from_iter(counts, xs.device())
    };
    sums.broadcast_div(&counts(h)?.reshape((1, 1, (), 1))?)?.broadcast_div(&counts(w)?.reshape((1, 1, 1, ()))?)
}

/// Brings together the cells of each window in reading order: one shifted, strided view of the images for each of them.
fn over_window(
    xs: &Tensor,
    window: usize,
    stride: usize,
    (oh, ow): (usize, usize),
    bring_together: impl Fn(Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let index = |start: usize, n: usize| {
        let ids = (0..n).map(|i| (start + i * stride) as u32).collect::<Vec<_>>();
        Tensor::new(ids, xs.device())
    };
    let mut all: Option<Tensor> = None;
    for i in 0..window {
        let rows = xs.index_select(&index(i, oh)?, 2)?;
        for j in 0..window {
            let cell = rows.index_select(&index(j, ow)?, 3)?;
            all = Some(match all {
                Some(all) => bring_together(all, &cell)?,
                None => cell,
            });
        }
    }
    all.ok_or_else(|| candle_core::Error::Msg("pooling: the window is empty".into()))
}

/// See [`crate::avg_pool2d_global`].
pub fn avg_pool2d_global(xs: &Tensor) -> Result<Tensor> {
    xs.mean((2, 3))
}

/// See [`crate::leaky_relu`]; a negative slope of 0 is ReLU.
pub fn leaky_relu(xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let positive = xs.detach().gt(0f32)?.to_dtype(DType::F32)?;
    xs.mul(&positive.affine(1. - f64::from(negative_slope), f64::from(negative_slope))?)
}

/// See [`crate::leaky_relu_jvp`].
pub fn leaky_relu_jvp(xs: &Tensor, at: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let positive = at.detach().gt(0f32)?.to_dtype(DType::F32)?;
    xs.mul(&positive.affine(1. - f64::from(negative_slope), f64::from(negative_slope))?)
}

/// See [`crate::modulate`].
pub fn modulate(xs: &Tensor, scale: &Tensor, shift: &Tensor, negative_slope: f32) -> Result<Tensor> {
    let (b, c, ..) = xs.dims4()?;
    let shift = shift.reshape((shift.elem_count() / c, c, 1, 1))?;
    let scaled = xs.broadcast_mul(&scale.reshape((b, c, 1, 1))?)?.broadcast_add(&shift)?;
    leaky_relu(&scaled, negative_slope)
}

/// See [`crate::demodulation`].
pub fn demodulation(weight: &Tensor, styles: &Tensor) -> Result<Tensor> {
    let energies = weight.sqr()?.sum(3)?.sum(2)?; // (out, in)
    let sums = styles.sqr()?.matmul(&energies.t()?)?;
    (sums + f64::from(DEMODULATION_EPS))?.sqrt()?.recip()
}

/// See [`crate::spectral_normalised`].
pub fn spectral_normalised(weight: &Tensor, u: &Tensor, v: &Tensor) -> Result<Tensor> {
    let outer = u.detach().unsqueeze(1)?.broadcast_mul(&v.detach().unsqueeze(0)?)?.reshape(weight.shape())?;
    weight.broadcast_div(&weight.mul(&outer)?.sum_all()?)
}

/// See [`crate::remap`].
pub fn remap(xs: &Tensor, maps: &[ImageMap]) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let device = xs.device();
    let pixels = xs.permute((0, 2, 3, 1))?.contiguous()?.reshape((b * h * w, c))?;
    let (mut from, mut inside, mut base) = (Vec::new(), Vec::new(), Vec::new());
    for (n, map) in maps.iter().enumerate() {
        for at in 0..h * w {
            let source = map.source((at / w, at % w), (h, w));
            let (i, j) = source.flatten().unwrap_or_default();
            from.push((n * h * w + i * w + j) as u32);
            inside.push(if matches!(source, Some(Some(_))) { 1f32 } else { 0. });
            // What a pixel has that depends on no other: the constants of its colour, and those of what came into view.
            base.extend(map.colour[..c].iter().map(|row| match source {
                None => 0.,
                Some(None) => row[3] + map.fill * row[..c].iter().sum::<f32>(),
                Some(Some(_)) => row[3],
            }));
        }
    }
    let count = from.len();
    let moved = pixels.index_select(&Tensor::from_vec(from, count, device)?, 0)?;
    let moved = moved.broadcast_mul(&Tensor::from_vec(inside, (count, 1), device)?)?;
    // (b, pixels, from) times (b, from, to).
    let mut factors = Vec::with_capacity(b * c * c);
    for map in maps {
        (0..c).for_each(|from| factors.extend(map.colour[..c].iter().map(|row| row[from])));
    }
    let factors = Tensor::from_vec(factors, (b, c, c), device)?;
    let coloured = moved.reshape((b, h * w, c))?.matmul(&factors)?;
    let ys = (coloured + Tensor::from_vec(base, (b, h * w, c), device)?)?;
    ys.reshape((b, h, w, c))?.permute((0, 3, 1, 2))
}

/// See [`crate::tanh`].
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    xs.tanh()
}

/// See [`crate::gelu`].
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    xs.gelu_erf()
}

/// See [`crate::layer_norm`].
pub fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
    let root = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    centred.broadcast_div(&root)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// See [`crate::attention`].
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let qkv = qkv.reshape((b, n, 3, heads, width / 3 / heads))?.permute((2, 0, 3, 1, 4))?.contiguous()?; // (3, b, heads, n, size)
    let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
    let scores = q.matmul(&k.transpose(2, 3)?.contiguous()?)?;
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let shares = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    shares.matmul(&v)?.transpose(1, 2)?.reshape((b, n, width / 3))
}

fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// See [`crate::cross_entropy`].
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    log_softmax(logits)?.gather(&targets.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

/// See [`crate::bce_with_logits`].
pub fn bce_with_logits(logits: &Tensor, target: f32) -> Result<Tensor> {
    // The gradient is sigmoid(z) - t everywhere, also at z = 0 where those of |z| and max(z, 0) are not defined: it
    // is attached to the value as that of a linear function of z.
    let z = logits.detach();
    let value = ((z.relu()? - (&z * f64::from(target))?)? + (z.abs()?.neg()?.exp()? + 1.)?.log()?)?;
    let sigmoid = (&z * 0.5)?.tanh()?.affine(0.5, 0.5)?;
    let derivative = (sigmoid - f64::from(target))?.detach();
    let linear = logits.mul(&derivative)?;
    ((value - linear.detach())?.detach() + linear)?.mean_all()
}

/// See [`crate::hinge`]; `side` is 1 or -1.
pub fn hinge(logits: &Tensor, side: f64) -> Result<Tensor> {
    let short = logits.affine(-side, 1.)?;
    let positive = short.detach().gt(0f32)?.to_dtype(DType::F32)?;
    short.mul(&positive)?.mean_all()
}

/// See [`crate::softmax_bce`].
pub fn softmax_bce(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let classes = logits.dim(1)?;
    let eps = f64::from(KERAS_EPSILON);
    let p = log_softmax(logits)?.exp()?.clamp(eps, 1. - eps)?;
    let ids = Tensor::arange(0u32, classes as u32, logits.device())?.unsqueeze(0)?;
    let is_target = ids.broadcast_eq(&targets.unsqueeze(1)?)?;
    // The probability given to what was the case: p for the target, 1 - p for the others.
    is_target.where_cond(&p, &p.affine(-1., 1.)?)?.log()?.mean_all()?.neg()
}

/// See [`crate::dropout`].
pub fn dropout(xs: &Tensor, mask: &DropoutMask) -> Result<Tensor> {
    let keep = mask.on(xs.device())?;
    let keep = match *xs.dims() {
        [b, c, h, w] => keep.reshape((b, h, w, c))?.permute((0, 3, 1, 2))?,
        ref dims => keep.reshape(dims)?,
    };
    let keep = keep.to_dtype(DType::F32)?;
    xs.mul(&(keep * f64::from(mask.scale()))?)
}

/// See [`crate::adam_update`].
pub(crate) fn adam_update(AdamUpdate { param, grad, m, v }: &AdamUpdate<'_>, numbers: &AdamNumbers) -> Result<()> {
    let AdamNumbers { b1, b2, c1, c2, rate, root, eps } = *numbers;
    let [b1, b2, c1, c2, rate, root, eps] = [b1, b2, c1, c2, rate, root, eps].map(f64::from);
    let new_m = ((m.as_detached_tensor() * b1)? + (*grad * c1)?)?;
    let new_v = ((v.as_detached_tensor() * b2)? + (grad.sqr()? * c2)?)?;
    let change = (&new_m * rate)?.div(&((new_v.sqrt()? * (1. / root))? + eps)?)?;
    m.set(&new_m)?;
    v.set(&new_v)?;
    param.set(&(param.as_detached_tensor() - change)?)
}

/// See [`crate::ema_update`].
pub(crate) fn ema_update(average: &Var, value: &Tensor, decay: f64) -> Result<()> {
    average.set(&((average.as_detached_tensor() * decay)? + (value.detach() * (1. - decay))?)?)
}

/// See [`crate::sgd_update`].
pub(crate) fn sgd_update(SgdUpdate { param, grad, velocity, l2 }: &SgdUpdate<'_>, step: &SgdStep) -> Result<()> {
    let SgdStep { lr, momentum, nesterov } = *step;
    let weight = param.as_detached_tensor();
    let change = ((*grad + (&weight * (2. * l2))?)? * -lr)?;
    let new = ((velocity.as_detached_tensor() * momentum)? + &change)?;
    let moved = if nesterov { ((&new * momentum)? + change)? } else { new.clone() };
    velocity.set(&new)?;
    param.set(&(weight + moved)?)
}
