//! All figures of a classifier on labelled images, with intervals.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Confusion, Error, Estimate, Interval, Proportion, Resampler, Result,
    bootstrap::percentiles,
    calibration::{Calibration, Sureness},
    confusion::check_labels,
    privacy::roc::Ranked,
    proportion::{wilson_at, wilson_interval},
};

/// How the intervals of a [`ClassifierReport`] were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// No groups: Wilson's interval for accuracy, precision and recall, the bootstrap over single images for the rest. Where all
    /// resamples agree, which would claim certainty, Wilson's interval with the number of images as its total.
    WilsonAndImages,
    /// The bootstrap over whole groups (patients) for every figure. Where all resamples agree, which would claim certainty,
    /// Wilson's interval with the number of groups as its total.
    Groups,
    /// As `WilsonAndImages`, because all images are of one group: the variation between groups cannot be known and the intervals are
    /// too narrow.
    ImagesOfOneGroup,
}

/// The figures of one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Name of the class.
    pub class: String,
    /// Share of the images taken for this class that are of it. 0 where none was taken for it.
    pub precision: Proportion,
    /// Share of the images of this class that were taken for it. 0 where there are none.
    pub recall: Proportion,
    /// Harmonic mean of precision and recall. 0 where the class is neither present nor predicted.
    pub f1: Estimate,
    /// Images of this class.
    pub support: u64,
    /// Area under the ROC curve of this class against the rest; none where one side is missing.
    pub roc_auc: Option<Estimate>,
    /// Average precision of this class against the rest, the area under its curve of precision and recall (AUC-PR), as scikit-learn's
    /// `average_precision_score`. A classifier that guesses has the share of the class. None where one side is missing.
    #[serde(default)]
    pub average_precision: Option<Estimate>,
    /// Its sensitivity where the threshold of its score is put so that 90%, 95% and 99% of the other images are not taken for it. Empty
    /// where one side is missing.
    #[serde(default)]
    pub sensitivity_at: Vec<SensitivityAt>,
    /// Whether precision, recall or F1 divided by 0 and was set to 0 (scikit-learn's `zero_division=0`).
    pub zero_division: bool,
}

/// The sensitivity of a class against the rest at a specificity that is given.
///
/// It is read from the ROC curve, which is a line between thresholds that hold a run of equal scores. Where fewer other images are there than
/// `1 / (1 - specificity)`, it is the share of the class that scores above all of them. Each resample puts the threshold anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityAt {
    /// Share of the other images that are not taken for the class.
    pub specificity: f64,
    /// Share of the images of the class that are.
    pub sensitivity: Estimate,
}

/// Shares of false positives at which sensitivities are given: 1 less the specificity.
const FALSE_POSITIVES: [f64; 3] = [0.1, 0.05, 0.01];

/// Images of a class below which its figures, and what a network learns of it, are rough: of 100 images an accuracy of 90% is known to within
/// 6 points.
pub const FEW_IMAGES: usize = 100;

/// An average over the classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// Average precision.
    pub precision: Estimate,
    /// Average recall.
    pub recall: Estimate,
    /// Average F1.
    pub f1: Estimate,
}

/// All figures of a classifier on labelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierReport {
    /// Share of the images classified rightly.
    pub accuracy: f64,
    /// Interval of the accuracy.
    pub accuracy_interval: Interval,
    /// Images classified rightly.
    pub correct: u64,
    /// Images judged.
    pub total: u64,
    /// Images by true and predicted class.
    pub confusion: Confusion,
    /// The figures of each class, in the order of the labels.
    pub per_class: Vec<ClassReport>,
    /// The plain mean over the classes.
    pub macro_average: Average,
    /// The mean over the classes, weighted by their support.
    pub weighted_average: Average,
    /// Area under the ROC curve: of class 1 where there are two classes, the mean of each class against the rest where there are
    /// more. None where a class has no images.
    pub roc_auc: Option<Estimate>,
    /// Balanced accuracy: the mean recall of the classes that have images, as scikit-learn's `balanced_accuracy_score`. None in reports of
    /// earlier versions.
    #[serde(default)]
    pub balanced_accuracy: Option<Estimate>,
    /// The mean of the classes' average precision (AUC-PR). None where a class has no images, or all are of one.
    #[serde(default)]
    pub average_precision: Option<Estimate>,
    /// How well the probabilities agree with how often it is right. None where the scores are no probabilities, that is, not from 0 to 1 with
    /// a sum of 1 an image.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// How the intervals were computed.
    pub interval_method: IntervalMethod,
    /// Groups (patients) among the images, if groups were given.
    pub groups: Option<usize>,
    /// Number of resamples, seed and coverage.
    pub bootstrap: BootstrapOptions,
}

