//! A blinded panel: how well raters tell synthetic images from real ones, and how far they agree.
//!
//! An answer is a level from 1 (surely real) to [`LEVELS`] (surely synthetic); there is no middle. The upper half calls an image synthetic.
//! So each rater has a call for every image, and a ROC curve over the levels.
//!
//! # Intervals
//!
//! - A rate of one rater whose images are independent has [Wilson's interval](crate::wilson).
//! - Everything else has a percentile interval of a bootstrap. It draws units of real and of synthetic images apart, because their
//!   numbers are fixed by design. A unit is a patient or a single image. Where there are several raters, they are drawn too, independently of
//!   the images: Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1:386-411. That interval is about other raters and other
//!   images, and tends to be too wide rather than too narrow. Over two or three raters it is rough.
//! - Where a figure is at its end (all answers right, say), all resamples agree, which would claim certainty. A rate then has Wilson's
//!   interval with the number of units as its total. An area has it with the number of units of the rarer kind, as many as there are disjoint
//!   pairs of a real and a synthetic image.

mod draws;
mod kappa;

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Confusion, Error, Estimate, Interval, Proportion, Result,
    auc::Ranking,
    bootstrap::percentiles,
    proportion::{wilson_at, wilson_interval},
};

use draws::Draws;
use kappa::{cohen, fleiss, kappa};
pub use kappa::{cohen_kappa, fleiss_kappa};

/// The highest answer.
pub const LEVELS: u8 = 6;

/// What the answers of a panel are judged by; all arrays have an entry for each image.
#[derive(Clone, Copy, Debug)]
pub struct PanelInput<'a> {
    /// Whether the image is synthetic.
    pub synthetic: &'a [bool],
    /// What the image belongs to: images of one patient are one unit, any other image is its own.
    pub units: &'a [String],
    /// The answers of each rater.
    pub raters: &'a [Ratings],
}

/// The answers of one rater, from 1 (surely real) to [`LEVELS`] (surely synthetic), for each image; none where it was not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ratings {
    /// Answers when the image was first shown.
    pub first: Vec<Option<u8>>,
    /// Answers when it was shown again.
    pub second: Vec<Option<u8>>,
}

/// How well images were told apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discrimination {
    /// Share of right calls among all answers.
    pub accuracy: Proportion,
    /// Share of synthetic images that were called synthetic.
    pub sensitivity: Proportion,
    /// Share of real images that were called real.
    pub specificity: Proportion,
    /// Area under the ROC curve over the levels, 0.5 for chance; of several raters the mean of theirs. None where no rater answered for
    /// images of both kinds.
    pub auc: Option<Estimate>,
}

/// How far two answers, or more, for one image agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Images that have all the answers.
    pub images: u64,
    /// Images for which all call the same.
    pub same: Proportion,
    /// Kappa: agreement beyond chance, 0 for chance and 1 for full agreement. None where all calls are the same, or there are no images.
    pub kappa: Option<Estimate>,
}

/// The figures of one rater.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaterFigures {
    /// How well the rater told images apart, at first sight.
    pub discrimination: Discrimination,
    /// First against second answers (Cohen's kappa); none where nothing was answered twice.
    pub repeated: Option<Agreement>,
}

/// The figures of two raters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    /// Positions of the two among the raters.
    pub raters: [usize; 2],
    /// How far they agree (Cohen's kappa).
    pub agreement: Agreement,
}

/// The figures of a panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PanelFigures {
    /// Each rater, in the order given.
    pub raters: Vec<RaterFigures>,
    /// All raters together.
    pub pooled: Discrimination,
    /// Each two raters.
    pub pairs: Vec<PairFigures>,
    /// All raters, where there are three or more, over the images that all of them answered (Fleiss' kappa).
    pub all: Option<Agreement>,
}

