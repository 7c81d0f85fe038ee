//! Classes of which there are few images.

use candle_core::Device;
use cellforge_data::{Augment, Batch, Scale, View, balanced_draw};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::ranks::OwnRows;

/// What a training does about classes of which there are fewer images than of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// Nothing: each image counts as much as any other.
    #[default]
    None,
    /// The loss of an image is multiplied by the weight of its class: see [`class_weights`].
    Weights,
    /// Batches have as many images of each class, drawn with replacement. An epoch is still as many images as there are.
    Batches,
}

/// Weights of classes by inverse frequency, whose mean over the images is 1: of `n` images in `k` classes, a class of `m` images has
/// `n / (k m)`, as scikit-learn's `class_weight="balanced"`. A class without images does not count, and has 0.
///
/// ```
/// // Of 8 images 6 are of the first class and 2 of the second: 8 / (2 * 6) and 8 / (2 * 2).
/// assert_eq!(cellforge_train::class_weights(&[6, 2, 0]), [2.0 / 3.0, 2.0, 0.0]);
/// ```
#[must_use]
pub fn class_weights(images: &[usize]) -> Vec<f32> {
    let n: usize = images.iter().sum();
    let k = images.iter().filter(|&&m| m > 0).count();
    images.iter().map(|&m| if m > 0 { (n as f64 / (k * m) as f64) as f32 } else { 0.0 }).collect()
}

impl Balance {
    /// The weights of the classes in the loss, where they have any.
    pub(crate) fn weights(self, train: &View) -> Option<Vec<f32>> {
        (self == Self::Weights).then(|| class_weights(&train.class_counts()))
    }

    /// What draws batches, where they are balanced.
    pub(crate) fn draws(self, train: &View) -> Option<Draws> {
        let classes = 0..train.classes().len() as u32;
        let classes = classes.map(|class| train.class_indices(class)).filter(|images| !images.is_empty());
        (self == Self::Batches).then(|| Draws { classes: classes.collect() })
    }
}

/// Balanced batches.
pub(crate) struct Draws {
    /// The positions of the images of each class that has some.
    classes: Vec<Vec<usize>>,
}

impl Draws {
    /// The batch of update `iteration`, counted from 1, or what `own` takes of it. An image that comes up again is augmented anew in each update,
    /// not in each epoch.
    pub(crate) fn batch(
        &self,
        train: &View,
        (seed, iteration, size): (u64, u64, usize),
        own: &OwnRows,
        augment: &Augment,
        device: &Device,
    ) -> Result<Batch> {
        let augment = augment.is_on().then_some((augment, seed, iteration));
        own.gather(train, &self.positions(seed, iteration, size), Scale::Unit, augment, device)
    }

    /// Where classes do not divide the batch, the first of the draw get the rest. Each update begins with another class.
    fn positions(&self, seed: u64, iteration: u64, size: usize) -> Vec<usize> {
        let mut classes: Vec<&[usize]> = self.classes.iter().map(Vec::as_slice).collect();
        let first = iteration as usize % classes.len();
        classes.rotate_left(first);
        balanced_draw(&classes, seed, iteration, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    fn uneven() -> View {
        View::new(ViewParts {
            classes: ["a", "b", "c", "empty"].map(str::to_owned).into(),
            labels: [&[0; 12][..], &[1; 3], &[2; 1]].concat(),
            size: 4.into(),
            channels: 1,
            pixels: (0..16 * 16).map(|i| (i % 256) as u8).collect(),
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn weights_have_a_mean_of_one_over_the_images() {
        let view = uneven();
        let weights = Balance::Weights.weights(&view).unwrap();
        let mean = view.labels().iter().map(|&label| weights[label as usize]).sum::<f32>() / view.len() as f32;
        assert!((mean - 1.0).abs() < 1e-6, "{weights:?}");
        // 16 images in three classes: 16 / (3 * 12), 16 / (3 * 3), 16 / 3.
        for (found, expected) in weights.iter().zip([16.0 / 36.0, 16.0 / 9.0, 16.0 / 3.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{weights:?}");
        }
        assert!(Balance::None.weights(&view).is_none() && Balance::Batches.weights(&view).is_none());
    }

    #[test]
    fn batches_have_as_many_of_each_class() {
        let view = uneven();
        assert!(Balance::None.draws(&view).is_none() && Balance::Weights.draws(&view).is_none());
        let draws = Balance::Batches.draws(&view).unwrap();
        let mut counts = [0; 4];
        for iteration in 1..=30 {
            let batch = draws.batch(&view, (7, iteration, 8), &OwnRows::all(), &Augment::NONE, &Device::Cpu).unwrap();
            let labels = batch.labels.to_vec1::<u32>().unwrap();
            let of_batch = [0, 1, 2].map(|class| labels.iter().filter(|&&label| label == class).count());
            assert!(of_batch.iter().all(|n| (2..=3).contains(n)), "{of_batch:?}");
            labels.iter().for_each(|&label| counts[label as usize] += 1);
            // The same again, asked for by itself.
            let again = draws.batch(&view, (7, iteration, 8), &OwnRows::all(), &Augment::NONE, &Device::Cpu).unwrap();
            assert_eq!(again.indices, batch.indices);
        }
        // 30 batches of 8: the two that are over go to each pair of classes in turn.
        assert_eq!(counts, [80, 80, 80, 0]);
    }
}
