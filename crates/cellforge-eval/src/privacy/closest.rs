//! Of the synthetic images that come closest to real ones: how many come close to training.

use serde::{Deserialize, Serialize};

use super::{
    chance::Chance,
    near::Table,
    share::{evened, expected, outcomes},
    units::{Purpose, Side, Units, random, shuffle_front},
};

/// Shares of the synthetic images that are looked at.
const CUTS: [f64; 5] = [0.005, 0.01, 0.02, 0.05, 0.1];
/// Fewest images that are looked at, as far as there are any.
const FEWEST: usize = 5;

/// Whether the synthetic images that come closest to any real image come close to training images.
///
/// A few copies among many new images do not show in figures over all images. They show at the front of the synthetic images in the order
/// of their distance to the nearest real image, as a ratio to the distance of that one to the nearest real image of another patient. This
/// order does not depend on who was in training, so by chance the images at its front are near to training as often as others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closest {
    /// The closest 0.5%, 1%, 2%, 5% and 10%, of five images or more.
    pub cuts: Vec<Cut>,
    /// The largest `z` of the cuts.
    pub strongest: f64,
    /// `strongest` when membership is anyone's guess.
    pub chance: Chance,
}

/// The closest synthetic images, up to some number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Their number.
    pub images: usize,
    /// Those of them whose nearest real image is a training image. Those as near to both sides count half.
    pub successes: f64,
    /// The share of successes, evened out as in [`Share`](super::Share).
    pub rate: f64,
    /// Successes less those to be expected, over their standard deviation when patients are shared out at random and images nearest to
    /// one patient stand together.
    pub z: f64,
}

/// What the test needs of a space.
#[derive(Clone, Debug)]
pub(crate) struct ClosestTest {
    /// Synthetic images, the closest first; no more than are looked at.
    front: Vec<usize>,
    /// The numbers of images that are looked at.
    cuts: Vec<Looked>,
}

/// How the first images lie among the patients, or images where patients are not known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Looked {
    /// Their number.
    images: usize,
    /// Those of them that have one nearest patient.
    near: f64,
    /// The sum over patients of the squared number of images nearest to them.
    squares: f64,
}

impl ClosestTest {
    pub(crate) fn new(table: &Table, units: &Units, seed: u64) -> Self {
        let ratio = |i: usize| {
            let Some(nearest) = table.turned[i].first() else { return f64::INFINITY };
            let own = units.of[nearest.image as usize];
            let usual = table.real[nearest.image as usize].iter().find(|near| near.unit as usize != own);
            match usual {
                Some(usual) if usual.distance > 0.0 => nearest.distance / usual.distance,
                // Without a measure of what is close, only a copy is.
                _ if nearest.distance == 0.0 => 0.0,
                _ => f64::INFINITY,
            }
        };
        let ratios: Vec<f64> = (0..table.turned.len()).map(ratio).collect();
        // Copies are all equally close: a shuffle first, or those of the first patients would stand before all others.
        let mut front: Vec<usize> = (0..ratios.len()).collect();
        shuffle_front(&mut front, ratios.len(), &mut random(seed, Purpose::Ties, 0));
        front.sort_by(|&a, &b| ratios[a].total_cmp(&ratios[b]));
        let mut sizes: Vec<usize> = CUTS
            .iter()
            .map(|cut| ((cut * ratios.len() as f64).ceil() as usize).max(FEWEST).min(ratios.len()))
            .collect();
        sizes.dedup();
        front.truncate(sizes.last().copied().unwrap_or(0));

        // Which unit is nearest does not depend on the sides.
        let sides = units.exchangeable(&units.sides());
        let mut near_to = vec![0_u32; units.len()];
        let (mut near, mut squares, mut cuts) = (0.0, 0.0, Vec::new());
        let nearest = outcomes(front.iter().map(|&i| &table.turned[i]), &sides);
        for (number, (_, unit)) in nearest.enumerate() {
            if let Some(unit) = unit {
                near += 1.0;
                squares += f64::from(2 * near_to[unit as usize] + 1);
                near_to[unit as usize] += 1;
            }
            if sizes.contains(&(number + 1)) {
                cuts.push(Looked { images: number + 1, near, squares });
            }
        }
        Self { front, cuts }
    }

    fn cuts(&self, table: &Table, units: &Units, sides: &[Side]) -> Vec<Cut> {
        let sides = units.exchangeable(sides);
        let taking_part = sides.iter().filter(|&&side| side != Side::Out).count() as f64;
        let expected = expected(&sides);
        let mut outcomes = outcomes(self.front.iter().map(|&i| &table.turned[i]), &sides);
        let (mut images, mut successes) = (0, 0.0);
        let cut = |&Looked { images: size, near, squares }: &Looked| {
            successes += outcomes.by_ref().take(size - images).map(|(nearer, _)| nearer).sum::<f64>();
            images = size;
            // The sum of a sample without replacement (Cochran 1977, Sampling Techniques, chapter 2).
            let spread = (squares - near * near / taking_part).max(0.0);
            let variance = expected * (1.0 - expected) * spread * taking_part / (taking_part - 1.0).max(1.0);
            let excess = successes - expected * size as f64;
            let z = if variance > 0.0 { excess / variance.sqrt() } else { 0.0 };
            Cut { images: size, successes, rate: evened(successes / size as f64, expected), z }
        };
        self.cuts.iter().map(cut).collect()
    }

