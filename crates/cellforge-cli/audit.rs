//! `cellforge audit`: what a training recipe gives away of whom it was trained on.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{self, AuditConfig},
    study::Origin,
    train::{Mode, Ranks, RunDir},
};

use crate::{
    common::{
        Given, Globals, Interrupted, Shorthands, check_unchanged, effective, is_of, memory, save, say, shell_word,
        with_reading,
    },
    images,
    train::{RunArgs, control},
};

/// The tables of settings that the verb uses.
const TABLES: [&str; 5] = ["data", "inputs", "gan", "audit", "judge"];
/// The verb, as its settings name it.
const VERB: &str = "audit";

/// Arguments of `audit`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge audit --data images.zip --class Uninfected --recipe best --iterations 3000 --out audit
  cellforge audit --data images.zip --side 32 --width 0.5 --iterations 2000 --references 8 --draws 5000 --out audit
  cellforge audit --data images.zip --set gan.conditional=true --set audit.guesses=0.5 --out audit
  cellforge audit --resume --out audit

Puts each patient in or out of training by a fair coin, trains a GAN on those who are in and --references others on other halves, and attacks
the first: how often is a patient of training told from another? Right guesses give a lower bound of epsilon, with its confidence. There are
1 + --references trainings, for each class unless --class names one or gan.conditional is true.

OUT gets audit.json and the GANs. Both know who was in training: keep them.

Ctrl-C finishes the step, writes a checkpoint and says how to resume.")]
pub struct Args {
    #[command(flatten)]
    given: Given<AuditShorthands>,
    #[command(flatten)]
    run: RunArgs,
}

/// The shorthands of `audit`.
pub struct AuditShorthands;

impl Shorthands for AuditShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("data", "data.path"),
        ("side", "data.side"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
        ("class", "inputs.class"),
        ("recipe", "gan.recipe"),
        ("iterations", "gan.iterations"),
        ("batch", "gan.batch"),
        ("width", "gan.model.width"),
        ("references", "audit.references"),
        ("draws", "audit.draws"),
    ];
}

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    let (config, session) = args.run.begin(&globals, &args.given, VERB, &Ranks::alone())?;
    let (out, resume) = (&args.run.out, args.run.mode() == Mode::Resume);
    if resume {
        check_unchanged(out, VERB, &config, &TABLES)?;
    }
    let chosen = AuditConfig { seed: config.seed, level: config.judge.level, ..config.audit.clone() };
    chosen.validate()?;
    let asked = config.gan.clone().for_images(config.data.side, config.data.most_channels(), 2);
    asked.validate()?;
    memory::check_gan(&globals, &session, &asked)?;
    let whole = RunDir::new(out);
    if whole.holds_run() || whole.results().exists() || whole.evaluation().exists() {
        bail!("{} is the folder of a network, a study or an evaluation; name another for the audit", out.display());
    }
    let own = is_of(out, VERB);
    if own && args.run.mode() == Mode::New {
        bail!(
            "{} holds an audit: go on with --resume, start anew with --overwrite, or name another folder",
            out.display()
        );
    }
    if !own && whole.audited().exists() {
        let folder = whole.audited();
        bail!("{} is of no audit, which would empty it: move it away, or name another --out", folder.display());
    }

    let mut options = images::options(&config.data, Some(whole.cache()), session.progress)?;
    options.allow_one_class = true;
    let all = images::open(&config, &options)?;
    let used = match &config.inputs.class {
        Some(class) => all.class(images::label(&all, class)?),
        None => all.clone(),
    };
    let words = Origin::of(&all).words(&config.data)?;
    let _lock = whole.lock()?;
    if !resume {
        for old in [whole.audited(), whole.audit()] {
            remove(&old)?;
        }
    }
    save(&whole.settings(), &effective(VERB, &config, session.precision, &TABLES)?)?;
    let found = assess::audit::audit(&chosen, &config.gan, &used, &words, out, &control(&session)).map_err(
        |error| match error {
            assess::Error::Interrupted => {
                let out = shell_word(&out.display().to_string());
                Interrupted(format!("stopped; go on with: cellforge audit --resume --out {out}")).into()
            }
            error => anyhow::Error::from(error),
        },
    )?;
    for sentence in found.in_words() {
        say(sentence);
    }
    say(format!("\nfigures: {}", whole.audit().display()));
    Ok(())
}

/// Removes what an earlier audit left.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
