//! Statistics of single images, compared one by one: which of them tells two sets apart.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Order, Sides, Tally};
use crate::{BootstrapOptions, Error, Estimate, Features, Interval, Result, bootstrap::percentiles};

/// Least standard deviations that a figure is measured in: where the real images hardly vary, a difference still has to be one.
const LEAST: [f64; 2] = [0.01, 0.25];

/// Added to shares before their logarithm, so that a share near 0 counts little more than none.
const OFFSET: f64 = 0.02;

/// How often the first half of a draw is halved again, for its own standard deviations.
const AGAIN: usize = 30;
/// Standard deviations that rounding may make.
const SLACK: f64 = 1e-9;
/// So many units tell standard deviations well enough.
const MANY: usize = 200;

/// Statistics of the images of one set.
#[derive(Clone, Copy, Debug)]
pub struct StatisticRows<'a> {
    /// One row per image, one number per statistic.
    pub values: Features<'a>,
    /// The class of each image.
    pub labels: &'a [u32],
    /// A number for the patient of each image, or for the image itself.
    pub units: &'a [usize],
}

/// How one statistic differs between two sets, in one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticFinding {
    /// Its position in a row.
    pub statistic: usize,
    /// The class.
    pub class: usize,
    /// The area under the ROC curve: the share of pairs in which the second set's image has the larger value. 0 separates as well as 1.
    pub auc: Estimate,
    /// Share of the second set's images outside the central 98% of the first set's. 0.02 is expected.
    pub outside: f64,
    /// Mean of the first set.
    pub first: f64,
    /// Mean of the second set.
    pub second: f64,
    /// The p-value of the larger of its two differences (area, share outside), adjusted for all statistics, classes and both differences by
    /// the single-step max-T method of Westfall and Young.
    pub p: f64,
}

impl StatisticFinding {
    /// How well it separates the sets, from 0.5 to 1, whichever has the larger values.
    #[must_use]
    pub fn separation(&self) -> f64 {
        self.auc.value.max(1.0 - self.auc.value)
    }
}

/// What the differences of statistics between two sets are by chance, class by class.
///
/// Each statistic has two differences: the area under its ROC curve, whose distance from 0.5 counts, and the logarithm of the share of images
/// outside the first set's central 98%. Chance is found by drawing two disjoint halves of a set from the units of a larger population of real
/// images, many times, and comparing them.
#[derive(Clone, Debug)]
pub struct StatisticsByChance {
    dims: usize,
    classes: usize,
    /// Mean and standard deviation of each difference of each statistic and class.
    moments: Vec<Moments>,
    /// The largest of all differences of each draw, in standard deviations.
    largest: Vec<f64>,
}

impl StatisticsByChance {
    /// Compares two sets of `units / 2` units each, drawn from the population without replacement, `draws` times.
    ///
    /// `units` is how many the first set of a comparison has. The halves have half as many each, so that chance is overrated where both sets
    /// of the comparison are whole: p-values are too large rather than too small.
    ///
    /// The population is best a larger set of real images than the first set, with units of its own as well. Where it has fewer than twice
    /// `units`, and these are fewer than 200, its standard deviations are as unsure as few units make them. The differences of a draw are then measured in the standard
    /// deviations of its own first half, halved again at random, so that chance has the same fault.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Label`]; [`Error::Images`] where the population has none of a class; [`Error::Halves`] where fewer than two
    /// units would be drawn; [`Error::Relabellings`] for fewer than 20 draws.
    pub fn new(population: &StatisticRows<'_>, units: usize, classes: usize, draws: usize, seed: u64) -> Result<Self> {
        if draws < 20 {
            return Err(Error::Relabellings(draws));
        }
        check(population, classes)?;
        let mut different = population.units.to_vec();
        different.sort_unstable();
        different.dedup();
        let unit_of: Vec<usize> = population.units.iter().map(|unit| different.partition_point(|x| x < unit)).collect();
        let all: Vec<usize> = (0..different.len()).collect();
        let of = units.min(all.len());
        if of < 2 {
            return Err(Error::Halves { units: of, what: "groups" });
        }
        let halves: Vec<Halves> = (0..draws as u64)
            .into_par_iter()
            .map(|draw| {
                let mut rng = ChaCha12Rng::seed_from_u64(seed);
                rng.set_stream(draw);
                let place = halved(&all, of, all.len(), &mut rng);
                let firsts: Vec<usize> = all.iter().copied().filter(|&unit| place[unit] == Half::First).collect();
                let again = if 2 * of <= all.len() || of >= MANY || firsts.len() < 2 { 0 } else { AGAIN };
                let again = (0..again).map(|_| halved(&firsts, firsts.len(), all.len(), &mut rng)).collect();
                Halves { place, again }
            })
            .collect();
        let dims = population.values.dims();
        let chance: Vec<(Moments, Vec<f64>)> = scopes(dims, classes)
            .par_iter()
            .map(|&(statistic, class)| {
                let value = |i: usize| f64::from(population.values.row(i)[statistic]);
                let real = Order::new(population.of_class(class, 0), value);
                let between = |real: &Order, place: &[Half]| differences(&real.tally(|i| place[unit_of[i]].weights()));
                let found: Vec<[f64; 2]> = halves.iter().map(|half| between(&real, &half.place)).collect();
                let moments = Moments::of(&found);
                let largest = |(half, found): (&Halves, &[f64; 2])| {
                    if half.again.is_empty() {
                        return moments.standard(*found);
                    }
                    let first = real.only(|i| half.place[unit_of[i]] == Half::First);
                    let again: Vec<[f64; 2]> = half.again.iter().map(|place| between(&first, place)).collect();
                    Moments::of(&again).standard(*found)
                };
                let largest = halves.iter().zip(&found).map(largest).collect();
                (moments, largest)
            })
            .collect();
        let (moments, each): (Vec<Moments>, Vec<Vec<f64>>) = chance.into_iter().unzip();
        let largest =
            (0..draws).map(|draw| each.iter().map(|each| each[draw]).fold(f64::NEG_INFINITY, f64::max)).collect();
        Ok(Self { dims, classes, moments, largest })
    }

