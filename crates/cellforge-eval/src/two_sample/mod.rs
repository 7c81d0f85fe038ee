//! Whether two sets of images can be told apart: from the scores of classifiers that were trained to do so, and from simple statistics.
//!
//! A classifier two-sample test (Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests, arXiv:1610.06545) trains a network to
//! tell one set from the other and looks at how well it does on images it has not seen. Nothing is trained here: scores go in.
//!
//! Images of one patient are alike, so a network can also tell real images of some patients from real images of others. Chance is therefore
//! not 0.5. It is what the same procedure finds between two halves of the real patients, and [`above`] is the rule.

mod statistics;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Error, Estimate, Interval, Resampler, Result,
    bootstrap::{percentiles, resamples},
};

pub use statistics::{StatisticFinding, StatisticRows, StatisticsByChance};

/// Share of false alarms at which detections are counted.
pub const FALSE_ALARMS: f64 = 0.01;

/// The score of one image by a network that has not seen it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Higher means more likely of the second set.
    pub score: f64,
    /// Whether it is of the second set (the synthetic one).
    pub second: bool,
    /// Its class.
    pub class: usize,
    /// The network that scored it. Scores of different networks are not compared with each other.
    pub network: usize,
    /// What is drawn again in the bootstrap, within its set: a number for its patient, or for the image where patients are not known.
    pub unit: usize,
}

/// How well scores separate two sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Separation {
    /// The area under the ROC curve, over pairs of images of one class that one network scored.
    pub auc: Estimate,
    /// The same of each class alone.
    pub per_class: Vec<Estimate>,
    /// Share of the second set's images that score above all but at most 1% of the first set's ([`FALSE_ALARMS`]). It finds a defect that few
    /// images have.
    pub found: Estimate,
}

/// How well scores separate two sets, with percentile intervals of the bootstrap over the units of both sets.
///
/// Only images of one class, scored by one network, are compared: neither the shares of the classes nor the level of a network's scores
/// can separate the sets.
///
/// # Errors
/// [`Error::NotFinite`] for a score; [`Error::Images`] where a class has images of one set alone; [`Error::Resamples`] or [`Error::Level`].
///
/// ```
/// use cellforge_eval::{BootstrapOptions, two_sample::{Scored, separation}};
/// let score = |score, second, unit| Scored { score, second, class: 0, network: 0, unit };
/// // Of the four pairs, the second set's image is above in 0.9 > 0.1, 0.9 > 0.6 and 0.6 > 0.1, and ties in one: (3 + 1/2) / 4.
/// let scores = [score(0.1, false, 0), score(0.6, false, 1), score(0.6, true, 0), score(0.9, true, 1)];
/// let found = separation(&scores, 1, &BootstrapOptions::default())?;
/// assert_eq!((found.auc.value, found.found.value), (0.875, 0.5));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn separation(scored: &[Scored], classes: usize, options: &BootstrapOptions) -> Result<Separation> {
    options.check()?;
    if let Some(index) = scored.iter().position(|image| !image.score.is_finite()) {
        return Err(Error::NotFinite { index, value: scored[index].score });
    }
    if let Some(index) = scored.iter().position(|image| image.class >= classes) {
        return Err(Error::Label { index, label: scored[index].class as u32, classes });
    }
    let mut strata: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, image) in scored.iter().enumerate() {
        strata.entry((image.class, image.network)).or_default().push(i);
    }
    let strata: Vec<(usize, Order)> =
        strata.into_iter().map(|((class, _), images)| (class, Order::new(images, |i| scored[i].score))).collect();
    let figures = |weights: Option<&[u32]>| -> (Vec<Tally>, Tally) {
        let mut of_class = vec![Tally::default(); classes];
        for (class, order) in &strata {
            of_class[*class].add(order.tally(|i| {
                let weight = weights.map_or(1, |weights| u64::from(weights[i]));
                if scored[i].second { [0, weight] } else { [weight, 0] }
            }));
        }
        let mut all = Tally::default();
        of_class.iter().for_each(|tally| all.add(*tally));
        (of_class, all)
    };
    let (of_class, all) = figures(None);
    if of_class.iter().any(|tally| tally.pairs == 0) {
        return Err(Error::Images { figure: "a two-sample test", needed: 1, rows: 0 });
    }
    let side = |second: bool| scored.iter().map(move |image| (image.second == second).then_some(image.unit));
    let resampler = Sides::new([side(false).collect(), side(true).collect()])?;
    let drawn: Vec<(Vec<Tally>, Tally)> = resampler.map(options, |weights| figures(Some(weights)))?;
    let estimate = |value: Option<f64>, drawn: Vec<Option<f64>>| -> Estimate {
        let value = value.unwrap_or(0.5);
        let Interval { low, high } = percentiles(drawn.into_iter().flatten().collect(), options.level)
            .unwrap_or(Interval { low: value, high: value });
        Estimate { value, low: low.min(value), high: high.max(value) }
    };
    let per_class = (0..classes)
        .map(|class| estimate(of_class[class].auc(), drawn.iter().map(|(found, _)| found[class].auc()).collect()))
        .collect();
    Ok(Separation {
        auc: estimate(all.auc(), drawn.iter().map(|(_, all)| all.auc()).collect()),
        per_class,
        found: estimate(all.found_above(), drawn.iter().map(|(_, all)| all.found_above()).collect()),
    })
}

