//! The iteration of later GANs: one update of the discriminator by real and generated images, with the penalties where they are due, and
//! one of the generator through the same generated images.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use cellforge_gan::InputGradient;
use cellforge_gan::loss::GanLoss;
use cellforge_nn::{Recorded, gradients, ops, record};

use super::tally::{Origin, Tally, Term};
use super::{GanStep, Part, Pass};
use crate::Result;

impl GanStep {
    /// The generator runs once, in training mode, and its own update goes back through that run with the discriminator as it is after its
    /// update.
    pub(super) fn joint_update(&mut self, parts: &[Part], iteration: u64, tally: &mut Tally) -> Result<()> {
        let (mut update, mut generated) = (self.begin(&self.discriminator_store, 2, tally)?, Vec::new());
        for part in parts {
            let of_part = || self.generator.forward_class_t(&part.z, part.classes.as_ref(), true); // (b, c, h, w)
            let images = update.phase.run(|| record(of_part))?;
            let fakes = self.augmented(&images.result(), iteration, Pass::Fake, part.number)?;
            generated.push(images);
            let penalised = self.input_gradients(part, &fakes, iteration)?;
            let of_part = || -> candle_core::Result<Tensor> {
                // Before spectral normalisation takes a step: an input gradient is of the weights it was taken at.
                let penalties = self.penalties(&penalised, part)?;
                let (classes, discriminator) = (part.classes.as_ref(), &self.discriminator);
                let dropout = |pass| self.random("dropout", iteration, pass, part.number);
                let reals = discriminator.forward_class_t(&part.augmented, classes, true, &dropout(Pass::Real))?; // (b, 1)
                let fakes = discriminator.forward_class_t(&fakes, classes, true, &dropout(Pass::Fake))?;
                tally.count(&reals, Origin::Real)?;
                tally.count(&fakes, Origin::Generated)?;
                let mut loss = self.discriminator_loss(&reals, &fakes, tally)?;
                for (term, penalty) in &penalties {
                    tally.add(*term, penalty);
                    loss = ops::add(&loss, &ops::scale(penalty, self.config.penalty_every as f32)?)?;
                }
                Ok(loss)
            };
            let (_, grads) = update.phase.run(|| gradients(of_part))?;
            update.phase.add(grads)?;
        }
        let total = self.finish(update, tally)?;
        self.update_discriminator(total)?;

        // The relativistic loss has the discriminator look at real images, too.
        let passes = if self.config.loss == GanLoss::Relativistic { 2 } else { 1 };
        let mut update = self.begin(&self.generator_store, passes, tally)?;
        for (part, images) in parts.iter().zip(generated) {
            let (loss, grads) = update.phase.run(|| self.generator_gradients(part, images, iteration))?;
            tally.add(Term::Generator, &loss);
            update.phase.add(grads)?;
        }
        let total = self.finish(update, tally)?;
        self.update_generator(total)
    }

    /// The discriminator's loss of its logits of real and generated images, (b, 1) each.
    fn discriminator_loss(&self, reals: &Tensor, fakes: &Tensor, tally: &mut Tally) -> candle_core::Result<Tensor> {
        let loss = self.config.loss;
        if loss == GanLoss::Relativistic {
            let loss = self.share(loss.discriminator(reals, fakes, 0.0)?)?;
            tally.add(Term::Discriminator, &loss);
            return Ok(loss);
        }
        let reals = self.share(loss.on_reals(reals, self.config.label_smoothing as f32)?)?;
        let fakes = self.share(loss.on_fakes(fakes)?)?;
        tally.add(Term::Real, &reals);
        tally.add(Term::Fake, &fakes);
        ops::add(&reals, &fakes)
    }

    /// The discriminator's gradients at the images where a penalty is due in this iteration, with the penalty's weight.
    fn input_gradients(&self, part: &Part, fakes: &Tensor, iteration: u64) -> Result<Vec<Penalised>> {
        if !iteration.is_multiple_of(self.config.penalty_every) {
            return Ok(Vec::new());
        }
        let sides = [(Term::R1, self.config.r1, &part.augmented), (Term::R2, self.config.r2, fakes)];
        let due = sides.into_iter().filter(|(_, weight, _)| *weight > 0.0);
        due.map(|(term, weight, images)| Ok((term, weight, self.frozen.input_gradient(images, part.classes.as_ref())?)))
            .collect()
    }

    /// The penalties, each half its weight times the mean squared gradient.
    fn penalties(&self, penalised: &[Penalised], part: &Part) -> candle_core::Result<Vec<(Term, Tensor)>> {
        let penalty = |(term, weight, gradient): &Penalised| {
            let squared = self.discriminator.gradient_penalty(gradient, part.classes.as_ref())?;
            Ok((*term, self.share(ops::scale(&squared, *weight as f32 / 2.)?)?))
        };
        penalised.iter().map(penalty).collect()
    }

    /// The generator's loss of the images it made for a part, and its gradients by the generator's parameters.
    fn generator_gradients(&self, part: &Part, images: Recorded, iteration: u64) -> Result<(Tensor, GradStore)> {
        // Constants, but for the relativistic loss.
        let reals = if self.config.loss == GanLoss::Relativistic {
            let dropout = self.random("dropout", iteration, Pass::Generator, part.number);
            Some(self.frozen.forward_class_t(&part.augmented, part.classes.as_ref(), true, &dropout)?)
        } else {
            None
        };
        let made = Var::from_tensor(&images.result().contiguous()?)?;
        let (loss, by_images) = gradients(|| self.generator_loss(&made, reals.as_ref(), part, iteration))?;
        let missing = || candle_core::Error::msg("the generator's loss does not depend on its images");
        let grads = images.gradients(by_images.get(&made).ok_or_else(missing)?)?;
        Ok((loss, grads))
    }
}

/// A penalty, its weight, and the discriminator's gradient at the images it is taken at.
type Penalised = (Term, f64, InputGradient);
