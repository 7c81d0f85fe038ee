//! An NVIDIA GPU: its memory, how kernels are launched on it, and cuDNN. The kernels of `kernels.cu` are compiled by NVRTC for the device
//! at hand when it is first used.
//!
//! All work of a device is put into one stream, its own; memory is given back in the order of that stream. So a buffer may be dropped
//! as soon as the kernels that use it are in the stream.

pub(crate) mod cudnn;
mod sums;

pub(crate) use sums::{sum_of, transposed};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::{CudaStorageSlice, DeviceId, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};
use cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, result, sys,
};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const SOURCE: &str = include_str!("kernels.cu");

/// The block of kernels that sum over rows: channels, and rows.
const LANES: usize = 32;
const ROWS: usize = 8;
/// Threads of a block, of these and of all others.
const BLOCK: usize = LANES * ROWS;

/// Opens an NVIDIA GPU in the way that suits this crate: with a stream of its own, without the events by which several streams
/// could share memory, and with memory that is given back kept for the next step. A device that Candle opens itself works too, but is slower.
///
/// # Errors
/// No driver, no such device, or a failure to open it.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    #[expect(unsafe_code, reason = "several streams would need the events")]
    // SAFETY: the device has one stream, and nothing of this workspace opens another.
    unsafe {
        device.as_cuda_device()?.disable_event_tracking();
    }
    keep_freed_memory(device.as_cuda_device()?)?;
    Ok(device)
}

/// Memory that is not in use stays with the process: by itself the driver gives it back to the system whenever the host waits for the
/// device, which is after every step, and asks for it anew.
fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    let context = device.cuda_stream().context().clone();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    #[expect(unsafe_code, reason = "the attribute's value is passed as a pointer")]
    // SAFETY: the device is open, and the value of this attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).w()?;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()).w()
    }
}

/// What is kept of a device between operations.
pub(crate) struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
    convolutions: Mutex<cudnn::Convolutions>,
}

/// An address in the memory of a device.
#[derive(Clone, Copy)]
pub(crate) struct Ptr(u64);

impl Ptr {
    pub const NULL: Self = Self(0);

    /// The address as a number in a tensor, which has no unsigned ones of 64 bits.
    pub fn bits(self) -> i64 {
        self.0.cast_signed()
    }
}

/// An argument of a kernel.
pub(crate) enum Arg {
    Ptr(u64),
    U32(u32),
    I32(i32),
    F32(f32),
}

impl From<Ptr> for Arg {
    fn from(ptr: Ptr) -> Self {
        Self::Ptr(ptr.0)
    }
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Self {
        buffer.ptr.into()
    }
}

impl From<Option<Ptr>> for Arg {
    fn from(ptr: Option<Ptr>) -> Self {
        ptr.unwrap_or(Ptr::NULL).into()
    }
}

impl From<u32> for Arg {
    fn from(n: u32) -> Self {
        Self::U32(n)
    }
}

impl From<i32> for Arg {
    fn from(n: i32) -> Self {
        Self::I32(n)
    }
}

impl From<f32> for Arg {
    fn from(x: f32) -> Self {
        Self::F32(x)
    }
}

/// The arguments of a kernel, in its order.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$($crate::gpu::Arg::from($arg)),*] };
}
pub(crate) use args;

/// New memory of `f32`.
pub(crate) struct Buffer {
    slice: CudaSlice<f32>,
    pub ptr: Ptr,
    device: CudaDevice,
}

impl Buffer {
    pub fn storage(self) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(self.slice, self.device)
    }

    pub fn tensor(self, shape: impl Into<Shape>) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage()), shape, BackpropOp::none(), false)
    }
}

/// A size as kernels have it.
pub(crate) fn size(n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("a tensor of {n} elements is too large for the kernels of a GPU"),
    }
}

/// So many blocks in x and in y.
pub(crate) fn blocks(x: usize, y: usize) -> Result<LaunchConfig> {
    Ok(LaunchConfig { grid_dim: (size(x)?, size(y)?, 1), block_dim: (BLOCK as u32, 1, 1), shared_mem_bytes: 0 })
}

/// Blocks for one thread an element.
pub(crate) fn elements(n: usize) -> Result<LaunchConfig> {
    blocks(n.div_ceil(BLOCK).max(1), 1)
}

/// Blocks of channels by rows, so many of them for all channels.
pub(crate) fn channels(c: usize, parts: usize) -> Result<LaunchConfig> {
    Ok(LaunchConfig {
        grid_dim: (size(c.div_ceil(LANES))?, size(parts)?, 1),
        block_dim: (LANES as u32, ROWS as u32, 1),
        shared_mem_bytes: 0,
    })
}

/// The device's kernels, compiled if this is the first call for it.
pub(crate) fn gpu(device: &CudaDevice) -> Result<Arc<Gpu>> {
    static GPUS: Mutex<Vec<(DeviceId, Arc<Gpu>)>> = Mutex::new(Vec::new());
    let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, gpu)) = gpus.iter().find(|(id, _)| *id == device.id()) {
        return Ok(gpu.clone());
    }
    let gpu = Arc::new(Gpu::new(device)?);
    gpus.push((device.id(), gpu.clone()));
    Ok(gpu)
}

