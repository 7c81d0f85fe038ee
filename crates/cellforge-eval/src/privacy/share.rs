//! The share of synthetic images that are nearer to training than to the holdout.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF};

use crate::{BootstrapOptions, Error, Interval, Resampler, Result, proportion::wilson_interval};

use super::{
    chance::Chance,
    near::List,
    units::{Purpose, Side, Units, seed_of},
};

/// How many synthetic images are nearer to training than to the holdout, evened out for the sizes of the two.
///
/// The nearest of all real images is a training image the more often the more of them there are. By chance it belongs to a training
/// patient as often as patients are in training: a share `expected`. With `s` the share found, `rate` is `a / (a + b)` with
/// `a = s / expected` and `b = (1 - s) / (1 - expected)`: 0.5 by chance and 1 if every synthetic image is nearest to a training patient.
/// Drawing a training set of the holdout's size instead would leave out most of the patients that might be copied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Synthetic images whose nearest real image is a training image. Those as near to both sides count half.
    pub successes: f64,
    /// Synthetic images.
    pub total: usize,
    /// Share of the patients (of the images, where patients are unknown) that are in training.
    pub expected: f64,
    /// The share of successes, evened out, in [0, 1].
    pub rate: f64,
    /// Clopper and Pearson's exact binomial interval, evened out. It takes synthetic images for independent. Many of them may be near to
    /// one patient, so it is too narrow where images come from patients.
    pub binomial: Interval,
    /// Interval of the bootstrap over patients, where they are known: images nearest to one patient are drawn together.
    pub by_patient: Option<Interval>,
    /// The rate when membership is anyone's guess.
    pub chance: Chance,
    /// Training images that were compared.
    pub train_images: usize,
    /// Held-out images that were compared.
    pub holdout_images: usize,
    /// Patients of the training images that were compared, where known.
    pub train_groups: Option<usize>,
    /// Patients of the held-out images that were compared, where known.
    pub holdout_groups: Option<usize>,
}

/// Clopper and Pearson's exact interval of a rate: the rates at which `successes` or more, and `successes` or fewer, out of `total`
/// have a chance of `(1 - level) / 2` each. Halves of successes are taken as they are, through the beta distribution.
///
/// Clopper, C. J. and Pearson, E. S. (1934), The use of confidence or fiducial limits illustrated in the case of the binomial,
/// Biometrika 26:404-413.
///
/// # Errors
/// [`Error::Counts`] if `total` is 0 or `successes` does not lie in 0 to `total`; [`Error::Level`] if `level` is not in (0, 1).
///
/// ```
/// // 0 of 10: from 0 to 1 - 0.025^(1/10).
/// let interval = cellforge_eval::clopper_pearson(0.0, 10, 0.95)?;
/// assert!(interval.low == 0.0 && (interval.high - 0.30850).abs() < 1e-5);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn clopper_pearson(successes: f64, total: usize, level: f64) -> Result<Interval> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Level(level));
    }
    let n = total as f64;
    if total == 0 || !(0.0..=n).contains(&successes) {
        return Err(Error::Counts { successes: successes as u64, total: total as u64 });
    }
    let tail = (1.0 - level) / 2.0;
    let quantile = |a, b, q| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(q));
    // Below half a success no beta distribution with both shapes above 0.5 is left: the end is that of no success.
    let low = if successes < 0.5 { 0.0 } else { quantile(successes, n - successes + 1.0, tail) };
    let high = if successes > n - 0.5 { 1.0 } else { quantile(successes + 1.0, n - successes, 1.0 - tail) };
    Ok(Interval { low: low.clamp(0.0, successes / n), high: high.clamp(successes / n, 1.0) })
}

