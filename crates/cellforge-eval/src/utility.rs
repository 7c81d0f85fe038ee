//! Is one way of training better than another? Accuracies of networks that were trained several times, and their differences.
//!
//! A network trained twice, from two seeds, makes two sets of predictions for the same images. A figure of such predictions varies for
//! two reasons that have nothing to do with each other: which patients were in the test, and how the training went. The intervals here
//! hold both:
//!
//! - The patients are drawn again with replacement, whole (see [`Resampler`]), for the mean over the seeds.
//! - To each of these means comes an error of the seeds: Student's t with one degree of freedom less than there are seeds, times the
//!   standard error of the seeds' own figures. Drawing seeds with replacement, as patients are, would not do: out of five values the
//!   percentile interval covers the truth in five cases of six instead of 19 of 20. With the t, an interval over patients that all
//!   agree is that of the t-test for means, here for paired differences (Student 1908).
//!
//! What a patient has in common with one seed alone counts in both parts, so that the intervals are a little wide rather than narrow,
//! as those of the pigeonhole bootstrap are (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1:386-411).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{
    BootstrapOptions, Error, Estimate, Interval, Resampler, Result, bootstrap::percentiles, proportion::wilson_interval,
};

/// How two ways of training compare on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Accuracy of the first way, the mean over its seeds.
    pub accuracy_with: Estimate,
    /// Accuracy of the second way, the mean over its seeds.
    pub accuracy_without: Estimate,
    /// `accuracy_with - accuracy_without`, in [-1, 1], paired by image and by seed: above 0 where the first way is better.
    pub difference: Estimate,
    /// Two-sided p-value of "there is no difference", in (0, 1], from the same resamples as the interval: twice the smaller of the
    /// shares that lie on either side of 0, itself included. It is never 0 and says nothing of other comparisons; see [`holm`].
    pub p: f64,
    /// Trainings compared, pair by pair. With a single one the intervals know nothing of how trainings vary.
    pub seeds: usize,
    /// What was drawn again: patients, or images where there are none to draw.
    pub units: usize,
    /// Whether the units are patients.
    pub by_group: bool,
}

/// The accuracy of a network that was trained several times, the mean over its trainings: `predictions[s][i]` is the class that
/// training `s` gives image `i`, `truth[i]` the right one, `groups[i]` the patient it comes from. The interval holds the variation of
/// patients (of images, where there are no groups or only one) and of trainings.
///
/// Where neither varies, which would claim certainty, the interval is widened by Wilson's upper end for 0 among as many units.
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`], [`Error::Seeds`] for no predictions at all, and those of `options`.
///
/// ```
/// use cellforge_eval::{BootstrapOptions, accuracy_over_seeds};
/// let truth = [0, 0, 1, 1];
/// let predictions = [vec![0, 0, 1, 1], vec![0, 1, 1, 1]]; // two trainings: 4 and 3 of 4
/// let accuracy = accuracy_over_seeds(&truth, &predictions, None, &BootstrapOptions::default())?;
/// assert_eq!(accuracy.value, 0.875);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn accuracy_over_seeds(
    truth: &[u32],
    predictions: &[Vec<u32>],
    groups: Option<&[String]>,
    options: &BootstrapOptions,
) -> Result<Estimate> {
    check(truth, predictions, predictions.len(), groups, options)?;
    let (resampler, _) = resampler(truth.len(), groups)?;
    Spread::new(&right(truth, predictions), &resampler, options)?.estimate(0.0)
}

/// Compares two ways of training on the same images: `with[s][i]` and `without[s][i]` are the classes that training `s` of each way
/// gives image `i`, `truth[i]` the right one, `groups[i]` the patient it comes from. The trainings belong together pair by pair: what
/// they share (the seed of the weights, the choice of real images) then does not count as a difference.
///
/// Swapping the ways turns the signs of the difference and of its interval and changes nothing else.
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`], [`Error::Seeds`] if there are no predictions or not as many of both ways, and those of
/// `options`.
pub fn paired_difference(
    truth: &[u32],
    with: &[Vec<u32>],
    without: &[Vec<u32>],
    groups: Option<&[String]>,
    options: &BootstrapOptions,
) -> Result<Difference> {
    check(truth, with, without.len(), groups, options)?;
    check(truth, without, with.len(), groups, options)?;
    let (resampler, by_group) = resampler(truth.len(), groups)?;
    let (with, without) = (right(truth, with), right(truth, without));
    let difference: Vec<Vec<f64>> =
        with.iter().zip(&without).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
    let spread = Spread::new(&difference, &resampler, options)?;
    Ok(Difference {
        accuracy_with: Spread::new(&with, &resampler, options)?.estimate(0.0)?,
        accuracy_without: Spread::new(&without, &resampler, options)?.estimate(0.0)?,
        p: spread.p(),
        difference: spread.estimate(-1.0)?,
        seeds: with.len(),
        units: resampler.units(),
        by_group,
    })
}

/// Adjusts the p-values of a family of tests so that the chance of one false finding among them stays what one p-value says: each
/// adjusted value below 0.05 may be called a difference (Holm 1979, A simple sequentially rejective multiple test procedure,
/// Scandinavian Journal of Statistics 6:65-70). The results are in the order of `p`.
///
/// # Errors
/// [`Error::PValue`] for a value outside [0, 1].
///
/// ```
/// let adjusted = cellforge_eval::holm(&[0.03, 0.01])?;
/// assert_eq!(adjusted, [0.03, 0.02]);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn holm(p: &[f64]) -> Result<Vec<f64>> {
    if let Some(index) = p.iter().position(|value| !(0.0..=1.0).contains(value)) {
        return Err(Error::PValue { index, value: p[index] });
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut least) = (vec![0.0; p.len()], 0.0_f64);
    for (rank, &test) in order.iter().enumerate() {
        // Never below the value of a test with a smaller p: that one has to be a finding first.
        least = least.max((p.len() - rank) as f64 * p[test]).min(1.0);
        adjusted[test] = least;
    }
    Ok(adjusted)
}

