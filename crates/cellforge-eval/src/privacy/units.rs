//! Who could have stood in whose place: patients, or single images where patients are unknown.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::{Error, Result};

/// What random numbers are drawn for; every use has a stream of its own.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Relabelling = 1,
    Patients,
    Synthetic,
    Means,
    Third,
    Ties,
    Replay,
}

/// The random numbers of draw `number` of a purpose.
pub(crate) fn random(seed: u64, purpose: Purpose, number: u64) -> ChaCha12Rng {
    let mut rng = ChaCha12Rng::seed_from_u64(seed_of(seed, purpose));
    rng.set_stream(number);
    rng
}

/// The seed of a purpose.
pub(crate) fn seed_of(seed: u64, purpose: Purpose) -> u64 {
    // The golden ratio's bits keep the purposes of neighbouring seeds apart.
    seed.wrapping_add((purpose as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The side of a unit in one labelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Train,
    Holdout,
    /// Takes no part.
    Out,
}

/// The units of all real images. Images and units of training are numbered first, those of the holdout behind them.
#[derive(Clone, Debug)]
pub(crate) struct Units {
    /// Whether units are patients; else every image is one.
    pub(crate) patients: bool,
    /// Unit of each real image.
    pub(crate) of: Vec<usize>,
    /// Training images.
    pub(crate) train_images: usize,
    /// Units of training.
    pub(crate) train: usize,
    /// Units of the holdout.
    pub(crate) holdout: usize,
    /// Units that may be exchanged for each other: those with images of the same classes.
    strata: Vec<Vec<usize>>,
}

impl Units {
    /// `train` and `holdout` are the labels of the images. Units are patients where the groups of both sides are known.
    ///
    /// A patient with images of an abnormal class cannot stand in for one without. So units are exchanged only within strata: those that have
    /// images of exactly the same classes. Sets of classes that do not occur on both sides share one stratum.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], or [`Error::BothSides`] for a patient who is in training and in the holdout.
    pub(crate) fn new(
        train: &[u32],
        holdout: &[u32],
        train_groups: Option<&[String]>,
        holdout_groups: Option<&[String]>,
    ) -> Result<Self> {
        for (labels, what) in [(train, "the set of training images"), (holdout, "the set of held-out images")] {
            if labels.is_empty() {
                return Err(Error::Empty { what });
            }
        }
        let (a, b) = match (train_groups, holdout_groups) {
            (Some(a), Some(b)) => (number(a, train.len())?, number(b, holdout.len())?),
            _ => {
                return Self::from_units(
                    (0..train.len()).collect(),
                    (0..holdout.len()).collect(),
                    train,
                    holdout,
                    false,
                );
            }
        };
        if let Some(group) = a.0.keys().find(|group| b.0.contains_key(*group)) {
            return Err(Error::BothSides { group: (*group).clone() });
        }
        Self::from_units(a.1, b.1, train, holdout, true)
    }

    fn from_units(
        of_train: Vec<usize>,
        of_holdout: Vec<usize>,
        train: &[u32],
        holdout: &[u32],
        patients: bool,
    ) -> Result<Self> {
        let count = |of: &[usize]| of.iter().max().map_or(0, |last| last + 1);
        let (train_units, holdout_units) = (count(&of_train), count(&of_holdout));
        let of: Vec<usize> =
            of_train.into_iter().chain(of_holdout.into_iter().map(|unit| train_units + unit)).collect();

        let mut classes = vec![BTreeSet::new(); train_units + holdout_units];
        for (&unit, &label) in of.iter().zip(train.iter().chain(holdout)) {
            classes[unit].insert(label);
        }
        let mut by_classes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (unit, classes) in classes.into_iter().enumerate() {
            by_classes.entry(classes).or_default().push(unit);
        }
        let both = |units: &Vec<usize>| units[0] < train_units && units[units.len() - 1] >= train_units;
        let (mut strata, rest): (Vec<_>, Vec<_>) = by_classes.into_values().partition(both);
        if !rest.is_empty() {
            let mut rest: Vec<usize> = rest.into_iter().flatten().collect();
            rest.sort_unstable();
            strata.push(rest);
        }
        Ok(Self { patients, of, train_images: train.len(), train: train_units, holdout: holdout_units, strata })
    }

    /// Units of both sides.
    pub(crate) fn len(&self) -> usize {
        self.train + self.holdout
    }

    /// The sides as they are.
    pub(crate) fn sides(&self) -> Vec<Side> {
        (0..self.len()).map(|unit| if unit < self.train { Side::Train } else { Side::Holdout }).collect()
    }

    /// Sides as they might have been: within each stratum, as many units as there are in training are drawn to be it.
    pub(crate) fn relabelled(&self, rng: &mut impl Rng) -> Vec<Side> {
        let mut sides = vec![Side::Holdout; self.len()];
        for stratum in &self.strata {
            let train = stratum.iter().filter(|&&unit| unit < self.train).count();
            let mut units = stratum.clone();
            shuffle_front(&mut units, train, rng);
            units[..train].iter().for_each(|&unit| sides[unit] = Side::Train);
        }
        sides
    }

    /// The sides of the units that are exchanged at all; those of strata that are all on one side are left out.
    pub(crate) fn exchangeable(&self, sides: &[Side]) -> Vec<Side> {
        let mut taking_part = vec![Side::Out; self.len()];
        for stratum in &self.strata {
            let is_train = |unit: &usize| *unit < self.train;
            if stratum.iter().any(is_train) && !stratum.iter().all(is_train) {
                stratum.iter().for_each(|&unit| taking_part[unit] = sides[unit]);
            }
        }
        taking_part
    }

    /// The units of the holdout, stratum by stratum, in each of them shuffled.
    pub(crate) fn shuffled_holdout(&self, rng: &mut impl Rng) -> Vec<usize> {
        let mut all = Vec::with_capacity(self.holdout);
        for stratum in &self.strata {
            let mut units: Vec<usize> = stratum.iter().copied().filter(|&unit| unit >= self.train).collect();
            let count = units.len();
            shuffle_front(&mut units, count, rng);
            all.extend(units);
        }
        all
    }

    /// What is left without some units of the holdout, and the new number of each unit that is left.
    pub(crate) fn without(&self, out: &[bool]) -> (Self, Vec<u32>) {
        let mut numbers = vec![u32::MAX; self.len()];
        let mut left = 0;
        for unit in (0..self.len()).filter(|&unit| !out[unit]) {
            numbers[unit] = left;
            left += 1;
        }
        let renumbered = |units: &[usize]| -> Vec<usize> {
            units.iter().filter(|&&unit| !out[unit]).map(|&unit| numbers[unit] as usize).collect()
        };
        let strata = self.strata.iter().map(|stratum| renumbered(stratum)).filter(|units| !units.is_empty());
        let units = Self {
            patients: self.patients,
            of: renumbered(&self.of),
            train_images: self.train_images,
            train: self.train,
            holdout: left as usize - self.train,
            strata: strata.collect(),
        };
        (units, numbers)
    }

    /// How often each unit occurs in bootstrap resample `number`; each side is drawn for itself and stays as large as it is.
    pub(crate) fn resample(&self, seed: u64, number: u64) -> Vec<u32> {
        let mut rng = random(seed, Purpose::Patients, number);
        let mut drawn = vec![0; self.len()];
        for (first, count) in [(0, self.train), (self.train, self.holdout)] {
            for _ in 0..count {
                drawn[first + rng.random_range(0..count)] += 1;
            }
        }
        drawn
    }

    /// The number of ways to label the units, as far as it is below `most`.
    pub(crate) fn labellings(&self, most: f64) -> f64 {
        let mut ways = 1.0;
        for stratum in &self.strata {
            let train = stratum.iter().filter(|&&unit| unit < self.train).count();
            for i in 0..train.min(stratum.len() - train) {
                ways *= (stratum.len() - i) as f64 / (i + 1) as f64;
                if ways >= most {
                    return most;
                }
            }
        }
        ways
    }
}

/// The numbers of the groups, which are sorted by name, and the number of each image's.
fn number(groups: &[String], images: usize) -> Result<(BTreeMap<&String, usize>, Vec<usize>)> {
    if groups.len() != images {
        return Err(Error::Length { what: "the array of groups", found: groups.len(), expected: images });
    }
    let mut numbers: BTreeMap<&String, usize> = groups.iter().map(|group| (group, 0)).collect();
    numbers.values_mut().enumerate().for_each(|(number, slot)| *slot = number);
    let of = groups.iter().map(|group| numbers[group]).collect();
    Ok((numbers, of))
}

/// Draws `count` of `units` without replacement to the front.
pub(crate) fn shuffle_front(units: &mut [usize], count: usize, rng: &mut impl Rng) {
    for i in 0..count {
        let other = rng.random_range(i..units.len());
        units.swap(i, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Five patients in training, of whom a, b and c have both classes, and three in the holdout, of whom x and y have.
    fn units() -> Units {
        let train = names(&["a", "a", "b", "b", "c", "c", "d", "e"]);
        let holdout = names(&["y", "x", "x", "y", "z"]);
        Units::new(&[0, 1, 0, 1, 1, 0, 1, 1], &[0, 1, 0, 1, 1], Some(&train), Some(&holdout)).unwrap()
    }

    #[test]
    fn patients_are_numbered_by_side_and_name() {
        let units = units();
        assert_eq!((units.train, units.holdout, units.train_images, units.patients), (5, 3, 8, true));
        assert_eq!(units.of, [0, 0, 1, 1, 2, 2, 3, 4, 6, 5, 5, 6, 7]);
        // Strata: {0, 1}: a, b, c, x, y. {1}: d, e, z. Ways: C(5, 2) * C(3, 1) = 30.
        assert_eq!(units.labellings(1e9), 30.0);
        assert_eq!(units.labellings(20.0), 20.0);
    }

    #[test]
    fn patients_change_sides_within_their_stratum() {
        let units = units();
        let mut seen = BTreeSet::new();
        for number in 0..200 {
            let sides = units.relabelled(&mut random(3, Purpose::Relabelling, number));
            let train = |range: &[usize]| range.iter().filter(|&&unit| sides[unit] == Side::Train).count();
            assert_eq!((train(&[0, 1, 2, 5, 6]), train(&[3, 4, 7])), (3, 2));
            assert_eq!(units.exchangeable(&sides), sides);
            seen.insert(sides.iter().map(|&side| side == Side::Train).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 30, "all ways occur");
    }

    #[test]
    fn classes_of_one_side_share_a_stratum() {
        // {0} only in training, {1} only in the holdout, {2} on both sides.
        let units = Units::new(&[0, 0, 2], &[1, 2], None, None).unwrap();
        assert_eq!(units.strata, [vec![2, 4], vec![0, 1, 3]]);
        assert!(!units.patients);
        // {0, 1} has no counterpart: its one unit stays out.
        let train = names(&["a", "a", "b"]);
        let units = Units::new(&[0, 1, 1], &[1], Some(&train), Some(&names(&["x"]))).unwrap();
        assert_eq!(units.exchangeable(&units.sides()), [Side::Out, Side::Train, Side::Holdout]);
        assert_eq!(units.relabelled(&mut random(0, Purpose::Relabelling, 0))[0], Side::Train);
    }

    #[test]
    fn a_patient_on_both_sides_is_refused() {
        let (train, holdout) = (names(&["a", "b"]), names(&["b"]));
        let error = Units::new(&[0, 0], &[0], Some(&train), Some(&holdout)).unwrap_err();
        assert_eq!(error, Error::BothSides { group: "b".to_owned() });
    }

    #[test]
    fn each_side_is_resampled_for_itself() {
        let drawn = units().resample(1, 2);
        assert_eq!((drawn[..5].iter().sum::<u32>(), drawn[5..].iter().sum::<u32>()), (5, 3));
        assert_ne!(drawn, units().resample(1, 3));
    }
}
