//! Patient re-identification: do synthetic images resemble training patients as images of one patient resemble each other?
//!
//! # What is done
//!
//! - Half of the patients, of training and held out alike, teach a small network whose images are whose. Its last layer gives every image a row of
//!   numbers in which images of one patient lie close together, that of patients it never saw too: the way by which faces and voices are
//!   verified. The other half is judged, and then the halves change places, so that nobody is judged by a network that saw him or her.
//! - First the network is asked about real pairs of patients it never saw: does an image lie closer to another one of its patient than to one of
//!   somebody else, of the same class? Where it does not, nothing can be told.
//! - Then every real image of a judged patient has the score `ln(b / a)`, where `a` is the distance to the nearest synthetic image of its class and `b`
//!   that to the nearest real image of another judged patient. Scores are standardised within a network and a class. If the synthetic images
//!   are linked to training patients, these score higher than held-out ones
//!   ([`membership`](cellforge_eval::privacy::membership())).
//!
//! Packhäuser et al. (2022), Deep learning-based patient re-identification is able to exploit the biometric nature of medical chest X-ray data,
//! Scientific Reports 12:14851, train a network on pairs. Here it learns patients, and pairs are compared by the angle between rows: one training
//! then serves all pairs.

mod config;

use std::collections::BTreeMap;

use cellforge_data::{View, ViewParts, derive_seed};
use cellforge_eval::{
    BootstrapOptions, Estimate, Features, Interval, Resampler, nearest, nearest_in_groups,
    privacy::{Membership, PrivacyOptions, Targets, membership},
    roc_auc,
};
use cellforge_train::{FeatureMatrix, TrainedClassifier, train_for_steps};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use config::ReidentificationConfig;

use crate::{
    Control, Error, Result,
    evaluation::{Words, pick, rank},
    progress::ProgressBar,
};

/// Fewer patients on a side say too little.
const LEAST_PATIENTS: usize = 8;

/// Side to which images are brought.
const SIDE: usize = 32;

/// Patients that are named as the most linked.
const NAMED: usize = 5;

/// A distance below this is one of images that look the same to the network.
const LEAST: f64 = 1e-6;

/// Real images and their patients.
#[derive(Clone, Copy, Debug)]
pub struct KnownImages<'a> {
    /// The images.
    pub images: &'a View,
    /// The patient of each.
    pub patients: &'a [String],
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reidentification {
    /// Training patients that were judged.
    pub training_patients: usize,
    /// Held-out patients that were judged.
    pub holdout_patients: usize,
    /// Real pairs of patients that a network never saw: how often an image is more like another one of its patient than like one of
    /// somebody else, with the interval over patients. 0.5 is chance.
    pub real_pairs: Estimate,
    /// Whether that interval lies above chance. If not, nothing can be told of synthetic images.
    pub can_tell: bool,
    /// The training patients to whom synthetic images are linked most, the most linked first.
    pub most_linked: Vec<LinkedPatient>,
    /// The highest score of a held-out patient, to whom no synthetic image can be linked but by chance.
    pub highest_holdout: f64,
}

impl Reidentification {
    /// What the networks can do, in a sentence or two.
    #[must_use]
    pub fn in_words(&self, words: &Words) -> String {
        let (one, pairs) = (&words.one, self.real_pairs);
        let able = format!(
            "Asked about patients whom it never saw, a network finds a real {one} more like another one of its patient than like one of somebody \
             else in {:.1}% of pairs ({:.1}% to {:.1}%; chance is 50%).",
            100.0 * pairs.value,
            100.0 * pairs.low,
            100.0 * pairs.high,
        );
        if self.can_tell {
            able
        } else {
            format!("{able} So it cannot tell whether synthetic {} are linked to patients.", words.many)
        }
    }
}

/// A training patient and the image that links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkedPatient {
    /// The patient.
    pub patient: String,
    /// Mean score of the patient's images, in standard deviations.
    pub score: f64,
    /// The image of the patient that scores highest.
    pub real: String,
    /// The synthetic image nearest to it.
    pub synthetic: String,
}

/// What was found, and the scores of training patients against those of held-out ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Linked {
    /// What is to be kept of it.
    pub found: Reidentification,
    /// How well training patients are told from held-out ones by their links; none where the network cannot tell patients.
    pub membership: Option<Membership>,
}

