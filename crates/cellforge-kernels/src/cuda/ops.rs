//! The operations of this crate on a GPU: which kernels each launches, forward and backward. Their arguments have been checked by the
//! functions of the crate root; what they compute is said there.

use super::conv::{Addend, conv_forward, conv_gradients, upsampled_forward, upsampled_gradients};
use super::{
    Buffer, Gpu, LANES, Ptr, ROWS, args, bytes_ptr, channels, elements, gpu, gpu_of, ptr, size, with_ptrs,
};
use crate::conv::Conv2dConfig;
use crate::layout::{channels_first, channels_last, elementwise};
use crate::modulate::DEMODULATION_EPS;
use crate::optim::{AdamNumbers, SgdNumbers};
use crate::pool::Windows;
use crate::product::Precision;
use crate::tape::{BackwardAdding, apply1, apply2, apply3, apply3_adding, contiguous, wants};
use crate::{BatchStats, DropoutMask, ImageMap};
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, Var, bail,
};
use cudarc::driver::LaunchConfig;

/// An operation by its two passes. The forward pass gets the addresses and shapes of its contiguous operands; the backward one gets the
/// operands, the result and its gradient.
struct Kernel<F, B> {
    name: &'static str,
    forward: F,
    backward: B,
}

fn on_cpu<T>(name: &str) -> Result<T> {
    bail!("{name}: a kernel for a GPU was given tensors of the CPU")
}

fn kernel1<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
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

type Gradients2 = (Option<Tensor>, Option<Tensor>);
type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

fn kernel2<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
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

