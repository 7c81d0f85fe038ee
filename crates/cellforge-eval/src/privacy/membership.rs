//! Membership inference: can it be told from scores which images, or patients, a generator was trained on?

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Error, Estimate, Interval, Result,
    bootstrap::{percentiles, resamples},
};

use super::{
    PrivacyOptions,
    chance::{Chance, Leak},
    near::Table,
    roc::Ranked,
    share::bounded,
    trial::labellings,
    units::{Side, Units},
};

/// An attack on images and, where they are known, on patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// Whether an image was in training.
    pub image: Attack,
    /// Whether a patient was, by the mean score of the patient's images.
    pub patient: Option<Attack>,
}

/// How well members are told from non-members by a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// Area under the ROC curve: the chance that a member scores above a non-member, ties counting half. 0.5 is a guess.
    pub auc: Estimate,
    /// The area when membership is anyone's guess.
    pub auc_chance: Chance,
    /// Share of members found when `fpr` of the non-members are taken for members (Carlini et al. 2022, Membership inference attacks
    /// from first principles). On average at least `fpr` without a leak, and more where there are fewer than `1 / fpr` non-members.
    pub tpr_at_fpr: Estimate,
    /// The share when membership is anyone's guess.
    pub tpr_chance: Chance,
    /// The false positive rate.
    pub fpr: f64,
    /// Images or patients of training.
    pub members: usize,
    /// Images or patients of the holdout.
    pub non_members: usize,
    /// ROC curve, `(false positive rate, true positive rate)` from (0, 0) to (1, 1), at most 200 points.
    pub roc: Vec<(f64, f64)>,
}

/// Real images with a score each: higher means more likely a member.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The score of each image, `(n,)`.
    pub scores: &'a [f64],
    /// The class of each image, `(n,)`: patients with images of the same classes can stand in for each other.
    pub labels: &'a [u32],
    /// The patient of each image, `(n,)`, where known.
    pub groups: Option<&'a [String]>,
}

/// How well scores tell members from others: areas and rates with intervals by patient, and what chance makes of them. `members` says of each
/// image whether it was in training. Scores may come from any attack, such as those of [`mod@crate::attacks`]. Of the options, `bootstrap`,
/// `relabellings`, `fpr` and `seed` count.
///
/// # Errors
/// [`Error::Length`], [`Error::NotFinite`], [`Error::Empty`] if all are members or none is, [`Error::BothSides`] for a patient with images on both
/// sides, and those of options that make no sense.
///
/// ```
/// use cellforge_eval::privacy::{PrivacyOptions, Targets, membership};
/// let targets = Targets { scores: &[3.0, 4.0, 1.0, 3.0], labels: &[0; 4], groups: None };
/// let found = membership(&targets, &[true, true, false, false], &PrivacyOptions::default())?;
/// // Of four pairs three are won and one is tied.
/// assert_eq!(found.image.auc.value, 0.875);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn membership(targets: &Targets<'_>, members: &[bool], options: &PrivacyOptions) -> Result<Membership> {
    options.check()?;
    let expected = targets.scores.len();
    let lengths = [
        ("the array of labels", targets.labels.len()),
        ("the array of members", members.len()),
        ("the array of groups", targets.groups.map_or(expected, <[String]>::len)),
    ];
    if let Some((what, found)) = lengths.into_iter().find(|(_, found)| *found != expected) {
        return Err(Error::Length { what, found, expected });
    }
    let rows = |side: bool| (0..expected).filter(|&i| members[i] == side).collect::<Vec<usize>>();
    let (train, holdout) = (rows(true), rows(false));
    let labels = |rows: &[usize]| rows.iter().map(|&i| targets.labels[i]).collect::<Vec<u32>>();
    let groups =
        |rows: &[usize]| targets.groups.map(|groups| rows.iter().map(|&i| groups[i].clone()).collect::<Vec<String>>());
    let (of_train, of_holdout) = (groups(&train), groups(&holdout));
    let units = Units::new(&labels(&train), &labels(&holdout), of_train.as_deref(), of_holdout.as_deref())?;
    let scores: Vec<f64> = train.iter().chain(&holdout).map(|&i| targets.scores[i]).collect();
    Ok(Attacker::new(&scores, &units, options.fpr)?.judge(&units, options)?.0)
}

/// Figures of one labelling: area and rate over images, and over patients.
pub(crate) type Figures = [f64; 4];

/// Scores of all real images, ranked.
#[derive(Clone, Debug)]
pub(crate) struct Attacker {
    images: Ranked,
    patients: Option<Ranked>,
    fpr: f64,
}

