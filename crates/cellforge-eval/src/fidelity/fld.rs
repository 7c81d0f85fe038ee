//! The feature likelihood divergence: how likely held-out images are under normal distributions around the generated ones.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;

use super::{FidelityOptions, Sample, units::Blocks};
use crate::{Error, Estimate, Features, Result, distances::squared_distance};

/// Rounds of the fit, at most; it ends where a round adds less than [`ENOUGH`].
const ROUNDS: usize = 100;
/// Rounds that a fit is taken on where a block is left out.
const MORE: usize = 4;
/// Gain of a round in mean log likelihood per dimension that is not worth another.
const ENOUGH: f64 = 1e-6;
/// Bounds of the logarithms of variances, as in the authors' code: of copies it would fall without end.
const LOG_VARIANCES: [f64; 2] = [-40.0, 20.0];
/// Squared distances to the mean of the training images count so much, as in the authors' code.
const ORIGIN: f64 = 0.9 * 0.9;

/// The feature likelihood divergence (FLD) of `generated` images: 0 where they are as good as half of the training images, lower is
/// better. Images that are copied from `train` make it worse, unlike the Fréchet distance.
///
/// Jiralerspong et al. 2023, Feature likelihood divergence, arXiv:2302.04440, with their simple estimator. Features are centred and
/// scaled by mean and standard deviation of `test`. Around each generated image lies a normal distribution whose variance, one number
/// for all dimensions, is fitted so that `train` is most likely under the mean of all of them, beside one more around the mean of
/// `train`, which takes what no image explains. The figure is `100 / d` times the mean negative log likelihood of `test` without that
/// last one, less the same with one half of `train` in place of `generated`, fitted to the other half.
///
/// Two things differ from the authors' code. The fit is by expectation maximisation, which ends in the same maximum. The halves of
/// `train` have different patients, where these are known.
///
/// The interval holds the draw of all three sets, by the jackknife over patients (single images where these are not known).
///
/// # Errors
/// [`Error::DimsDiffer`], [`Error::Length`] if groups are not one per image, [`Error::Images`] if a set has fewer than 4 images,
/// [`Error::Halves`] if `train` has a single group, and [`Error::Level`].
pub fn fld(train: &Sample, test: &Sample, generated: &Sample, options: &FidelityOptions) -> Result<Estimate> {
    options.bootstrap.check()?;
    for set in [train, generated] {
        test.features.same_dims(&set.features)?;
    }
    for set in [train, test, generated] {
        if set.features.len() < 4 {
            return Err(Error::Images {
                figure: "the feature likelihood divergence",
                needed: 4,
                rows: set.features.len(),
            });
        }
    }
    let seed = options.bootstrap.seed;
    let blocks = [Blocks::new(train, seed)?, Blocks::new(test, seed)?, Blocks::new(generated, seed)?];
    let scale = Scale::new(test.features);
    let [train_values, test_values, made] = [train, test, generated].map(|set| scale.apply(set.features));
    let dims = test.features.dims();
    let half = half_of(train, generated.features.len(), seed)?;
    let centres: Vec<f32> = half.iter().flat_map(|&row| &train_values[row * dims..][..dims]).copied().collect();
    let origin = squared_to_mean(&train_values, dims);

    let made = Mixture::new(&made, &train_values, &test_values, &origin, dims);
    let halves = Mixture::new(&centres, &train_values, &test_values, &origin, dims);
    let in_half: Vec<bool> = {
        let mut flags = vec![false; train.features.len()];
        half.iter().for_each(|&row| flags[row] = true);
        flags
    };
    let all_train: Vec<usize> = (0..train.features.len()).collect();
    let rest: Vec<usize> = all_train.iter().copied().filter(|&row| !in_half[row]).collect();
    let every = |count: usize| (0..count).collect::<Vec<usize>>();
    let (all_made, all_half) = (every(generated.features.len()), every(half.len()));
    let (fit_made, fit_half) = rayon::join(
        || made.fit(&made.start(&all_train), &all_train, &all_made, ROUNDS),
        || halves.fit(&halves.start(&rest), &rest, &all_half, ROUNDS),
    );
    let surprise = |mixture: &Mixture, fit: &Fit, centres: &[usize]| mixture.surprise(fit, centres);
    let (by_made, by_half) = (surprise(&made, &fit_made, &all_made), surprise(&halves, &fit_half, &all_half));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let differences: Vec<f64> = by_made.iter().zip(&by_half).map(|(made, half)| made - half).collect();
    let value = mean(&differences);

    let without_test = super::in_order(blocks[1].count, |block| {
        let kept = differences.iter().zip(&blocks[1].of).filter(|(_, of)| **of != block);
        mean(&kept.map(|(value, _)| *value).collect::<Vec<_>>())
    });
    let without_made = super::in_order(blocks[2].count, |block| {
        let kept: Vec<usize> = all_made.iter().copied().filter(|&at| blocks[2].of[at] != block).collect();
        let fit = made.fit(&fit_made, &all_train, &kept, MORE);
        mean(&surprise(&made, &fit, &kept)) - mean(&by_half)
    });
    let without_train = super::in_order(blocks[0].count, |block| {
        let kept =
            |rows: &[usize]| -> Vec<usize> { rows.iter().copied().filter(|&row| blocks[0].of[row] != block).collect() };
        let (train, rest) = (kept(&all_train), kept(&rest));
        let centres: Vec<usize> = all_half.iter().copied().filter(|&at| blocks[0].of[half[at]] != block).collect();
        if rest.is_empty() || centres.is_empty() {
            return value;
        }
        let fit = made.fit(&fit_made, &train, &all_made, MORE);
        let half_fit = halves.fit(&fit_half, &rest, &centres, MORE);
        mean(&surprise(&made, &fit, &all_made)) - mean(&surprise(&halves, &half_fit, &centres))
    });
    let spread =
        blocks[0].spread(&without_train).and(blocks[1].spread(&without_test)).and(blocks[2].spread(&without_made));
    Ok(spread.around(value, options.bootstrap.level))
}