/// See [`gpu`].
pub(crate) fn gpu_of(tensor: &Tensor) -> Result<Arc<Gpu>> {
    gpu(tensor.device().as_cuda_device()?)
}

impl Gpu {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let (major, minor) = stream.context().compute_capability().w()?;
        let options = CompileOptions {
            options: vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()],
            ..CompileOptions::default()
        };
        let compiled = compile_ptx_with_opts(SOURCE, options).map_err(|error| match error {
            CompileError::CompileError { log, .. } => {
                candle_core::Error::msg(format!("NVRTC does not compile the kernels: {}", log.to_string_lossy()))
            }
            other => candle_core::Error::msg(format!("NVRTC does not compile the kernels: {other:?}")),
        })?;
        let module = stream.context().load_module(compiled).w()?;
        let convolutions = Mutex::new(cudnn::Convolutions::new(&stream)?);
        Ok(Self { device: device.clone(), stream, module, functions: Mutex::default(), convolutions })
    }

    /// Puts a kernel into the stream. Its arguments must be those that it has in `kernels.cu`, and pointers must be to memory of this
    /// device with as many elements as it uses.
    pub fn launch(&self, name: &'static str, config: LaunchConfig, args: &[Arg]) -> Result<()> {
        let function = {
            let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            match functions.get(name) {
                Some(function) => function.clone(),
                None => {
                    let function = self.module.load_function(name).w()?;
                    functions.insert(name, function.clone());
                    function
                }
            }
        };
        let mut builder = self.stream.launch_builder(&function);
        for arg in args {
            match arg {
                Arg::Ptr(x) => builder.arg(x),
                Arg::U32(x) => builder.arg(x),
                Arg::I32(x) => builder.arg(x),
                Arg::F32(x) => builder.arg(x),
            };
        }
        #[expect(unsafe_code, reason = "a kernel trusts its arguments")]
        // SAFETY: every call in this module gives the arguments that the kernel has, and sizes that were taken from the tensors.
        unsafe {
            builder.launch(config).w()?;
        }
        Ok(())
    }

    /// New memory with arbitrary contents, for a kernel that writes all of it.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        #[expect(unsafe_code, reason = "the contents are arbitrary")]
        // SAFETY: any bits are an f32, and the kernel that is given it writes all elements.
        let slice = unsafe { self.device.alloc::<f32>(len)? };
        Ok(self.wrap(slice))
    }

    pub fn zeros(&self, len: usize) -> Result<Buffer> {
        Ok(self.wrap(self.device.alloc_zeros::<f32>(len)?))
    }

    pub fn upload(&self, values: &[f32]) -> Result<Buffer> {
        Ok(self.wrap(self.device.clone_htod(values)?))
    }

    /// Where memory of this device begins.
    pub fn address<T>(&self, slice: &CudaSlice<T>) -> Ptr {
        Ptr(slice.device_ptr(&self.stream).0)
    }

    fn wrap(&self, slice: CudaSlice<f32>) -> Buffer {
        let ptr = self.address(&slice);
        Buffer { slice, ptr, device: self.device.clone() }
    }

    /// Runs an elementwise kernel whose arguments are those of `args` for the address of its output, of `len` elements.
    pub fn map<const N: usize>(
        &self,
        name: &'static str,
        len: usize,
        args: impl FnOnce(Ptr, u32) -> [Arg; N],
    ) -> Result<Buffer> {
        let out = self.buffer(len)?;
        self.launch(name, elements(len)?, &args(out.ptr, size(len)?))?;
        Ok(out)
    }
}

/// The address of the first element of contiguous storage.
pub(crate) fn ptr(op: &str, storage: &CudaStorage, layout: &Layout) -> Result<Ptr> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("{op}: an operand of shape {:?} is not contiguous", layout.dims())
    };
    let stream = storage.device().cuda_stream();
    let address = match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0 + 4 * start as u64,
        CudaStorageSlice::I64(slice) => slice.device_ptr(&stream).0 + 8 * start as u64,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0 + 4 * start as u64,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0 + start as u64,
        _ => bail!("{op}: an operand is {:?}", storage.dtype()),
    };
    Ok(Ptr(address))
}

/// Runs `f` on the addresses of contiguous tensors.
pub(crate) fn with_contiguous<const N: usize, T>(
    op: &str,
    tensors: [&Tensor; N],
    f: impl FnOnce(&Gpu, [Ptr; N]) -> Result<T>,
) -> Result<T> {
    let gpu = gpu_of(tensors[0])?;
    let mut ptrs = [Ptr::NULL; N];
    for (to, tensor) in ptrs.iter_mut().zip(tensors) {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            bail!("{op}: expected a tensor on a GPU, got one on {:?}", tensor.device().location())
        };
        *to = ptr(op, storage, layout)?;
    }
    // The kernels are put into the stream while the tensors are held; what is done with their memory later comes later in the stream.
    f(&gpu, ptrs)
}