    /// Compares every statistic between two sets, class by class; statistics first, classes within them. Each difference is measured in
    /// standard deviations of chance, and its p-value is how often the largest of all differences of a draw is as large (Westfall and Young
    /// 1993, Resampling-Based Multiple Testing, algorithm 2.5 in single-step form). Areas have intervals over the units of both sets.
    ///
    /// # Errors
    /// [`Error::DimsDiffer`]; [`Error::Length`]; [`Error::Label`]; [`Error::Images`] where a set has none of a class; [`Error::Resamples`] or
    /// [`Error::Level`].
    pub fn compare(
        &self,
        first: &StatisticRows<'_>,
        second: &StatisticRows<'_>,
        options: &BootstrapOptions,
    ) -> Result<Vec<StatisticFinding>> {
        options.check()?;
        first.values.same_dims(&second.values)?;
        if first.values.dims() != self.dims {
            return Err(Error::DimsDiffer { left: first.values.dims(), right: self.dims });
        }
        check(first, self.classes)?;
        check(second, self.classes)?;
        let n = first.values.len();
        // In this order: the images of the first set, then those of the second.
        let units: [Vec<Option<usize>>; 2] = [
            first.units.iter().map(|&unit| Some(unit)).chain(second.units.iter().map(|_| None)).collect(),
            first.units.iter().map(|_| None).chain(second.units.iter().map(|&unit| Some(unit))).collect(),
        ];
        let weights: Vec<Vec<u32>> = Sides::new(units)?.map(options, <[u32]>::to_vec)?;
        let finding = |(&(statistic, class), moments): (&(usize, usize), &Moments)| {
            let value = |i: usize| {
                let row = if i < n { first.values.row(i) } else { second.values.row(i - n) };
                f64::from(row[statistic])
            };
            let (firsts, seconds) = (first.of_class(class, 0), second.of_class(class, n));
            let mean = |images: &[usize]| images.iter().map(|&i| value(i)).sum::<f64>() / images.len() as f64;
            let means = [mean(&firsts), mean(&seconds)];
            let both = Order::new([firsts, seconds].concat(), value);
            let side = |i: usize, weight: u64| if i < n { [weight, 0] } else { [0, weight] };
            let found = both.tally(|i| side(i, 1));
            let drawn =
                weights.iter().filter_map(|weights| both.tally(|i| side(i, u64::from(weights[i]))).auc()).collect();
            let auc = found.auc().unwrap_or(0.5);
            let Interval { low, high } = percentiles(drawn, options.level).unwrap_or(Interval { low: auc, high: auc });
            StatisticFinding {
                statistic,
                class,
                auc: Estimate { value: auc, low: low.min(auc), high: high.max(auc) },
                outside: found.outside().unwrap_or(0.0),
                first: means[0],
                second: means[1],
                p: self.p(moments.standard(differences(&found))),
            }
        };
        let scopes = scopes(self.dims, self.classes);
        Ok(scopes.par_iter().zip(&self.moments).map(finding).collect())
    }

