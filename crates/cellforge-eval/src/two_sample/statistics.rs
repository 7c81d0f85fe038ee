//! Statistics of single images, compared one by one: which of them tells two sets apart.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Order, Sides, Tally};
use crate::{BootstrapOptions, Error, Estimate, Features, Interval, Result, bootstrap::percentiles};

/// Least standard deviations that a figure is measured in: where the real images hardly vary, a difference still has to be one.
const LEAST: [f64; 2] = [0.005, 0.1];

/// Added to shares before their logarithm, so that none is infinite.
const OFFSET: f64 = 0.005;

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

/// How [`compare_statistics`] compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatisticsOptions {
    /// Ways to halve the units of the population, at least 20.
    pub halvings: usize,
    /// Intervals of the areas, and the seed of all that is random.
    pub bootstrap: BootstrapOptions,
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

/// Compares every statistic between two sets, class by class; statistics first, classes within them.
///
/// Each has two differences: the area under its ROC curve, whose distance from 0.5 counts, and the logarithm of the share of images
/// outside the first set's central 98%. What they are by chance is found by halving the units of `population` at random and comparing the two
/// halves. It is the first set, or a larger set of real images that the first is part of. Each difference is measured in standard deviations of that chance, and its p-value is how often the largest of all differences
/// between two halves is as large (Westfall and Young 1993, Resampling-Based Multiple Testing, algorithm 2.5 in single-step form). The halves
/// have half the units each, so that chance is overrated where the sets have more: p-values are too large rather than too small.
///
/// # Errors
/// [`Error::DimsDiffer`]; [`Error::Length`]; [`Error::Label`]; [`Error::Images`] where a set has none of a class; [`Error::Halves`] where there
/// are fewer than two units; [`Error::Relabellings`] for fewer than 20 halvings; [`Error::Resamples`] or [`Error::Level`].
pub fn compare_statistics(
    first: &StatisticRows<'_>,
    second: &StatisticRows<'_>,
    population: &StatisticRows<'_>,
    classes: usize,
    options: &StatisticsOptions,
) -> Result<Vec<StatisticFinding>> {
    first.values.same_dims(&second.values)?;
    first.values.same_dims(&population.values)?;
    options.bootstrap.check()?;
    if options.halvings < 20 {
        return Err(Error::Relabellings(options.halvings));
    }
    for rows in [first, second, population] {
        let expected = rows.values.len();
        for (what, found) in [("the array of labels", rows.labels.len()), ("the array of units", rows.units.len())] {
            if found != expected {
                return Err(Error::Length { what, found, expected });
            }
        }
        if let Some(index) = rows.labels.iter().position(|&label| label as usize >= classes) {
            return Err(Error::Label { index, label: rows.labels[index], classes });
        }
        if let Some(class) = (0..classes).find(|&class| rows.labels.iter().all(|&label| label as usize != class)) {
            let rows = rows.labels.iter().filter(|&&label| label as usize == class).count();
            return Err(Error::Images { figure: "the comparison of statistics", needed: 1, rows });
        }
    }
    let halvings = halvings(population.units, options)?;
    let n = first.values.len();
    let scopes: Vec<(usize, usize)> =
        (0..first.values.dims()).flat_map(|statistic| (0..classes).map(move |class| (statistic, class))).collect();
    // In this order: the images of the first set, then those of the second.
    let units: [Vec<Option<usize>>; 2] = [
        first.units.iter().map(|&unit| Some(unit)).chain(second.units.iter().map(|_| None)).collect(),
        first.units.iter().map(|_| None).chain(second.units.iter().map(|&unit| Some(unit))).collect(),
    ];
    let resampler = Sides::new(units)?;
    let weights: Vec<Vec<u32>> = resampler.map(&options.bootstrap, <[u32]>::to_vec)?;
    let compared: Vec<Compared> = scopes
        .par_iter()
        .map(|&(statistic, class)| {
            let of_class = |rows: &StatisticRows<'_>, from: usize| -> Vec<usize> {
                (0..rows.labels.len()).filter(|&i| rows.labels[i] as usize == class).map(|i| from + i).collect()
            };
            let value = |i: usize| {
                let row = if i < n { first.values.row(i) } else { second.values.row(i - n) };
                f64::from(row[statistic])
            };
            let (firsts, seconds) = (of_class(first, 0), of_class(second, n));
            let mean = |images: &[usize]| images.iter().map(|&i| value(i)).sum::<f64>() / images.len() as f64;
            let means = [mean(&firsts), mean(&seconds)];
            let real = Order::new(of_class(population, 0), |i| f64::from(population.values.row(i)[statistic]));
            let chance =
                halvings.iter().map(|in_second| real.tally(|i| if in_second[i] { [0, 1] } else { [1, 0] })).collect();
            let both = Order::new([firsts, seconds].concat(), value);
            let side = |i: usize, weight: u64| if i < n { [weight, 0] } else { [0, weight] };
            let found = both.tally(|i| side(i, 1));
            let drawn =
                weights.iter().filter_map(|weights| both.tally(|i| side(i, u64::from(weights[i]))).auc()).collect();
            let auc = found.auc().unwrap_or(0.5);
            let Interval { low, high } =
                percentiles(drawn, options.bootstrap.level).unwrap_or(Interval { low: auc, high: auc });
            Compared { found, chance, means, auc: Estimate { value: auc, low: low.min(auc), high: high.max(auc) } }
        })
        .collect();
    // Both differences of every scope in standard deviations of chance, and the largest of all by chance.
    let mut largest = vec![f64::NEG_INFINITY; halvings.len()];
    let mut standard = Vec::with_capacity(compared.len());
    for one in &compared {
        let mut best = f64::NEG_INFINITY;
        for (kind, least) in LEAST.into_iter().enumerate() {
            let chance: Vec<f64> = one.chance.iter().map(|tally| differences(tally)[kind]).collect();
            // The area's difference has two sides, so that it is measured from 0 and not from its mean.
            let centre = if kind == 0 { 0.0 } else { chance.iter().sum::<f64>() / chance.len() as f64 };
            let variance = chance.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / chance.len() as f64;
            let deviation = variance.sqrt().max(least);
            for (largest, x) in largest.iter_mut().zip(&chance) {
                *largest = largest.max((x - centre) / deviation);
            }
            best = best.max((differences(&one.found)[kind] - centre) / deviation);
        }
        standard.push(best);
    }
    let p = |t: f64| {
        let reached = largest.iter().filter(|&&other| other >= t - 1e-12 * t.abs()).count();
        (reached + 1) as f64 / (largest.len() + 1) as f64
    };
    Ok(scopes
        .into_iter()
        .zip(compared.iter().zip(standard))
        .map(|((statistic, class), (one, t))| StatisticFinding {
            statistic,
            class,
            auc: one.auc,
            outside: one.found.outside().unwrap_or(0.0),
            first: one.means[0],
            second: one.means[1],
            p: p(t),
        })
        .collect())
}

