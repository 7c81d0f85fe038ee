//! One iteration of the study's GAN training.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use cellforge_data::Batch;
use cellforge_gan::{Discriminator, Generator, loss};
use cellforge_nn::{Adam, AdamConfig, Key, Optimizer, ParamStore, gradients};

use crate::gan::GanTrainConfig;
use crate::{Losses, Result, Snapshot, Step};

/// Generator, discriminator and their optimisers.
pub struct GanStep {
    generator: Generator,
    discriminator: Discriminator,
    /// The same discriminator for the generator's update, which needs no gradient of its parameters.
    frozen: Discriminator,
    generator_store: ParamStore,
    discriminator_store: ParamStore,
    generator_optimizer: Optimizer,
    discriminator_optimizer: Optimizer,
    latent: usize,
    key: Key,
    device: Device,
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
        let adam = |store: &ParamStore| -> Result<Optimizer> {
            // Keras's epsilon, as in the study; PyTorch's default is 1e-8.
            let settings = AdamConfig { lr: config.lr, beta1: config.beta1, beta2: config.beta2, eps: 1e-7 };
            Ok(Optimizer::Adam(Adam::new(store.trainable(), settings)?))
        };
        Ok(Self {
            generator_optimizer: adam(&generator_store)?,
            discriminator_optimizer: adam(&discriminator_store)?,
            generator,
            discriminator,
            frozen,
            generator_store,
            discriminator_store,
            latent: config.model.latent,
            key,
            device: device.clone(),
        })
    }

    /// The generator as it stands.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Each phase of an iteration has dropout of its own.
    fn dropout(&self, iteration: u64, phase: &str) -> Key {
        self.key.with("dropout").at(iteration).with(phase)
    }
}

impl Step for GanStep {
    /// Real images in [-1, 1].
    type Batch = Batch;

    fn step(&mut self, batch: &Batch, iteration: u64) -> Result<Losses> {
        let reals = &batch.images; // (b, c, h, w)
        let b = reals.dim(0)?;
        let z = self.key.with("z").at(iteration).normal((b, self.latent), &self.device)?;
        let fakes = self.generator.forward_t(&z, false)?.detach();

        // Reals and fakes are separate updates, so that batch-norm never mixes their statistics.
        let (mut right, discriminator) = (0.0, &self.discriminator);
        let (d_real, grads) = gradients(|| {
            let scores = discriminator.forward_t(reals, true, &self.dropout(iteration, "real"))?;
            right += positives(&scores)?;
            loss::discriminator_real(&scores)
        })?;
        self.discriminator_optimizer.step(&grads)?;

        let (d_fake, grads) = gradients(|| {
            let scores = discriminator.forward_t(&fakes, true, &self.dropout(iteration, "fake"))?;
            right += b as f32 - positives(&scores)?;
            loss::discriminator_fake(&scores)
        })?;
        self.discriminator_optimizer.step(&grads)?;

        // Through the discriminator in training mode, as in the study: its running statistics move, its parameters do not.
        let (g, grads) = gradients(|| {
            let images = self.generator.forward_t(&z, true)?;
            loss::generator(&self.frozen.forward_t(&images, true, &self.dropout(iteration, "generator"))?)
        })?;
        self.generator_optimizer.step(&grads)?;

        Ok(vec![
            ("d_real", d_real.to_scalar()?),
            ("d_fake", d_fake.to_scalar()?),
            ("g", g.to_scalar()?),
            ("d_accuracy", right / (2 * b) as f32),
        ])
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut optimiser = BTreeMap::new();
        for (prefix, optimizer) in [("g", &self.generator_optimizer), ("d", &self.discriminator_optimizer)] {
            optimiser.extend(optimizer.state()?.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
        }
        Ok(Snapshot {
            files: BTreeMap::from([
                ("weights".to_owned(), self.generator_store.tensors()),
                ("discriminator".to_owned(), self.discriminator_store.tensors()),
                ("optimiser".to_owned(), optimiser),
            ]),
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.generator_store.set(snapshot.file("weights")?)?;
        self.discriminator_store.set(snapshot.file("discriminator")?)?;
        let optimiser = snapshot.file("optimiser")?;
        for (prefix, optimizer) in [("g.", &mut self.generator_optimizer), ("d.", &mut self.discriminator_optimizer)] {
            let own = optimiser.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
            optimizer.set_state(&own.collect())?;
        }
        Ok(())
    }
}

/// How many logits are above 0, that is judged real.
fn positives(logits: &Tensor) -> candle_core::Result<f32> {
    logits.gt(0f32)?.to_dtype(candle_core::DType::F32)?.sum_all()?.to_scalar()
}
