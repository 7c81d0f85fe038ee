//! Which images to use, and how figures of a classifier are printed.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Result, bail};
use cellforge::{
    assess::report::classifier::PageText,
    data::{
        self, Fit, Intensities, OpenOptions, Progress, Split, SplitOptions, SplitRule, TwinCounts, View, counted,
        phantom,
    },
    eval::{BootstrapOptions, ClassifierReport, FEW_IMAGES},
    study::{Origin, StudyConfig, config::DataConfig},
};

/// How the images of `data` are read.
pub fn options(data: &DataConfig, cache_dir: Option<PathBuf>, progress: bool) -> Result<OpenOptions> {
    let mut options = data.open_options()?;
    options.cache_dir = cache_dir;
    options.progress = progress.then(Progress::images_bar);
    Ok(options)
}

/// Reads images as those of a set or a checkpoint were: fitted so where they have another shape, and intensities by this rule. What the
/// settings say goes before.
pub fn read_alike(options: &mut OpenOptions, fit: Fit, rule: Option<&Intensities>) {
    if options.window.is_none() {
        options.window = rule.map(|rule| (rule.low, rule.high));
    }
    if options.fit == Fit::Auto {
        options.fit = fit;
    }
}

/// Reads the images that the settings name, or renders the phantom where they name none.
pub fn open(config: &StudyConfig, options: &OpenOptions) -> Result<View> {
    let images = match &config.data.path {
        Some(path) => View::open(path, options)?,
        None => {
            tracing::info!("no --data was given: using the phantom, images that a program renders");
            let of = &config.data.phantom;
            // Small squares are resized from one size, as in all versions.
            let small = options.size.is_square() && options.size.height <= 128;
            let phantom = phantom::PhantomConfig {
                size: if small { 64.into() } else { phantom::crop_size(options.size) },
                images_per_class: of.images_per_class,
                patients: of.patients,
                seed: config.seed,
            };
            phantom::render(&phantom)?.resized(options.size, options.channels.unwrap_or(3))?
        }
    };
    tell(&images);
    Ok(images)
}

/// Reads the images at a path, sorted into classes or not.
pub fn open_at(path: &str, options: &OpenOptions) -> Result<View> {
    let images = View::open(path, options)?;
    tell(&images);
    Ok(images)
}

/// As [`open_at`], for images that need not be sorted into classes.
pub fn open_unlabelled_at(path: &str, options: &OpenOptions) -> Result<View> {
    let images = View::open_unlabelled(path, options)?;
    tell(&images);
    Ok(images)
}

/// The label of a class by its name.
pub fn label(images: &View, class: &str) -> Result<u32> {
    match images.class_label(class) {
        Some(label) => Ok(label),
        None => bail!("no class {class:?} in the data; it has {}", images.classes().join(", ")),
    }
}

/// The split that the settings name, or make.
pub fn split(config: &StudyConfig, images: &View) -> Result<Split> {
    if let Some(split) = named_split(config, images)? {
        return Ok(split);
    }
    let by = settled(config.data.split_by, images);
    Ok(data::split(images, &split_options(config, by))?)
}

/// How images are split by the settings, once it is clear by what.
pub fn split_options(config: &StudyConfig, by: SplitRule) -> SplitOptions {
    let data = &config.data;
    SplitOptions { by, val: data.val, test: data.test, seed: config.seed, duplicates: data.duplicates }
}

/// The split that the settings name.
pub fn named_split(config: &StudyConfig, images: &View) -> Result<Option<Split>> {
    Ok(config.inputs.split.as_ref().map(|file| data::read_manifest(file, images)).transpose()?)
}

/// What the rule of a split means for these images. It is told in the log.
pub fn settled(rule: SplitRule, images: &View) -> SplitRule {
    let by = rule.settled(images);
    let patients = images.group_names().len();
    match by {
        SplitRule::Given => tracing::info!("split as the folders, the table or the file say"),
        SplitRule::Group => tracing::info!("split by patient: each of {patients} is on one side"),
        _ if patients > 1 => {
            tracing::info!("split by image: each of {patients} patients may be on several sides");
        }
        _ if patients == 1 && images.groups().is_some() => {
            tracing::warn!("split by image: all are of one patient, whose images are then on several sides");
        }
        _ => tracing::info!("split by image: the patients are not known"),
    }
    by
}

/// Tells how images were read: what was left out, what folders were taken for, and how intensities became grey levels.
fn tell(images: &View) {
    for skipped in images.skipped() {
        tracing::warn!("skipped {}: {}", skipped.name, skipped.reason);
    }
    let facts = images.facts();
    let left_out: Vec<String> = facts.told().map(ToString::to_string).collect();
    if !left_out.is_empty() {
        tracing::info!("left out: {}", left_out.join("; "));
    }
    if !matches!(facts.layout.as_str(), "" | "class") {
        tracing::info!("folders above the images: {} (--layout says otherwise)", facts.layout);
    }
    if let Some(words) = fit_in_words(images) {
        tracing::info!("{words}");
    }
    if let Some(found) = &facts.intensities {
        tracing::info!("intensities of {}: {found} (--window sets others)", counted(found.images, "image", "images"));
    }
    let twins = images.twin_counts();
    if twins.images > 0 {
        tracing::warn!("{}", twins_in_words(twins));
    }
}