/// At most `most` images of about half of the set: whole groups where they are known.
fn half_of(set: &Sample, most: usize, seed: u64) -> Result<Vec<usize>> {
    let [first, _] = super::halves(set.features.len(), set.groups, seed)?;
    let mut rows = first;
    if rows.len() > most {
        rows.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
        rows.truncate(most);
        rows.sort_unstable();
    }
    Ok(rows)
}

/// Mean and standard deviation of each dimension.
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn new(set: Features) -> Self {
        let n = set.len() as f64;
        let mut mean = vec![0.0; set.dims()];
        let rows = || set.values().chunks(set.dims());
        rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / n));
        let mut deviation = vec![0.0; set.dims()];
        for row in rows() {
            let centred = row.iter().zip(&mean).map(|(&value, mean)| (f64::from(value) - mean).powi(2));
            deviation.iter_mut().zip(centred).for_each(|(sum, square)| *sum += square / (n - 1.0));
        }
        // A dimension that is constant stays as it is.
        deviation.iter_mut().for_each(|square| *square = if *square > 0.0 { square.sqrt() } else { 1.0 });
        Self { mean, deviation }
    }

    fn apply(&self, set: Features) -> Vec<f32> {
        let one = |(at, &value): (usize, &f32)| {
            let dim = at % self.mean.len();
            ((f64::from(value) - self.mean[dim]) / self.deviation[dim]) as f32
        };
        set.values().iter().enumerate().map(one).collect()
    }
}