    fn p(&self, t: f64) -> f64 {
        let reached = self.largest.iter().filter(|&&other| other >= t - SLACK).count();
        (reached + 1) as f64 / (self.largest.len() + 1) as f64
    }
}

/// Every statistic in every class, in the order of findings.
fn scopes(dims: usize, classes: usize) -> Vec<(usize, usize)> {
    (0..dims).flat_map(|statistic| (0..classes).map(move |class| (statistic, class))).collect()
}

fn check(rows: &StatisticRows<'_>, classes: usize) -> Result<()> {
    let expected = rows.values.len();
    for (what, found) in [("the array of labels", rows.labels.len()), ("the array of units", rows.units.len())] {
        if found != expected {
            return Err(Error::Length { what, found, expected });
        }
    }
    if let Some(index) = rows.labels.iter().position(|&label| label as usize >= classes) {
        return Err(Error::Label { index, label: rows.labels[index], classes });
    }
    if (0..classes).any(|class| rows.labels.iter().all(|&label| label as usize != class)) {
        return Err(Error::Images { figure: "the comparison of statistics", needed: 1, rows: 0 });
    }
    Ok(())
}

impl StatisticRows<'_> {
    /// The images of a class, numbered from `from`.
    fn of_class(&self, class: usize, from: usize) -> Vec<usize> {
        (0..self.labels.len()).filter(|&i| self.labels[i] as usize == class).map(|i| from + i).collect()
    }
}

/// Mean and standard deviation of both differences by chance.
#[derive(Clone, Copy, Debug)]
struct Moments([(f64, f64); 2]);

impl Moments {
    fn of(found: &[[f64; 2]]) -> Self {
        Self([0, 1].map(|kind| {
            let n = found.len() as f64;
            // The area's difference has two sides, so that it is measured from 0 and not from its mean.
            let centre = if kind == 0 { 0.0 } else { found.iter().map(|found| found[kind]).sum::<f64>() / n };
            let variance = found.iter().map(|found| (found[kind] - centre).powi(2)).sum::<f64>() / n;
            (centre, variance.sqrt().max(LEAST[kind]))
        }))
    }

    /// The larger of both differences in standard deviations.
    fn standard(&self, differences: [f64; 2]) -> f64 {
        let of = |(x, (centre, deviation)): (f64, &(f64, f64))| (x - centre) / deviation;
        differences.into_iter().zip(&self.0).map(of).fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Two halves of some units.
struct Halves {
    /// Where each unit is.
    place: Vec<Half>,
    /// Halves of the first half, where they are needed.
    again: Vec<Vec<Half>>,
}

/// Where a draw puts a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Neither,
    First,
    Second,
}

impl Half {
    fn weights(self) -> [u64; 2] {
        match self {
            Self::Neither => [0, 0],
            Self::First => [1, 0],
            Self::Second => [0, 1],
        }
    }
}

/// How far the area lies from 0.5, and the logarithm of the share outside. None where a side has no images.
fn differences(tally: &Tally) -> [f64; 2] {
    let area = tally.auc().map_or(0.0, |auc| (auc - 0.5).abs());
    let outside = tally.outside().map_or(0.0, |share| ((share + OFFSET) / (2.0 * super::FALSE_ALARMS + OFFSET)).ln());
    [area, outside]
}

/// Draws `of` of the units, numbers below `total`, and halves them: as many on either side, but for one.
fn halved(units: &[usize], of: usize, total: usize, rng: &mut ChaCha12Rng) -> Vec<Half> {
    let mut order = units.to_vec();
    order.shuffle(rng);
    let mut place = vec![Half::Neither; total];
    order[..of / 2].iter().for_each(|&unit| place[unit] = Half::Second);
    order[of / 2..of].iter().for_each(|&unit| place[unit] = Half::First);
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    const CLASSES: usize = 2;

    /// 40 patients with 10 images of each class and two statistics: a patient's level plus noise, and noise alone.
    fn population(seed: u64, patients: usize, shift: [f32; 2]) -> Set {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (mut values, mut labels, mut units) = (Vec::new(), Vec::new(), Vec::new());
        for patient in 0..patients {
            let level: f32 = rng.random();
            for i in 0..20 {
                let label = i % 2;
                let mut noise = || rng.random::<f32>() - 0.5;
                values.extend([level + noise(), noise() + shift[label as usize]]);
                labels.push(label);
                units.push(patient);
            }
        }
        (values, labels, units)
    }

    fn rows(set: &Set) -> StatisticRows<'_> {
        StatisticRows { values: Features::new(&set.0, 2).unwrap(), labels: &set.1, units: &set.2 }
    }

