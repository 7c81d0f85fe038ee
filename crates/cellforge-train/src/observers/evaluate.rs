use candle_core::Device;
use cellforge_data::View;

use crate::classifier_step::ClassifierStep;
use crate::predict::evaluate;
use crate::{Error, Event, Observer, Phase, Result, figures};

/// Validation images below which no temperature is fitted: a few of them would call for any.
const FEWEST: usize = 30;

/// Judges the classifier on the validation images after each epoch and adds `val_loss`, `val_accuracy` and `temperature` to
/// the epoch's figures; with no validation images it adds nothing. A loss that is not finite ends the run.
#[derive(Debug)]
pub struct Evaluate {
    images: View,
    device: Device,
}

impl Evaluate {
    /// Judges on these images.
    pub fn new(images: View, device: Device) -> Self {
        Self { images, device }
    }
}

impl Observer<ClassifierStep> for Evaluate {
    fn phase(&self) -> Phase {
        Phase::Measure
    }

    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_epoch(&mut self, step: &mut ClassifierStep, event: &mut Event<'_>) -> Result<()> {
        if !self.images.is_empty() {
            let (score, logits) = evaluate(step.classifier(), &self.images, step.loss(), &self.device)?;
            if !score.loss.is_finite() {
                let iteration = event.position.iteration;
                return Err(Error::Diverged { name: figures::VAL_LOSS.to_owned(), value: score.loss, iteration });
            }
            event.figures.push((figures::VAL_LOSS.to_owned(), score.loss));
            event.figures.push((figures::VAL_ACCURACY.to_owned(), score.accuracy));
            if self.images.len() >= FEWEST
                && let Some(temperature) = cellforge_eval::fit_temperature(&logits, &self.images.labels())?
            {
                event.figures.push((figures::TEMPERATURE.to_owned(), temperature as f32));
            }
        }
        Ok(())
    }
}
