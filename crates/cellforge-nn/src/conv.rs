//! The convolution layer.

use crate::{Conv2dConfig, glorot_uniform, ops};
use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// A two-dimensional convolution with square kernels.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    cfg: Conv2dConfig,
}

/// A convolution of `k` by `k` kernels from `c_in` to `c_out` channels: parameters `weight` `(c_out, c_in, k, k)`,
/// which starts as Glorot uniform, and `bias` `(c_out)`, which starts at zero.
pub fn conv2d(
    c_in: usize,
    c_out: usize,
    k: usize,
    bias: bool,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    conv2d_with(glorot_uniform(c_in * k * k, c_out * k * k), (c_in, c_out, k), bias, cfg, vb)
}

/// As [`conv2d`], of `k` by `k` kernels from `c_in` to `c_out` channels that start as `init` says, for example [`he_normal`](crate::he_normal).
pub fn conv2d_with(
    init: Init,
    (c_in, c_out, k): (usize, usize, usize),
    bias: bool,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    let weight = vb.get_with_hints((c_out, c_in, k, k), "weight", init)?;
    let bias = if bias { Some(vb.get_with_hints(c_out, "bias", Init::Const(0.))?) } else { None };
    Ok(Conv2d { weight, bias, cfg })
}

impl Module for Conv2d {
    /// `(b, c_in, h, w)` to `(b, c_out, oh, ow)`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::conv2d(xs, &self.weight, self.bias.as_ref(), &self.cfg)
    }
}

impl Conv2d {
    /// The kernels, `(c_out, c_in, k, k)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// This layer with kernels of another value, such as [`SpectralNorm`](crate::SpectralNorm) makes of its own.
    pub fn with_weight(&self, weight: Tensor) -> Self {
        Self { weight, ..self.clone() }
    }

    /// The product of this layer's Jacobian with a vector, a change of its input: [`forward`](Module::forward) without the bias.
    pub fn jvp(&self, xs: &Tensor) -> Result<Tensor> {
        ops::conv2d(xs, &self.weight, None, &self.cfg)
    }

    /// A leaky ReLU of [`forward`](Module::forward). `negative_slope` must not be below 0.
    pub fn forward_leaky_relu(&self, xs: &Tensor, negative_slope: f32) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => ops::conv2d_leaky_relu(xs, &self.weight, bias, &self.cfg, negative_slope),
            None => ops::leaky_relu(&self.forward(xs)?, negative_slope),
        }
    }

    /// The sum of [`forward`](Module::forward) and `addend`, of the output's shape.
    pub fn forward_add(&self, xs: &Tensor, addend: &Tensor) -> Result<Tensor> {
        match self.bias {
            Some(_) => ops::add(&self.forward(xs)?, addend),
            None => ops::conv2d_add(xs, &self.weight, addend, &self.cfg),
        }
    }

    /// Nearest 2x upsampling and then this layer, which must be 3x3 with stride 1 and padding 1:
    /// `(b, c_in, h, w)` to `(b, c_out, 2h, 2w)`. The upsampled images need not be made for it.
    pub fn forward_upsampled2x(&self, xs: &Tensor) -> Result<Tensor> {
        let expected = Conv2dConfig::new(1, ops::Padding::uniform(1)).in_precision(self.cfg.precision);
        if self.cfg != expected {
            candle_core::bail!("forward_upsampled2x: the convolution has {:?}, expected {expected:?}", self.cfg);
        }
        ops::upsample2x_conv2d(xs, &self.weight, self.bias.as_ref(), self.cfg.precision)
    }
}
