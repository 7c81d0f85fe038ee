//! The fully connected layer.

use crate::{glorot_uniform, ops};
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

/// A fully connected layer from `c_in` to `c_out` features: parameters `weight` `(c_out, c_in)`, which starts as
/// Glorot uniform, and `bias` `(c_out)`, which starts at zero.
pub fn linear(c_in: usize, c_out: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get_with_hints((c_out, c_in), "weight", glorot_uniform(c_in, c_out))?;
    let bias = vb.get_with_hints(c_out, "bias", Init::Const(0.))?;
    Ok(Linear { weight, bias })
}

impl Linear {
    /// `(b, c_in)` to `(b, c_out)`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, Some(&self.bias))
    }
}
