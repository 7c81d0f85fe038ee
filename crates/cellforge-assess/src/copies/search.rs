//! How near images come to training images, and to those of other patients.

use cellforge_data::View;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    coarse::{Coarse, SAMPLES},
    prepare::Small,
    register::{Fit, Map, Register},
};
use crate::{Control, Error, ProgressBar, Result};

/// Candidates that are laid over an image.
const LAID: usize = 16;
/// Images between two looks at whether to stop.
const CHUNK: usize = 128;
/// Blurs of the real images that a blurred image is laid on: standard deviations in pixels of the small images.
const BLURS: [f32; 4] = [0.6, 1.0, 1.5, 2.2];
/// Smallest difference that is told from none: that of bytes which were rounded.
const FLOOR: f32 = 2e-3;

/// What leaves more of an image than this is no likeness of it, however much more all others leave. Images of noise leave more, each about as much as
/// any other, and then a small difference would be a rare one.
const LIKENESS: f64 = 0.8;

/// How near an image comes to a training image, and to those of other patients than that one's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Near {
    /// The nearest training image.
    pub(super) training: usize,
    /// What is left of the difference when the two are laid on each other, over the spread of the image: 0 to about 1.
    pub(super) distance: f64,
    /// The same for the nearest real image of any other patient.
    pub(super) usual: f64,
}

impl Near {
    /// Without a likeness there is nothing to tell: as far from the nearest as from the others.
    pub(super) const NONE: Self = Self { training: 0, distance: 1.0, usual: 1.0 };

    pub(super) fn ratio(&self) -> f64 {
        if self.usual > 0.0 { self.distance / self.usual } else { 1.0 }
    }

    /// The same by pixels, of an image that is to be judged: without a likeness it is as that of all others.
    pub(super) fn ratio_of_likeness(&self) -> f64 {
        if self.distance <= LIKENESS { self.ratio() } else { 1.0 }
    }
}

/// The real images, ready to be searched: training images first.
pub(super) struct Searcher {
    coarse: Coarse,
    rough: Register,
    register: Register,
    refs: Small,
    /// Patients, or images where patients are not known; training images first.
    units: Vec<u32>,
    training: usize,
    /// Each blur, and how much detail a real image usually has after it.
    usual: Vec<(f32, f32)>,
}

impl Searcher {
    pub(super) fn new(training: &View, holdout: Option<&View>, units: &[usize]) -> Result<Self> {
        let mut refs = Small::new(training)?;
        if let Some(holdout) = holdout {
            refs.extend(&Small::new(holdout)?);
        }
        let units = units.iter().map(|&unit| unit as u32).collect();
        let rough = Register::new(refs.size, 1, SAMPLES, 6);
        let register = Register::new(refs.size, refs.channels, refs.size.shorter(), 10);
        let usual = BLURS.iter().map(|&sigma| (sigma, refs.usual_detail(sigma))).collect();
        Ok(Self { coarse: Coarse::new(&refs), rough, register, refs, units, training: training.len(), usual })
    }

    /// How far real images must be blurred to have as little detail as an image with this much: the most that leaves them more. `None`
    /// for an image that is as sharp as they are.
    fn blur_of(&self, detail: f32) -> Option<f32> {
        self.usual.iter().rev().find(|(_, usual)| detail <= *usual).map(|(sigma, _)| *sigma)
    }

    /// How near each image comes. `own` has each image's patient, whose images are left out of the search.
    pub(super) fn search(
        &self,
        images: &View,
        own: Option<&[usize]>,
        what: &str,
        control: &Control,
    ) -> Result<Vec<Near>> {
        let queries = Small::new(images)?;
        let bar = ProgressBar::new(control.progress, format!("copies, {what}"), queries.len() as u64);
        let all: Vec<usize> = (0..queries.len()).collect();
        let mut found = Vec::with_capacity(all.len());
        for chunk in all.chunks(CHUNK) {
            if control.stopped() {
                return Err(Error::Interrupted);
            }
            let near = |&i: &usize| self.near(&queries, i, own.map(|own| own[i] as u32));
            found.extend(chunk.par_iter().map(near).collect::<Vec<Near>>());
            bar.advance(chunk.len() as u64);
        }
        bar.finish();
        Ok(found)
    }

    fn near(&self, queries: &Small, i: usize, own: Option<u32>) -> Near {
        let texture = queries.texture(i);
        // From what may be a copy to what fits, roughly, to what fits in every pixel.
        let rough = self.rough.sample(texture);
        let mut laid: Vec<(usize, Fit)> = self
            .coarse
            .search(texture, &self.units, own)
            .into_iter()
            .map(|c| (c.reference, self.rough.fit(&rough, self.refs.texture(c.reference), c.map)))
            .collect();
        laid.sort_by(|a, b| a.1.residual.total_cmp(&b.1.residual).then(a.0.cmp(&b.0)));
        let image = self.register.sample(queries.image(i));
        // A blurred image has lost what would fit a sharp one; it is laid on images that have lost as much.
        let blur = self.blur_of(queries.detail(i));
        let fit = |reference: usize, map: Map| match blur {
            None => self.register.fit(&image, self.refs.image(reference), map),
            Some(sigma) => self.register.fit(&image, &self.refs.blurred(reference, sigma), map),
        };
        let laid: Vec<(usize, f32)> = laid
            .into_iter()
            .take(LAID)
            .map(|(reference, rough)| (reference, fit(reference, rough.map).residual.max(FLOOR)))
            .collect();
        let least = |of: &dyn Fn(usize) -> bool| {
            laid.iter().filter(|(reference, _)| of(*reference)).min_by(|a, b| a.1.total_cmp(&b.1)).copied()
        };
        let Some((training, distance)) = least(&|reference| reference < self.training) else { return Near::NONE };
        let others = |reference: usize| self.units[reference] != self.units[training];
        let Some((_, usual)) = least(&others) else { return Near::NONE };
        Near { training, distance: distance.into(), usual: usual.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_most_of_an_image_is_no_likeness() {
        let near = |distance, usual| Near { training: 0, distance, usual };
        // Found of a generator that had hardly begun, beside images of noise, whose own ratios were 0.99 to 1.
        assert_eq!(near(0.846, 0.910).ratio_of_likeness(), 1.0);
        assert!(near(0.846, 0.910).ratio() < 0.93);
        assert_eq!(near(0.2, 0.8).ratio_of_likeness(), 0.25);
        assert_eq!(near(0.8, 1.0).ratio_of_likeness(), 0.8);
    }
}
