//! What each ingredient of the best recipe is worth: GANs of few iterations, each with one ingredient left out or exchanged, three seeds
//! each, judged on patients that neither they nor their judge were trained on.
//!
//! ```sh
//! cargo run --release --example ablation -- datasets/cell_images.zip            # 2,000 iterations each, at 32x32
//! cargo run --release --example ablation -- datasets/cell_images.zip 200 best hinge
//! cargo run --release --example ablation -- phantom 2                            # only to see that it runs
//! ```
//!
//! The second argument is the number of iterations, those after it are the variants to train (all of them without). Runs are kept in
//! `runs/examples/ablation`, and one that was finished or interrupted is gone on with. Prints a Markdown table: means over the seeds and
//! the classes, with the lowest and the highest seed.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cellforge::classify::{ClassifierConfig, ResNetConfig};
use cellforge::data::{SplitOptions, SplitRule, View, phantom, split};
use cellforge::gan::loss::GanLoss;
use cellforge::gan::{AugmentConfig, DiscriminatorKind, GeneratorKind};
use cellforge::study::nih;
use cellforge::train::Dihedral;
use cellforge::train::{
    ClassifierTrainConfig, Control, GanTrainConfig, Judge, Mode, OptimizerConfig, RunDir, figures, read_log,
};
use cellforge::train::{train_classifier, train_judged_gan};

const SIDE: usize = 32;
/// A quarter of the recipe's channels.
const WIDTH: f64 = 0.25;
const SEEDS: u64 = 3;
const FIGURES: [&str; 5] = [figures::FD, figures::PRECISION, figures::RECALL, figures::COVERAGE, figures::RECOGNISED];
const OUT: &str = "runs/examples/ablation";

/// A variant's name, what it is, and how it departs from the best recipe.
type Variant = (&'static str, &'static str, fn(&mut GanTrainConfig));