struct Compared {
    found: Tally,
    chance: Vec<Tally>,
    means: [f64; 2],
    auc: Estimate,
}

/// How far the area lies from 0.5, and the logarithm of the share outside. None where a side has no images.
fn differences(tally: &Tally) -> [f64; 2] {
    let area = tally.auc().map_or(0.0, |auc| (auc - 0.5).abs());
    let outside = tally.outside().map_or(0.0, |share| ((share + OFFSET) / (2.0 * super::FALSE_ALARMS + OFFSET)).ln());
    [area, outside]
}

/// For each halving, whether each image is in the second half. Halves have as many units, but for one.
fn halvings(units: &[usize], options: &StatisticsOptions) -> Result<Vec<Vec<bool>>> {
    let mut different: Vec<usize> = units.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() < 2 {
        return Err(Error::Halves { units: different.len(), what: "groups" });
    }
    let one = |number: u64| {
        let mut rng = ChaCha12Rng::seed_from_u64(options.bootstrap.seed);
        rng.set_stream(number);
        let mut order: Vec<usize> = (0..different.len()).collect();
        order.shuffle(&mut rng);
        let mut second = vec![false; different.len()];
        order.iter().take(different.len() / 2).for_each(|&unit| second[unit] = true);
        units.iter().map(|unit| different.binary_search(unit).is_ok_and(|at| second[at])).collect()
    };
    Ok((0..options.halvings as u64).into_par_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    const CLASSES: usize = 2;

    /// 40 patients with 10 images of each class and two statistics: a patient's level plus noise, and noise alone.
    fn population(seed: u64, patients: usize, shift: [f32; 2]) -> (Vec<f32>, Vec<u32>, Vec<usize>) {
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

    fn rows(set: &(Vec<f32>, Vec<u32>, Vec<usize>)) -> StatisticRows<'_> {
        StatisticRows { values: Features::new(&set.0, 2).unwrap(), labels: &set.1, units: &set.2 }
    }

    fn options() -> StatisticsOptions {
        StatisticsOptions {
            halvings: 199,
            bootstrap: BootstrapOptions { resamples: 50, ..BootstrapOptions::default() },
        }
    }

    #[test]
    fn a_shift_is_found_in_its_statistic_and_class() {
        let (real, other) = (population(1, 40, [0.0; 2]), population(2, 40, [0.0, 0.3]));
        let found = compare_statistics(&rows(&real), &rows(&other), &rows(&real), CLASSES, &options()).unwrap();
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
                let options = StatisticsOptions {
                    bootstrap: BootstrapOptions { resamples: 20, ..BootstrapOptions::default() },
                    halvings: 99,
                };
                let found = compare_statistics(&rows(&real), &rows(&other), &rows(&real), CLASSES, &options).unwrap();
                found.iter().any(|one| one.p <= 0.05)
            })
            .count();
        // By chance 5; more than 11 of 100 happen once in 200 times.
        assert!(alarms <= 11, "{alarms} of 100");
    }

    #[test]
    fn a_constant_statistic_is_no_difference() {
        let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let (values, units) = (vec![1.0; 80], (0..40).collect::<Vec<_>>());
        let set = (values, labels, units);
        let found = compare_statistics(&rows(&set), &rows(&set), &rows(&set), CLASSES, &options()).unwrap();
        assert!(found.iter().all(|one| one.p == 1.0 && one.auc.value == 0.5 && one.outside == 0.0), "{found:?}");
    }
}