/// [`ORIGIN`] times the squared distance of each row to the mean of all.
fn squared_to_mean(values: &[f32], dims: usize) -> Vec<f64> {
    let n = (values.len() / dims) as f64;
    let mut mean = vec![0.0; dims];
    values.chunks(dims).for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v) / n));
    let squared = |row: &[f32]| row.iter().zip(&mean).map(|(&v, mean)| (f64::from(v) - mean).powi(2)).sum::<f64>();
    values.chunks(dims).map(|row| ORIGIN * squared(row)).collect()
}

/// Squared distances of training and test images to the centres of the normal distributions.
struct Mixture<'a> {
    /// `(train, centres)`.
    train: Vec<f32>,
    /// `(test, centres)`.
    test: Vec<f32>,
    centres: usize,
    origin: &'a [f64],
    dims: f64,
}

/// The logarithms of the variances: around each centre, and around the mean of the training images.
#[derive(Clone)]
struct Fit {
    log_variances: Vec<f64>,
    origin: f64,
}

impl<'a> Mixture<'a> {
    fn new(centres: &[f32], train: &[f32], test: &[f32], origin: &'a [f64], dims: usize) -> Self {
        let squared = |rows: &[f32]| -> Vec<f32> {
            let of = |row: &[f32]| -> Vec<f32> {
                centres.chunks(dims).map(|centre| squared_distance(row, centre) as f32).collect()
            };
            rows.par_chunks(dims).flat_map_iter(of).collect()
        };
        let (train, test) = (squared(train), squared(test));
        Self { train, test, centres: centres.len() / dims, origin, dims: dims as f64 }
    }

    /// Every variance at its best for the nearest training image alone.
    fn start(&self, rows: &[usize]) -> Fit {
        let mut nearest = vec![f32::INFINITY; self.centres];
        for &row in rows {
            let distances = &self.train[row * self.centres..][..self.centres];
            nearest.iter_mut().zip(distances).for_each(|(nearest, &squared)| *nearest = nearest.min(squared));
        }
        let log_variance = |squared: f32| ((f64::from(squared) + 1e-3) / self.dims).ln();
        Fit { log_variances: nearest.into_iter().map(log_variance).collect(), origin: 0.0 }
    }

    /// Makes the training images `rows` most likely under the distributions around `kept`, by expectation maximisation.
    fn fit(&self, start: &Fit, rows: &[usize], kept: &[usize], rounds: usize) -> Fit {
        let mut fit = start.clone();
        let mut before = f64::NEG_INFINITY;
        let mut logs = vec![0.0; kept.len() + 1];
        for _ in 0..rounds {
            let terms = Terms::new(&fit, kept, self.dims);
            let origin = (-0.5 * self.dims * fit.origin, -0.5 * (-fit.origin).exp());
            let mut sums = vec![(0.0, 0.0); kept.len() + 1];
            let mut total = 0.0;
            for &row in rows {
                let squared = &self.train[row * self.centres..][..self.centres];
                let most = terms.logs(squared, kept, &mut logs[..kept.len()]);
                logs[kept.len()] = origin.0 + origin.1 * self.origin[row];
                let most = most.max(logs[kept.len()]);
                let sum: f64 = logs.iter().map(|log| small_exp(log - most)).sum();
                total += most + sum.ln();
                for (at, (log, (weights, weighted))) in logs.iter().zip(&mut sums).enumerate() {
                    let weight = small_exp(log - most) / sum;
                    if weight > 0.0 {
                        let squared = kept.get(at).map_or(self.origin[row], |&centre| f64::from(squared[centre]));
                        *weights += weight;
                        *weighted += weight * squared;
                    }
                }
            }
            let [low, high] = LOG_VARIANCES;
            for (at, (weights, weighted)) in sums.into_iter().enumerate() {
                if weights > 1e-9 {
                    let log = (weighted / (self.dims * weights)).ln().clamp(low, high);
                    *kept.get(at).map_or(&mut fit.origin, |&centre| &mut fit.log_variances[centre]) = log;
                }
            }
            let likelihood = total / (rows.len() as f64 * self.dims);
            if likelihood - before < ENOUGH {
                break;
            }
            before = likelihood;
        }
        fit
    }

