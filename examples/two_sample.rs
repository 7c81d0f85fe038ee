//! How often the two-sample test calls real images of other patients different, and what it finds.
//!
//! ```sh
//! cargo run --release --example two_sample -- IMAGES.zip 100            # simulated false alarms, without a network
//! cargo run --release --example two_sample -- IMAGES.zip network OTHER  # the test itself: other patients, planted differences, OTHER.zip
//! ```
//!
//! In each simulation 31 patients are drawn as the holdout and 16 others stand in for a generator, untouched, each with 30 images of a class at most. The rest stand for the training
//! images. Statistics of the images are compared as in an evaluation, and once more as if there were no training images. In place of the network, of which hundreds would have to be trained, a logistic regression on these statistics
//! goes through the same halves, folds and rule. In every fifth simulation the others have defects too, one kind after the other.

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result, ensure};
use cellforge::{
    assess::two_sample::{
        Difference, TwoSampleConfig, TwoSampleData, image_statistics, plant, two_sample, two_sample_by,
    },
    assess::{self, evaluation::Words},
    data::{OpenOptions, View, derive_seed, epoch_order},
    eval::BootstrapOptions,
    study::nih,
    train::Control,
};

const HOLDOUT: usize = 31;
const OTHERS: usize = 16;
/// Draws after each other of which one has defects planted.
const DEFECTS: usize = 5;
/// Images of each class and patient: a few patients with many images would be a set of few patients.
const OF_A_PATIENT: usize = 30;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a zip or folder of images of at least 47 patients")?;
    let what = arguments.next().unwrap_or_else(|| "20".to_owned());
    let images = View::open(path, &nih::open_options(64, 3))?;
    let patients = images.group_names().len();
    ensure!(
        patients >= HOLDOUT + OTHERS,
        "the images are of {patients} known patients, and {} are needed",
        HOLDOUT + OTHERS
    );
    match what.parse::<usize>() {
        Ok(simulations) => simulate(&images, simulations),
        Err(_) => networks(&images, arguments.next()),
    }
}

/// The images of so many patients, of others, and of all the rest.
fn drawn(images: &View, seed: u64) -> [View; 3] {
    let names = images.group_names();
    let order = epoch_order(&(0..names.len()).collect::<Vec<_>>(), seed, 0);
    let of = |patients: &[usize]| {
        let chosen: Vec<&str> = patients.iter().map(|&i| names[i]).collect();
        let mut taken: BTreeMap<(&str, u32), usize> = BTreeMap::new();
        let wanted = |&i: &usize| {
            let Some(group) = images.group(i).filter(|group| chosen.contains(group)) else { return false };
            let count = taken.entry((group, images.label(i))).or_default();
            *count += 1;
            *count <= OF_A_PATIENT
        };
        images.part(&(0..images.len()).filter(wanted).collect::<Vec<usize>>())
    };
    let end = HOLDOUT + OTHERS;
    [of(&order[..HOLDOUT]), of(&order[HOLDOUT..end]), of(&order[end..])]
}

fn simulate(images: &View, simulations: usize) -> Result<()> {
    let base = TwoSampleConfig { images: 200, updates: 0, planted: false, ..TwoSampleConfig::default() };
    let mut power: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let bootstrap = BootstrapOptions { resamples: 200, ..BootstrapOptions::default() };
    let (mut by_statistics, mut alone, mut by_learner, mut either, mut done) = (0, 0, 0, 0, 0);
    for number in 0..simulations {
        let seed = derive_seed(7, &format!("simulation {number}"));
        let [real, synthetic, rest] = drawn(images, seed);
        let config = TwoSampleConfig { seed, bootstrap, ..base.clone() };
        let mut data = TwoSampleData { real, also: None, synthetic: synthetic.clone(), judged_on: String::new() };
        let folder = tempfile::tempdir()?;
        let found = two_sample(&config, &data, folder.path(), &Control::default())?;
        alone += usize::from(found.telling_statistics().next().is_some());
        data.also = Some(rest);
        let found = two_sample(&config, &data, folder.path(), &Control::default())?;
        if let Some(reason) = found.too_few {
            println!("{number}: {reason}");
            continue;
        }
        done += 1;
        let statistics = found.telling_statistics().next().is_some();
        for one in found.telling_statistics().take(3) {
            println!(
                "    {} {}: AUC {:.2}, outside {:.3}, p {:.3}",
                one.class, one.name, one.auc.value, one.outside, one.p
            );
        }
        let network = two_sample_by(&config, &data, &mut logistic)?.map_err(anyhow::Error::msg)?;
        by_statistics += usize::from(statistics);
        by_learner += usize::from(network.tells());
        either += usize::from(statistics || network.tells());
        if number % DEFECTS == 0 {
            for (name, changed) in defects(&synthetic)? {
                let data = TwoSampleData { synthetic: changed, ..data.clone() };
                let found = two_sample(&config, &data, folder.path(), &Control::default())?;
                let tells = found.telling_statistics().next().is_some();
                let network = two_sample_by(&config, &data, &mut logistic)?.map_err(anyhow::Error::msg)?;
                let [by_statistics, either, of] = power.entry(name).or_default();
                *by_statistics += usize::from(tells);
                *either += usize::from(tells || network.tells());
                *of += 1;
            }
        }
        let (auc, real) = (network.synthetic.auc, network.real_auc());
        println!(
            "{number}: AUC {:.3} ({:.3} to {:.3}), real {:.3} ({:.3} to {:.3}), found {:.3}; statistics {statistics}, learner {}; so far {by_statistics} \
             ({alone} without the other patients), {by_learner}, either {either} of {done}",
            auc.value,
            auc.low,
            auc.high,
            real.value,
            real.low,
            real.high,
            network.synthetic.found.value,
            network.tells()
        );
    }
    for (name, [by_statistics, either, of]) in power {
        println!("{name}: found by a statistic in {by_statistics} of {of}, by that or the learner in {either}");
    }
    Ok(())
}

