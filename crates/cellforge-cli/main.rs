//! The `cellforge` command: one file per verb, each a thin layer over the library crates.

mod audit;
mod classify;
mod clean;
mod common;
mod completions;
mod config;
mod data;
mod doctor;
mod evaluate;
mod generate;
mod images;
mod inspect;
mod man;
mod pack;
mod panel;
mod report;
mod reproduce;
mod train;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::Globals;

/// Train GANs that make synthetic medical images, and measure what those images are worth.
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
  cellforge generate --count 100 --out images.zip         images of the built-in generator
  cellforge reproduce                                     the whole study on rendered images, about 10 minutes
  cellforge reproduce --data images.zip              the same on real images
  cellforge classify --checkpoint runs/quick --data images.zip
  cellforge evaluate --real train.zip --holdout test.zip --synthetic images.zip --features resnet:runs/quick --out evaluation

Exit codes:
  0    done
  1    failed; the error stream says why
  2    wrong command line: an unknown flag or value
  130  stopped by Ctrl-C; trainings and studies say how to go on

For research and teaching. Not a diagnostic device.";

#[derive(Subcommand)]
enum Verb {
    /// Print a network's layers, output shapes, parameters and multiply-adds
    Inspect(inspect::Args),
    /// Look at images, render stand-ins, download those of the study, split by patient
    #[command(subcommand)]
    Data(data::Command),
    /// Train a GAN or a classifier
    #[command(subcommand)]
    Train(train::Command),
    /// Check this machine: what it has, what is missing, what a training will need
    Doctor(doctor::Args),
    /// Make synthetic images with a trained generator, or with the built-in one
    Generate(generate::Args),
    /// Pack a trained generator into a small folder, to give away
    Pack(pack::Args),
    /// Classify a folder or zip of images with a trained classifier
    Classify(classify::Args),
    /// Measure what synthetic images are worth: realism, coverage, use for training, leaks
    Evaluate(Box<evaluate::Args>),
    /// Audit a training recipe: can it be told whom a GAN was trained on?
    Audit(Box<audit::Args>),
    /// Ask people: a page on which raters tell synthetic images from real ones, and its score
    #[command(subcommand)]
    Panel(panel::Command),
    /// Show trainings while they run: curves, figures and sample grids on a page that renews itself
    Watch(watch::Args),
    /// Draw the report of a study, an evaluation or a training again
    Report(report::Args),
    /// Remove what holds pixels of real images: caches, pictures of pairs, pages of panels
    Clean(clean::Args),
    /// Print the settings: keys, defaults, ranges and meanings
    #[command(subcommand)]
    Config(config::Command),
    /// Run the whole study: data, classifiers, GANs, synthetic images, evaluation, report
    Reproduce(reproduce::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Write pages for `man`, one for each verb
    Man(man::Args),
}

fn main() -> ExitCode {
    cellforge::kernels::keep_freed_memory();
    let Cli { globals, verb } = Cli::parse();
    common::start_log(&globals);
    if globals.profile {
        cellforge::kernels::profile::start();
    }
    let profile = globals.profile;
    if !matches!(verb, Verb::Train(_) | Verb::Generate(_))
        && let Err(error) = common::ranks::refuse_several()
    {
        return common::report(&error);
    }
    let done = match verb {
        Verb::Inspect(args) => inspect::run(&globals, &args),
        Verb::Doctor(args) => doctor::run(globals, &args),
        Verb::Data(command) => data::run(globals, &command),
        Verb::Train(command) => train::run(globals, &command),
        Verb::Generate(args) => generate::run(globals, &args),
        Verb::Pack(args) => pack::run(&args),
        Verb::Config(command) => config::run(&globals, &command),
        Verb::Classify(args) => classify::run(globals, &args),
        Verb::Evaluate(args) => evaluate::run(globals, &args),
        Verb::Audit(args) => audit::run(globals, &args),
        Verb::Panel(command) => panel::run(globals, &command),
        Verb::Watch(args) => watch::run(&args),
        Verb::Report(args) => report::run(&args),
        Verb::Clean(args) => clean::run(&args),
        Verb::Reproduce(args) => reproduce::run(globals, &args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
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
