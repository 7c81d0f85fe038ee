//! The controls: a generator that replays training images must be caught, other patients' images must pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Features, Result, nearest};

use super::{
    Finding, PrivacyOptions, Space,
    membership::Attacker,
    near::{Close, List, Near, Table, Two, distance_to, first_on, with_own},
    trial::{Trial, judge},
    units::{Purpose, Side, Units, random, shuffle_front},
};

/// The tests of images of which it is known whether they leak. Distances are those of the study itself, so the controls have its
/// patients and its features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// Training images themselves in the place of the synthetic ones, as many as there are of these (or all), drawn by lot, and a
    /// discriminator that knows all training images by heart. Tests that do not find this leak would not find a smaller one: with few
    /// synthetic images among many training images some do not.
    pub replay: Vec<Finding>,
    /// Images of half of the held-out patients in the place of the synthetic ones, against the training patients and the other half, and
    /// a discriminator that knows that half by heart: to be found by no test. None where there are fewer than two held-out patients.
    pub innocent: Option<Vec<Finding>>,
}

impl Controls {
    /// Whether every test finds the replay, and none accuses the innocent, as far as there are any.
    #[must_use]
    pub fn behave(&self) -> bool {
        self.replay.iter().all(|finding| finding.leaks) && self.innocent.iter().flatten().all(|finding| !finding.leaks)
    }
}

/// Runs both controls in every space, whose trials are by name. `logan` says whether a discriminator is judged too.
pub(crate) fn controls(
    trials: &BTreeMap<String, Trial>,
    spaces: &[Space],
    logan: bool,
    labels: &[u32],
    units: &Units,
    options: &PrivacyOptions,
) -> Result<Controls> {
    // A discriminator's score of an image: how near the images that it knows by heart come to it, in the first space.
    let findings = |trials: BTreeMap<String, Trial>, known: Vec<f64>, labels: &[u32], units: &Units| -> Result<_> {
        let scores: Vec<f64> = known.iter().map(|distance| -distance).collect();
        let attacker = logan.then(|| Attacker::logan(&scores, labels, units, options.fpr)).transpose()?;
        Ok(judge(&trials, attacker.as_ref(), units, options)?.findings())
    };
    let all = |of: &dyn Fn(&Space, &Trial) -> Result<Parts>, units: &Units| -> Result<BTreeMap<String, Trial>> {
        let build = |space: &Space| {
            let Parts { table, synthetic_regions, real_regions } = of(space, &trials[&space.name])?;
            Ok((space.name.clone(), Trial::new(table, synthetic_regions, real_regions, units, options)?))
        };
        spaces.iter().map(build).collect()
    };
    let Some(first) = trials.values().next() else { return Ok(Controls { replay: Vec::new(), innocent: None }) };

    let mut drawn: Vec<usize> = (0..units.train_images).collect();
    let images = first.table.synthetic.len().min(drawn.len());
    shuffle_front(&mut drawn, images, &mut random(options.seed, Purpose::Replay, 0));
    drawn.truncate(images);
    drawn.sort_unstable();
    let replayed = all(&|space, trial| replay(trial, units, space, &drawn), units)?;
    let (sides, train) = (units.sides(), units.train_images);
    let held_out = first.table.real[train..].iter().map(|list| distance_to(list, &sides, Side::Train));
    let by_heart = std::iter::repeat_n(0.0, train).chain(held_out).collect();

    let third = third(units, options.seed);
    let innocent = third.map(|third| {
        let split = Split::new(units, &third);
        let kept_labels: Vec<u32> = split.kept.iter().map(|&image| labels[image]).collect();
        let trials = all(&|_, trial| Ok(split.innocent(trial, units)), &split.units)?;
        let known = trials.values().next().map(|trial| trial.table.to_synthetic.clone()).unwrap_or_default();
        findings(trials, known, &kept_labels, &split.units)
    });
    Ok(Controls { replay: findings(replayed, by_heart, labels, units)?, innocent: innocent.transpose()? })
}

/// What a trial is made from.
struct Parts {
    table: Table,
    synthetic_regions: Vec<usize>,
    real_regions: Vec<usize>,
}