const VARIANTS: [Variant; 15] = [
    ("best", "the recipe", |_| {}),
    ("per-class", "one GAN per class", |c| c.model.classes = 1),
    ("no-r1", "without R1", |c| c.r1 = 0.0),
    ("spectral", "spectral normalisation in place of R1", |c| (c.r1, c.model.spectral_norm) = (0.0, true)),
    ("r2", "with R2 too", |c| c.r2 = c.r1),
    ("no-augment", "without augmentation", |c| c.augment = AugmentConfig::default()),
    ("cutout", "with cutout too", |c| c.augment.cutout = 0.5),
    ("always", "augmentation of every image", |c| c.augment.ada_target = None),
    ("orientation", "real cells as they lie", |c| c.dihedral = Dihedral::Off),
    ("no-average", "without the moving average", |c| c.ema_decay = 0.0),
    ("no-cooldown", "without falling rates", |c| c.lr_decay = 0.0),
    ("hinge", "hinge loss", |c| c.loss = GanLoss::Hinge),
    ("relativistic", "relativistic loss", |c| c.loss = GanLoss::Relativistic),
    ("residual", "residual generator", |c| c.model.generator = GeneratorKind::Residual),
    ("study", "the study's GANs", |c| {
        let (model, monitor, (iterations, seed)) = (c.model.clone(), c.monitor.clone(), (c.iterations, c.seed));
        *c = GanTrainConfig { monitor, iterations, seed, ..GanTrainConfig::default() };
        (c.model.image_size, c.model.width, c.model.classes) = (model.image_size, model.width, 1);
        (c.model.generator, c.model.discriminator) = (GeneratorKind::Study, DiscriminatorKind::Study);
    }),
];

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let mut args = std::env::args().skip(1);
    let data = args.next().context("name the data: a folder, a zip, or `phantom`")?;
    let iterations = args.next().map_or(Ok(2_000), |n| n.parse())?;
    let wanted: Vec<String> = args.collect();
    if let Some(name) = wanted.iter().find(|name| !VARIANTS.iter().any(|(known, ..)| known == name)) {
        bail!("no variant {name:?}; there are {}", VARIANTS.map(|(name, ..)| name).join(", "));
    }
    let set = match data.as_str() {
        "phantom" => {
            phantom::render(&phantom::PhantomConfig { size: SIDE.into(), images_per_class: 150, ..Default::default() })?
        }
        path => View::open(path, &nih::open_options(SIDE, 3))?,
    };
    let sides =
        split(&set, &SplitOptions { by: SplitRule::Group, val: 0.2, test: 0.0, seed: 0, ..SplitOptions::default() })?;
    let (train, val) = (set.part(&sides.train), set.part(&sides.val));
    let judge = judge(&train, &val, iterations)?;

    println!("| variant | Fréchet distance | precision | recall | coverage | recognised |");
    println!("|---|---|---|---|---|---|");
    for (name, words, change) in VARIANTS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let seeds: Vec<[f64; 5]> =
            (0..SEEDS).map(|seed| run(name, change, &train, &judge, iterations, seed)).collect::<Result<_>>()?;
        let cell = |figure: usize| {
            let values: Vec<f64> = seeds.iter().map(|seed| seed[figure]).collect();
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            format!("{:.3} ({low:.3} to {high:.3})", values.iter().sum::<f64>() / values.len() as f64)
        };
        println!("| {words} | {} |", (0..FIGURES.len()).map(cell).collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

/// A ResNet that learns from the cells the GANs learn from, and judges on those of the validation patients.
fn judge(train: &View, val: &View, iterations: u64) -> Result<Judge> {
    let config = ClassifierTrainConfig {
        model: ClassifierConfig::Resnet(ResNetConfig {
            image_size: SIDE.into(),
            width: 0.5,
            ..ResNetConfig::default()
        }),
        epochs: if iterations < 10 { 1 } else { 4 },
        optimizer: OptimizerConfig::Sgd { lr: 0.01, momentum: 0.9, nesterov: false },
        ..ClassifierTrainConfig::default()
    };
    let control = Control { progress: true, ..Control::default() };
    let outcome = train_classifier(&config, train, val, &run_dir("judge".as_ref()), &control, &mut [])?;
    Ok(Judge::load(&outcome.checkpoint, val, &control)?)
}

/// A folder under [`OUT`] whose run goes on where it stopped.
fn run_dir(name: &Path) -> RunDir {
    RunDir::new(Path::new(OUT).join(name)).mode(Mode::Resume)
}

/// The figures of one training at its end, means over the classes.
fn run(
    name: &str,
    change: fn(&mut GanTrainConfig),
    train: &View,
    judge: &Judge,
    iterations: u64,
    seed: u64,
) -> Result<[f64; 5]> {
    let mut config = GanTrainConfig {
        iterations,
        seed,
        ..GanTrainConfig::recipe("best")?.for_images(SIDE, 3, train.classes().len())
    };
    config.model.width = WIDTH;
    config.grid_at = vec![iterations];
    config.monitor.every = iterations;
    config.monitor.images = if iterations < 10 { 50 } else { 500 };
    change(&mut config);
    let control = Control { progress: true, ..Control::default() };
    let out = format!("{name}-{iterations}-{seed}");
    let mut found = [0.0; 5];
    let mut add = |dir: &RunDir, share: f64| -> Result<()> {
        let log = read_log(&dir.log())?;
        let line =
            log.iter().rev().find(|line| line.values.contains_key(figures::FD)).context("a run was not judged")?;
        for (figure, name) in found.iter_mut().zip(FIGURES) {
            *figure += share * f64::from(line.values[name]);
        }
        Ok(())
    };
    if config.model.classes > 1 {
        let dir = run_dir(out.as_ref());
        train_judged_gan(&config, train, Some(judge), &dir, &control, &mut [])?;
        add(&dir, 1.0)?;
        return Ok(found);
    }
    for (label, class) in train.classes().iter().enumerate() {
        let config = GanTrainConfig { class: class.clone(), ..config.clone() };
        let dir = run_dir(&Path::new(&out).join(class));
        train_judged_gan(&config, &train.class(label as u32), Some(judge), &dir, &control, &mut [])?;
        add(&dir, 1.0 / train.classes().len() as f64)?;
    }
    Ok(found)
}
