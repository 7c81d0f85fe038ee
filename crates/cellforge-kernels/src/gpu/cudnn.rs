//! cuDNN: how its descriptors, algorithms and workspace are kept, and one pass of a convolution of images `(b, h, w, c)`.
//!
//! cuDNN is given images and kernels whose channels lie side by side, which is how its matrix instructions take them; kernels `(o, c, kh,
//! kw)` are turned for each call, since they are small. Its algorithms are chosen once for each shape: the fastest, as cuDNN
//! reckons, of those that give the same bytes every time.

use super::{Buffer, Gpu, Ptr, args, elements, size};
use crate::product::Precision;
use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::cudnn::{CudnnError, result, sys};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, PoisonError};

/// More workspace than this is not given to an algorithm.
const MOST_WORKSPACE: usize = 1 << 30;

/// What a call of cuDNN computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    Forward,
    InputGradient,
    WeightGradient,
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Math {
    /// In f32 throughout.
    Single,
    /// The factors rounded to TF32, which has 11 bits of precision.
    Tf32,
    /// The factors rounded to bf16, which has 8.
    Bf16,
}

impl Math {
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Single,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 | Precision::EmulatedBf16 => Self::Bf16,
        }
    }
}

/// A convolution of symmetric padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub batch: usize,
    /// Height, width and channels of the input.
    pub image: (usize, usize, usize),
    /// Output channels, height and width of the kernels.
    pub kernel: (usize, usize, usize),
    pub stride: usize,
    pub padding: (usize, usize),
}

impl Geometry {
    /// Height and width of the output.
    pub fn grid(&self) -> (usize, usize) {
        let ((h, w, _), (_, kh, kw), (ph, pw)) = (self.image, self.kernel, self.padding);
        ((h + 2 * ph - kh) / self.stride + 1, (w + 2 * pw - kw) / self.stride + 1)
    }

    fn input_len(&self) -> usize {
        self.batch * self.image.0 * self.image.1 * self.image.2
    }

    pub fn output_len(&self) -> usize {
        self.batch * self.grid().0 * self.grid().1 * self.kernel.0
    }

    pub fn weight_len(&self) -> usize {
        self.kernel.0 * self.kernel.1 * self.kernel.2 * self.image.2
    }
}

/// cuDNN, and what was chosen for each convolution so far.
pub(crate) struct Convolutions {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: HashMap<(Pass, Math, Geometry), Plan>,
    /// Shared by all calls, which come one after the other in the stream.
    workspace: Option<CudaSlice<u8>>,
}

#[expect(unsafe_code, reason = "a handle and descriptors of cuDNN")]
// SAFETY: they are used by one thread at a time, behind a lock, which is what cuDNN asks for.
unsafe impl Send for Convolutions {}

/// The descriptors and the algorithm of a convolution.
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

fn failed(what: &str, error: CudnnError) -> candle_core::Error {
    candle_core::Error::msg(format!("cuDNN: {what}: {error}"))
}

fn int(n: usize) -> Result<c_int> {
    c_int::try_from(n).map_err(|_| candle_core::Error::msg(format!("cuDNN: a size of {n} is too large")))
}

impl Convolutions {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle().map_err(|e| failed("it cannot be started", e))?;
        #[expect(unsafe_code, reason = "cuDNN takes the stream as a pointer")]
        // SAFETY: the handle was just made, and the stream is kept as long as it.
        unsafe {
            result::set_stream(handle, stream.cu_stream().cast()).map_err(|e| failed("the stream", e))?;
        }
        Ok(Self { handle, stream: stream.clone(), plans: HashMap::new(), workspace: None })
    }

    /// Runs one pass: `[x, w, y]` are the addresses of images, kernels and outputs, two of which are read and one is written.
    fn run(&mut self, pass: Pass, math: Math, geometry: Geometry, [x, w, y]: [Ptr; 3]) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        let key = (pass, math, geometry);
        if !self.plans.contains_key(&key) {
            let plan = Plan::new(self.handle, pass, math, &geometry)?;
            self.plans.insert(key, plan);
        }
        let plan = &self.plans[&key];
        if self.workspace.as_ref().is_none_or(|kept| kept.len() < plan.workspace) && plan.workspace > 0 {
            self.workspace = None;
            #[expect(unsafe_code, reason = "the contents are arbitrary")]
            // SAFETY: cuDNN reads nothing of it that it has not written.
            let workspace = unsafe { self.stream.alloc::<u8>(plan.workspace).w()? };
            self.workspace = Some(workspace);
        }
        let workspace = self.workspace.as_ref().map_or(0, |kept| kept.device_ptr(&self.stream).0);
        plan.run(self.handle, [x, w, y], workspace).map_err(|e| failed(&format!("{pass:?} of {geometry:?}"), e))
    }
}

