//! Comparing sets of features with `cellforge-eval`: 10,000 images against 10,000 at 512 dimensions, and the same as
//! `benches/evaluate_numpy.py` does it. And the whole evaluation of a set of images with `cellforge-assess`.

use std::cell::LazyCell;
use std::hint::black_box;

use cellforge::assess::evaluation::{EvaluationInputs, FeatureSource, Part};
use cellforge::assess::{Control, EvaluationConfig, evaluate};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::data::{SplitOptions, split};
use cellforge::eval::{Features, frechet_distance, nearest, prdc};
use criterion::{Criterion, SamplingMode};

use crate::train::is_test;

const IMAGES: usize = 10_000;
const DIMS: usize = 512;
const K: usize = 5;

/// Numbers in [0, 1), as many as two sets have.
fn values() -> [Vec<f32>; 2] {
    let mut x = 1_u64;
    [0.0, 0.05].map(|shift| {
        (0..IMAGES * DIMS)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                shift + (x >> 40) as f32 / (1 << 24) as f32
            })
            .collect()
    })
}

/// The 5 nearest neighbours of every image, precision with recall, density and coverage, and the Fréchet distance.
pub fn features(c: &mut Criterion) {
    // Made where one of these is asked for.
    let values = LazyCell::new(values);
    let sets = || values.each_ref().map(|values| Features::new(values, DIMS).expect("features"));
    let mut group = c.benchmark_group("evaluate");
    group.sample_size(10);
    group.bench_function("nearest", |bencher| {
        let [a, b] = sets();
        bencher.iter(|| black_box(nearest(a, b, K).expect("neighbours")));
    });
    group.bench_function("prdc", |bencher| {
        let [a, b] = sets();
        bencher.iter(|| black_box(prdc(a, b, K).expect("shares")));
    });
    group.bench_function("frechet", |bencher| {
        let [a, b] = sets();
        bencher.iter(|| black_box(frechet_distance(a, b).expect("a distance")));
    });
}

/// What `evaluate` measures by default, by pixels, of 200 images in two classes against 400 others of 40 patients, some of whom are held out.
/// No network is trained: that is what `resnet_step` times.
pub fn set(c: &mut Criterion) {
    let sets = LazyCell::new(|| {
        let rendered = |images_per_class, seed| {
            let images_per_class = if is_test() { 60 } else { images_per_class };
            phantom::render(&PhantomConfig { images_per_class, seed, ..PhantomConfig::default() }).expect("images")
        };
        let real = rendered(200, 0);
        let sides = split(&real, &SplitOptions::default()).expect("a split by patient");
        let part = |images, source: &str| Part::new(images, source);
        EvaluationInputs {
            holdout: Some(part(real.part(&sides.test), "held-out images")),
            ..EvaluationInputs::new(
                part(real.part(&sides.train), "training images"),
                part(rendered(100, 1), "other images"),
                FeatureSource::Pixels,
            )
        }
    });
    let mut config = EvaluationConfig::default();
    (config.two_sample.updates, config.reidentification.updates) = (0, 0);
    if is_test() {
        (config.resamples, config.privacy.relabellings) = (100, 200);
        (config.two_sample.halvings, config.two_sample.planted) = (50, false);
    }
    let mut group = c.benchmark_group("evaluate");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("set", |bencher| {
        let inputs = &*sets;
        bencher.iter(|| {
            // A folder of its own: an evaluation takes up what it finds in one.
            let out = tempfile::tempdir().expect("a folder");
            black_box(evaluate(&config, inputs, out.path(), &Control::default()).expect("an evaluation"))
        });
    });
}
