//! Layers with an explicit `train` flag, seeded initialisation and noise, and optimizers whose state can be saved, on
//! Candle. Layers are Candle's [`Module`] or [`ModuleT`], and optimizers its [`Optimizer`](candle_nn::Optimizer).
//!
//! Candle's CPU randomness cannot be seeded and its `VarMap` has no fixed order, so this crate has its own: every
//! random number comes from a [`Key`] that is derived from the seed and from what the number is for, and a
//! [`ParamStore`] gives each parameter a start that depends on the key and on the parameter's path alone.
//!
//! ```
//! use candle_nn::{Module, Optimizer};
//! use cellforge_nn::{Adam, AdamConfig, Conv2dConfig, Key, Padding, ParamStore, conv2d, gradients, ops};
//! use candle_core::Device;
//!
//! # fn main() -> candle_core::Result<()> {
//! let key = Key::new(7);
//! let store = ParamStore::new(key.with("weights"), &Device::Cpu);
//! let cfg = Conv2dConfig::new(2, Padding::uniform(1));
//! let conv = conv2d(3, 8, 3, true, cfg, store.vb().pp("stem"))?;
//! let mut optimizer = Adam::named(store.trainable(), AdamConfig::default())?;
//!
//! let xs = key.with("noise").normal((2, 3, 8, 8), &Device::Cpu)?;
//! let loss = || ops::mean(&ops::sqr(&conv.forward(&xs)?)?);
//! let (before, grads) = gradients(loss)?;
//! optimizer.step(&grads)?;
//! assert!(loss()?.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
//! assert_eq!(store.trainable().len(), 2); // stem.bias and stem.weight
//! # Ok(())
//! # }
//! ```

mod batch_norm;
mod conv;
mod dropout;
mod key;
mod linear;
pub mod optim;
mod spectral;
mod store;
pub mod summary;

pub use batch_norm::{BatchNorm2d, BatchNormConfig, DeferredStatistics, batch_norm2d, defer_statistics};
pub use candle_nn::{Module, ModuleT};
pub use cellforge_kernels as ops;
pub use cellforge_kernels::{Conv2dConfig, Padding, Precision, Recorded, gradients, record};
pub use conv::{Conv2d, conv2d, conv2d_with};
pub use dropout::Dropout;
pub use key::Key;
pub use linear::{Linear, embedding, linear, linear_with};
pub use optim::{Adam, AdamConfig, AnyOptimizer, Sgd, SgdConfig, accumulate};
pub use spectral::{SpectralNorm, spectral_norm};
pub use store::ParamStore;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::Init;

/// Labels as rows `(b, classes)` of zeros with a one at each label's place.
///
/// # Errors
/// If a label is not below `classes`.
pub fn one_hot(labels: &[u32], classes: usize, device: &Device) -> Result<Tensor> {
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        bail!("one_hot: label {label} is not below the number of classes, {classes}");
    }
    let rows = labels.iter().flat_map(|&label| (0..classes).map(move |class| f32::from(class == label as usize)));
    Tensor::from_iter(rows, device)?.reshape((labels.len(), classes))
}

/// Glorot and Bengio's (2010) uniform start, Keras's default: within `sqrt(6 / (fan_in + fan_out))` of zero.
fn glorot_uniform(fan_in: usize, fan_out: usize) -> Init {
    let limit = (6. / (fan_in + fan_out) as f64).sqrt();
    Init::Uniform { lo: -limit, up: limit }
}

/// The normal start of He et al. (2015) before a leaky ReLU, of variance `2 / ((1 + negative_slope^2) fan_in)`; a slope of 1 is for
/// layers without an activation.
pub fn he_normal(fan_in: usize, negative_slope: f64) -> Init {
    Init::Randn { mean: 0., stdev: (2. / ((1. + negative_slope * negative_slope) * fan_in as f64)).sqrt() }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