/// The training images `drawn`, ascending, as the synthetic set.
fn replay(trial: &Trial, units: &Units, space: &Space, drawn: &[usize]) -> Result<Parts> {
    let (table, sides) = (&trial.table, units.sides());
    let own = |&i: &usize| with_own(&table.real[i], Near { unit: units.of[i] as u32, image: i as u32, distance: 0.0 });
    let lists: Vec<List> = drawn.iter().map(own).collect();
    let two: Vec<Two> = drawn
        .iter()
        .map(|&i| {
            let close = |image, distance| Close { image, distance, orientation: 0 };
            let other = first_on(&table.real[i], &sides, Side::Train);
            let other = other.map(|near| close(near.image as usize, near.distance));
            std::iter::once(close(i, 0.0)).chain(other).collect()
        })
        .collect();
    let values: Vec<f32> = drawn.iter().flat_map(|&i| space.train.row(i).iter().copied()).collect();
    let copies = Features::new(&values, space.train.dims())?;
    let found = nearest(space.train, copies, 1)?.into_iter().chain(nearest(space.holdout[0], copies, 1)?);
    let mut to_synthetic: Vec<f64> = found.map(|found| found[0].distance).collect();
    drawn.iter().for_each(|&i| to_synthetic[i] = 0.0);
    let table = Table {
        orientations: 1,
        synthetic: lists.clone(),
        turned: lists,
        real: table.real.clone(),
        to_synthetic,
        to_holdout: drawn.iter().map(|&i| distance_to(&table.real[i], &sides, Side::Holdout)).collect(),
        synthetic_two: two.clone(),
        turned_two: two,
        holdout_two: table.holdout_two.clone(),
        holdout_turned_two: None,
    };
    let real_regions = trial.real_regions().to_vec();
    Ok(Parts { table, synthetic_regions: drawn.iter().map(|&i| real_regions[i]).collect(), real_regions })
}

/// Half of the held-out units, of each stratum as far as it goes; the smaller half where they are odd. None where that is no unit.
fn third(units: &Units, seed: u64) -> Option<Vec<usize>> {
    let shuffled = units.shuffled_holdout(&mut random(seed, Purpose::Third, 0));
    let third: Vec<usize> = shuffled.into_iter().skip(1).step_by(2).collect();
    (!third.is_empty()).then_some(third)
}

/// The real images without those of some held-out units, numbered anew.
struct Split {
    /// Units that are left.
    units: Units,
    /// Whether a unit, by its old number, was taken out.
    is_third: Vec<bool>,
    /// New number of each old unit that is left.
    unit: Vec<u32>,
    /// New number of each old image that is left.
    image: Vec<u32>,
    /// Old numbers of the images that are left.
    kept: Vec<usize>,
    /// Old numbers of the images that were taken out.
    taken: Vec<usize>,
}

impl Split {
    fn new(units: &Units, third: &[usize]) -> Self {
        let mut is_third = vec![false; units.len()];
        third.iter().for_each(|&unit| is_third[unit] = true);
        let (taken, kept): (Vec<usize>, Vec<usize>) = (0..units.of.len()).partition(|&image| is_third[units.of[image]]);
        let mut image = vec![u32::MAX; units.of.len()];
        kept.iter().zip(0..).for_each(|(&old, new)| image[old] = new);
        let (left, unit) = units.without(&is_third);
        Self { units: left, is_third, unit, image, kept, taken }
    }

    fn list(&self, list: &List) -> List {
        let left = list.iter().filter(|near| !self.is_third[near.unit as usize]);
        left.map(|near| Near { unit: self.unit[near.unit as usize], image: self.image[near.image as usize], ..*near })
            .collect()
    }