/// Trains two networks and judges every patient with two images or more. Both sets of real images and the synthetic ones have one size and the
/// same classes in one order. Of `options` all count that [`membership`](cellforge_eval::privacy::membership()) takes.
///
/// The answer is the reason, where there are too few patients.
///
/// # Errors
/// [`Error::Settings`]; [`Error::ReidentificationRun`] for a training that failed; [`Error::Interrupted`].
pub fn reidentify(
    config: &ReidentificationConfig,
    real: KnownImages<'_>,
    holdout: KnownImages<'_>,
    synthetic: &View,
    options: &PrivacyOptions,
    control: &Control,
) -> Result<std::result::Result<Linked, String>> {
    config.validate()?;
    let all = match Judged::new(config, real, holdout)? {
        Ok(all) => all,
        Err(reason) => return Ok(Err(reason)),
    };
    let small = synthetic.resized(SIDE, synthetic.channels())?;
    let bar = &mut ProgressBar::new(control.progress, "re-identification", 2 * config.updates);
    let mut links = Links {
        scores: vec![0.0; all.images.len()],
        nearest: vec![0; all.images.len()],
        pairs: vec![None; all.patients.len()],
    };
    for fold in 0..2 {
        bar.name(format!("network {} of 2", fold + 1));
        let network = train(config, &all, fold, bar, control)?;
        let failed = |source| Error::ReidentificationRun { run: fold + 1, source: Box::new(source) };
        let rows = |images: &View| network.features(images).map_err(failed);
        let taught = rows(&all.part(|row| all.fold(row) == fold).1)?;
        let (judged, images) = all.part(|row| all.fold(row) != fold);
        links.judge(
            &all,
            &judged,
            &unit_rows(&rows(&images)?, &taught),
            &small,
            &unit_rows(&rows(&small)?, &taught),
        )?;
    }
    bar.finish();
    links.finish(&all, synthetic, options).map(Ok)
}

/// The real images that are used, of both sides.
struct Judged {
    /// Small images, those of training first.
    images: View,
    /// The patient of each.
    patient_of: Vec<usize>,
    /// Name of each patient, whether in training, and the fold.
    patients: Vec<(String, bool, usize)>,
}

impl Judged {
    /// Chooses images of each patient who has two or more; of those who are left, every second in a random order is of the second fold, on
    /// each side.
    fn new(
        config: &ReidentificationConfig,
        real: KnownImages<'_>,
        holdout: KnownImages<'_>,
    ) -> Result<std::result::Result<Self, String>> {
        let (mut views, mut patient_of, mut patients) = (Vec::new(), Vec::new(), Vec::new());
        for (set, training) in [(real, true), (holdout, false)] {
            let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            set.patients.iter().enumerate().for_each(|(row, patient)| rows.entry(patient).or_default().push(row));
            let mut several: Vec<_> = rows.into_iter().filter(|(_, rows)| rows.len() > 1).collect();
            several.sort_by_cached_key(|(patient, _)| rank(config.seed, patient));
            if several.len() < LEAST_PATIENTS {
                let side = if training { "training" } else { "held-out" };
                return Ok(Err(format!(
                    "it needs {LEAST_PATIENTS} {side} patients with two images or more, and there are {}",
                    several.len()
                )));
            }
            let mut kept = Vec::new();
            for (number, (patient, rows)) in several.into_iter().enumerate() {
                let chosen = pick(set.images, &rows, config.images, config.seed);
                patient_of.extend(std::iter::repeat_n(patients.len(), chosen.len()));
                patients.push((patient.to_owned(), training, number % 2));
                kept.extend(chosen);
            }
            views.push(set.images.part(&kept));
        }
        let images = View::joined(&views)?;
        let images = images.resized(SIDE, images.channels())?;
        Ok(Ok(Self { images, patient_of, patients }))
    }

    /// The fold of an image.
    fn fold(&self, row: usize) -> usize {
        self.patients[self.patient_of[row]].2
    }

    /// The rows that are wanted, and their images.
    fn part(&self, wanted: impl Fn(usize) -> bool) -> (Vec<usize>, View) {
        let rows: Vec<usize> = (0..self.images.len()).filter(|&row| wanted(row)).collect();
        let images = self.images.part(&rows);
        (rows, images)
    }
}

