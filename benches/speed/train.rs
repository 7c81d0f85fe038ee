//! Steps of `cellforge-train` with the networks of the study and of the recipe `best` at full width.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use cellforge::classify::{ClassifierConfig, CnnConfig, ResNetConfig};
use cellforge::data::Batch;
use cellforge::gan::{AugmentConfig, GanConfig, Generator};
use cellforge::kernels::Precision;
use cellforge::nn::{Key, ParamStore, one_hot};
use cellforge::train::{ClassifierStep, ClassifierTrainConfig, GanStep, GanTrainConfig, LossKind, Step};
use criterion::{Criterion, SamplingMode};

use crate::work::{self, Work};

/// The CPU, or with the feature `cuda` and `CELLFORGE_BENCH_DEVICE=cuda` an NVIDIA GPU.
fn device() -> Device {
    #[cfg(feature = "cuda")]
    if std::env::var_os("CELLFORGE_BENCH_DEVICE").is_some_and(|device| device == "cuda") {
        static GPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
        return GPU.get_or_init(|| cellforge::kernels::cuda_device(0).expect("an NVIDIA GPU")).clone();
    }
    Device::Cpu
}

/// 32 on the CPU, and more for small images on a GPU.
fn batches(side: usize) -> &'static [usize] {
    if device().is_cpu() || side > 64 { &[32] } else { &[32, 128, 512] }
}

/// Whether each benchmark runs but once, to see that it does.
pub fn is_test() -> bool {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    given("--test") || !given("--bench")
}

/// Standard normal noise in the place of images, with both labels in turn.
fn random_batch(size: usize, side: usize) -> Batch {
    let images = Key::new(0).normal((size, 3, side, side), &device()).expect("noise");
    let labels = Tensor::from_iter((0..size as u32).map(|i| i % 2), &device()).expect("labels");
    Batch { images, labels, indices: (0..size).collect() }
}

/// A precision, and how the names of its benchmarks end.
#[derive(Clone, Copy)]
struct In {
    precision: Precision,
    suffix: &'static str,
}

impl In {
    /// What the program computes in by default, and `bf16` where this processor or the GPU has it. Elsewhere it says so.
    #[allow(clippy::print_stderr)]
    fn each() -> Vec<Self> {
        let mut each = vec![Self { precision: Precision::default_on(&device()), suffix: "" }];
        match Precision::Bf16.on(&device()) {
            Precision::Bf16 => each.push(Self { precision: Precision::Bf16, suffix: "_bf16" }),
            _ => eprintln!("benchmarks of bf16 are not run: this processor has no instructions for it"),
        }
        each
    }

    /// The name of a benchmark: the work, the side of its images unless that is 64, and the precision.
    fn name(self, work: &str, side: usize) -> String {
        let side = if side == 64 { String::new() } else { format!("_{side}") };
        format!("{work}{side}{}", self.suffix)
    }
}

/// Training steps of each kind. As a test, their work is counted, and held against what is known.
pub fn steps(c: &mut Criterion) {
    let mut found = BTreeMap::new();
    for given in In::each() {
        bench_step(c, &mut found, &given.name("gan_step", 64), 64, 1, || {
            gan_step(GanTrainConfig::default(), given.precision)
        });
        for side in [64, 128, 256] {
            let config = best(side);
            let period = config.penalty_every;
            bench_step(c, &mut found, &given.name("best_step", side), side, period, || {
                gan_step(config.clone(), given.precision)
            });
        }
        for side in [64, 128] {
            let model = ClassifierConfig::Resnet(ResNetConfig { image_size: side.into(), ..ResNetConfig::default() });
            bench_step(c, &mut found, &given.name("resnet_step", side), side, 1, || {
                classifier_step(&model, given.precision)
            });
        }
        let model = ClassifierConfig::study_cnn();
        bench_step(c, &mut found, &given.name("cnn_step", 64), 64, 1, || classifier_step(&model, given.precision));
    }
    work::hold("work.json", &found, Work::is_near);
}

/// The steps whose instructions are counted.
pub const NARROW: [&str; 4] = ["gan", "best", "resnet", "cnn"];

/// Takes one of them: narrow networks, small images, a batch of two, in `f32`, with the penalty.
///
/// # Panics
/// If there is none of that name.
pub fn narrow_step(name: &str) {
    const SIDE: usize = 32;
    const WIDTH: f64 = 0.25;
    fn take(mut step: impl Step<Batch = Batch>, iteration: u64) {
        black_box(step.step(&random_batch(2, SIDE), iteration).expect("a step"));
    }
    let gan = |config: GanTrainConfig| {
        let model = GanConfig { image_size: SIDE.into(), width: WIDTH, ..config.model.clone() };
        let iteration = config.penalty_every;
        take(gan_step(GanTrainConfig { model, ..config }, Precision::F32), iteration);
    };
    let classifier = |model| take(classifier_step(&model, Precision::F32), 1);
    match name {
        "gan" => gan(GanTrainConfig::default()),
        "best" => gan(best(SIDE)),
        "resnet" => classifier(ClassifierConfig::Resnet(ResNetConfig {
            image_size: SIDE.into(),
            width: WIDTH,
            ..ResNetConfig::default()
        })),
        "cnn" => classifier(ClassifierConfig::Cnn(CnnConfig { image_size: SIDE.into(), ..CnnConfig::default() })),
        _ => panic!("{name:?} is none of {NARROW:?}"),
    }
}

