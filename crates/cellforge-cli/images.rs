//! The flags that say which images to use, and how figures of a classifier are printed.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Result, bail};
use cellforge::{
    data::{OpenOptions, Progress, View, phantom},
    eval::{BootstrapOptions, ClassifierReport},
    study::{config::GroupSource, nih},
};
use serde::{Deserialize, Serialize};

/// Which images, and how they are read.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageArgs {
    /// Folder or zip with one folder of images per class; or cifar10:DIR, or mnist:DIR [default: the phantom]
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    /// Side to which images are resized: 32, 64 or 128 [default: 64]
    #[arg(long, value_name = "PIXELS")]
    pub side: Option<usize>,
    /// 3 for colour, 1 for grey [default: 3]
    #[arg(long, value_name = "N")]
    pub channels: Option<usize>,
    /// Where an image's patient comes from: auto, nih (file names) or none [default: auto]
    #[arg(long, value_name = "RULE", value_parser = ["auto", "nih", "none"])]
    pub groups: Option<String>,
    /// A CSV file that names the patient of each file; may be repeated
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_csv: Vec<PathBuf>,
    /// Leave out images that cannot be read, and list them
    #[arg(long)]
    #[serde(skip_serializing_if = "crate::common::is_false")]
    pub skip_bad: bool,
}

/// Images per class of the phantom that stands in where no data is given.
const STAND_IN: usize = 500;

impl ImageArgs {
    /// Names the defaults of a run, so that the saved settings are complete.
    pub fn settle(&mut self) {
        self.side.get_or_insert(64);
        self.channels.get_or_insert(3);
        self.groups.get_or_insert_with(|| "auto".to_owned());
    }

    pub fn options(&self, cache_dir: Option<PathBuf>, progress: bool) -> OpenOptions {
        let mut options = nih::open_options(self.side.unwrap_or(64), self.channels.unwrap_or(3));
        let groups = match self.groups.as_deref() {
            Some("nih") => GroupSource::Nih,
            Some("none") => GroupSource::None,
            _ => GroupSource::Auto,
        };
        options.groups = groups.groups(&self.group_csv);
        options.skip_bad = self.skip_bad;
        options.cache_dir = cache_dir;
        options.progress = progress.then(Progress::images_bar);
        options
    }

    /// Reads the images, or renders the phantom where no data is named.
    pub fn open(&self, options: &OpenOptions, seed: u64) -> Result<View> {
        if !matches!(options.side, 32 | 64 | 128) {
            bail!("--side {} is not one of 32, 64 and 128", options.side);
        }
        if !matches!(options.channels, 1 | 3) {
            bail!("--channels {} is neither 1 nor 3", options.channels);
        }
        let images = match &self.data {
            Some(data) => View::open(data, options)?,
            None => {
                tracing::info!("no --data was given: using the phantom, images that a program renders");
                let config = phantom::PhantomConfig { cells_per_class: STAND_IN, seed, ..Default::default() };
                phantom::render(&config)?.resized(options.side, options.channels)?
            }
        };
        list_skipped(&images);
        Ok(images)
    }
}

/// Names what was left out by `--skip-bad`.
pub fn list_skipped(images: &View) {
    for skipped in images.skipped() {
        tracing::warn!("skipped {}: {}", skipped.name, skipped.reason);
    }
}

/// How the intervals of printed figures are made.
pub fn bootstrap(seed: u64) -> BootstrapOptions {
    BootstrapOptions { resamples: 1000, seed, level: 0.95 }
}

/// The figures of a classifier as a table.
pub fn table(report: &ClassifierReport) -> String {
    let mut text = String::new();
    let width = report.per_class.iter().map(|c| c.class.chars().count()).max().unwrap_or(0).max(12);
    let interval = &report.accuracy_interval;
    let _ = writeln!(
        text,
        "accuracy {:.4} ({:.4} to {:.4}), {} of {} right",
        report.accuracy, interval.low, interval.high, report.correct, report.total
    );
    let _ = writeln!(text, "\n{:<width$}  {:^24}  {:^24}  {:^24}  support", "class", "precision", "recall", "f1");
    let image = |value: f64, low: f64, high: f64| format!("{value:.4} ({low:.4} to {high:.4})");
    for class in &report.per_class {
        let (p, r, f) = (&class.precision, &class.recall, &class.f1);
        let _ = writeln!(
            text,
            "{:<width$}  {:<24}  {:<24}  {:<24}  {}",
            class.class,
            image(p.rate, p.low, p.high),
            image(r.rate, r.low, r.high),
            image(f.value, f.low, f.high),
            class.support
        );
    }
    for (name, average) in [("macro avg", &report.macro_average), ("weighted avg", &report.weighted_average)] {
        let [p, r, f] = [&average.precision, &average.recall, &average.f1].map(|e| image(e.value, e.low, e.high));
        let _ = writeln!(text, "{name:<width$}  {p:<24}  {r:<24}  {f:<24}  {}", report.total);
    }
    if let Some(auc) = &report.roc_auc {
        let _ = writeln!(text, "\nROC AUC {}", image(auc.value, auc.low, auc.high));
    }
    let _ = writeln!(text, "\nconfusion (rows: truth, columns: predicted)");
    for (class, row) in report.per_class.iter().zip(&report.confusion.counts) {
        let counts: Vec<String> = row.iter().map(|n| format!("{n:>7}")).collect();
        let _ = writeln!(text, "{:<width$} {}", class.class, counts.concat());
    }
    text.trim_end().to_owned()
}
