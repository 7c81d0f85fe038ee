//! Precision, recall, density and coverage: which images lie where the other set has some; and what single images are like there.

use serde::{Deserialize, Serialize};

use super::{
    balls::{Around, Ball, Balls, holds},
    units::{Blocks, Spread},
};
use crate::{Estimate, Features, Result};

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
    reference.same_dims(&compared)?;
    let inside = Inside::new(Balls::new(reference, k, None)?, &Balls::new(compared, k, None)?, false)?;
    Ok(inside.figures(None, None).shares)
}

/// What one image is like beside the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageScore {
    /// The realism score (Kynkäänniemi et al. 2019, section 5): the largest ratio of a reference image's radius to its distance from
    /// this image, over the half of the reference with the smaller radii. 0 or above, 1 or above inside such a ball, and infinite
    /// (`null` in JSON) for an image that equals one of the reference.
    #[serde(with = "infinite_as_null")]
    pub realism: f64,
    /// The rarity score (Han et al. 2023, Rarity score: a new metric to evaluate the uncommonness of synthesized images,
    /// arXiv:2206.08549): the smallest radius of a reference image's ball that holds this image; the larger, the rarer. None where
    /// no ball holds it.
    pub rarity: Option<f64>,
}

mod infinite_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}

/// The scores of each of the `compared` images, in their order; radii reach to the `k`-th nearest other image of the reference.
///
/// # Errors
/// [`Error::DimsDiffer`](crate::Error::DimsDiffer), or [`Error::Neighbours`](crate::Error::Neighbours) if `k` is 0 or the reference
/// has fewer than `k + 1` rows.
///
/// ```
/// use cellforge_eval::{Features, image_scores};
/// // With k = 1 the balls of 0, 1 and 5 have radii 1, 1 and 4, whose median is 1: the ball of 5 counts for rarity alone.
/// let found = image_scores(Features::new(&[0.0, 1.0, 5.0], 1)?, Features::new(&[0.75, 3.0, 20.0], 1)?, 1)?;
/// // 0.75 lies 0.25 from 1, in its ball; 3 lies 2 from 1, outside it, and in that of 5; 20 is in none.
/// assert_eq!((found[0].realism, found[0].rarity), (4.0, Some(1.0)));
/// assert_eq!((found[1].realism, found[1].rarity), (0.5, Some(4.0)));
/// assert_eq!((found[2].realism, found[2].rarity), (1.0 / 19.0, None));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn image_scores(reference: Features, compared: Features, k: usize) -> Result<Vec<ImageScore>> {
    reference.same_dims(&compared)?;
    let found = Balls::new(reference, k, None)?.around(compared, true)?;
    let score = |around: &Around| ImageScore {
        realism: around.realism.sqrt(),
        rarity: around.rarity[0].is_finite().then(|| around.rarity[0].sqrt()),
    };
    Ok(found.iter().map(score).collect())
}

/// What lies inside of what, image by image, with all blocks and without each.
pub(super) struct Inside {
    k: usize,
    /// The reference's balls.
    pub(super) balls: Vec<Ball>,
    /// What of the reference's balls lies around each compared image.
    compared: Vec<Around>,
    /// What of the compared images' balls lies around each image of the reference.
    pub(super) reference: Vec<Around>,
}

/// All shares, and those of the single images.
pub(super) struct Figures {
    pub(super) shares: Prdc,
    /// Share of the compared images with a realism score of 1 or above.
    pub(super) realistic: f64,
    /// Mean rarity score of the compared images that have one.
    pub(super) rarity: Option<f64>,
}

impl Inside {
    pub(super) fn new(reference: Balls, compared: &Balls, scores: bool) -> Result<Self> {
        Ok(Self {
            k: reference.k,
            compared: reference.around(compared.set, scores)?,
            reference: compared.around(reference.set, false)?,
            balls: reference.balls,
        })
    }