/// Whether each synthetic image is nearer to training (1) or to the holdout (0), or as near to both (0.5), and the unit nearest to it.
/// Where a list ends before a unit that takes part, nobody can tell: 0.5.
pub(crate) fn outcomes<'a>(
    lists: impl IntoIterator<Item = &'a List>,
    sides: &[Side],
) -> impl Iterator<Item = (f64, Option<u32>)> {
    lists.into_iter().map(|list| {
        let mut taking_part = list.iter().filter(|near| sides[near.unit as usize] != Side::Out);
        let Some(nearest) = taking_part.next() else { return (0.5, None) };
        let side = sides[nearest.unit as usize];
        let tied = taking_part
            .take_while(|near| near.distance == nearest.distance)
            .any(|near| sides[near.unit as usize] != side);
        let nearer = if tied { 0.5 } else { f64::from(u8::from(side == Side::Train)) };
        (nearer, Some(nearest.unit))
    })
}

/// The share of synthetic images nearer to training in a labelling, evened out.
pub(crate) fn rate(lists: &[List], sides: &[Side]) -> f64 {
    let successes: f64 = outcomes(lists, sides).map(|(nearer, _)| nearer).sum();
    evened(successes / lists.len() as f64, expected(sides))
}

/// The share of the units taking part that are in training.
pub(crate) fn expected(sides: &[Side]) -> f64 {
    let count = |side| sides.iter().filter(|&&other| other == side).count() as f64;
    let (train, holdout) = (count(Side::Train), count(Side::Holdout));
    // Where no unit takes part, no synthetic image is nearer to either side.
    if train + holdout > 0.0 { train / (train + holdout) } else { 0.5 }
}

/// A share, of which `expected` is to be expected by chance, on a scale on which that is 0.5.
pub(crate) fn evened(share: f64, expected: f64) -> f64 {
    let (train, holdout) = (share * (1.0 - expected), (1.0 - share) * expected);
    if train + holdout > 0.0 { train / (train + holdout) } else { 0.5 }
}

/// The share with its intervals.
pub(crate) fn share(lists: &[List], units: &Units, bootstrap: &BootstrapOptions, chance: Chance) -> Result<Share> {
    let sides = units.exchangeable(&units.sides());
    let (nearer, nearest): (Vec<f64>, Vec<Option<u32>>) = outcomes(lists, &sides).unzip();
    let (successes, total, expected) = (nearer.iter().sum::<f64>(), nearer.len(), expected(&sides));
    let rate = evened(successes / total as f64, expected);
    let on = |side| {
        let images = units.of.iter().filter(|&&unit| sides[unit] == side).count();
        (images, sides.iter().filter(|&&other| other == side).count())
    };
    let ((train_images, train_units), (holdout_images, holdout_units)) = (on(Side::Train), on(Side::Holdout));

    // Images near to one patient stand or fall together with the side that this patient is on.
    let by_patient = || {
        let resampler = Resampler::groups(&nearest)?;
        let options = BootstrapOptions { seed: seed_of(bootstrap.seed, Purpose::Synthetic), ..*bootstrap };
        let mean = |weights: &[u32]| {
            let sum: f64 = weights.iter().zip(&nearer).map(|(&weight, value)| f64::from(weight) * value).sum();
            Some(evened(sum / weights.iter().map(|&weight| f64::from(weight)).sum::<f64>(), expected))
        };
        let found = resampler.interval(&options, mean)?;
        bounded(rate, found, resampler.units(), bootstrap.level)
    };
    let exact = clopper_pearson(successes, total, bootstrap.level)?;
    Ok(Share {
        successes,
        total,
        expected,
        rate,
        binomial: Interval { low: evened(exact.low, expected), high: evened(exact.high, expected) },
        by_patient: units.patients.then(by_patient).transpose()?,
        chance,
        train_images,
        holdout_images,
        train_groups: units.patients.then_some(train_units),
        holdout_groups: units.patients.then_some(holdout_units),
    })
}

