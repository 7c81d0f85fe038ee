//! Optimizers whose whole state can be saved and restored, so that a resumed run continues to the same bytes.
//!
//! A parameter without a gradient in a step is left as it is in that step, as in PyTorch.

mod adam;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use sgd::{Sgd, SgdConfig};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::Optimizer;
use std::collections::BTreeMap;

/// Any of the optimizers, where a setting decides which. It has Candle's [`Optimizer`] but for its constructors: build one of its kinds.
pub enum AnyOptimizer {
    /// See [`Adam`].
    Adam(Adam),
    /// See [`Sgd`].
    Sgd(Sgd),
}

impl AnyOptimizer {
    /// Applies one update of every parameter that has a gradient.
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        match self {
            Self::Adam(adam) => adam.step(grads),
            Self::Sgd(sgd) => sgd.step(grads),
        }
    }

    /// Sets the learning rate from the next step on. It is not part of the state: schedules set it before each step.
    pub fn set_learning_rate(&mut self, lr: f64) {
        match self {
            Self::Adam(adam) => adam.set_learning_rate(lr),
            Self::Sgd(sgd) => sgd.set_learning_rate(lr),
        }
    }

    /// The learning rate.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Adam(adam) => adam.learning_rate(),
            Self::Sgd(sgd) => sgd.learning_rate(),
        }
    }

    /// A copy of the moments or velocities and of the number of steps taken (`step`, a scalar of `f64`).
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Adam(adam) => adam.state(),
            Self::Sgd(sgd) => sgd.state(),
        }
    }

    /// Goes back to a state from [`AnyOptimizer::state`]. A missing or unknown name or a different shape is an error
    /// and changes nothing.
    pub fn set_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        match self {
            Self::Adam(adam) => adam.set_state(state),
            Self::Sgd(sgd) => sgd.set_state(state),
        }
    }
}

/// Adds the gradients of `vars` to `total`, which they become if there is none: the gradient of a sum of losses.
///
/// # Errors
/// Those of the sums.
pub fn accumulate(total: &mut Option<GradStore>, grads: GradStore, vars: &[(String, Var)]) -> Result<()> {
    let Some(total) = total else {
        *total = Some(grads);
        return Ok(());
    };
    for (_, var) in vars {
        if let Some(grad) = grads.get(var) {
            let sum = match total.get(var) {
                Some(other) => (other + grad)?,
                None => grad.clone(),
            };
            total.insert(var, sum);
        }
    }
    Ok(())
}

const STEP: &str = "step";

/// Parameters under their numbers.
fn numbered(vars: Vec<Var>) -> Vec<(String, Var)> {
    vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect()
}

/// A variable of zeros like each of the parameters, under the name `<prefix>.<parameter>`.
fn zeros_like(prefix: &str, params: &[(String, Var)]) -> Result<Vec<(String, Var)>> {
    params
        .iter()
        .map(|(name, var)| Ok((format!("{prefix}.{name}"), Var::zeros(var.shape(), var.dtype(), var.device())?)))
        .collect()
}

fn save_state<'a>(step: u64, slots: impl Iterator<Item = &'a (String, Var)>) -> Result<BTreeMap<String, Tensor>> {
    let mut state = BTreeMap::from([(STEP.to_string(), Tensor::new(step as f64, &Device::Cpu)?)]);
    for (name, var) in slots {
        state.insert(name.clone(), var.as_tensor().detach().copy()?);
    }
    Ok(state)
}

/// Restores the slots and returns the number of steps.
fn load_state<'a>(
    state: &BTreeMap<String, Tensor>,
    slots: impl Iterator<Item = &'a (String, Var)> + Clone,
) -> Result<u64> {
    let Some(step) = state.get(STEP) else { bail!("the optimizer's state has no `{STEP}`") };
    let step = step.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let [step] = step[..] else { bail!("`{STEP}` of the optimizer's state is not one number") };
    let mut used = 1;
    for (name, var) in slots.clone() {
        match state.get(name) {
            Some(tensor) if tensor.dims() == var.dims() => used += 1,
            Some(tensor) => {
                bail!("{name} of the optimizer's state has shape {:?}, expected {:?}", tensor.dims(), var.dims())
            }
            None => bail!("the optimizer's state has no {name}: it is of another model or another optimizer"),
        }
    }
    if used != state.len() {
        bail!("the optimizer's state has {} tensors, expected {used}: it is of another model", state.len());
    }
    for (name, var) in slots {
        var.set(&state[name].detach().to_device(var.device())?.to_dtype(var.dtype())?.copy()?)?;
    }
    Ok(step as u64)
}
