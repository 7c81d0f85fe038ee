//! Adam (Kingma and Ba 2015) as PyTorch computes it.

use super::{load_state, numbered, save_state, zeros_like};
use crate::ops::{AdamStep, AdamUpdate, adam_update};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::Optimizer;
use std::collections::BTreeMap;

/// The settings of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the corrected second moment. (Keras adds its epsilon, 1e-7, before the correction.)
    pub eps: f64,
}

impl Default for AdamConfig {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Adam without weight decay. The formula is at [`adam_update`].
pub struct Adam {
    vars: Vec<(String, Var)>,
    m: Vec<(String, Var)>,
    v: Vec<(String, Var)>,
    step: u64,
    cfg: AdamConfig,
}

impl Optimizer for Adam {
    type Config = AdamConfig;

    /// An optimizer of these parameters, which its state names by their numbers; see [`Adam::named`].
    fn new(vars: Vec<Var>, cfg: AdamConfig) -> Result<Self> {
        Self::named(numbered(vars), cfg)
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.step += 1;
        let AdamConfig { lr, beta1, beta2, eps } = self.cfg;
        let step = AdamStep { lr, beta1, beta2, eps, step: self.step };
        let moments = self.m.iter().zip(&self.v);
        let updates = self.vars.iter().zip(moments).filter_map(|((_, param), ((_, m), (_, v)))| {
            let grad = grads.get(param)?;
            Some(AdamUpdate { param, grad, m, v })
        });
        adam_update(&updates.collect::<Vec<_>>(), &step)
    }

    fn learning_rate(&self) -> f64 {
        self.cfg.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.cfg.lr = lr;
    }
}

impl Adam {
    /// An optimizer of these parameters, with moments of zero. The names are those of the state.
    pub fn named(vars: Vec<(String, Var)>, cfg: AdamConfig) -> Result<Self> {
        let (m, v) = (zeros_like("m", &vars)?, zeros_like("v", &vars)?);
        Ok(Self { vars, m, v, step: 0, cfg })
    }

    /// See [`super::AnyOptimizer::state`]; the moments are `m.<parameter>` and `v.<parameter>`.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        save_state(self.step, self.m.iter().chain(&self.v))
    }

    /// See [`super::AnyOptimizer::set_state`].
    pub fn set_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.step = load_state(state, self.m.iter().chain(&self.v))?;
        Ok(())
    }
}
