//! `cellforge pack`: a generator alone, small enough to give away.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cellforge::{
    data::counted,
    train::{self, Checkpoint, checkpoint},
};

use crate::common::say;

/// Arguments of `pack`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge pack --checkpoint runs/best/gan/_all --out packed
  cellforge generate --checkpoint packed --count 100 --out synthetic

The folder gets weights.safetensors, in half precision, and state.json. Its images differ from the checkpoint's by a grey level or a few. It
cannot be trained further. Files that describe it may lie beside them.")]
pub struct Args {
    /// The folder of one trained GAN
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// The folder for the packed generator
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let Args { checkpoint, out } = args;
    let state = train::pack_generator(checkpoint, out)?;
    let weights = Checkpoint::find(out)?.file(checkpoint::WEIGHTS);
    let bytes = std::fs::metadata(&weights).with_context(|| format!("cannot read {}", weights.display()))?.len();
    let model = &state.config.model;
    say(format!(
        "a generator of {} at {size:#} pixels after {}, {} KiB, in {}",
        state.classes.join(" and "),
        counted(state.position.iteration as usize, "iteration", "iterations"),
        bytes.div_ceil(1024),
        out.display(),
        size = model.image_size,
    ));
    Ok(())
}