fn kernel3<F, B>(name: &'static str, forward: F, backward: B) -> Kernel<F, B>
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

// ---- Layouts and sums of gradients ----

impl Gpu {
    /// `(images, rows, cols)` to `(images, cols, rows)`.
    pub(super) fn transpose(&self, from: Ptr, to: Ptr, images: usize, rows: usize, cols: usize) -> Result<()> {
        const MOST_IMAGES: usize = 65_535;
        if images > MOST_IMAGES {
            bail!("a batch of {images} images is too large for a GPU, which takes {MOST_IMAGES}");
        }
        let config = LaunchConfig {
            grid_dim: (size(cols.div_ceil(LANES))?, size(rows.div_ceil(LANES))?, size(images)?),
            block_dim: (LANES as u32, ROWS as u32, 1),
            shared_mem_bytes: 0,
        };
        self.launch("transpose", config, &args![from, to, size(rows)?, size(cols)?])
    }

    /// Runs a kernel that sums over the rows of `(rows, c)` in parts, and one that adds these up.
    fn sum_rows<const N: usize, const M: usize>(
        &self,
        [first, second]: [&'static str; 2],
        (rows, c): (usize, usize),
        first_args: impl FnOnce(&Buffer, [u32; 3]) -> [super::Arg; N],
        second_args: impl FnOnce(&Buffer, [u32; 2]) -> [super::Arg; M],
    ) -> Result<()> {
        // Enough blocks to fill a large GPU, and enough rows in each that they are worth it.
        const BLOCKS: usize = 1024;
        const LEAST_ROWS: usize = 4 * ROWS;
        let wanted = (BLOCKS / c.div_ceil(LANES)).max(1);
        let rows_a_part = rows.div_ceil(wanted).max(LEAST_ROWS);
        let parts = rows.div_ceil(rows_a_part);
        let sums = self.buffer(parts * 2 * c)?;
        let sizes = [size(rows)?, size(c)?, size(rows_a_part)?];
        self.launch(first, channels(c, parts)?, &first_args(&sums, sizes))?;
        self.launch(second, channels(c, 1)?, &second_args(&sums, [size(parts)?, size(c)?]))
    }

    /// The sum of each channel of `(rows, c)`.
    fn channel_sums(&self, xs: Ptr, rows: usize, c: usize) -> Result<Buffer> {
        let out = self.buffer(c)?;
        self.sum_rows(
            ["channel_sums", "channel_sums_total"],
            (rows, c),
            |parts, [rows, c, rows_a_part]| args![xs, parts, rows, c, rows_a_part],
            |parts, [count, c]| args![parts, &out, count, c],
        )?;
        Ok(out)
    }
}

/// The images of a contiguous tensor as matrices, each transposed: `(images, rows, cols)` to `(images, cols, rows)` in the given shape.
pub(crate) fn transposed(xs: &Tensor, images: usize, rows: usize, cols: usize, shape: &Shape) -> Result<Tensor> {
    with_ptrs("layout", [xs], |gpu, [xs]| {
        let ys = gpu.buffer(images * rows * cols)?;
        gpu.transpose(xs, ys.ptr, images, rows, cols)?;
        Ok(ys.tensor(shape))
    })
}

/// The sum of two tensors whose elements are in one order, in the shape of the first.
pub(crate) fn sum_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let len = a.elem_count();
    with_ptrs("add", [a, b], |gpu, [x, y]| Ok(gpu.map("add", len, |out, n| args![x, y, out, n])?.tensor(a.shape())))
}

/// The gradient of a bias that was added to each channel, where it is asked for.
fn bias_gradient(op: &str, bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !wants(bias) {
        return Ok(None);
    }
    let c = bias.elem_count();
    let sums = with_ptrs(op, [grad], |gpu, [g]| gpu.channel_sums(g, grad.elem_count() / c, c))?;
    Ok(Some(sums.tensor(bias.shape())))
}

// ---- Elements ----

/// A mask in the memory of a device, of elements as they lie in images `(b, h, w, c)`.
fn mask_on(mask: Option<&DropoutMask>, device: &Device) -> Result<(Option<Tensor>, f32)> {
    match mask {
        Some(mask) => Ok((Some(mask.on(device)?), mask.scale())),
        None => Ok((None, 1.)),
    }
}

/// Applies an operation to images in their order in memory, to others as they are.
fn in_order(xs: &Tensor, op: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match xs.rank() {
        4 => channels_first(&op(&channels_last(xs)?)?),
        _ => op(&contiguous(xs)?),
    }
}

/// `grad` through a leaky ReLU at `at` and a mask.
fn leaky_slope(op: &str, at: &Tensor, grad: &Tensor, keep: Option<&Tensor>, slope: f32, scale: f32) -> Result<Tensor> {
    let keep = bytes_ptr(op, keep)?;
    with_ptrs(op, [at, grad], |gpu, [at_ptr, g]| {
        let out = gpu
            .map("leaky_relu_slope", at.elem_count(), |out, n| args![at_ptr, g, keep, out, n, slope, scale])?;
        Ok(out.tensor(at.shape()))
    })
}

pub(crate) fn leaky_relu(name: &'static str, xs: &Tensor, slope: f32, mask: Option<&DropoutMask>) -> Result<Tensor> {
    let (keep, scale) = mask_on(mask, xs.device())?;
    let kept = keep.clone();
    let op = kernel1(
        name,
        move |gpu, x, layout| {
            let keep = bytes_ptr(name, keep.as_ref())?;
            let len = layout.shape().elem_count();
            let ys = gpu.map("leaky_relu", len, |ys, n| args![x, keep, ys, n, slope, scale])?;
            Ok((ys, layout.shape().clone()))
        },
        move |xs, _, grad| leaky_slope(name, xs, grad, kept.as_ref(), slope, scale).map(Some),
    );
    match mask {
        Some(_) => in_order(xs, |xs| apply1(xs, op)),
        None => elementwise(xs, |xs| apply1(xs, op)),
    }
}

pub(crate) fn leaky_relu_tangent(xs: &Tensor, at: &Tensor, slope: f32) -> Result<Tensor> {
    const NAME: &str = "leaky_relu_tangent";
    let at = match xs.rank() {
        4 => channels_last(&at.detach())?,
        _ => contiguous(&at.detach())?,
    };
    let kept = at.clone();
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let ys = with_ptrs(NAME, [&at], |_, [at]| {
                let len = layout.shape().elem_count();
                gpu.map("leaky_relu_slope", len, |ys, n| args![at, x, Ptr::NULL, ys, n, slope, 1f32])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |_, _, grad| leaky_slope(NAME, &kept, grad, None, slope, 1.).map(Some),
    );
    in_order(xs, |xs| apply1(xs, op))
}

pub(crate) fn tanh(xs: &Tensor) -> Result<Tensor> {
    let op = kernel1(
        "tanh",
        |gpu, x, layout| {
            let ys = gpu.map("tanh_forward", layout.shape().elem_count(), |ys, n| args![x, ys, n])?;
            Ok((ys, layout.shape().clone()))
        },
        |_, ys, grad| {
            with_ptrs("tanh", [ys, grad], |gpu, [y, g]| {
                let out = gpu.map("tanh_gradient", ys.elem_count(), |out, n| args![y, g, out, n])?;
                Ok(Some(out.tensor(ys.shape())))
            })
        },
    );
    elementwise(xs, |xs| apply1(xs, op))
}

pub(crate) fn dropout(xs: &Tensor, mask: &DropoutMask) -> Result<Tensor> {
    let (keep, scale) = (mask.on(xs.device())?, mask.scale());
    let kept = keep.clone();
    let dropped = move |gpu: &Gpu, x: Ptr, keep: &Tensor| {
        let keep_ptr = bytes_ptr("dropout", Some(keep))?;
        gpu.map("dropout", keep.elem_count(), |ys, n| args![x, keep_ptr, ys, n, scale])
    };
    let op = kernel1(
        "dropout",
        move |gpu, x, layout| Ok((dropped(gpu, x, &keep)?, layout.shape().clone())),
        move |xs, _, grad| {
            let out = with_ptrs("dropout", [grad], |gpu, [g]| dropped(gpu, g, &kept))?;
            Ok(Some(out.tensor(xs.shape())))
        },
    );
    in_order(xs, |xs| apply1(xs, op))
}

/// The bytes of a mask that the host would draw: 16 bits of a ChaCha generator with 12 rounds decide over each element, and each `chunk`
/// of elements has a stream of its own.
pub(crate) fn drawn_mask(device: &Device, seed: &[u8; 32], len: usize, chunk: usize, threshold: u32) -> Result<Tensor> {
    use candle_core::Storage;
    use candle_core::op::BackpropOp;
    let gpu = gpu(device.as_cuda_device()?)?;
    let words: [u32; 8] = std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|k| seed[4 * i + k])));
    let [a, b, c, d, e, f, g, h] = words;
    #[expect(unsafe_code, reason = "the contents are arbitrary")]
    // SAFETY: the kernel writes all of them.
    let keep = unsafe { device.as_cuda_device()?.alloc::<u8>(len)? };
    let address = gpu.address(&keep);
    // A thread draws 32 elements.
    gpu.launch(
        "dropout_mask",
        elements(len.div_ceil(32))?,
        &args![address, size(len)?, size(chunk)?, threshold, a, b, c, d, e, f, g, h],
    )?;
    let storage = CudaStorage::wrap_cuda_slice(keep, device.as_cuda_device()?.clone());
    Ok(Tensor::from_storage(Storage::Cuda(storage), len, BackpropOp::none(), false))
}