/// Judges the answers of a panel.
///
/// Figures of discrimination rest on first answers alone. Intervals are those of the [module](self).
///
/// # Errors
/// [`Error::Empty`] without images or raters; [`Error::Length`]; [`Error::OneClass`] where all images are of one kind; [`Error::Rating`] for an
/// answer that is no level; [`Error::Resamples`] and [`Error::Level`] for options that make no sense.
///
/// ```
/// use cellforge_eval::{BootstrapOptions, panel::{PanelInput, Ratings, panel}};
///
/// // Two real and two synthetic images. The rater takes one synthetic image for real.
/// let rater = Ratings { first: vec![Some(1), Some(2), Some(3), Some(6)], second: vec![None; 4] };
/// let units = ["P1", "P2", "a", "b"].map(String::from);
/// let input = PanelInput { synthetic: &[false, false, true, true], units: &units, raters: &[rater] };
/// let found = panel(&input, &BootstrapOptions::default())?.pooled;
/// assert_eq!((found.accuracy.rate, found.sensitivity.rate, found.specificity.rate), (0.75, 0.5, 1.0));
/// // Both synthetic images are rated above both real ones.
/// assert_eq!(found.auc.unwrap().value, 1.0);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn panel(input: &PanelInput<'_>, options: &BootstrapOptions) -> Result<PanelFigures> {
    options.check()?;
    check(input)?;
    let draws = Draws::new(input, options)?;
    let raters: Vec<Rater> = input.raters.iter().map(|ratings| Rater::new(ratings, input.synthetic)).collect();
    let one = |(rater, ratings): (&Rater, &Ratings)| -> Result<RaterFigures> {
        let twice = [calls(&ratings.first), calls(&ratings.second)];
        let repeated = agreement(&twice, &draws)?;
        Ok(RaterFigures {
            discrimination: discrimination(std::slice::from_ref(rater), &draws)?,
            repeated: (repeated.images > 0).then_some(repeated),
        })
    };
    let all_calls: Vec<Vec<Option<bool>>> = input.raters.iter().map(|ratings| calls(&ratings.first)).collect();
    let mut pairs = Vec::new();
    for a in 0..raters.len() {
        for b in a + 1..raters.len() {
            let agreement = agreement(&[all_calls[a].clone(), all_calls[b].clone()], &draws)?;
            pairs.push(PairFigures { raters: [a, b], agreement });
        }
    }
    Ok(PanelFigures {
        raters: raters.iter().zip(input.raters).map(one).collect::<Result<_>>()?,
        pooled: discrimination(&raters, &draws)?,
        pairs,
        all: if raters.len() > 2 { Some(agreement(&all_calls, &draws)?) } else { None },
    })
}

fn check(input: &PanelInput<'_>) -> Result<()> {
    let images = input.synthetic.len();
    if images == 0 {
        return Err(Error::Empty { what: "the array of images" });
    }
    if input.raters.is_empty() {
        return Err(Error::Empty { what: "the list of raters" });
    }
    let positives = input.synthetic.iter().filter(|&&synthetic| synthetic).count();
    if positives == 0 || positives == images {
        return Err(Error::OneClass { positives, total: images });
    }
    let length =
        |what, found| if found == images { Ok(()) } else { Err(Error::Length { what, found, expected: images }) };
    length("the array of units", input.units.len())?;
    for ratings in input.raters {
        for answers in [&ratings.first, &ratings.second] {
            length("an array of answers", answers.len())?;
            let wrong = |answer: &Option<u8>| answer.is_some_and(|value| value == 0 || value > LEVELS);
            if let Some(index) = answers.iter().position(wrong) {
                return Err(Error::Rating { index, value: answers[index].unwrap_or_default(), levels: LEVELS });
            }
        }
    }
    Ok(())
}

/// Which images were called synthetic.
fn calls(answers: &[Option<u8>]) -> Vec<Option<bool>> {
    answers.iter().map(|answer| answer.map(|level| 2 * level > LEVELS)).collect()
}

/// One rater's first answers, made ready for resampling.
struct Rater {
    /// Whether the call of each image is right.
    right: Vec<Option<bool>>,
    /// The images answered, by level.
    ranking: Ranking,
    answered: Vec<usize>,
}

