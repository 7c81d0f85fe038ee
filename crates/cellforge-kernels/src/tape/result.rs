//! Results of a recording: tensors that Candle takes for computed from a variable.
//!
//! A result without a place on Candle's graph would be a constant to Candle's own operations, and what they make of it another one:
//! nothing would tell of the gradient that is lost there. So a result's operation on that graph is one of ours on a marker, a variable
//! that nobody else has. What Candle makes of it is then tracked and can be told from a constant. The operation holds no operands, so
//! that a result keeps no other tensor alive.

use super::origin::take_arrived;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, MetalStorage, Result, Shape, Storage, Tensor, TensorId, Var,
    bail,
};
use std::sync::{Mutex, PoisonError};

/// The marker of each device.
static MARKERS: Mutex<Vec<Var>> = Mutex::new(Vec::new());

/// Whether a tensor is one of the variables from which results seem to be computed.
pub(super) fn is_marker(tensor: &Tensor) -> bool {
    let is = |id: TensorId| MARKERS.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|var| var.id() == id);
    tensor.is_variable() && is(tensor.id())
}

/// Puts what an operation computed into a tensor that Candle tracks.
pub(super) fn tracked(name: &'static str, storage: Storage, shape: Shape) -> Result<Tensor> {
    let device = storage.device();
    let marker = {
        let mut markers = MARKERS.lock().unwrap_or_else(PoisonError::into_inner);
        match markers.iter().find(|var| var.device().same_device(&device)) {
            Some(marker) => marker.clone(),
            None => {
                let marker = Var::zeros((), DType::F32, &device)?;
                markers.push(marker.clone());
                marker
            }
        }
    };
    marker.apply_op1(Computed { name, result: Mutex::new(Some((storage, shape))) })
}

/// The operation of a result on Candle's graph. Its forward pass hands out what was computed before.
struct Computed {
    name: &'static str,
    result: Mutex<Option<(Storage, Shape)>>,
}

impl Computed {
    fn take<T>(&self, of: impl FnOnce(Storage) -> Option<T>) -> Result<(T, Shape)> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match result.and_then(|(storage, shape)| Some((of(storage)?, shape))) {
            Some(result) => Ok(result),
            None => bail!("{}: its result is gone", self.name),
        }
    }
}

impl CustomOp1 for Computed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take(|storage| if let Storage::Cpu(storage) = storage { Some(storage) } else { None })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.take(|storage| if let Storage::Cuda(storage) = storage { Some(storage) } else { None })
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.take(|storage| if let Storage::Metal(storage) = storage { Some(storage) } else { None })
    }

    fn bwd(&self, _marker: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if take_arrived(result, grad) {
            return Ok(None);
        }
        bail!(
            "the result of {} belongs to a recording, which alone can differentiate it; .detach() makes a constant of it",
            self.name
        )
    }
}
