//! The settings of a classifier's training.

use cellforge_classify::ClassifierConfig;
use cellforge_data::{Augment, ImageSize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CLASSIFIER_RECIPES;
use crate::schedule::{LearningRate, check_length};
use crate::{Balance, Error, LossKind, OptimizerConfig, Position, Result, Schedule};

/// Everything that decides what a classifier becomes. The default is the study's ResNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierTrainConfig {
    /// Recipe: a named set of settings, which lies below everything else that is given.
    #[schemars(extend("enum" = CLASSIFIER_RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>()))]
    pub recipe: String,
    /// A trained classifier to start from: the folder of its run, or a file of weights with PyTorch's names. Without it, the network starts from chance.
    ///
    /// The network must be the same. The last layer starts anew where the classes are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The network.
    pub model: ClassifierConfig,
    /// Epochs: passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u64,
    /// Batch size: images in an update. The last batch of an epoch may be smaller.
    #[schemars(range(min = 1, max = 4096))]
    pub batch: usize,
    /// Gradient accumulation steps: parts in which a batch goes through the network, to save memory. Without it, one.
    ///
    /// Gradients are averaged over the images. The update is the same, except for batch norm, whose statistics are of one part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub accumulation_steps: Option<u64>,
    /// The optimizer and its base learning rate.
    pub optimizer: OptimizerConfig,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// The loss.
    pub loss: LossKind,
    /// L2 penalties of the network, as in Keras. Only SGD has them.
    pub l2: bool,
    /// What is done about classes of which there are fewer images: weights in the loss, or batches with as many of each class.
    ///
    /// Of `n` images in `k` classes, one of a class of `m` images has the weight `n / (k m)`, which is 1 in the mean over the images.
    pub balance: Balance,
    /// Random changes to each training image.
    pub augment: Augment,
    /// Seed of everything random.
    #[schemars(skip)]
    pub seed: u64,
    /// Early stopping: end the run after this many epochs without a better validation accuracy. Without it, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub patience: Option<u64>,
    /// Updates between checkpoints within an epoch. 0 is one at its end only.
    #[schemars(range(max = 1_000_000_000))]
    pub checkpoint_every: u64,
    /// Updates between lines of the log.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub log_every: u64,
}

impl Default for ClassifierTrainConfig {
    fn default() -> Self {
        Self {
            recipe: CLASSIFIER_RECIPES[0].name.to_owned(),
            from: None,
            model: ClassifierConfig::study_resnet(),
            epochs: 4,
            batch: 32,
            accumulation_steps: None,
            optimizer: OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: false },
            schedule: Schedule::Linear,
            loss: LossKind::SoftmaxBce,
            l2: true,
            balance: Balance::None,
            augment: Augment::default(),
            seed: 0,
            patience: None,
            checkpoint_every: 100,
            log_every: 10,
        }
    }
}

impl ClassifierTrainConfig {
    /// For images of this size, and of so many classes: these are facts of the images, not settings.
    #[must_use]
    pub fn for_images(mut self, size: impl Into<ImageSize>, channels: usize, classes: usize) -> Self {
        let (image_size, own_channels, own_classes) = match &mut self.model {
            ClassifierConfig::Cnn(model) => (&mut model.image_size, &mut model.channels, &mut model.classes),
            ClassifierConfig::Resnet(model) => (&mut model.image_size, &mut model.channels, &mut model.classes),
            ClassifierConfig::Resnet18(model) | ClassifierConfig::Resnet50(model) => {
                (&mut model.image_size, &mut model.channels, &mut model.classes)
            }
        };
        (*image_size, *own_channels, *own_classes) = (size.into(), channels, classes);
        self
    }

    /// Gives a run that stands at `position`, in epochs of `epoch_len` updates, the length of `asked`. It then ends as if it had been started
    /// with that length.
    pub(crate) fn lengthen(&mut self, asked: &Self, position: &Position, epoch_len: u64) -> Result<()> {
        let (from, to) = (self.epochs, asked.epochs);
        if from != to {
            let rate = |epochs| LearningRate::scheduled(self.optimizer.lr(), self.schedule, epoch_len, epochs);
            check_length(format!("{to} epochs"), to * epoch_len, position.iteration, &rate(from), &rate(to))?;
            self.epochs = to;
        }
        Ok(())
    }

    /// Parts in which a batch goes through the network.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.accumulation_steps.unwrap_or(1)
    }

    /// With another width of the network; 1 is the study's. Torchvision's networks have one width.
    #[must_use]
    pub fn with_width(mut self, width: f64) -> Self {
        match &mut self.model {
            ClassifierConfig::Cnn(model) => model.width = width,
            ClassifierConfig::Resnet(model) => model.width = width,
            ClassifierConfig::Resnet18(_) | ClassifierConfig::Resnet50(_) => {}
        }
        self
    }

    /// Checks the ranges of all settings, and that they go together.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Invalid`] naming the setting, or the model's own error.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "classifier")?;
        self.model.validate()?;
        if self.l2 && matches!(self.optimizer, OptimizerConfig::Adam { .. }) {
            let reason = "Adam has no L2 penalty here: set it to false or use SGD".to_owned();
            return Err(Error::Invalid { field: "classifier.l2", reason });
        }
        if self.parts() > self.batch as u64 {
            let reason = format!("{} parts of a batch of {}: none may be empty", self.parts(), self.batch);
            return Err(Error::Invalid { field: "classifier.accumulation_steps", reason });
        }
        Ok(())
    }
}
