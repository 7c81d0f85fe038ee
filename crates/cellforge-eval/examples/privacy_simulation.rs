//! How often innocents are accused, and how often copies are found: the figures behind the choice of the verdict. It takes minutes:
//!
//! ```sh
//! cargo run --release -p cellforge-eval --example privacy_simulation
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::collections::BTreeMap;

#[path = "../tests/eval/population.rs"]
mod population;

use population::{DIMS, Images, Population, judge};

/// Studies of each innocent generator, and of each that leaks.
const STUDIES: [u64; 2] = [200, 100];

/// Number of training and held-out patients, spread of the patients' places, and synthetic images.
type Setting = (usize, usize, f64, usize);

type Generator = fn(&mut Population, &Images, Setting) -> Vec<f32>;

const GENERATORS: [(&str, Generator); 10] = [
    ("third patients' images", |population, _, setting| population.patients(setting.1).values),
    ("new images of new patients", |population, _, setting| population.new_images(setting.3)),
    ("blurred: a third of the spread", |population, _, setting| population.around(0.0, 0.4, setting.3)),
    ("collapsed to one point", |population, _, setting| population.around(0.3, 0.01, setting.3)),
    ("far from everything", |population, _, setting| population.around(15.0, 2.0, setting.3)),
    ("5% copies", |population, train, setting| population.copies(train, setting.3, 0.05, 0.0)),
    ("20% copies", |population, train, setting| population.copies(train, setting.3, 0.2, 0.0)),
    ("20% copies with noise of 0.2", |population, train, setting| population.copies(train, setting.3, 0.2, 0.2)),
    ("all copies", |population, train, setting| population.copies(train, setting.3, 1.0, 0.0)),
    ("new images of training patients", |population, train, setting| {
        of_training_patients(population, train, setting.3)
    }),
];

/// Images around the mean of a training patient's images.
fn of_training_patients(population: &mut Population, train: &Images, count: usize) -> Vec<f32> {
    let mut images_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    train.patients.iter().enumerate().for_each(|(i, patient)| images_of.entry(patient).or_default().push(i));
    let mut values = Vec::new();
    for _ in 0..count {
        let images = &images_of[train.patients[population.below(train.len())].as_str()];
        for d in 0..DIMS {
            let mean = images.iter().map(|&i| f64::from(train.row(i)[d])).sum::<f64>() / images.len() as f64;
            values.push((mean + population.normal()) as f32);
        }
    }
    values
}

/// Sixty patients; as many far apart; many; and few that are held out.
const SETTINGS: [Setting; 4] = [(60, 20, 0.7, 500), (60, 20, 2.0, 500), (150, 50, 0.7, 1000), (40, 6, 0.7, 500)];

fn main() {
    SETTINGS.into_iter().for_each(accusations);
}

fn accusations(setting: Setting) {
    let (patients, held_out, spread, synthetic) = setting;
    println!(
        "\n{patients} and {held_out} patients, spread {spread}, {synthetic} synthetic images, {STUDIES:?} studies of each kind"
    );
    for (number, (name, generator)) in GENERATORS.into_iter().enumerate() {
        let studies = STUDIES[usize::from(number >= 5)];
        let (mut accused, mut binomial, mut bootstrap) = (0, 0, 0);
        let mut by_test: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        for study in 0..studies {
            let mut population = Population::new(1000 + study, spread);
            let (train, holdout) = (population.patients(patients), population.patients(held_out));
            let synthetic = generator(&mut population, &train, setting);
            let found = judge(&train, &holdout, &synthetic, study);
            let findings = found.findings();
            accused += u32::from(findings.iter().any(|finding| finding.leaks));
            binomial += u32::from(found.spaces["features"].nearer_to_train.binomial.low > 0.5);
            // What intervals would say: any that lies beyond the ideal, each at its own 97.5%.
            bootstrap += u32::from(findings.iter().any(|finding| {
                let low = finding.test == "copying" || finding.test == "authenticity";
                finding.interval.is_some_and(|i| if low { i.high < finding.ideal } else { i.low > finding.ideal })
            }));
            for finding in findings {
                let counts = by_test.entry(finding.test).or_default();
                counts[0] += u32::from(finding.leaks);
                counts[1] += u32::from(finding.chance.map_or(finding.leaks, |chance| chance.p <= 0.025));
            }
        }
        let percent = |count: u32| 100.0 * f64::from(count) / studies as f64;
        println!(
            "{name:32} accused {:5.1}%; by the binomial interval {:5.1}%; by any bootstrap interval {:5.1}%",
            percent(accused),
            percent(binomial),
            percent(bootstrap),
        );
        for (test, [adjusted, alone]) in by_test {
            println!("    {test:34} {:5.1}% adjusted, {:5.1}% alone", percent(adjusted), percent(alone));
        }
    }
}
