//! What optimizer updates are told.

use candle_core::{Tensor, Var};

/// The numbers of one Adam update.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment, after its bias is corrected.
    pub eps: f64,
    /// The number of this update, from 1.
    pub step: u64,
}

/// A parameter that Adam changes, its gradient, and its moments, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate<'a> {
    /// What is trained.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The mean of gradients.
    pub m: &'a Var,
    /// The mean of squared gradients.
    pub v: &'a Var,
}

/// What an Adam update multiplies by.
#[derive(Clone, Copy)]
pub(crate) struct AdamNumbers {
    pub b1: f32,
    pub b2: f32,
    pub c1: f32,
    pub c2: f32,
    pub rate: f32,
    pub root: f32,
    pub eps: f32,
}

impl AdamNumbers {
    pub fn new(step: &AdamStep) -> Self {
        let AdamStep { lr, beta1, beta2, eps, step: t } = *step;
        Self {
            b1: beta1 as f32,
            b2: beta2 as f32,
            c1: (1. - beta1) as f32,
            c2: (1. - beta2) as f32,
            rate: (lr / (1. - beta1.powf(t as f64))) as f32,
            root: (1. - beta2.powf(t as f64)).sqrt() as f32,
            eps: eps as f32,
        }
    }
}

/// The numbers of one SGD update.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 is plain gradient descent.
    pub momentum: f64,
    /// Nesterov's form: the change looks one step of momentum ahead.
    pub nesterov: bool,
}

/// A parameter that SGD changes, its gradient, and its velocity, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct SgdUpdate<'a> {
    /// What is trained.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The last change.
    pub velocity: &'a Var,
    /// Keras's `l2(r)`: `2 r param` is added to the gradient.
    pub l2: f64,
}
