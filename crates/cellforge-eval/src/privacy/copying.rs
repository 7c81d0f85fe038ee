//! The three-sample test of data copying.

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Interval, Resampler, Result,
    bootstrap::{percentiles, resamples},
};

use super::{
    chance::Chance,
    near::{Table, distance_to, first_on},
    units::{Purpose, Side, Units, seed_of},
};

/// Fewest synthetic images of a region that is tested.
const FEWEST: usize = 20;

/// Whether synthetic images are nearer to training images than images of other patients are.
///
/// Meehan, C., Chaudhuri, K. and Dasgupta, S. (2020), A non-parametric test to detect data-copying in generative models, AISTATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copying {
    /// Their `C_T`: the mean of the regions' `z`, weighted by their held-out images. Below 0 where synthetic images are nearer to
    /// training than held-out images are; 0 where no region can be tested.
    pub c_t: f64,
    /// Interval of `c_t`, by patients where they are known. Not given where there is one patient on a side.
    pub interval: Option<Interval>,
    /// `c_t` when membership is anyone's guess.
    pub chance: Chance,
    /// The regions, in no order of meaning.
    pub regions: Vec<Region>,
}

/// One region of the feature space: the images nearest to one centre of k-means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Synthetic images.
    pub synthetic: usize,
    /// Held-out images.
    pub holdout: usize,
    /// Mann and Whitney's U of the synthetic images' distances to training against the held-out images', less its mean and over its
    /// standard deviation. Not given for regions with no held-out image or fewer than 20 synthetic ones; where all have so few, all images
    /// make one region, which is given.
    pub z: Option<f64>,
}

/// The synthetic images (`true`) and held-out images of each region, as numbers of images in the order of their distance to training.
type Ordered = Vec<Vec<(f64, bool, usize)>>;

/// What the test needs of a space.
#[derive(Clone, Debug)]
pub(crate) struct CopyingTest {
    /// Region of each synthetic image.
    synthetic: Vec<usize>,
    /// Region of each real image.
    real: Vec<usize>,
    /// Synthetic images of each region. Where there are too few in every region, all is one region, and this is empty.
    counts: Vec<usize>,
}

impl CopyingTest {
    /// Takes the region of each synthetic and each real image.
    pub(crate) fn new(synthetic: Vec<usize>, real: Vec<usize>) -> Self {
        let regions = synthetic.iter().chain(&real).max().map_or(1, |last| last + 1);
        let mut counts = vec![0; regions];
        synthetic.iter().for_each(|&region| counts[region] += 1);
        if counts.iter().all(|&count| count < FEWEST) {
            counts.clear();
        }
        Self { synthetic, real, counts }
    }

    /// Region of each real image.
    pub(crate) fn real_regions(&self) -> &[usize] {
        &self.real
    }

    fn ordered(&self, table: &Table, units: &Units, sides: &[Side]) -> Ordered {
        let mut ordered = vec![Vec::new(); self.counts.len().max(1)];
        let place = |region| if self.counts.is_empty() { 0 } else { region };
        for (i, (&region, list)) in self.synthetic.iter().zip(&table.synthetic).enumerate() {
            ordered[place(region)].push((distance_to(list, sides, Side::Train), true, i));
        }
        for (i, (&region, list)) in self.real.iter().zip(&table.real).enumerate() {
            if sides[units.of[i]] == Side::Holdout {
                ordered[place(region)].push((distance_to(list, sides, Side::Train), false, i));
            }
        }
        ordered.iter_mut().for_each(|images| images.sort_unstable_by(|a, b| a.0.total_cmp(&b.0)));
        ordered
    }

