//! `cellforge report`: draws the report of a folder again, from what the folder holds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{
        Evaluation,
        evaluation::EVALUATION_SCHEMA,
        files::read_json,
        report::{
            self,
            classifier::{self, ClassifierPage, WithPage},
            training::{self, TrainingPage},
        },
    },
    eval::{ClassifierReport, CrossValidation},
    study::{self, Results, results::SCHEMA_VERSION},
    train::{History, RunDir},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::common::{save, say};

/// Arguments of `report`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge report runs/quick
  cellforge report evaluation
  cellforge report gan

DIR/report.html is drawn from what DIR holds: the figures of a study or an evaluation, those of a classifier, or the logs and sample grids of
trainings, which may go on meanwhile. Nothing is computed again.")]
pub struct Args {
    /// The folder of a study, an evaluation or a training, or one around several trainings
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    if !args.dir.is_dir() {
        bail!("{} is no folder: name what --out was", args.dir.display());
    }
    say(format!("report: {}", draw(&RunDir::new(&args.dir))?.display()));
    Ok(())
}

/// Draws the report of what lies in a folder, and returns its path.
pub fn draw(dir: &RunDir) -> Result<PathBuf> {
    let path = dir.report();
    save(&path, &page(dir)?)?;
    Ok(path)
}

fn page(dir: &RunDir) -> Result<String> {
    let here = dir.path();
    if dir.results().is_file() {
        let found: Results = of_schema(&dir.results(), SCHEMA_VERSION)?;
        return Ok(study::report::render(&found, here)?);
    }
    if study::is_study(here) {
        bail!(
            "the study in {} is not finished, and its report comes at its end: `cellforge watch` shows its trainings",
            here.display()
        );
    }
    if dir.evaluation().is_file() {
        let found: Evaluation = of_schema(&dir.evaluation(), EVALUATION_SCHEMA)?;
        return Ok(report::render(&found, here)?);
    }
    if dir.cross_validation().is_file() {
        let kept: WithPage<CrossValidation> = with_page(&dir.cross_validation())?;
        return Ok(of_classifier(&kept, &kept.found.pooled, Some(&kept.found), None, &dir.cross_validation()));
    }
    if dir.test_figures().is_file() {
        let kept: WithPage<ClassifierReport> = with_page(&dir.test_figures())?;
        let history = History::read(here)?;
        return Ok(of_classifier(&kept, &kept.found, None, history.as_ref(), &dir.test_figures()));
    }
    let runs = trainings(here)?;
    if runs.is_empty() {
        bail!("{} holds no study, evaluation or training, so there is nothing to draw a report from", here.display());
    }
    Ok(of_trainings(here, &runs, &[], None))
}

/// The training in a folder; where there is none, those below it.
fn trainings(dir: &Path) -> Result<Vec<History>> {
    Ok(match History::read(dir)? {
        Some(own) => vec![own],
        None => History::all_below(dir)?,
    })
}

/// Draws the course of the trainings in a folder, whatever else lies there, and says where it is. A training is none the worse without it.
pub fn draw_trainings(dir: &Path) {
    let path = RunDir::new(dir).report();
    let drawn = || save(&path, &of_trainings(dir, &trainings(dir)?, &[], None));
    match drawn() {
        Ok(()) => say(format!("report: {}", path.display())),
        Err(error) => tracing::warn!("the report is not drawn: {error:#}"),
    }
}

fn of_classifier<T>(
    kept: &WithPage<T>,
    found: &ClassifierReport,
    folds: Option<&CrossValidation>,
    history: Option<&History>,
    source: &Path,
) -> String {
    let source = &source.file_name().unwrap_or_default().to_string_lossy();
    classifier::render(&ClassifierPage { text: &kept.page, found, folds, history, source })
}

/// A page about the trainings in a folder. `notes` and `refresh` are those of [`TrainingPage`].
pub fn of_trainings(dir: &Path, runs: &[History], notes: &[String], refresh: Option<u64>) -> String {
    let title = match runs {
        [one] if one.is_gan() => "Training of a GAN",
        [_] => "Training of a classifier",
        _ => "Trainings",
    };
    let title = title.to_owned();
    training::render(&TrainingPage { title, base_dir: dir, runs, notes, refresh })
}

/// A record of the schema that this program writes.
fn of_schema<T: DeserializeOwned>(path: &Path, schema: u32) -> Result<T> {
    let value: Value = read_json(path)?;
    match value.get("schema_version").and_then(Value::as_u64) {
        None => bail!("{} was not written by this program: it has no schema_version", path.display()),
        Some(other) if other != u64::from(schema) => bail!(
            "{} is of schema {other} and this program draws schema {schema}: take the version of the program that wrote it",
            path.display()
        ),
        Some(_) => serde_json::from_value(value).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Figures of a classifier with the words of their page.
fn with_page<T: DeserializeOwned>(path: &Path) -> Result<WithPage<T>> {
    read_json(path).with_context(|| {
        format!(
            "{} has no words for a page, as files of earlier versions have none: `cellforge classify --report` draws one from images",
            path.display()
        )
    })
}
