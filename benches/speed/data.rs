//! Decoding and batching of `cellforge-data`.

use std::hint::black_box;

use candle_core::Device;
use cellforge::data::{Augment, Batch, Index, OpenOptions, Scale, View, phantom};
use criterion::Criterion;

const BATCH: usize = 32;

/// 32 PNG crops of 130 pixels a side, read, decoded and resized to 64x64, no cache.
pub fn decode(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = phantom::PhantomConfig { size: 130.into(), images_per_class: BATCH / 2, ..Default::default() };
    phantom::write_folder(&config, folder.path(), false).expect("phantom cells");
    let index = Index::open(folder.path(), &OpenOptions::default()).expect("an index");
    let options = OpenOptions::new(64, 3);
    c.benchmark_group("decode").sample_size(20).bench_function("64", |bencher| {
        bencher.iter(|| black_box(View::load(&index, &options).expect("cells")));
    });
}

/// 32 cells augmented, scaled and gathered into one tensor.
pub fn batch(c: &mut Criterion) {
    let config = phantom::PhantomConfig { size: 64.into(), images_per_class: 64, ..Default::default() };
    let set = phantom::render(&config).expect("phantom cells");
    let indices: Vec<usize> = (0..BATCH).collect();
    let augment = Augment::default();
    let mut epoch = 0;
    c.benchmark_group("batch").bench_function(BATCH.to_string(), |bencher| {
        bencher.iter(|| {
            epoch += 1;
            let chosen = Some((&augment, 0, epoch));
            black_box(Batch::gather(&set, &indices, Scale::Unit, chosen, &Device::Cpu).expect("a batch"))
        });
    });
}
