//! Comparing sets of features with `cellforge-eval`: 10,000 images against 10,000 at 512 dimensions, and the same as
//! `benches/evaluate_numpy.py` does it.

use std::hint::black_box;

use cellforge::eval::{Features, frechet_distance, nearest, prdc};
use criterion::Criterion;

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
pub fn evaluate(c: &mut Criterion) {
    let values = values();
    let [a, b] = values.each_ref().map(|values| Features::new(values, DIMS).expect("features"));
    let mut group = c.benchmark_group("evaluate");
    group.sample_size(10);
    group.bench_function("nearest", |bencher| bencher.iter(|| black_box(nearest(a, b, K).expect("neighbours"))));
    group.bench_function("prdc", |bencher| bencher.iter(|| black_box(prdc(a, b, K).expect("shares"))));
    group.bench_function("frechet", |bencher| bencher.iter(|| black_box(frechet_distance(a, b).expect("a distance"))));
}
