//! The batch normalisation layer.

use crate::{Dropout, Key, ops};
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, ModuleT, VarBuilder};
use cellforge_kernels::DropoutMask;

/// How a [`BatchNorm2d`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance before the root is taken.
    pub eps: f64,
    /// The weight of the newest batch in the running statistics. This is PyTorch's meaning; a Keras momentum of `m`
    /// is `1 - m` here.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1 }
    }
}

/// Batch normalisation of images, channel by channel (Ioffe and Szegedy 2015).
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    cfg: BatchNormConfig,
}

/// Batch normalisation of `c` channels: parameters `weight` (starts at 1) and `bias` (0), and running statistics
/// `running_mean` (0) and `running_var` (1), each `(c)`.
pub fn batch_norm2d(c: usize, cfg: BatchNormConfig, vb: VarBuilder<'_>) -> Result<BatchNorm2d> {
    Ok(BatchNorm2d {
        weight: vb.get_with_hints(c, "weight", Init::Const(1.))?,
        bias: vb.get_with_hints(c, "bias", Init::Const(0.))?,
        // A `ParamStore` hands out the tensors of its variables, and `from_tensor` of such a tensor is the same
        // variable: an update here is seen by the store.
        running_mean: Var::from_tensor(&vb.get_with_hints(c, "running_mean", Init::Const(0.))?)?,
        running_var: Var::from_tensor(&vb.get_with_hints(c, "running_var", Init::Const(1.))?)?,
        cfg,
    })
}

impl ModuleT for BatchNorm2d {
    /// `(b, c, h, w)` to the same shape. With `train` the batch's own statistics are used, and the running ones move
    /// towards them by `momentum` (the variance with Bessel's correction, as in PyTorch); otherwise the running
    /// statistics are used and stay as they are.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_leaky_relu_t(xs, 1., train)
    }
}

impl BatchNorm2d {
    /// This layer and a ReLU, in the same passes over memory.
    pub fn forward_relu_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_leaky_relu_t(xs, 0., train)
    }

    /// This layer and a leaky ReLU of this negative slope, in the same passes over memory.
    pub fn forward_leaky_relu_t(&self, xs: &Tensor, negative_slope: f32, train: bool) -> Result<Tensor> {
        let eps = self.cfg.eps;
        if !train {
            let (mean, var) = (self.running_mean.as_tensor(), self.running_var.as_tensor());
            return ops::batch_norm_leaky_relu_eval(xs, &self.weight, &self.bias, mean, var, eps, negative_slope);
        }
        self.train(xs, negative_slope, None)
    }

    /// This layer, a leaky ReLU of this negative slope and dropout with a mask from `key`, in the same passes over memory.
    pub fn forward_leaky_relu_dropout_t(
        &self,
        xs: &Tensor,
        negative_slope: f32,
        dropout: &Dropout,
        train: bool,
        key: &Key,
    ) -> Result<Tensor> {
        match dropout.active_mask(xs, train, key)? {
            Some(mask) => self.train(xs, negative_slope, Some(mask)),
            None => self.forward_leaky_relu_t(xs, negative_slope, train),
        }
    }

    fn train(&self, xs: &Tensor, negative_slope: f32, mask: Option<DropoutMask>) -> Result<Tensor> {
        let (weight, bias, eps) = (&self.weight, &self.bias, self.cfg.eps);
        let (ys, stats) = ops::batch_norm_leaky_relu_train(xs, weight, bias, eps, negative_slope, mask)?;
        self.update(&self.running_mean, &stats.mean)?;
        self.update(&self.running_var, &stats.var_unbiased)?;
        Ok(ys)
    }

    fn update(&self, running: &Var, batch: &Tensor) -> Result<()> {
        ops::ema_update(&[(running, batch)], 1. - self.cfg.momentum)
    }
}
