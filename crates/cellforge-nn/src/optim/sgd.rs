//! Stochastic gradient descent with momentum as Keras computes it.

use super::{load_state, numbered, save_state, zeros_like};
use crate::ops::{SgdStep, SgdUpdate, sgd_update};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::Optimizer;
use std::collections::BTreeMap;

/// The settings of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 is plain gradient descent.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
}

impl Default for SgdConfig {
    /// Keras's defaults.
    fn default() -> Self {
        Self { lr: 0.01, momentum: 0., nesterov: false }
    }
}

/// Stochastic gradient descent. Keras's velocity contains the learning rate, PyTorch's does not: the two differ only
/// where the rate changes during training. The formula is at [`sgd_update`].
pub struct Sgd {
    vars: Vec<(String, Var)>,
    velocity: Vec<(String, Var)>,
    l2: Vec<f64>,
    step: u64,
    cfg: SgdConfig,
}

impl Optimizer for Sgd {
    type Config = SgdConfig;

    /// An optimizer of these parameters without L2, which its state names by their numbers; see [`Sgd::named`].
    fn new(vars: Vec<Var>, cfg: SgdConfig) -> Result<Self> {
        Self::named(numbered(vars), cfg, BTreeMap::new())
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.step += 1;
        let SgdConfig { lr, momentum, nesterov } = self.cfg;
        let others = self.velocity.iter().zip(&self.l2);
        let updates = self.vars.iter().zip(others).filter_map(|((_, param), ((_, velocity), &l2))| {
            let grad = grads.get(param)?;
            Some(SgdUpdate { param, grad, velocity, l2 })
        });
        sgd_update(&updates.collect::<Vec<_>>(), &SgdStep { lr, momentum, nesterov })
    }

    fn learning_rate(&self) -> f64 {
        self.cfg.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.cfg.lr = lr;
    }
}

impl Sgd {
    /// An optimizer of these parameters, with velocities of zero. `l2` maps the name of a parameter to Keras's
    /// `l2(r)`, which adds `r * w^2` to the loss and hence `2 r w` to the gradient; an unknown name is an error.
    pub fn named(vars: Vec<(String, Var)>, cfg: SgdConfig, l2: BTreeMap<String, f64>) -> Result<Self> {
        if let Some(name) = l2.keys().find(|name| !vars.iter().any(|(var, _)| var == *name)) {
            bail!("sgd: L2 is set for {name}, which is not a parameter");
        }
        let velocity = zeros_like("velocity", &vars)?;
        let l2 = vars.iter().map(|(name, _)| l2.get(name).copied().unwrap_or(0.)).collect();
        Ok(Self { vars, velocity, l2, step: 0, cfg })
    }

    /// See [`super::AnyOptimizer::state`]; the velocities are `velocity.<parameter>`.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        save_state(self.step, self.velocity.iter())
    }

    /// See [`super::AnyOptimizer::set_state`].
    pub fn set_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.step = load_state(state, self.velocity.iter())?;
        Ok(())
    }
}