/// A network that knows the patients of a fold.
fn train(
    config: &ReidentificationConfig,
    all: &Judged,
    fold: usize,
    bar: &mut ProgressBar,
    control: &Control,
) -> Result<TrainedClassifier> {
    let (rows, images) = all.part(|row| all.fold(row) == fold);
    let mut labels: Vec<usize> = rows.iter().map(|&row| all.patient_of[row]).collect();
    let mut classes: Vec<usize> = labels.clone();
    classes.dedup();
    // A patient's images stand together, in the order of the patients.
    labels.iter_mut().for_each(|label| *label = classes.partition_point(|patient| patient < label));
    let names = classes.iter().map(|patient| format!("{patient}")).collect();
    let labels = labels.into_iter().map(|label| label as u32).collect();
    let taught = View::new(ViewParts { classes: names, labels, ..images.to_parts() })?;
    let training = config.training(
        SIDE.into(),
        images.channels(),
        classes.len(),
        derive_seed(config.seed, &format!("fold-{fold}")),
    );
    let trained = train_for_steps(&training, config.updates, &taught, control, &mut [bar]);
    trained
        .map_err(|source| Error::ReidentificationRun { run: fold + 1, source: Box::new(source) })?
        .ok_or(Error::Interrupted)
}

/// Rows less the mean of `taught`, brought to length 1: their distances are those of the angles between them.
fn unit_rows(rows: &FeatureMatrix, taught: &FeatureMatrix) -> FeatureMatrix {
    let mut mean = vec![0.0; rows.dims];
    for row in taught.values.chunks(taught.dims) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / taught.len() as f64);
    }
    let mut values = Vec::with_capacity(rows.values.len());
    for row in rows.values.chunks(rows.dims) {
        let centred: Vec<f64> = row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean).collect();
        let length = centred.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        values.extend(centred.iter().map(|value| (value / length) as f32));
    }
    FeatureMatrix { values, dims: rows.dims }
}

/// What the networks say.
struct Links {
    /// The score of each real image.
    scores: Vec<f64>,
    /// The synthetic image nearest to each.
    nearest: Vec<usize>,
    /// How often an image of each patient is more like another one of the patient's, where there are such pairs.
    pairs: Vec<Option<f64>>,
}

