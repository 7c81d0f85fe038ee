//! One iteration of GAN training.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use cellforge_data::Batch;
use cellforge_gan::loss::GanLoss;
use cellforge_gan::{AugmentConfig, Discriminator, Generator, InputGradient};
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, Recorded, accumulate, gradients, ops, record};

use crate::gan::GanTrainConfig;
use crate::{Losses, Result, Snapshot, Step};

/// Keras's epsilon, as in the study; PyTorch's default is 1e-8.
const ADAM_EPS: f64 = 1e-7;

/// The file of the generator's weights as they are trained, where `weights` holds their average.
const TRAINED: &str = "generator";
/// The name, in the optimiser's file, of the chance of augmentations.
const CHANCE: &str = "augment.chance";
/// And of the real images since the chance last moved: how many the discriminator was right about, and how many there were.
const RIGHT_SINCE: &str = "augment.right";
/// Iterations after which the chance of augmentations moves, as in StyleGAN2-ADA.
const ADAPT_EVERY: u64 = 4;

/// Generator, discriminator and their optimisers.
pub struct GanStep {
    generator: Generator,
    discriminator: Discriminator,
    /// The same discriminator for the generator's update, which needs no gradient of its parameters.
    frozen: Discriminator,
    generator_store: ParamStore,
    discriminator_store: ParamStore,
    generator_optimizer: AnyOptimizer,
    discriminator_optimizer: AnyOptimizer,
    /// The generator whose weights are a moving average.
    averaged: Option<(Generator, ParamStore)>,
    /// The chance of each kind of augmentation.
    chance: f64,
    /// How many real images the discriminator was right about since the chance last moved, and how many there were.
    right_since: [f64; 2],
    /// Of the iterations whose losses were not read yet.
    unread: Vec<Tally>,
    /// Losses that were read and that nobody asked for yet.
    told: Vec<Losses>,
    /// What the configuration's learning rates are multiplied by, apart from their fall.
    scale: f64,
    config: GanTrainConfig,
    key: Key,
    device: Device,
}

