//! Copies, image by image: how near must an image come to a training image before that is no chance?
//!
//! Each image has a nearness in one or several spaces: its distance to the nearest training image over its distance to the nearest real
//! image of any other patient. An image that is like all others has a ratio near 1; a copy of one training image has a ratio near 0, and
//! a blurred image, which is near to everything, has one near 1 as well. What ratios the images of new patients have is known from
//! real images, each against those of other patients. [`Calibration`] carries their lower tail on to ratios that none of them has.
//!
//! ```
//! use cellforge_eval::copies::Calibration;
//!
//! // Ratios of 200 held-out images of 20 patients, between 0.8 and 1.
//! let ratios: Vec<f64> = (0..200).map(|i| 0.8 + 0.001 * f64::from(i * 37 % 200)).collect();
//! let patients: Vec<usize> = (0..200).map(|i| i % 20).collect();
//! let calibration = Calibration::new(&[&ratios], &patients)?;
//! // Of 1000 images one with a ratio of 0.2 is a copy; the smallest ratio of the innocent is none.
//! assert!(1000.0 * calibration.p(&[0.2]) < 1e-6);
//! assert!(1000.0 * calibration.p(&[0.8]) > 0.025);
//! # Ok::<(), cellforge_eval::Error>(())
//! ```

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, Proportion, Result, clopper_pearson, effective_groups, wilson};

/// Standard errors by which the tail is taken to be deeper than it looks: the one-sided 95% quantile.
const UPPER: f64 = 1.645;
/// Smallest ratio that is told from 0.
const SMALLEST: f64 = 1e-6;
/// Fewest calibration images, and patients.
pub const FEWEST: (usize, usize) = (100, 8);

/// The lower tail of the ratios of images that are no copies.
///
/// The logarithm of a ratio below the 5% quantile is taken to fall off exponentially, which is the tail of a Pareto distribution in the
/// ratio's inverse: Hill's estimator (1975) of its index, at the upper end of its one-sided 95% interval, and Weissman's extrapolation
/// (1978). So few patients make the tail deeper, and the limit stricter.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    /// Share of the images in the tail.
    share: f64,
    /// Logarithm of the ratio at which it begins.
    start: f64,
    /// Mean depth below it.
    scale: f64,
}

impl Tail {
    /// Of logarithms and whose they are, ascending; there are two or more.
    fn fit(logs: &[(f64, usize)]) -> Self {
        let k = (logs.len() / 20).clamp(10, 250).min(logs.len() / 2);
        let start = logs[k].0;
        let scale = logs[..k].iter().map(|(log, _)| start - log).sum::<f64>() / k as f64;
        // The standard error of Hill's estimator is its value over the root of the number of images. Those of one unit resemble each
        // other, so units count instead, by their effective number (Kish 1965).
        let units = effective_groups(&logs[..k].iter().map(|&(_, unit)| unit).collect::<Vec<_>>());
        let scale = scale * (1.0 + UPPER / units.sqrt());
        Self { share: k as f64 / logs.len() as f64, start, scale: scale.max(1e-3) }
    }

    /// The chance of a ratio as small, or smaller; above the start of the tail no more is known than that it is at least its share.
    fn p(&self, log: f64) -> f64 {
        if log >= self.start { 1.0 } else { self.share * ((log - self.start) / self.scale).exp() }
    }
}

fn log(ratio: f64) -> f64 {
    ratio.max(SMALLEST).ln()
}

/// What ratios the images of new patients have, in one or several spaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    tails: Vec<Tail>,
    /// Ratios by space.
    ratios: Vec<Vec<f64>>,
    units: Vec<usize>,
}

impl Calibration {
    /// Takes the ratios of calibration images by space, and whose each image is: a number for each patient, or for each image where
    /// patients are not known.
    ///
    /// # Errors
    /// [`Error::Empty`] without a space; [`Error::Length`] where a space has not one ratio for each image; [`Error::NotFinite`] for a
    /// ratio that is no number; [`Error::TooFew`] for fewer than 100 images or 8 units.
    pub fn new(spaces: &[&[f64]], units: &[usize]) -> Result<Self> {
        if spaces.is_empty() {
            return Err(Error::Empty { what: "the list of spaces" });
        }
        for ratios in spaces {
            if ratios.len() != units.len() {
                return Err(Error::Length { what: "the ratios", found: ratios.len(), expected: units.len() });
            }
            if let Some(index) = ratios.iter().position(|ratio| !ratio.is_finite()) {
                return Err(Error::NotFinite { index, value: ratios[index] });
            }
        }
        let known = distinct(units);
        if units.len() < FEWEST.0 || known.len() < FEWEST.1 {
            return Err(Error::TooFew { images: units.len(), units: known.len(), least: FEWEST });
        }
        let tails = spaces
            .iter()
            .map(|ratios| Tail::fit(&sorted_logs(ratios.iter().copied().zip(units.iter().copied()))))
            .collect();
        Ok(Self { tails, ratios: spaces.iter().map(|ratios| ratios.to_vec()).collect(), units: units.to_vec() })
    }

