//! `cellforge pack`: a trained GAN without what it takes to go on, small enough to give away.

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

  cellforge pack --checkpoint runs/best/gan/_all --discriminator --out start
  cellforge train gan --recipe best --from start --data other.zip --out other

The folder gets weights.safetensors, in half precision, and state.json. Its images differ from the checkpoint's by a grey level or a few. Files
that describe it may lie beside them. A discriminator has seen the training images themselves, and tells more of them than a generator
does.")]
pub struct Args {
    /// The folder of one trained GAN
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// The folder for the packed generator
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pack the discriminator too: --keep then works, and other GANs can start from both networks
    #[arg(long)]
    discriminator: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let Args { checkpoint, out, discriminator } = args;
    let state = train::pack_gan(checkpoint, out, *discriminator)?;
    let packed = Checkpoint::find(out)?;
    let stems = [Some(checkpoint::WEIGHTS), discriminator.then_some(checkpoint::DISCRIMINATOR)];
    let mut bytes = 0;
    for file in stems.into_iter().flatten().map(|stem| packed.file(stem)) {
        bytes += std::fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    let model = &state.config.model;
    say(format!(
        "a {} of {} at {size:#} pixels after {}, {} KiB, in {}",
        if *discriminator { "generator and a discriminator" } else { "generator" },
        state.classes.join(" and "),
        counted(state.position.iteration as usize, "iteration", "iterations"),
        bytes.div_ceil(1024),
        out.display(),
        size = model.image_size,
    ));
    Ok(())
}