    fn innocent(&self, trial: &Trial, units: &Units) -> Parts {
        let table = &trial.table;
        let lists: Vec<List> = self.taken.iter().map(|&i| self.list(&table.real[i])).collect();
        let real: Vec<List> = self.kept.iter().map(|&i| self.list(&table.real[i])).collect();
        let third: Vec<Side> = self.is_third.iter().map(|&third| if third { Side::Train } else { Side::Out }).collect();
        let sides = self.units.sides();
        let two = |images: &[usize]| -> Vec<Two> {
            let held_out = images.iter().filter(|&&i| i >= units.train_images);
            held_out.map(|&i| table.holdout_two[i - units.train_images].clone()).collect()
        };
        let regions = |images: &[usize]| images.iter().map(|&i| trial.real_regions()[i]).collect();
        let table = Table {
            orientations: 1,
            to_holdout: lists.iter().map(|list| distance_to(list, &sides, Side::Holdout)).collect(),
            synthetic: lists.clone(),
            turned: lists,
            real,
            to_synthetic: self.kept.iter().map(|&i| distance_to(&table.real[i], &third, Side::Train)).collect(),
            synthetic_two: two(&self.taken),
            turned_two: two(&self.taken),
            holdout_two: two(&self.kept),
            holdout_turned_two: None,
        };
        Parts { table, synthetic_regions: regions(&self.taken), real_regions: regions(&self.kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// On a line: training images of a at 0 and 10 and of b at 1, held-out images of x at 4 and of y at 20 and 21.
    fn line() -> Space<'static> {
        let features = |values| Features::new(values, 1).unwrap();
        Space {
            name: "line".to_owned(),
            train: features(&[0.0, 10.0, 1.0]),
            holdout: vec![features(&[4.0, 20.0, 21.0])],
            synthetic: vec![features(&[7.0])],
        }
    }

    fn trial() -> (Trial, Units) {
        let space = line();
        let (a, b) = (names(&["a", "a", "b"]), names(&["x", "y", "y"]));
        let units = Units::new(&[0; 3], &[0; 3], Some(&a), Some(&b)).unwrap();
        let table = Table::new(&space, &units).unwrap();
        (Trial::new(table, vec![0], vec![0, 1, 0, 0, 1, 1], &units, &PrivacyOptions::default()).unwrap(), units)
    }

    fn short(list: &[Near]) -> Vec<(u32, u32, f64)> {
        list.iter().map(|near| (near.unit, near.image, near.distance)).collect()
    }

    #[test]
    fn a_replayed_image_is_at_distance_nothing_from_itself() {
        let (trial, units) = trial();
        let parts = replay(&trial, &units, &line(), &[0, 1, 2]).unwrap();
        // Units: a 0, b 1, x 2, y 3. The image of a at 0: itself, b at 1, x at 4, y at 20; the other image of a is further than itself.
        assert_eq!(short(&parts.table.synthetic[0]), [(0, 0, 0.0), (1, 2, 1.0), (2, 3, 4.0), (3, 4, 20.0)]);
        assert_eq!(parts.table.to_synthetic, [0.0, 0.0, 0.0, 3.0, 10.0, 11.0]);
        assert_eq!(parts.table.to_holdout, [4.0, 6.0, 3.0]);
        assert_eq!(parts.synthetic_regions, [0, 1, 0]);
        let two: Vec<_> = parts.table.synthetic_two[0].iter().map(|c| (c.image, c.distance)).collect();
        assert_eq!(two, [(0, 0.0), (2, 1.0)]);
    }

    #[test]
    fn some_training_images_are_replayed() {
        let (trial, units) = trial();
        let parts = replay(&trial, &units, &line(), &[2]).unwrap();
        assert_eq!(short(&parts.table.synthetic[0]), [(1, 2, 0.0), (0, 0, 1.0), (2, 3, 3.0), (3, 4, 19.0)]);
        assert_eq!(parts.table.to_synthetic, [1.0, 9.0, 0.0, 3.0, 19.0, 20.0]);
        assert_eq!((parts.table.to_holdout, parts.synthetic_regions), (vec![3.0], vec![0]));
    }

    #[test]
    fn third_patients_leave_the_holdout() {
        let (trial, units) = trial();
        // x is taken out: y becomes unit 2 and its images 3 and 4.
        let split = Split::new(&units, &[2]);
        assert_eq!((split.units.train, split.units.holdout, &split.units.of[..]), (2, 1, &[0, 0, 1, 2, 2][..]));
        let parts = split.innocent(&trial, &units);
        // 4 is 3 from b at 1, 4 from a at 0, 16 from y at 20.
        assert_eq!(short(&parts.table.synthetic[0]), [(1, 2, 3.0), (0, 0, 4.0), (2, 3, 16.0)]);
        assert_eq!(short(&parts.table.real[4]), [(2, 3, 1.0), (0, 1, 11.0), (1, 2, 20.0)]);
        assert_eq!(parts.table.to_synthetic, [4.0, 6.0, 3.0, 16.0, 17.0]);
        assert_eq!(parts.table.holdout_two.len(), 2);
        assert_eq!((parts.synthetic_regions, parts.real_regions), (vec![0], vec![0, 1, 0, 1, 1]));
        // Of two held-out patients one is taken, of one none.
        assert_eq!(third(&units, 0).unwrap().len(), 1);
        assert_eq!(third(&split.units, 0), None);
    }
}
