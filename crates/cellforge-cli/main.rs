//! The `cellforge` command: one file per verb, each a thin layer over the library crates.

mod classify;
mod common;
mod completions;
mod config;
mod data;
mod doctor;
mod evaluate;
mod generate;
mod images;
mod inspect;
mod pack;
mod reproduce;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::Globals;

/// Learn to make synthetic medical images, and prove what they are worth.
#[derive(Parser)]
#[command(name = "cellforge", version, arg_required_else_help = true, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  cellforge reproduce                                    the whole study on rendered images, about 5 minutes
  cellforge reproduce --data cell_images.zip             the same on real images
  cellforge generate --count 100 --out images.zip         with the built-in generator; or with --checkpoint runs/quick
  cellforge classify --checkpoint runs/quick --data images.zip
  cellforge evaluate --real train.zip --holdout test.zip --synthetic images.zip --features resnet:runs/quick --out evaluation

Exit codes:
  0    done
  1    failed; the reason is on the error stream
  2    the command line is wrong: an unknown flag, or a value that the flag does not take
  130  stopped by Ctrl-C; training and studies say how to go on

For research and teaching. Not a diagnostic device.";

#[derive(Subcommand)]
enum Verb {
    /// Print a network's layers, output shapes, parameters and multiply-adds
    Inspect(inspect::Args),
    /// Look at, render, download and split sets of images
    #[command(subcommand)]
    Data(data::Command),
    /// Train a GAN or a classifier
    #[command(subcommand)]
    Train(train::Command),
    /// Tell what this machine has, what is missing, and what a training run will need
    Doctor(doctor::Args),
    /// Make synthetic images with a trained generator, or with the built-in one
    Generate(generate::Args),
    /// Pack a trained generator into a small folder of its own
    Pack(pack::Args),
    /// Judge a folder or zip of images with a trained classifier
    Classify(classify::Args),
    /// Measure what synthetic images are worth: realism, coverage, use for training, leaks
    Evaluate(Box<evaluate::Args>),
    /// Print every setting: its key, default, values and meaning
    #[command(subcommand)]
    Config(config::Command),
    /// Run the whole study: images, classifiers, GANs, synthetic images, evaluation, report
    Reproduce(reproduce::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

fn main() -> ExitCode {
    cellforge::kernels::keep_freed_memory();
    let Cli { globals, verb } = Cli::parse();
    common::start_log(&globals);
    if globals.profile {
        cellforge::kernels::profile::start();
    }
    let profile = globals.profile;
    let done = match verb {
        Verb::Inspect(args) => inspect::run(&globals, &args),
        Verb::Doctor(args) => doctor::run(globals, &args),
        Verb::Data(command) => data::run(globals, &command),
        Verb::Train(command) => train::run(globals, &command),
        Verb::Generate(args) => generate::run(globals, &args),
        Verb::Pack(args) => pack::run(&args),
        Verb::Config(command) => config::run(&command),
        Verb::Classify(args) => classify::run(globals, &args),
        Verb::Evaluate(args) => evaluate::run(globals, &args),
        Verb::Reproduce(args) => reproduce::run(globals, &args),
        Verb::Completions(args) => completions::run(&args),
    };
    if profile {
        common::say(cellforge::kernels::profile::finish());
    }
    match done.and_then(|()| common::output_failed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => common::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
