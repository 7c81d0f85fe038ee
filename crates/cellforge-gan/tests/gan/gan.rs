//! Both networks with their stores; used by the tests of this crate.

use candle_core::{Device, Result, Var};
use cellforge_gan::{Discriminator, GanConfig, Generator};
use cellforge_nn::summary::ModelSummary;
use cellforge_nn::{Key, ParamStore};

pub struct Gan {
    pub generator: Generator,
    pub discriminator: Discriminator,
    pub g_store: ParamStore,
    pub d_store: ParamStore,
}

pub fn build(cfg: &GanConfig) -> Result<Gan> {
    let g_store = ParamStore::new(Key::new(1).with("generator"), &Device::Cpu);
    let d_store = ParamStore::new(Key::new(1).with("discriminator"), &Device::Cpu);
    let (generator, discriminator) = (Generator::new(cfg, g_store.vb())?, Discriminator::new(cfg, d_store.vb())?);
    Ok(Gan { generator, discriminator, g_store, d_store })
}

fn elements(vars: &[(String, Var)]) -> usize {
    vars.iter().map(|(_, var)| var.elem_count()).sum()
}

/// What the table counts is what the store holds.
pub fn assert_counts(summary: &ModelSummary, store: &ParamStore) {
    assert_eq!(summary.params(), store.num_elements());
    assert_eq!(summary.trainable(), elements(&store.trainable()));
}
