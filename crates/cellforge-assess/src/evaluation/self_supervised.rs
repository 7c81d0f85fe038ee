//! An encoder that learns in the run, and knows nothing of the task: without a class, from real images alone.

use std::cell::OnceCell;

use cellforge_classify::{ClassifierConfig, ResNetConfig};
use cellforge_data::{Augment, View, ViewParts, derive_seed};
use cellforge_train::{
    ClassifierTrainConfig, FeatureMatrix, LossKind, OptimizerConfig, TrainedClassifier, train_for_steps,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sets::pick;
use crate::{Control, Error, ProgressBar, Result, files::hash_texts};

/// How the self-supervised encoder is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// Real images that it learns to tell apart, each class as many as its share.
    #[schemars(range(min = 2, max = 65_536))]
    pub images: usize,
    /// Updates of the training, of 64 images each.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub updates: usize,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { images: 1024, updates: 1000 }
    }
}

const BATCH: usize = 64;

/// Channels of its layers, the last of which are the features.
const FILTERS: [usize; 4] = [16, 32, 64, 128];

/// Numbers per image.
pub(super) const DIMS: usize = FILTERS[3];

/// An exemplar network (Dosovitskiy et al. 2014, Discriminative unsupervised feature learning with convolutional neural networks,
/// arXiv:1406.6909): a small residual network that learns to know each of some images again, however it is turned, mirrored, shifted and
/// zoomed. It is trained when its first features are asked for.
pub(super) struct SelfSupervised {
    config: EncoderConfig,
    exemplars: View,
    seed: u64,
    network: OnceCell<TrainedClassifier>,
}

impl SelfSupervised {
    /// An encoder that will learn from some of `images`.
    pub(super) fn new(config: EncoderConfig, images: &View, seed: u64) -> Result<Self> {
        let seed = derive_seed(seed, "encoder");
        let mut rows: Vec<usize> = Vec::new();
        for label in 0..images.classes().len() {
            let of_class = images.class_indices(label as u32);
            let share = config.images * of_class.len() / images.len().max(1);
            rows.extend(pick(images, &of_class, share.clamp(1, of_class.len().max(1)).min(of_class.len()), seed));
        }
        rows.sort_unstable();
        let chosen = images.part(&rows);
        let exemplars = View::new(ViewParts {
            classes: (0..rows.len()).map(|number| number.to_string()).collect(),
            labels: (0..rows.len() as u32).collect(),
            size: images.size(),
            channels: images.channels(),
            pixels: chosen.pixels().to_vec(),
            ..ViewParts::default()
        })?;
        Ok(Self { config, exemplars, seed, network: OnceCell::new() })
    }

    /// What decides its features beside the images they are of.
    pub(super) fn id(&self) -> String {
        let config = format!("{:?}", self.config);
        hash_texts([
            "self-supervised",
            config.as_str(),
            self.exemplars.fingerprint().as_str(),
            self.seed.to_string().as_str(),
        ])
    }

    /// The images that it learns from.
    pub(super) fn images(&self) -> usize {
        self.exemplars.len()
    }

    /// # Errors
    /// [`Error::Interrupted`], and what training can fail with.
    pub(super) fn features(&self, images: &View, control: &Control) -> Result<FeatureMatrix> {
        let network = match self.network.get() {
            Some(network) => network,
            None => {
                let network = self.train(control)?;
                self.network.get_or_init(|| network)
            }
        };
        Ok(network.features(images)?)
    }

    /// How it is trained.
    pub(super) fn training(&self) -> ClassifierTrainConfig {
        let model = ResNetConfig {
            image_size: self.exemplars.size(),
            channels: self.exemplars.channels(),
            classes: self.exemplars.len(),
            stages: vec![1; FILTERS.len() - 1],
            filters: FILTERS.to_vec(),
            ..ResNetConfig::default()
        };
        ClassifierTrainConfig {
            model: ClassifierConfig::Resnet(model),
            batch: BATCH.min(self.exemplars.len()),
            optimizer: OptimizerConfig::Adam { lr: 2e-3 },
            loss: LossKind::CrossEntropy,
            l2: false,
            augment: Augment {
                rotation: 180.0,
                shift: 0.1,
                zoom: 0.2,
                shear: 0.05,
                horizontal_flip: true,
                vertical_flip: true,
            },
            seed: self.seed,
            ..ClassifierTrainConfig::default()
        }
    }

    fn train(&self, control: &Control) -> Result<TrainedClassifier> {
        let config = self.training();
        let updates = self.config.updates as u64;
        let mut bar = ProgressBar::new(control.progress, "self-supervised encoder", updates);
        let network = train_for_steps(&config, updates, &self.exemplars, control, &mut [&mut bar])?;
        bar.finish();
        network.ok_or(Error::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::phantom::{self, PhantomConfig};

    #[test]
    fn it_learns_from_each_class_and_the_same_from_the_same_seed() {
        let config = PhantomConfig { size: 32.into(), images_per_class: 12, ..PhantomConfig::default() };
        let images = phantom::render(&config).unwrap();
        let of = |seed| SelfSupervised::new(EncoderConfig { images: 8, updates: 3 }, &images, seed).unwrap();
        let control = Control::default();
        let (first, again, other) = (of(1), of(1), of(2));
        assert_eq!((first.images(), first.id() == again.id(), first.id() == other.id()), (8, true, false));
        let found = first.features(&images, &control).unwrap();
        assert_eq!((found.dims, found.len()), (DIMS, images.len()));
        assert_eq!(found, again.features(&images, &control).unwrap());
        assert_ne!(found, other.features(&images, &control).unwrap());
    }
}
