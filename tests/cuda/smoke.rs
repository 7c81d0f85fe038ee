//! What Cellforge needs of CUDA, Candle, NVRTC and cuDNN before any code of its own runs on a GPU: that devices, copies, kernels and
//! convolutions work at all. `tests/cuda/check` runs it, on a GPU or on the simulator.
//!
//! Values are small integers, so that results are exact in every precision and order of summation.
// Launches are unsafe because nothing can hold their arguments against what the kernel takes.
#![allow(unsafe_code)]

use std::sync::Arc;

use anyhow::Result;
use candle_core::{CudaDevice, DType, Device, Tensor};
use cudarc::cudnn::sys::{cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, cudnnTensorFormat_t::CUDNN_TENSOR_NHWC};
use cudarc::cudnn::{ConvBackwardData, ConvBackwardFilter, ConvForward, Cudnn};
use cudarc::driver::{CudaModule, LaunchConfig, PushKernelArg};

/// Integers from -4 to 4 in an order without pattern.
fn integers(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 % 9.0 - 4.0).collect()
}

fn integer_tensor(shape: &[usize], device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(integers(shape.iter().product()), shape, device)?)
}

/// Asserts that `f` gives the same on the GPU as on the CPU.
fn agrees(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Result<()> {
    let on = |device: &Device| -> Result<Tensor> {
        let inputs = shapes.iter().map(|shape| integer_tensor(shape, device)).collect::<Result<Vec<_>>>()?;
        Ok(f(&inputs)?)
    };
    let (expected, got) = (on(&Device::Cpu)?, on(&Device::new_cuda(0)?)?);
    assert_eq!(expected.shape(), got.shape());
    assert_eq!(expected.dtype(), got.dtype());
    let values = |xs: Tensor| -> Result<Vec<f64>> { Ok(xs.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?) };
    assert_eq!(values(expected)?, values(got.to_device(&Device::Cpu)?)?);
    Ok(())
}

#[test]
fn tensors_travel_to_the_device_and_back() -> Result<()> {
    let device = Device::new_cuda(0)?;
    let xs = integer_tensor(&[3, 5], &device)?;
    assert_eq!(xs.flatten_all()?.to_vec1::<f32>()?, integers(15));
    device.synchronize()?;
    Ok(())
}

#[test]
fn elementwise_operations_agree_with_the_cpu() -> Result<()> {
    let shape: &[usize] = &[4, 6, 5];
    agrees(&[shape, shape], |t| &t[0] + &t[1])?;
    agrees(&[shape, shape], |t| &t[0] * &t[1].affine(2.0, -1.0)?)?;
    agrees(&[shape, &[6, 1]], |t| t[0].broadcast_sub(&t[1]))?;
    agrees(&[shape], |t| t[0].sqr()?.neg()?.relu())?;
    agrees(&[shape, shape], |t| t[0].lt(&t[1])?.where_cond(&t[0], &t[1]))?;
    Ok(())
}

#[test]
fn views_and_copies_agree_with_the_cpu() -> Result<()> {
    let shape: &[usize] = &[4, 6, 5];
    agrees(&[shape], |t| t[0].transpose(0, 2)?.contiguous())?;
    agrees(&[shape], |t| t[0].permute((1, 2, 0))?.narrow(1, 1, 3)?.contiguous())?;
    agrees(&[shape, shape], |t| Tensor::cat(&[&t[0], &t[1]], 1))?;
    agrees(&[shape], |t| t[0].zeros_like()?.slice_assign(&[1..3, 0..6, 0..5], &t[0].narrow(0, 0, 2)?))?;
    agrees(&[shape], |t| t[0].index_select(&Tensor::new(&[5u32, 0, 3], t[0].device())?, 1))?;
    Ok(())
}

#[test]
fn casts_agree_with_the_cpu() -> Result<()> {
    for dtype in [DType::U8, DType::U32, DType::I64, DType::F64, DType::BF16, DType::F16] {
        agrees(&[&[3, 7]], |t| t[0].abs()?.to_dtype(dtype))?;
        agrees(&[&[3, 7]], |t| t[0].abs()?.to_dtype(dtype)?.to_dtype(DType::F32))?;
    }
    agrees(&[&[3, 7]], |t| t[0].affine(0.001, 1.0)?.to_dtype(DType::BF16))?;
    Ok(())
}

#[test]
fn reductions_agree_with_the_cpu() -> Result<()> {
    let shape: &[usize] = &[4, 600, 5];
    for axis in 0..3 {
        agrees(&[shape], |t| t[0].sum(axis))?;
        agrees(&[shape], |t| t[0].max(axis))?;
        // Which of several smallest numbers is found is open, so the numbers are compared rather than their places.
        agrees(&[shape], |t| t[0].gather(&t[0].argmin_keepdim(axis)?, axis))?;
    }
    agrees(&[shape], |t| t[0].sum_all())?;
    agrees(&[&[9, 64]], |t| t[0].to_dtype(DType::BF16)?.sum(1))?;
    Ok(())
}

#[test]
fn matrix_products_agree_with_the_cpu() -> Result<()> {
    agrees(&[&[7, 5], &[5, 3]], |t| t[0].matmul(&t[1]))?;
    agrees(&[&[5, 7], &[5, 3]], |t| t[0].t()?.matmul(&t[1]))?;
    agrees(&[&[7, 5], &[3, 5]], |t| t[0].matmul(&t[1].t()?))?;
    agrees(&[&[5, 7], &[3, 5]], |t| t[0].t()?.matmul(&t[1].t()?))?;
    agrees(&[&[2, 7, 5], &[2, 5, 3]], |t| t[0].matmul(&t[1]))?;
    agrees(&[&[7, 5], &[5, 3]], |t| t[0].to_dtype(DType::BF16)?.matmul(&t[1].to_dtype(DType::BF16)?))?;
    Ok(())
}

/// The module of `smoke.cu`. NVRTC compiles for the oldest devices that it knows, and the driver goes on from there.
fn module(device: &CudaDevice) -> Result<Arc<CudaModule>> {
    let ptx = cudarc::nvrtc::compile_ptx(include_str!("smoke.cu"))?;
    Ok(device.cuda_stream().context().load_module(ptx)?)
}

#[test]
fn kernels_compiled_at_run_time_run() -> Result<()> {
    let device = Device::new_cuda(0)?;
    let device = device.as_cuda_device()?;
    let (stream, module) = (device.cuda_stream(), module(device)?);
    let xs = integers(1024);
    let xs_on_device = stream.clone_htod(&xs)?;
    let (total, count) = (xs.iter().sum::<f32>(), xs.len() as u32);
    let config = |blocks, threads, shared| LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: shared,
    };

    let mut sum = stream.alloc_zeros::<f32>(1)?;
    let kernel = module.load_function("smoke_sum")?;
    // SAFETY: The arguments are those of the kernel, and the buffers have the sizes it uses. So below.
    unsafe { stream.launch_builder(&kernel).arg(&xs_on_device).arg(&count).arg(&mut sum).launch(config(1, 256, 0)) }?;
    assert_eq!(stream.clone_dtoh(&sum)?, [total]);

    let mut sum = stream.alloc_zeros::<f32>(1)?;
    let kernel = module.load_function("smoke_warp_sum")?;
    // SAFETY: See above.
    unsafe { stream.launch_builder(&kernel).arg(&xs_on_device).arg(&count).arg(&mut sum).launch(config(8, 128, 0)) }?;
    assert_eq!(stream.clone_dtoh(&sum)?, [total]);

    let mut reversed = stream.alloc_zeros::<f32>(1024)?;
    let kernel = module.load_function("smoke_reverse")?;
    // SAFETY: See above.
    unsafe { stream.launch_builder(&kernel).arg(&xs_on_device).arg(&mut reversed).launch(config(16, 64, 256)) }?;
    let expected: Vec<f32> = xs.chunks(64).flat_map(|block| block.iter().rev().copied()).collect();
    assert_eq!(stream.clone_dtoh(&reversed)?, expected);

    assert!(module.load_function("smoke_missing").is_err());
    // SAFETY: The launch is refused: a block has 1024 threads at most.
    let too_many =
        unsafe { stream.launch_builder(&kernel).arg(&xs_on_device).arg(&mut reversed).launch(config(1, 2048, 0)) };
    assert!(too_many.is_err());
    Ok(())
}