/// The rule: a figure is above that of real against real where the lower end of its interval lies above the upper ends of all of theirs.
///
/// The halves that give the intervals of real against real stand for how much patients differ. With 95% intervals the rule asks for more
/// than 5% does: the example `two_sample` of the program prints how often it calls real images of other patients different.
#[must_use]
pub fn above(found: &Estimate, real_against_real: impl IntoIterator<Item = Estimate>) -> bool {
    real_against_real.into_iter().all(|real| found.low > real.high)
}

/// Images in ascending order of a value, in runs of equal ones.
pub(crate) struct Order {
    images: Vec<usize>,
    /// Where each run of equal values ends.
    ends: Vec<usize>,
}

impl Order {
    /// Orders finite values.
    pub(crate) fn new(mut images: Vec<usize>, value: impl Fn(usize) -> f64) -> Self {
        images.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let mut end = 0;
        let ends = images
            .chunk_by(|&a, &b| value(a) == value(b))
            .map(|run| {
                end += run.len();
                end
            })
            .collect();
        Self { images, ends }
    }

    /// Some of the images, in the same order.
    pub(crate) fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let (mut images, mut ends) = (Vec::new(), Vec::new());
        let mut start = 0;
        for &end in &self.ends {
            images.extend(self.images[start..end].iter().copied().filter(|&image| keep(image)));
            if ends.last().copied().unwrap_or(0) < images.len() {
                ends.push(images.len());
            }
            start = end;
        }
        Self { images, ends }
    }

    /// Counts pairs and detections, with each image's weights in the first and the second set.
    pub(crate) fn tally(&self, weights: impl Fn(usize) -> [u64; 2]) -> Tally {
        let mut runs = Vec::with_capacity(self.ends.len());
        let (mut start, mut total) = (0, [0, 0]);
        for &end in &self.ends {
            let mut run = [0, 0];
            for &image in &self.images[start..end] {
                let [first, second] = weights(image);
                run[0] += first;
                run[1] += second;
            }
            total[0] += run[0];
            total[1] += run[1];
            runs.push(run);
            start = end;
        }
        let (mut won, mut below) = (0, 0);
        for &[first, second] in &runs {
            won += second * (2 * below + first);
            below += first;
        }
        let allowed = FALSE_ALARMS * total[0] as f64;
        let beyond = |runs: &mut dyn Iterator<Item = &[u64; 2]>| {
            let (mut alarms, mut found) = (0, 0);
            for [first, second] in runs {
                alarms += first;
                if alarms as f64 > allowed {
                    break;
                }
                found += second;
            }
            found
        };
        let above = beyond(&mut runs.iter().rev());
        let below = beyond(&mut runs.iter());
        let seconds = if total[0] > 0 { total[1] } else { 0 };
        Tally { won, pairs: total[0] * total[1], above, below, seconds }
    }
}

/// Pairs of a first and a second set's image, and detections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Twice the pairs in which the second set's image has the higher value, so that ties stay whole numbers.
    pub(crate) won: u64,
    pub(crate) pairs: u64,
    /// The second set's images above all but 1% of the first set's.
    pub(crate) above: u64,
    /// The same below.
    pub(crate) below: u64,
    /// The second set's images.
    pub(crate) seconds: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.won += other.won;
        self.pairs += other.pairs;
        self.above += other.above;
        self.below += other.below;
        self.seconds += other.seconds;
    }

    pub(crate) fn auc(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.won as f64 / (2 * self.pairs) as f64)
    }

    fn found_above(&self) -> Option<f64> {
        (self.seconds > 0).then(|| self.above as f64 / self.seconds as f64)
    }

    /// Share of the second set's images outside the central 98% of the first set's.
    pub(crate) fn outside(&self) -> Option<f64> {
        (self.seconds > 0).then(|| (self.above + self.below) as f64 / self.seconds as f64)
    }
}

/// Draws the units of two sets again, apart from each other.
pub(crate) struct Sides {
    resamplers: [Resampler; 2],
    images: [Vec<usize>; 2],
    total: usize,
}

