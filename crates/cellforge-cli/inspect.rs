//! `cellforge inspect`: the layers of a network.

use anyhow::{Result, bail};
use cellforge::{
    settings::{Layer, assignment},
    study::StudyConfig,
};

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
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=MAX_CLASSES))]
    classes: u16,
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

/// The highest `--classes`.
const MAX_CLASSES: i64 = 1024;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Network {
    Generator,
    Discriminator,
    Classifier,
    Cnn,
    Resnet,
}

/// Refuses settings of another network than the one that is named.
fn check(args: &Args, config: &StudyConfig) -> Result<()> {
    let named = match args.network {
        Network::Generator | Network::Discriminator => return Ok(()),
        Network::Classifier => None,
        Network::Cnn => Some("cnn"),
        Network::Resnet => Some("resnet"),
    };
    if let Some(flag) = ["recipe", "latent"].into_iter().find(|flag| args.given.has(flag)) {
        bail!("--{flag} is of GANs: it goes with generator or discriminator");
    }
    let made = config.classifier.model.name();
    if let Some(named) = named.filter(|named| *named != made) {
        bail!(
            "the settings make a {made} of the {named}: leave out what does, or name `classifier`, which is what they say"
        );
    }
    Ok(())
}

pub fn run(globals: &Globals, args: &Args) -> Result<()> {
    let recipe = match args.network {
        Network::Cnn => vec![Layer::new("cnn", assignment("classifier.recipe=cnn-1")?)],
        Network::Resnet => vec![Layer::new("resnet", assignment("classifier.recipe=resnet")?)],
        _ => Vec::new(),
    };
    let config = settings(globals, recipe, args.given.layers()?, None)?;
    let (side, channels, classes) = (config.data.side, config.data.most_channels(), usize::from(args.classes));
    check(args, &config)?;
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