    /// `100 / d` times the negative log likelihood of each test image, less what all fits have in common.
    fn surprise(&self, fit: &Fit, kept: &[usize]) -> Vec<f64> {
        let terms = Terms::new(fit, kept, self.dims);
        let mut logs = vec![0.0; kept.len()];
        let one = |squared: &[f32]| {
            let most = terms.logs(squared, kept, &mut logs);
            let sum: f64 = logs.iter().map(|log| small_exp(log - most)).sum();
            -100.0 / self.dims * (most + sum.ln())
        };
        self.test.chunks(self.centres).map(one).collect()
    }
}

/// What each centre adds to the logarithm of its density.
struct Terms {
    constants: Vec<f64>,
    factors: Vec<f64>,
}

impl Terms {
    fn new(fit: &Fit, kept: &[usize], dims: f64) -> Self {
        let count = (kept.len() as f64).ln();
        let logs = || kept.iter().map(|&centre| fit.log_variances[centre]);
        Self {
            constants: logs().map(|log| -0.5 * dims * log - count).collect(),
            factors: logs().map(|log| -0.5 * (-log).exp()).collect(),
        }
    }

    /// The logarithms of the densities at squared distances, but for `(2π)^(-d/2)`; returns the largest.
    fn logs(&self, squared: &[f32], kept: &[usize], logs: &mut [f64]) -> f64 {
        let mut most = f64::NEG_INFINITY;
        for (((log, &centre), constant), factor) in logs.iter_mut().zip(kept).zip(&self.constants).zip(&self.factors) {
            *log = constant + factor * f64::from(squared[centre]);
            most = most.max(*log);
        }
        most
    }
}

/// The exponential, or 0 where it would not count.
fn small_exp(x: f64) -> f64 {
    if x < -40.0 { 0.0 } else { x.exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_centre_by_hand() {
        // One dimension, one centre at 0, training images at -1 and 1, whose mean is 0: origin and centre differ by the factor 0.81.
        let origin = squared_to_mean(&[-1.0, 1.0], 1);
        assert!((origin[0] - 0.81).abs() < 1e-12);
        let mixture = Mixture::new(&[0.0], &[-1.0, 1.0], &[0.0, 2.0], &origin, 1);
        let start = mixture.start(&[0, 1]);
        assert!((start.log_variances[0] - 1.001_f64.ln()).abs() < 1e-6);
        // All squared distances to the centre are 1, so that its variance is 1 whatever the weights, and that of the origin 0.81.
        let fit = mixture.fit(&start, &[0, 1], &[0], ROUNDS);
        assert!(fit.log_variances[0].abs() < 1e-9 && (fit.origin - 0.81_f64.ln()).abs() < 1e-9);
        // Of the test images at 0 and 2: half the squared distance, times 100.
        let surprise = mixture.surprise(&fit, &[0]);
        assert!(surprise[0].abs() < 1e-9 && (surprise[1] - 200.0).abs() < 1e-6, "{surprise:?}");
    }

    #[test]
    fn a_mixture_of_two_by_hand() {
        // Centres at 0 and 10 in one dimension with variances 1 and 4. At 1 the densities, without 1 / √2π and with half of the
        // weight each, are e^(-1/2) / 2 and e^(-81/8) / 4.
        let origin = [0.0];
        let mixture = Mixture::new(&[0.0, 10.0], &[0.0], &[1.0], &origin, 1);
        let fit = Fit { log_variances: vec![0.0, 4.0_f64.ln()], origin: 0.0 };
        let expected = -100.0 * ((-0.5_f64).exp() / 2.0 + (-81.0 / 8.0_f64).exp() / 4.0).ln();
        let found = mixture.surprise(&fit, &[0, 1])[0];
        assert!((found - expected).abs() < 1e-9, "{found} and {expected}");
    }
}
