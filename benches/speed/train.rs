//! Steps of `cellforge-train` with the study's networks at full width.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use cellforge::classify::ClassifierConfig;
use cellforge::data::Batch;
use cellforge::gan::{GanConfig, Generator};
use cellforge::kernels::Precision;
use cellforge::nn::{Key, ParamStore};
use cellforge::train::{ClassifierStep, ClassifierTrainConfig, GanStep, GanTrainConfig, LossKind, Step};
use criterion::Criterion;

/// The CPU, or with the feature `cuda` and `CELLFORGE_BENCH_DEVICE=cuda` an NVIDIA GPU.
fn device() -> Device {
    #[cfg(feature = "cuda")]
    if std::env::var_os("CELLFORGE_BENCH_DEVICE").is_some_and(|device| device == "cuda") {
        static GPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
        return GPU.get_or_init(|| cellforge::kernels::cuda_device(0).expect("an NVIDIA GPU")).clone();
    }
    Device::Cpu
}

/// 32 on the CPU, more on a GPU.
fn batches() -> &'static [usize] {
    if device().is_cpu() { &[32] } else { &[32, 128, 512] }
}

/// Standard normal noise in the place of images, with both labels in turn.
fn random_batch(size: usize) -> Batch {
    let images = Key::new(0).normal((size, 3, 64, 64), &device()).expect("noise");
    let labels = Tensor::from_iter((0..size as u32).map(|i| i % 2), &device()).expect("labels");
    Batch { images, labels, indices: (0..size).collect() }
}

/// A step reads its losses, for which a GPU must have computed them.
fn bench_step<S: Step<Batch = Batch>>(c: &mut Criterion, name: &str, mut step: S) {
    let mut iteration = 0;
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(15));
    for &size in batches() {
        let batch = random_batch(size);
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                iteration += 1;
                black_box(step.step(&batch, iteration).expect("a step"))
            });
        });
    }
    group.finish();
}

/// What the program computes in by default.
fn default() -> Precision {
    Precision::default_on(&device())
}

/// Runs a benchmark with products of `bf16`, where this processor or the GPU has them; elsewhere it says so.
#[allow(clippy::print_stderr)]
fn in_bf16(name: &str, bench: impl FnOnce(Precision)) {
    match Precision::Bf16.on(&device()) {
        Precision::Bf16 => bench(Precision::Bf16),
        _ => eprintln!("{name}: not run, this processor has no instructions for it"),
    }
}

fn gan(precision: Precision) -> GanStep {
    let model = GanConfig { precision, ..GanConfig::default() };
    GanStep::new(&GanTrainConfig { model, ..GanTrainConfig::default() }, &device()).expect("a GAN")
}

/// The study's GAN schedule: generate, discriminator on reals, discriminator on fakes, generator.
pub fn gan_step(c: &mut Criterion) {
    bench_step(c, "gan_step", gan(default()));
}

/// As [`gan_step`].
pub fn gan_step_bf16(c: &mut Criterion) {
    in_bf16("gan_step_bf16", |precision| bench_step(c, "gan_step_bf16", gan(precision)));
}

/// Forward, cross-entropy, backward, SGD with momentum.
fn classifier_step(model: ClassifierConfig, precision: Precision) -> ClassifierStep {
    let model = model.in_precision(precision);
    let config =
        ClassifierTrainConfig { model, loss: LossKind::CrossEntropy, l2: false, ..ClassifierTrainConfig::default() };
    ClassifierStep::new(&config, 100, &device()).expect("a classifier")
}

/// One update of the ResNet.
pub fn resnet_step(c: &mut Criterion) {
    bench_step(c, "resnet_step", classifier_step(ClassifierConfig::study_resnet(), default()));
}

/// As [`resnet_step`].
pub fn resnet_step_bf16(c: &mut Criterion) {
    let name = "resnet_step_bf16";
    in_bf16(name, |precision| bench_step(c, name, classifier_step(ClassifierConfig::study_resnet(), precision)));
}

/// One update of the small CNN.
pub fn cnn_step(c: &mut Criterion) {
    bench_step(c, "cnn_step", classifier_step(ClassifierConfig::study_cnn(), default()));
}

/// As [`cnn_step`].
pub fn cnn_step_bf16(c: &mut Criterion) {
    let name = "cnn_step_bf16";
    in_bf16(name, |precision| bench_step(c, name, classifier_step(ClassifierConfig::study_cnn(), precision)));
}

/// Images from noise, noise included.
pub fn generate(c: &mut Criterion) {
    bench_generate(c, "generate", default());
}

/// As [`generate`].
pub fn generate_bf16(c: &mut Criterion) {
    in_bf16("generate_bf16", |precision| bench_generate(c, "generate_bf16", precision));
}

fn bench_generate(c: &mut Criterion, name: &str, precision: Precision) {
    let device = device();
    let store = ParamStore::new(Key::new(0), &device);
    let config = GanConfig { precision, ..GanConfig::default() };
    let generator = Generator::new(&config, store.vb()).expect("a generator");
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let mut draw = 0;
    for &size in batches() {
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                draw += 1;
                let z = Key::new(draw).normal((size, config.latent), &device).expect("noise");
                let images = generator.forward_t(&z, false).expect("images");
                device.synchronize().expect("they are computed");
                black_box(images)
            });
        });
    }
    group.finish();
}
