//! One iteration of GAN training: what its two strategies share. [`separate`] and [`joint`] read like the algorithm.

mod adaptive_augment;
mod ema;
mod joint;
mod separate;
mod tally;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use cellforge_data::Batch;
use cellforge_gan::{AugmentConfig, Discriminator, Generator};
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, ops};

use crate::GanTrainConfig;
use crate::checkpoint::{DISCRIMINATOR, OPTIMIZER, TRAINED, WEIGHTS};
use crate::gan_start::Start;
use crate::ranks::Phase;
use crate::schedule::LearningRate;
use crate::{Dihedral, Losses, Ranks, Result, Snapshot, Step};
use adaptive_augment::AdaptiveAugment;
use ema::Ema;
use tally::Tally;

/// Keras's epsilon, as in the study; PyTorch's default is 1e-8.
const ADAM_EPS: f64 = 1e-7;

/// Generator, discriminator and their optimizers.
pub struct GanStep {
    generator: Generator,
    discriminator: Discriminator,
    /// The same discriminator for the generator's update, which needs no gradient of its parameters.
    frozen: Discriminator,
    generator_store: ParamStore,
    discriminator_store: ParamStore,
    generator_optimizer: AnyOptimizer,
    discriminator_optimizer: AnyOptimizer,
    generator_rate: LearningRate,
    discriminator_rate: LearningRate,
    ema: Option<Ema>,
    augment: AdaptiveAugment,
    /// Whether real images are shown in all orientations.
    dihedral: bool,
    /// Of the iterations whose losses were not read yet.
    unread: Vec<Tally>,
    /// Losses that were read and that nobody asked for yet.
    read: Vec<Losses>,
    config: GanTrainConfig,
    key: Key,
    device: Device,
    /// Those that train it together.
    ranks: Ranks,
}

/// Whose pass through the discriminator it is. Each has randomness of its own.
#[derive(Debug, Clone, Copy)]
enum Pass {
    /// The discriminator's, of real images.
    Real,
    /// The discriminator's, of generated images.
    Fake,
    /// The generator's.
    Generator,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Fake => "fake",
            Self::Generator => "generator",
        }
    }
}

/// An update of one of the networks, under way.
struct Update {
    phase: Phase,
    /// Passes through the discriminator in training mode that each part takes.
    passes: usize,
    /// Entries of the tally before it.
    tallied: usize,
}

/// The real images of one part of a batch, and the noise and classes of the generated ones.
struct Part {
    /// Real images as the discriminator is shown them, (b, c, h, w) in [-1, 1].
    augmented: Tensor,
    /// Noise, (b, latent).
    z: Tensor,
    /// For a GAN of several classes, a row of zeros and a one for each image, (b, classes).
    classes: Option<Tensor>,
    /// Its number among the parts.
    number: u64,
}

impl GanStep {
    /// Fresh networks, initialised from the configuration's seed and class.
    ///
    /// # Errors
    /// Those of the networks' construction.
    pub fn new(config: &GanTrainConfig, device: &Device) -> Result<Self> {
        let key = config.key();
        let generator_store = ParamStore::new(key.with("generator"), device);
        let generator = Generator::new(&config.model, generator_store.vb())?;
        let discriminator_store = ParamStore::new(key.with("discriminator"), device);
        let frozen = config.frozen();
        let is_frozen = move |name: &str| frozen.iter().any(|path| name.starts_with(path));
        let discriminator = Discriminator::new(&config.model, discriminator_store.vb_frozen_at(is_frozen.clone()))?;
        let frozen = Discriminator::new(&config.model, discriminator_store.frozen_vb())?;
        let (lr, discriminator_lr) = (config.lr, config.discriminator_lr.unwrap_or(config.lr));
        let adam = |trained: Vec<(String, Var)>, lr: f64| -> Result<AnyOptimizer> {
            let settings = AdamConfig { lr, beta1: config.beta1, beta2: config.beta2, eps: ADAM_EPS };
            Ok(AnyOptimizer::Adam(Adam::named(trained, settings)?))
        };
        let mut moving = discriminator_store.trainable();
        moving.retain(|(name, _)| !is_frozen(name));
        let rate = |lr: f64| LearningRate::decaying(lr, config.lr_decay, config.iterations);
        let ema = if config.ema_decay > 0.0 {
            Some(Ema::new(&config.model, config.ema_decay, key.with("generator"), device)?)
        } else {
            None
        };
        Ok(Self {
            generator_optimizer: adam(generator_store.trainable(), lr)?,
            discriminator_optimizer: adam(moving, discriminator_lr)?,
            generator_rate: rate(lr),
            discriminator_rate: rate(discriminator_lr),
            generator,
            discriminator,
            frozen,
            generator_store,
            discriminator_store,
            ema,
            augment: AdaptiveAugment::new(&config.augment),
            dihedral: config.dihedral == Dihedral::On,
            unread: Vec::new(),
            read: Vec::new(),
            config: config.clone(),
            key,
            device: device.clone(),
            ranks: Ranks::alone(),
        })
    }

