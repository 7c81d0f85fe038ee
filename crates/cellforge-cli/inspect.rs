//! `cellforge inspect`: the layers of a network.

use anyhow::{Context, Result};
use cellforge::{classify::ClassifierConfig, gan::GanConfig};
use serde::{Deserialize, Serialize};

use crate::common::{Globals, layered, say};

/// Arguments of `inspect`.
#[derive(clap::Args, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  cellforge inspect generator
  cellforge inspect resnet --width 0.25 --side 32
  cellforge inspect cnn --classes 10 --json

Parameters are counted as Keras counts them: the running statistics of batch normalisation are included.
With no flags, each network is the study's own.")]
pub struct Args {
    /// The network
    network: Network,
    /// Side of the images: 32, 64 or 128 [default: 64]
    #[arg(long, value_name = "PIXELS")]
    side: Option<usize>,
    /// Channels of the images: 1 or 3 [default: 3]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Multiplies every filter count [default: 1]
    #[arg(long, value_name = "X")]
    width: Option<f64>,
    /// Classes of a classifier [default: 2]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Length of the generator's noise vector [default: 100]
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    /// Print JSON instead of a table
    #[arg(long)]
    #[serde(default, skip_serializing_if = "crate::common::is_false")]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Network {
    Generator,
    Discriminator,
    Cnn,
    Resnet,
}

pub fn run(mut globals: Globals, args: &Args) -> Result<()> {
    let args = layered(&mut globals, args)?;
    let summary = match args.network {
        Network::Generator => gan(&args)?.generator_summary(),
        Network::Discriminator => gan(&args)?.discriminator_summary(),
        Network::Cnn => classifier(&args, ClassifierConfig::study_cnn())?.summary(),
        Network::Resnet => classifier(&args, ClassifierConfig::study_resnet())?.summary(),
    };
    if args.json {
        say(serde_json::to_string_pretty(&summary)?);
    } else {
        say(summary.to_string().trim_end());
    }
    Ok(())
}

fn gan(args: &Args) -> Result<GanConfig> {
    let mut config = GanConfig::default();
    config.image_size = args.side.unwrap_or(config.image_size);
    config.channels = args.channels.unwrap_or(config.channels);
    config.width = args.width.unwrap_or(config.width);
    config.latent = args.latent.unwrap_or(config.latent);
    config.validate().context("no such network")?;
    Ok(config)
}

fn classifier(args: &Args, config: ClassifierConfig) -> Result<ClassifierConfig> {
    let config =
        cellforge::train::presets::classifier_config(config, args.side, args.channels, args.classes, args.width);
    config.validate().context("no such network")?;
    Ok(config)
}
