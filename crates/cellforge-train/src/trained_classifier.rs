//! Classifiers that were trained.

use std::path::Path;

use candle_core::Device;
use cellforge_classify::Classifier;
use cellforge_data::{ImageSize, View};
use cellforge_nn::{ParamStore, Precision};

use crate::checkpoint::Checkpoint;
use crate::classifier::KIND;
use crate::features::features;
use crate::loaders::loaders;
use crate::predict::{self, Score};
use crate::{ClassifierState, FeatureMatrix, LossKind, Result, Seen};

/// A classifier that was trained. Its network takes no gradients, so that running it keeps nothing for them.
#[derive(Debug, Clone)]
pub struct TrainedClassifier {
    network: Classifier,
    state: ClassifierState,
    device: Device,
}

loaders!(TrainedClassifier, "a classifier, from a checkpoint's folder, or from a run's folder: its best checkpoint");

impl TrainedClassifier {
    fn open(path: &Path, device: &Device, precision: Option<Precision>) -> Result<Self> {
        let (_, state, weights): (_, ClassifierState, _) = Checkpoint::load(path, KIND, device)?;
        let model = state.config.model.clone();
        let precision = precision.unwrap_or(model.precision());
        let network = ParamStore::built(weights, device, |vb| Classifier::new(&model.in_precision(precision), vb))?;
        Ok(Self { network, state, device: device.clone() })
    }

    /// One that was trained in memory.
    pub(crate) fn new(network: Classifier, state: ClassifierState, device: &Device) -> Self {
        Self { network, state, device: device.clone() }
    }

    /// Probabilities of the classes for the images, in their order: a row an image, a number a class. They are the softmax of the logits, which
    /// are divided by the [`temperature`](Self::temperature) where the checkpoint has one.
    ///
    /// # Errors
    /// If the images' size or channels are not the classifier's.
    pub fn predict(&self, images: &View) -> Result<Vec<Vec<f32>>> {
        predict::predict(&self.network, images, self.state.temperature.unwrap_or(1.0), &self.device)
    }

    /// The temperature that was fitted on the validation images when the checkpoint was written; none where there were fewer than 30 of
    /// these, where none was best, and in checkpoints of earlier versions.
    #[must_use]
    pub fn temperature(&self) -> Option<f64> {
        self.state.temperature.map(f64::from)
    }

    /// What the classifier's last layer judges the images by, in their order: see [`Classifier::features`]. Equal images have equal features,
    /// to the last digit, whatever stands beside them. For images that are turned or flipped, see [`oriented`](crate::oriented).
    ///
    /// # Errors
    /// If there are no images, or their size or channels are not the classifier's.
    pub fn features(&self, images: &View) -> Result<FeatureMatrix> {
        features(&self.network, images, &self.device)
    }

    /// Mean loss and accuracy over the images, by their labels; not a number where there are no images.
    ///
    /// # Errors
    /// If the images' size or channels are not the classifier's.
    pub fn evaluate(&self, images: &View, loss: LossKind) -> Result<Score> {
        Ok(predict::evaluate(&self.network, images, loss, &self.device)?.0)
    }

    /// How many of these images it was trained on, and its epoch was chosen by; `None` where its checkpoint does not say, because an earlier
    /// version wrote it. Images are known by their pixels, so they have to be as [`predict`](Self::predict) takes them.
    #[must_use]
    pub fn seen(&self, images: &View) -> Option<Seen> {
        self.state.seen.as_ref().map(|seen| seen.among(images))
    }

    /// The classes it tells apart, in label order.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.state.classes
    }

    /// Everything about it but its tensors: configuration, epochs, fingerprint of the training images.
    #[must_use]
    pub fn state(&self) -> &ClassifierState {
        &self.state
    }

    /// Height and width of the images it takes.
    #[must_use]
    pub fn image_size(&self) -> ImageSize {
        self.state.config.model.image_size()
    }

    /// Channels of the images it takes: 1 for grey, 3 for RGB.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.state.config.model.channels()
    }

    /// The network itself.
    #[must_use]
    pub fn network(&self) -> &Classifier {
        &self.network
    }
}