impl Rater {
    fn new(ratings: &Ratings, synthetic: &[bool]) -> Self {
        let right =
            calls(&ratings.first).into_iter().zip(synthetic).map(|(call, &truth)| call.map(|call| call == truth));
        let answered: Vec<usize> = (0..synthetic.len()).filter(|&i| ratings.first[i].is_some()).collect();
        let levels: Vec<f64> = answered.iter().filter_map(|&i| ratings.first[i].map(f64::from)).collect();
        let ranking = Ranking::new(&levels, answered.iter().map(|&i| synthetic[i]).collect());
        Self { right: right.collect(), ranking, answered }
    }

    /// Right and all answers for real and for synthetic images.
    fn counts(&self, synthetic: &[bool], weights: Option<&[u32]>) -> [[u64; 2]; 2] {
        let mut counts = [[0; 2]; 2];
        for &i in &self.answered {
            let weight = weights.map_or(1, |weights| u64::from(weights[i]));
            let [right, all] = &mut counts[usize::from(synthetic[i])];
            *all += weight;
            *right += if self.right[i] == Some(true) { weight } else { 0 };
        }
        counts
    }

    fn auc(&self, weights: Option<&[u32]>) -> Option<f64> {
        let own: Option<Vec<u32>> = weights.map(|weights| self.answered.iter().map(|&i| weights[i]).collect());
        self.ranking.auc(own.as_deref())
    }
}

/// Right answers and all, of synthetic and real images together, of the synthetic, of the real; and the mean area.
struct Totals {
    rates: [[u64; 2]; 3],
    auc: Option<f64>,
}

impl Totals {
    fn new(raters: &[Rater], synthetic: &[bool], draw: Option<(&[u32], &[u32])>) -> Self {
        let (images, times) = draw.unzip();
        let mut kinds = [[0; 2]; 2];
        let (mut area, mut areas) = (0.0, 0_u32);
        for (j, rater) in raters.iter().enumerate() {
            let times = times.map_or(1, |times| times[j]);
            if times == 0 {
                continue;
            }
            for (all, own) in kinds.iter_mut().zip(rater.counts(synthetic, images)) {
                all.iter_mut().zip(own).for_each(|(all, own)| *all += u64::from(times) * own);
            }
            if let Some(auc) = rater.auc(images) {
                area += f64::from(times) * auc;
                areas += times;
            }
        }
        let [real, made] = kinds;
        let rates = [[real[0] + made[0], real[1] + made[1]], made, real];
        Self { rates, auc: (areas > 0).then(|| area / f64::from(areas)) }
    }
}

fn discrimination(raters: &[Rater], draws: &Draws<'_>) -> Result<Discrimination> {
    let found = Totals::new(raters, draws.synthetic, None);
    let resamples = draws.map(|number| {
        let (images, times) = (draws.images(number), draws.raters(raters.len(), number)?);
        Ok(Totals::new(raters, draws.synthetic, Some((&images, &times))))
    })?;
    let level = draws.options.level;
    let units = |kind: Option<bool>| {
        let answered = raters.iter().flat_map(|rater| rater.answered.iter().copied());
        draws.units(answered.filter(|&i| kind.is_none_or(|kind| draws.synthetic[i] == kind)))
    };
    let rate = |which: usize, kind: Option<bool>| -> Result<Proportion> {
        let [right, all] = found.rates[which];
        let units = units(kind);
        let drawn = || {
            let rates = resamples.iter().map(|totals| totals.rates[which]);
            percentiles(
                rates.filter(|[_, all]| *all > 0).map(|[right, all]| right as f64 / all as f64).collect(),
                level,
            )
        };
        proportion(right, all, (units, raters.len() == 1 && units as u64 == all), level, drawn)
    };
    let auc = match found.auc {
        Some(value) => {
            let pairs = units(Some(false)).min(units(Some(true)));
            let drawn = percentiles(resamples.iter().filter_map(|totals| totals.auc).collect(), level);
            let interval = at_the_end(value, pairs, level)?.or(drawn);
            interval.map(|Interval { low, high }| Estimate { value, low, high })
        }
        None => None,
    };
    Ok(Discrimination {
        accuracy: rate(0, None)?,
        sensitivity: rate(1, Some(true))?,
        specificity: rate(2, Some(false))?,
        auc,
    })
}

