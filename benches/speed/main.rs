//! One training step (or one batch) of each kind at batch 32, each kernel, the comparison of two sets of features, and the evaluation of
//! a set of images. On a GPU the steps alone (`CELLFORGE_BENCH_DEVICE=cuda`, and names as filters), those of 64x64 at batch 32, 128 and 512.
//! See `benches/README.md`.

mod data;
mod encoders;
mod evaluate;
mod instructions;
mod kernels;
mod train;
mod work;

use criterion::{Criterion, criterion_group};

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
        train::steps,
        train::generate,
        kernels::convolutions,
        kernels::passes,
        kernels::updates,
        data::decode,
        data::batch,
        encoders::encoders,
        evaluate::features,
        evaluate::set
}

fn main() {
    if instructions::is_counted() {
        return;
    }
    speed();
    Criterion::default().configure_from_args().final_summary();
    // Not where a name was given of what to run.
    if train::is_test() && std::env::args().skip(1).all(|argument| argument.starts_with('-')) {
        instructions::hold();
    }
}
