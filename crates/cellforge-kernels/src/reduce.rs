//! Sums and means of all elements, each a scalar. The arrays are small, so that the CPU kernel works in `f64` on one thread.

use crate::arithmetic::{sqr, sub};
use crate::check::{f32_only, slice};
use crate::device::on_device;
use crate::tape::{apply1, contiguous};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// The mean of all elements, of which there must be one at least; `xs` may have any shape, and the result is a scalar.
pub fn mean(xs: &Tensor) -> Result<Tensor> {
    check("mean", xs)?;
    on_device!(
        xs.device(),
        cpu = apply1(&contiguous(xs)?, Reduce { name: "mean", divisor: xs.elem_count() }),
        cuda = crate::cuda::row_loss(crate::cuda::MEAN, &matrix(xs)?, None, 0.),
        composed = xs.mean_all(),
    )
}

/// The sum of all elements; `xs` may have any shape but must not be empty, and the result is a scalar.
pub fn sum(xs: &Tensor) -> Result<Tensor> {
    check("sum", xs)?;
    on_device!(
        xs.device(),
        cpu = apply1(&contiguous(xs)?, Reduce { name: "sum", divisor: 1 }),
        cuda = crate::cuda::scale(&mean(xs)?, xs.elem_count() as f32),
        composed = xs.sum_all(),
    )
}

/// The mean squared error: the mean of `(xs - ys)^2` over all elements of two tensors of one shape, a scalar.
pub fn mse(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    mean(&sqr(&sub(xs, ys)?)?)
}

fn check(op: &str, xs: &Tensor) -> Result<()> {
    f32_only(op, &[("xs", xs)])?;
    if xs.elem_count() == 0 {
        bail!("{op}: xs has shape {:?}, which is empty", xs.dims());
    }
    Ok(())
}

/// The elements as the kernel takes them, in rows of which each is summed by itself.
#[cfg(feature = "cuda")]
fn matrix(xs: &Tensor) -> Result<Tensor> {
    let cols = xs.dims().last().copied().unwrap_or(1);
    crate::tape::reshape(xs, &[xs.elem_count() / cols, cols])
}

/// The sum of all elements, over a divisor.
struct Reduce {
    name: &'static str,
    divisor: usize,
}

impl CustomOp1 for Reduce {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = slice::<f32>(self.name, storage, layout)?;
        let cols = layout.dims().last().copied().unwrap_or(1);
        let sum: f64 = xs.chunks(cols).map(|row| row.iter().map(|&x| f64::from(x)).sum::<f64>()).sum();
        Ok((CpuStorage::F32(vec![(sum / self.divisor as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let each = (f64::from(grad.to_scalar::<f32>()?) / self.divisor as f64) as f32;
        Ok(Some(Tensor::from_vec(vec![each; xs.elem_count()], xs.shape(), xs.device())?))
    }
}