/// The interval of a share that was resampled over `units` of them. With one unit nothing is known of how units vary: [0, 1]. Where all
/// resamples agree on 0 or 1, which would claim certainty, Wilson's interval with the number of units as its total.
pub(crate) fn bounded(value: f64, found: Option<Interval>, units: usize, level: f64) -> Result<Interval> {
    match found {
        Some(found) if units > 1 && found.low < found.high => {
            Ok(Interval { low: found.low.min(value), high: found.high.max(value) })
        }
        Some(_) if units > 1 => wilson_interval(value, units as f64, level),
        _ => Ok(Interval { low: 0.0, high: 1.0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::near::Near, *};

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
    }

    #[test]
    fn exact_intervals_in_closed_form() {
        // None of n: P(0 | p) = (1 - p)^n = 0.025. All of n: p^n = 0.025.
        let none = clopper_pearson(0.0, 10, 0.95).unwrap();
        close(none.high, 1.0 - 0.025_f64.powf(0.1), 1e-12);
        let all = clopper_pearson(10.0, 10, 0.95).unwrap();
        close(all.low, 0.025_f64.powf(0.1), 1e-12);
        assert_eq!((none.low, all.high), (0.0, 1.0));
        // One of two: P(1 or 2 | p) = 1 - (1 - p)^2 = 0.025 and P(0 or 1 | p) = 1 - p^2 = 0.025.
        let one = clopper_pearson(1.0, 2, 0.95).unwrap();
        close(one.low, 1.0 - 0.975_f64.sqrt(), 1e-12);
        close(one.high, 0.975_f64.sqrt(), 1e-12);
    }

    #[test]
    fn the_ends_have_the_chance_they_should() {
        // The tails of the binomial distribution, summed term by term, are 0.025 at both ends.
        for (k, n) in [(300_usize, 1000_usize), (7, 9), (5030, 10_000)] {
            let found = clopper_pearson(k as f64, n, 0.95).unwrap();
            let tail = |p: f64, from: usize, to: usize| -> f64 {
                let (mut log, mut sum) = (n as f64 * (1.0 - p).ln(), 0.0);
                for i in 0..=n {
                    if (from..=to).contains(&i) {
                        sum += log.exp();
                    }
                    log += ((n - i) as f64 / (i + 1) as f64).ln() + (p / (1.0 - p)).ln();
                }
                sum
            };
            close(tail(found.low, k, n), 0.025, 1e-7);
            close(tail(found.high, 0, k), 0.025, 1e-7);
        }
    }

    #[test]
    fn halves_lie_between_their_neighbours() {
        let at = |k| clopper_pearson(k, 20, 0.95).unwrap();
        assert!(at(3.0).low < at(3.5).low && at(3.5).low < at(4.0).low);
        assert!(at(3.0).high < at(3.5).high && at(3.5).high < at(4.0).high);
        assert!(at(0.25).low == 0.0 && at(19.75).high == 1.0);
        assert!(clopper_pearson(1.0, 0, 0.95).is_err() && clopper_pearson(3.0, 2, 0.95).is_err());
    }

    #[test]
    fn nearer_by_hand() {
        let near = |unit, distance| Near { unit, image: unit, distance };
        use Side::{Holdout, Out, Train};
        let sides = [Train, Holdout, Out, Train];
        let lists = vec![
            vec![near(2, 0.5), near(0, 1.0), near(1, 2.0)], // unit 2 takes no part: training
            vec![near(1, 1.0), near(0, 1.5)],               // holdout
            vec![near(3, 1.0), near(1, 1.0), near(0, 3.0)], // tied: half
            vec![near(3, 1.0), near(0, 1.0), near(1, 3.0)], // tied within training: training
            vec![near(2, 0.1)],                             // no unit that takes part: half
        ];
        // 3 of 5 where 2 of 3 are to be expected: a = 0.6 / (2/3) = 0.9, b = 0.4 / (1/3) = 1.2: 0.9 / 2.1.
        close(rate(&lists, &sides), 0.9 / 2.1, 1e-12);
        let nearest: Vec<_> = outcomes(&lists, &sides).map(|(_, unit)| unit).collect();
        assert_eq!(nearest, [Some(0), Some(1), Some(3), Some(3), None]);
    }
}
