//! How often the figures of an evaluation call real images of other patients different, and how often they find a defect.
//!
//! ```sh
//! cargo run --release --example verdicts                      # the phantom, 10 draws of patients
//! cargo run --release --example verdicts -- IMAGES.zip 100    # one's own images with patients in their names, so many draws
//! ```
//!
//! Defects are planted in every fifth draw; how often untouched images are called different takes more draws than how often defects are found.
//! In each draw a fifth of the patients are the holdout, and a fifth stand in for a generator: untouched, or with a defect. The rest are the
//! real images. All are compared by pixels and by a small network that learned the classes from other images, of a fifth of the patients.
//! The two-sample test, which sees finer defects, is not asked: `examples/two_sample.rs` does that.

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

#[path = "common/defects.rs"]
mod defects;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use cellforge::{
    assess::{
        self, Control,
        evaluation::{Equivalence, EvaluationConfig, EvaluationInputs, FeatureSource, Measure, Part},
        two_sample::{Difference, plant},
    },
    classify::{ClassifierConfig, ResNetConfig},
    data::{SplitOptions, SplitRule, View, ViewParts, derive_seed, epoch_order, phantom, split},
    eval::FidelityOptions,
    study::nih,
    train::{ClassifierTrainConfig, OptimizerConfig, RunDir, train_classifier},
};

/// Images of each class and patient that are taken: few of many patients tell more than many of a few.
const OF_A_PATIENT: usize = 10;
/// Draws after each other of which one has defects planted.
const DEFECTS: usize = 5;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let all = match args.next().as_deref() {
        None | Some("phantom") => phantom::render(&phantom::PhantomConfig {
            images_per_class: 2000,
            patients: 60,
            ..phantom::PhantomConfig::default()
        })?,
        Some(path) => View::open(path, &nih::open_options(64, 3))?,
    };
    let draws: usize = args.next().map_or(Ok(10), |text| text.parse())?;
    let patients = all.group_names();
    ensure!(patients.len() >= 50, "there are {} patients, and 50 are needed", patients.len());
    let of = |names: &[&str]| {
        let mut taken: BTreeMap<(&str, u32), usize> = BTreeMap::new();
        let wanted = |&i: &usize| {
            let Some(group) = all.group(i).filter(|group| names.contains(group)) else { return false };
            let count = taken.entry((group, all.label(i))).or_default();
            *count += 1;
            *count <= OF_A_PATIENT
        };
        all.part(&(0..all.len()).filter(wanted).collect::<Vec<usize>>())
    };
    let shuffled = |seed| -> Vec<&str> {
        epoch_order(&(0..patients.len()).collect::<Vec<_>>(), seed, 0).into_iter().map(|i| patients[i]).collect()
    };
    let fifth = patients.len() / 5;
    let order = shuffled(derive_seed(1, "encoder"));
    let (learned, rest) = order.split_at(fifth);

    let folder = tempfile::tempdir()?;
    let control = Control::default();
    let network = folder.path().join("network");
    let learned = of(learned);
    let sides = split(
        &learned,
        &SplitOptions { by: SplitRule::Group, val: 0.1, test: 0.0, seed: 1, ..SplitOptions::default() },
    )?;
    println!("a small network learns the classes of {} images", learned.len());
    let model = ResNetConfig {
        image_size: all.size(),
        channels: all.channels(),
        stages: vec![1, 1, 1],
        filters: vec![16, 32, 64, 128],
        ..ResNetConfig::default()
    };
    let config = ClassifierTrainConfig {
        model: ClassifierConfig::Resnet(model),
        epochs: 2,
        optimizer: OptimizerConfig::Sgd { lr: 0.05, momentum: 0.9, nesterov: false },
        ..ClassifierTrainConfig::default()
    };
    let (train, val) = (learned.part(&sides.train), learned.part(&sides.val));
    train_classifier(&config, &train, &val, &RunDir::new(&network), &control, &mut [])?;

    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for draw in 0..draws {
        let seed = derive_seed(2, &draw.to_string());
        let order: Vec<&str> = shuffled(seed).into_iter().filter(|name| rest.contains(name)).collect();
        let (holdout, others) = order.split_at(fifth);
        let (other, real) = others.split_at(fifth);
        let (real, holdout, other) = (of(real), of(holdout), of(other));
        let mut sets = sets(&other, seed)?;
        if draw % DEFECTS > 0 {
            sets.truncate(1);
        }
        for (name, synthetic) in sets {
            let mut inputs = EvaluationInputs::new(
                Part::new(real.clone(), "real"),
                Part::new(without_patients(&synthetic)?, "synthetic"),
                FeatureSource::Pixels,
            );
            inputs.features.push(FeatureSource::Classifier(network.clone()));
            inputs.holdout = Some(Part::new(holdout.clone(), "held out"));
            let config = EvaluationConfig {
                measure: vec![Measure::Fidelity],
                pixel_side: 8,
                fidelity: FidelityOptions { kid_subsets: 0, frechet_resamples: 20, ..FidelityOptions::default() },
                seed,
                ..EvaluationConfig::default()
            };
            let found = assess::evaluate(&config, &inputs, &folder.path().join("evaluation"), &control)?;
            let main = found.fidelity.as_ref().context("fidelity was not measured")?;
            let parts = std::iter::once(main).chain(found.other_features.iter().map(|other| &other.fidelity));
            let comparisons: Vec<_> =
                parts.flat_map(|part| part.per_class.values()).flat_map(|scope| scope.comparisons.clone()).collect();
            if draw == 0 {
                println!("{name}: {} images a side", main.images_per_side.values().sum::<usize>());
                for one in &comparisons {
                    let d = one.difference;
                    println!(
                        "  {:<18} {:>8.3} ({:.3} to {:.3}), margin {:.3}",
                        one.figure, d.value, d.low, d.high, one.margin
                    );
                }
            }
            let answers: Vec<Equivalence> = comparisons.iter().map(|one| one.answer).collect();
            let [good, worse, unclear] = counts.entry(name).or_default();
            match () {
                () if answers.contains(&Equivalence::Worse) => *worse += 1,
                () if answers.iter().all(|&answer| answer == Equivalence::AsGood) => *good += 1,
                () => *unclear += 1,
            }
        }
        println!("\nafter {} draws", draw + 1);
        println!("{:<28} {:>8} {:>8} {:>15}", "", "as good", "worse", "cannot be told");
        for (name, [good, worse, unclear]) in &counts {
            println!("{name:<28} {good:>8} {worse:>8} {unclear:>15}");
        }
    }
    Ok(())
}

/// The images of other patients, untouched and with each defect.
fn sets(other: &View, seed: u64) -> Result<Vec<(String, View)>> {
    let mut sets = vec![("untouched".to_owned(), other.clone())];
    sets.push(("half the pixels, enlarged".to_owned(), defects::enlarged(other)?));
    for difference in
        [Difference::Checkerboard(6), Difference::Square(0.1), Difference::Blur(0.8), Difference::Labels(1.0)]
    {
        sets.push((difference.to_string(), plant(other, difference, seed)?));
    }
    sets.push(("twenty images, repeated".to_owned(), defects::repeated(other, 20)));
    Ok(sets)
}

/// The images as a generator gives them: nobody knows of which patient they are.
fn without_patients(view: &View) -> Result<View> {
    Ok(View::new(ViewParts {
        classes: view.classes().to_vec(),
        names: (0..view.len()).map(|i| format!("synthetic {i}")).collect(),
        labels: view.labels(),
        groups: vec![None; view.len()],
        pixels: view.pixels().to_vec(),
        size: view.size(),
        channels: view.channels(),
    })?)
}