    type Set = (Vec<f32>, Vec<u32>, Vec<usize>);

    fn compare(real: &Set, other: &Set, draws: usize) -> Vec<StatisticFinding> {
        let chance = StatisticsByChance::new(&rows(real), usize::MAX, CLASSES, draws, 1).unwrap();
        let options = BootstrapOptions { resamples: 50, ..BootstrapOptions::default() };
        chance.compare(&rows(real), &rows(other), &options).unwrap()
    }

    #[test]
    fn a_shift_is_found_in_its_statistic_and_class() {
        let (real, other) = (population(1, 40, [0.0; 2]), population(2, 40, [0.0, 0.3]));
        let found = compare(&real, &other, 199);
        let p: Vec<bool> = found.iter().map(|one| one.p <= 0.05).collect();
        // Statistic 0 in class 0 and 1, statistic 1 in class 0 and 1: only the last was shifted.
        assert_eq!(p, [false, false, false, true]);
        let shifted = found[3];
        assert!((shifted.second - shifted.first - 0.3).abs() < 0.05, "{shifted:?}");
        // Two uniforms on an interval of length 1, shifted by s: 1/2 + s - s^2 / 2.
        assert!((shifted.auc.value - (0.5 + 0.3 - 0.045)).abs() < 0.04, "{shifted:?}");
        // Uniform: a share of 0.3 lies above the highest real value, of which 1% are passed over.
        assert!((shifted.outside - 0.31).abs() < 0.05, "{shifted:?}");
        assert!(shifted.auc.low < shifted.auc.value && shifted.auc.value < shifted.auc.high);
    }

    /// Levels differ between patients, so that a test which took images for independent would find statistic 0 nearly always.
    #[test]
    fn other_patients_are_rarely_called_different() {
        let alarms = (0..100)
            .filter(|&seed| {
                let (real, other) = (population(3 + seed, 24, [0.0; 2]), population(1003 + seed, 12, [0.0; 2]));
                compare(&real, &other, 99).iter().any(|one| one.p <= 0.05)
            })
            .count();
        // By chance 5; more than 11 of 100 happen once in 200 times.
        assert!(alarms <= 11, "{alarms} of 100");
    }

    /// Of 20 images of a class of some patients, two are bright: of every seventh patient of the population, and of one of ten of the other set.
    /// The first set happens to have none of them. The other statistic is noise.
    #[test]
    fn what_few_patients_have_is_no_difference() {
        let bright = |patients: std::ops::Range<usize>, which: &dyn Fn(usize) -> bool| -> Set {
            let images = patients.flat_map(|patient| (0..40).map(move |i| (patient, i)));
            let (mut values, mut labels, mut units) = (Vec::new(), Vec::new(), Vec::new());
            let mut rng = ChaCha12Rng::seed_from_u64(5);
            for (patient, i) in images {
                values.extend([f32::from(u8::from(which(patient) && i < 4)), rng.random::<f32>()]);
                labels.push(i as u32 % 2);
                units.push(patient);
            }
            (values, labels, units)
        };
        let first = bright(0..30, &|_| false);
        let other = bright(100..110, &|patient| patient == 100);
        let population = bright(0..140, &|patient| patient >= 30 && patient % 7 == 0);
        let options = BootstrapOptions { resamples: 20, ..BootstrapOptions::default() };
        let least = |population: &Set, other: &Set| {
            let chance = StatisticsByChance::new(&rows(population), 30, CLASSES, 199, 1).unwrap();
            let found = chance.compare(&rows(&first), &rows(other), &options).unwrap();
            found.iter().map(|one| one.p).fold(1.0, f64::min)
        };
        assert!(least(&population, &other) > 0.1);
        assert!(least(&first, &other) > 0.1);
        // Where half of the patients have it, it is one.
        let many = bright(100..110, &|patient| patient % 2 == 0);
        assert!(least(&first, &many) <= 0.05 && least(&population, &many) <= 0.05);
    }

    #[test]
    fn a_constant_statistic_is_no_difference() {
        let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let (values, units) = (vec![1.0; 80], (0..40).collect::<Vec<_>>());
        let set = (values, labels, units);
        let found = compare(&set, &set, 199);
        assert!(found.iter().all(|one| one.p == 1.0 && one.auc.value == 0.5 && one.outside == 0.0), "{found:?}");
    }
}