    /// The figures of all images, or without a block of the reference or of the compared images.
    pub(super) fn figures(&self, reference: Option<(&Blocks, usize)>, compared: Option<(&Blocks, usize)>) -> Figures {
        let slot = |of: Option<(&Blocks, usize)>| of.map_or(0, |(_, block)| block + 1);
        let (r, c) = (slot(reference), slot(compared));
        let kept = |of: Option<(&Blocks, usize)>, row: usize| of.is_none_or(|(blocks, block)| blocks.of[row] != block);
        let mut found = Figures {
            shares: Prdc { precision: 0.0, recall: 0.0, density: 0.0, coverage: 0.0 },
            realistic: 0.0,
            rarity: None,
        };
        let (mut images, mut balls, mut rare, mut rarity) = (0.0, 0.0, 0.0, 0.0);
        for (_, around) in self.compared.iter().enumerate().filter(|(row, _)| kept(compared, *row)) {
            images += 1.0;
            found.shares.precision += f64::from(u8::from(around.balls[r] > 0));
            balls += f64::from(around.balls[r]);
            found.realistic += f64::from(u8::from(around.small_balls.get(r).is_some_and(|&balls| balls > 0)));
            if let Some(&radius) = around.rarity.get(r).filter(|radius| radius.is_finite()) {
                rare += 1.0;
                rarity += radius.sqrt();
            }
        }
        let mut references = 0.0;
        let all = self.reference.iter().zip(&self.balls).enumerate();
        for (_, (around, ball)) in all.filter(|(row, _)| kept(reference, *row)) {
            references += 1.0;
            found.shares.recall += f64::from(u8::from(around.balls[c] > 0));
            let radius = reference.map_or(ball.squared, |(_, block)| ball.without(block));
            let (_, near) = around.near.without(compared.map(|(_, block)| block));
            found.shares.coverage += f64::from(u8::from(holds(radius, near)));
        }
        let shares = &mut found.shares;
        shares.density = balls / (self.k as f64 * images);
        [&mut shares.precision, &mut found.realistic].into_iter().for_each(|sum| *sum /= images);
        [&mut shares.recall, &mut shares.coverage].into_iter().for_each(|sum| *sum /= references);
        found.rarity = (rare > 0.0).then(|| rarity / rare);
        found
    }

    /// The figures with their intervals.
    pub(super) fn estimates(&self, blocks: &[Blocks; 2], level: f64) -> Estimates {
        let [r, c] = blocks;
        let all = self.figures(None, None);
        let without: [Vec<Figures>; 2] = [
            (0..r.count).map(|block| self.figures(Some((r, block)), None)).collect(),
            (0..c.count).map(|block| self.figures(None, Some((c, block)))).collect(),
        ];
        let spread = |of: &dyn Fn(&Figures) -> Option<f64>| -> Spread {
            let values = |side: usize| without[side].iter().filter_map(of).collect::<Vec<f64>>();
            r.spread(&values(0)).and(c.spread(&values(1)))
        };
        // Neither set is better known than by its own units.
        let units = r.effective_units.min(c.effective_units);
        let share = |of: &dyn Fn(&Figures) -> f64| spread(&|f| Some(of(f))).share(of(&all), units, level);
        let density = match all.shares.density {
            // That no image has any is not certain of all images: as though those that have were 1.
            0.0 => Spread { variance: 0.0, ..spread(&|_| None) }.share(0.0, units, level),
            value => spread(&|f| Some(f.shares.density)).above_0(value, level),
        };
        Estimates {
            precision: share(&|f| f.shares.precision),
            recall: share(&|f| f.shares.recall),
            coverage: share(&|f| f.shares.coverage),
            density,
            realistic: share(&|f| f.realistic),
            rarity: all.rarity.map(|value| spread(&|f| f.rarity).above_0(value, level)),
        }
    }
}

/// The figures with their intervals.
pub(super) struct Estimates {
    pub(super) precision: Estimate,
    pub(super) recall: Estimate,
    pub(super) density: Estimate,
    pub(super) coverage: Estimate,
    pub(super) realistic: Estimate,
    pub(super) rarity: Option<Estimate>,
}
