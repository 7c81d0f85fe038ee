//! How many synthetic cells, and how many updates, does a classifier need to learn as much as from real cells? Small CNNs trained on images
//! of the built-in generator, and others trained on real cells, all with as many updates, are asked about real cells of other patients.
//!
//! ```sh
//! cargo run --release --example train_on_synthetic -- datasets/cell_images.zip test 1000 4000 all     # five networks of each kind
//! cargo run --release --example train_on_synthetic -- datasets/cell_images.zip val 1000 all --updates 2000 --networks 10
//! cargo run --release --example train_on_synthetic -- phantom test 8 --updates 4                      # only to see that it runs
//! ```
//!
//! The cells are split by patient as `cellforge reproduce` splits them with seed 1: the built-in generator was trained on the same patients
//! as the networks here, where the cells are those of its data sheet. `val` or `test` says whose cells are asked about; the numbers after it
//! are images of each class, `all` being as many as there are real ones. Trainings are kept in `runs/examples/train_on_synthetic`, and those
//! that are there are not done again. Prints a Markdown table with 95% intervals by bootstrap over patients and trainings.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cellforge::assess::utility::{UtilityConfig, UtilityData, utility};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{Progress, SplitOptions, SplitRule, View, derive_seed, split};
use cellforge::study::nih;
use cellforge::train::{Control, TrainedGan};

const OUT: &str = "runs/examples/train_on_synthetic";

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let mut args = std::env::args().skip(1);
    let data = args.next().context("name the data: a folder, a zip, or `phantom`")?;
    let part = args.next().context("ask about `val` or `test` cells?")?;
    let mut config = UtilityConfig { fractions: vec![1.0], ratios: vec![0], ..UtilityConfig::default() };
    let mut counts = Vec::new();
    while let Some(word) = args.next() {
        match word.as_str() {
            "--updates" => config.updates = args.next().context("how many updates?")?.parse()?,
            "--networks" => config.seeds = args.next().context("how many networks?")?.parse()?,
            "all" => counts.push(None),
            number => counts.push(Some(number.parse::<usize>().with_context(|| format!("{number:?} is no number"))?)),
        }
    }
    ensure!(!counts.is_empty(), "how many images of each class? Name one or more numbers, or `all`");

    let set = match data.as_str() {
        "phantom" => {
            phantom::render(&PhantomConfig { images_per_class: 100, patients: 20, ..PhantomConfig::default() })?
        }
        path => {
            let mut options = nih::open_options(64, 3);
            options.progress = Some(Progress::images_bar());
            View::open(path, &options)?
        }
    };
    let by = SplitRule::Auto;
    let split = split(
        &set,
        &SplitOptions { by, val: 0.1, test: 0.2, seed: derive_seed(1, "split"), ..SplitOptions::default() },
    )?;
    let train = set.part(&split.train);
    let test = match part.as_str() {
        "val" => set.part(&split.val),
        "test" => set.part(&split.test),
        other => bail!("{other:?} is neither val nor test"),
    };
    println!(
        "| images a class | trained on them | trained on {} real cells | difference, points |\n|---|---|---|---|",
        train.len()
    );
    for count in counts {
        let synthetic = images(&train, count)?;
        let name = count.map_or("all".to_owned(), |count| count.to_string());
        let out = Path::new(OUT).join(format!("{part}-{name}-{}", config.updates));
        let control = Control { progress: true, ..Control::default() };
        let data = UtilityData { real: train.clone(), test: test.clone(), synthetic };
        let found = utility(&config, &data, &out, &control)?;
        let percent = |x: f64| 100.0 * x;
        let range = |value: f64, low: f64, high: f64| {
            format!("{:.1} ({:.1} to {:.1})", percent(value), percent(low), percent(high))
        };
        let [tstr, trtr, gap] = [found.tstr.accuracy, found.trtr.accuracy, found.tstr_gap.difference]
            .map(|found| range(found.value, found.low, found.high));
        println!("| {name} | {tstr} | {trtr} | {gap} |");
    }
    Ok(())
}

/// The first `count` images of each class of the built-in generator, or as many as there are training cells of it.
fn images(real: &View, count: Option<usize>) -> Result<View> {
    let gan = TrainedGan::builtin()?;
    let classes = real.classes().iter().zip(real.class_counts());
    let made = classes.map(|(class, learned)| gan.sample(1, class, 0..count.unwrap_or(learned)));
    let made: Vec<View> = made.collect::<Result<_, _>>()?;
    Ok(View::joined(&made)?)
}