impl ClassifierReport {
    /// The classes with fewer than [`FEW_IMAGES`] images, whose figures are rough.
    pub fn rough(&self) -> impl Iterator<Item = &ClassReport> {
        self.per_class.iter().filter(|class| class.support < FEW_IMAGES as u64)
    }
}

/// Judges a classifier: `truth[i]` is the label of image `i` (below `classes.len()`), `probabilities[i]` its score for each class,
/// `groups[i]` the patient it comes from. The predicted class is the one with the highest score, the first of them on ties.
///
/// Precision, recall, F1 and the averages are those of scikit-learn's `classification_report` with `zero_division=0`.
///
/// # Errors
/// [`Error`] if the arrays are empty, differ in length, hold a label that names no class or a score that is not finite, or if
/// `options` make no sense.
pub fn classifier_report(
    truth: &[u32],
    probabilities: &[Vec<f32>],
    classes: &[String],
    groups: Option<&[String]>,
    options: &BootstrapOptions,
) -> Result<ClassifierReport> {
    let k = classes.len();
    check_labels(truth, k)?;
    options.check()?;
    let length = |what, found| {
        if found == truth.len() { Ok(()) } else { Err(Error::Length { what, found, expected: truth.len() }) }
    };
    length("the array of probabilities", probabilities.len())?;
    length("the array of groups", groups.map_or(truth.len(), <[String]>::len))?;
    let predicted = predictions(probabilities, k)?;

    let rankings: Vec<Ranked> = (0..k)
        .map(|class| Ranked::new(&probabilities.iter().map(|row| f64::from(row[class])).collect::<Vec<_>>()))
        .collect();
    let sureness = Sureness::new(truth, probabilities, &predicted);
    let confusion = Confusion::weighted(truth, &predicted, None, k);
    let figures = |weights: Option<&[u32]>| {
        let drawn = Confusion::weighted(truth, &predicted, weights, k);
        let ranked = (0..k).map(|class| {
            let counts = |i: usize| {
                let weight = weights.map_or(1, |weights| weights[i]);
                if truth[i] as usize == class { (weight, 0) } else { (0, weight) }
            };
            let [a, b, c] = FALSE_POSITIVES.map(|fpr| rankings[class].figures(fpr, counts));
            let average_precision = rankings[class].average_precision(counts)?;
            Some(RankFigures { auc: a?.0, sensitivities: [a?.1, b?.1, c?.1], average_precision })
        });
        let ranked = ranked.collect();
        let calibration = sureness.as_ref().map(|sureness| sureness.figures(weights));
        // A class that the images have but the draw has not: its part of a plain mean is unknown, not 0.
        let complete = (0..k).all(|class| confusion.support(class) == 0 || drawn.support(class) > 0);
        Figures { calibration, ..Figures::new(&drawn, ranked, complete) }
    };

    let by_group = groups.map(Resampler::groups).transpose()?;
    let units = by_group.as_ref().map(Resampler::units);
    let (resampler, interval_method) = match by_group {
        Some(resampler) if resampler.units() > 1 => (resampler, IntervalMethod::Groups),
        Some(_) => (Resampler::images(truth.len())?, IntervalMethod::ImagesOfOneGroup),
        None => (Resampler::images(truth.len())?, IntervalMethod::WilsonAndImages),
    };
    let resamples = resampler.map(options, |weights| figures(Some(weights)))?;
    let found = figures(None);
    let by_group = interval_method == IntervalMethod::Groups;
    let intervals = Intervals { resamples: &resamples, by_group, options };
    // What was drawn, groups or images, that holds an image of this kind.
    let units_with = |keep: &dyn Fn(usize) -> bool| -> usize {
        let kept = (0..truth.len()).filter(|&i| keep(i));
        match groups {
            Some(groups) if by_group => kept.map(|i| &groups[i]).collect::<BTreeSet<_>>().len(),
            _ => kept.count(),
        }
    };
    let support_units: Vec<usize> = (0..k).map(|c| units_with(&|i| truth[i] as usize == c)).collect();

    let mut per_class = Vec::with_capacity(k);
    for (c, class) in classes.iter().enumerate() {
        let (hits, support, taken) = (confusion.counts[c][c], confusion.support(c), confusion.predicted(c));
        let predicted_units = units_with(&|i| predicted[i] as usize == c);
        per_class.push(ClassReport {
            class: class.clone(),
            precision: intervals.proportion(hits, taken, predicted_units, |f| f.classes[c][0])?,
            recall: intervals.proportion(hits, support, support_units[c], |f| f.classes[c][1])?,
            f1: intervals.estimate(found.classes[c][2].unwrap_or(0.0), support_units[c], |f| f.classes[c][2])?,
            support,
            roc_auc: found.ranked[c]
                .map(|ranked| intervals.estimate(ranked.auc, support_units[c], |f| Some(f.ranked[c]?.auc)))
                .transpose()?,
            average_precision: found.ranked[c]
                .map(|ranked| {
                    let of = |f: &Figures| Some(f.ranked[c]?.average_precision);
                    intervals.estimate(ranked.average_precision, support_units[c], of)
                })
                .transpose()?,
            sensitivity_at: found.ranked[c].map_or_else(
                || Ok(Vec::new()),
                |ranked| {
                    let one = |at: usize| {
                        let of = |f: &Figures| Some(f.ranked[c]?.sensitivities[at]);
                        let sensitivity = intervals.estimate(ranked.sensitivities[at], support_units[c], of)?;
                        Ok(SensitivityAt { specificity: 1.0 - FALSE_POSITIVES[at], sensitivity })
                    };
                    (0..FALSE_POSITIVES.len()).map(one).collect::<Result<_>>()
                },
            )?,
            zero_division: found.classes[c].iter().any(Option::is_none),
        });
    }
    // The class that fewest units have limits what an average over the classes can claim.
    let fewest = support_units.iter().copied().filter(|&units| units > 0).min().unwrap_or(1);
    let average = |value: [f64; 3], of: fn(&Figures) -> Option<[f64; 3]>| -> Result<Average> {
        let one = |i: usize| intervals.estimate(value[i], fewest, |f| of(f).map(|scores| scores[i]));
        Ok(Average { precision: one(0)?, recall: one(1)?, f1: one(2)? })
    };
    let all_units = units_with(&|_| true);
    let calibration = match (&sureness, found.calibration) {
        (Some(sureness), Some([ece, brier])) => Some(Calibration {
            ece: intervals.upward(ece, all_units, |f| Some(f.calibration?[0]))?,
            brier: intervals.half(brier, all_units, |f| Some(f.calibration?[1]))?,
            bins: sureness.bins(),
            scaling: None,
        }),
        _ => None,
    };
    let accuracy = intervals.proportion(confusion.correct(), confusion.total(), all_units, |f| Some(f.accuracy))?;
    Ok(ClassifierReport {
        accuracy: accuracy.rate,
        accuracy_interval: Interval { low: accuracy.low, high: accuracy.high },
        correct: accuracy.successes,
        total: accuracy.total,
        per_class,
        macro_average: average(found.macro_average, |f| f.complete.then_some(f.macro_average))?,
        weighted_average: average(found.weighted_average, |f| Some(f.weighted_average))?,
        roc_auc: found.auc.map(|value| intervals.estimate(value, fewest, |f| f.auc)).transpose()?,
        balanced_accuracy: Some(
            intervals.estimate(found.balanced_accuracy, fewest, |f| f.complete.then_some(f.balanced_accuracy))?,
        ),
        average_precision: found
            .average_precision
            .map(|value| intervals.estimate(value, fewest, |f| f.average_precision))
            .transpose()?,
        calibration,
        confusion,
        interval_method,
        groups: units,
        bootstrap: *options,
    })
}