fn check(
    truth: &[u32],
    predictions: &[Vec<u32>],
    others: usize,
    groups: Option<&[String]>,
    options: &BootstrapOptions,
) -> Result<()> {
    options.check()?;
    if truth.is_empty() {
        return Err(Error::Empty { what: "the array of labels" });
    }
    if predictions.is_empty() || predictions.len() != others {
        return Err(Error::Seeds { with: predictions.len(), without: others });
    }
    let lengths = predictions.iter().map(|labels| ("the array of one training's predictions", labels.len()));
    let groups = groups.map(|groups| ("the array of groups", groups.len()));
    match lengths.chain(groups).find(|&(_, found)| found != truth.len()) {
        Some((what, found)) => Err(Error::Length { what, found, expected: truth.len() }),
        None => Ok(()),
    }
}

/// Draws patients, or images where fewer than two patients are known; and whether it is patients.
fn resampler(n: usize, groups: Option<&[String]>) -> Result<(Resampler, bool)> {
    match groups.map(Resampler::groups).transpose()? {
        Some(resampler) if resampler.units() > 1 => Ok((resampler, true)),
        _ => Ok((Resampler::images(n)?, false)),
    }
}

/// 1 for each image that is classified rightly, 0 for each that is not, by training.
fn right(truth: &[u32], predictions: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let one = |labels: &Vec<u32>| labels.iter().zip(truth).map(|(a, b)| f64::from(u8::from(a == b))).collect();
    predictions.iter().map(one).collect()
}

/// The mean of values by seed and image, and how it varies.
struct Spread {
    value: f64,
    /// Two for each resample of the units: with an error of the seeds upwards and with the same one downwards.
    draws: Vec<f64>,
    units: usize,
    level: f64,
}

impl Spread {
    /// `values[s][i]`, at most 1 in size, of checked lengths.
    fn new(values: &[Vec<f64>], resampler: &Resampler, options: &BootstrapOptions) -> Result<Self> {
        let (seeds, n) = (values.len() as f64, values[0].len());
        let mut mean = vec![0.0; n];
        for row in values {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value / seeds);
        }
        let of_seed: Vec<f64> = values.iter().map(|row| row.iter().sum::<f64>() / n as f64).collect();
        let value = of_seed.iter().sum::<f64>() / seeds;
        let error = match values.len() {
            1 => 0.0,
            _ => {
                let squares: f64 = of_seed.iter().map(|x| (x - value).powi(2)).sum();
                (squares / (seeds - 1.0) / seeds).sqrt()
            }
        };
        let drawn = resampler.map(options, |weights| {
            let (mut sum, mut total) = (0.0, 0.0);
            for (&weight, value) in weights.iter().zip(&mean) {
                sum += f64::from(weight) * value;
                total += f64::from(weight);
            }
            sum / total
        })?;
        // The resamples come in no order, so that the quantiles of |t| can be dealt out evenly and need not be drawn.
        let t = StudentsT::new(0.0, 1.0, (seeds - 1.0).max(1.0))
            .expect("a t distribution of one degree of freedom or more");
        let count = drawn.len() as f64;
        let mut draws = Vec::with_capacity(2 * drawn.len());
        for (number, mean) in drawn.into_iter().enumerate() {
            let off = match error {
                0.0 => 0.0,
                _ => error * t.inverse_cdf(0.5 + 0.5 * (number as f64 + 0.5) / count),
            };
            draws.extend([mean + off, mean - off]);
        }
        Ok(Self { value, draws, units: resampler.units(), level: options.level })
    }

    /// The value with its percentile interval, within [`lowest`, 1].
    fn estimate(self, lowest: f64) -> Result<Estimate> {
        let Interval { mut low, mut high } =
            percentiles(self.draws, self.level).unwrap_or(Interval { low: lowest, high: 1.0 });
        if high - low < 1e-12 {
            let unseen = wilson_interval(0.0, self.units as f64, self.level)?.high;
            (low, high) = (self.value - unseen, self.value + unseen);
        }
        Ok(Estimate { value: self.value, low: low.clamp(lowest, 1.0), high: high.clamp(lowest, 1.0) })
    }

    fn p(&self) -> f64 {
        let tail = |beyond: &dyn Fn(f64) -> bool| self.draws.iter().filter(|&&draw| beyond(draw)).count() as f64;
        // Sums of quotients that cancel leave no exact 0.
        let below = tail(&|draw| draw <= 1e-12);
        let above = tail(&|draw| draw >= -1e-12);
        (2.0 * (below.min(above) + 1.0) / (self.draws.len() as f64 + 1.0)).min(1.0)
    }
}
