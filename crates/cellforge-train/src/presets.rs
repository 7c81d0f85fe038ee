//! The study's training settings, and sane ones for its small networks.

use cellforge_classify::ClassifierConfig;
use cellforge_data::Augment;

use cellforge_gan::{AugmentConfig, DiscriminatorKind, GanConfig, GeneratorKind};

use crate::{ClassifierTrainConfig, GanTrainConfig, GuardConfig, LossKind, MonitorConfig, OptimizerConfig, Schedule};

/// The study's small CNN number `model` (1, 2 or 3) as published: 30, 100 and 50 epochs of SGD at a learning rate of
/// 1e-6 with decay 1e-6, momentum 0.9 and Nesterov. At that rate it hardly learns: the study reports 0.52 to 0.53.
///
/// # Panics
/// If `model` is not 1, 2 or 3.
pub fn cnn_paper(model: usize) -> ClassifierTrainConfig {
    let epochs = pick(model, [30, 100, 50]);
    ClassifierTrainConfig {
        epochs,
        optimizer: OptimizerConfig::Sgd { lr: 1e-6, momentum: 0.9, nesterov: true },
        schedule: Schedule::KerasDecay { decay: 1e-6 },
        ..small_cnn()
    }
}

/// The same three networks with a learning rate that learns: 1 is SGD at 0.01 with linear decay over 5 epochs, 2 the
/// same over 10 epochs with the study's augmentation, 3 is Adam at 1e-3 over 5 epochs.
///
/// # Panics
/// If `model` is not 1, 2 or 3.
pub fn cnn_tuned(model: usize) -> ClassifierTrainConfig {
    let sgd = OptimizerConfig::Sgd { lr: 0.01, momentum: 0.9, nesterov: true };
    let (optimizer, schedule, epochs) = pick(
        model,
        [
            (sgd, Schedule::Linear, 5),
            (sgd, Schedule::Linear, 10),
            (OptimizerConfig::Adam { lr: 1e-3 }, Schedule::Linear, 5),
        ],
    );
    let augment = (model == 2).then(Augment::default);
    ClassifierTrainConfig { optimizer, schedule, epochs, augment, ..small_cnn() }
}

/// The study's ResNet: 4 epochs of SGD at 0.1 with momentum 0.9, linear decay to 0, batches of 32, L2 penalties,
/// binary cross-entropy on the softmax, and augmentation.
pub fn resnet_study() -> ClassifierTrainConfig {
    ClassifierTrainConfig {
        model: ClassifierConfig::study_resnet(),
        epochs: 4,
        batch: 32,
        optimizer: OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: false },
        schedule: Schedule::Linear,
        loss: LossKind::SoftmaxBce,
        l2: true,
        augment: Some(Augment::default()),
        seed: 0,
        patience: None,
        checkpoint_every: 100,
        log_every: 10,
    }
}

/// The recipe for images that pass: one GAN of all `classes`, StyleGAN2's generator in small (Karras et al. 2020) against a residual
/// discriminator with a projection of the class (Miyato and Koyama 2018), the non-saturating logistic loss with a lazy R1 penalty
/// (Mescheder et al. 2018), real images in any orientation, augmentations of what the discriminator sees with an adaptive probability (Zhao et al.
/// 2020; Karras et al. 2020), learning rates that fall to 0 over the second half, and a moving average of the generator. It is judged every
/// 500 iterations where there is a judge, and guarded.
pub fn gan_best(classes: usize) -> GanTrainConfig {
    let mut model = GanConfig { latent: 64, classes, ..GanConfig::default() };
    (model.generator, model.discriminator) = (GeneratorKind::Style, DiscriminatorKind::Residual);
    GanTrainConfig {
        model,
        joint: true,
        lr: 2e-4,
        cooldown: 0.5,
        beta1: 0.0,
        beta2: 0.99,
        r1: 0.1,
        penalty_every: 8,
        any_orientation: true,
        augment: AugmentConfig { translation: 0.125, colour: 0.1, target: Some(0.6), ..AugmentConfig::default() },
        average: 0.998,
        monitor: MonitorConfig { every: 500, ..MonitorConfig::default() },
        guard: Some(GuardConfig::default()),
        ..GanTrainConfig::default()
    }
}

fn small_cnn() -> ClassifierTrainConfig {
    ClassifierTrainConfig {
        model: ClassifierConfig::study_cnn(),
        loss: LossKind::CrossEntropy,
        l2: false,
        augment: None,
        checkpoint_every: 500,
        ..resnet_study()
    }
}

fn pick<T: Copy>(model: usize, of: [T; 3]) -> T {
    assert!((1..=3).contains(&model), "the study has small CNNs 1, 2 and 3, not {model}");
    of[model - 1]
}

/// The network of `config` with another image side, number of channels, number of classes or width.
#[must_use]
pub fn classifier_config(
    mut config: ClassifierConfig,
    side: Option<usize>,
    channels: Option<usize>,
    classes: Option<usize>,
    width: Option<f64>,
) -> ClassifierConfig {
    macro_rules! set {
        ($c:expr) => {{
            $c.image_size = side.unwrap_or($c.image_size);
            $c.channels = channels.unwrap_or($c.channels);
            $c.classes = classes.unwrap_or($c.classes);
            $c.width = width.unwrap_or($c.width);
        }};
    }
    match &mut config {
        ClassifierConfig::Cnn(c) => set!(c),
        ClassifierConfig::Resnet(c) => set!(c),
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_as_published() {
        for model in 1..=3 {
            cnn_paper(model).validate().unwrap();
            cnn_tuned(model).validate().unwrap();
        }
        resnet_study().validate().unwrap();
        gan_best(2).validate().unwrap();
        assert_eq!([1, 2, 3].map(|model| cnn_paper(model).epochs), [30, 100, 50]);
    }
}
