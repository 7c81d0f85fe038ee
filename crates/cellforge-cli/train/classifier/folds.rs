//! `cellforge train classifier --folds`: a network for each fold, and all of them together.

use anyhow::{Context, Result};
use cellforge::{
    assess::{files::write_json, report::classifier::WithPage},
    data::{self, Split, SplitOptions, SplitRule, View},
    eval::CrossValidation,
    study::StudyConfig,
    train::{ClassifierTrainConfig, Mode, RunDir},
};

use super::Work;
use crate::{
    common::say,
    images::{self, table},
    report,
};

/// Trains a network for each of `k` folds, or goes on with them, and writes what they find together. `settings` are those of all.
pub(super) fn run(work: &Work<'_>, k: usize, settings: &str) -> Result<()> {
    let dir = RunDir::new(&work.args.run.out);
    let is_root = work.session.ranks.is_root();
    let _lock = if is_root { Some(dir.lock()?) } else { None };
    let splits = splits(work.config, work.all, k)?;
    if is_root && work.args.run.mode() == Mode::Overwrite {
        remove_further(&dir, k)?;
    }
    work.warn(&splits[0]);
    let mut rows = vec![Vec::new(); work.all.len()];
    let mut reports = Vec::with_capacity(k);
    let (mut described, mut scaled, mut leaks) = (Vec::new(), 0, Vec::new());
    for (number, split) in (1..).zip(&splits) {
        tracing::info!("fold {number} of {k}");
        // Networks that start alike would agree more than new ones do.
        let seed = data::derive_seed(work.config.seed, &format!("fold {number}"));
        let training = ClassifierTrainConfig { seed, ..work.training.clone() };
        let run = dir.fold(number).mode(work.args.run.mode()).save_settings_in(&dir, settings);
        // The others go on to the next fold, where they wait for rank 0.
        let Some(judged) = work.train(&training, split, &run)? else { continue };
        for (&image, row) in split.test.iter().zip(judged.probabilities) {
            rows[image] = row;
        }
        described = vec![work.described(&judged.network)];
        scaled += usize::from(judged.network.temperature().is_some());
        leaks.extend(judged.leak.map(|leak| format!("Fold {number}: {leak}")));
        reports.push(judged.report);
    }
    if !is_root {
        return Ok(());
    }
    let found = CrossValidation::new(work.report(work.all, &rows)?, reports);
    described.push(format!("{k} networks, each judged on a fold that it was not trained on."));
    described.extend(leaks);
    if scaled > 0 {
        described.push(format!("Probabilities of {scaled} of them are scaled, each by a temperature of its own."));
    }
    let page = images::page_text("A classifier, cross-validated", work.config, work.all, described)?;
    write_json(&dir.cross_validation(), &WithPage { found: &found, page })?;
    report::draw(&dir)?;
    say(format!("all {k} folds, each image judged by the network that did not see it:\n{}", table(&found.pooled)));
    say(format!("\n{}\nreport: {}", over_folds(&found), dir.report().display()));
    Ok(())
}

/// Removes the folds beyond `k` of a cross-validation that is replaced.
fn remove_further(dir: &RunDir, k: usize) -> Result<()> {
    for fold in (k + 1..).map(|number| dir.fold(number)).take_while(RunDir::holds_run) {
        let path = fold.path();
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The parts of each fold: its test images, and of the others the share of the settings for validation.
fn splits(config: &StudyConfig, all: &View, k: usize) -> Result<Vec<Split>> {
    let by = match images::settled(config.data.split_by, all) {
        // Folds are drawn, whatever the source says of one split.
        SplitRule::Given if all.has_groups() => SplitRule::Group,
        SplitRule::Given => SplitRule::Image,
        by => by,
    };
    let with_validation = |fold: Split| {
        let options = SplitOptions { test: 0.0, ..images::split_options(config, by) };
        let inner = data::split(&all.part(&fold.train), &options)?;
        let of_all = |part: Vec<usize>| part.into_iter().map(|at| fold.train[at]).collect();
        Ok(Split { train: of_all(inner.train), val: of_all(inner.val), test: fold.test.clone() })
    };
    data::k_fold(all, k, by, config.seed)?.into_iter().map(with_validation).collect()
}

/// Mean and spread over the folds, a line a figure.
fn over_folds(found: &CrossValidation) -> String {
    let mut text = String::from("over the folds            mean    standard deviation");
    for over in &found.over_folds {
        let sd = over.sd.map_or_else(|| "not known".to_owned(), |sd| format!("{sd:.4}"));
        text.push_str(&format!("\n  {:<22}{:>8.4}  {sd}", over.figure, over.mean));
    }
    text
}
