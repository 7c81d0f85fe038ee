//! The study's iteration: an update of the discriminator by real images, one by generated images, and one of the generator.

use candle_core::Tensor;
use cellforge_nn::gradients;

use super::tally::{Origin, Tally, Term};
use super::{GanStep, Part, Pass};
use crate::Result;

impl GanStep {
    /// Real and generated images are separate updates, so that batch norm never mixes their statistics. The generator makes images for the
    /// discriminator in inference mode, and makes them anew, in training mode, for its own update.
    pub(super) fn separate_updates(&mut self, parts: &[Part], iteration: u64, tally: &mut Tally) -> Result<()> {
        let generated = parts.iter().map(|part| {
            let images = self.generator.forward_class_t(&part.z, part.classes.as_ref(), false)?; // (b, c, h, w)
            Ok(images.detach())
        });
        let fakes: Vec<Tensor> = generated.collect::<Result<_>>()?;

        let mut update = self.begin(&self.discriminator_store, 1, tally)?;
        for part in parts {
            let dropout = self.random("dropout", iteration, Pass::Real, part.number);
            let of_part = || {
                let classes = part.classes.as_ref();
                let logits = self.discriminator.forward_class_t(&part.augmented, classes, true, &dropout)?; // (b, 1)
                tally.count(&logits, Origin::Real)?;
                self.share(self.config.loss.on_reals(&logits, self.config.label_smoothing as f32)?)
            };
            let (loss, grads) = update.phase.run(|| gradients(of_part))?;
            tally.add(Term::Real, &loss);
            update.phase.add(grads)?;
        }
        let total = self.finish(update, tally)?;
        self.update_discriminator(total)?;

        let mut update = self.begin(&self.discriminator_store, 1, tally)?;
        for (part, fakes) in parts.iter().zip(&fakes) {
            let augmented = self.augmented(fakes, iteration, Pass::Fake, part.number)?;
            let dropout = self.random("dropout", iteration, Pass::Fake, part.number);
            let of_part = || {
                let classes = part.classes.as_ref();
                let logits = self.discriminator.forward_class_t(&augmented, classes, true, &dropout)?;
                tally.count(&logits, Origin::Generated)?;
                self.share(self.config.loss.on_fakes(&logits)?)
            };
            let (loss, grads) = update.phase.run(|| gradients(of_part))?;
            tally.add(Term::Fake, &loss);
            update.phase.add(grads)?;
        }
        let total = self.finish(update, tally)?;
        self.update_discriminator(total)?;

        let mut update = self.begin(&self.generator_store, 1, tally)?;
        for part in parts {
            let of_part = || {
                let images = self.generator.forward_class_t(&part.z, part.classes.as_ref(), true)?;
                self.generator_loss(&images, None, part, iteration)
            };
            let (loss, grads) = update.phase.run(|| gradients(of_part))?;
            tally.add(Term::Generator, &loss);
            update.phase.add(grads)?;
        }
        let total = self.finish(update, tally)?;
        self.update_generator(total)
    }
}
