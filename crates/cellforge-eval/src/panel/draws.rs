//! What the bootstrap of a panel draws.

use std::collections::BTreeSet;

use super::PanelInput;
use crate::{BootstrapOptions, Resampler, Result, bootstrap::resamples};

/// The draws of the bootstrap: units of the real and of the synthetic images, and raters.
pub(super) struct Draws<'a> {
    /// Positions of the real and of the synthetic images, and how their units are drawn.
    kinds: [(Vec<usize>, Resampler); 2],
    pub(super) synthetic: &'a [bool],
    /// The unit of each image; no real and synthetic image have the same.
    pub(super) unit: Vec<usize>,
    pub(super) options: &'a BootstrapOptions,
}

impl<'a> Draws<'a> {
    pub(super) fn new(input: &PanelInput<'a>, options: &'a BootstrapOptions) -> Result<Self> {
        let kind = |synthetic: bool| -> Result<(Vec<usize>, Resampler)> {
            let images: Vec<usize> = (0..input.synthetic.len()).filter(|&i| input.synthetic[i] == synthetic).collect();
            let units: Vec<&String> = images.iter().map(|&i| &input.units[i]).collect();
            let resampler = Resampler::groups(&units)?;
            Ok((images, resampler))
        };
        let kinds = [kind(false)?, kind(true)?];
        let mut unit = vec![0; input.synthetic.len()];
        let mut before = 0;
        for (images, resampler) in &kinds {
            for (&i, &own) in images.iter().zip(resampler.unit_of()) {
                unit[i] = before + own;
            }
            before += resampler.units();
        }
        Ok(Self { kinds, synthetic: input.synthetic, unit, options })
    }

    /// How often each image occurs in a resample.
    pub(super) fn images(&self, number: u64) -> Vec<u32> {
        let mut weights = vec![0; self.unit.len()];
        for (kind, (images, resampler)) in (0..).zip(&self.kinds) {
            // Three draws a resample, each with a stream of random numbers of its own.
            for (&i, weight) in images.iter().zip(resampler.weights(self.options.seed, 3 * number + kind)) {
                weights[i] = weight;
            }
        }
        weights
    }

    /// How often each rater occurs in a resample; one rater is not drawn.
    pub(super) fn raters(&self, raters: usize, number: u64) -> Result<Vec<u32>> {
        if raters == 1 {
            return Ok(vec![1]);
        }
        Ok(Resampler::images(raters)?.weights(self.options.seed, 3 * number + 2))
    }

    /// Applies `statistic` to every resample, in their order.
    pub(super) fn map<T: Send>(&self, statistic: impl Fn(u64) -> Result<T> + Sync + Send) -> Result<Vec<T>> {
        resamples(self.options, statistic)?.into_iter().collect()
    }

    /// The number of units among these images.
    pub(super) fn units(&self, images: impl Iterator<Item = usize>) -> usize {
        images.map(|i| self.unit[i]).collect::<BTreeSet<_>>().len()
    }
}