/// The class with the highest score of each row, the first of them on ties.
///
/// # Errors
/// [`Error::Columns`] for a row without one score per class, [`Error::NotFinite`] for a score that is NaN or infinite.
pub fn predictions(probabilities: &[Vec<f32>], classes: usize) -> Result<Vec<u32>> {
    let one = |(index, row): (usize, &Vec<f32>)| {
        if row.len() != classes || classes == 0 {
            return Err(Error::Columns { index, found: row.len(), classes });
        }
        if let Some(&value) = row.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite { index, value: f64::from(value) });
        }
        let best = (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        Ok(best as u32)
    };
    probabilities.iter().enumerate().map(one).collect()
}

/// The figures of one resample, or of the images themselves. `None` where a figure is not defined.
struct Figures {
    accuracy: f64,
    /// Precision, recall and F1 of each class.
    classes: Vec<[Option<f64>; 3]>,
    macro_average: [f64; 3],
    weighted_average: [f64; 3],
    balanced_accuracy: f64,
    /// Of each class what follows from the order of its scores.
    ranked: Vec<Option<RankFigures>>,
    auc: Option<f64>,
    average_precision: Option<f64>,
    /// Expected calibration error and Brier score.
    calibration: Option<[f64; 2]>,
    /// Whether every class that the images have was drawn.
    complete: bool,
}

/// What follows from the order of the scores of a class.
#[derive(Clone, Copy)]
struct RankFigures {
    auc: f64,
    /// At [`FALSE_POSITIVES`].
    sensitivities: [f64; 3],
    average_precision: f64,
}

