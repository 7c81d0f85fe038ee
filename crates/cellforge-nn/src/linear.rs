//! The fully connected layer.

use crate::{Precision, glorot_uniform, ops};
use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    precision: Precision,
}

/// A fully connected layer from `c_in` to `c_out` features: parameters `weight` `(c_out, c_in)`, which starts as
/// Glorot uniform, and `bias` `(c_out)`, which starts at zero.
pub fn linear(c_in: usize, c_out: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    linear_with(glorot_uniform(c_in, c_out), Some(0.), (c_in, c_out), vb)
}

/// A row of `c_out` numbers for each of `classes` classes, without a bias: a [`Linear`] whose input is the classes' weights, usually
/// [`one_hot`](crate::one_hot). The parameter `weight` `(c_out, classes)` starts normal with this standard deviation.
pub fn embedding(classes: usize, c_out: usize, stdev: f64, vb: VarBuilder<'_>) -> Result<Linear> {
    linear_with(Init::Randn { mean: 0., stdev }, None, (classes, c_out), vb)
}

/// As [`linear`], with weights that start as `init` says, for example [`he_normal`](crate::he_normal), and a bias that starts at the
/// number given, or none.
pub fn linear_with(init: Init, bias: Option<f64>, (c_in, c_out): (usize, usize), vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get_with_hints((c_out, c_in), "weight", init)?;
    let bias = bias.map(|start| vb.get_with_hints(c_out, "bias", Init::Const(start))).transpose()?;
    Ok(Linear { weight, bias, precision: Precision::F32 })
}

impl Module for Linear {
    /// `(b, c_in)` to `(b, c_out)`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, self.bias.as_ref(), self.precision)
    }
}

impl Linear {
    /// The weights, `(c_out, c_in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// This layer with its products in this precision in place of `f32`; see [`ops::linear`].
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// This layer with weights of another value.
    pub fn with_weight(&self, weight: Tensor) -> Self {
        Self { weight, ..self.clone() }
    }

    /// The product of this layer's Jacobian with a vector, a change of its input: [`forward`](Module::forward) without the bias.
    pub fn jvp(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, None, self.precision)
    }
}
