//! The fully connected layer, by cuBLAS.

use super::bias::bias_gradient;
use super::op::{Gradients2, Gradients3, on_cpu};
use crate::gpu::{Ptr, args, elements, gpu, ptr, size};
use crate::product::Precision;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use std::sync::{Mutex, PoisonError};

const LINEAR: &str = "linear";

/// With a bias a ternary op, without one a binary op. Not made of closures as the others: the product is Candle's, which takes storage.
struct Linear(Precision);

impl Linear {
    fn forward(&self, xs: (&CudaStorage, &Layout), weight: (&CudaStorage, &Layout)) -> Result<(CudaStorage, Shape)> {
        let ((b, features), (out, _)) = (xs.1.shape().dims2()?, weight.1.shape().dims2()?);
        let turned = weight.1.transpose(0, 1)?;
        let ys = in_precision(self.0, || xs.0.matmul(weight.0, (1, b, out, features), xs.1, &turned))?;
        Ok((ys, (b, out).into()))
    }

    fn gradients(&self, xs: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        let grad = grad.detach();
        in_precision(self.0, || {
            let by_xs = if wants(xs) { Some(grad.matmul(&weight.detach())?) } else { None };
            let by_weight = if wants(weight) { Some(grad.t()?.matmul(&xs.detach())?) } else { None };
            Ok((by_xs, by_weight))
        })
    }
}

/// Starts `products` with their factors rounded to TF32, unless they are to be of f32. Candle has one switch for the whole process: others
/// that ask for products here wait meanwhile, and it is put back for Candle's own.
fn in_precision<T>(precision: Precision, products: impl FnOnce() -> Result<T>) -> Result<T> {
    use candle_core::cuda::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};
    static SWITCH: Mutex<()> = Mutex::new(());
    let _held = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
    let before = gemm_reduced_precision_f32();
    set_gemm_reduced_precision_f32(!precision.is_f32());
    let made = products();
    set_gemm_reduced_precision_f32(before);
    made
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        LINEAR
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(LINEAR)
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout, w: &CudaStorage, w_l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward((x, x_l), (w, w_l))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        self.gradients(x, w, grad)
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
        let (ys, shape) = self.forward((x, x_l), (w, w_l))?;
        let (len, c) = (shape.elem_count(), size(bias_l.shape().elem_count())?);
        let (y, bias) = (ptr(LINEAR, &ys, &Layout::contiguous(&shape))?, ptr(LINEAR, bias, bias_l)?);
        gpu(&x.device)?.launch("add_in_place", elements(len)?, &args![y, bias, Ptr::NULL, size(len)?, c])?;
        Ok((ys, shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, bias: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        let (by_x, by_w) = self.gradients(x, w, grad)?;
        Ok((by_x, by_w, bias_gradient(LINEAR, bias, grad)?))
    }
}

pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Tensor> {
    let (xs, weight) = (contiguous(xs)?, contiguous(weight)?);
    match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, Linear(precision)),
        None => apply2(&xs, &weight, Linear(precision)),
    }
}
