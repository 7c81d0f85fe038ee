//! Several networks, each judged on the images that it did not see.

use serde::{Deserialize, Serialize};

use crate::{ClassifierReport, Estimate};

/// A classifier judged by cross-validation: each image once, by the network that was trained without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossValidation {
    /// All images together. Intervals draw patients over all folds. Areas and average precision compare scores of different networks, which need
    /// not be on one scale; [`over_folds`](Self::over_folds) has them fold by fold.
    pub pooled: ClassifierReport,
    /// The network of each fold on its test images.
    pub folds: Vec<ClassifierReport>,
    /// Each figure over the folds.
    pub over_folds: Vec<OverFolds>,
}

/// A figure over the folds that have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverFolds {
    /// Its name, as in the report.
    pub figure: String,
    /// Folds that have it.
    pub folds: usize,
    /// Its mean over them.
    pub mean: f64,
    /// Its standard deviation over them, with one less than their number; none for one fold. It is no standard error of the mean: the trainings
    /// share most of their images.
    pub sd: Option<f64>,
}

impl CrossValidation {
    /// The outcome of networks that were judged one by one (`folds`) and together (`pooled`).
    #[must_use]
    pub fn new(pooled: ClassifierReport, folds: Vec<ClassifierReport>) -> Self {
        type Figure = fn(&ClassifierReport) -> Option<f64>;
        fn value(estimate: Option<Estimate>) -> Option<f64> {
            estimate.map(|estimate| estimate.value)
        }
        let figures: [(&str, Figure); 7] = [
            ("accuracy", |report| Some(report.accuracy)),
            ("balanced accuracy", |report| value(report.balanced_accuracy)),
            ("macro F1", |report| Some(report.macro_average.f1.value)),
            ("ROC AUC", |report| value(report.roc_auc)),
            ("average precision", |report| value(report.average_precision)),
            ("calibration error", |report| value(report.calibration.as_ref().map(|found| found.ece))),
            ("Brier score", |report| value(report.calibration.as_ref().map(|found| found.brier))),
        ];
        let over = |(name, of): (&str, Figure)| {
            let values: Vec<f64> = folds.iter().filter_map(of).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let sd = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
            (!values.is_empty()).then(|| OverFolds { figure: name.to_owned(), folds: values.len(), mean, sd })
        };
        let over_folds = figures.into_iter().filter_map(over).collect();
        Self { pooled, folds, over_folds }
    }
}
