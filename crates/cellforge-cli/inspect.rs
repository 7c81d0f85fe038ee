//! `cellforge inspect`: the layers of a network.

use anyhow::Result;
use cellforge::settings::{Layer, assignment};

use crate::common::{Given, Globals, Shorthands, say, settings};

/// Arguments of `inspect`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge inspect generator
  cellforge inspect generator --recipe best
  cellforge inspect resnet --set classifier.model.width=0.25 --side 32
  cellforge inspect cnn --classes 10 --json

Without flags, each network is the study's own. `cnn` and `resnet` are the recipes cnn-1 and resnet; `classifier` is what the settings say.
Parameters are counted as in Keras, with the running statistics of batch norm.")]
pub struct Args {
    /// The network
    network: Network,
    #[command(flatten)]
    given: Given<InspectShorthands>,
    /// Classes of the images
    #[arg(long, value_name = "N", default_value_t = 2)]
    classes: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The shorthands of `inspect`.
pub struct InspectShorthands;

impl Shorthands for InspectShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = &[
        ("side", "data.side"),
        ("channels", "data.channels"),
        ("recipe", "gan.recipe"),
        ("latent", "gan.model.latent"),
    ];
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Network {
    Generator,
    Discriminator,
    Classifier,
    Cnn,
    Resnet,
}

pub fn run(globals: &Globals, args: &Args) -> Result<()> {
    let recipe = match args.network {
        Network::Cnn => vec![Layer::new("cnn", assignment("classifier.recipe=cnn-1")?)],
        Network::Resnet => vec![Layer::new("resnet", assignment("classifier.recipe=resnet")?)],
        _ => Vec::new(),
    };
    let config = settings(globals, recipe, args.given.layers()?, None)?;
    let (side, channels, classes) = (config.data.side, config.data.channels, args.classes);
    let gan = || {
        let gan = config.gan.clone().for_images(side, channels, classes);
        gan.validate().map(|()| gan.model)
    };
    let classifier = || {
        let classifier = config.classifier.clone().for_images(side, channels, classes);
        classifier.validate().map(|()| classifier.model)
    };
    let summary = match args.network {
        Network::Generator => gan()?.generator_summary(),
        Network::Discriminator => gan()?.discriminator_summary(),
        Network::Classifier | Network::Cnn | Network::Resnet => classifier()?.summary(),
    };
    if args.json {
        say(serde_json::to_string_pretty(&summary)?);
    } else {
        say(summary.to_string().trim_end());
    }
    Ok(())
}
