//! The GAN of the study: a generator of cell images, its discriminator, and their losses.
//!
//! Both networks follow the published layer tables at the default [`GanConfig`], and scale with it in image side,
//! channels and width. Parameters have the names and layouts of the same networks written in PyTorch, so that
//! checkpoints go both ways. This crate knows no files, data sets or optimisers.
//!
//! ```
//! use candle_core::Device;
//! use cellforge_gan::{Discriminator, GanConfig, Generator, loss};
//! use cellforge_nn::{Key, ParamStore};
//!
//! # fn main() -> candle_core::Result<()> {
//! let cfg = GanConfig { image_size: 32, width: 0.125, ..Default::default() };
//! let key = Key::new(7);
//! let g_store = ParamStore::new(key.with("generator"), &Device::Cpu);
//! let d_store = ParamStore::new(key.with("discriminator"), &Device::Cpu);
//! let generator = Generator::new(&cfg, g_store.vb())?;
//! let discriminator = Discriminator::new(&cfg, d_store.vb())?;
//!
//! let noise = key.with("noise").normal((4, cfg.latent), &Device::Cpu)?;
//! let images = generator.forward_t(&noise, false)?;
//! assert_eq!(images.dims(), [4, 3, 32, 32]);
//! let logits = discriminator.forward_t(&images, true, &key.with("dropout").at(0))?;
//! let loss = loss::generator(&logits)?;
//! assert!(loss.to_scalar::<f32>()? > 0.0);
//!
//! // The study's own networks, layer by layer.
//! assert_eq!(GanConfig::default().generator_summary().params(), 2_043_011);
//! assert_eq!(GanConfig::default().discriminator_summary().params(), 1_613_889);
//! # Ok(())
//! # }
//! ```

mod config;
mod discriminator;
mod generator;
pub mod loss;

pub use config::GanConfig;
pub use discriminator::Discriminator;
pub use generator::Generator;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
