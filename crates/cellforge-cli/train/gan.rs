//! `cellforge train gan`.

use std::path::Path;

use anyhow::{Result, bail};
use cellforge::{
    data::{View, counted},
    train::{self, GanTrainConfig, Ranks, RunDir},
};

use super::{RunArgs, control, failed, stopped};
use crate::{
    common::{Given, Globals, Session, Shorthands, effective, memory, say, with_reading},
    images, report,
};

/// The tables of settings that the verb uses.
const TABLES: [&str; 3] = ["data", "inputs", "gan"];

/// Arguments of `train gan`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge train gan --data images.zip --class Uninfected --out gan
  cellforge train gan --data images.zip --split split.csv --side 32 --width 0.5 --iterations 2000 --out gans
  cellforge train gan --data images.zip --recipe best --out best
  cellforge train gan --data images.zip --recipe best --split resnet/split.csv --judge resnet --out judged
  cellforge train gan --data images.zip --recipe best --set gan.r1=0 --set gan.augment.translation=0 --out ablation
  cellforge train gan --resume --out gan
  mpirun -n 4 cellforge train gan --data images.zip --out gan      (a build with MPI: docs/several-machines.md)

The flags are the settings that are changed most. `cellforge config show gan` lists all; --set KEY=VALUE sets one, --config FILE many.

Ctrl-C finishes the step, writes a checkpoint and says how to resume. A resumed run ends with the same bytes as one that never stopped.

OUT/report.html shows the course of the training; while it runs, `cellforge watch OUT` does.

With --judge, a classifier judges the GAN every 500 iterations, and the best generator is kept in OUT/best.")]
pub struct GanArgs {
    #[command(flatten)]
    given: Given<GanShorthands>,
    #[command(flatten)]
    run: RunArgs,
}

/// The shorthands of `train gan`.
pub struct GanShorthands;

impl Shorthands for GanShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("data", "data.path"),
        ("side", "data.side"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
        ("split", "inputs.split"),
        ("class", "inputs.class"),
        ("judge", "inputs.judge"),
        ("recipe", "gan.recipe"),
        ("from", "gan.from"),
        ("iterations", "gan.iterations"),
        ("batch", "gan.batch"),
        ("lr", "gan.lr"),
        ("width", "gan.model.width"),
        ("checkpoint-every", "gan.checkpoint_every"),
    ];
}

