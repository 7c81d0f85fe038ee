//! The batch normalisation layer.

use crate::{Dropout, Key, ops};
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, ModuleT, VarBuilder};
use cellforge_kernels::DropoutMask;
use std::cell::RefCell;

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
        let update = DeferredStatistics { running: running.clone(), batch: batch.clone(), momentum: self.cfg.momentum };
        DEFERRED.with_borrow_mut(|deferred| match deferred {
            Some(deferred) => {
                deferred.push(update);
                Ok(())
            }
            None => update.apply(batch),
        })
    }
}

thread_local! {
    /// The updates of running statistics that are kept instead of made, while [`defer_statistics`] runs in this thread.
    static DEFERRED: RefCell<Option<Vec<DeferredStatistics>>> = const { RefCell::new(None) };
}

/// An update of a running statistic that [`defer_statistics`] kept.
#[derive(Clone, Debug)]
pub struct DeferredStatistics {
    running: Var,
    batch: Tensor,
    momentum: f64,
}

impl DeferredStatistics {
    /// The statistic of the batch, `(c)`, towards which the running one was to move.
    pub fn batch(&self) -> &Tensor {
        &self.batch
    }

    /// Moves the running statistic towards that of this or another batch, `(c)`, as the layer would have done.
    ///
    /// # Errors
    /// Another shape.
    pub fn apply(&self, batch: &Tensor) -> Result<()> {
        ops::ema_update(&[(&self.running, batch)], 1. - self.momentum)
    }
}

/// Runs `forward` without moving running statistics in this thread, and returns the updates that its layers in training mode would have made,
/// in their order. Whoever has the batches of several processes can make the updates of all of them in one order.
pub fn defer_statistics<T>(forward: impl FnOnce() -> T) -> (T, Vec<DeferredStatistics>) {
    /// Puts back what there was before, also after a panic.
    struct Before(Option<Vec<DeferredStatistics>>);
    impl Drop for Before {
        fn drop(&mut self) {
            DEFERRED.set(self.0.take());
        }
    }
    let before = Before(DEFERRED.replace(Some(Vec::new())));
    let made = forward();
    let deferred = DEFERRED.take().unwrap_or_default();
    drop(before);
    (made, deferred)
}