    /// The chance that an image of a new patient comes as near to a training image in any of the spaces, at most 1: Bonferroni's bound
    /// over the spaces. `ratios` has one for each space.
    ///
    /// # Panics
    /// If there is not one ratio for each space.
    #[must_use]
    pub fn p(&self, ratios: &[f64]) -> f64 {
        assert_eq!(ratios.len(), self.tails.len(), "a ratio for each space");
        p_of(&self.tails, ratios.iter().copied())
    }

    /// The space in which these ratios, one for each, are the least likely by chance.
    ///
    /// # Panics
    /// If there is not one ratio for each space.
    #[must_use]
    pub fn surest(&self, ratios: &[f64]) -> usize {
        assert_eq!(ratios.len(), self.tails.len(), "a ratio for each space");
        let p = |space: &usize| self.tails[*space].p(log(ratios[*space]));
        // The first of equal ones.
        (0..ratios.len()).min_by(|a, b| p(a).total_cmp(&p(b))).unwrap_or(0)
    }

    /// The ratio in each space below which an image of a set of `images` is a copy at a chance of `alpha` that any is taken for one by
    /// mistake.
    #[must_use]
    pub fn thresholds(&self, images: usize, alpha: f64) -> Vec<f64> {
        let each = alpha / (images.max(1) * self.tails.len()) as f64;
        let of = |tail: &Tail| (tail.start + tail.scale * (each / tail.share).ln().min(0.0)).exp();
        self.tails.iter().map(of).collect()
    }

    /// How many patients, and how many images, would have been taken for copies in a set of `images` at `alpha`, each patient judged by
    /// the tail of the others.
    #[must_use]
    pub fn false_alarms(&self, images: usize, alpha: f64) -> FalseAlarms {
        let units = distinct(&self.units);
        let accused: Vec<usize> = units
            .par_iter()
            .map(|&unit| {
                let rest = |ratios: &Vec<f64>| {
                    let others = ratios.iter().copied().zip(self.units.iter().copied()).filter(|(_, of)| *of != unit);
                    Tail::fit(&sorted_logs(others))
                };
                let tails: Vec<Tail> = self.ratios.iter().map(rest).collect();
                let own = (0..self.units.len()).filter(|&i| self.units[i] == unit);
                own.filter(|&i| images as f64 * p_of(&tails, self.ratios.iter().map(|ratios| ratios[i])) <= alpha)
                    .count()
            })
            .collect();
        let wrong = accused.iter().filter(|&&images| images > 0).count();
        let interval = clopper_pearson(wrong as f64, units.len(), 0.95).unwrap_or(Interval { low: 0.0, high: 1.0 });
        FalseAlarms { units: units.len(), accused: wrong, images: accused.iter().sum(), interval }
    }
}

fn p_of(tails: &[Tail], ratios: impl Iterator<Item = f64>) -> f64 {
    let least = tails.iter().zip(ratios).map(|(tail, ratio)| tail.p(log(ratio))).fold(1.0, f64::min);
    (least * tails.len() as f64).min(1.0)
}

/// Logarithms of ratios, ascending, each with its unit.
fn sorted_logs(ratios: impl Iterator<Item = (f64, usize)>) -> Vec<(f64, usize)> {
    let mut logs: Vec<(f64, usize)> = ratios.map(|(ratio, unit)| (log(ratio), unit)).collect();
    logs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    logs
}

fn distinct(units: &[usize]) -> Vec<usize> {
    let mut units = units.to_vec();
    units.sort_unstable();
    units.dedup();
    units
}

/// Held-out patients who would have been taken for copied ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FalseAlarms {
    /// Patients (or images, where patients are not known) that were judged, each by the tail of the others.
    pub units: usize,
    /// Those of them with an image that was taken for a copy.
    pub accused: usize,
    /// Images that were.
    pub images: usize,
    /// Clopper and Pearson's interval of the share of accused patients, at 95%.
    pub interval: Interval,
}