/// How images of another shape became ones of this size, where there are any.
pub fn fit_in_words(images: &View) -> Option<String> {
    let (facts, size) = (images.facts(), images.size());
    let other = |of: &&data::Original| of.width * size.height != of.height * size.width;
    let count: usize = facts.originals.iter().filter(other).map(|of| of.images).sum();
    if count == 0 {
        return None;
    }
    let done = match facts.fit {
        Fit::Auto | Fit::Stretch => "stretched",
        Fit::Pad => "padded with the colour of their border",
        Fit::Crop => "cropped",
    };
    let others = match facts.fit {
        Fit::Auto | Fit::Stretch => "pad or crop",
        Fit::Pad => "stretch or crop",
        Fit::Crop => "stretch or pad",
    };
    let factor = data::shape_factor(&facts.originals, size);
    Some(format!(
        "{} of another shape than {size:#} pixels (95% differ by a factor of {factor:.2} or less): {done} (--fit {others} does otherwise)",
        counted(count, "image", "images")
    ))
}

/// How many images are the same picture.
pub fn twins_in_words(twins: TwinCounts) -> String {
    let across = match twins.across_classes {
        0 => String::new(),
        n => format!(", {n} of them under several classes"),
    };
    let pictures = counted(twins.pictures, "picture", "pictures");
    format!("{} are identical to others: {pictures}{across}", counted(twins.images, "image", "images"))
}

/// How the intervals of printed figures are made.
pub fn bootstrap(config: &StudyConfig) -> BootstrapOptions {
    BootstrapOptions { resamples: config.judge.resamples, seed: config.seed, level: config.judge.level }
}

/// What a page about a classifier says beside its figures on these images.
pub fn page_text(title: &str, config: &StudyConfig, images: &View, lead: Vec<String>) -> Result<PageText> {
    let origin = Origin::of(images);
    Ok(PageText { title: title.to_owned(), lead, notices: origin.notices(), words: origin.words(&config.data)? })
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
    let image = |value: f64, low: f64, high: f64| format!("{value:.4} ({low:.4} to {high:.4})");
    if let Some(found) = &report.balanced_accuracy {
        let _ = writeln!(text, "balanced accuracy {}", image(found.value, found.low, found.high));
    }
    let _ = writeln!(text, "\n{:<width$}  {:^24}  {:^24}  {:^24}  support", "class", "precision", "recall", "f1");
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
    if let Some(found) = &report.average_precision {
        let _ = writeln!(text, "\naverage precision (AUC-PR) {}", image(found.value, found.low, found.high));
        for class in &report.per_class {
            let found = class.average_precision.map_or("none".to_owned(), |e| image(e.value, e.low, e.high));
            let _ = writeln!(text, "  {:<width$}{found}", class.class);
        }
    }
    if let Some(found) = &report.calibration {
        let [ece, brier] = [found.ece, found.brier].map(|e| image(e.value, e.low, e.high));
        let _ = writeln!(text, "\ncalibration error {ece} ({} bins), Brier score {brier}", found.bins.len());
        if let Some(scaling) = &found.scaling {
            let _ = writeln!(
                text,
                "probabilities are scaled by a temperature of {:.4}, fitted on the validation images; without it {:.4} and {:.4}",
                scaling.temperature, scaling.unscaled_ece, scaling.unscaled_brier
            );
        }
    }
    if let Some(first) = report.per_class.iter().find(|class| !class.sensitivity_at.is_empty()) {
        let _ = write!(text, "\n{:<width$}", "sensitivity");
        for at in &first.sensitivity_at {
            let _ = write!(text, "  {:<25}", format!("at specificity {:.2}", at.specificity));
        }
        let _ = writeln!(text);
        for class in &report.per_class {
            let found = class.sensitivity_at.iter().map(|at| at.sensitivity);
            let columns: Vec<_> = found.map(|e| format!("  {:<25}", image(e.value, e.low, e.high))).collect();
            let _ = writeln!(text, "{:<width$}{}", class.class, columns.concat().trim_end());
        }
    }
    let few: Vec<String> = report.rough().map(|class| format!("{} ({})", class.class, class.support)).collect();
    if !few.is_empty() {
        let _ = writeln!(text, "\nfew images: below {FEW_IMAGES} a class, figures are rough: {}", few.join(", "));
    }
    let _ = writeln!(text, "\nconfusion (rows: truth, columns: predicted)");
    for (class, row) in report.per_class.iter().zip(&report.confusion.counts) {
        let counts: Vec<String> = row.iter().map(|n| format!("{n:>7}")).collect();
        let _ = writeln!(text, "{:<width$} {}", class.class, counts.concat());
    }
    text.trim_end().to_owned()
}