pub fn run(globals: Globals, args: &GanArgs, ranks: &Ranks) -> Result<()> {
    let out = &args.run.out;
    let (mut config, session) = args.run.begin(&globals, &args.given, "train gan", ranks)?;
    if config.inputs.judge.is_some() {
        if config.inputs.split.is_none() {
            bail!("--judge needs images that the GAN is not trained on: give --split, whose validation part they are");
        }
        if config.gan.monitor.every == 0 {
            config.gan.monitor.every = JUDGED_EVERY;
        }
    }
    let data = &config.data;
    let base = GanTrainConfig { seed: config.seed, ..config.gan.clone() };
    let asked = base.clone().for_images(data.side, data.most_channels(), 2);
    asked.validate()?;
    memory::check_gan(&globals, &session, &asked)?;

    let mut options = images::options(data, Some(RunDir::new(out).cache()), session.progress)?;
    options.allow_one_class = true;
    let all = ranks.root_first(|| images::open(&config, &options))?;
    let (usable, val) = match &config.inputs.split {
        Some(_) => {
            let split = images::split(&config, &all)?;
            (all.part(&split.train), all.part(&split.val))
        }
        None => (all.clone(), all.first(0)),
    };
    let chosen: Vec<u32> = match &config.inputs.class {
        None => (0..all.classes().len() as u32).collect(),
        Some(name) => vec![images::label(&all, name)?],
    };
    let together = config.gan.conditional && chosen.len() > 1;
    let one = chosen.len() == 1 || together;
    if ranks.is_root() {
        check_layout(out, one)?;
    }
    let judge = match &config.inputs.judge {
        Some(dir) if ranks.is_root() => Some(judge(dir, &val, &chosen, base.monitor.k, &session)?),
        _ => None,
    };
    // The run of one GAN locks its folder, which is OUT; those of several lock folders in it, one after the other.
    let whole = RunDir::new(out);
    let lock = if one || !ranks.is_root() { Ok(None) } else { whole.lock().map(Some) };
    let _lock = lock.map_err(|error| failed(error, "gan", out, out, &globals))?;
    let (control, text) = (control(&session), effective("train gan", &config, session.precision, &TABLES)?);
    let mode = args.run.mode();
    if together {
        let base = base.for_images(all.size(), all.channels(), chosen.len());
        tracing::info!(
            "training a GAN on {} of {} in {}",
            counted(usable.len(), "image", "images"),
            all.classes().join(", "),
            out.display()
        );
        let dir = whole.mode(mode).save_settings(text);
        let outcome = train::train_judged_gan(&base, &usable, judge.as_ref(), &dir, &control, &mut [])
            .map_err(|error| failed(error, "gan", out, out, &globals))?;
        if outcome.interrupted {
            return Err(stopped("gan", outcome.iterations, out, &globals));
        }
        if ranks.is_root() {
            say(trained(&outcome));
            report::draw_trainings(out);
        }
        return Ok(());
    }
    for &class in &chosen {
        let name = &all.classes()[class as usize];
        let folder = if chosen.len() == 1 { out.clone() } else { whole.of_class(name).path().to_path_buf() };
        let images = usable.class(class);
        let config = GanTrainConfig { class: name.clone(), ..base.clone().for_images(all.size(), all.channels(), 1) };
        let counted = counted(images.len(), "image", "images");
        tracing::info!("training a GAN on {counted} of {name} in {}", folder.display());
        let dir = RunDir::new(&folder).mode(mode).save_settings_in(&whole, text.clone());
        let outcome = train::train_judged_gan(&config, &images, judge.as_ref(), &dir, &control, &mut [])
            .map_err(|error| failed(error, "gan", &folder, out, &globals))?;
        if outcome.interrupted {
            return Err(stopped("gan", outcome.iterations, out, &globals));
        }
        if ranks.is_root() {
            say(format!("{name}: {}", trained(&outcome)));
        }
    }
    if ranks.is_root() {
        report::draw_trainings(out);
    }
    Ok(())
}

/// Iterations between judgements where there is a judge and no setting says how often it looks.
const JUDGED_EVERY: u64 = 500;

/// What a finished GAN's run has come to.
fn trained(outcome: &train::GanOutcome) -> String {
    let best = match outcome.best {
        Some(best) => {
            format!("closest to the validation images after {} of them (fd {:.4}); ", best.iteration, best.value)
        }
        None => String::new(),
    };
    let iterations = counted(outcome.iterations as usize, "iteration", "iterations");
    format!("{iterations}; {best}checkpoint in {}", outcome.checkpoint.display())
}

/// The classifier in `dir` with the validation images of the split, of which each chosen class needs more than `k`.
fn judge(dir: &Path, val: &View, chosen: &[u32], k: usize, session: &Session) -> Result<train::Judge> {
    for &class in chosen {
        let found = val.class(class).len();
        if found <= k {
            bail!(
                "--judge needs at least {} of {} and --split has {found}: make it with a larger --val",
                counted(k + 1, "validation image", "validation images"),
                val.classes()[class as usize]
            );
        }
    }
    Ok(train::Judge::load(dir, val, &control(session))?)
}

/// One GAN lies in the folder itself, several in folders below it; both in one would leave each with the other's settings.
fn check_layout(out: &Path, one: bool) -> Result<()> {
    let holds_run = |folder: &Path| RunDir::new(folder).holds_run();
    let below = || {
        let entries = std::fs::read_dir(out).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).any(|folder| holds_run(&folder))
    };
    if one && !holds_run(out) && below() {
        bail!("{} holds GANs of several classes; name another folder for one of a single class", out.display());
    }
    if !one && holds_run(out) {
        bail!("{} holds the GAN of a single class; name another folder for several", out.display());
    }
    Ok(())
}