/// Images from noise, noise included.
pub fn generate(c: &mut Criterion) {
    for given in In::each() {
        bench_generate(
            c,
            &given.name("generate", 64),
            &GanConfig { precision: given.precision, ..GanConfig::default() },
        );
        let config = GanConfig { precision: given.precision, ..best(64).model };
        bench_generate(c, &given.name("generate_best", 64), &config);
    }
}

/// The recipe `best` for two classes. Its augmentation has a probability that stands still: the recipe's own starts at 0 and moves with the run.
fn best(side: usize) -> GanTrainConfig {
    let recipe = GanTrainConfig::recipe("best").expect("the recipe").for_images(side, 3, 2);
    GanTrainConfig { augment: AugmentConfig { ada_target: None, p: 0.5, ..recipe.augment.clone() }, ..recipe }
}

fn gan_step(config: GanTrainConfig, precision: Precision) -> GanStep {
    let model = GanConfig { precision, ..config.model.clone() };
    GanStep::new(&GanTrainConfig { model, ..config }, &device()).expect("a GAN")
}

/// Forward, cross-entropy, backward, SGD with momentum.
fn classifier_step(model: &ClassifierConfig, precision: Precision) -> ClassifierStep {
    let model = model.clone().in_precision(precision);
    let config =
        ClassifierTrainConfig { model, loss: LossKind::CrossEntropy, l2: false, ..ClassifierTrainConfig::default() };
    ClassifierStep::new(&config, 100, &device()).expect("a classifier")
}

/// A sample is `period` iterations, of which one has the penalties, and its time is divided by as many. A step reads its losses, for which
/// a GPU must have computed them. As a test, it is one iteration with the penalties, of a batch of two.
fn bench_step<S: Step<Batch = Batch>>(
    c: &mut Criterion,
    found: &mut BTreeMap<String, Work>,
    name: &str,
    side: usize,
    period: u64,
    make: impl Fn() -> S,
) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(15));
    if period > 1 {
        group.sampling_mode(SamplingMode::Flat);
    }
    for &size in batches(side) {
        // Made when it is this benchmark's turn, so that a process that was asked for one holds one.
        let mut made = None;
        group.bench_function(size.to_string(), |bencher| {
            let (step, batch, done) = made.get_or_insert_with(|| {
                let (mut step, batch) = (make(), random_batch(if is_test() { 2 } else { size }, side));
                // Before a penalty. `--quick` warms up nothing, so one iteration with a penalty and one without come first.
                let mut done = period - 1;
                while period > 1 && done < period + 1 && !is_test() {
                    done += 1;
                    step.step(&batch, done).expect("a step");
                }
                (step, batch, done)
            });
            if is_test() && device().is_cpu() {
                *done += 1;
                let (work, step) = Work::of(|| step.step(batch, *done));
                black_box(step.expect("a step"));
                found.insert(name.to_owned(), work);
            }
            let period = if is_test() { 1 } else { period };
            bencher.iter_custom(|samples| {
                let start = Instant::now();
                for _ in 0..samples * period {
                    *done += 1;
                    black_box(step.step(batch, *done).expect("a step"));
                }
                start.elapsed() / period as u32
            });
        });
    }
    group.finish();
}

fn bench_generate(c: &mut Criterion, name: &str, config: &GanConfig) {
    let device = device();
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    for &size in batches(64) {
        let mut made = None;
        let mut draw = 0;
        group.bench_function(size.to_string(), |bencher| {
            let (generator, classes) = made.get_or_insert_with(|| {
                let store = ParamStore::new(Key::new(0), &device);
                let labels: Vec<u32> = (0..size as u32).map(|i| i % 2).collect();
                let classes = (config.classes > 1).then(|| one_hot(&labels, config.classes, &device).expect("classes"));
                (Generator::new(config, store.frozen_vb()).expect("a generator"), classes)
            });
            bencher.iter(|| {
                draw += 1;
                let z = Key::new(draw).normal((size, config.latent), &device).expect("noise");
                let images = generator.forward_class_t(&z, classes.as_ref(), false).expect("images");
                device.synchronize().expect("they are computed");
                black_box(images)
            });
        });
    }
    group.finish();
}
