//! Layers with an explicit `train` flag, seeded initialisation and noise, and optimisers whose state can be saved, on
//! Candle.
//!
//! Candle's CPU randomness cannot be seeded and its `VarMap` has no fixed order, so this crate has its own: every
//! random number comes from a [`Key`] that is derived from the seed and from what the number is for, and a
//! [`ParamStore`] gives each parameter a start that depends on the key and on the parameter's path alone.
//!
//! ```
//! use cellforge_nn::{Adam, AdamConfig, Conv2dConfig, Key, Optimizer, Padding, ParamStore, conv2d};
//! use candle_core::Device;
//!
//! # fn main() -> candle_core::Result<()> {
//! let key = Key::new(7);
//! let store = ParamStore::new(key.with("weights"), &Device::Cpu);
//! let cfg = Conv2dConfig { stride: 2, padding: Padding::uniform(1) };
//! let conv = conv2d(3, 8, 3, true, cfg, store.vb().pp("stem"))?;
//! let mut optimizer = Optimizer::Adam(Adam::new(store.trainable(), AdamConfig::default())?);
//!
//! let xs = key.with("noise").normal((2, 3, 8, 8), &Device::Cpu)?;
//! let loss = |conv: &cellforge_nn::Conv2d| conv.forward(&xs)?.sqr()?.mean_all();
//! let before = loss(&conv)?;
//! optimizer.step(&before.backward()?)?;
//! assert!(loss(&conv)?.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
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
mod store;
pub mod summary;

pub use batch_norm::{BatchNorm2d, BatchNormConfig, batch_norm2d};
pub use cellforge_kernels as ops;
pub use cellforge_kernels::{Conv2dConfig, Padding, gradients};
pub use conv::{Conv2d, conv2d};
pub use dropout::Dropout;
pub use key::Key;
pub use linear::{Linear, linear};
pub use optim::{Adam, AdamConfig, Optimizer, Sgd, SgdConfig};
pub use store::ParamStore;

use candle_nn::Init;

/// Glorot and Bengio's (2010) uniform start, Keras's default: within `sqrt(6 / (fan_in + fan_out))` of zero.
fn glorot_uniform(fan_in: usize, fan_out: usize) -> Init {
    let limit = (6. / (fan_in + fan_out) as f64).sqrt();
    Init::Uniform { lo: -limit, up: limit }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
