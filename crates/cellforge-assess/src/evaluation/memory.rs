//! What an evaluation takes of memory beside the images that it was given.

use cellforge_train::{MemoryNeed, Orientation};

use super::{Measure, Prepared};
use crate::copies;

/// Numbers of a pixel that the search for copies keeps beside the channels.
const BESIDE: u64 = 1;

impl Prepared<'_> {
    /// What the evaluation is going to take of memory, without the images that are there already: the largest of its trainings
    /// ([`ClassifierTrainConfig::memory`](cellforge_train::ClassifierTrainConfig::memory)), and for every image its features in every
    /// orientation that is searched, a turned copy, one for the two-sample test, and what the search for copies keeps, in numbers of 4 bytes.
    /// Supplied networks are loaded by then.
    ///
    /// The networks of re-identification, which see 32x32 pixels, are left out.
    #[must_use]
    pub fn memory(&self) -> MemoryNeed {
        let (config, view) = (self.config, &self.real.view);
        let (size, channels, classes) = (view.size(), view.channels(), view.classes().len());
        let mut need = MemoryNeed::default();
        for extractor in std::iter::once(&self.extractor).chain(&self.others) {
            need = need.or(extractor.memory());
        }
        if config.measures(Measure::TwoSample) && config.two_sample.updates > 0 {
            let training = config.two_sample.training(size.enclosing(), channels, 2 * classes, "memory");
            need = need.or(training.memory());
        }
        if config.measures(Measure::Utility)
            && classes > 1
            && let Ok(training) = config.utility.training(view, 0)
        {
            need = need.or(training.memory());
        }
        need.with_images((self.images() as u64).saturating_mul(self.bytes_an_image()))
    }

    /// The most images of each set and class of which the evaluation takes no more than `bytes` for images.
    #[must_use]
    pub fn max_images_within(&self, bytes: u64) -> usize {
        let sets = 2 + usize::from(self.holdout.is_some());
        let images = usize::try_from(bytes / self.bytes_an_image().max(1)).unwrap_or(usize::MAX);
        images / (sets * self.real.view.classes().len().max(1))
    }

    fn images(&self) -> usize {
        let sets = [Some(&self.real), self.holdout.as_ref(), Some(&self.synthetic)];
        sets.into_iter().flatten().map(|set| set.whole.len()).sum()
    }

    /// Bytes for one image of any set.
    fn bytes_an_image(&self) -> u64 {
        let view = &self.real.view;
        let (size, channels) = (view.size(), view.channels() as u64);
        let extractors = || std::iter::once(&self.extractor).chain(&self.others);
        let turns = if self.no_privacy.is_some() { 1 } else { Orientation::of(size).len() };
        let features: u64 = extractors().map(|one| (one.info.dims * turns) as u64).sum();
        let copies = size.within(copies::SIDE).area() as u64 * (channels + BESIDE);
        let pixels = (size.area() + size.enclosing().area()) as u64 * channels;
        4 * (features + copies) + pixels
    }
}