    /// The same on one of several ranks. Its batches are then the images of its own parts.
    #[must_use]
    pub fn over(self, ranks: Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Fresh networks that are trained as these are.
    pub(crate) fn anew(&self, config: &GanTrainConfig, device: &Device) -> Result<Self> {
        Ok(Self { dihedral: self.dihedral, ranks: self.ranks.clone(), ..Self::new(config, device)? })
    }

    /// The generator as it stands: its average, where there is one.
    pub fn generator(&self) -> &Generator {
        self.ema.as_ref().map_or(&self.generator, |ema| &ema.generator)
    }

    /// Shows real images in all orientations from the next step on, or as they lie, whatever the configuration says.
    pub(crate) fn set_dihedral(&mut self, on: bool) {
        self.dihedral = on;
    }

    /// Starts from trained networks, as far as they fit. `classes` are those of the images.
    pub(crate) fn start_from(&mut self, start: &Start, classes: &[String]) -> Result<()> {
        start.generator(&self.generator_store, self.ema.as_ref().map(|ema| &ema.store), classes)?;
        start.discriminator(&self.discriminator_store, &self.config, classes)
    }

    /// Multiplies both learning rates of the configuration by `factor`, from the next step on.
    pub fn scale_rates(&mut self, factor: f64) {
        self.generator_rate.set_factor(factor);
        self.discriminator_rate.set_factor(factor);
    }

    /// Each pass of an iteration has randomness of its own, and so has each part of a batch.
    fn random(&self, kind: &str, iteration: u64, pass: Pass, part: u64) -> Key {
        let key = self.key.with(kind).at(iteration).with(pass.name());
        if self.config.accumulation_steps == 1 { key } else { key.at(part) }
    }

    /// The images as the discriminator is shown them.
    fn augmented(&self, images: &Tensor, iteration: u64, pass: Pass, part: u64) -> candle_core::Result<Tensor> {
        self.augment.apply(images, &self.random("augment", iteration, pass, part))
    }

    /// Which parts of a batch are this rank's.
    fn own_parts(&self) -> Range<usize> {
        self.ranks.parts(self.config.accumulation_steps as usize)
    }

    /// Begins an update of the network in `store`, for which each part goes `passes` times through the discriminator in training mode. Over
    /// ranks, spectral normalisation first takes the steps of the parts before this rank's: they depend on the weights alone.
    fn begin(&self, store: &ParamStore, passes: usize, tally: &Tally) -> Result<Update> {
        if !self.ranks.is_alone() {
            self.frozen.power_iteration(passes * self.own_parts().start)?;
        }
        Ok(Update { phase: Phase::new(&self.ranks, store.trainable()), passes, tallied: tally.scalars.len() })
    }

    /// The gradients of all parts; the tally gets the scalars of all ranks, and spectral normalisation takes the steps of the parts after this
    /// rank's.
    fn finish(&self, update: Update, tally: &mut Tally) -> Result<Option<GradStore>> {
        let Update { phase, passes, tallied } = update;
        if self.ranks.is_alone() {
            return Ok(phase.finish(&[], &self.device)?.0);
        }
        self.frozen.power_iteration(passes * (self.config.accumulation_steps as usize - self.own_parts().end))?;
        let (grads, scalars) = phase.finish(&tally.read_from(tallied)?, &self.device)?;
        tally.put_of_ranks(tallied, &scalars)?;
        Ok(grads)
    }

    /// This rank's parts of a batch, of which it has the images, and noise for as many generated images.
    fn parts(&self, batch: &Batch, iteration: u64) -> Result<Vec<Part>> {
        let (own, of) = (self.own_parts(), self.config.model.classes);
        let b = batch.images.dim(0)? * self.ranks.size();
        let z = self.key.with("z").at(iteration).normal((b, self.config.model.latent), &self.device)?;
        let classes = if of > 1 { Some(one_hot_on_device(&batch.labels, of)?) } else { None };
        let size = b / self.config.accumulation_steps as usize;
        own.clone()
            .map(|at| {
                let number = at as u64;
                let part = |xs: &Tensor| xs.narrow(0, (at - own.start) * size, size)?.contiguous();
                let z = z.narrow(0, at * size, size)?.contiguous()?;
                let reals = if own.len() == 1 { batch.images.clone() } else { part(&batch.images)? };
                let reals = if self.dihedral {
                    let flips = AugmentConfig { flips: true, ..AugmentConfig::default() };
                    flips.apply(&reals, 1.0, &self.random("orientation", iteration, Pass::Real, number))?
                } else {
                    reals
                };
                let augmented = self.augmented(&reals, iteration, Pass::Real, number)?;
                Ok(Part { augmented, z, classes: classes.as_ref().map(part).transpose()?, number })
            })
            .collect()
    }

    /// The loss of a part of the batch, as its share of the mean over the parts.
    fn share(&self, loss: Tensor) -> candle_core::Result<Tensor> {
        match self.config.accumulation_steps {
            1 => Ok(loss),
            parts => ops::scale(&loss, 1.0 / parts as f32),
        }
    }

    /// The generator's loss of its `images`, through the discriminator in training mode, as in the study: its running statistics move, its
    /// parameters do not. `reals` are the discriminator's logits of real images, which the relativistic loss compares with.
    fn generator_loss(
        &self,
        images: &Tensor,
        reals: Option<&Tensor>,
        part: &Part,
        iteration: u64,
    ) -> candle_core::Result<Tensor> {
        let augmented = self.augmented(images, iteration, Pass::Generator, part.number)?;
        let dropout = self.random("dropout", iteration, Pass::Generator, part.number);
        let logits = self.frozen.forward_class_t(&augmented, part.classes.as_ref(), true, &dropout)?; // (b, 1)
        self.share(self.config.loss.generator(&logits, reals)?)
    }

    fn update_discriminator(&mut self, grads: Option<GradStore>) -> Result<()> {
        match grads {
            Some(grads) => Ok(self.discriminator_optimizer.step(&grads)?),
            None => Ok(()),
        }
    }

    fn update_generator(&mut self, grads: Option<GradStore>) -> Result<()> {
        match grads {
            Some(grads) => Ok(self.generator_optimizer.step(&grads)?),
            None => Ok(()),
        }
    }

    /// Reads what was not read yet.
    fn read_losses(&mut self) -> Result<()> {
        let scalars: Vec<&Tensor> = self.unread.iter().flat_map(|tally| &tally.scalars).collect();
        if scalars.is_empty() {
            return Ok(());
        }
        let values = Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?;
        let mut rest = values.as_slice();
        for tally in self.unread.drain(..) {
            let (own, others) = rest.split_at(tally.scalars.len());
            let (losses, correct) = tally.losses(own);
            self.augment.count(correct, tally.images);
            self.read.push(losses);
            rest = others;
        }
        Ok(())
    }
}

/// As [`cellforge_nn::one_hot`], of labels (b) that stay where they are.
fn one_hot_on_device(labels: &Tensor, classes: usize) -> candle_core::Result<Tensor> {
    let every = Tensor::arange(0, classes as u32, labels.device())?.unsqueeze(0)?;
    labels.unsqueeze(1)?.broadcast_eq(&every)?.to_dtype(DType::F32)
}

impl Step for GanStep {
    /// Real images in [-1, 1].
    type Batch = Batch;

