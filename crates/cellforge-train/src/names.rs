//! The names under which numbers stand in a log, in TensorBoard and in an [`Event`](crate::Event).

/// Names of losses, and of what else a step reports of itself.
pub mod losses {
    /// A GAN's discriminator, where its loss is of real and generated images together.
    pub const D: &str = "d";
    /// A GAN's discriminator on real images.
    pub const D_REAL: &str = "d_real";
    /// A GAN's discriminator on generated images.
    pub const D_FAKE: &str = "d_fake";
    /// The penalty on the discriminator's gradient at real images, half its weight times the mean squared gradient.
    pub const R1: &str = "r1";
    /// The same at generated images.
    pub const R2: &str = "r2";
    /// A GAN's generator.
    pub const G: &str = "g";
    /// Share of a GAN's images, real and generated, on the right side of the discriminator's zero, in `[0, 1]`.
    pub const D_ACCURACY: &str = "d_accuracy";
    /// The probability of each kind of augmentation, where it is adaptive, in `[0, 1]`.
    pub const AUGMENT: &str = "augment";
    /// What a classifier minimises, without an L2 penalty.
    pub const LOSS: &str = "loss";
    /// Share of a classifier's batch, before its update, whose most probable class is theirs, in `[0, 1]`.
    pub const ACCURACY: &str = "accuracy";
}

/// Names of figures, which observers add.
pub mod figures {
    /// A classifier's mean loss on the validation images.
    pub const VAL_LOSS: &str = "val_loss";
    /// Its accuracy on them, in `[0, 1]`.
    pub const VAL_ACCURACY: &str = "val_accuracy";
    /// The temperature that its logits are divided by, fitted on them: see [`fit_temperature`](cellforge_eval::fit_temperature). Missing where
    /// none is best, and of fewer than 30 images.
    pub const TEMPERATURE: &str = "temperature";
    /// Fréchet distance between the features of generated images and of validation images: 0 or above, lower is better.
    pub const FD: &str = "fd";
    /// Share of generated images near a validation image, in `[0, 1]`.
    pub const PRECISION: &str = "precision";
    /// Share of validation images near a generated image, in `[0, 1]`.
    pub const RECALL: &str = "recall";
    /// Share of validation images with a generated image among what is near them, in `[0, 1]`.
    pub const COVERAGE: &str = "coverage";
    /// Share of generated images that the judge assigns to their class, in `[0, 1]`.
    pub const RECOGNISED: &str = "recognised";
    /// Mean distance between two generated images over that between two validation images: 0 where all are one, about 1 where they are as
    /// various.
    pub const DIVERSITY: &str = "diversity";
}