/// What the discriminator is shown of the real images of one part of a batch, and the noise and classes of the generated ones.
struct Part {
    shown: Tensor,
    z: Tensor,
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
        let discriminator = Discriminator::new(&config.model, discriminator_store.vb())?;
        let frozen = Discriminator::new(&config.model, discriminator_store.frozen_vb())?;
        let adam = |store: &ParamStore, lr: f64| -> Result<AnyOptimizer> {
            let settings = AdamConfig { lr, beta1: config.beta1, beta2: config.beta2, eps: ADAM_EPS };
            Ok(AnyOptimizer::Adam(Adam::named(store.trainable(), settings)?))
        };
        let averaged = if config.average > 0.0 {
            // The same key: the average starts where the weights do.
            let store = ParamStore::new(key.with("generator"), device);
            Some((Generator::new(&config.model, store.frozen_vb())?, store))
        } else {
            None
        };
        Ok(Self {
            generator_optimizer: adam(&generator_store, config.lr)?,
            discriminator_optimizer: adam(&discriminator_store, config.discriminator_lr.unwrap_or(config.lr))?,
            generator,
            discriminator,
            frozen,
            generator_store,
            discriminator_store,
            averaged,
            chance: if config.augment.target.is_some() { 0.0 } else { config.augment.chance },
            right_since: [0.0; 2],
            unread: Vec::new(),
            told: Vec::new(),
            scale: 1.0,
            config: config.clone(),
            key,
            device: device.clone(),
        })
    }

    /// The generator as it stands: its average, where there is one.
    pub fn generator(&self) -> &Generator {
        self.averaged.as_ref().map_or(&self.generator, |(generator, _)| generator)
    }

    /// Multiplies both learning rates of the configuration by `factor`, from the next step on.
    pub fn scale_rates(&mut self, factor: f64) {
        self.scale = factor;
    }

    fn set_rates(&mut self, iteration: u64) {
        let GanTrainConfig { lr, discriminator_lr, .. } = self.config;
        let factor = self.scale * self.config.rate(iteration);
        self.generator_optimizer.set_learning_rate(lr * factor);
        self.discriminator_optimizer.set_learning_rate(discriminator_lr.unwrap_or(lr) * factor);
    }

    /// Each phase of an iteration has randomness of its own, and so has each part of a batch.
    fn random(&self, kind: &str, iteration: u64, phase: &str, part: u64) -> Key {
        let key = self.key.with(kind).at(iteration).with(phase);
        if self.config.accumulate == 1 { key } else { key.at(part) }
    }

    /// The images as the discriminator is shown them.
    fn shown(&self, images: &Tensor, iteration: u64, phase: &str, part: u64) -> Result<Tensor> {
        let key = self.random("augment", iteration, phase, part);
        Ok(self.config.augment.apply(images, self.chance, &key)?)
    }

    fn parts(&self, batch: &Batch, iteration: u64) -> Result<Vec<Part>> {
        let (parts, of) = (self.config.accumulate, self.config.model.classes);
        let b = batch.images.dim(0)?;
        let z = self.key.with("z").at(iteration).normal((b, self.config.model.latent), &self.device)?;
        let classes = if of > 1 { Some(one_hot_on_device(&batch.labels, of)?) } else { None };
        let size = b / parts as usize;
        (0..parts)
            .map(|number| {
                let part = |xs: &Tensor| xs.narrow(0, number as usize * size, size)?.contiguous();
                let reals = if parts == 1 { batch.images.clone() } else { part(&batch.images)? };
                let reals = if self.config.any_orientation {
                    let flips = AugmentConfig { flips: true, ..AugmentConfig::default() };
                    flips.apply(&reals, 1.0, &self.random("orientation", iteration, "real", number))?
                } else {
                    reals
                };
                let shown = self.shown(&reals, iteration, "real", number)?;
                Ok(Part { shown, z: part(&z)?, classes: classes.as_ref().map(part).transpose()?, number })
            })
            .collect()
    }

    /// A loss, averaged over the parts of the batch in the end.
    fn share(&self, loss: Tensor) -> candle_core::Result<Tensor> {
        match self.config.accumulate {
            1 => Ok(loss),
            parts => ops::scale(&loss, 1.0 / parts as f32),
        }
    }

    /// As in the study: reals and fakes are separate updates, so that batch-norm never mixes their statistics.
    fn separate_updates(&mut self, parts: &[Part], iteration: u64, tally: &mut Tally) -> Result<()> {
        let generated = parts
            .iter()
            .map(|part| Ok(self.generator.forward_class_t(&part.z, part.classes.as_ref(), false)?.detach()));
        let fakes: Vec<Tensor> = generated.collect::<Result<_>>()?;
        for phase in ["real", "fake"] {
            let mut total = None;
            for (part, fakes) in parts.iter().zip(&fakes) {
                let images = match phase {
                    "real" => part.shown.clone(),
                    _ => self.shown(fakes, iteration, "fake", part.number)?,
                };
                let dropout = self.random("dropout", iteration, phase, part.number);
                let (loss, grads) = gradients(|| {
                    let scores = self.discriminator.forward_class_t(&images, part.classes.as_ref(), true, &dropout)?;
                    tally.count(&scores, phase == "real")?;
                    let loss = match phase {
                        "real" => self.config.loss.on_reals(&scores, self.config.label_smoothing as f32)?,
                        _ => self.config.loss.on_fakes(&scores)?,
                    };
                    self.share(loss)
                })?;
                tally.add(if phase == "real" { "d_real" } else { "d_fake" }, &loss);
                accumulate(&mut total, grads, &self.discriminator_store.trainable())?;
            }
            self.update_discriminator(total)?;
        }
        Ok(())
    }

    /// One update by real and generated images, with the penalties where they are due. Returns what the generator did for each part:
    /// its own update goes back through the same images.
    fn joint_update(&mut self, parts: &[Part], iteration: u64, tally: &mut Tally) -> Result<Vec<Recorded>> {
        let GanTrainConfig { r1, r2, penalty_every, label_smoothing, .. } = self.config;
        let due = iteration.is_multiple_of(penalty_every);
        let (mut total, mut generated) = (None, Vec::new());
        for part in parts {
            let classes = part.classes.as_ref();
            let images = record(|| self.generator.forward_class_t(&part.z, classes, true))?;
            let fakes = self.shown(&images.result(), iteration, "fake", part.number)?;
            generated.push(images);
            let penalised =
                [("r1", r1, &part.shown), ("r2", r2, &fakes)].into_iter().filter(|(_, r, _)| due && *r > 0.0);
            let penalised: Vec<_> = penalised
                .map(|(name, weight, images)| Ok((name, weight, self.frozen.input_gradient(images, classes)?)))
                .collect::<Result<_>>()?;
            let (_, grads) = gradients(|| {
                let dropout = |phase| self.random("dropout", iteration, phase, part.number);
                let discriminator = &self.discriminator;
                // Before spectral normalisation takes a step: a gradient is of the weights it was taken at.
                let penalty = |(name, weight, gradient): &(&'static str, f64, InputGradient)| {
                    let squared = discriminator.gradient_penalty(gradient, classes)?;
                    Ok((*name, self.share(ops::scale(&squared, *weight as f32 / 2.)?)?))
                };
                let penalties: Vec<_> = penalised.iter().map(penalty).collect::<candle_core::Result<_>>()?;
                let reals = discriminator.forward_class_t(&part.shown, classes, true, &dropout("real"))?;
                let fakes = discriminator.forward_class_t(&fakes, classes, true, &dropout("fake"))?;
                tally.count(&reals, true)?;
                tally.count(&fakes, false)?;
                let mut loss = match self.config.loss {
                    GanLoss::Relativistic => {
                        let loss = self.share(self.config.loss.discriminator(&reals, &fakes, 0.0)?)?;
                        tally.add("d", &loss);
                        loss
                    }
                    other => {
                        let reals = self.share(other.on_reals(&reals, label_smoothing as f32)?)?;
                        let fakes = self.share(other.on_fakes(&fakes)?)?;
                        tally.add("d_real", &reals);
                        tally.add("d_fake", &fakes);
                        ops::add(&reals, &fakes)?
                    }
                };
                for (name, penalty) in &penalties {
                    tally.add(name, penalty);
                    loss = ops::add(&loss, &ops::scale(penalty, penalty_every as f32)?)?;
                }
                Ok(loss)
            })?;
            accumulate(&mut total, grads, &self.discriminator_store.trainable())?;
        }
        self.update_discriminator(total)?;
        Ok(generated)
    }

    fn update_discriminator(&mut self, total: Option<GradStore>) -> Result<()> {
        match total {
            Some(grads) => Ok(self.discriminator_optimizer.step(&grads)?),
            None => Ok(()),
        }
    }

    /// Through the discriminator in training mode, as in the study: its running statistics move, its parameters do not.
    ///
    /// `generated` is what the generator has made for each part already, in training mode and with its present weights, if it has.
    fn generator_update(
        &mut self,
        parts: &[Part],
        generated: Vec<Recorded>,
        iteration: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut total = None;
        let mut generated = generated.into_iter();
        for part in parts {
            let classes = part.classes.as_ref();
            let dropout = self.random("dropout", iteration, "generator", part.number);
            // Constants, but for the relativistic loss.
            let reals = match self.config.loss {
                GanLoss::Relativistic => Some(self.frozen.forward_class_t(&part.shown, classes, true, &dropout)?),
                _ => None,
            };
            let judge = |images: &Tensor| {
                let key = self.random("augment", iteration, "generator", part.number);
                let shown = self.config.augment.apply(images, self.chance, &key)?;
                let scores = self.frozen.forward_class_t(&shown, classes, true, &dropout)?;
                self.share(self.config.loss.generator(&scores, reals.as_ref())?)
            };
            let (loss, grads) = match generated.next() {
                None => gradients(|| judge(&self.generator.forward_class_t(&part.z, classes, true)?))?,
                Some(recorded) => {
                    let images = Var::from_tensor(&recorded.result().contiguous()?)?;
                    let (loss, by_images) = gradients(|| judge(&images))?;
                    let missing = || candle_core::Error::msg("the generator's loss does not depend on its images");
                    (loss, recorded.gradients(by_images.get(&images).ok_or_else(missing)?)?)
                }
            };
            tally.add("g", &loss);
            accumulate(&mut total, grads, &self.generator_store.trainable())?;
        }
        if let Some(grads) = total {
            self.generator_optimizer.step(&grads)?;
        }
        if let Some((_, store)) = &self.averaged {
            let n = iteration as f64;
            store.ema_update(&self.generator_store, self.config.average.min((1.0 + n) / (10.0 + n)))?;
        }
        Ok(())
    }

    /// Reads what was not read yet.
    fn read(&mut self) -> Result<()> {
        let scalars: Vec<&Tensor> = self.unread.iter().flat_map(|tally| &tally.scalars).collect();
        if scalars.is_empty() {
            return Ok(());
        }
        let values = Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?;
        let mut rest = values.as_slice();
        for tally in self.unread.drain(..) {
            let (own, others) = rest.split_at(tally.scalars.len());
            let (losses, right) = tally.told(own);
            self.right_since[0] += f64::from(right);
            self.right_since[1] += tally.images as f64;
            self.told.push(losses);
            rest = others;
        }
        Ok(())
    }

    /// Moves the chance of augmentations towards where the discriminator's answers on real images have the wanted mean sign.
    fn adapt(&mut self, target: f64) -> Result<()> {
        self.read()?;
        let ([right, images], augment) = (std::mem::take(&mut self.right_since), &self.config.augment);
        let change = (2.0 * right / images - 1.0 - target).signum() * images / augment.rise as f64;
        self.chance = (self.chance + change).clamp(0.0, augment.chance);
        Ok(())
    }
}