pub(crate) fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    let op = kernel2(
        "add",
        |gpu, [a, b], [layout, _]| {
            let sum = gpu.map("add", layout.shape().elem_count(), |out, n| args![a, b, out, n])?;
            Ok((sum, layout.shape().clone()))
        },
        |_, _, grad| Ok((Some(grad.clone()), Some(grad.clone()))),
    );
    match crate::layout::is_channels_last(xs) || crate::layout::is_channels_last(ys) {
        true => channels_first(&apply2(&channels_last(xs)?, &channels_last(ys)?, op)?),
        false => apply2(&contiguous(xs)?, &contiguous(ys)?, op),
    }
}

pub(crate) fn scale(xs: &Tensor, factor: f32) -> Result<Tensor> {
    let scaled = move |gpu: &Gpu, x: Ptr, len: usize| gpu.map("scale", len, |ys, n| args![x, ys, n, factor]);
    let op = kernel1(
        "scale",
        move |gpu, x, layout| Ok((scaled(gpu, x, layout.shape().elem_count())?, layout.shape().clone())),
        move |xs, _, grad| {
            let out = with_ptrs("scale", [grad], |gpu, [g]| scaled(gpu, g, grad.elem_count()))?;
            Ok(Some(out.tensor(xs.shape())))
        },
    );
    elementwise(xs, |xs| apply1(xs, op))
}

// ---- Convolutions and products ----

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

// ---- Batch norm ----

/// Mean and inverse deviation of each channel, in the memory of a device.
#[derive(Clone)]
struct Stats {
    mean: Tensor,
    inv_std: Tensor,
    /// Whether they are those of the images themselves, so that the gradient goes through them.
    of_batch: bool,
}

