//! Losses, each the mean over the batch. The arrays are small, so that the CPU kernels work in `f64` on one thread.

use crate::check::{f32_only, matrix, slice};
use crate::composed;
use crate::config::KERAS_EPSILON;
use crate::device::on_device;
use crate::gather::with_slice;
use crate::tape::{apply1, contiguous};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

/// Softmax cross-entropy: the mean over the batch of `-log softmax(logits)[target]`. `logits` is `(b, k)`, `targets`
/// `(b)` of `u32` below `k`, and the result a scalar. On a GPU, where looking at the targets would hold up the work, one that is no class
/// is no error but makes the result NaN.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_targets("cross_entropy", logits, targets)?;
    on_device!(
        logits.device(),
        cpu = apply1(&contiguous(logits)?, RowLoss::CrossEntropy(class_ids("cross_entropy", logits, targets)?)),
        cuda = crate::cuda::row_loss(crate::cuda::CROSS_ENTROPY, logits, Some(targets), 0.),
        composed = {
            class_ids("cross_entropy", logits, targets)?;
            composed::cross_entropy(logits, targets)
        },
    )
}

/// Keras's `binary_crossentropy` of `softmax(logits)` against one-hot targets, as the study trains its ResNet: the
/// mean over batch and classes of `-log p` for the target and `-log(1 - p)` for the others, with `p` clipped to
/// `[1e-7, 1 - 1e-7]`. A clipped probability passes no gradient. Shapes as in [`cross_entropy`].
pub fn softmax_bce(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_targets("softmax_bce", logits, targets)?;
    on_device!(
        logits.device(),
        cpu = apply1(&contiguous(logits)?, RowLoss::SoftmaxBce(class_ids("softmax_bce", logits, targets)?)),
        cuda = crate::cuda::row_loss(crate::cuda::SOFTMAX_BCE, logits, Some(targets), KERAS_EPSILON),
        composed = {
            class_ids("softmax_bce", logits, targets)?;
            composed::softmax_bce(logits, targets)
        },
    )
}

/// Binary cross-entropy of `sigmoid(logits)` against one target for all: the mean of
/// `-t log p - (1 - t) log(1 - p)`. `logits` is `(b, 1)`, `target` lies in `[0, 1]`, and the result is a scalar.
pub fn bce_with_logits(logits: &Tensor, target: f32) -> Result<Tensor> {
    let op = "bce_with_logits";
    f32_only(op, &[("logits", logits)])?;
    matrix(op, "logits", logits)?;
    if !(0. ..=1.).contains(&target) {
        bail!("{op}: the target is {target}, expected a probability");
    }
    on_device!(
        logits.device(),
        cpu = apply1(&contiguous(logits)?, RowLoss::BceWithLogits(f64::from(target))),
        cuda = crate::cuda::row_loss(crate::cuda::BCE, logits, None, target),
        composed = composed::bce_with_logits(logits, target),
    )
}

/// The hinge loss of logits `(b, 1)` against one side for all: the mean of `max(0, 1 - z)` where they are to be `positive`, and of
/// `max(0, 1 + z)` otherwise (Lim and Ye 2017). The gradient at the hinge is 0. The result is a scalar.
pub fn hinge(logits: &Tensor, positive: bool) -> Result<Tensor> {
    f32_only("hinge", &[("logits", logits)])?;
    matrix("hinge", "logits", logits)?;
    let side = if positive { 1. } else { -1. };
    on_device!(
        logits.device(),
        cpu = apply1(&contiguous(logits)?, RowLoss::Hinge(side)),
        cuda = crate::cuda::row_loss(crate::cuda::HINGE, logits, None, side as f32),
        composed = composed::hinge(logits, side),
    )
}

/// Checks the types and shapes of a classification loss.
fn check_targets(op: &str, logits: &Tensor, targets: &Tensor) -> Result<()> {
    f32_only(op, &[("logits", logits)])?;
    let (b, _) = matrix(op, "logits", logits)?;
    if targets.dtype() != DType::U32 || targets.dims() != [b] {
        bail!("{op}: targets are {:?} of shape {:?}, expected U32 of shape [{b}]", targets.dtype(), targets.dims());
    }
    Ok(())
}

/// The targets, each of which must be a class.
fn class_ids(op: &str, logits: &Tensor, targets: &Tensor) -> Result<Vec<u32>> {
    let k = logits.dim(1)?;
    let ids = targets.to_vec1::<u32>()?;
    match ids.iter().find(|&&id| id as usize >= k) {
        Some(id) => bail!("{op}: target {id} is not below the number of classes, {k}"),
        None => Ok(ids),
    }
}

