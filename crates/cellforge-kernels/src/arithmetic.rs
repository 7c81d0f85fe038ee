//! Arithmetic on tensors of one shape, with a place on the tape of [`gradients`](crate::gradients).

use crate::check::{images_only, slice};
use crate::device::on_device;
use crate::element::{Element, of_type};
use crate::elements::{map, zip_map};
use crate::gather::{is_channels_last, with_slice};
use crate::layout::{channels_first, channels_last, elementwise};
use crate::tape::{apply1, apply2, contiguous, wants};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// The sum of two tensors of one shape.
pub fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    same_shape("add", xs, ys)?;
    on_device!(
        xs.device(),
        cpu = pairwise(xs, ys, |xs, ys| apply2(xs, ys, Pairwise::Add)),
        cuda = crate::cuda::add(xs, ys),
        composed = xs + ys,
    )
}

/// The difference of two tensors of one shape, `xs - ys`.
pub fn sub(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    same_shape("sub", xs, ys)?;
    on_device!(
        xs.device(),
        cpu = pairwise(xs, ys, |xs, ys| apply2(xs, ys, Pairwise::Sub)),
        cuda = crate::cuda::add(xs, &crate::cuda::scale(ys, -1.)?),
        composed = xs - ys,
    )
}

/// The product of two tensors of one shape, element by element.
pub fn mul(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    same_shape("mul", xs, ys)?;
    on_device!(
        xs.device(),
        cpu = pairwise(xs, ys, |xs, ys| apply2(xs, ys, Pairwise::Mul)),
        cuda = crate::cuda::mul(xs, ys),
        composed = xs * ys,
    )
}

/// The square of each element; `xs` may have any shape.
pub fn sqr(xs: &Tensor) -> Result<Tensor> {
    mul(xs, xs)
}

/// `xs` times a number; `xs` may have any shape.
pub fn scale(xs: &Tensor, factor: f32) -> Result<Tensor> {
    images_only("scale", &[("xs", xs)])?;
    on_device!(
        xs.device(),
        cpu = elementwise(xs, |xs| apply1(xs, Scale(factor))),
        cuda = crate::cuda::scale(xs, factor),
        composed = xs * f64::from(factor),
    )
}

fn same_shape(op: &str, xs: &Tensor, ys: &Tensor) -> Result<()> {
    images_only(op, &[("xs", xs), ("ys", ys)])?;
    if xs.dims() != ys.dims() {
        bail!("{op}: xs has shape {:?}, ys {:?}", xs.dims(), ys.dims());
    }
    Ok(())
}

/// Applies an operation on pairs of elements, which takes contiguous tensors, without changing how images lie in memory.
fn pairwise(xs: &Tensor, ys: &Tensor, op: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match is_channels_last(xs) || is_channels_last(ys) {
        true => channels_first(&op(&channels_last(xs)?, &channels_last(ys)?)?),
        false => op(&contiguous(xs)?, &contiguous(ys)?),
    }
}

#[derive(Clone, Copy)]
enum Pairwise {
    Add,
    Sub,
    Mul,
}

impl CustomOp2 for Pairwise {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
        }
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_l: &Layout, b: &CpuStorage, b_l: &Layout) -> Result<(CpuStorage, Shape)> {
        of_type!(a.dtype(), E => {
            let (a, b) = (slice::<E>(self.name(), a, a_l)?, slice::<E>(self.name(), b, b_l)?);
            let values: Vec<E> = match self {
                Self::Add => zip_map(a, b, |a, b| a + b),
                Self::Sub => zip_map(a, b, |a, b| a - b),
                Self::Mul => zip_map(a, b, |a, b| a * b),
            };
            Ok((E::storage(values), a_l.shape().clone()))
        })
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let name = self.name();
        // The gradient of one operand, where it is wanted.
        let product = |wanted: &Tensor, other: &Tensor| -> Result<Option<Tensor>> {
            if !wants(wanted) {
                return Ok(None);
            }
            of_type!(other.dtype(), E => {
                let times = |xs: &[E], grad: &[E]| zip_map::<E, E, E>(xs, grad, |x, g| x * g);
                let values = with_slice(name, other, |xs| with_slice(name, grad, |grad| Ok(times(xs, grad))))?;
                Ok(Some(Tensor::from_vec(values, other.shape(), other.device())?))
            })
        };
        Ok(match self {
            Self::Add => (Some(grad.clone()), Some(grad.clone())),
            Self::Sub => of_type!(b.dtype(), E => {
                let values = with_slice(name, grad, |grad: &[E]| Ok(map(grad, |g| -g)))?;
                (Some(grad.clone()), Some(Tensor::from_vec(values, b.shape(), b.device())?))
            }),
            Self::Mul => (product(a, b)?, product(b, a)?),
        })
    }
}

struct Scale(f32);

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let factor = self.0;
        of_type!(storage.dtype(), E => {
            let values = map(slice::<E>("scale", storage, layout)?, move |x| factor * x);
            Ok((E::storage(values), layout.shape().clone()))
        })
    }

    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let factor = self.0;
        of_type!(xs.dtype(), E => {
            let values = with_slice("scale", grad, |grad: &[E]| Ok(map(grad, move |g| factor * g)))?;
            Ok(Some(Tensor::from_vec(values, xs.shape(), xs.device())?))
        })
    }
}