/// Normalisation of images `(b, h, w, c)`, an activation, and a mask.
fn normalised(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: Stats,
    slope: f32,
    mask: Option<&DropoutMask>,
) -> Result<Tensor> {
    let name = if stats.of_batch { "batch_norm_train" } else { "batch_norm_eval" };
    let (keep, scale) = mask_on(mask, xs.device())?;
    let (kept, known) = (keep.clone(), stats.clone());
    let op = kernel3(
        name,
        move |gpu, [x, gamma, beta], [layout, gamma_l, _]| {
            let (len, c) = (layout.shape().elem_count(), size(gamma_l.shape().elem_count())?);
            let keep = bytes_ptr(name, keep.as_ref())?;
            let ys = with_ptrs(name, [&stats.mean, &stats.inv_std], |_, [mean, inv_std]| {
                gpu.map("normalise", len, |ys, n| args![x, mean, inv_std, gamma, beta, keep, ys, n, c, slope, scale])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |[xs, gamma, beta], _, grad, more| {
            let rows = xs.elem_count() / gamma.elem_count();
            let share = if known.of_batch { 1. / rows as f32 } else { 0. };
            let keep = bytes_ptr(name, kept.as_ref())?;
            let operands = [xs, grad, &known.mean, &known.inv_std, gamma, beta];
            let wanted = [xs, gamma, beta].map(wants);
            with_ptrs(name, operands, |gpu, [x, g, mean, inv_std, gamma_ptr, beta_ptr]| {
                let c = gamma.elem_count();
                let (by_beta, by_gamma) = (gpu.buffer(c)?, gpu.buffer(c)?);
                gpu.sum_rows(
                    ["normalise_products", "normalise_products_total"],
                    (rows, c),
                    |parts, [rows, c, rows_a_part]| {
                        args![x, g, mean, inv_std, gamma_ptr, beta_ptr, keep, parts, rows, c, rows_a_part, slope, scale]
                    },
                    |parts, [count, c]| args![parts, inv_std, &by_beta, &by_gamma, count, c],
                )?;
                let gradient = |more: Option<Ptr>| {
                    let c = size(c)?;
                    let out = gpu.map("normalise_gradient", xs.elem_count(), |out, n| {
                        args![
                            x, g, mean, inv_std, gamma_ptr, beta_ptr, &by_beta, &by_gamma, keep, more, out, n, c, slope,
                            scale, share
                        ]
                    })?;
                    Ok(out.tensor(xs.shape()))
                };
                let by_xs = match (wanted[0], more) {
                    (false, _) => None,
                    (true, None) => Some(gradient(None)?),
                    (true, Some(more)) => Some(with_ptrs(name, [more], |_, [more]| gradient(Some(more)))?),
                };
                let shape = gamma.shape();
                let of = |wanted: bool, sums: Buffer| wanted.then(|| sums.tensor(shape));
                Ok((by_xs, of(wanted[1], by_gamma), of(wanted[2], by_beta)))
            })
        },
    );
    channels_first(&apply3_adding(xs, &contiguous(gamma)?, &contiguous(beta)?, op)?)
}

pub(crate) fn batch_norm_train(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    slope: f32,
    mask: Option<&DropoutMask>,
) -> Result<(Tensor, BatchStats)> {
    let xs = channels_last(xs)?;
    let c = gamma.elem_count();
    let rows = xs.elem_count() / c;
    let [mean, inv_std, var_unbiased] = with_ptrs("batch_norm_train", [&xs], |gpu, [x]| {
        let (mean, inv_std, var) = (gpu.buffer(c)?, gpu.buffer(c)?, gpu.buffer(c)?);
        let all_rows = size(rows)?;
        gpu.sum_rows(
            ["batch_statistics", "batch_statistics_total"],
            (rows, c),
            |parts, [rows, c, rows_a_part]| args![x, parts, rows, c, rows_a_part],
            |parts, [count, c]| args![x, parts, &mean, &inv_std, &var, count, all_rows, c, eps as f32],
        )?;
        Ok([mean, inv_std, var].map(|buffer| buffer.tensor(c)))
    })?;
    let stats = Stats { mean: mean.clone(), inv_std, of_batch: true };
    Ok((normalised(&xs, gamma, beta, stats, slope, mask)?, BatchStats { mean, var_unbiased }))
}

pub(crate) fn batch_norm_eval(
    xs: &Tensor,
    [gamma, beta, mean, var]: [&Tensor; 4],
    eps: f64,
    slope: f32,
) -> Result<Tensor> {
    let inv_std = with_ptrs("batch_norm_eval", [&var.detach()], |gpu, [var_ptr]| {
        let out = gpu.map("inverse_deviation", var.elem_count(), |out, n| args![var_ptr, out, n, eps as f32])?;
        Ok(out.tensor(var.shape()))
    })?;
    // A copy: the running mean may move before the gradient is asked for.
    let stats = Stats { mean: mean.detach().copy()?, inv_std, of_batch: false };
    normalised(&channels_last(xs)?, gamma, beta, stats, slope, None)
}

// ---- Pools and sizes ----

/// The numbers of pixels of an operation on images: their heights, widths and channels before and after.
struct Sizes {
    from: (usize, usize, usize, usize),
    to: (usize, usize),
}

impl Sizes {
    /// The sizes as kernels take them.
    fn ints(&self) -> Result<[i32; 5]> {
        let (_, h, w, c) = self.from;
        let int = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
        Ok([int(h)?, int(w)?, int(c)?, int(self.to.0)?, int(self.to.1)?])
    }

    fn out_shape(&self) -> Shape {
        (self.from.0, self.to.0, self.to.1, self.from.3).into()
    }
}

fn pool_sizes(xs: &Shape, windows: &Windows) -> Result<Sizes> {
    let from = xs.dims4()?;
    Ok(Sizes { from, to: (windows.out_size(from.1), windows.out_size(from.2)) })
}

pub(crate) fn max_pool2d(xs: &Tensor, windows: Windows) -> Result<Tensor> {
    const NAME: &str = "max_pool2d";
    let [window, stride, padding] = windows.ints();
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let sizes = pool_sizes(layout.shape(), &windows)?;
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("max_pool", shape.elem_count(), |ys, n| {
                args![x, ys, n, h, w, c, oh, ow, window, stride, padding]
            })?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let [h, w, c, oh, ow] = pool_sizes(xs.shape(), &windows)?.ints()?;
            with_ptrs(NAME, [xs, grad], |gpu, [x, g]| {
                let out = gpu.map("max_pool_gradient", xs.elem_count(), |out, n| {
                    args![x, g, out, n, h, w, c, oh, ow, window, stride, padding]
                })?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn avg_pool2d(xs: &Tensor, windows: Windows, count_include_pad: bool) -> Result<Tensor> {
    const NAME: &str = "avg_pool2d";
    let ([window, stride, padding], count) = (windows.ints(), i32::from(count_include_pad));
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let sizes = pool_sizes(layout.shape(), &windows)?;
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("avg_pool", shape.elem_count(), |ys, n| {
                args![x, ys, n, h, w, c, oh, ow, window, stride, padding, count]
            })?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let [h, w, c, oh, ow] = pool_sizes(xs.shape(), &windows)?.ints()?;
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("avg_pool_gradient", xs.elem_count(), |out, n| {
                    args![g, out, n, h, w, c, oh, ow, window, stride, padding, count]
                })?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn avg_pool2d_global(xs: &Tensor) -> Result<Tensor> {
    const NAME: &str = "avg_pool2d_global";
    let op = kernel1(
        NAME,
        |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let ys = gpu.buffer(b * c)?;
            gpu.launch("global_average", channels(c, b)?, &args![x, &ys, size(h * w)?, size(c)?])?;
            Ok((ys, (b, c).into()))
        },
        |xs, _, grad| {
            let (_, h, w, c) = xs.dims4()?;
            let (pixels, c) = (size(h * w)?, size(c)?);
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu
                    .map("global_average_gradient", xs.elem_count(), |out, n| args![g, out, n, pixels, c])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    apply1(&channels_last(xs)?, op)
}

pub(crate) fn upsample_nearest2x(xs: &Tensor) -> Result<Tensor> {
    const NAME: &str = "upsample_nearest2x";
    let op = kernel1(
        NAME,
        |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let (rows, cols, channels) = (size(h)?, size(w)?, size(c)?);
            let ys = gpu.map("upsample", 4 * b * h * w * c, |ys, n| args![x, ys, n, rows, cols, channels])?;
            Ok((ys, (b, 2 * h, 2 * w, c).into()))
        },
        |xs, _, grad| {
            let (_, h, w, c) = xs.dims4()?;
            let (h, w, c) = (size(h)?, size(w)?, size(c)?);
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu.map("upsample_gradient", xs.elem_count(), |out, n| args![g, out, n, h, w, c])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

pub(crate) fn pad_bottom_right(xs: &Tensor, rows: usize) -> Result<Tensor> {
    const NAME: &str = "pad_bottom_right";
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let from = layout.shape().dims4()?;
            let sizes = Sizes { from, to: (from.1 + rows, from.2 + rows) };
            let ([h, w, c, oh, ow], shape) = (sizes.ints()?, sizes.out_shape());
            let ys = gpu.map("pad", shape.elem_count(), |ys, n| args![x, ys, n, h, w, c, oh, ow, 0i32, 0i32])?;
            Ok((ys, shape))
        },
        move |xs, _, grad| {
            let from = xs.dims4()?;
            let [oh, ow, c, h, w] = Sizes { from, to: (from.1 + rows, from.2 + rows) }.ints()?;
            with_ptrs(NAME, [grad], |gpu, [g]| {
                let out = gpu
                    .map("pad", xs.elem_count(), |out, n| args![g, out, n, h, w, c, oh, ow, 0i32, 0i32])?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

// ---- Styles ----

pub(crate) fn modulate(xs: &Tensor, factors: &Tensor, shift: &Tensor, slope: f32) -> Result<Tensor> {
    const NAME: &str = "modulate";
    // From one image's shift to the next: none where all share it.
    let stride_of = |shift: &[usize], c: usize| if shift.len() == 1 { Ok(0) } else { size(c) };
    let op = kernel3(
        NAME,
        move |gpu, [x, factors, shift], [layout, _, shift_l]| {
            let (_, h, w, c) = layout.shape().dims4()?;
            let (pixels, channels, stride) = (size(h * w)?, size(c)?, stride_of(shift_l.dims(), c)?);
            let ys = gpu.map("modulate", layout.shape().elem_count(), |ys, n| {
                args![x, factors, shift, ys, n, pixels, channels, stride, slope]
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |[xs, factors, shift], _, grad, _| {
            let (b, h, w, c) = xs.dims4()?;
            let (pixels, channels_, stride) = (size(h * w)?, size(c)?, stride_of(shift.dims(), c)?);
            let (wants_xs, wants_sums) = (wants(xs), wants(factors) || wants(shift));
            with_ptrs(NAME, [xs, grad, factors, shift], |gpu, [x, g, s, t]| {
                let by_xs = match wants_xs {
                    true => {
                        let out = gpu.map("modulate_gradient", xs.elem_count(), |out, n| {
                            args![x, g, s, t, out, n, pixels, channels_, stride, slope]
                        })?;
                        Some(out.tensor(xs.shape()))
                    }
                    false => None,
                };
                if !wants_sums {
                    return Ok((by_xs, None, None));
                }
                let (by_factor, by_shift) = (gpu.buffer(b * c)?, gpu.buffer(b * c)?);
                let arguments = args![x, g, s, t, &by_factor, &by_shift, pixels, channels_, stride, slope];
                gpu.launch("modulate_sums", channels(c, b)?, &arguments)?;
                let by_shift = if shift.rank() == 1 { gpu.channel_sums(by_shift.ptr, b, c)? } else { by_shift };
                Ok((by_xs, Some(by_factor.tensor(factors.shape())), Some(by_shift.tensor(shift.shape()))))
            })
        },
    );
    channels_first(&apply3(&channels_last(xs)?, &contiguous(factors)?, &contiguous(shift)?, op)?)
}

pub(crate) fn demodulation(weight: &Tensor, styles: &Tensor) -> Result<Tensor> {
    const NAME: &str = "demodulation";
    let energies = |gpu: &Gpu, weight: Ptr, (o, c, kh, kw): (usize, usize, usize, usize)| {
        let taps = size(kh * kw)?;
        gpu.map("kernel_energies", o * c, |out, n| args![weight, out, n, taps])
    };
    let op = kernel2(
        NAME,
        move |gpu, [weight, styles], [weight_l, styles_l]| {
            let (dims, (b, _)) = (weight_l.shape().dims4()?, styles_l.shape().dims2()?);
            let (o, c) = (size(dims.0)?, size(dims.1)?);
            let energies = energies(gpu, weight, dims)?;
            let ys = gpu.map("demodulation", b * dims.0, |ys, n| {
                args![&energies, styles, ys, n, o, c, DEMODULATION_EPS]
            })?;
            Ok((ys, (b, dims.0).into()))
        },
        move |[weight, styles], ys, grad| {
            let (dims, b) = (weight.dims4()?, size(styles.dim(0)?)?);
            let (o, c, taps) = (size(dims.0)?, size(dims.1)?, size(dims.2 * dims.3)?);
            with_ptrs(NAME, [weight, styles, ys, grad], |gpu, [w, s, y, g]| {
                let energies = energies(gpu, w, dims)?;
                let by_styles = gpu.map("demodulation_by_style", styles.elem_count(), |out, n| {
                    args![&energies, s, y, g, out, n, o, c]
                })?;
                let by_weight = gpu.buffer(weight.elem_count())?;
                let kernels = dims.0 * dims.1;
                let arguments = args![w, s, y, g, &by_weight, size(kernels)?, b, o, c, taps];
                gpu.launch("demodulation_by_weight", elements(kernels)?, &arguments)?;
                Ok((Some(by_weight.tensor(weight.shape())), Some(by_styles.tensor(styles.shape()))))
            })
        },
    );
    apply2(&contiguous(weight)?, &contiguous(styles)?, op)
}

// ---- Remapped images ----

/// The maps as the kernel reads them.
fn packed(maps: &[ImageMap]) -> Vec<f32> {
    let pack = |map: &ImageMap| {
        let first = [f32::from(map.turns % 4), f32::from(u8::from(map.mirrored))];
        let shift = map.shift.map(|n| n as f32);
        let colour = map.colour.into_iter().flatten();
        first.into_iter().chain(shift).chain([map.fill]).chain(colour).chain(map.hole.map(|n| n as f32))
    };
    maps.iter().flat_map(pack).collect()
}

pub(crate) fn remap(xs: &Tensor, maps: &[ImageMap]) -> Result<Tensor> {
    const NAME: &str = "remap";
    let packed = packed(maps);
    let maps = gpu_of(xs)?.upload(&packed)?.tensor(packed.len());
    let kept = maps.clone();
    let int = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    let op = kernel1(
        NAME,
        move |gpu, x, layout| {
            let (b, h, w, c) = layout.shape().dims4()?;
            let ys = gpu.buffer(layout.shape().elem_count())?;
            with_ptrs(NAME, [&maps], |_, [maps]| {
                let pixels = b * h * w;
                gpu.launch("remap", elements(pixels)?, &args![x, maps, &ys, size(pixels)?, int(h)?, int(w)?, int(c)?])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |xs, _, grad| {
            let (b, h, w, c) = xs.dims4()?;
            with_ptrs(NAME, [grad, &kept], |gpu, [g, maps]| {
                let out = gpu.zeros(xs.elem_count())?;
                let pixels = b * h * w;
                let arguments = args![g, maps, &out, size(pixels)?, int(h)?, int(w)?, int(c)?];
                gpu.launch("remap_gradient", elements(pixels)?, &arguments)?;
                Ok(Some(out.tensor(xs.shape())))
            })
        },
    );
    channels_first(&apply1(&channels_last(xs)?, op)?)
}

// ---- Rows ----

impl Gpu {
    /// The dot products of the rows of `a` `(rows, cols)` with those of `b`, which are `stride` apart.
    fn row_dots(&self, a: Ptr, b: Ptr, (rows, cols): (usize, usize), stride: usize) -> Result<Buffer> {
        let out = self.buffer(rows)?;
        let config = LaunchConfig {
            grid_dim: (size(rows)?, 1, 1),
            block_dim: ((LANES * ROWS) as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        self.launch("row_dots", config, &args![a, b, &out, size(cols)?, size(stride)?])?;
        Ok(out)
    }
}

pub(crate) fn row_dot(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    const NAME: &str = "row_dot";
    let scaled = |other: &Tensor, grad: &Tensor| {
        let cols = size(other.dim(1)?)?;
        with_ptrs(NAME, [other, grad], |gpu, [x, g]| {
            let out = gpu.map("scale_rows", other.elem_count(), |out, n| args![x, g, out, n, cols])?;
            Ok(Some(out.tensor(other.shape())))
        })
    };
    let op = kernel2(
        NAME,
        |gpu, [a, b], [layout, _]| {
            let (rows, cols) = layout.shape().dims2()?;
            Ok((gpu.row_dots(a, b, (rows, cols), cols)?, (rows, 1).into()))
        },
        move |[a, b], _, grad| Ok((scaled(b, grad)?, scaled(a, grad)?)),
    );
    apply2(&contiguous(xs)?, &contiguous(ys)?, op)
}

pub(crate) fn spectral_normalised(weight: &Tensor, u: &Tensor, v: &Tensor) -> Result<Tensor> {
    const NAME: &str = "spectral_normalised";
    let (rows, cols) = (u.elem_count(), v.elem_count());
    let (u, v) = (u.detach().copy()?, v.detach().copy()?);
    let kept = (u.clone(), v.clone());
    let op = kernel1(
        NAME,
        move |gpu, w, layout| {
            let ys = with_ptrs(NAME, [&u, &v], |_, [u, v]| {
                let products = gpu.row_dots(w, v, (rows, cols), 0)?;
                let rows = size(rows)?;
                gpu.map("spectral", layout.shape().elem_count(), |ys, n| args![w, u, &products, ys, rows, n])
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |weight, ys, grad| {
            with_ptrs(NAME, [weight, ys, grad, &kept.0, &kept.1], |gpu, [w, y, g, u, v]| {
                let products = gpu.row_dots(w, v, (rows, cols), 0)?;
                let along = gpu.row_dots(g, y, (rows, cols), cols)?;
                let (rows, cols) = (size(rows)?, size(cols)?);
                let out = gpu.map("spectral_gradient", weight.elem_count(), |out, n| {
                    args![g, u, v, &products, &along, out, rows, cols, n]
                })?;
                Ok(Some(out.tensor(weight.shape())))
            })
        },
    );
    apply1(&contiguous(weight)?, op)
}

// ---- Losses ----

/// The losses of `kernels.cu`, by their numbers there, and what they are called.
pub(crate) const CROSS_ENTROPY: (u32, &str) = (0, "cross_entropy");
pub(crate) const SOFTMAX_BCE: (u32, &str) = (1, "softmax_bce");
pub(crate) const BCE: (u32, &str) = (2, "bce_with_logits");
pub(crate) const HINGE: (u32, &str) = (3, "hinge");
pub(crate) const MEAN: (u32, &str) = (4, "mean");

/// The mean over the rows of a loss of logits, with its number of `kernels.cu`, the classes where it has any, and its parameter.
pub(crate) fn row_loss(
    (kind, name): (u32, &'static str),
    logits: &Tensor,
    targets: Option<&Tensor>,
    param: f32,
) -> Result<Tensor> {
    /// The address of the classes, which must be held until the kernel is in the stream.
    fn ids(name: &str, targets: Option<&Tensor>) -> Result<Option<Ptr>> {
        targets.map(|targets| with_ptrs(name, [targets], |_, [ids]| Ok(ids))).transpose()
    }
    let targets = targets.map(|targets| targets.detach().contiguous()).transpose()?;
    let kept = targets.clone();
    let op = kernel1(
        name,
        move |gpu, x, layout| {
            let (rows, cols) = layout.shape().dims2()?;
            let loss = gpu.buffer(1)?;
            let block = LaunchConfig {
                grid_dim: (1, 1, 1),
                block_dim: ((LANES * ROWS) as u32, 1, 1),
                shared_mem_bytes: 0,
            };
            let arguments = args![x, ids(name, targets.as_ref())?, &loss, size(rows)?, size(cols)?, kind, param];
            gpu.launch("row_loss", block, &arguments)?;
            Ok((loss, ().into()))
        },
        move |logits, _, grad| {
            let (rows, cols) = logits.dims2()?;
            let ids = ids(name, kept.as_ref())?;
            with_ptrs(name, [logits, grad], |gpu, [x, upstream]| {
                let out = gpu.buffer(rows * cols)?;
                let arguments = args![x, ids, upstream, &out, size(rows)?, size(cols)?, kind, param];
                gpu.launch("row_loss_gradient", elements(rows)?, &arguments)?;
                Ok(Some(out.tensor(logits.shape())))
            })
        },
    );
    apply1(&contiguous(logits)?, op)
}

// ---- Optimisers ----

/// Runs a kernel that changes variables in place: those of `vars`, by a gradient or another tensor.
fn update<const N: usize, const M: usize>(
    name: &'static str,
    vars: [&Var; N],
    by: &Tensor,
    args: impl FnOnce([Ptr; N], Ptr, u32) -> [super::Arg; M],
) -> Result<()> {
    let len = by.elem_count();
    if let Some(var) = vars.iter().find(|var| !var.is_contiguous()) {
        bail!("{name}: a variable of shape {:?} is not contiguous", var.dims());
    }
    with_ptrs(name, [&by.detach()], |gpu, [by]| {
        with_ptrs(name, vars.map(|var| var.as_tensor()), |_, vars| {
            gpu.launch(name, elements(len)?, &args(vars, by, size(len)?))
        })
    })
}

pub(crate) fn adam_update(param: &Var, grad: &Tensor, m: &Var, v: &Var, numbers: &AdamNumbers) -> Result<()> {
    let AdamNumbers { b1, b2, c1, c2, rate, root, eps } = *numbers;
    update("adam", [param, m, v], grad, |[param, m, v], grad, n| {
        args![param, grad, m, v, n, b1, b2, c1, c2, rate, root, eps]
    })
}

pub(crate) fn sgd_update(param: &Var, grad: &Tensor, velocity: &Var, numbers: &SgdNumbers) -> Result<()> {
    let SgdNumbers { lr, momentum, decay, nesterov } = *numbers;
    update("sgd", [param, velocity], grad, |[param, velocity], grad, n| {
        args![param, grad, velocity, n, lr, momentum, decay, u32::from(nesterov)]
    })
}

pub(crate) fn average_update(average: &Var, value: &Tensor, kept: f32, share: f32) -> Result<()> {
    update("average", [average], value, |[average], value, n| args![average, value, n, kept, share])
}
