//! `cellforge panel`: people tell synthetic images from real ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{
        self,
        panel::{Key, PanelConfig, PanelImages, Source},
    },
    study::Origin,
    train::RunDir,
};

use crate::{
    common::{
        Given, Globals, Shorthands, check_outside, check_settings, effective, is_of, save, save_effective, say,
        settings, shell_word, with_reading,
    },
    images::{self, bootstrap},
};

/// What to do with a panel.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make the page for the raters, and the key that stays here
    Make(MakeArgs),
    /// Score the answers that raters sent back
    Score(ScoreArgs),
}

/// Arguments of `panel make`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge panel make --real test.zip --synthetic synthetic.zip --out panel
  cellforge panel make --real test --synthetic made --images 50 --repeats 0.2 --seed 7 --out panel

OUT gets panel.html and key.csv. Give raters panel.html alone: key.csv says which images are real. The page holds no file name, no patient and
no truth; it works without a network. It shows real images: it may not go where those may not.

Choose the side that the synthetic images have. What enlarged or sharpened one kind alone would give it away.")]
pub struct MakeArgs {
    #[command(flatten)]
    given: Given<MakeShorthands>,
    /// Folder for the page and the key
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the panel in OUT
    #[arg(long)]
    overwrite: bool,
}

/// The shorthands of `panel make`.
pub struct MakeShorthands;

impl Shorthands for MakeShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("real", "inputs.real"),
        ("synthetic", "inputs.synthetic"),
        ("images", "panel.images"),
        ("repeats", "panel.repeats"),
        ("side", "data.side"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
    ];
}

/// Arguments of `panel score`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge panel score --key panel/key.csv panel-AB.csv
  cellforge panel score --key panel/key.csv answers/*.csv --out panel

OUT gets panel.json and panel.md. Without --out the figures are only printed.")]
pub struct ScoreArgs {
    /// The answers, a file for each rater
    #[arg(value_name = "FILE.csv", required = true)]
    answers: Vec<PathBuf>,
    /// The key that `panel make` wrote
    #[arg(long, value_name = "FILE.csv")]
    key: PathBuf,
    #[command(flatten)]
    given: Given<ScoreShorthands>,
    /// Folder for the figures
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the figures in OUT
    #[arg(long)]
    overwrite: bool,
}

/// The shorthands of `panel score`.
pub struct ScoreShorthands;

impl Shorthands for ScoreShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] =
        &[("resamples", "judge.resamples"), ("level", "judge.level"), ("noun", "data.noun")];
}

/// The page for the raters.
pub const PAGE: &str = "panel.html";
/// What the images of the page are.
const KEY: &str = "key.csv";
/// The figures.
const FIGURES: &str = "panel.json";
/// The figures in words.
const TEXT: &str = "panel.md";
/// The settings of `panel make`.
pub const VERB: &str = "panel make";

pub fn run(globals: Globals, command: &Command) -> Result<()> {
    match command {
        Command::Make(args) => make(&globals, args),
        Command::Score(args) => score(&globals, args),
    }
}

fn make(globals: &Globals, args: &MakeArgs) -> Result<()> {
    let config = settings(globals, Vec::new(), args.given.layers()?, None)?;
    let inputs = &config.inputs;
    let real = inputs.real.as_ref().context("--real is missing: name a folder or zip of real images")?;
    let synthetic =
        inputs.synthetic.as_ref().context("--synthetic is missing: name a folder or zip of synthetic images")?;
    let out = &args.out;
    check_outside(out, [real, synthetic])?;
    if RunDir::new(out).holds_run() || RunDir::new(out).results().exists() {
        bail!("{} is the folder of a trained network or of a study; name another for the panel", out.display());
    }
    check_settings(out, VERB)?;
    if !is_of(out, VERB) {
        absent(out, &[PAGE, KEY], "it is of no panel: move it away, or name another --out")?;
    } else if !args.overwrite {
        absent(out, &[PAGE, KEY], "answers to it need its key: replace it with --overwrite, or name another folder")?;
    }

    let session = globals.open(config.precision)?;
    let real_set = images::open_unlabelled_at(real, &images::options(&config.data, None, session.progress)?)?;
    let mut options = images::options(&config.data.of_folders(), None, session.progress)?;
    options.channels = Some(real_set.channels());
    let facts = real_set.facts();
    images::read_alike(&mut options, facts.used_fit(), facts.intensities.as_ref());
    let synthetic_set = images::open_unlabelled_at(synthetic, &options)?;
    let origin = Origin::of(&real_set);
    let (words, drawn_by_program) = (origin.words(&config.data)?, origin.provenance("").drawn_by_program);
    let chosen = PanelConfig { seed: config.seed, ..config.panel.clone() };
    let made = assess::panel::make(
        &chosen,
        &PanelImages { real: &real_set, synthetic: &synthetic_set, words: words.clone(), drawn_by_program },
    )?;
    for class in &made.left_out {
        tracing::warn!("the class {class} is left out: there are no synthetic {} of it", words.many);
    }
    let text = effective(VERB, &config, session.precision, &["data", "inputs", "panel"])?;
    save_effective(out, &text)?;
    save(&out.join(KEY), &made.key.to_csv()?)?;
    save(&out.join(PAGE), &made.page)?;

    let (key, many) = (&made.key, &words.many);
    let each = key.images.iter().filter(|image| image.source == Source::Real).count();
    if each < chosen.images {
        tracing::warn!("{} {many} of each kind were asked for, and there are {each}", chosen.images);
    }
    say(format!(
        "panel {}: {each} real and {each} synthetic {many}, {} shown twice",
        key.panel,
        key.showings() - key.images.len()
    ));
    say(format!("for the raters: {}", out.join(PAGE).display()));
    say(format!("to be kept from them: {}", out.join(KEY).display()));
    if !drawn_by_program {
        say(format!("the page holds real {many}: it may not go where those may not"));
    }
    let key = shell_word(&out.join(KEY).display().to_string());
    say(format!("score their answers with: cellforge panel score --key {key} panel-*.csv"));
    Ok(())
}

fn score(globals: &Globals, args: &ScoreArgs) -> Result<()> {
    let config = settings(globals, Vec::new(), args.given.layers()?, None)?;
    globals.open(config.precision)?;
    if let Some(out) = &args.out
        && !args.overwrite
    {
        absent(out, &[FIGURES, TEXT], "replace it with --overwrite, or name another folder")?;
    }
    let words = Origin::Other.words(&config.data)?;
    let key = Key::read(&args.key)?;
    let answers =
        args.answers.iter().map(|path| assess::panel::read_answers(path, &key)).collect::<assess::Result<Vec<_>>>()?;
    let found = assess::panel::score(&key, &answers, &bootstrap(&config))?;
    let text = assess::panel::markdown(&found, &words.many);
    say(text.trim_end());
    if let Some(out) = &args.out {
        assess::files::write_json(&out.join(FIGURES), &found)?;
        save(&out.join(TEXT), &text)?;
        say(format!("\nfigures: {}", out.join(FIGURES).display()));
    }
    Ok(())
}

/// Refuses a folder that has one of these files.
fn absent(folder: &Path, names: &[&str], advice: &str) -> Result<()> {
    match names.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        Some(path) => bail!("{} is there already; {advice}", path.display()),
        None => Ok(()),
    }
}