/// Sizes of a convolution of channels-last images with a filter in (k, r, s, c).
struct Sizes {
    b: usize,
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    taps: usize,
    stride: usize,
    pad: usize,
}

impl Sizes {
    fn out(&self, side: usize) -> usize {
        (side + 2 * self.pad - self.taps) / self.stride + 1
    }

    /// Calls `f` with the indices into x, w and y of every product of the convolution.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (oh, ow) = (self.out(self.h), self.out(self.w));
        for (b, k, oy, ox) in indices([self.b, self.k, oh, ow]) {
            for (r, s, c, _) in indices([self.taps, self.taps, self.c, 1]) {
                let (iy, ix) =
                    ((oy * self.stride + r).wrapping_sub(self.pad), (ox * self.stride + s).wrapping_sub(self.pad));
                if iy < self.h && ix < self.w {
                    let x = ((b * self.h + iy) * self.w + ix) * self.c + c;
                    let w = ((k * self.taps + r) * self.taps + s) * self.c + c;
                    f(x, w, ((b * oh + oy) * ow + ox) * self.k + k);
                }
            }
        }
    }
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / d / c / b, i / d / c % b, i / d % c, i % d))
}

#[test]
fn cudnn_convolves_channels_last_images_both_ways() -> Result<()> {
    for (taps, stride, pad) in [(3, 1, 1), (3, 2, 1), (4, 2, 1), (1, 1, 0)] {
        convolve(&Sizes { b: 2, h: 10, w: 8, c: 8, k: 16, taps, stride, pad })?;
    }
    Ok(())
}

