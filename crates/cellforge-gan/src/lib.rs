//! The GAN of the study and better ones: generators of images, discriminators, and their losses.
//!
//! Both networks follow the published layer tables at the default [`GanConfig`], and scale with it in image side,
//! channels and width. Other kinds of network ([`GeneratorKind`], [`DiscriminatorKind`]), of one class or of several, are its choice,
//! and so are the rest of the crate's parts. Parameters have the names and layouts of the same networks written in PyTorch, so that
//! checkpoints go both ways. This crate knows no files, data sets or optimizers.
//!
//! ```
//! use candle_core::Device;
//! use cellforge_gan::{Discriminator, GanConfig, Generator, loss};
//! use cellforge_nn::{Key, ParamStore};
//!
//! # fn main() -> candle_core::Result<()> {
//! let cfg = GanConfig { image_size: 32.into(), width: 0.125, ..Default::default() };
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

mod augment;
mod config;
mod discriminator;
mod generator;
pub mod loss;

pub use augment::AugmentConfig;
pub use cellforge_settings::{CHANNELS, ImageSize};
pub use config::{DiscriminatorKind, GanConfig, GeneratorKind};
pub use discriminator::{Discriminator, InputGradient};
pub use generator::Generator;

use candle_core::{Result, Tensor, bail};

/// Fails unless a network of `of` classes is given the rows it needs for `b` images: none where there is one class.
fn check_classes(network: &str, classes: Option<&Tensor>, b: usize, of: usize) -> Result<()> {
    match classes {
        None if of == 1 => Ok(()),
        Some(rows) if of > 1 && rows.dims() == [b, of] => Ok(()),
        None => bail!("the {network} is of {of} classes: say of which each image is, in rows of shape ({b}, {of})"),
        Some(_) if of == 1 => bail!("the {network} knows of no classes, and was given some"),
        Some(rows) => bail!("the {network} takes classes of shape ({b}, {of}), not {:?}", rows.dims()),
    }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