    /// The largest `z` in a labelling.
    pub(crate) fn statistic(&self, table: &Table, units: &Units, sides: &[Side]) -> f64 {
        strongest(&self.cuts(table, units, sides)).map_or(0.0, |cut| cut.z)
    }

    /// The cuts of the true labelling.
    pub(crate) fn finish(&self, table: &Table, units: &Units, chance: Chance) -> Closest {
        let cuts = self.cuts(table, units, &units.sides());
        let strongest = strongest(&cuts).map_or(0.0, |cut| cut.z);
        Closest { cuts, strongest, chance }
    }
}

impl Closest {
    /// The cut that points to a leak the most.
    #[must_use]
    pub fn strongest_cut(&self) -> Option<&Cut> {
        strongest(&self.cuts)
    }
}

fn strongest(cuts: &[Cut]) -> Option<&Cut> {
    cuts.iter().max_by(|a, b| a.z.total_cmp(&b.z))
}

#[cfg(test)]
mod tests {
    use super::{super::Space, *};
    use crate::Features;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_front_by_hand() {
        // Training: a at 0, b at 10, c at 20; held out: x at 5. The nearest other patient is 5 away, of c 10.
        let (train, holdout) = ([0.0, 10.0, 20.0], [5.0]);
        // Ratios: 0.5 / 5 (a), 1 / 5 (b), 1.5 / 10 (c), 2 / 5 (x), 0.05 / 5 (a), 2.2 / 5 (b): order 4, 0, 2, 1, 3, 5.
        let synthetic = [0.5, 11.0, 21.5, 7.0, -0.05, 12.2];
        let features = |values| Features::new(values, 1).unwrap();
        let space = Space {
            name: "line".to_owned(),
            train: features(&train),
            holdout: vec![features(&holdout)],
            synthetic: vec![features(&synthetic)],
        };
        let (a, b) = (names(&["a", "b", "c"]), names(&["x"]));
        let units = Units::new(&[0; 3], &[0], Some(&a), Some(&b)).unwrap();
        let table = Table::new(&space, &units).unwrap();
        let test = ClosestTest::new(&table, &units, 0);
        // Five of six images are looked at: two near a, one each near b, c and x: squares 4 + 1 + 1 + 1.
        let looked = Looked { images: 5, near: 5.0, squares: 7.0 };
        assert_eq!((&test.front[..], &test.cuts[..]), (&[4, 0, 2, 1, 3][..], &[looked][..]));
        let found = test.cuts(&table, &units, &units.sides());
        // Four of five, 3/4 expected. With each of the four held out in turn there are 3, 4, 4 and 4: of variance 3/16. The evened share is
        // (4/5 / (3/4)) / (4/5 / (3/4) + (1/5) / (1/4)) = (16/15) / (16/15 + 12/15) = 4/7.
        assert_eq!((found.len(), found[0].images, found[0].successes), (1, 5, 4.0));
        assert!((found[0].z - 0.25 / 0.1875_f64.sqrt()).abs() < 1e-12 && (found[0].rate - 4.0 / 7.0).abs() < 1e-12);
        // With a held out instead of x: three of five, z = (3 - 3.75) / sqrt(3/16).
        use Side::{Holdout, Train};
        let z = test.statistic(&table, &units, &[Holdout, Train, Train, Train]);
        assert!((z + 0.75 / 0.1875_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn cuts_are_shares_of_the_images() {
        let train: Vec<f32> = (0..10).map(|i| 10.0 * i as f32).collect();
        let holdout: Vec<f32> = train.iter().map(|image| image + 5.0).collect();
        let synthetic: Vec<f32> = (0..1000).map(|i| i as f32 * 0.1 + 0.013).collect();
        let features = |values| Features::new(values, 1).unwrap();
        let space = Space {
            name: "line".to_owned(),
            train: features(&train),
            holdout: vec![features(&holdout)],
            synthetic: vec![features(&synthetic)],
        };
        let units = Units::new(&[0; 10], &[0; 10], None, None).unwrap();
        let test = ClosestTest::new(&Table::new(&space, &units).unwrap(), &units, 0);
        let sizes: Vec<usize> = test.cuts.iter().map(|cut| cut.images).collect();
        assert_eq!((&sizes[..], test.front.len()), (&[5, 10, 20, 50, 100][..], 100));
    }
}
