//! `cellforge watch`: a page that shows trainings while they run.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use cellforge::{
    assess::report::format::duration,
    train::{History, LogEvent, RunDir},
};

use crate::{
    common::{save, say},
    report,
};

/// Arguments of `watch`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge watch gan
  cellforge watch runs/best --every 60

DIR/watch.html shows the curves, figures and sample grids of every training in DIR and below, and how fast each goes. It is drawn anew every
few seconds, and a browser that shows it loads it as often. The trainings are left alone: watch may be started and ended at any time. It ends
when the trainings are finished, or with Ctrl-C.

The same is in the folder `tensorboard` of each training. Its `log.jsonl` has a JSON object a line, which other trackers take, too.")]
pub struct Args {
    /// The folder of a training or a study, or one around several
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Seconds between two drawings
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
}

pub fn run(args: &Args) -> Result<()> {
    if !args.dir.is_dir() {
        bail!("{} is no folder: name the --out of a training", args.dir.display());
    }
    let dir = RunDir::new(&args.dir);
    let page = dir.watched();
    let (mut first_seen, mut is_told) = (BTreeMap::new(), false);
    loop {
        let mut runs = History::all_below(&args.dir)?;
        // What goes on comes first.
        runs.sort_by_key(|run| Reverse(run.written));
        let notes: Vec<String> = runs.iter().map(|run| note(run, &mut first_seen)).collect();
        let is_over = !runs.is_empty() && runs.iter().all(History::is_finished) && dir.hold().is_ok();
        save(&page, &report::of_trainings(&args.dir, &runs, &notes, (!is_over).then_some(args.every)))?;
        if is_over {
            say(format!("the trainings are finished: {}", page.display()));
            return Ok(());
        }
        if !std::mem::replace(&mut is_told, true) {
            say(format!(
                "{}: open it in a browser; Ctrl-C ends its renewal, and leaves trainings alone",
                page.display()
            ));
        }
        thread::sleep(Duration::from_secs(args.every));
    }
}

/// Where the log of a training stood, and when it was written to.
type Mark = (u64, SystemTime);

/// How fast a training goes since it was first seen, and how long it will take.
fn note(run: &History, first_seen: &mut BTreeMap<PathBuf, Mark>) -> String {
    if run.is_finished() {
        return "Finished.".to_owned();
    }
    let (Some(line), Some(written)) = (run.lines.last(), run.written) else { return String::new() };
    let first = *first_seen.entry(run.dir.clone()).or_insert((line.iteration, written));
    let silent = SystemTime::now().duration_since(written).map_or(0.0, |age| age.as_secs_f64());
    let age = format!("Last logged {} ago.", duration(silent));
    let Some(speed) = speed(first, (line.iteration, written)) else { return age };
    let left = iterations(run).map(|total| total.saturating_sub(line.iteration) as f64 / speed);
    let left = left.map(|seconds| format!("; {} to go", duration(seconds))).unwrap_or_default();
    format!("{speed:.2} iterations a second{left}. {age}")
}

/// Iterations a second between two moments; `None` where there were none.
fn speed(first: Mark, last: Mark) -> Option<f64> {
    let seconds = last.1.duration_since(first.1).ok()?.as_secs_f64();
    let done = last.0.checked_sub(first.0).filter(|done| *done > 0)?;
    (seconds > 0.0).then(|| done as f64 / seconds)
}

/// The iterations of a whole training; those of a classifier are known after its first epoch.
fn iterations(run: &History) -> Option<u64> {
    let total = run.total()?;
    if run.is_gan() {
        return Some(total);
    }
    let epoch = run.lines.iter().rev().find(|line| line.event == LogEvent::Epoch && line.epoch > 0)?;
    Some(epoch.iteration / epoch.epoch * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_since_the_first_look() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(speed((100, at(10)), (150, at(20))), Some(5.0));
        assert_eq!(speed((100, at(10)), (100, at(10))), None);
        // A training that went back.
        assert_eq!(speed((100, at(10)), (50, at(20))), None);
    }
}
