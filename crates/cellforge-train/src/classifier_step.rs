//! One update of a classifier.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use cellforge_classify::Classifier;
use cellforge_data::Batch;
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, Sgd, SgdConfig, gradients, ops};
use serde::{Deserialize, Serialize};

use crate::classifier::ClassifierTrainConfig;
use crate::{Losses, Result, Schedule, Snapshot, Step};

/// What a classifier minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Mean cross-entropy of the softmax.
    CrossEntropy,
    /// The study's: Keras's binary cross-entropy between the softmax outputs and the one-hot label, mean over both.
    SoftmaxBce,
}

impl LossKind {
    /// Mean loss of `logits` (b, classes) against `targets` (b), class indices as u32.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn of(&self, logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            LossKind::CrossEntropy => ops::cross_entropy(logits, targets),
            LossKind::SoftmaxBce => ops::softmax_bce(logits, targets),
        }
    }
}

/// Which optimiser, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Base learning rate; see [`Schedule`].
        lr: f64,
        /// Share of the last update that is kept.
        momentum: f64,
        /// Whether momentum looks ahead (Nesterov).
        nesterov: bool,
    },
    /// Adam with beta 0.9 and 0.999 and Keras's epsilon of 1e-7.
    Adam {
        /// Base learning rate; see [`Schedule`].
        lr: f64,
    },
}

impl OptimizerConfig {
    /// The base learning rate.
    pub fn lr(&self) -> f64 {
        match *self {
            OptimizerConfig::Sgd { lr, .. } | OptimizerConfig::Adam { lr } => lr,
        }
    }
}

/// A classifier and its optimiser.
pub struct ClassifierStep {
    classifier: Classifier,
    store: ParamStore,
    optimizer: AnyOptimizer,
    loss: LossKind,
    schedule: Schedule,
    lr: f64,
    epochs: u64,
    epoch_len: u64,
    /// Of the steps whose losses nobody asked for yet: loss, number of right answers, number of images.
    unread: Vec<(Tensor, Tensor, usize)>,
}

impl ClassifierStep {
    /// A fresh network, initialised from the configuration's seed. `epoch_len` is the number of batches in an epoch.
    ///
    /// # Errors
    /// Those of the network's construction.
    pub fn new(config: &ClassifierTrainConfig, epoch_len: u64, device: &Device) -> Result<Self> {
        let store = ParamStore::new(Key::new(config.seed).with("classifier"), device);
        let classifier = Classifier::new(&config.model, store.vb())?;
        let optimizer = match config.optimizer {
            OptimizerConfig::Sgd { lr, momentum, nesterov } => {
                let l2 = if config.l2 { config.model.keras_l2() } else { BTreeMap::new() };
                AnyOptimizer::Sgd(Sgd::named(store.trainable(), SgdConfig { lr, momentum, nesterov }, l2)?)
            }
            OptimizerConfig::Adam { lr } => {
                let settings = AdamConfig { lr, beta1: 0.9, beta2: 0.999, eps: 1e-7 };
                AnyOptimizer::Adam(Adam::named(store.trainable(), settings)?)
            }
        };
        let (loss, schedule, lr, epochs) = (config.loss, config.schedule, config.optimizer.lr(), config.epochs);
        Ok(Self { classifier, store, optimizer, loss, schedule, lr, epochs, epoch_len, unread: Vec::new() })
    }

    /// The classifier as it stands.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The loss it minimises.
    pub fn loss(&self) -> LossKind {
        self.loss
    }
}

impl Step for ClassifierStep {
    /// Images in [0, 1] and their labels.
    type Batch = Batch;

    /// Reports the loss without the L2 penalty, which goes straight into the gradient, and the accuracy, both of the
    /// batch before the update.
    fn update(&mut self, batch: &Batch, iteration: u64) -> Result<()> {
        self.optimizer.set_learning_rate(self.schedule.rate(self.lr, iteration, self.epoch_len, self.epochs));
        let mut right = None;
        let (loss, grads) = gradients(|| {
            let logits = self.classifier.forward_t(&batch.images, true)?; // (b, classes)
            right = Some(right_of(&logits, &batch.labels)?);
            self.loss.of(&logits, &batch.labels)
        })?;
        self.optimizer.step(&grads)?;
        self.unread.extend(right.map(|right| (loss.detach(), right, batch.indices.len())));
        Ok(())
    }

    fn losses(&mut self) -> Result<Vec<Losses>> {
        if self.unread.is_empty() {
            return Ok(Vec::new());
        }
        let scalars: Vec<&Tensor> = self.unread.iter().flat_map(|(loss, right, _)| [loss, right]).collect();
        let values = Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?;
        let told = |((_, _, images), pair): ((Tensor, Tensor, usize), &[f32])| {
            vec![("loss", pair[0]), ("accuracy", pair[1] / images as f32)]
        };
        Ok(self.unread.drain(..).zip(values.chunks_exact(2)).map(told).collect())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            files: BTreeMap::from([
                ("weights".to_owned(), self.store.tensors()),
                ("optimiser".to_owned(), self.optimizer.state()?),
            ]),
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.unread.clear();
        self.store.set(snapshot.file("weights")?)?;
        Ok(self.optimizer.set_state(snapshot.file("optimiser")?)?)
    }
}

/// How many rows of `logits` (b, classes) have their largest value at the target.
pub(crate) fn count_right(logits: &Tensor, targets: &Tensor) -> candle_core::Result<f32> {
    right_of(logits, targets)?.to_scalar()
}

/// As [`count_right`], a scalar that is not read yet.
fn right_of(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    logits.detach().argmax(D::Minus1)?.eq(targets)?.to_dtype(DType::F32)?.sum_all()
}