impl Plan {
    fn new(handle: sys::cudnnHandle_t, pass: Pass, math: Math, geometry: &Geometry) -> Result<Self> {
        let Geometry { batch, image: (h, w, c), kernel: (o, kh, kw), stride, padding: (ph, pw) } = *geometry;
        let (oh, ow) = geometry.grid();
        let [b, h, w, c, o, kh, kw, oh, ow] = [batch, h, w, c, o, kh, kw, oh, ow].map(int);
        let (b, h, w, c, o, kh, kw, oh, ow) = (b?, h?, w?, c?, o?, kh?, kw?, oh?, ow?);
        let (stride, ph, pw) = (int(stride)?, int(ph)?, int(pw)?);
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC as LAST;
        let kind = match math {
            Math::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            _ => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        };
        let sum = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let cross = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let wanted = match math {
            Math::Single => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            Math::Tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            Math::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let describe = || -> std::result::Result<Self, CudnnError> {
            let mut plan = Self {
                x: result::create_tensor_descriptor()?,
                w: result::create_filter_descriptor()?,
                y: result::create_tensor_descriptor()?,
                conv: result::create_convolution_descriptor()?,
                algorithm: Algorithm::Forward(sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
                workspace: 0,
            };
            #[expect(unsafe_code, reason = "cuDNN's descriptors are pointers")]
            // SAFETY: they were just made.
            unsafe {
                result::set_tensor4d_descriptor(plan.x, LAST, kind, [b, c, h, w])?;
                result::set_filter4d_descriptor(plan.w, kind, LAST, [o, c, kh, kw])?;
                result::set_tensor4d_descriptor(plan.y, LAST, kind, [b, o, oh, ow])?;
                result::set_convolution2d_descriptor(plan.conv, ph, pw, stride, stride, 1, 1, cross, sum)?;
                result::set_convolution_math_type(plan.conv, wanted)?;
            }
            plan.choose(handle, pass)?;
            Ok(plan)
        };
        describe().map_err(|e| failed(&format!("no way to compute the same {pass:?} every time for {geometry:?}"), e))
    }

    /// Takes the first of cuDNN's proposals, which come in the order of their speed, that is deterministic and asks for no more
    /// workspace than it may have.
    fn choose(&mut self, handle: sys::cudnnHandle_t, pass: Pass) -> std::result::Result<(), CudnnError> {
        /// Asks for proposals in one pass, and sets the one that is taken.
        macro_rules! choose {
            ($ask:path, $perf:ty, [$($desc:expr),*], $size:path, $algorithm:path) => {{
                const MOST: usize = 16;
                let mut count = 0;
                #[expect(unsafe_code, reason = "cuDNN writes into arrays")]
                // SAFETY: the array has as many places as it is told, and zeros are valid in all of its fields.
                let found = unsafe {
                    let mut found: [$perf; MOST] = std::mem::zeroed();
                    $ask(handle, $($desc),*, MOST as c_int, &mut count, found.as_mut_ptr())?;
                    found
                };
                let good = found.iter().take(count.max(0) as usize).find(|one| {
                    one.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && one.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && one.memory <= MOST_WORKSPACE
                });
                // None that gives the same bytes every time: rather an error than a run that cannot be repeated.
                let Some(good) = good else {
                    return Err(CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED));
                };
                #[expect(unsafe_code, reason = "cuDNN's descriptors are pointers")]
                // SAFETY: all were made and filled before.
                unsafe {
                    // An algorithm for other products than were asked for is not proposed, but for the matrix instructions of bf16.
                    result::set_convolution_math_type(self.conv, good.mathType)?;
                    self.workspace = $size(handle, $($desc),*, good.algo)?;
                }
                self.algorithm = $algorithm(good.algo);
            }};
        }
        let Self { x, w, y, conv, .. } = *self;
        match pass {
            Pass::Forward => choose!(
                result::get_convolution_forward_algorithm,
                sys::cudnnConvolutionFwdAlgoPerf_t,
                [x, w, conv, y],
                result::get_convolution_forward_workspace_size,
                Algorithm::Forward
            ),
            Pass::InputGradient => choose!(
                result::get_convolution_backward_data_algorithm,
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                [w, y, conv, x],
                result::get_convolution_backward_data_workspace_size,
                Algorithm::InputGradient
            ),
            Pass::WeightGradient => choose!(
                result::get_convolution_backward_filter_algorithm,
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                [x, y, conv, w],
                result::get_convolution_backward_filter_workspace_size,
                Algorithm::WeightGradient
            ),
        }
        Ok(())
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        [x, w, y]: [Ptr; 3],
        workspace: u64,
    ) -> std::result::Result<(), CudnnError> {
        let (one, zero) = (1f32, 0f32);
        let (alpha, beta) = ((&raw const one).cast::<c_void>(), (&raw const zero).cast::<c_void>());
        let [x, w, y, workspace] = [x.0, w.0, y.0, workspace].map(|address| address as *mut c_void);
        let size = self.workspace;
        #[expect(unsafe_code, reason = "cuDNN takes addresses in device memory")]
        // SAFETY: the callers give memory of the sizes in the descriptors, and the workspace is as large as cuDNN asked for.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(algo) => result::convolution_forward(
                    handle, alpha, self.x, x, self.w, w, self.conv, algo, workspace, size, beta, self.y, y,
                ),
                Algorithm::InputGradient(algo) => result::convolution_backward_data(
                    handle, alpha, self.w, w, self.y, y, self.conv, algo, workspace, size, beta, self.x, x,
                ),
                Algorithm::WeightGradient(algo) => result::convolution_backward_filter(
                    handle, alpha, self.x, x, self.y, y, self.conv, algo, workspace, size, beta, self.w, w,
                ),
            }
        }
    }
}

