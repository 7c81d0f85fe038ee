//! The outcome of a study as data: what `results.json` holds, and all that the report is drawn from.
//!
//! `SCHEMA.md` of this crate describes the same fields for readers of the file.

use std::collections::BTreeMap;

use cellforge_data::ImageSize;
use cellforge_eval::{ClassifierReport, Proportion};
use cellforge_train::Stage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use cellforge_assess::{Evaluation, Versions, evaluation::Words};

/// The version of the schema this crate writes. It grows by one whenever a field is removed, renamed or changes its meaning;
/// new fields alone do not change it.
pub const SCHEMA_VERSION: u32 = 3;

/// Points kept of one training curve, at most: as many as a plot can show, few enough to keep the file small.
pub const CURVE_POINTS: usize = 500;

/// Everything a finished study found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema_version: u32,
    /// What was asked for.
    pub settings: Settings,
    /// What it was computed with.
    pub versions: Versions,
    /// Which images, and how they were split.
    pub data: DataSummary,
    /// The small convolutional networks.
    pub cnn: CnnResults,
    /// The residual network that judges the synthetic images.
    pub resnet: ResnetResult,
    /// The generative network of each class.
    pub gan: BTreeMap<String, GanResult>,
    /// Synthetic images of each class that the residual network took for that class.
    pub recognition: BTreeMap<String, Recognition>,
    /// The same for real held-out images of each class.
    pub recognition_real: BTreeMap<String, Recognition>,
    /// The evaluation of the synthetic images beyond the study's own test; none where that was left out.
    pub evaluation: Option<Evaluation>,
    /// GANs of other recipes, trained on the same images and judged by the same network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
    /// What the study published; none where the images are neither the study's own nor its phantom.
    pub published: Option<Published>,
    /// Seconds each stage took, over all its attempts except those that were killed, by stage name (`data`, `cnn`, `resnet`,
    /// `gan/<folder of the class>` or `gan/_all`, `generate`, `judge`, `evaluate`; of GANs of another recipe `beside/<recipe>/gan/...`,
    /// `.../synthetic`, `.../judge` and `.../evaluation`).
    pub durations: BTreeMap<String, f64>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `smoke`, `quick`, `paper` or `best`.
    pub preset: String,
    /// The number every random choice derives from.
    pub seed: u64,
    /// The command line that repeats the study.
    pub command: String,
    /// The effective settings, every value named.
    pub config: Value,
    /// Where the settings differ from the study's own; empty for the `paper` preset left as it is.
    pub narrowed: Vec<SettingChange>,
}

/// One setting that differs from the study's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Dotted name of the setting, e.g. `gan.iterations`.
    pub setting: String,
    /// Its value in this run.
    pub here: Value,
    /// Its value in the study.
    pub paper: Value,
    /// Why it differs, where the preset gives a reason.
    pub why: Option<String>,
}

/// Lists where `here` differs from `paper`, both nested settings, in the order of their names.
/// `why` gives the reason for a dotted name, if there is one.
///
/// ```
/// use cellforge_study::results::differences;
/// let here = serde_json::json!({"gan": {"iterations": 800, "batch": 32}});
/// let paper = serde_json::json!({"gan": {"iterations": 15_000, "batch": 32}});
/// let changes = differences(&here, &paper, |_| None);
/// assert_eq!(changes.len(), 1);
/// assert_eq!(changes[0].setting, "gan.iterations");
/// ```
pub fn differences(here: &Value, paper: &Value, why: impl Fn(&str) -> Option<String>) -> Vec<SettingChange> {
    fn walk(name: &str, here: &Value, paper: &Value, found: &mut Vec<(String, Value, Value)>) {
        if let (Value::Object(a), Value::Object(b)) = (here, paper) {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in names {
                let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                walk(&inner, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        } else if here != paper {
            found.push((name.to_owned(), here.clone(), paper.clone()));
        }
    }
    let mut found = Vec::new();
    walk("", here, paper, &mut found);
    found.into_iter().map(|(setting, here, paper)| SettingChange { why: why(&setting), setting, here, paper }).collect()
}

/// Which images were used, and how they were split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Where the images came from, in words.
    pub source: String,
    /// What the images are called.
    pub words: Words,
    /// Whether the images are the phantom: cells rendered by a program, from no patient.
    pub is_phantom: bool,
    /// Whether the images are the NIH/NLM malaria cells, whose licence and citation the report then gives.
    pub is_nih: bool,
    /// Size of the images in pixels: a number for squares, and otherwise a text of width x height.
    pub side: ImageSize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// Class names, sorted; labels are positions in this list.
    pub classes: Vec<String>,
    /// Images of each class.
    pub images_per_class: BTreeMap<String, usize>,
    /// Groups (patients) in all, if the images have groups.
    pub groups: Option<usize>,
    /// For each class, groups whose images are all of that class, with the number of their images. Where one class has such groups and
    /// the other has none, a classifier can gain by recognising the patient.
    pub single_class_groups: BTreeMap<String, SingleClassGroups>,
    /// What was kept together by the split: `image` or `group`.
    pub split_by: String,
    /// The parts, in the order training, validation, test.
    pub parts: Vec<PartSummary>,
    /// What lies beside the images and is none of them, counted by ending and reason, in words.
    #[serde(default)]
    pub not_read: Vec<String>,
    /// How intensities of more than 8 bits became grey levels, in words, where there are such.
    #[serde(default)]
    pub intensities: Option<String>,
    /// Images left out because they could not be read.
    pub skipped: Vec<SkippedImage>,
    /// SHA-256 of the decoded images and their labels, in hexadecimal.
    pub fingerprint: String,
}

/// Groups (patients) with images of one class only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SingleClassGroups {
    /// Number of such groups.
    pub groups: usize,
    /// Number of their images.
    pub images: usize,
}