fn convolve(sizes: &Sizes) -> Result<()> {
    let Sizes { b, h, w, c, k, taps, stride, pad } = *sizes;
    let (oh, ow) = (sizes.out(h), sizes.out(w));
    let (xs, ws, dys) = (integers(b * h * w * c), integers(k * taps * taps * c), integers(b * oh * ow * k));
    let (mut ys, mut dxs, mut dws) = (vec![0.0; dys.len()], vec![0.0; xs.len()], vec![0.0; ws.len()]);
    sizes.products(|x, w, y| {
        ys[y] += xs[x] * ws[w];
        dxs[x] += dys[y] * ws[w];
        dws[w] += dys[y] * xs[x];
    });

    let device = Device::new_cuda(0)?;
    let stream = device.as_cuda_device()?.cuda_stream();
    let cudnn = Cudnn::new(stream.clone())?;
    let [pad, stride, taps] = [pad, stride, taps].map(|n| n as i32);
    let conv = cudnn.create_conv2d::<f32>([pad; 2], [stride; 2], [1; 2], CUDNN_CROSS_CORRELATION)?;
    let x_desc = cudnn.create_4d_tensor::<f32>(CUDNN_TENSOR_NHWC, [b, c, h, w].map(|n| n as i32))?;
    let y_desc = cudnn.create_4d_tensor::<f32>(CUDNN_TENSOR_NHWC, [b, k, oh, ow].map(|n| n as i32))?;
    let w_desc = cudnn.create_4d_filter::<f32>(CUDNN_TENSOR_NHWC, [k as i32, c as i32, taps, taps])?;
    let (x, w, dy) = (stream.clone_htod(&xs)?, stream.clone_htod(&ws)?, stream.clone_htod(&dys)?);
    // Results start as what fresh memory holds: with a beta of 0 it is not read.
    // SAFETY: Each is written before it is read.
    let (mut y, mut dx, mut dw) =
        unsafe { (stream.alloc::<f32>(ys.len())?, stream.alloc::<f32>(xs.len())?, stream.alloc::<f32>(ws.len())?) };

    let forward = ConvForward { conv: &conv, x: &x_desc, w: &w_desc, y: &y_desc };
    let algorithm = forward.pick_algorithm()?;
    let mut workspace = stream.alloc_zeros::<u8>(forward.get_workspace_size(algorithm)?.max(1))?;
    // SAFETY: The buffers have the sizes that the descriptors tell. So below.
    unsafe { forward.launch(algorithm, Some(&mut workspace), (1.0, 0.0), &x, &w, &mut y) }?;
    assert_eq!(stream.clone_dtoh(&y)?, ys);

    let backward = ConvBackwardData { conv: &conv, dx: &x_desc, w: &w_desc, dy: &y_desc };
    let algorithm = backward.pick_algorithm()?;
    let mut workspace = stream.alloc_zeros::<u8>(backward.get_workspace_size(algorithm)?.max(1))?;
    // SAFETY: See above.
    unsafe { backward.launch(algorithm, Some(&mut workspace), (1.0, 0.0), &mut dx, &w, &dy) }?;
    assert_eq!(stream.clone_dtoh(&dx)?, dxs);

    let backward = ConvBackwardFilter { conv: &conv, x: &x_desc, dw: &w_desc, dy: &y_desc };
    let algorithm = backward.pick_algorithm()?;
    let mut workspace = stream.alloc_zeros::<u8>(backward.get_workspace_size(algorithm)?.max(1))?;
    // SAFETY: See above.
    unsafe { backward.launch(algorithm, Some(&mut workspace), (1.0, 0.0), &x, &mut dw, &dy) }?;
    // SAFETY: See above. With a beta of 1 the second launch adds to the first.
    unsafe { backward.launch(algorithm, Some(&mut workspace), (1.0, 1.0), &x, &mut dw, &dy) }?;
    let twice: Vec<f32> = dws.iter().map(|value| value * 2.0).collect();
    assert_eq!(stream.clone_dtoh(&dw)?, twice);
    Ok(())
}
