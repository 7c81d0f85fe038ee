//! From one type of numbers in memory to another.

use crate::check::slice;
use crate::element::{Element, of_type};
use crate::elements::zip_map;
use crate::gather::with_slice;
use crate::layout::elementwise;
use crate::product::Precision;
use crate::tape::apply1;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

/// `xs`, of any shape, in the type that passes between the operations of a network of this precision: `bf16` on the CPU for
/// [`Precision::Bf16`] and its emulation, where there is support for them, and `f32` elsewhere. Numbers are rounded to the nearest, as their
/// gradient is on its way back; what is of that type already is returned as it is.
///
/// A network begins with this and ends with the same in [`Precision::F32`].
pub fn to_precision(xs: &Tensor, precision: Precision) -> Result<Tensor> {
    let is_number = [DType::F32, DType::BF16].contains(&xs.dtype());
    match precision.memory(xs.device()) {
        to if to == xs.dtype() => Ok(xs.clone()),
        _ if !is_number => bail!("to_precision: xs is {:?}, expected F32 or BF16", xs.dtype()),
        _ if !xs.device().is_cpu() => bail!("to_precision: xs is {:?}, which is for the CPU alone", xs.dtype()),
        to => elementwise(xs, |xs| apply1(xs, Cast(to))),
    }
}

/// To this type.
struct Cast(DType);

fn cast<X: Element, Y: Element>(xs: &[X]) -> Vec<Y> {
    zip_map(xs, xs, |x, _| x)
}

impl CustomOp1 for Cast {
    fn name(&self) -> &'static str {
        "to_precision"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        of_type!(storage.dtype(), X => {
            let xs = slice::<X>(self.name(), storage, layout)?;
            of_type!(self.0, Y => Ok((Y::storage(cast(xs)), layout.shape().clone())))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        of_type!(xs.dtype(), X => of_type!(self.0, Y => {
            let values = with_slice(self.name(), grad, |grad: &[Y]| Ok(cast::<Y, X>(grad)))?;
            Ok(Some(Tensor::from_vec(values, xs.shape(), xs.device())?))
        }))
    }
}