/// One part of the split, as it was used (after any limit on its size).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSummary {
    /// `train`, `val` or `test`.
    pub name: String,
    /// Images of each class.
    pub images_per_class: BTreeMap<String, usize>,
    /// Groups (patients) with an image in this part, if the images have groups.
    pub groups: Option<usize>,
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedImage {
    /// Its name inside the source.
    pub name: String,
    /// What was wrong with it.
    pub reason: String,
}

/// The small convolutional networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CnnResults {
    /// Name of the model with the best validation accuracy, a key of `models`.
    pub best: String,
    /// Each training of the small network, by name (e.g. `paper-1`, `tuned-1`).
    pub models: BTreeMap<String, CnnResult>,
}

/// One training of the small network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CnnResult {
    /// Title for people, e.g. `CNN Model 1, as published`.
    pub title: String,
    /// Passes over the training images.
    pub epochs: usize,
    /// Optimiser, learning rate and schedule in words, e.g. `SGD 1e-6, momentum 0.9, Nesterov`.
    pub optimizer: String,
    /// Parameters, counted as Keras does (with running statistics).
    pub params: usize,
    /// Share of the validation images classified correctly after the last epoch.
    pub val_accuracy: f64,
    /// Figures on the test images.
    pub test: ClassifierReport,
    /// One entry per epoch.
    pub history: Vec<EpochPoint>,
}

/// The residual network that judges the synthetic images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResnetResult {
    /// Parameters, counted as Keras does (with running statistics).
    pub params: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Optimiser, learning rate and schedule in words.
    pub optimizer: String,
    /// Share of the validation images classified correctly after the last epoch.
    pub val_accuracy: f64,
    /// Figures on the test images.
    pub test: ClassifierReport,
    /// One entry per epoch.
    pub history: Vec<EpochPoint>,
}

/// A classifier after one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochPoint {
    /// Epochs finished, from 1.
    pub epoch: usize,
    /// Mean training loss over the epoch, if it was recorded.
    pub loss: Option<f64>,
    /// Share of training images classified correctly over the epoch, if it was recorded.
    pub train_accuracy: Option<f64>,
    /// Share of validation images classified correctly after the epoch, if it was measured.
    pub val_accuracy: Option<f64>,
}

/// The generative network of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GanResult {
    /// Training iterations (the study calls them epochs).
    pub iterations: u64,
    /// Parameters of the generator, counted as Keras does.
    pub params_g: usize,
    /// Parameters of the discriminator, counted as Keras does.
    pub params_d: usize,
    /// Training losses by name, each thinned to at most [`CURVE_POINTS`] points.
    pub losses: BTreeMap<String, Vec<LossPoint>>,
    /// Grids of samples from fixed noise, in the order of their iterations.
    pub grids: Vec<GridImage>,
}

/// GANs of another recipe than the study's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The recipe.
    pub recipe: String,
    /// The generative network of each class.
    pub gan: BTreeMap<String, GanResult>,
    /// Synthetic images of each class that the residual network took for that class.
    pub recognition: BTreeMap<String, Recognition>,
    /// The evaluation of its images, for fidelity alone; none where the study's own has no fidelity.
    pub evaluation: Option<Evaluation>,
}

/// A loss at one iteration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Iterations finished.
    pub iteration: u64,
    /// The loss; `null` in the file where it was not finite.
    pub value: Option<f64>,
}