/// What a leak of one kind would have looked like: copies of training images, made on purpose and looked for like the synthetic images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The kind of copy.
    pub kind: String,
    /// How many of the copies that were made are found.
    pub found: Proportion,
    /// The fewest copies, of images drawn from all training patients, of which at least one is found with the wanted probability; none
    /// where that takes more than there are synthetic images.
    pub fewest: Option<usize>,
    /// The chance that a leak is found, by the number of patients it is of and the number of copies.
    pub chances: Vec<LeakChance>,
}

/// How likely a leak of some size is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakChance {
    /// Patients whose images are copied, drawn by lot.
    pub patients: usize,
    /// Copies among the synthetic images.
    pub images: usize,
    /// The probability that at least one of them is found.
    pub probability: f64,
}

/// The probability with which the smallest leak that is named would have been found.
pub const WANTED: f64 = 0.95;

/// The power against copies of one kind. `found` says of each copy that was made whether it is found, `units` of which patient it is;
/// leaks of `patients` and of `shares` of the `images` synthetic ones are looked at.
///
/// Copies of one patient are found or missed together, so a leak of few patients is simulated: patients are drawn, and each copy is found
/// with the share of that patient's copies that were.
///
/// # Errors
/// [`Error::Length`] if there is not one unit for each copy, [`Error::Counts`] without a copy.
pub fn power(
    kind: &str,
    found: &[bool],
    units: &[usize],
    images: usize,
    patients: &[usize],
    shares: &[f64],
    seed: u64,
) -> Result<Power> {
    if found.len() != units.len() {
        return Err(Error::Length { what: "the array of units", found: units.len(), expected: found.len() });
    }
    let known = distinct(units);
    let rates: Vec<f64> = known
        .iter()
        .map(|unit| {
            let own: Vec<bool> =
                found.iter().zip(units).filter(|(_, of)| *of == unit).map(|(&found, _)| found).collect();
            // As if one copy more had been made and missed: few copies must not promise more than they showed.
            own.iter().filter(|&&found| found).count() as f64 / (own.len() as f64 + 1.0)
        })
        .collect();
    let share = wilson(found.iter().filter(|&&found| found).count() as u64, found.len() as u64)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chances = Vec::new();
    for &of in patients.iter().filter(|&&of| of <= known.len()) {
        for part in shares {
            let copies = ((part * images as f64).round() as usize).max(1);
            const DRAWS: usize = 500;
            let missed: f64 = (0..DRAWS)
                .map(|_| {
                    let mut order = rates.clone();
                    let (drawn, _) = order.partial_shuffle(&mut rng, of);
                    (0..copies).map(|copy| 1.0 - drawn[copy % drawn.len()]).product::<f64>()
                })
                .sum::<f64>()
                / DRAWS as f64;
            chances.push(LeakChance { patients: of, images: copies, probability: 1.0 - missed });
        }
    }
    // The lower end of the share: what is promised must hold where luck was good.
    let low = share.low;
    let needed = if low > 0.0 {
        ((1.0 - WANTED).ln() / (1.0 - low.min(1.0 - 1e-9)).ln()).ceil().max(1.0)
    } else {
        f64::INFINITY
    };
    let fewest = (needed <= images as f64).then_some(needed as usize);
    Ok(Power { kind: kind.to_owned(), found: share, fewest, chances })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    /// Ratios of 20 images of each of 50 patients whose logarithm is minus an exponential number of mean 0.05.
    fn innocent(seed: u64, images: usize, units: usize) -> (Vec<f64>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ratios = (0..images).map(|_| (0.05 * (1.0 - rng.random::<f64>()).ln()).exp()).collect();
        (ratios, (0..images).map(|i| i % units).collect())
    }

    #[test]
    fn the_tail_by_hand() {
        // 200 logarithms 0, -0.01, ..., -1.99: ten of them, below -1.89, are the tail. They lie 0.01 to 0.10 below it, 0.055 on average.
        let logs: Vec<(f64, usize)> = (0..200).map(|i| (-0.01 * f64::from(199 - i), i as usize)).collect();
        let tail = Tail::fit(&logs);
        assert!((tail.start + 1.89).abs() < 1e-12 && (tail.share - 0.05).abs() < 1e-12);
        // Ten units of one image: the scale is 1 + 1.645 / sqrt(10) times as large.
        assert!((tail.scale - 0.055 * (1.0 + 1.645 / 10_f64.sqrt())).abs() < 1e-12);
        // One scale below the start, the chance is the share over e.
        assert!((tail.p(tail.start - tail.scale) - 0.05 / std::f64::consts::E).abs() < 1e-12);
        assert_eq!(tail.p(tail.start + 0.1), 1.0);
    }

    #[test]
    fn images_of_one_patient_count_less() {
        let logs =
            |units: usize| (0..200).map(|i| (-0.01 * f64::from(199 - i), i as usize % units)).collect::<Vec<_>>();
        assert!(Tail::fit(&logs(2)).scale > Tail::fit(&logs(200)).scale);
    }

    #[test]
    fn innocents_are_rarely_taken_for_copies_and_copies_always() {
        // In each of 200 studies 1000 new images are judged by 1000 others: at a chance of 0.025 five studies would have a wrong copy. The
        // tail's upper end makes that fewer. More than ten have a probability of 0.01.
        let wrong = (0..200_u64)
            .into_par_iter()
            .filter(|study| {
                let (ratios, units) = innocent(2 * study, 1000, 50);
                let calibration = Calibration::new(&[&ratios], &units).unwrap();
                let limit = calibration.thresholds(1000, 0.025)[0];
                assert!(limit < 0.9 && limit > 0.3, "{limit}");
                innocent(2 * study + 1, 1000, 50).0.iter().any(|ratio| *ratio < limit)
            })
            .count();
        assert!(wrong <= 10, "{wrong} of 200");
        let (ratios, units) = innocent(1, 1000, 50);
        let calibration = Calibration::new(&[&ratios], &units).unwrap();
        assert!(1000.0 * calibration.p(&[0.2]) < 1e-3);
        // The limit is where the chance, times the number of images, is alpha.
        let limit = calibration.thresholds(1000, 0.025)[0];
        assert!((1000.0 * calibration.p(&[limit]) / 0.025 - 1.0).abs() < 1e-9);
        assert_eq!(calibration.false_alarms(1000, 0.025).units, 50);
    }

    #[test]
    fn a_patient_with_copies_of_its_own_is_accused() {
        let (mut ratios, units) = innocent(3, 1000, 50);
        (0..1000).filter(|i| units[*i] == 7).for_each(|i| ratios[i] = 0.05);
        let alarms = Calibration::new(&[&ratios], &units).unwrap().false_alarms(1000, 0.025);
        assert_eq!((alarms.accused, alarms.images), (1, 20));
    }

    #[test]
    fn two_spaces_cost_a_factor_of_two() {
        let (ratios, units) = innocent(4, 400, 40);
        let [one, two] = [&[&ratios[..]][..], &[&ratios[..], &ratios[..]][..]]
            .map(|spaces| Calibration::new(spaces, &units).unwrap());
        assert!((two.p(&[0.7, 0.95]) / one.p(&[0.7]) - 2.0).abs() < 1e-9);
        assert_eq!([[0.7, 0.95], [0.95, 0.7], [0.7, 0.7]].map(|ratios| two.surest(&ratios)), [0, 1, 0]);
    }

    #[test]
    fn what_a_leak_needs_to_be_found() {
        // Of four patients with ten copies each, two have all found and two none. Rates: 10 / 11 and 0.
        let found: Vec<bool> = (0..40).map(|i| i % 4 < 2).collect();
        let units: Vec<usize> = (0..40).map(|i| i % 4).collect();
        let power = power("plain", &found, &units, 100, &[1, 4], &[0.05], 1).unwrap();
        assert_eq!((power.found.successes, power.found.total), (20, 40));
        // Wilson's lower end of 20 of 40 is 0.352: ln 0.05 / ln 0.648 = 6.9.
        assert_eq!(power.fewest, Some(7));
        let chance = |at: usize| power.chances[at].probability;
        // Five copies of one patient: half of the time all but (1/11)^5 are found, else none. 500 draws: a standard error of 0.022.
        assert_eq!(power.chances[0].images, 5);
        assert!((chance(0) - 0.5).abs() < 0.07, "{}", chance(0));
        // Of all four: two or three copies of patients that are found, so that none is found with a chance of (1/11)^2 at most.
        assert!(chance(1) > 0.99, "{}", chance(1));
    }

    #[test]
    fn what_cannot_be_calibrated_is_told() {
        let (ratios, units) = innocent(5, 120, 20);
        assert!(matches!(Calibration::new(&[&ratios[..90]], &units[..90]), Err(Error::TooFew { images: 90, .. })));
        assert!(matches!(Calibration::new(&[&ratios], &vec![0; 120]), Err(Error::TooFew { units: 1, .. })));
        assert!(Calibration::new(&[], &units).is_err() && Calibration::new(&[&ratios[1..]], &units).is_err());
        let mut bad = ratios.clone();
        bad[3] = f64::NAN;
        assert!(matches!(Calibration::new(&[&bad], &units), Err(Error::NotFinite { index: 3, .. })));
    }
}
