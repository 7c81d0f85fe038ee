//! The figures of a utility study.

use std::collections::{BTreeMap, BTreeSet};

use cellforge_eval::{
    BootstrapOptions, Confusion, Difference, Estimate, accuracy_over_seeds, confusion, holm, paired_difference,
};
use serde::{Deserialize, Serialize};

use super::{
    UtilityConfig, UtilityTraining,
    images::{Pool, TestImages},
    runs::Predictions,
    trainings::{Entry, Trainings},
};
use crate::Result;

/// What synthetic images are worth to somebody who trains a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utility {
    /// The settings.
    pub config: UtilityConfig,
    /// How every network was trained.
    pub training: UtilityTraining,
    /// Class names, in the order of the confusion matrices.
    pub classes: Vec<String>,
    /// The real images that could be trained on.
    pub train: UtilityImages,
    /// The real images that all networks were judged on.
    pub test: UtilityImages,
    /// The synthetic images.
    pub synthetic: UtilityImages,
    /// Patients with images in both `train` and `test`; 0 is as it should be. None where patients are not known.
    pub shared_patients: Option<usize>,
    /// Trained on all synthetic images, judged on the real test images.
    pub tstr: UtilityScore,
    /// Trained on all real images, judged on the synthetic images. Their interval knows of patients only where synthetic images have some.
    pub trts: UtilityScore,
    /// Trained on all real images, judged on the real test images: the ceiling.
    pub trtr: UtilityScore,
    /// `tstr` against `trtr`, paired by seed and test image.
    pub tstr_gap: Difference,
    /// The augmentation study: a fraction of the real images with synthetic ones added, in the order of `config.fractions` and, within
    /// each, of `config.ratios`.
    pub augmentation: Vec<UtilityPoint>,
}

/// How many images of each class, and of how many patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilityImages {
    /// Images by class.
    pub per_class: BTreeMap<String, usize>,
    /// Images in all.
    pub images: usize,
    /// Patients they come from, where all are known.
    pub patients: Option<usize>,
}

/// How networks that differ in their seed alone did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilityScore {
    /// Share of the images classified rightly, the mean over the seeds.
    pub accuracy: Estimate,
    /// The share of each seed.
    pub per_seed: Vec<f64>,
    /// Share of the images of each class classified rightly, the mean over the seeds.
    pub recall: BTreeMap<String, Estimate>,
    /// Images by true and predicted class, the sum over the seeds.
    pub confusion: Confusion,
}

/// One fraction of the real images with one ratio of synthetic ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilityPoint {
    /// Share of the patients asked for (of the images, where patients are not known).
    pub fraction: f64,
    /// Patients used, the mean over the seeds; more than were asked for where those had not every class. None where patients are not
    /// known.
    pub patients: Option<f64>,
    /// Real images used, the mean over the seeds.
    pub real_images: f64,
    /// Synthetic images asked for, for each real one.
    pub ratio: usize,
    /// Synthetic images used, the mean over the seeds.
    pub synthetic_images: f64,
    /// Whether some seed used fewer than were asked for, because there are no more.
    pub short: bool,
    /// Share of the real test images classified rightly, the mean over the seeds.
    pub accuracy: Estimate,
    /// What each seed used and how it did.
    pub per_seed: Vec<UtilitySeed>,
    /// Against the same real images with no synthetic ones, paired by seed and test image; none for ratio 0.
    pub difference: Option<Difference>,
    /// The p-value of the difference, adjusted by Holm's method for all differences of the augmentation study. None where a smaller
    /// ratio has used the same images already, for want of more: that is one comparison.
    pub p_holm: Option<f64>,
}

/// One training of a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilitySeed {
    /// Patients used, where they are known.
    pub patients: Option<usize>,
    /// Real images used.
    pub real_images: usize,
    /// Synthetic images used.
    pub synthetic_images: usize,
    /// Share of the real test images classified rightly.
    pub accuracy: f64,
}

