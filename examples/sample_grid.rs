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
use cellforge::data::{Scale, View, ViewParts, sample_grid};
use cellforge::gan::{GanConfig, Generator};
use cellforge::nn::{Key, ParamStore};
use cellforge::train::TrainedGan;

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let checkpoint = arguments.next().map_or_else(|| PathBuf::from("runs/examples/gan"), PathBuf::from);
    let out = arguments.next().map_or_else(|| PathBuf::from("runs/examples/grid.png"), PathBuf::from);
    let images = if checkpoint.exists() {
        let gan = TrainedGan::load(&checkpoint)?;
        gan.sample(0, &gan.classes()[0], 0..25)?
    } else {
        println!("no checkpoint at {}: drawing from an untrained generator", checkpoint.display());
        let config = GanConfig { image_size: 32.into(), width: 0.25, ..GanConfig::default() };
        let store = ParamStore::new(Key::new(0), &Device::Cpu);
        let noise = Key::new(0).normal((25, config.latent), &Device::Cpu)?;
        let made = Generator::new(&config, store.vb())?.forward_t(&noise, false)?;
        View::new(ViewParts::from_tensor(&made, Scale::SignedUnit)?)?
    };
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    sample_grid(&images, 5).save(&out)?;
    println!("{} images of {} in {}", images.len(), images.classes()[0], out.display());
    Ok(())
}