impl Attacker {
    /// Takes one score per real image, training first; higher means more likely a member.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub(crate) fn new(scores: &[f64], units: &Units, fpr: f64) -> Result<Self> {
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(Error::NotFinite { index, value: scores[index] });
        }
        let patients = units.patients.then(|| {
            let mut sums = vec![(0.0, 0.0); units.len()];
            for (&unit, score) in units.of.iter().zip(scores) {
                sums[unit].0 += score;
                sums[unit].1 += 1.0;
            }
            Ranked::new(&sums.into_iter().map(|(sum, images)| sum / images).collect::<Vec<f64>>())
        });
        Ok(Self { images: Ranked::new(scores), patients, fpr })
    }

    /// GAN-Leaks (Chen et al. 2020): the nearer the nearest synthetic image, the more likely a member.
    pub(crate) fn gan_leaks(table: &Table, units: &Units, fpr: f64) -> Result<Self> {
        let scores: Vec<f64> = table.to_synthetic.iter().map(|distance| -distance).collect();
        Self::new(&scores, units, fpr)
    }

    /// GAN-Leaks calibrated: some images are near to everything. So the distance to the nearest real image of any other patient is added,
    /// of any other image where patients are unknown. Real images of both sides stand for what a generator makes that never saw the image.
    pub(crate) fn gan_leaks_calibrated(table: &Table, units: &Units, fpr: f64) -> Result<Self> {
        let usual = table.real.iter().enumerate().map(|(i, list)| {
            let other = list.iter().find(|near| near.unit as usize != units.of[i]);
            other.or(list.last()).map_or(0.0, |near| near.distance)
        });
        let scores: Vec<f64> = usual.zip(&table.to_synthetic).map(|(usual, distance)| usual - distance).collect();
        Self::new(&scores, units, fpr)
    }

    /// LOGAN (Hayes et al. 2019): the higher the discriminator's score, the more likely a member. Discriminators of different classes
    /// have different scales, so scores are replaced with their ranks within their class, in (0, 1).
    pub(crate) fn logan(scores: &[f64], labels: &[u32], units: &Units, fpr: f64) -> Result<Self> {
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(Error::NotFinite { index, value: scores[index] });
        }
        Self::new(&ranks_within(scores, labels), units, fpr)
    }

    /// The figures of a labelling. 0.5 and `fpr` where a side is missing.
    pub(crate) fn figures(&self, units: &Units, sides: &[Side]) -> Figures {
        let counts = |side| if side == Side::Train { (1, 0) } else { (0, 1) };
        let images = self.images.figures(self.fpr, |i| counts(sides[units.of[i]]));
        let patients = self.patients.as_ref().and_then(|ranked| ranked.figures(self.fpr, |i| counts(sides[i])));
        let ((a, b), (c, d)) = (images.unwrap_or((0.5, self.fpr)), patients.unwrap_or((0.5, self.fpr)));
        [a, b, c, d]
    }

    /// The attack on the true members, beside labellings that are drawn, and its figures on these.
    pub(crate) fn judge(&self, units: &Units, options: &PrivacyOptions) -> Result<(Membership, Vec<Figures>)> {
        let drawn = labellings(units, options, |sides| self.figures(units, sides));
        Ok((self.finish(units, &options.bootstrap, &drawn)?, drawn))
    }

    /// The attack on the true members; `chance` are the figures of the labellings that were drawn.
    pub(crate) fn finish(&self, units: &Units, bootstrap: &BootstrapOptions, chance: &[Figures]) -> Result<Membership> {
        let of = |figure: usize| chance.iter().map(|figures| figures[figure]).collect::<Vec<f64>>();
        let attack = |ranked: &Ranked, unit: &(dyn Fn(usize) -> usize + Sync), first: usize| -> Result<Attack> {
            let is_member = |i| unit(i) < units.train;
            let truth = |i| if is_member(i) { (1, 0) } else { (0, 1) };
            let (auc, tpr) = ranked.figures(self.fpr, truth).unwrap_or((0.5, self.fpr));
            let drawn = resamples(bootstrap, |number| {
                let weights = units.resample(bootstrap.seed, number);
                ranked.figures(self.fpr, |i| {
                    let weight = weights[unit(i)];
                    if is_member(i) { (weight, 0) } else { (0, weight) }
                })
            })?;
            let (aucs, tprs): (Vec<f64>, Vec<f64>) = drawn.into_iter().flatten().unzip();
            let estimate = |value, drawn| -> Result<Estimate> {
                let found = percentiles(drawn, bootstrap.level);
                let Interval { low, high } = bounded(value, found, units.train.min(units.holdout), bootstrap.level)?;
                Ok(Estimate { value, low, high })
            };
            let members = (0..ranked.len()).filter(|&i| is_member(i)).count();
            Ok(Attack {
                auc: estimate(auc, aucs)?,
                auc_chance: Chance::new(auc, of(first), Leak::High, bootstrap.level),
                tpr_at_fpr: estimate(tpr, tprs)?,
                tpr_chance: Chance::new(tpr, of(first + 1), Leak::High, bootstrap.level),
                fpr: self.fpr,
                members,
                non_members: ranked.len() - members,
                roc: ranked.curve(truth),
            })
        };
        Ok(Membership {
            image: attack(&self.images, &|i| units.of[i], 0)?,
            patient: self.patients.as_ref().map(|ranked| attack(ranked, &|i| i, 2)).transpose()?,
        })
    }
}