impl Figures {
    fn new(confusion: &Confusion, ranked: Vec<Option<RankFigures>>, complete: bool) -> Self {
        let (k, total) = (confusion.classes(), confusion.total() as f64);
        let classes: Vec<_> = (0..k).map(|class| confusion.scores(class)).collect();
        let average = |weight: &dyn Fn(usize) -> f64| {
            [0, 1, 2].map(|i| (0..k).map(|class| weight(class) * classes[class][i].unwrap_or(0.0)).sum())
        };
        let mean = |of: fn(&RankFigures) -> f64| {
            ranked.iter().map(|ranked| ranked.as_ref().map(of)).sum::<Option<f64>>().map(|sum| sum / k as f64)
        };
        let auc = match &ranked[..] {
            [_, second] => second.map(|ranked| ranked.auc),
            _ => mean(|ranked| ranked.auc),
        };
        let present: Vec<f64> = classes.iter().filter_map(|scores| scores[1]).collect();
        Self {
            accuracy: confusion.correct() as f64 / total,
            macro_average: average(&|_| 1.0 / k as f64),
            weighted_average: average(&|class| confusion.support(class) as f64 / total),
            balanced_accuracy: present.iter().sum::<f64>() / present.len() as f64,
            average_precision: mean(|ranked| ranked.average_precision),
            classes,
            ranked,
            auc,
            calibration: None,
            complete,
        }
    }
}

/// Turns resamples into intervals.
struct Intervals<'a> {
    resamples: &'a [Figures],
    by_group: bool,
    options: &'a BootstrapOptions,
}

impl Intervals<'_> {
    fn percentiles(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<Interval> {
        percentiles(self.resamples.iter().filter_map(of).collect(), self.options.level)
    }

    /// `units` is the number of groups or images that the figure rests on.
    fn estimate(&self, value: f64, units: usize, of: impl Fn(&Figures) -> Option<f64>) -> Result<Estimate> {
        let found = self.percentiles(of).unwrap_or(Interval { low: 0.0, high: 1.0 });
        // Resamples that all agree say nothing: all right, all wrong, or all of one group.
        let Interval { low, high } = if found.low == found.high {
            wilson_interval(found.low.clamp(0.0, 1.0), units.max(1) as f64, self.options.level)?
        } else {
            found
        };
        Ok(Estimate { value, low, high })
    }

    /// As [`estimate`](Self::estimate), for a figure from 0 to 2.
    fn half(&self, value: f64, units: usize, of: impl Fn(&Figures) -> Option<f64>) -> Result<Estimate> {
        let Estimate { low, high, .. } = self.estimate(value / 2.0, units, |f| Some(of(f)? / 2.0))?;
        Ok(Estimate { value, low: 2.0 * low, high: 2.0 * high })
    }

    /// As [`estimate`](Self::estimate), for a mean of absolute differences, which few images make too large: its square by about the square
    /// of what they add to each difference. Resamples add as much again, so their mean square less the figure's own is what has been added.
    /// It is taken twice from the squares of their percentiles. The interval is widened to the figure where that leaves it out.
    fn upward(&self, value: f64, units: usize, of: impl Fn(&Figures) -> Option<f64>) -> Result<Estimate> {
        let drawn: Vec<f64> = self.resamples.iter().filter_map(&of).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len().max(1) as f64;
        let found = self.estimate(value, units, &of)?;
        if drawn.iter().all(|one| *one == value) {
            return Ok(found);
        }
        let added = (mean * mean - value * value).max(0.0);
        let [low, high] = [found.low, found.high].map(|end| (end * end - 2.0 * added).max(0.0).sqrt());
        Ok(Estimate { value, low: low.min(value), high: high.max(value) })
    }

    /// `units` is the number of groups among the `total` images.
    fn proportion(
        &self,
        successes: u64,
        total: u64,
        units: usize,
        of: impl Fn(&Figures) -> Option<f64>,
    ) -> Result<Proportion> {
        if total == 0 {
            return Ok(Proportion { successes, total, rate: 0.0, low: 0.0, high: 1.0 });
        }
        let rate = successes as f64 / total as f64;
        if !self.by_group {
            return wilson_at(successes, total, self.options.level);
        }
        // Resamples of a class of one group are all alike.
        let Interval { low, high } = if successes == 0 || successes == total || units < 2 {
            wilson_interval(rate, units.max(1) as f64, self.options.level)?
        } else {
            self.percentiles(of).unwrap_or(Interval { low: 0.0, high: 1.0 })
        };
        Ok(Proportion { successes, total, rate, low, high })
    }
}
