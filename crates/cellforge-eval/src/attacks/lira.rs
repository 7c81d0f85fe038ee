//! Likelihood ratios against reference generators.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What one reference generator says of all targets.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The statistic of each target, `(n,)`: higher where the target lies closer to what the generator makes.
    pub statistics: &'a [f64],
    /// Whether the reference was trained on each target, `(n,)`.
    pub members: &'a [bool],
}

/// The scores of [`likelihood_ratios`], and the normal model behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodRatios {
    /// For each target, the attacked generator's statistic in standard deviations above the point midway between what is expected of
    /// non-members and of members. Higher means more likely a member.
    pub scores: Vec<f64>,
    /// How much higher references have the statistic of what they were trained on. The log likelihood ratio is `shift / deviation` times
    /// the score.
    pub shift: f64,
    /// Standard deviation of a target's statistic over generators. 0 where a single reference leaves nothing to estimate it by; scores
    /// are not divided then.
    pub deviation: f64,
}

/// LiRA: how much likelier the statistic of each target is if the attacked generator was trained on it. `attacked` has one statistic per
/// target, and each reference too.
///
/// The model is normal: the statistic of target `i` under a generator is `aᵢ + b m + e`, where `m` is ½ for a member and -½ for others, `b` is
/// the shift and `e` is noise of one deviation `s`. All are fitted to the references: `b` by least squares within targets, `aᵢ` as the mean of
/// what is left. The score is `(x - aᵢ) / (s √(1 + 1/K))` of `K` references. Carlini et al. (2022) fit two normals for each target with dozens of
/// references. With few they share the deviation among targets; here the shift is shared too.
///
/// Where no reference was trained on a target of the others, the shift is 0 and the score is that of their offline form. With one reference it
/// is a ratio of two statistics alone (Watson et al. 2022, On the importance of difficulty calibration in membership inference
/// attacks).
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`] or [`Error::NotFinite`].
///
/// ```
/// use cellforge_eval::attacks::{Reference, likelihood_ratios};
/// // Two targets, and two references that share them.
/// let a = Reference { statistics: &[3.0, 0.0], members: &[true, false] };
/// let b = Reference { statistics: &[2.0, 1.0], members: &[false, true] };
/// // Members are 1 higher; the targets lie at 2.5 and 0.5.
/// let found = likelihood_ratios(&[3.5, 0.0], &[a, b])?;
/// assert_eq!((found.shift, found.scores), (1.0, vec![1.0, -0.5]));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn likelihood_ratios(attacked: &[f64], references: &[Reference<'_>]) -> Result<LikelihoodRatios> {
    check(attacked, attacked.len())?;
    if attacked.is_empty() {
        return Err(Error::Empty { what: "the array of targets" });
    }
    if references.is_empty() {
        return Err(Error::Empty { what: "the list of references" });
    }
    for reference in references {
        check(reference.statistics, attacked.len())?;
        if reference.members.len() != attacked.len() {
            let (found, expected) = (reference.members.len(), attacked.len());
            return Err(Error::Length { what: "the array of members", found, expected });
        }
    }
    let count = references.len() as f64;
    let member = |reference: &Reference<'_>, i: usize| if reference.members[i] { 0.5 } else { -0.5 };
    // Means over the references of the statistic and of membership, for each target.
    let means: Vec<(f64, f64)> = (0..attacked.len())
        .map(|i| {
            let sum = references.iter().fold((0.0, 0.0), |sum, r| (sum.0 + r.statistics[i], sum.1 + member(r, i)));
            (sum.0 / count, sum.1 / count)
        })
        .collect();
    let within = || {
        references.iter().flat_map(|r| {
            means.iter().enumerate().map(move |(i, mean)| (r.statistics[i] - mean.0, member(r, i) - mean.1))
        })
    };
    let (products, squares) = within().fold((0.0, 0.0), |sum, (x, m)| (sum.0 + x * m, sum.1 + m * m));
    let shift = if squares > 0.0 { products / squares } else { 0.0 };
    let rest: f64 = within().map(|(x, m)| (x - shift * m).powi(2)).sum();
    let free = attacked.len() as f64 * (count - 1.0) - f64::from(u8::from(squares > 0.0));
    let deviation = if free > 0.0 { (rest / free).sqrt() } else { 0.0 };
    let scale = if deviation > 0.0 { deviation * (1.0 + 1.0 / count).sqrt() } else { 1.0 };
    let scores = attacked.iter().zip(&means).map(|(x, mean)| (x - (mean.0 - shift * mean.1)) / scale).collect();
    Ok(LikelihoodRatios { scores, shift, deviation })
}

