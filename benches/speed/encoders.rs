//! Features of the networks whose weights are supplied, with weights at random: 16 colour images of 64x64.

use std::cell::LazyCell;
use std::hint::black_box;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use cellforge::{
    classify::{DinoV2, DinoV2Config, Inception, dinov2_input, inception_input},
    nn::{Key, ParamStore, Precision},
};
use criterion::{Criterion, Throughput};

const IMAGES: usize = 16;
const SIDE: usize = 64;

/// Inception-v3 and DINOv2 ViT-S/14, each with the resizing of its images.
pub fn encoders(c: &mut Criterion) {
    let device = Device::Cpu;
    let pixels: Vec<u8> = (0..IMAGES * SIDE * SIDE * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let images: Vec<&[u8]> = pixels.chunks_exact(SIDE * SIDE * 3).collect();
    // Made where one of these is asked for.
    let inception = LazyCell::new(|| {
        let store = ParamStore::new(Key::new(1), &device);
        Inception::new(Precision::F32, store.vb()).expect("Inception-v3")
    });
    let dinov2 = LazyCell::new(|| {
        let small = DinoV2Config { hidden: 384, layers: 12, heads: 6, patch: 14, grid: 37, mlp: 1536, registers: 0 };
        DinoV2::new(&small, VarBuilder::zeros(DType::F32, &device)).expect("DINOv2")
    });

    let mut group = c.benchmark_group("encoders");
    group.sample_size(10).throughput(Throughput::Elements(IMAGES as u64));
    group.bench_function("inception", |bencher| {
        let inception = &*inception;
        bencher.iter(|| {
            let xs = inception_input(&images, SIDE, 3, &device).expect("images");
            black_box(inception.features(&xs).expect("features"))
        });
    });
    group.bench_function("dinov2", |bencher| {
        let dinov2 = &*dinov2;
        bencher.iter(|| {
            let xs = dinov2_input(&images, SIDE, 3, &device).expect("images");
            black_box(dinov2.features(&xs).expect("features"))
        });
    });
}
