//! One training step (or one batch) of each kind at batch 32 and 64x64. See `benches/README.md`.

mod data;
mod train;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    speed,
    train::gan_step,
    train::resnet_step,
    train::cnn_step,
    train::generate,
    data::decode,
    data::batch
);
criterion_main!(speed);
