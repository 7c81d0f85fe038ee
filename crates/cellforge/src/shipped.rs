//! The generator that comes with the program.
//!
//! ```
//! use cellforge::{candle::Device, shipped, train};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (generator, state) = shipped::generator(&Device::Cpu)?;
//! let class = state.classes[0].clone();
//! let (latent, label) = (state.config.model.latent, state.label(&class)?);
//! let options = train::GenerateOptions { seed: 1, class, label, latent, first: 0, count: 3, truncation: None };
//! assert_eq!(train::generate(&generator, &options, &Device::Cpu)?.len(), 3);
//! println!("{}", shipped::DATASHEET);
//! # Ok(())
//! # }
//! ```

use candle_core::Device;
use cellforge_gan::Generator;
use cellforge_train::{GanState, Result, load_generator_bytes};

/// What `cellforge pack` made of the checkpoint.
const WEIGHTS: &[u8] = include_bytes!("../shipped/weights.safetensors");
const STATE: &[u8] = include_bytes!("../shipped/state.json");

/// What the generator was trained on, what its images are worth and what they must not be used for, in Markdown.
pub const DATASHEET: &str = include_str!("../shipped/DATASHEET.md");

/// The generator and its state. There is no discriminator to it. Another version of the program may have another generator.
///
/// # Errors
/// If the device cannot hold it.
pub fn generator(device: &Device) -> Result<(Generator, GanState)> {
    load_generator_bytes(WEIGHTS, STATE, device)
}

/// The title of the data sheet.
#[must_use]
pub fn name() -> &'static str {
    DATASHEET.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}
