//! The numerical kernels of Cellforge: convolution, batch normalisation, pooling, activations, losses and
//! optimizer updates with right gradients, as functions of Candle tensors.
//!
//! On the CPU each is a Candle custom op with its own forward and backward pass, spread over images or channels
//! with rayon and compiled for several instruction sets, of which the best is chosen when the program runs ([`SimdLevel`]). Sums
//! are always taken in an order that depends on the shapes and the instruction set alone, so results are the same bytes at any
//! number of threads. With the feature `cuda` the same functions have kernels for NVIDIA GPUs, with the same results every time (`cuda_device`
//! opens one). On other devices they are written with Candle's own operations, arranged so that their gradients are right (see
//! [`composed`]).
//!
//! Tensors are `f32`, and images `(b, c, h, w)`. On the CPU images may be `bf16`, too: what is computed of them then is `f32` inside and `bf16`
//! in memory ([`to_precision`], [`Precision`]). Results are views of memory in which the channels of a pixel lie side by side, as
//! in PyTorch's `channels_last`; Candle's operations take them, some by way of `contiguous()`. Wrong types and shapes are errors
//! that name the operation. [`profile`] tells where the time goes.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use cellforge_kernels::{Conv2dConfig, Padding, conv2d};
//!
//! # fn main() -> candle_core::Result<()> {
//! let xs = Tensor::ones((1, 1, 4, 4), candle_core::DType::F32, &Device::Cpu)?;
//! let weight = Var::ones((1, 1, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let cfg = Conv2dConfig::new(1, Padding::uniform(1));
//! let ys = conv2d(&xs, &weight, None, &cfg)?;
//! assert_eq!(ys.get(0)?.get(0)?.to_vec2::<f32>()?[0], [4., 6., 6., 4.]);
//! let grads = ys.sum_all()?.backward()?;
//! // The centre tap meets all 16 cells, a corner tap only the 9 that it reaches.
//! let grad = grads.get(&weight).expect("the weight is a variable").flatten_all()?.to_vec1::<f32>()?;
//! assert_eq!(grad, [9., 12., 9., 12., 16., 12., 9., 12., 9.]);
//! # Ok(())
//! # }
//! ```

mod activation;
mod arithmetic;
mod batch_norm;
mod cast;
mod check;
pub mod composed;
mod config;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod dropout;
mod element;
mod elements;
mod gather;
mod gemm;
#[cfg(feature = "cuda")]
mod gpu;
mod layout;
mod linear;
mod loss;
mod mask;
mod memory;
mod micro;
mod modulate;
mod optim;
mod pool;
mod pool_windows;
mod product;
pub mod profile;
mod reduce;
mod remap;
mod shape;
mod simd;
mod spectral;
mod sum;
mod tape;
mod tiles;
mod transformer;
mod transpose;
mod updates;
mod upsample;
mod weighted;

pub use activation::{leaky_relu, leaky_relu_dropout, leaky_relu_jvp, relu, tanh};
pub use arithmetic::{add, mul, scale, sqr, sub};
pub use batch_norm::{batch_norm_eval, batch_norm_leaky_relu_eval, batch_norm_leaky_relu_train, batch_norm_train};
pub use cast::to_precision;
pub use config::{BatchStats, Conv2dConfig, ImageMap, Padding};
pub use conv::{conv2d, conv2d_add, conv2d_leaky_relu, upsample2x_conv2d, with_plain_sums};
pub use dropout::dropout;
#[cfg(feature = "cuda")]
pub use gpu::cuda_device;
pub use linear::linear;
pub use loss::{bce_with_logits, cross_entropy, hinge, softmax_bce};
pub use mask::DropoutMask;
pub use memory::keep_freed_memory;
pub use modulate::{demodulation, modulate, modulate_twice};
pub use optim::{adam_update, ema_update, sgd_update};
pub use pool::{avg_pool2d, avg_pool2d_global, leaky_relu_avg_pool2x2, max_pool2d};
pub use product::Precision;
pub use reduce::{mean, mse, sum};
pub use remap::remap;
pub use shape::{pad_bottom_right, reshape, row_dot};
pub use simd::SimdLevel;
pub use spectral::spectral_normalised;
pub use tape::{Recorded, gradients, record};
pub use transformer::{attention, gelu, layer_norm};
pub use updates::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
pub use upsample::upsample_nearest2x;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