impl Links {
    /// Judges the patients of a fold, by the rows of their images and of the synthetic ones.
    fn judge(
        &mut self,
        all: &Judged,
        judged: &[usize],
        rows: &FeatureMatrix,
        synthetic: &View,
        made: &FeatureMatrix,
    ) -> Result<()> {
        let mut won: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for label in 0..all.images.classes().len() as u32 {
            let of: Vec<usize> = (0..judged.len()).filter(|&at| all.images.label(judged[at]) == label).collect();
            let drawn = synthetic.class_indices(label);
            let patients: Vec<usize> = of.iter().map(|&at| all.patient_of[judged[at]]).collect();
            if drawn.is_empty() || patients.iter().all(|patient| *patient == patients[0]) {
                continue;
            }
            let (values, made) = (rows.checked()?.select(&of), made.checked()?.select(&drawn));
            let (targets, made) = (Features::new(&values, rows.dims)?, Features::new(&made, rows.dims)?);
            let closest = nearest(targets, made, 1)?;
            let groups = all.patients.len();
            let to_groups = nearest_in_groups(targets, targets, &patients, groups)?;
            let scores: Vec<f64> = (0..of.len())
                .map(|i| {
                    let others = to_groups[i * groups..][..groups].iter().enumerate();
                    let usual = others
                        .filter(|(group, _)| *group != patients[i])
                        .map(|(_, d)| *d)
                        .fold(f64::INFINITY, f64::min);
                    (usual.max(LEAST) / closest[i][0].distance.max(LEAST)).ln()
                })
                .collect();
            let scores = standardised(&scores);
            for (i, &at) in of.iter().enumerate() {
                self.scores[judged[at]] = scores[i];
                self.nearest[judged[at]] = drawn[closest[i][0].index];
            }
            let auc = |i: usize| -> Result<Option<f64>> {
                let others: Vec<usize> = (0..of.len()).filter(|&j| j != i).collect();
                let same: Vec<bool> = others.iter().map(|&j| patients[j] == patients[i]).collect();
                if !same.contains(&true) || !same.contains(&false) {
                    return Ok(None);
                }
                let dot = |j: &usize| -> f64 {
                    targets.row(i).iter().zip(targets.row(*j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                Ok(Some(roc_auc(&others.iter().map(dot).collect::<Vec<f64>>(), &same)?))
            };
            let aucs: Vec<Option<f64>> = (0..of.len()).into_par_iter().map(auc).collect::<Result<_>>()?;
            for (patient, auc) in patients.into_iter().zip(aucs) {
                won.entry(patient).or_default().extend(auc);
            }
        }
        for (patient, aucs) in won.into_iter().filter(|(_, aucs)| !aucs.is_empty()) {
            self.pairs[patient] = Some(mean(&aucs));
        }
        Ok(())
    }

    fn finish(self, all: &Judged, synthetic: &View, options: &PrivacyOptions) -> Result<Linked> {
        let pairs: Vec<f64> = self.pairs.iter().flatten().copied().collect();
        let real_pairs = over_patients(&pairs, &options.bootstrap)?;
        let can_tell = real_pairs.low > 0.5;
        let mut of_patient: Vec<Vec<usize>> = vec![Vec::new(); all.patients.len()];
        all.patient_of.iter().enumerate().for_each(|(row, &patient)| of_patient[patient].push(row));
        let score =
            |patient: usize| mean(&of_patient[patient].iter().map(|&row| self.scores[row]).collect::<Vec<f64>>());
        let mut training: Vec<(f64, usize)> =
            (0..all.patients.len()).filter(|&p| all.patients[p].1).map(|p| (score(p), p)).collect();
        training.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let held_out: Vec<f64> = (0..all.patients.len()).filter(|&p| !all.patients[p].1).map(score).collect();
        let linked = |&(score, patient): &(f64, usize)| {
            let rows = &of_patient[patient];
            let best = rows.iter().copied().max_by(|a, b| self.scores[*a].total_cmp(&self.scores[*b]).then(b.cmp(a)));
            let best = best.unwrap_or_default();
            LinkedPatient {
                patient: all.patients[patient].0.clone(),
                score,
                real: all.images.name(best).to_owned(),
                synthetic: synthetic.name(self.nearest[best]).to_owned(),
            }
        };
        let found = Reidentification {
            training_patients: training.len(),
            holdout_patients: held_out.len(),
            real_pairs,
            can_tell,
            most_linked: if can_tell { training.iter().take(NAMED).map(linked).collect() } else { Vec::new() },
            highest_holdout: held_out.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        let membership = if can_tell { Some(self.told(all, options)?) } else { None };
        Ok(Linked { found, membership })
    }

    /// Training patients against held-out ones.
    fn told(&self, all: &Judged, options: &PrivacyOptions) -> Result<Membership> {
        let of = |row: usize| &all.patients[all.patient_of[row]];
        let rows = || 0..all.images.len();
        let patients: Vec<String> = rows().map(|row| of(row).0.clone()).collect();
        let members: Vec<bool> = rows().map(|row| of(row).1).collect();
        let labels = all.images.labels();
        let targets = Targets { scores: &self.scores, labels: &labels, groups: Some(&patients) };
        Ok(membership(&targets, &members, options)?)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Values less their mean, over their standard deviation where there is one.
fn standardised(values: &[f64]) -> Vec<f64> {
    let mean = mean(values);
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let scale = if deviation > 0.0 { deviation } else { 1.0 };
    values.iter().map(|value| (value - mean) / scale).collect()
}

/// The mean over patients; chance, with all of [0, 1], where no patient has a pair.
fn over_patients(values: &[f64], options: &BootstrapOptions) -> Result<Estimate> {
    if values.is_empty() {
        return Ok(Estimate { value: 0.5, low: 0.0, high: 1.0 });
    }
    let weighted = |weights: &[u32]| {
        let sum: f64 = weights.iter().zip(values).map(|(&weight, value)| f64::from(weight) * value).sum();
        Some(sum / weights.iter().map(|&weight| f64::from(weight)).sum::<f64>())
    };
    let found = Resampler::images(values.len())?.interval(options, weighted)?;
    let Interval { low, high } = found.unwrap_or(Interval { low: 0.0, high: 1.0 });
    Ok(Estimate { value: mean(values), low, high })
}

#[cfg(test)]
mod tests;
