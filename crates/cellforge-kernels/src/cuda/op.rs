//! Operations as Candle and the tape take them, by their two passes.

use crate::gpu::{Buffer, Gpu, Ptr, gpu, ptr};
use crate::tape::BackwardAdding;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// An operation by its two passes. The forward pass gets the addresses and shapes of its contiguous operands; the backward one gets the
/// operands, the result and its gradient.
pub(super) struct Kernel<F, B> {
    name: &'static str,
    forward: F,
    backward: B,
}

pub(super) fn on_cpu<T>(name: &str) -> Result<T> {
    bail!("{name}: a kernel for a GPU was given tensors of the CPU")
}

pub(super) fn kernel1<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
where
    F: Fn(&Gpu, Ptr, &Layout) -> Result<(Buffer, Shape)>,
    B: Fn(&Tensor, &Tensor, &Tensor) -> Result<Option<Tensor>>,
{
    Kernel { name, forward, backward }
}

impl<F, B> CustomOp1 for Kernel<F, B>
where
    F: Fn(&Gpu, Ptr, &Layout) -> Result<(Buffer, Shape)>,
    B: Fn(&Tensor, &Tensor, &Tensor) -> Result<Option<Tensor>>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(self.name)
    }

    fn cuda_fwd(&self, xs: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (ys, shape) = (self.forward)(&*gpu(&xs.device)?, ptr(self.name, xs, layout)?, layout)?;
        Ok((ys.storage(), shape))
    }

    fn bwd(&self, xs: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(xs, ys, grad)
    }
}

pub(super) type Gradients2 = (Option<Tensor>, Option<Tensor>);
pub(super) type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

pub(super) fn kernel2<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
where
    F: Fn(&Gpu, [Ptr; 2], [&Layout; 2]) -> Result<(Buffer, Shape)>,
    B: Fn([&Tensor; 2], &Tensor, &Tensor) -> Result<Gradients2>,
{
    Kernel { name, forward, backward }
}

impl<F, B> CustomOp2 for Kernel<F, B>
where
    F: Fn(&Gpu, [Ptr; 2], [&Layout; 2]) -> Result<(Buffer, Shape)>,
    B: Fn([&Tensor; 2], &Tensor, &Tensor) -> Result<Gradients2>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_cpu(self.name)
    }

    fn cuda_fwd(&self, a: &CudaStorage, a_l: &Layout, b: &CudaStorage, b_l: &Layout) -> Result<(CudaStorage, Shape)> {
        let ptrs = [ptr(self.name, a, a_l)?, ptr(self.name, b, b_l)?];
        let (ys, shape) = (self.forward)(&*gpu(&a.device)?, ptrs, [a_l, b_l])?;
        Ok((ys.storage(), shape))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Gradients2> {
        (self.backward)([a, b], ys, grad)
    }
}

pub(super) fn kernel3<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
where
    F: Fn(&Gpu, [Ptr; 3], [&Layout; 3]) -> Result<(Buffer, Shape)>,
    B: Fn([&Tensor; 3], &Tensor, &Tensor, Option<&Tensor>) -> Result<Gradients3>,
{
    Kernel { name, forward, backward }
}

impl<F, B> CustomOp3 for Kernel<F, B>
where
    F: Fn(&Gpu, [Ptr; 3], [&Layout; 3]) -> Result<(Buffer, Shape)>,
    B: Fn([&Tensor; 3], &Tensor, &Tensor, Option<&Tensor>) -> Result<Gradients3>,
{
    fn name(&self) -> &'static str {
        self.name
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
        on_cpu(self.name)
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_l: &Layout,
        b: &CudaStorage,
        b_l: &Layout,
        c: &CudaStorage,
        c_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let ptrs = [ptr(self.name, a, a_l)?, ptr(self.name, b, b_l)?, ptr(self.name, c, c_l)?];
        let (ys, shape) = (self.forward)(&*gpu(&a.device)?, ptrs, [a_l, b_l, c_l])?;
        Ok((ys.storage(), shape))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, ys: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        (self.backward)([a, b, c], ys, grad, None)
    }
}

impl<F, B> BackwardAdding for Kernel<F, B>
where
    F: Fn(&Gpu, [Ptr; 3], [&Layout; 3]) -> Result<(Buffer, Shape)>,
    B: Fn([&Tensor; 3], &Tensor, &Tensor, Option<&Tensor>) -> Result<Gradients3>,
{
    fn bwd_adding(&self, args: [&Tensor; 3], grad: &Tensor, more: &Tensor) -> Result<Gradients3> {
        // The result is not kept, and no operation that adds needs it.
        (self.backward)(args, grad, grad, Some(more))
    }
}
