//! Batches of tensors, and the order in which images come up. Both are pure functions of a seed and a position, so that
//! a resumed run sees what it would have seen.

use candle_core::{Device, Tensor};
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::rng::keyed;
use crate::{Augment, CellSet, Result};

/// How bytes become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// `x / 127.5 - 1`, in [-1, 1]: the GAN's.
    SignedUnit,
    /// `x / 255`, in [0, 1]: the classifiers'.
    Unit,
}

impl Scale {
    /// The number that `byte` stands for.
    #[must_use]
    pub fn apply(self, byte: u8) -> f32 {
        match self {
            Self::SignedUnit => f32::from(byte) / 127.5 - 1.0,
            Self::Unit => f32::from(byte) / 255.0,
        }
    }
}

/// Some images as tensors.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Images, (b, c, h, w) in f32.
    pub images: Tensor,
    /// Class of each, (b) in u32.
    pub labels: Tensor,
    /// Which images of the set these are.
    pub indices: Vec<usize>,
}

impl Batch {
    /// Gathers images `indices` of `set`, each changed by `augment` for its seed and epoch if given.
    ///
    /// # Errors
    /// Those of the device the tensors go to.
    ///
    /// # Panics
    /// If an index names no image.
    pub fn gather(
        set: &CellSet,
        indices: &[usize],
        scale: Scale,
        augment: Option<(&Augment, u64, u64)>,
        device: &Device,
    ) -> Result<Self> {
        let (side, channels) = (set.side(), set.channels());
        let area = side * side;
        let mut values = vec![0f32; indices.len() * channels * area];
        values.par_chunks_mut((channels * area).max(1)).zip(indices).for_each(|(planes, &index)| {
            let changed;
            let image = match augment {
                Some((augment, seed, epoch)) => {
                    changed = augment.apply(set.image(index), side, channels, seed, epoch, index as u64);
                    &changed
                }
                None => set.image(index),
            };
            for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
                for (value, byte) in plane.iter_mut().zip(image[channel..].iter().step_by(channels)) {
                    *value = scale.apply(*byte);
                }
            }
        });
        let labels: Vec<u32> = indices.iter().map(|i| set.labels[*i]).collect();
        Ok(Self {
            images: Tensor::from_vec(values, (indices.len(), channels, side, side), device)?,
            labels: Tensor::from_vec(labels, indices.len(), device)?,
            indices: indices.to_vec(),
        })
    }
}

/// `indices` in the order of one epoch.
#[must_use]
pub fn epoch_order(indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = indices.to_vec();
    order.shuffle(&mut keyed("epoch order", &[seed, epoch]));
    order
}

/// `b` of `indices`, drawn with replacement for one iteration.
///
/// # Panics
/// If `indices` is empty.
#[must_use]
pub fn replacement_draw(indices: &[usize], seed: u64, iteration: u64, b: usize) -> Vec<usize> {
    assert!(!indices.is_empty(), "nothing to draw from");
    let mut rng = keyed("replacement draw", &[seed, iteration]);
    (0..b).map(|_| indices[rng.random_range(0..indices.len())]).collect()
}

/// `b` indices for one iteration, drawn with replacement from each of `classes` in turn, so that each has as many, but for a remainder
/// that the first classes get.
///
/// # Panics
/// If there is no class, or one is empty.
#[must_use]
pub fn balanced_draw(classes: &[Vec<usize>], seed: u64, iteration: u64, b: usize) -> Vec<usize> {
    assert!(!classes.is_empty() && classes.iter().all(|class| !class.is_empty()), "nothing to draw from");
    let mut rng = keyed("balanced draw", &[seed, iteration]);
    classes.iter().cycle().take(b).map(|class| class[rng.random_range(0..class.len())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(n: usize) -> CellSet {
        let pixels = (0..n * 16 * 3).map(|i| (i * 37 % 256) as u8).collect();
        CellSet::from_parts(
            vec!["a".into(), "b".into()],
            (0..n).map(|i| format!("a/{i}")).collect(),
            (0..n as u32).map(|i| i % 2).collect(),
            vec![None; n],
            4,
            3,
            pixels,
        )
        .unwrap()
    }

    #[test]
    fn gather_puts_channels_first_and_scales() {
        let set = set(3);
        let batch = Batch::gather(&set, &[2, 0], Scale::SignedUnit, None, &Device::Cpu).unwrap();
        assert_eq!(batch.images.dims(), [2, 3, 4, 4]);
        assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [0, 0]);
        let values = batch.images.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Pixel 5, channel 1 of image 2.
        assert_eq!(values[16 + 5], f32::from(set.image(2)[5 * 3 + 1]) / 127.5 - 1.0);
        assert_eq!((Scale::SignedUnit.apply(0), Scale::SignedUnit.apply(255)), (-1.0, 1.0));
        assert_eq!((Scale::Unit.apply(0), Scale::Unit.apply(255)), (0.0, 1.0));
    }

    #[test]
    fn augmented_batches_do_not_depend_on_the_thread_count() {
        let set = set(9);
        let all: Vec<usize> = (0..9).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let augment = Augment::default();
            let batch = pool.install(|| Batch::gather(&set, &all, Scale::Unit, Some((&augment, 1, 2)), &Device::Cpu));
            batch.unwrap().images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(1), run(3));
    }

    proptest! {
        #[test]
        fn an_epoch_is_a_permutation(n in 0usize..200, seed: u64, epoch: u64) {
            let indices: Vec<usize> = (10..10 + n).collect();
            let mut order = epoch_order(&indices, seed, epoch);
            prop_assert_eq!(&order, &epoch_order(&indices, seed, epoch));
            order.sort_unstable();
            prop_assert_eq!(order, indices);
        }
    }

    #[test]
    fn orders_and_draws_differ_between_epochs() {
        let indices: Vec<usize> = (0..100).collect();
        assert_ne!(epoch_order(&indices, 1, 0), epoch_order(&indices, 1, 1));
        assert_ne!(replacement_draw(&indices, 1, 0, 32), replacement_draw(&indices, 1, 1, 32));
        assert_eq!(replacement_draw(&indices, 1, 7, 32), replacement_draw(&indices, 1, 7, 32));
    }
}