    /// `C_T` and the regions, with each image counted as often as `weight(synthetic, image)` says.
    fn judge(&self, ordered: &Ordered, weight: impl Fn(bool, usize) -> u32) -> (f64, Vec<Region>) {
        let mut regions = Vec::with_capacity(ordered.len());
        let (mut sum, mut weights) = (0.0, 0.0);
        for (number, images) in ordered.iter().enumerate() {
            let runs = images.chunk_by(|a, b| a.0 == b.0).map(|run| {
                run.iter().fold((0, 0), |(q, p), &(_, synthetic, i)| {
                    let weight = u64::from(weight(synthetic, i));
                    if synthetic { (q + weight, p) } else { (q, p + weight) }
                })
            });
            let (synthetic, holdout, z) = mann_whitney(runs);
            let z = z.filter(|_| self.counts.get(number).is_none_or(|&count| count >= FEWEST));
            if let Some(z) = z {
                sum += holdout as f64 * z;
                weights += holdout as f64;
            }
            regions.push(Region { synthetic: synthetic as usize, holdout: holdout as usize, z });
        }
        (if weights > 0.0 { sum / weights } else { 0.0 }, regions)
    }

    /// `C_T` of a labelling.
    pub(crate) fn statistic(&self, table: &Table, units: &Units, sides: &[Side]) -> f64 {
        self.judge(&self.ordered(table, units, sides), |_, _| 1).0
    }

    /// The test of the true labelling. Distances stay as they are; held-out patients are drawn again, and synthetic images in groups
    /// that are near to the same training patient.
    pub(crate) fn finish(
        &self,
        table: &Table,
        units: &Units,
        bootstrap: &BootstrapOptions,
        chance: Chance,
    ) -> Result<Copying> {
        let sides = units.sides();
        let ordered = self.ordered(table, units, &sides);
        let (c_t, regions) = self.judge(&ordered, |_, _| 1);
        let groups = nearest_training_units(table, units, &sides);
        let synthetic = Resampler::groups(&groups)?;
        let options = BootstrapOptions { seed: seed_of(bootstrap.seed, Purpose::Synthetic), ..*bootstrap };
        let drawn = resamples(&options, |number| {
            let weights = synthetic.weights(options.seed, number);
            let patients = units.resample(bootstrap.seed, number);
            self.judge(&ordered, |is_synthetic, i| if is_synthetic { weights[i] } else { patients[units.of[i]] }).0
        })?;
        let known = units.holdout > 1 && units.train > 1;
        let interval = percentiles(drawn, bootstrap.level).filter(|_| known);
        let interval = interval.map(|found| Interval { low: found.low.min(c_t), high: found.high.max(c_t) });
        Ok(Copying { c_t, interval, chance, regions })
    }
}

/// The training unit nearest to each synthetic image: where patients are unknown, every synthetic image is drawn for itself.
pub(crate) fn nearest_training_units(table: &Table, units: &Units, sides: &[Side]) -> Vec<usize> {
    let nearest = table.synthetic.iter().enumerate().map(|(i, list)| match first_on(list, sides, Side::Train) {
        Some(near) if units.patients => near.unit as usize,
        _ => units.len() + i,
    });
    nearest.collect()
}