/// The rank of each score among those of its class, over their number, in (0, 1). Equal scores share the middle of their ranks.
fn ranks_within(scores: &[f64], labels: &[u32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| labels[a].cmp(&labels[b]).then(scores[a].total_cmp(&scores[b])));
    let mut ranks = vec![0.0; scores.len()];
    for class in order.chunk_by(|&a, &b| labels[a] == labels[b]) {
        let mut below = 0;
        for run in class.chunk_by(|&a, &b| scores[a] == scores[b]) {
            run.iter().for_each(|&i| ranks[i] = (below as f64 + run.len() as f64 / 2.0) / class.len() as f64);
            below += run.len();
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn images_and_patients_by_hand() {
        // Members: a scores 5 and 1 (mean 3), b scores 4. Others: x scores 2 and 3 (mean 2.5), y scores 0.
        let (a, b) = (names(&["a", "a", "b"]), names(&["x", "x", "y"]));
        let units = Units::new(&[0; 3], &[0; 3], Some(&a), Some(&b)).unwrap();
        let attacker = Attacker::new(&[5.0, 1.0, 4.0, 2.0, 3.0, 0.0], &units, 0.01).unwrap();
        // Images: 5 and 4 beat three each, 1 beats one: 7 of 9 pairs; two of three members above all others.
        // Patients: 4 > 3 > 2.5 > 0: all pairs, all members.
        let figures = attacker.figures(&units, &units.sides());
        assert_eq!(figures, [7.0 / 9.0, 2.0 / 3.0, 1.0, 1.0]);
        use Side::{Holdout, Train};
        // a and y in training: members 5, 1, 0 against 4, 2, 3: 3 of 9 pairs, 1 of 3. Patients 3 and 0 against 4 and 2.5: 1 of 4.
        let turned = attacker.figures(&units, &[Train, Holdout, Holdout, Train]);
        assert_eq!(turned, [3.0 / 9.0, 1.0 / 3.0, 1.0 / 4.0, 0.0]);

        let found = attacker.finish(&units, &BootstrapOptions::default(), &[figures, turned, turned]).unwrap();
        let patient = found.patient.unwrap();
        assert_eq!((found.image.auc.value, found.image.members, found.image.non_members), (7.0 / 9.0, 3, 3));
        assert_eq!((patient.auc.value, patient.members, patient.non_members), (1.0, 2, 2));
        // One of three labellings reaches the figure: (1 + 1) / (3 + 1).
        assert_eq!((found.image.auc_chance.p, patient.tpr_chance.p), (0.5, 0.5));
        // All resamples of patients agree on 1: Wilson's interval of 2 of 2, from 2 / (2 + 1.959964^2) to 1.
        assert!((patient.auc.low - 2.0 / 5.841459).abs() < 1e-6 && patient.auc.high == 1.0);
        assert!(found.image.auc.low < found.image.auc.value && found.image.auc.high <= 1.0);
    }

    #[test]
    fn given_scores_are_judged_whatever_their_order() {
        // The images and scores of the first test, with the sides mixed.
        let groups = names(&["x", "a", "b", "x", "a", "y"]);
        let targets = Targets { scores: &[2.0, 5.0, 4.0, 3.0, 1.0, 0.0], labels: &[0; 6], groups: Some(&groups) };
        let members = [false, true, true, false, true, false];
        let options = PrivacyOptions { relabellings: 20, ..PrivacyOptions::default() };
        let found = membership(&targets, &members, &options).unwrap();
        assert_eq!((found.image.auc.value, found.patient.unwrap().auc.value), (7.0 / 9.0, 1.0));
        let error = membership(&targets, &[true; 5], &options).unwrap_err();
        assert_eq!(error, Error::Length { what: "the array of members", found: 5, expected: 6 });
        assert!(matches!(membership(&targets, &[true; 6], &options), Err(Error::Empty { .. })));
        let both = [false, true, true, false, false, false];
        assert_eq!(membership(&targets, &both, &options).unwrap_err(), Error::BothSides { group: "a".to_owned() });
    }

    #[test]
    fn scores_are_ranked_within_their_class() {
        // Class 0: 1 < 3 = 3 < 9: ranks 0.5, 2, 2, 3.5 of 4. Class 7: -5 < 2: 0.5 and 1.5 of 2.
        let ranks = ranks_within(&[3.0, 2.0, 9.0, 3.0, -5.0, 1.0], &[0, 7, 0, 0, 7, 0]);
        assert_eq!(ranks, [0.5, 0.75, 0.875, 0.5, 0.25, 0.125]);
    }

    #[test]
    fn one_patient_on_a_side_says_nothing_of_patients() {
        let (a, b) = (names(&["a", "a"]), names(&["x", "y"]));
        let units = Units::new(&[0; 2], &[0; 2], Some(&a), Some(&b)).unwrap();
        let attacker = Attacker::new(&[3.0, 2.0, 1.0, 0.0], &units, 0.01).unwrap();
        let figures = attacker.figures(&units, &units.sides());
        let found = attacker.finish(&units, &BootstrapOptions::default(), &[figures]).unwrap();
        assert_eq!((found.image.auc.low, found.image.auc.high), (0.0, 1.0));
        assert!(Attacker::new(&[f64::NAN, 0.0, 0.0, 0.0], &units, 0.01).is_err());
    }
}
