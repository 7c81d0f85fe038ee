//! One update of a classifier.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use cellforge_classify::{Classifier, ClassifierConfig};
use cellforge_data::Batch;
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, Sgd, SgdConfig, gradients, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ClassifierTrainConfig;
use crate::checkpoint::{OPTIMIZER, WEIGHTS};
use crate::classifier_start::ClassifierStart;
use crate::ranks::{Phase, part_rows};
use crate::schedule::LearningRate;
use crate::{Losses, Ranks, Result, Snapshot, Step, losses};

/// The loss of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Mean cross-entropy of the softmax.
    CrossEntropy,
    /// The study's: Keras's binary cross-entropy between the softmax outputs and the one-hot label, as a mean over both.
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

    /// Mean over the images of their loss times the weight of their class; shapes as in [`LossKind::of`], and a weight for each class.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn weighted(&self, logits: &Tensor, targets: &Tensor, weights: &[f32]) -> candle_core::Result<Tensor> {
        // The kernels take means over all rows. So each class is judged with the other rows set to 0, whose loss is a constant.
        let (b, k) = logits.dims2()?;
        let zeros = Tensor::zeros((1, k), DType::F32, logits.device())?;
        let of_zeros = self.of(&zeros, &Tensor::zeros(1, DType::U32, logits.device())?)?.detach();
        let mut sum: Option<Tensor> = None;
        for (class, weight) in weights.iter().enumerate() {
            let is_of_class = targets.eq(class as u32)?.to_dtype(DType::F32)?; // (b)
            let others = is_of_class.affine(-1., 1.)?.mean_all()?;
            let alone = ops::mul(logits, &is_of_class.unsqueeze(1)?.broadcast_as((b, k))?.contiguous()?)?;
            let loss = ops::sub(&self.of(&alone, targets)?, &(others * &of_zeros)?.detach())?;
            let loss = ops::scale(&loss, *weight)?;
            sum = Some(match sum {
                None => loss,
                Some(sum) => ops::add(&sum, &loss)?,
            });
        }
        sum.ok_or_else(|| candle_core::Error::msg("there is no class to weigh"))
    }
}

/// Which optimizer, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate, before the schedule.
        #[serde(default = "OptimizerConfig::sgd_lr")]
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        lr: f64,
        /// Momentum of SGD.
        #[serde(default = "OptimizerConfig::sgd_momentum")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        momentum: f64,
        /// Nesterov momentum, with SGD.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam with beta 0.9 and 0.999 and Keras's epsilon of 1e-7.
    Adam {
        /// Learning rate, before the schedule.
        #[serde(default = "OptimizerConfig::adam_lr")]
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        lr: f64,
    },
}

impl OptimizerConfig {
    fn sgd_lr() -> f64 {
        0.01
    }

    fn sgd_momentum() -> f64 {
        0.9
    }

    fn adam_lr() -> f64 {
        1e-3
    }

    /// The base learning rate.
    pub fn lr(&self) -> f64 {
        match *self {
            OptimizerConfig::Sgd { lr, .. } | OptimizerConfig::Adam { lr } => lr,
        }
    }
}