/// A loss that is the mean of a function of the rows of a matrix.
enum RowLoss {
    CrossEntropy(Vec<u32>),
    SoftmaxBce(Vec<u32>),
    BceWithLogits(f64),
    Hinge(f64),
}

impl RowLoss {
    /// The loss of row `i` (before the mean is taken) and, into `grad`, its gradient.
    fn row(&self, i: usize, row: &[f32], grad: &mut [f64]) -> f64 {
        match self {
            Self::CrossEntropy(ids) => {
                let target = ids[i] as usize;
                let log_sum = softmax(row, grad);
                grad[target] -= 1.;
                log_sum - f64::from(row[target])
            }
            Self::SoftmaxBce(ids) => softmax_bce_row(row, ids[i] as usize, grad),
            Self::BceWithLogits(target) => {
                let mut loss = 0.;
                for (g, &z) in grad.iter_mut().zip(row) {
                    let z = f64::from(z);
                    *g = 1. / (1. + (-z).exp()) - target;
                    loss += z.max(0.) - z * target + (-z.abs()).exp().ln_1p();
                }
                loss
            }
            Self::Hinge(side) => {
                let mut loss = 0.;
                for (g, &z) in grad.iter_mut().zip(row) {
                    let short = (1. - side * f64::from(z)).max(0.);
                    *g = if short > 0. { -side } else { 0. };
                    loss += short;
                }
                loss
            }
        }
    }

    /// By what the sum over the rows is divided.
    fn count(&self, rows: usize, cols: usize) -> f64 {
        match self {
            Self::CrossEntropy(_) => rows as f64,
            Self::SoftmaxBce(_) | Self::BceWithLogits(_) | Self::Hinge(_) => (rows * cols) as f64,
        }
    }
}

/// Writes the softmax of `row` to `p` and returns the logarithm of the sum of exponentials.
fn softmax(row: &[f32], p: &mut [f64]) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, &z| m.max(f64::from(z)));
    let sum: f64 = row.iter().map(|&z| (f64::from(z) - max).exp()).sum();
    for (p, &z) in p.iter_mut().zip(row) {
        *p = (f64::from(z) - max).exp() / sum;
    }
    max + sum.ln()
}

fn softmax_bce_row(row: &[f32], target: usize, grad: &mut [f64]) -> f64 {
    let eps = f64::from(KERAS_EPSILON);
    softmax(row, grad);
    let p = grad.to_vec();
    let total: f64 = p.iter().sum();
    let mut loss = 0.;
    // The derivative of the loss by each probability, before the softmax.
    let derivatives: Vec<f64> = (0..p.len())
        .map(|j| {
            let q = if j == target { p[j] } else { total - p[j] };
            let clipped = q.clamp(eps, 1. - eps);
            loss -= clipped.ln();
            let inside = if q == clipped { 1. / clipped } else { 0. };
            if j == target { -inside } else { inside }
        })
        .collect();
    let mean: f64 = derivatives.iter().zip(&p).map(|(s, p)| s * p).sum();
    for ((g, derivative), p) in grad.iter_mut().zip(&derivatives).zip(&p) {
        *g = p * (derivative - mean);
    }
    loss
}

impl CustomOp1 for RowLoss {
    fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy(_) => "cross_entropy",
            Self::SoftmaxBce(_) => "softmax_bce",
            Self::BceWithLogits(_) => "bce_with_logits",
            Self::Hinge(_) => "hinge",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = slice(self.name(), storage, layout)?;
        let (rows, cols) = layout.shape().dims2()?;
        let mut grad = vec![0.; cols];
        let sum: f64 = logits.chunks(cols).enumerate().map(|(i, row)| self.row(i, row, &mut grad)).sum();
        Ok((CpuStorage::F32(vec![(sum / self.count(rows, cols)) as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _res: &Tensor, grad_res: &Tensor) -> Result<Option<Tensor>> {
        let (rows, cols) = logits.dims2()?;
        let scale = f64::from(grad_res.to_scalar::<f32>()?) / self.count(rows, cols);
        let grad = with_slice(self.name(), logits, |logits| {
            let mut row_grad = vec![0.; cols];
            let mut grad = Vec::with_capacity(logits.len());
            for (i, row) in logits.chunks(cols).enumerate() {
                self.row(i, row, &mut row_grad);
                grad.extend(row_grad.iter().map(|g| (g * scale) as f32));
            }
            Ok(grad)
        })?;
        Ok(Some(Tensor::from_vec(grad, logits.shape(), logits.device())?))
    }
}
