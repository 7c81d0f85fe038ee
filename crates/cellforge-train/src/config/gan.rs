//! The settings of a GAN's training.

use cellforge_gan::loss::GanLoss;
use cellforge_gan::{AugmentConfig, DiscriminatorKind, GanConfig, ImageSize};
use cellforge_nn::Key;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::GAN_RECIPES;
use crate::schedule::{LearningRate, check_length};
use crate::{Error, GuardConfig, MonitorConfig, Position, Result};

/// Whether real images are shown in all orientations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dihedral {
    /// They are shown as they lie.
    #[default]
    Off,
    /// They are.
    On,
    /// They are if nothing tells turned images from upright ones ([`check_upright`](crate::check_upright)).
    Auto,
}

impl<'de> Deserialize<'de> for Dihedral {
    /// A word, or true or false as before there was a choice.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected off, on or auto")]
        enum Given {
            Flag(bool),
            Word(String),
        }
        match Given::deserialize(deserializer)? {
            Given::Flag(on) => Ok(if on { Self::On } else { Self::Off }),
            Given::Word(word) => match word.as_str() {
                "off" => Ok(Self::Off),
                "on" => Ok(Self::On),
                "auto" => Ok(Self::Auto),
                other => Err(D::Error::unknown_variant(other, &["off", "on", "auto"])),
            },
        }
    }
}

/// Everything that decides what a GAN becomes. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GanTrainConfig {
    /// Recipe: a named set of settings, which lies below everything else that is given.
    #[schemars(extend("enum" = GAN_RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>()))]
    pub recipe: String,
    /// One GAN for all classes, instead of one for each.
    pub conditional: bool,
    /// A trained GAN to start from: the folder of its run or checkpoint, or `built-in`. Without it, networks start from chance.
    ///
    /// Its networks must be of the same kind. What depends on other classes, channels or sizes starts anew, and is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Freeze: the first layers of the discriminator of `from` that stay as they are (FreezeD, Mo et al. 2020).
    ///
    /// With few images the discriminator forgets less, and each iteration is faster.
    #[schemars(range(min = 0, max = 64))]
    pub freeze: usize,
    /// The networks.
    pub model: GanConfig,
    /// Iterations: updates of each network. The study calls them epochs.
    ///
    /// Where the discriminator is updated on real and on generated images in turn, both updates count as one iteration.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub iterations: u64,
    /// Batch size: real images in an update, and as many generated ones.
    #[schemars(range(min = 1, max = 4096))]
    pub batch: usize,
    /// Learning rate of Adam, for both networks unless `discriminator_lr` is given.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Learning rate of the discriminator (two time-scale updates, Heusel et al. 2017).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub discriminator_lr: Option<f64>,
    /// Learning-rate decay: the share of the run, at its end, over which both rates fall linearly to 0. 0 is none.
    ///
    /// With a constant rate the networks of a GAN circle around where they would meet. Falling rates narrow the circle.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lr_decay: f64,
    /// Beta 1 of Adam: decay of the mean of the gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta1: f64,
    /// Beta 2 of Adam: decay of the mean of the squared gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta2: f64,
    /// The adversarial loss.
    pub loss: GanLoss,
    /// Joint update: the discriminator sees real and generated images in one update, instead of one after the other.
    ///
    /// The study's sees them one after the other. The relativistic loss and the gradient penalties need a joint update.
    pub joint_update: bool,
    /// One-sided label smoothing (Salimans et al. 2016): the target for real images is 1 minus this.
    ///
    /// Only the logistic loss has targets.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub label_smoothing: f64,
    /// R1: weight of the gradient penalty on real images (Mescheder et al. 2018). 0 is none.
    ///
    /// The discriminator's loss grows by half of this times the mean squared norm of its input gradient.
    #[schemars(range(min = 0.0))]
    pub r1: f64,
    /// R2: weight of the gradient penalty on generated images. 0 is none.
    #[schemars(range(min = 0.0))]
    pub r2: f64,
    /// Lazy regularisation (Karras et al. 2020): iterations between gradient penalties, which count that many times.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub penalty_every: u64,
    /// Dihedral augmentation: whether real images are shown in all eight orientations (rectangles in four), mirrored and turned by right angles.
    ///
    /// It suits images without an up or down, such as those of a microscope, and makes eight images of each. The generator learns to make all
    /// orientations. With `augment.flips`, which changes both kinds of images, it need not. At `auto` two small networks are asked first to
    /// tell turned images from upright ones. Where there are 40 images or more and the networks surely cannot, it is on.
    pub dihedral: Dihedral,
    /// Differentiable augmentation of the images that the discriminator sees.
    pub augment: AugmentConfig,
    /// EMA: decay of the exponential moving average of the generator's weights. 0 is none.
    ///
    /// The average is what is saved as `weights`, sampled and judged. It follows faster in the beginning: after `n` updates the decay is
    /// at most `(1 + n) / (10 + n)`.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub ema_decay: f64,
    /// Gradient accumulation steps: parts in which a batch goes through the networks, to save memory.
    ///
    /// Gradients are averaged over the parts. The update is the same, except for batch norm, whose statistics are of one part.
    #[schemars(range(min = 1, max = 4096))]
    pub accumulation_steps: u64,
    /// Seed of everything random, together with the class.
    #[schemars(skip)]
    pub seed: u64,
    /// Name of the class; it separates the noise of GANs that share a seed. Empty for a GAN of several classes.
    #[schemars(skip)]
    pub class: String,
    /// Iterations after which a sample grid is drawn. If empty: the first, and each third of the run.
    #[schemars(inner(range(min = 0, max = 1_000_000_000)))]
    pub grid_at: Vec<u64>,
    /// Images in a sample grid.
    #[schemars(range(min = 1, max = 4096))]
    pub grid_images: usize,
    /// Iterations between checkpoints. 0 is one at the end only.
    #[schemars(range(max = 1_000_000_000))]
    pub checkpoint_every: u64,
    /// Iterations between lines of the log.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub log_every: u64,
    /// When and on how many images the generator is judged as it trains, where there is a judge.
    pub monitor: MonitorConfig,
    /// What counts as training that went wrong, and how it goes on then.
    pub guard: GuardConfig,
}