/// A rate with Wilson's interval where its trials are `independent`, and otherwise that of the resamples.
fn proportion(
    right: u64,
    all: u64,
    (units, independent): (usize, bool),
    level: f64,
    drawn: impl FnOnce() -> Option<Interval>,
) -> Result<Proportion> {
    if all == 0 {
        return Ok(Proportion { successes: 0, total: 0, rate: 0.0, low: 0.0, high: 1.0 });
    }
    if independent {
        return wilson_at(right, all, level);
    }
    let rate = right as f64 / all as f64;
    let interval = at_the_end(rate, units, level)?.or_else(drawn);
    let Interval { low, high } = interval.unwrap_or(Interval { low: 0.0, high: 1.0 });
    Ok(Proportion { successes: right, total: all, rate, low, high })
}

/// The interval of a figure that is 0 or 1 in all `units`.
fn at_the_end(value: f64, units: usize, level: f64) -> Result<Option<Interval>> {
    if value > 0.0 && value < 1.0 {
        return Ok(None);
    }
    wilson_interval(value, units as f64, level).map(Some)
}

/// How far the calls agree: Cohen's kappa of two lists, Fleiss' kappa of more. Only units are drawn.
fn agreement(calls: &[Vec<Option<bool>>], draws: &Draws<'_>) -> Result<Agreement> {
    let images: Vec<usize> = (0..draws.unit.len()).filter(|&i| calls.iter().all(|own| own[i].is_some())).collect();
    // How many of the raters call an image real, and how many synthetic.
    let counts: Vec<[u32; 2]> = images
        .iter()
        .map(|&i| {
            let synthetic = calls.iter().filter(|own| own[i] == Some(true)).count() as u32;
            [calls.len() as u32 - synthetic, synthetic]
        })
        .collect();
    let labels =
        |own: &[Option<bool>]| -> Vec<u32> { images.iter().map(|&i| u32::from(own[i] == Some(true))).collect() };
    let two = if let [a, b] = calls { Some((labels(a), labels(b))) } else { None };
    let both = |weights: &[u32]| -> (f64, f64) {
        match &two {
            Some((a, b)) => cohen(&Confusion::weighted(a, b, Some(weights), 2)),
            None => fleiss(weights.iter().zip(&counts).map(|(&weight, row)| (weight, row.as_slice()))),
        }
    };
    let drawn = draws.map(|number| {
        let weights = draws.images(number);
        let own: Vec<u32> = images.iter().map(|&i| weights[i]).collect();
        let (observed, expected) = both(&own);
        let same: u64 = own.iter().zip(&counts).filter(|(_, row)| row.contains(&0)).map(|(&w, _)| u64::from(w)).sum();
        let all: u64 = own.iter().map(|&w| u64::from(w)).sum();
        Ok((kappa(observed, expected), (all > 0).then(|| same as f64 / all as f64)))
    })?;
    let level = draws.options.level;
    let same = counts.iter().filter(|row| row.contains(&0)).count() as u64;
    let units = draws.units(images.iter().copied());
    let same = proportion(same, images.len() as u64, (units, units == images.len()), level, || {
        percentiles(drawn.iter().filter_map(|(_, same)| *same).collect(), level)
    })?;
    let (observed, expected) = both(&vec![1; images.len()]);
    let found = if images.is_empty() { None } else { kappa(observed, expected) };
    let kappa = found.and_then(|value| {
        // Where all agree, every resample does: the agreement has an interval then, and chance is held.
        let interval = if same.rate < 1.0 {
            percentiles(drawn.iter().filter_map(|(kappa, _)| *kappa).collect(), level)
        } else {
            kappa(same.low, expected).map(|low| Interval { low, high: 1.0 })
        };
        interval.map(|Interval { low, high }| Estimate { value, low, high })
    });
    Ok(Agreement { images: images.len() as u64, same, kappa })
}