/// The number of `q`, of `p`, and the standardised `U` of Mann and Whitney (1947): over all pairs, how often a `q` lies behind a `p`,
/// ties counting half, less the mean `q p / 2`, over the standard deviation `sqrt(q p / 12 (n + 1 - sum(t³ - t) / (n (n - 1))))` with
/// `n = q + p` and runs of `t` equal values. `runs` are the counts of `q` and `p` in each run of equal values, in rising order. `None`
/// where there are no `q` or no `p`; 0 where all values are equal.
fn mann_whitney(runs: impl Iterator<Item = (u64, u64)>) -> (u64, u64, Option<f64>) {
    let (mut q, mut p, mut u, mut ties) = (0_u64, 0_u64, 0.0, 0.0);
    for (run_q, run_p) in runs {
        u += run_q as f64 * (p as f64 + run_p as f64 / 2.0);
        let t = (run_q + run_p) as f64;
        ties += t * t * t - t;
        q += run_q;
        p += run_p;
    }
    if q == 0 || p == 0 {
        return (q, p, None);
    }
    let (n, pairs) = ((q + p) as f64, q as f64 * p as f64);
    let variance = pairs / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    // With all values equal the variance is 0 but for rounding.
    let z = if variance > 1e-9 * pairs { (u - pairs / 2.0) / variance.sqrt() } else { 0.0 };
    (q, p, Some(z))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12, "found {found}, expected {expected}");
    }

    #[test]
    fn z_by_hand() {
        // q at 1, 2, 4; p at 3, 5: of six pairs one q (4) lies behind one p (3): U = 1, mean 3, variance 6 * 6 / 12 = 3.
        let z = mann_whitney([(1, 0), (1, 0), (0, 1), (1, 0), (0, 1)].into_iter());
        assert_eq!((z.0, z.1), (3, 2));
        close(z.2.unwrap(), -2.0 / 3.0_f64.sqrt());
        // The sides changed over: the same with the other sign.
        close(mann_whitney([(0, 1), (0, 1), (1, 0), (0, 1), (1, 0)].into_iter()).2.unwrap(), 2.0 / 3.0_f64.sqrt());
    }

    #[test]
    fn z_with_ties_by_hand() {
        // q at 1, 2, 2; p at 2, 3: pairs (2, 2) twice count half: U = 1, mean 3. One run of t = 3: 27 - 3 = 24, over 5 * 4:
        // variance 6 / 12 * (6 - 1.2) = 2.4.
        close(mann_whitney([(1, 0), (2, 1), (0, 1)].into_iter()).2.unwrap(), -2.0 / 2.4_f64.sqrt());
        assert_eq!(mann_whitney([(5, 7)].into_iter()).2, Some(0.0), "all equal");
        assert_eq!(mann_whitney([(5, 0)].into_iter()).2, None);
    }

    #[test]
    fn c_t_is_weighted_by_held_out_images() {
        // Two regions with 20 synthetic images each, at distance 1. Region 0 has 3 held-out images at distance 2, region 1 has one at 0.
        let ordered: Ordered = vec![
            (0..20).map(|i| (1.0, true, i)).chain((0..3).map(|i| (2.0, false, i))).collect(),
            std::iter::once((0.0, false, 3)).chain((20..40).map(|i| (1.0, true, i))).collect(),
            vec![(5.0, true, 40), (6.0, false, 4)],
        ];
        let regions: Vec<usize> = (0..41).map(|i| i / 20).collect();
        let test = CopyingTest::new(regions, vec![0, 0, 0, 1, 2]);
        let (c_t, found) = test.judge(&ordered, |_, _| 1);
        // Region 0: U = 0, mean 30, ties of 20 and 3: 8000 - 20 + 27 - 3 = 8004, variance 60 / 12 * (24 - 8004 / 506).
        let a = -30.0 / (5.0 * (24.0 - 8004.0_f64 / 506.0)).sqrt();
        // Region 1: U = 20, mean 10, ties 7980, variance 20 / 12 * (22 - 7980 / 420) = 5.
        let b = 10.0 / 5.0_f64.sqrt();
        close(found[0].z.unwrap(), a);
        close(found[1].z.unwrap(), b);
        assert_eq!(found[2], Region { synthetic: 1, holdout: 1, z: None }, "one synthetic image is too few");
        close(c_t, (3.0 * a + b) / 4.0);
    }

    #[test]
    fn few_synthetic_images_make_one_region() {
        let test = CopyingTest::new(vec![0, 1, 2], vec![2, 1, 0]);
        // One region of three synthetic images at 1 and a held-out one at 2: U = 0, mean 1.5, variance 3 / 12 * (5 - 24 / 12).
        let images = (0..3).map(|i| (1.0, true, i)).chain(std::iter::once((2.0, false, 0))).collect();
        close(test.judge(&vec![images], |_, _| 1).0, -1.5 / 0.75_f64.sqrt());
        assert_eq!(test.real_regions(), [2, 1, 0]);
    }
}