pub(super) fn collect(
    config: &UtilityConfig,
    pool: &Pool,
    trainings: &Trainings,
    predicted: &[Predictions],
) -> Result<Utility> {
    let on_test = |runs: &[usize]| -> Vec<Vec<u32>> { runs.iter().map(|&run| predicted[run].test.clone()).collect() };
    let (tstr, trtr) = (on_test(&trainings.synthetic), on_test(&trainings.real));
    let trts: Vec<Vec<u32>> = trainings.real.iter().filter_map(|&run| predicted[run].synthetic.clone()).collect();
    let classes = pool.view.classes();
    let options = &config.bootstrap;
    let test = &pool.test;
    let (mut augmentation, mut compared) = (Vec::new(), Vec::new());
    for (ratios, &fraction) in trainings.augmentation.iter().zip(&config.fractions) {
        let predictions: Vec<Vec<Vec<u32>>> =
            ratios.iter().map(|seeds| on_test(&seeds.iter().map(|entry| entry.run).collect::<Vec<_>>())).collect();
        let baseline = config.ratios.iter().position(|&ratio| ratio == 0).map(|at| &predictions[at]);
        let runs: Vec<Vec<usize>> = ratios.iter().map(|seeds| seeds.iter().map(|entry| entry.run).collect()).collect();
        for (at, ((seeds, with), &ratio)) in ratios.iter().zip(&predictions).zip(&config.ratios).enumerate() {
            let mut point = point(fraction, ratio, seeds, with, test, options)?;
            if let Some(without) = baseline.filter(|_| ratio > 0) {
                let groups = test.patients.as_deref();
                let found = paired_difference(&test.truth, with, without, groups, options)?;
                point.difference = Some(found);
                if !runs[..at].contains(&runs[at]) {
                    compared.push((augmentation.len(), found.p));
                }
            }
            augmentation.push(point);
        }
    }
    let adjusted = holm(&compared.iter().map(|(_, p)| *p).collect::<Vec<_>>())?;
    for ((point, _), p) in compared.into_iter().zip(adjusted) {
        augmentation[point].p_holm = Some(p);
    }
    let real = pool.real_labels();
    Ok(Utility {
        config: config.clone(),
        training: config.training(&pool.view, 0)?.into(),
        train: images(&real, pool.patients.as_deref(), classes),
        test: images(&test.truth, test.patients.as_deref(), classes),
        synthetic: images(&pool.synthetic.truth, pool.synthetic.patients.as_deref(), classes),
        shared_patients: shared(pool),
        tstr: score(&tstr, test, classes, options)?,
        trts: score(&trts, &pool.synthetic, classes, options)?,
        trtr: score(&trtr, test, classes, options)?,
        tstr_gap: paired_difference(&test.truth, &tstr, &trtr, test.patients.as_deref(), options)?,
        augmentation,
        classes: classes.to_vec(),
    })
}

fn images(labels: &[u32], patients: Option<&[String]>, classes: &[String]) -> UtilityImages {
    let count = |class: usize| labels.iter().filter(|&&label| label as usize == class).count();
    UtilityImages {
        per_class: classes.iter().enumerate().map(|(class, name)| (name.clone(), count(class))).collect(),
        images: labels.len(),
        patients: patients.map(|patients| patients.iter().collect::<BTreeSet<_>>().len()),
    }
}

fn shared(pool: &Pool) -> Option<usize> {
    let (train, test) = (pool.patients.as_ref()?, pool.test.patients.as_ref()?);
    let train: BTreeSet<&String> = train.iter().collect();
    Some(test.iter().filter(|patient| train.contains(patient)).collect::<BTreeSet<_>>().len())
}

fn score(
    predictions: &[Vec<u32>],
    tested: &TestImages,
    classes: &[String],
    options: &BootstrapOptions,
) -> Result<UtilityScore> {
    let groups = tested.patients.as_deref();
    let mut recall = BTreeMap::new();
    for (class, name) in classes.iter().enumerate() {
        let of_class: Vec<usize> = (0..tested.truth.len()).filter(|&i| tested.truth[i] as usize == class).collect();
        let kept = |labels: &[u32]| -> Vec<u32> { of_class.iter().map(|&i| labels[i]).collect() };
        let predictions: Vec<Vec<u32>> = predictions.iter().map(|labels| kept(labels)).collect();
        let groups: Option<Vec<String>> = groups.map(|groups| of_class.iter().map(|&i| groups[i].clone()).collect());
        let found = accuracy_over_seeds(&kept(&tested.truth), &predictions, groups.as_deref(), options)?;
        recall.insert(name.clone(), found);
    }
    let mut sum = Confusion { counts: vec![vec![0; classes.len()]; classes.len()] };
    for labels in predictions {
        let one = confusion(&tested.truth, labels, classes.len())?;
        let counts = sum.counts.iter_mut().flatten().zip(one.counts.into_iter().flatten());
        counts.for_each(|(sum, count)| *sum += count);
    }
    Ok(UtilityScore {
        accuracy: accuracy_over_seeds(&tested.truth, predictions, groups, options)?,
        per_seed: predictions.iter().map(|labels| accuracy(&tested.truth, labels)).collect(),
        recall,
        confusion: sum,
    })
}

fn accuracy(truth: &[u32], labels: &[u32]) -> f64 {
    truth.iter().zip(labels).filter(|(a, b)| a == b).count() as f64 / truth.len() as f64
}

/// A point without its difference.
fn point(
    fraction: f64,
    ratio: usize,
    seeds: &[Entry],
    predictions: &[Vec<u32>],
    test: &TestImages,
    options: &BootstrapOptions,
) -> Result<UtilityPoint> {
    let mean = |of: &dyn Fn(&Entry) -> usize| seeds.iter().map(of).sum::<usize>() as f64 / seeds.len() as f64;
    let known = seeds.iter().all(|entry| entry.real.patients.is_some());
    let one = |(entry, labels): (&Entry, &Vec<u32>)| UtilitySeed {
        patients: entry.real.patients,
        real_images: entry.real.images.len(),
        synthetic_images: entry.synthetic_images,
        accuracy: accuracy(&test.truth, labels),
    };
    Ok(UtilityPoint {
        fraction,
        patients: known.then(|| mean(&|entry| entry.real.patients.unwrap_or(0))),
        real_images: mean(&|entry| entry.real.images.len()),
        ratio,
        synthetic_images: mean(&|entry| entry.synthetic_images),
        short: seeds.iter().any(|entry| entry.short),
        accuracy: accuracy_over_seeds(&test.truth, predictions, test.patients.as_deref(), options)?,
        per_seed: seeds.iter().zip(predictions).map(one).collect(),
        difference: None,
        p_holm: None,
    })
}
