//! Precision, recall, density and coverage: which images lie where the other set has some.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::{
    Features, Result,
    distances::{Row, round_down, round_up, scan, squared_distance, squared_to_other},
};

/// How two sets cover each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prdc {
    /// Share of the compared images inside a ball of the reference, in [0, 1]: do they look real?
    pub precision: f64,
    /// Share of the reference's images inside a ball of the compared ones, in [0, 1]: is every kind of image there?
    pub recall: f64,
    /// Mean number of the reference's balls around a compared image, over `k`; 0 or above, about 1 where the sets are alike. Unlike
    /// precision it does not trust one outlier's wide ball.
    pub density: f64,
    /// Share of the reference's balls with a compared image inside, in [0, 1]. Unlike recall it does not trust wide balls of outliers
    /// among the compared images.
    pub coverage: f64,
}

/// Precision and recall (Kynkäänniemi et al. 2019, Improved precision and recall metric for assessing generative models,
/// arXiv:1904.06991), density and coverage (Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models,
/// arXiv:2002.09797) of `compared` against `reference`.
///
/// Around each image lies a ball that reaches to, and does not include, its `k`-th nearest other image of its own set. As in the
/// Python package `prdc`, images on the edge are outside; unlike there, an image equal to the one at the centre is always inside, so
/// that sets with more than `k` copies of one image are not said to miss themselves.
///
/// # Errors
/// [`Error::DimsDiffer`](crate::Error::DimsDiffer), or [`Error::Neighbours`](crate::Error::Neighbours) if `k` is 0 or a set has fewer
/// than `k + 1` rows.
///
/// ```
/// use cellforge_eval::{Features, prdc};
/// // With k = 1 the balls of 0, 1 and 5 have radii 1, 1 and 4; those of 0.5 and 9 both reach 8.5 far.
/// let found = prdc(Features::new(&[0.0, 1.0, 5.0], 1)?, Features::new(&[0.5, 9.0], 1)?, 1)?;
/// // 0.5 is in the balls of 0 and 1; 9 lies on the edge of the ball of 5.
/// assert_eq!((found.precision, found.density), (0.5, 1.0));
/// // The ball of 0.5 holds all three; the ball of 5 holds neither of the two.
/// assert_eq!((found.recall, found.coverage), (1.0, 2.0 / 3.0));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn prdc(reference: Features, compared: Features, k: usize) -> Result<Prdc> {
    Ok(Inside::new(reference, compared, k)?.shares())
}

/// What lies inside of what, image by image.
pub(super) struct Inside {
    k: usize,
    /// Balls of the reference around each compared image.
    pub(super) balls: Vec<u32>,
    /// Whether each of the reference's images is in a ball of a compared one.
    pub(super) recalled: Vec<bool>,
    /// Whether the ball of each of the reference's images holds a compared one.
    pub(super) covered: Vec<bool>,
}

impl Inside {
    pub(super) fn new(reference: Features, compared: Features, k: usize) -> Result<Self> {
        let reference_balls = balls(reference, k)?;
        let compared_balls = balls(compared, k)?;
        let flags = || -> Vec<AtomicBool> { (0..reference.len()).map(|_| AtomicBool::new(false)).collect() };
        let (recalled, covered) = (flags(), flags());
        // Flags are only ever raised, so that the order in which threads come does not matter.
        let found = scan(
            compared,
            reference,
            |_| 0,
            |count: &mut u32, query, first, row| {
                let own = &compared_balls[query];
                for j in 0..row.len() {
                    let (lower, index) = (row.lower(j), first + j);
                    let other = &reference_balls[index];
                    if lower > own.above && lower > other.above {
                        continue;
                    }
                    let exact = || squared_distance(compared.row(query), reference.row(index));
                    let (in_own, in_other) = match (own.decide(row, j), other.decide(row, j)) {
                        (Some(in_own), Some(in_other)) => (in_own, in_other),
                        _ => {
                            let squared = exact();
                            (own.holds(squared), other.holds(squared))
                        }
                    };
                    if in_own {
                        recalled[index].store(true, Relaxed);
                    }
                    if in_other {
                        covered[index].store(true, Relaxed);
                        *count += 1;
                    }
                }
            },
        )?;
        let plain = |flags: Vec<AtomicBool>| flags.into_iter().map(AtomicBool::into_inner).collect();
        Ok(Self { k, balls: found, recalled: plain(recalled), covered: plain(covered) })
    }

    /// Whether each compared image is in a ball of the reference.
    pub(super) fn precise(&self) -> Vec<bool> {
        self.balls.iter().map(|&balls| balls > 0).collect()
    }

    /// The part of the density of each compared image.
    pub(super) fn densities(&self) -> Vec<f64> {
        self.balls.iter().map(|&balls| f64::from(balls) / self.k as f64).collect()
    }

    pub(super) fn shares(&self) -> Prdc {
        let share = |flags: &[bool]| flags.iter().filter(|&&flag| flag).count() as f64 / flags.len() as f64;
        let balls: u64 = self.balls.iter().map(|&balls| u64::from(balls)).sum();
        Prdc {
            precision: share(&self.precise()),
            recall: share(&self.recalled),
            density: balls as f64 / (self.k * self.balls.len()) as f64,
            coverage: share(&self.covered),
        }
    }
}

/// The ball around an image.
struct Ball {
    /// Its squared radius.
    squared: f64,
    /// An `f32` below the squared radius.
    below: f32,
    /// An `f32` above the squared radius.
    above: f32,
}

impl Ball {
    fn holds(&self, squared: f64) -> bool {
        squared < self.squared || squared == 0.0
    }

    /// What [`Self::holds`] would say of reference `j`, where the bounds of its distance leave no doubt.
    fn decide(&self, row: &Row, j: usize) -> Option<bool> {
        if row.lower(j) > self.above {
            Some(false)
        } else if row.upper(j) < self.below {
            Some(true)
        } else {
            None
        }
    }
}

fn balls(set: Features, k: usize) -> Result<Vec<Ball>> {
    let ball = |squared| Ball { squared, below: round_down(squared), above: round_up(squared) };
    Ok(squared_to_other(set, k)?.into_iter().map(ball).collect())
}
