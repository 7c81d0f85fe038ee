use crate::checkpoint::Best;
use crate::{Event, Observer, Result, Step};

/// Ends a run when a figure of its epochs has not risen for some epochs. To come after the observer that adds the figure.
#[derive(Debug)]
pub struct EarlyStop {
    figure: &'static str,
    patience: u64,
    best: Option<Best>,
}

impl EarlyStop {
    /// Ends the run once `patience` epochs have gone by since the highest value of `figure`. `best` is the checkpoint's where a
    /// run is resumed.
    pub fn new(figure: &'static str, patience: u64, best: Option<Best>) -> Self {
        Self { figure, patience, best }
    }

    /// Whether a run that has done `epoch` epochs has ended.
    pub fn is_over(&self, epoch: u64) -> bool {
        self.best.is_some_and(|best| epoch >= best.epoch + self.patience)
    }
}

impl<S: Step> Observer<S> for EarlyStop {
    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_epoch(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        let (epoch, iteration) = (event.position.epoch, event.position.iteration);
        if let Some(value) = event.figure(self.figure)
            && self.best.is_none_or(|best| value > best.value)
        {
            self.best = Some(Best { value, epoch, iteration });
        }
        event.end |= self.is_over(epoch);
        Ok(())
    }
}
