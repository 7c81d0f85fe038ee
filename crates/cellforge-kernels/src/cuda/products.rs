//! Convolutions by cuDNN and matrix products by cuBLAS, as operations.

use super::conv::{Addend, conv_forward, conv_gradients, upsampled_forward, upsampled_gradients};
use super::op::{Gradients2, Gradients3, on_cpu};
use super::sums::bias_gradient;
use super::{Ptr, args, elements, gpu, ptr, size};
use crate::conv::Conv2dConfig;
use crate::layout::{channels_first, channels_last};
use crate::product::Precision;
use crate::tape::{apply2, apply3, contiguous, wants};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// A convolution with a bias or images to be added, or neither.
struct Conv {
    cfg: Conv2dConfig,
    /// Whether the third operand is images.
    adds_images: bool,
}

const CONV: &str = "conv2d";

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        CONV
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(CONV)
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout, w: &CudaStorage, w_l: &Layout) -> Result<(CudaStorage, Shape)> {
        conv_forward(CONV, (x, x_l), (w, w_l), Addend::Nothing, &self.cfg)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        conv_gradients(CONV, x, w, grad, &self.cfg)
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        CONV
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
        on_cpu(CONV)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_l: &Layout,
        w: &CudaStorage,
        w_l: &Layout,
        third: &CudaStorage,
        third_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let addend = if self.adds_images { Addend::Images(third, third_l) } else { Addend::Bias(third, third_l) };
        conv_forward(CONV, (x, x_l), (w, w_l), addend, &self.cfg)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, third: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        let (by_x, by_w) = conv_gradients(CONV, x, w, grad, &self.cfg)?;
        let by_third = if self.adds_images { Some(grad.clone()) } else { bias_gradient(CONV, third, grad)? };
        Ok((by_x, by_w, by_third))
    }
}

pub(crate) fn conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let (xs, weight, op) = (channels_last(xs)?, contiguous(weight)?, Conv { cfg: *cfg, adds_images: false });
    channels_first(&match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, op),
        None => apply2(&xs, &weight, op),
    }?)
}

pub(crate) fn conv2d_add(xs: &Tensor, weight: &Tensor, addend: &Tensor, cfg: &Conv2dConfig) -> Result<Tensor> {
    let op = Conv { cfg: *cfg, adds_images: true };
    channels_first(&apply3(&channels_last(xs)?, &contiguous(weight)?, &channels_last(addend)?, op)?)
}

struct Upsampled;

const UPSAMPLED: &str = "upsample2x_conv2d";

impl CustomOp2 for Upsampled {
    fn name(&self) -> &'static str {
        UPSAMPLED
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(UPSAMPLED)
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_l: &Layout, w: &CudaStorage, w_l: &Layout) -> Result<(CudaStorage, Shape)> {
        upsampled_forward(UPSAMPLED, (x, x_l), (w, w_l), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        upsampled_gradients(UPSAMPLED, x, w, grad)
    }
}

impl CustomOp3 for Upsampled {
    fn name(&self) -> &'static str {
        UPSAMPLED
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
        on_cpu(UPSAMPLED)
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
        upsampled_forward(UPSAMPLED, (x, x_l), (w, w_l), Some((bias, bias_l)))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, bias: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        let (by_x, by_w) = upsampled_gradients(UPSAMPLED, x, w, grad)?;
        Ok((by_x, by_w, bias_gradient(UPSAMPLED, bias, grad)?))
    }
}

pub(crate) fn upsample2x_conv2d(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (xs, weight) = (channels_last(xs)?, contiguous(weight)?);
    channels_first(&match bias {
        Some(bias) => apply3(&xs, &weight, &contiguous(bias)?, Upsampled),
        None => apply2(&xs, &weight, Upsampled),
    }?)
}

const LINEAR: &str = "linear";

/// The fully connected layer, by cuBLAS, whose products are rounded to TF32 unless the precision in force is f32.
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