/// A grid of samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridImage {
    /// Iterations finished when it was drawn.
    pub iteration: u64,
    /// PNG file, relative to the study's folder, with `/` between parts.
    pub path: String,
}

/// A [`Proportion`] as `results.json` words it: how many images of a class (its successes) were taken for that class by the residual
/// network, with a 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// Images taken for their class.
    pub recognised: u64,
    /// Images judged.
    pub total: u64,
    /// `recognised / total`.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl From<Proportion> for Recognition {
    fn from(p: Proportion) -> Self {
        Self { recognised: p.successes, total: p.total, rate: p.rate, low: p.low, high: p.high }
    }
}

/// What the study published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Synthetic cells recognised by the study's residual network, by class.
    pub recognition: BTreeMap<String, Recognition>,
    /// The study's table of classifiers, in its order.
    pub classifiers: Vec<PublishedClassifier>,
}

/// A line of the study's table of classifiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedClassifier {
    /// The name in the study's table.
    pub name: String,
    /// Epochs.
    pub epochs: usize,
    /// Accuracy.
    pub accuracy: f64,
    /// Name of the model of `cnn.models` that repeats this line, or `best`, or `resnet`.
    pub ours: String,
}

impl Results {
    /// The recipe of the study's own GANs.
    #[must_use]
    pub fn recipe(&self) -> &str {
        self.settings.config.pointer("/gan/recipe").and_then(Value::as_str).unwrap_or_default()
    }

    /// Seconds that the GANs of a recipe took to train.
    #[must_use]
    pub fn training_seconds(&self, recipe: &str) -> f64 {
        let folder = if recipe == self.recipe() { String::new() } else { format!("{}/", Stage::Beside.run(recipe)) };
        let folder = format!("{folder}{}/", Stage::Gan.folder());
        self.durations.iter().filter(|(stage, _)| stage.starts_with(&folder)).map(|(_, seconds)| seconds).sum()
    }

    /// The published counts of a class, where figures of the study may stand beside these.
    #[must_use]
    pub fn published_recognition(&self, class: &str) -> Option<&Recognition> {
        self.published.as_ref()?.recognition.get(class)
    }

    /// The published accuracy of the residual network, where figures of the study may stand beside these.
    #[must_use]
    pub fn published_resnet(&self) -> Option<f64> {
        let published = self.published.as_ref()?;
        Some(published.classifiers.iter().find(|line| line.ours == "resnet")?.accuracy)
    }
}

impl Published {
    /// The study's figures: its table of classifiers, and 300 and 991 of 1,000 synthetic cells recognised. The intervals are ours
    /// (Wilson, 95%); the study gives none.
    ///
    /// # Panics
    /// Never: the counts are constants that have an interval.
    #[must_use]
    pub fn study() -> Self {
        let rate = |n| Recognition::from(cellforge_eval::wilson(n, 1000).expect("1,000 images have an interval"));
        let line = |name: &str, epochs, accuracy, ours: &str| PublishedClassifier {
            name: name.to_owned(),
            epochs,
            accuracy,
            ours: ours.to_owned(),
        };
        Self {
            recognition: BTreeMap::from([("Parasitized".to_owned(), rate(300)), ("Uninfected".to_owned(), rate(991))]),
            classifiers: vec![
                line("CNN Model 1", 30, 0.5221, "paper-1"),
                line("CNN Model 2", 100, 0.5331, "paper-2"),
                line("CNN Model 3", 50, 0.5200, "paper-3"),
                line("Best CNN Model", 30, 0.5548, "best"),
                line("ResNet Model", 4, 0.9489, "resnet"),
            ],
        }
    }
}

/// Thins a curve to at most [`CURVE_POINTS`] points, evenly by position, keeping the first and the last. Losses that are not finite
/// become gaps.
///
/// ```
/// use cellforge_study::results::{CURVE_POINTS, thin};
/// let curve = thin((1..=15_000).map(|i| (i, 0.5)));
/// assert_eq!(curve.len(), CURVE_POINTS);
/// assert_eq!((curve[0].iteration, curve[CURVE_POINTS - 1].iteration), (1, 15_000));
/// ```
pub fn thin(curve: impl IntoIterator<Item = (u64, f64)>) -> Vec<LossPoint> {
    let all: Vec<LossPoint> = curve
        .into_iter()
        .map(|(iteration, value)| LossPoint { iteration, value: value.is_finite().then_some(value) })
        .collect();
    cellforge_assess::plots::thin(&all, CURVE_POINTS)
}