impl Default for GanTrainConfig {
    fn default() -> Self {
        Self {
            recipe: GAN_RECIPES[0].name.to_owned(),
            conditional: false,
            from: None,
            freeze: 0,
            model: GanConfig::default(),
            iterations: 15_000,
            batch: 32,
            lr: 1.5e-4,
            discriminator_lr: None,
            lr_decay: 0.0,
            beta1: 0.5,
            beta2: 0.999,
            loss: GanLoss::Logistic,
            joint_update: false,
            label_smoothing: 0.0,
            r1: 0.0,
            r2: 0.0,
            penalty_every: 1,
            dihedral: Dihedral::Off,
            augment: AugmentConfig::default(),
            ema_decay: 0.0,
            accumulation_steps: 1,
            seed: 0,
            class: String::new(),
            grid_at: Vec::new(),
            grid_images: 16,
            checkpoint_every: 500,
            log_every: 10,
            monitor: MonitorConfig::default(),
            guard: GuardConfig::default(),
        }
    }
}

impl GanTrainConfig {
    /// What the learning rates are multiplied by in iteration `iteration`, counted from 1: in `(0, 1]`, by [`Self::lr_decay`].
    #[must_use]
    pub fn rate(&self, iteration: u64) -> f64 {
        crate::schedule::decay(self.lr_decay, self.iterations, iteration)
    }

    /// Gives a run that stands at `position` the length of `asked`. It then ends as if it had been started with that length.
    pub(crate) fn lengthen(&mut self, asked: &Self, position: &Position) -> Result<()> {
        let (from, to) = (self.iterations, asked.iterations);
        if from != to {
            let rate = |iterations| LearningRate::decaying(self.lr, self.lr_decay, iterations);
            check_length(format!("{to} iterations"), to, position.iteration, &rate(from), &rate(to))?;
            self.iterations = to;
        }
        Ok(())
    }

    /// The key all of the run's randomness is derived from.
    pub(crate) fn key(&self) -> Key {
        Key::new(self.seed).with("gan").with(&self.class)
    }

    /// How the paths of the discriminator's parameters begin that a run leaves as they are.
    pub(crate) fn frozen(&self) -> Vec<String> {
        let layers = self.model.discriminator_layers();
        layers.into_iter().take(self.freeze).flatten().map(|path| format!("{path}.")).collect()
    }

    /// For images of this size, and of so many classes: these are facts of the images, not settings.
    #[must_use]
    pub fn for_images(mut self, size: impl Into<ImageSize>, channels: usize, classes: usize) -> Self {
        self.model.image_size = size.into();
        self.model.channels = channels;
        self.model.classes = if self.conditional { classes } else { 1 };
        self
    }

    /// The iterations after which a sample grid is drawn: those asked for, as far as the run goes, or the study's, the first and after each
    /// third of the run.
    #[must_use]
    pub fn grids(&self) -> Vec<u64> {
        let n = self.iterations;
        if !self.grid_at.is_empty() {
            return self.grid_at.iter().copied().filter(|at| (1..=n).contains(at)).collect();
        }
        let mut grids = vec![1, n / 3, n * 2 / 3, n];
        grids.retain(|&at| at > 0);
        grids.dedup();
        grids
    }

    /// Checks the ranges of all settings, and that they go together.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Invalid`] naming the setting, or the model's own error.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "gan")?;
        self.model.validate()?;
        self.monitor.validate()?;
        let invalid = |field, reason: String| Err(Error::Invalid { field, reason });
        let layers = self.model.discriminator_layers().len();
        if self.freeze > layers {
            let reason = format!("{}, but the discriminator has {layers} layers to freeze", self.freeze);
            return invalid("gan.freeze", reason);
        }
        if self.freeze > 0 && self.from.is_none() {
            let reason =
                format!("{}, but layers that start from chance must learn: name a GAN in gan.from", self.freeze);
            return invalid("gan.freeze", reason);
        }
        for (field, weight) in [("gan.r1", self.r1), ("gan.r2", self.r2)] {
            if weight > 0.0 && self.model.discriminator == DiscriminatorKind::Study {
                let reason =
                    format!("{weight}, but the study's discriminator has no such penalty: only the residual one has");
                return invalid(field, reason);
            }
            if weight > 0.0 && !self.joint_update {
                let reason = format!(
                    "{weight}, but real and generated images are in separate updates, and `joint_update` is false"
                );
                return invalid(field, reason);
            }
        }
        if self.loss == GanLoss::Relativistic && !self.joint_update {
            let reason = "the relativistic one is of real and generated images together, and `joint_update` is false";
            return invalid("gan.loss", reason.to_owned());
        }
        if self.label_smoothing > 0.0 && self.loss != GanLoss::Logistic {
            return invalid("gan.label_smoothing", "only the logistic loss has targets to smooth".to_owned());
        }
        if !(self.batch as u64).is_multiple_of(self.accumulation_steps) {
            let reason = format!("{} parts of a batch of {} are not of one size", self.accumulation_steps, self.batch);
            return invalid("gan.accumulation_steps", reason);
        }
        Ok(())
    }
}