/// Numbers as they are, or what was made of them.
pub(crate) enum Operand {
    Plain(Ptr),
    Made(Buffer),
}

impl Operand {
    pub fn ptr(&self) -> Ptr {
        match self {
            Self::Plain(ptr) => *ptr,
            Self::Made(buffer) => buffer.ptr,
        }
    }
}

impl Gpu {
    /// A pass whose operands and result are f32 in memory.
    pub(crate) fn convolve(
        &self,
        pass: Pass,
        geometry: Geometry,
        precision: Precision,
        [a, b]: [Ptr; 2],
    ) -> Result<Buffer> {
        let math = Math::of(precision);
        let (x, w, y) = (geometry.input_len(), geometry.weight_len(), geometry.output_len());
        let (a_len, b_len, out_len) = match pass {
            Pass::Forward => (x, w, y),
            Pass::InputGradient => (w, y, x),
            Pass::WeightGradient => (x, y, w),
        };
        let (a, b) = (self.operand(math, a, a_len)?, self.operand(math, b, b_len)?);
        // Two bf16 fit into the place of one f32.
        let out = self.buffer(if math == Math::Bf16 { out_len.div_ceil(2) } else { out_len })?;
        let operands = match pass {
            Pass::Forward => [a.ptr(), b.ptr(), out.ptr],
            Pass::InputGradient => [out.ptr, a.ptr(), b.ptr()],
            Pass::WeightGradient => [a.ptr(), out.ptr, b.ptr()],
        };
        self.convolutions.lock().unwrap_or_else(PoisonError::into_inner).run(pass, math, geometry, operands)?;
        match math {
            Math::Bf16 => self.map("from_bf16", out_len, |to, n| args![out.ptr, to, n]),
            _ => Ok(out),
        }
    }

    fn operand(&self, math: Math, ptr: Ptr, len: usize) -> Result<Operand> {
        if math != Math::Bf16 {
            return Ok(Operand::Plain(ptr));
        }
        let rounded = self.buffer(len.div_ceil(2))?;
        self.launch("to_bf16", elements(len)?, &args![ptr, &rounded, size(len)?])?;
        Ok(Operand::Made(rounded))
    }
}
