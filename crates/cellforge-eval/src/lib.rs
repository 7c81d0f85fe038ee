//! Judging classifiers and synthetic images: pure functions from labels and scores to figures with intervals.
//!
//! Nothing here reads a file, trains a network or knows what an image is. Every figure comes with an interval, because a rate out of
//! a thousand images, or out of twenty patients, is only as good as its spread.
//!
//! ```
//! use cellforge_eval::{BootstrapOptions, classifier_report, recognition};
//!
//! // Five images of three patients: their labels, and a network's probabilities for the two classes.
//! let truth = [0, 0, 1, 1, 1];
//! let probabilities = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]].map(Vec::from);
//! let classes = ["abnormal", "normal"].map(String::from);
//! let patients = ["C1", "C2", "C2", "C3", "C3"].map(String::from);
//!
//! let report = classifier_report(&truth, &probabilities, &classes, Some(&patients), &BootstrapOptions::default())?;
//! assert_eq!((report.correct, report.total, report.accuracy), (4, 5, 0.8));
//! assert_eq!(report.per_class[0].recall.rate, 0.5);
//!
//! // The study's test of synthetic images: how many of those made for class 0 are taken for class 0?
//! let found = recognition(0, &[0, 1, 1, 0])?;
//! assert_eq!((found.successes, found.total), (2, 4));
//! # Ok::<(), cellforge_eval::Error>(())
//! ```
//!
//! Two sets of images are compared through features, one row of numbers per image, from whatever network (or from none: pixels will do):
//!
//! ```
//! use cellforge_eval::{Features, FidelityOptions, Sample, fidelity, halves};
//!
//! // 120 real images of 30 patients and 90 synthetic ones, with two features each.
//! let values = |n: usize, start: f32| (0..2 * n).map(|i| (start + 0.7 * i as f32).sin()).collect::<Vec<f32>>();
//! let (real, synthetic) = (values(120, 0.0), values(90, 0.2));
//! let patients: Vec<String> = (0..120).map(|i| format!("C{}", i / 4)).collect();
//! let real = Sample { features: Features::new(&real, 2)?, groups: Some(&patients) };
//! let synthetic = Sample { features: Features::new(&synthetic, 2)?, groups: None };
//!
//! let found = fidelity(&real, &synthetic, &FidelityOptions::default())?;
//! assert!(found.frechet.low <= found.frechet.value && found.precision.value <= 1.0);
//!
//! // What the distance is between real and real: two halves of the patients.
//! let [first, second] = halves(120, real.groups, 0)?;
//! let (first, second) = (real.features.select(&first), real.features.select(&second));
//! let floor = cellforge_eval::frechet_distance(Features::new(&first, 2)?, Features::new(&second, 2)?)?;
//! assert!(floor >= 0.0);
//! # Ok::<(), cellforge_eval::Error>(())
//! ```
//!
//! Neighbours are found by [`nearest`], [`nearest_other`] and [`nearest_in_groups`]: exactly, in memory that does not grow with the
//! number of pairs, and the same on any processor.
//!
//! # Which interval
//!
//! - Without groups, proportions (accuracy, precision, recall, recognition) have [Wilson's interval](wilson); F1, averages and areas
//!   have percentile intervals of the bootstrap over images. Those of the calibration error are moved by what few images add to it.
//! - With groups (patients), every figure has the percentile interval of the bootstrap over whole groups, see [`Resampler`].
//! - Networks that were trained several times: [`accuracy_over_seeds`] and [`paired_difference`], whose intervals hold the variation of
//!   patients and of trainings.
//! - Whether a generator leaks is not read from intervals but from who else could have been in training, see [`mod@privacy`].
//! - Whether single images or patients were in training is attacked in [`mod@attacks`]; a bound of epsilon from one run has a one-sided
//!   confidence.
//! - Raters who judge images, see [`mod@panel`]: raters and images are both drawn.
//! - Whether two sets can be told apart is judged beside halves of the real patients, see [`mod@two_sample`].
//! - Distances between two sets have intervals of their own, for reasons that are given at [`fidelity()`].
//!
//! Resamples run in parallel, each with random numbers keyed by the seed and its own number: results do not depend on the number of
//! threads.

pub mod attacks;
mod auc;
mod bootstrap;
mod by_group;
mod calibration;
mod confusion;
pub mod copies;
mod cross_validation;
mod distances;
mod error;
mod features;
mod fidelity;
pub mod panel;
pub mod privacy;
mod proportion;
mod report;
mod temperature;
pub mod two_sample;
mod utility;

pub use auc::roc_auc;
pub use bootstrap::{BootstrapOptions, Resampler, effective_groups};
pub use by_group::{GroupFigures, by_group};
pub use calibration::{CALIBRATION_BINS, Calibration, CalibrationBin, TemperatureScaling};
pub use confusion::{Confusion, confusion};
pub use cross_validation::{CrossValidation, OverFolds};
pub use distances::{Neighbour, nearest, nearest_in_groups, nearest_other};
pub use error::{Error, Result};
pub use features::Features;
pub use fidelity::{
    Fidelity, FidelityOptions, ImageScore, Kid, Prdc, Sample, fidelity, fld, frechet_distance, halves, image_scores,
    kid, mean_distance, prdc, vendi_score,
};
pub use privacy::{Privacy, PrivacyInput, PrivacyOptions, clopper_pearson, privacy};
pub use proportion::{Estimate, Interval, LEVEL, Proportion, recognition, wilson, wilson_at};
pub use report::{
    Average, ClassReport, ClassifierReport, FEW_IMAGES, IntervalMethod, SensitivityAt, classifier_report, predictions,
};
pub use temperature::fit_temperature;
pub use utility::{Difference, accuracy_over_seeds, holm, paired_difference};

/// The example of the README compiles and runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