/// A classifier and its optimizer.
pub struct ClassifierStep {
    classifier: Classifier,
    store: ParamStore,
    optimizer: AnyOptimizer,
    loss: LossKind,
    /// Of the classes, in the loss.
    weights: Option<Vec<f32>>,
    rate: LearningRate,
    /// Parts in which a batch goes through the network.
    parts: usize,
    /// Those that train it together.
    ranks: Ranks,
    device: Device,
    /// Of the steps whose losses nobody asked for yet: loss, number of correct answers, number of images.
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
        let rate = LearningRate::scheduled(config.optimizer.lr(), config.schedule, epoch_len, config.epochs);
        Ok(Self {
            classifier,
            store,
            optimizer,
            loss: config.loss,
            weights: None,
            rate,
            parts: config.parts() as usize,
            ranks: Ranks::alone(),
            device: device.clone(),
            unread: Vec::new(),
        })
    }

    /// The same with a weight for each class in the loss ([`class_weights`](crate::class_weights)); none for images that count alike.
    #[must_use]
    pub fn weighted(self, weights: Option<Vec<f32>>) -> Self {
        Self { weights, ..self }
    }

    /// The same on one of several ranks. Its batches are then the images of its own parts. Where it has none, `images` and `labels` are of any
    /// image, and `indices` are empty: it does not count.
    #[must_use]
    pub fn over(self, ranks: Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Gives the network the weights to start from.
    pub(crate) fn start_from(
        &self,
        start: &ClassifierStart,
        model: &ClassifierConfig,
        classes: &[String],
    ) -> Result<()> {
        start.give(&self.store, model, classes)
    }

    /// The classifier as it stands.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The loss it minimises, but for weights of classes.
    pub fn loss(&self) -> LossKind {
        self.loss
    }

    /// The mean loss of some images, and how many of them are recognised.
    fn losses_of(&self, images: &Tensor, labels: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let logits = self.classifier.forward_t(images, true)?; // (b, classes)
        let correct = correct_answers(&logits, labels)?;
        let loss = match &self.weights {
            Some(weights) => self.loss.weighted(&logits, labels, weights)?,
            None => self.loss.of(&logits, labels)?,
        };
        Ok((loss, correct))
    }

    /// An update by the parts of a batch one after the other, each of which counts by its images. `batch` holds those of this rank.
    fn update_by_parts(&mut self, batch: &Batch) -> Result<()> {
        let own = self.ranks.parts(self.parts);
        let all = self.ranks.count(batch.indices.len())?;
        let rows = part_rows(all, self.parts);
        let first = rows(own.start).start;
        let mut phase = Phase::new(&self.ranks, self.store.trainable());
        let (mut scalars, mut counted) = (Vec::new(), 0);
        for part in own.map(rows).filter(|part| !part.is_empty()) {
            let narrow = |xs: &Tensor| xs.narrow(0, part.start - first, part.len())?.contiguous();
            let (images, labels) = (narrow(&batch.images)?, narrow(&batch.labels)?);
            let mut correct = None;
            let of_part = || -> candle_core::Result<Tensor> {
                let (loss, recognised) = self.losses_of(&images, &labels)?;
                correct = Some(recognised);
                ops::scale(&loss, part.len() as f32 / all as f32)
            };
            let (loss, grads) = phase.run(|| gradients(of_part))?;
            scalars.extend(correct.map(|correct| [loss.detach(), correct]));
            phase.add(grads)?;
            counted += part.len();
        }
        if counted == 0 {
            let (_, grads) = phase.run(|| gradients(|| Ok(self.losses_of(&batch.images, &batch.labels)?.0)))?;
            phase.stand_in(grads);
        }
        let scalars = if self.ranks.is_alone() {
            let grads = phase.finish(&[], &self.device)?.0;
            grads.iter().try_for_each(|grads| self.optimizer.step(grads))?;
            scalars
        } else {
            let read = |pair: &[Tensor; 2]| Ok([pair[0].to_scalar::<f32>()?, pair[1].to_scalar::<f32>()?]);
            let own: Vec<[f32; 2]> = scalars.iter().map(read).collect::<candle_core::Result<_>>()?;
            let (grads, scalars) = phase.finish(&own.concat(), &self.device)?;
            grads.iter().try_for_each(|grads| self.optimizer.step(grads))?;
            let pair = |pair: &[f32]| Ok([Tensor::new(pair[0], &Device::Cpu)?, Tensor::new(pair[1], &Device::Cpu)?]);
            scalars.concat().chunks_exact(2).map(pair).collect::<candle_core::Result<_>>()?
        };
        let mut parts = scalars.into_iter();
        let Some([mut loss, mut correct]) = parts.next() else { return Ok(()) };
        for [of_part, recognised] in parts {
            (loss, correct) = ((loss + of_part)?, (correct + recognised)?);
        }
        self.unread.push((loss, correct, all));
        Ok(())
    }
}

impl Step for ClassifierStep {
    /// Images in [0, 1] and their labels.
    type Batch = Batch;

    /// Reports the loss without the L2 penalty, which goes straight into the gradient, and the accuracy, both of the
    /// batch before the update.
    fn update(&mut self, batch: &Batch, iteration: u64) -> Result<()> {
        self.optimizer.set_learning_rate(self.rate.at(iteration));
        if self.parts > 1 {
            return self.update_by_parts(batch);
        }
        let mut correct = None;
        let (loss, grads) = gradients(|| {
            let (loss, recognised) = self.losses_of(&batch.images, &batch.labels)?;
            correct = Some(recognised);
            Ok(loss)
        })?;
        self.optimizer.step(&grads)?;
        self.unread.extend(correct.map(|correct| (loss.detach(), correct, batch.indices.len())));
        Ok(())
    }

    fn losses(&mut self) -> Result<Vec<Losses>> {
        if self.unread.is_empty() {
            return Ok(Vec::new());
        }
        let scalars: Vec<&Tensor> = self.unread.iter().flat_map(|(loss, correct, _)| [loss, correct]).collect();
        let values = Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?;
        let named = |((_, _, images), pair): ((Tensor, Tensor, usize), &[f32])| {
            vec![(losses::LOSS, pair[0]), (losses::ACCURACY, pair[1] / images as f32)]
        };
        Ok(self.unread.drain(..).zip(values.chunks_exact(2)).map(named).collect())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::new([(WEIGHTS, self.store.tensors()), (OPTIMIZER, self.optimizer.state()?)]))
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.unread.clear();
        self.store.set(snapshot.file(WEIGHTS)?)?;
        Ok(self.optimizer.set_state(snapshot.file(OPTIMIZER)?)?)
    }
}

/// How many rows of `logits` (b, classes) have their largest value at the target.
pub(crate) fn count_correct(logits: &Tensor, targets: &Tensor) -> candle_core::Result<f32> {
    correct_answers(logits, targets)?.to_scalar()
}

/// As [`count_correct`], a scalar that is not read yet.
fn correct_answers(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    logits.detach().argmax(D::Minus1)?.eq(targets)?.to_dtype(DType::F32)?.sum_all()
}
