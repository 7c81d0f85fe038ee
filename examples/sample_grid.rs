//! Draws a grid of images from a generator's checkpoint.
//!
//! ```sh
//! cargo run --release --example train_gan                           # makes a checkpoint
//! cargo run --release --example sample_grid                         # reads it
//! cargo run --release --example sample_grid -- FOLDER grid.png      # or any other
//! ```
//!
//! Expect an image of 5 by 5 cells in about a second. Without a checkpoint at hand it draws what an untrained generator
//! makes: grey fog.

use std::path::PathBuf;

use anyhow::Result;
use cellforge::candle::Device;
use cellforge::data::sample_grid;
use cellforge::gan::{GanConfig, Generator};
use cellforge::nn::{Key, ParamStore};
use cellforge::train::{GenerateOptions, generate, load_generator};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let checkpoint = arguments.next().map_or_else(|| PathBuf::from("runs/examples/gan"), PathBuf::from);
    let out = arguments.next().map_or_else(|| PathBuf::from("runs/examples/grid.png"), PathBuf::from);
    let (generator, class, latent) = if checkpoint.exists() {
        let (generator, state) = load_generator(&checkpoint, &Device::Cpu)?;
        (generator, state.config.class, state.config.model.latent)
    } else {
        println!("no checkpoint at {}: drawing from an untrained generator", checkpoint.display());
        let config = GanConfig { image_size: 32, width: 0.25, ..GanConfig::default() };
        let store = ParamStore::new(Key::new(0), &Device::Cpu);
        (Generator::new(&config, store.vb())?, "untrained".to_owned(), config.latent)
    };
    let options = GenerateOptions { seed: 0, class, latent, first: 0, count: 25, label: None, truncation: None };
    let images = generate(&generator, &options, &Device::Cpu)?;
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    sample_grid(&images, 5).save(&out)?;
    println!("{} images of {} in {}", images.len(), options.class, out.display());
    Ok(())
}