/// As [`cellforge_nn::one_hot`], of labels (b) that stay where they are.
fn one_hot_on_device(labels: &Tensor, classes: usize) -> candle_core::Result<Tensor> {
    let every = Tensor::arange(0, classes as u32, labels.device())?.unsqueeze(0)?;
    labels.unsqueeze(1)?.broadcast_eq(&every)?.to_dtype(DType::F32)
}

/// What is reported of an iteration. Scalars are kept as they are, to be read together later: reading one holds up a GPU until it has
/// been computed.
#[derive(Default)]
struct Tally {
    /// Real images, which are as many as the generated ones.
    images: usize,
    /// The chance of each kind of augmentation.
    chance: Option<f64>,
    names: Vec<&'static str>,
    scalars: Vec<Tensor>,
}

const RIGHT: [&str; 2] = ["right about generated", "right about real"];

impl Tally {
    /// Adds to the loss of this name.
    fn add(&mut self, name: &'static str, value: &Tensor) {
        self.names.push(name);
        self.scalars.push(value.detach());
    }

    /// Counts the logits of images, real or generated, on the right side of zero.
    fn count(&mut self, logits: &Tensor, real: bool) -> candle_core::Result<()> {
        let logits = logits.detach();
        let right = if real { logits.gt(0f32)? } else { logits.le(0f32)? };
        self.add(RIGHT[usize::from(real)], &right.to_dtype(DType::F32)?.sum_all()?);
        Ok(())
    }