    fn update(&mut self, batch: &Batch, iteration: u64) -> Result<()> {
        self.generator_optimizer.set_learning_rate(self.generator_rate.at(iteration));
        self.discriminator_optimizer.set_learning_rate(self.discriminator_rate.at(iteration));
        let parts = self.parts(batch, iteration)?;
        let images = batch.images.dim(0)? * self.ranks.size();
        let mut tally = Tally::new(images, self.augment.adaptive_p());
        if self.config.joint_update {
            self.joint_update(&parts, iteration, &mut tally)?;
        } else {
            self.separate_updates(&parts, iteration, &mut tally)?;
        }
        if let Some(ema) = &self.ema {
            ema.update(&self.generator_store, iteration)?;
        }
        self.unread.push(tally);
        if self.augment.is_due(iteration) {
            self.read_losses()?;
            self.augment.adapt();
        }
        Ok(())
    }

    fn losses(&mut self) -> Result<Vec<Losses>> {
        self.read_losses()?;
        Ok(std::mem::take(&mut self.read))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut optimizers = BTreeMap::new();
        for (prefix, optimizer) in [("g", &self.generator_optimizer), ("d", &self.discriminator_optimizer)] {
            let state = optimizer.state()?;
            optimizers.extend(state.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
        }
        self.augment.save(&mut optimizers)?;
        let mut files = BTreeMap::from([
            (DISCRIMINATOR.to_owned(), self.discriminator_store.tensors()),
            (OPTIMIZER.to_owned(), optimizers),
        ]);
        let trained = self.generator_store.tensors();
        match &self.ema {
            Some(ema) => {
                files.insert(WEIGHTS.to_owned(), ema.store.tensors());
                files.insert(TRAINED.to_owned(), trained);
            }
            None => _ = files.insert(WEIGHTS.to_owned(), trained),
        }
        Ok(Snapshot { files })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        match &self.ema {
            Some(ema) => {
                ema.store.set(snapshot.file(WEIGHTS)?)?;
                self.generator_store.set(snapshot.file(TRAINED)?)?;
            }
            None => self.generator_store.set(snapshot.file(WEIGHTS)?)?,
        }
        self.discriminator_store.set(snapshot.file(DISCRIMINATOR)?)?;
        let optimizers = snapshot.file(OPTIMIZER)?;
        (self.unread, self.read) = (Vec::new(), Vec::new());
        self.augment.restore(optimizers)?;
        for (prefix, optimizer) in [("g.", &mut self.generator_optimizer), ("d.", &mut self.discriminator_optimizer)] {
            let own =
                optimizers.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
            optimizer.set_state(&own.collect())?;
        }
        Ok(())
    }
}
