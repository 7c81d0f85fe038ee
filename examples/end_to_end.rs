//! Images in, a GAN, images out, and what they are worth: the whole way in one page.
//!
//! ```sh
//! cargo run --release --example end_to_end                               # the phantom and 20 iterations: seconds
//! cargo run --release --example end_to_end -- cell_images.zip 2000       # a folder or zip of images, and 2,000 iterations
//! ```
//!
//! It writes `runs/examples/end_to_end`: the GAN's run, `synthetic.zip`, `grid.png`, `evaluation.json`, `report.html` and `datasheet.md`.
//! Expect four verdicts. After 20 iterations the images are fog, and the first verdict says so.

use std::path::Path;

use anyhow::{Context, Result};
use cellforge::assess::evaluation::{EvaluationInputs, FeatureSource, Part, datasheet};
use cellforge::assess::{EvaluationConfig, evaluate, report};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{ImageWriter, Readers, SplitOptions, View, WriteOptions, save_grid, split, write_atomic};
use cellforge::study::{Origin, nih};
use cellforge::train::{Control, GanTrainConfig, Mode, RunDir, TrainedGan, train_gan};

const OUT: &str = "runs/examples/end_to_end";
const SIDE: usize = 32;
const SEED: u64 = 1;

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next();
    let iterations = arguments.next().map_or(Ok(20), |n| n.parse()).context("the second argument is a number")?;
    let (out, control) = (Path::new(OUT), Control::default());

    // Images in. Each has a class, and a patient where the name of its file tells one.
    let images = match &path {
        Some(path) => View::open(path, &nih::open_options(SIDE, 3))?,
        None => phantom::render(&PhantomConfig { size: SIDE.into(), images_per_class: 100, patients: 20, seed: SEED })?,
    };

    // No patient is on two sides. The GAN sees the first side alone, and its images are compared with the last.
    let sides = split(&images, &SplitOptions { seed: SEED, ..SplitOptions::default() })?;
    let (train, test) = (images.part(&sides.train), images.part(&sides.test));
    println!("{} images to train on, {} of other patients to compare with", train.len(), test.len());

    // One GAN of all classes, with a quarter of the recipe's channels.
    let mut config = GanTrainConfig::recipe("best")?.for_images(SIDE, 3, images.classes().len());
    (config.iterations, config.seed, config.model.width) = (iterations, SEED, 0.25);
    let dir = RunDir::new(out.join("gan")).mode(Mode::Overwrite);
    let outcome = train_gan(&config, &train, &dir, &control, &mut [])?;

    // Images out: of each class as many as there are to compare with.
    let gan = TrainedGan::load(&outcome.checkpoint)?;
    let counts = gan.classes().iter().zip(test.class_counts());
    let made = counts.map(|(class, count)| gan.sample(SEED, class, 0..count)).collect::<Result<Vec<View>, _>>()?;
    let mut writer = ImageWriter::create(&out.join("synthetic.zip"), &WriteOptions::default())?;
    for images in &made {
        writer.write(images)?;
    }
    writer.finish()?;
    let synthetic = View::joined(&made)?;
    save_grid(&out.join("grid.png"), &synthetic, 10, Readers::AsUsual)?;

    // What they are worth, by their pixels. The features of a trained classifier say more: `FeatureSource::Classifier`.
    let (real, synthetic) = (Part::new(train, "training images"), Part::new(synthetic, "images of the GAN"));
    let inputs = EvaluationInputs {
        holdout: Some(Part::new(test, "images of other patients")),
        provenance: Origin::of(&images).provenance("cargo run --release --example end_to_end"),
        ..EvaluationInputs::new(real, synthetic, FeatureSource::Pixels)
    };
    let mut config = EvaluationConfig { pixel_side: 8, resamples: 100, ..EvaluationConfig::default() };
    (config.fidelity.frechet_resamples, config.fidelity.kid_subset, config.privacy.relabellings) = (20, 20, 200);
    let found = evaluate(&config, &inputs, out, &control)?;
    for verdict in &found.verdicts {
        println!("{} {}", verdict.question, verdict.sentence);
    }
    // For their owner alone: a report may show real images.
    write_atomic(&out.join("report.html"), report::render(&found, out)?.as_bytes())?;
    write_atomic(&out.join("datasheet.md"), datasheet(&found).as_bytes())?;
    println!("report: {}", out.join("report.html").display());
    Ok(())
}