    /// The losses, of these values of the scalars, and how many real images the discriminator was right about.
    fn told(&self, values: &[f32]) -> (Losses, f32) {
        let (mut losses, mut right) = (Losses::new(), [0.0; 2]);
        for (name, value) in self.names.iter().zip(values) {
            if let Some(real) = RIGHT.iter().position(|right| right == name) {
                right[real] += value;
                continue;
            }
            match losses.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += value,
                None => losses.push((*name, *value)),
            }
        }
        losses.push(("d_accuracy", (right[1] + right[0]) / (2.0 * self.images as f32)));
        losses.extend(self.chance.map(|chance| ("augment", chance as f32)));
        (losses, right[1])
    }
}

impl Step for GanStep {
    /// Real images in [-1, 1].
    type Batch = Batch;

    fn update(&mut self, batch: &Batch, iteration: u64) -> Result<()> {
        self.set_rates(iteration);
        let parts = self.parts(batch, iteration)?;
        let target = self.config.augment.target;
        let mut tally = Tally { images: batch.images.dim(0)?, chance: target.map(|_| self.chance), ..Tally::default() };
        let generated = if self.config.joint {
            self.joint_update(&parts, iteration, &mut tally)?
        } else {
            self.separate_updates(&parts, iteration, &mut tally)?;
            Vec::new()
        };
        self.generator_update(&parts, generated, iteration, &mut tally)?;
        self.unread.push(tally);
        match target {
            Some(target) if iteration.is_multiple_of(ADAPT_EVERY) => self.adapt(target),
            _ => Ok(()),
        }
    }

    fn losses(&mut self) -> Result<Vec<Losses>> {
        self.read()?;
        Ok(std::mem::take(&mut self.told))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut optimiser = BTreeMap::new();
        for (prefix, optimizer) in [("g", &self.generator_optimizer), ("d", &self.discriminator_optimizer)] {
            optimiser.extend(optimizer.state()?.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
        }
        if self.config.augment.target.is_some() {
            optimiser.insert(CHANCE.to_owned(), Tensor::new(self.chance, &Device::Cpu)?);
            optimiser.insert(RIGHT_SINCE.to_owned(), Tensor::new(&self.right_since, &Device::Cpu)?);
        }
        let mut files = BTreeMap::from([
            ("discriminator".to_owned(), self.discriminator_store.tensors()),
            ("optimiser".to_owned(), optimiser),
        ]);
        let trained = self.generator_store.tensors();
        match &self.averaged {
            Some((_, store)) => {
                files.insert("weights".to_owned(), store.tensors());
                files.insert(TRAINED.to_owned(), trained);
            }
            None => _ = files.insert("weights".to_owned(), trained),
        }
        Ok(Snapshot { files })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        match &self.averaged {
            Some((_, store)) => {
                store.set(snapshot.file("weights")?)?;
                self.generator_store.set(snapshot.file(TRAINED)?)?;
            }
            None => self.generator_store.set(snapshot.file("weights")?)?,
        }
        self.discriminator_store.set(snapshot.file("discriminator")?)?;
        let optimiser = snapshot.file("optimiser")?;
        if let Some(chance) = optimiser.get(CHANCE) {
            self.chance = chance.to_scalar::<f64>()?;
        }
        (self.unread, self.told, self.right_since) = (Vec::new(), Vec::new(), [0.0; 2]);
        // Older checkpoints have none: the chance moved after every iteration.
        if let Some([right, images]) = optimiser.get(RIGHT_SINCE).map(Tensor::to_vec1).transpose()?.as_deref() {
            self.right_since = [*right, *images];
        }
        for (prefix, optimizer) in [("g.", &mut self.generator_optimizer), ("d.", &mut self.discriminator_optimizer)] {
            let own = optimiser.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
            optimizer.set_state(&own.collect())?;
        }
        Ok(())
    }
}
