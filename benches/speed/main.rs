//! One training step (or one batch) of each kind at batch 32 and 64x64, each kernel, and the comparison of two sets of features. On a GPU
//! the steps alone, at batch 32, 128 and 512 (`CELLFORGE_BENCH_DEVICE=cuda`, and names as filters). See `benches/README.md`.

mod data;
mod encoders;
mod evaluate;
mod kernels;
mod train;

use criterion::{Criterion, criterion_group, criterion_main};

/// Criterion as it comes, in a process whose allocator is set as the program sets its own, so that no benchmark depends on which
/// ran before it.
fn as_in_the_program() -> Criterion {
    cellforge::kernels::keep_freed_memory();
    Criterion::default()
}

criterion_group! {
    name = speed;
    config = as_in_the_program();
    targets =
        train::gan_step,
        train::resnet_step,
        train::cnn_step,
        train::generate,
        train::gan_step_bf16,
        train::resnet_step_bf16,
        train::cnn_step_bf16,
        train::generate_bf16,
        kernels::convolutions,
        kernels::passes,
        kernels::updates,
        data::decode,
        data::batch,
        encoders::encoders,
        evaluate::evaluate
}
criterion_main!(speed);
