//! What the discriminator is shown of images, more often changed the surer it is of real ones.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use cellforge_gan::AugmentConfig;
use cellforge_nn::Key;

use crate::Result;

/// The name, in the optimizer's file, of the probability of augmentations.
const P: &str = "augment.chance";
/// And of the real images since it last moved: how many the discriminator was right about, and how many there were.
const COUNTS: &str = "augment.right";
/// Iterations after which the probability moves, as in StyleGAN2-ADA.
const ADAPT_EVERY: u64 = 4;

/// Augmentations with the probability of each kind. With a target it adapts (Karras et al. 2020); without one it stays.
pub(super) struct AdaptiveAugment {
    config: AugmentConfig,
    /// The probability of each kind of augmentation.
    p: f64,
    /// Real images since `p` last moved that the discriminator was right about, and all of them.
    correct_count: f64,
    count: f64,
}

impl AdaptiveAugment {
    pub(super) fn new(config: &AugmentConfig) -> Self {
        let p = if config.ada_target.is_some() { 0.0 } else { config.p };
        Self { config: config.clone(), p, correct_count: 0.0, count: 0.0 }
    }

    /// `images` (b, c, h, w) as the discriminator is shown them.
    pub(super) fn apply(&self, images: &Tensor, key: &Key) -> candle_core::Result<Tensor> {
        self.config.apply(images, self.p, key)
    }

    /// The probability, where it adapts.
    pub(super) fn adaptive_p(&self) -> Option<f64> {
        self.config.ada_target.map(|_| self.p)
    }

    /// Whether it adapts after this iteration, for which [`AdaptiveAugment::count`] has to know of all iterations up to it.
    pub(super) fn is_due(&self, iteration: u64) -> bool {
        self.config.ada_target.is_some() && iteration.is_multiple_of(ADAPT_EVERY)
    }

    /// Takes note of `count` real images, of which the discriminator was right about `correct`.
    pub(super) fn count(&mut self, correct: f32, count: usize) {
        self.correct_count += f64::from(correct);
        self.count += count as f64;
    }

    /// Moves the probability towards where the discriminator's answers on real images have the wanted mean sign.
    pub(super) fn adapt(&mut self) {
        let Some(target) = self.config.ada_target else { return };
        let (correct, count) = (std::mem::take(&mut self.correct_count), std::mem::take(&mut self.count));
        let change = (2.0 * correct / count - 1.0 - target).signum() * count / self.config.ada_speed as f64;
        self.p = (self.p + change).clamp(0.0, self.config.p);
    }

    /// Adds what a resumed run needs to the optimizer's file.
    pub(super) fn save(&self, file: &mut BTreeMap<String, Tensor>) -> Result<()> {
        if self.config.ada_target.is_some() {
            file.insert(P.to_owned(), Tensor::new(self.p, &Device::Cpu)?);
            file.insert(COUNTS.to_owned(), Tensor::new(&[self.correct_count, self.count], &Device::Cpu)?);
        }
        Ok(())
    }

    /// Reads what [`AdaptiveAugment::save`] wrote.
    pub(super) fn restore(&mut self, file: &BTreeMap<String, Tensor>) -> Result<()> {
        if let Some(p) = file.get(P) {
            self.p = p.to_scalar()?;
        }
        (self.correct_count, self.count) = (0.0, 0.0);
        // Older checkpoints have none: the probability moved after every iteration.
        if let Some([correct, count]) = file.get(COUNTS).map(Tensor::to_vec1).transpose()?.as_deref() {
            (self.correct_count, self.count) = (*correct, *count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_where_the_discriminator_is_too_sure() {
        let config = AugmentConfig { ada_target: Some(0.6), ada_speed: 100, p: 0.15, ..AugmentConfig::default() };
        let mut augment = AdaptiveAugment::new(&config);
        assert_eq!([3, 4, 8].map(|iteration| augment.is_due(iteration)), [false, true, true]);
        let mut after = |correct, count| {
            augment.count(correct, count);
            augment.adapt();
            augment.adaptive_p().unwrap()
        };
        // Nine of ten right: a mean sign of 0.8, above 0.6. Ten images of a hundred, and the highest it may be.
        assert_eq!([after(9.0, 10), after(9.0, 10)], [0.1, 0.15]);
        // Seven of ten right: a mean sign of 0.4.
        assert!((after(7.0, 10) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn what_is_saved_is_restored() {
        let config = AugmentConfig { ada_target: Some(0.6), ada_speed: 10, ..AugmentConfig::default() };
        let (mut first, mut second) = (AdaptiveAugment::new(&config), AdaptiveAugment::new(&config));
        first.count(4.0, 4);
        first.adapt();
        first.count(3.0, 4);
        let mut file = BTreeMap::new();
        first.save(&mut file).unwrap();
        second.restore(&file).unwrap();
        assert_eq!((second.p, second.correct_count, second.count), (0.4, 3.0, 4.0));

        let mut fixed = AdaptiveAugment::new(&AugmentConfig { p: 0.5, ..AugmentConfig::default() });
        fixed.count(4.0, 4);
        fixed.adapt();
        assert_eq!((fixed.p, fixed.adaptive_p(), fixed.is_due(4)), (0.5, None, false));
    }
}