fn check(statistics: &[f64], expected: usize) -> Result<()> {
    if statistics.len() != expected {
        return Err(Error::Length { what: "the array of statistics", found: statistics.len(), expected });
    }
    match statistics.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::NotFinite { index, value: statistics[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn the_model_is_recovered_and_the_ratio_is_that_of_two_normals() {
        // 2000 targets of very different means; members lie 0.6 higher; noise of deviation 0.3; 6 references.
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let n = 2000;
        let means: Vec<f64> = (0..n).map(|_| 5.0 * normal()).collect();
        let mut draw = |members: &[bool]| -> Vec<f64> {
            means.iter().zip(members).map(|(mean, &m)| mean + 0.6 * f64::from(u8::from(m)) + 0.3 * normal()).collect()
        };
        let members: Vec<Vec<bool>> = (0..6).map(|r| (0..n).map(|i| (i / 3 + r) % 2 == 0).collect()).collect();
        let statistics: Vec<Vec<f64>> = members.iter().map(|members| draw(members)).collect();
        let truth: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
        let attacked = draw(&truth);
        let references: Vec<Reference<'_>> =
            statistics.iter().zip(&members).map(|(statistics, members)| Reference { statistics, members }).collect();
        let found = likelihood_ratios(&attacked, &references).unwrap();
        assert!((found.shift - 0.6).abs() < 0.02 && (found.deviation - 0.3).abs() < 0.01, "{found:?}");
        // Members lie 1 deviation above the middle and others 1 below, less what the mean of six costs: the area is that of two normals
        // 2 / sqrt(1 + 1/6) apart, Φ(1.852 / √2) = 0.905.
        let auc = crate::roc_auc(&found.scores, &truth).unwrap();
        assert!((auc - 0.905).abs() < 0.02, "{auc}");
        // Without references, the means of the targets hide it.
        assert!(crate::roc_auc(&attacked, &truth).unwrap() < 0.6);
    }

    #[test]
    fn offline_and_single_references() {
        // Trained on neither target: the mean of (1, 3) and (4, 4); residuals ±1, ±1, 0, 0 with 2 free: deviation 1.
        let (a, b) = ([1.0, 4.0], [3.0, 4.0]);
        let of = |statistics| Reference { statistics, members: &[false; 2] };
        let found = likelihood_ratios(&[5.0, 4.0], &[of(&a), of(&b)]).unwrap();
        assert_eq!((found.shift, found.deviation), (0.0, 1.0));
        assert!((found.scores[0] - 3.0 / 1.5_f64.sqrt()).abs() < 1e-12 && found.scores[1] == 0.0);
        let one = likelihood_ratios(&[5.0, 4.0], &[of(&a)]).unwrap();
        assert_eq!((one.scores, one.deviation), (vec![4.0, 0.0], 0.0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = Reference { statistics: &[0.0, 1.0], members: &[true, false] };
        assert_eq!(likelihood_ratios(&[], &[good]), Err(Error::Empty { what: "the array of targets" }));
        assert_eq!(likelihood_ratios(&[0.0, 1.0], &[]), Err(Error::Empty { what: "the list of references" }));
        let short = Reference { members: &[true], ..good };
        let error = likelihood_ratios(&[0.0, 1.0], &[short]).unwrap_err();
        assert_eq!(error, Error::Length { what: "the array of members", found: 1, expected: 2 });
        let error = likelihood_ratios(&[0.0], &[good]).unwrap_err();
        assert_eq!(error, Error::Length { what: "the array of statistics", found: 2, expected: 1 });
        let infinite = Reference { statistics: &[0.0, f64::INFINITY], ..good };
        assert!(likelihood_ratios(&[0.0, 1.0], &[infinite]).unwrap_err().to_string().contains("image 1"));
    }
}
