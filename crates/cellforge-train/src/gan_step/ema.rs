//! A generator whose weights are a moving average of those that are trained.

use candle_core::Device;
use cellforge_gan::{GanConfig, Generator};
use cellforge_nn::{Key, ParamStore};

use crate::Result;

/// The exponential moving average of a generator's weights over its updates.
pub(super) struct Ema {
    pub(super) generator: Generator,
    pub(super) store: ParamStore,
    decay: f64,
}

impl Ema {
    /// Starts where the generator that is trained does, whose `key` it shares. `decay` is in `(0, 1)`.
    pub(super) fn new(model: &GanConfig, decay: f64, key: Key, device: &Device) -> Result<Self> {
        let store = ParamStore::new(key, device);
        Ok(Self { generator: Generator::new(model, store.frozen_vb())?, store, decay })
    }

    /// Follows the weights that update number `iteration`, counted from 1, has left.
    pub(super) fn update(&self, trained: &ParamStore, iteration: u64) -> Result<()> {
        Ok(self.store.ema_update(trained, self.decay_at(iteration))?)
    }

    /// The share of the average that is kept. After `n` updates it is `(1 + n) / (10 + n)` at most, so that the average follows faster in
    /// the beginning.
    fn decay_at(&self, iteration: u64) -> f64 {
        let n = iteration as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_by_the_decay() {
        let model = GanConfig { image_size: 32.into(), width: 0.05, latent: 4, ..GanConfig::default() };
        let trained = ParamStore::new(Key::new(1), &Device::Cpu);
        Generator::new(&model, trained.vb()).unwrap();
        let ema = Ema::new(&model, 0.5, Key::new(1), &Device::Cpu).unwrap();
        // 2/11 and 5/14 are below a half, 10/19 is above it.
        assert_eq!([1, 4, 9].map(|n| ema.decay_at(n)), [2.0 / 11.0, 5.0 / 14.0, 0.5]);

        let (name, var) = trained.trainable().swap_remove(0);
        let first = |store: &ParamStore| store.tensors()[&name].flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        let before = first(&ema.store);
        assert_eq!(before, first(&trained));
        var.set(&(var.as_tensor() + 1.0).unwrap()).unwrap();
        ema.update(&trained, 9).unwrap();
        // Half of the way from x to x + 1.
        assert!((first(&ema.store) - before - 0.5).abs() < 1e-6);
    }
}
