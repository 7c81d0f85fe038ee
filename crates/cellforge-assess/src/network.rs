//! The small network of every test that trains one.

use cellforge_classify::{ClassifierConfig, ResNetConfig};
use cellforge_data::Augment;
use cellforge_train::{ClassifierTrainConfig, LossKind, OptimizerConfig, Schedule};

/// A narrow ResNet, to be trained for few updates.
///
/// Its first convolution keeps the side of the image, batch norm brings out differences that are small beside those between images, and its last
/// layer sees averages over the image, so that a fine texture anywhere counts. Images are not mirrored or turned: that would hide a pattern that is
/// fixed to the grid of pixels. The ends of the range of grey levels are spread: how dark an
/// edge or a background is tells generators more often than how bright a nucleus is. Adam, since few updates have to do.
pub(crate) fn narrow_resnet(width: f64, batch: usize, seed: u64) -> ClassifierTrainConfig {
    let network = ResNetConfig {
        width,
        stages: vec![1, 1],
        filters: vec![16, 32, 64],
        spread_ends: true,
        ..ResNetConfig::default()
    };
    ClassifierTrainConfig {
        model: ClassifierConfig::Resnet(network),
        batch,
        optimizer: OptimizerConfig::Adam { lr: 3e-3 },
        schedule: Schedule::Linear,
        loss: LossKind::CrossEntropy,
        l2: false,
        augment: Augment::NONE,
        seed,
        ..ClassifierTrainConfig::default()
    }
}
