//! The fully connected layer, by cuBLAS.

use super::bias::bias_gradient;
use super::op::{Gradients2, Gradients3, on_cpu};
use crate::gpu::{Ptr, args, elements, gpu, ptr, size};
use crate::product::Precision;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

const LINEAR: &str = "linear";

/// With a bias a ternary op, without one a binary op. Not made of closures as the others: the product is Candle's, which takes storage.
struct Linear;

impl Linear {
    fn forward(xs: (&CudaStorage, &Layout), weight: (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
        let ((b, features), (out, _)) = (xs.1.shape().dims2()?, weight.1.shape().dims2()?);
        allow_tf32();
        let ys = xs.0.matmul(weight.0, (1, b, out, features), xs.1, &weight.1.transpose(0, 1)?)?;
        Ok((ys, (b, out).into()))
    }

    fn gradients(xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        allow_tf32();
        let grad = grad.detach();
        let by_xs = if wants(xs) { Some(grad.matmul(&weight.detach())?) } else { None };
        let by_weight = if wants(weight) { Some(grad.t()?.matmul(&xs.detach())?) } else { None };
        Ok((by_xs, by_weight))
    }
}

/// Products are rounded to TF32 unless the precision in force is f32.
fn allow_tf32() {
    candle_core::cuda::set_gemm_reduced_precision_f32(Precision::current() != Precision::F32);
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        LINEAR
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(LINEAR)
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout, w: &CudaStorage, w_l: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::forward((x, x_l), (w, w_l))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        Self::gradients(x, w, grad)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        LINEAR
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_cpu(LINEAR)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_l: &Layout,
        w: &CudaStorage,
        w_l: &Layout,
        bias: &CudaStorage,
        bias_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (ys, shape) = Self::forward((x, x_l), (w, w_l))?;
        let (len, c) = (shape.elem_count(), size(bias_l.shape().elem_count())?);
        let (y, bias) = (ptr(LINEAR, &ys, &Layout::contiguous(&shape))?, ptr(LINEAR, bias, bias_l)?);
        gpu(&x.device)?.launch("add_in_place", elements(len)?, &args![y, bias, Ptr::NULL, size(len)?, c])?;
        Ok((ys, shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, bias: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        let (by_x, by_w) = Self::gradients(x, w, grad)?;
        Ok((by_x, by_w, bias_gradient(LINEAR, bias, grad)?))
    }
}

pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (xs, weight) = (contiguous(xs)?, contiguous(weight)?);
    match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, Linear),
        None => apply2(&xs, &weight, Linear),
    }
}