/// The images with each defect.
fn defects(images: &View) -> Result<Vec<(String, View)>> {
    let smaller = images.resized(images.size().height / 2, images.channels())?;
    let enlarged = smaller.resized(images.size(), images.channels())?;
    let mut sets = vec![("half the pixels, enlarged".to_owned(), enlarged)];
    for difference in [
        Difference::Checkerboard(1),
        Difference::Checkerboard(6),
        Difference::Blur(0.8),
        Difference::Square(0.1),
        Difference::Square(1.0),
        Difference::Labels(0.5),
        Difference::Labels(1.0),
    ] {
        sets.push((difference.to_string(), plant(images, difference, 1)?));
    }
    // Ten images of each class, each many times over.
    let rows: Vec<usize> = (0..images.classes().len())
        .flat_map(|label| {
            let of_class = images.class_indices(label as u32);
            (0..of_class.len()).map(move |i| of_class[i % of_class.len().min(10)])
        })
        .collect();
    sets.push(("ten images, repeated".to_owned(), images.part(&rows)));
    Ok(sets)
}

/// A logistic regression on standardised statistics for each class, by gradient descent with a small penalty.
fn logistic(train: &View, test: &View) -> assess::Result<Vec<f32>> {
    let classes = train.classes().len() / 2;
    let (learned, judged) = (image_statistics(train), image_statistics(test));
    let dims = learned.dims;
    let moments = |d: usize| {
        let values = || (0..learned.len()).map(|i| f64::from(learned.row(i)[d]));
        let mean = values().sum::<f64>() / learned.len() as f64;
        let deviation = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / learned.len() as f64).sqrt();
        (mean, deviation.max(1e-9))
    };
    let moments: Vec<(f64, f64)> = (0..dims).map(moments).collect();
    let standard = |row: &[f32]| -> Vec<f64> {
        row.iter()
            .zip(&moments)
            .map(|(&x, (mean, deviation))| ((f64::from(x) - mean) / deviation).clamp(-5.0, 5.0))
            .collect()
    };
    let mut scores = vec![0.0; test.len()];
    for class in 0..classes {
        let rows: Vec<(Vec<f64>, f64)> = (0..train.len())
            .filter(|&i| train.label(i) as usize % classes == class)
            .map(|i| (standard(learned.row(i)), f64::from(train.label(i) as usize >= classes)))
            .collect();
        let (mut weights, mut bias) = (vec![0.0; dims], 0.0);
        let logit =
            |weights: &[f64], bias: f64, row: &[f64]| bias + weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>();
        for _ in 0..300 {
            let mut slope = vec![0.0; dims + 1];
            for (row, truth) in &rows {
                let error = 1.0 / (1.0 + (-logit(&weights, bias, row)).exp()) - truth;
                row.iter().enumerate().for_each(|(d, x)| slope[d] += error * x);
                slope[dims] += error;
            }
            let rate = 0.5 / rows.len() as f64;
            weights.iter_mut().zip(&slope).for_each(|(w, s)| *w -= rate * s + 1e-4 * *w);
            bias -= rate * slope[dims];
        }
        for (i, score) in scores.iter_mut().enumerate() {
            if test.label(i) as usize % classes == class {
                *score = logit(&weights, bias, &standard(judged.row(i))) as f32;
            }
        }
    }
    Ok(scores)
}

fn networks(images: &View, other: Option<String>) -> Result<()> {
    let [real, untouched, rest] = drawn(images, 1);
    let mut options = OpenOptions::new(64, 3);
    options.groups = cellforge::data::Groups::None;
    let mut sets = vec![("other patients, untouched".to_owned(), untouched.clone())];
    sets.extend(defects(&untouched)?);
    if let Some(path) = other {
        sets.insert(0, (path.clone(), View::open(path, &options)?));
    }
    let folder = tempfile::tempdir()?;
    for (number, (name, synthetic)) in sets.into_iter().enumerate() {
        let start = Instant::now();
        let config = TwoSampleConfig { planted: number == 0, ..TwoSampleConfig::default() };
        let data = TwoSampleData {
            real: real.clone(),
            also: Some(rest.clone()),
            synthetic,
            judged_on: "the held-out images".to_owned(),
        };
        let found = two_sample(&config, &data, folder.path(), &Control::default())?;
        println!(
            "{name}: {:?}, {:.0} s\n  {}",
            found.told_apart(),
            start.elapsed().as_secs_f64(),
            found.in_words(&Words::default())
        );
        if let Some(network) = &found.network {
            println!("  found {:?}, real {:?}", network.synthetic.found, network.real_found());
        }
        found.planted.iter().for_each(|one| println!("  planted {one:?}"));
    }
    Ok(())
}