impl Sides {
    /// `units[side][i]` is the unit of image `i`, where it is of that side.
    pub(crate) fn new(units: [Vec<Option<usize>>; 2]) -> Result<Self> {
        let total = units[0].len();
        let images = [0, 1].map(|side| (0..total).filter(|&i| units[side][i].is_some()).collect::<Vec<_>>());
        let of = |side: usize| Resampler::groups(&units[side].iter().flatten().copied().collect::<Vec<_>>());
        Ok(Self { resamplers: [of(0)?, of(1)?], images, total })
    }

    pub(crate) fn map<T: Send>(
        &self,
        options: &BootstrapOptions,
        statistic: impl Fn(&[u32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        resamples(options, |number| {
            let mut weights = vec![0; self.total];
            for side in 0..2 {
                // An odd and an even stream, so that the draws of the two sides have nothing in common.
                let drawn = self.resamplers[side].weights(options.seed, 2 * number + side as u64);
                self.images[side].iter().zip(drawn).for_each(|(&image, weight)| weights[image] = weight);
            }
            statistic(&weights)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(score: f64, second: bool, class: usize, network: usize, unit: usize) -> Scored {
        Scored { score, second, class, network, unit }
    }

    #[test]
    fn networks_and_classes_are_not_mixed() {
        // Within each class and network the second set's image is above: AUC 1, though network 1 scores all lower and class 1 all higher.
        let scored = [
            image(0.8, false, 0, 0, 0),
            image(0.9, true, 0, 0, 0),
            image(0.1, false, 0, 1, 1),
            image(0.2, true, 0, 1, 1),
            image(5.0, false, 1, 0, 0),
            image(6.0, true, 1, 0, 2),
        ];
        let found = separation(&scored, 2, &BootstrapOptions::default()).unwrap();
        assert_eq!(found.auc.value, 1.0);
        assert_eq!(found.per_class.iter().map(|class| class.value).collect::<Vec<_>>(), [1.0, 1.0]);
        // With no class 1 among the first set, it cannot be judged.
        assert!(separation(&scored[..4], 2, &BootstrapOptions::default()).is_err());
        let bad = [image(f64::NAN, true, 0, 0, 0)];
        assert!(matches!(separation(&bad, 1, &BootstrapOptions::default()), Err(Error::NotFinite { index: 0, .. })));
    }

    #[test]
    fn detections_are_those_above_one_percent() {
        // 200 real images with scores 0 to 199: two may lie above. The third largest is 197, so that 197.5 is found and 196.5 is not.
        let mut scored: Vec<Scored> = (0..200).map(|i| image(f64::from(i), false, 0, 0, i as usize)).collect();
        scored.push(image(197.5, true, 0, 0, 0));
        scored.push(image(196.5, true, 0, 0, 1));
        let found = separation(&scored, 1, &BootstrapOptions::default()).unwrap();
        assert_eq!(found.found.value, 0.5);
        // Pairs: 198 of 200 and 197 of 200.
        assert_eq!(found.auc.value, 395.0 / 400.0);
    }

    #[test]
    fn a_part_counts_as_an_order_of_its_own() {
        let value = |i: usize| f64::from((i * 7 % 5) as u8);
        let even = |i: usize| i.is_multiple_of(2);
        let weights = |i: usize| if i < 10 { [1, 0] } else { [0, 1] };
        let part = Order::new((0..20).collect(), value).only(even);
        assert_eq!(part.tally(weights), Order::new((0..20).filter(|&i| even(i)).collect(), value).tally(weights));
        assert_eq!(part.tally(weights).pairs, 25);
    }

    #[test]
    fn few_patients_widen_the_interval() {
        // The same 64 scores of real images, in 4 patients or in 64.
        let score = |i: usize| ((i * 37) % 64) as f64 / 64.0 + 0.3 * (i / 16) as f64;
        let with = |units: usize| {
            let mut scored: Vec<Scored> = (0..64).map(|i| image(score(i), false, 0, 0, i * units / 64)).collect();
            scored.extend((0..64).map(|i| image(score((i * 5) % 64) + 0.2, true, 0, 0, i)));
            separation(&scored, 1, &BootstrapOptions::default()).unwrap().auc
        };
        let (few, many) = (with(4), with(64));
        assert_eq!(few.value, many.value);
        assert!(few.high - few.low > 1.5 * (many.high - many.low), "{few:?} {many:?}");
    }

    #[test]
    fn the_rule_needs_room_between_the_intervals() {
        let of = |value, low, high| Estimate { value, low, high };
        let real = [of(0.55, 0.5, 0.6), of(0.6, 0.55, 0.66)];
        assert!(above(&of(0.7, 0.67, 0.75), real));
        assert!(!above(&of(0.7, 0.65, 0.75), real));
    }
}
