//! Steps of `cellforge-train` with the study's networks at full width.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use cellforge::classify::ClassifierConfig;
use cellforge::data::Batch;
use cellforge::gan::{GanConfig, Generator};
use cellforge::kernels::{Precision, with_precision};
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

/// Runs a benchmark as the program computes by default: in `f32`, on a GPU in `tf32`.
fn by_default(bench: impl FnOnce()) {
    with_precision(if device().is_cpu() { Precision::F32 } else { Precision::Tf32 }, bench);
}

/// Runs a benchmark with products of `bf16`, where this processor or the GPU has them; elsewhere it says so.
#[allow(clippy::print_stderr)]
fn in_bf16(name: &str, bench: impl FnOnce()) {
    if Precision::Bf16.is_supported() || !device().is_cpu() {
        with_precision(Precision::Bf16, bench);
    } else {
        eprintln!("{name}: not run, this processor has no instructions for it");
    }
}

fn gan() -> GanStep {
    GanStep::new(&GanTrainConfig::default(), &device()).expect("a GAN")
}

/// The study's GAN schedule: generate, discriminator on reals, discriminator on fakes, generator.
pub fn gan_step(c: &mut Criterion) {
    by_default(|| bench_step(c, "gan_step", gan()));
}

/// As [`gan_step`].
pub fn gan_step_bf16(c: &mut Criterion) {
    in_bf16("gan_step_bf16", || bench_step(c, "gan_step_bf16", gan()));
}

/// Forward, cross-entropy, backward, SGD with momentum.
fn classifier_step(model: ClassifierConfig) -> ClassifierStep {
    let config =
        ClassifierTrainConfig { model, loss: LossKind::CrossEntropy, l2: false, ..ClassifierTrainConfig::default() };
    ClassifierStep::new(&config, 100, &device()).expect("a classifier")
}

/// One update of the ResNet.
pub fn resnet_step(c: &mut Criterion) {
    by_default(|| bench_step(c, "resnet_step", classifier_step(ClassifierConfig::study_resnet())));
}

/// As [`resnet_step`].
pub fn resnet_step_bf16(c: &mut Criterion) {
    let name = "resnet_step_bf16";
    in_bf16(name, || bench_step(c, name, classifier_step(ClassifierConfig::study_resnet())));
}

/// One update of the small CNN.
pub fn cnn_step(c: &mut Criterion) {
    by_default(|| bench_step(c, "cnn_step", classifier_step(ClassifierConfig::study_cnn())));
}

/// As [`cnn_step`].
pub fn cnn_step_bf16(c: &mut Criterion) {
    let name = "cnn_step_bf16";
    in_bf16(name, || bench_step(c, name, classifier_step(ClassifierConfig::study_cnn())));
}

/// Images from noise, noise included.
pub fn generate(c: &mut Criterion) {
    by_default(|| bench_generate(c, "generate"));
}

/// As [`generate`].
pub fn generate_bf16(c: &mut Criterion) {
    in_bf16("generate_bf16", || bench_generate(c, "generate_bf16"));
}

fn bench_generate(c: &mut Criterion, name: &str) {
    let device = device();
    let store = ParamStore::new(Key::new(0), &device);
    let config = GanConfig::default();
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
