//! Balls around images that reach to their `k`-th nearest neighbour, as they are and without any one block of their set.

use super::units::Blocks;
use crate::{
    Error, Features, Neighbour, Result,
    bootstrap::quantile,
    distances::{Row, round_up, scan, squared_distance},
};

/// The ball around an image. Without a block of its set it can only be wider.
pub(super) struct Ball {
    /// Its squared radius.
    pub(super) squared: f64,
    /// An `f32` above the largest squared radius, without whichever block.
    above: f32,
    /// Its squared radius without a block, where that is another; never its own block.
    wider: Vec<(usize, f64)>,
    /// The squared distance to the nearest other image of its set.
    first: f64,
    /// The same without the block of that image, and that block.
    second: Option<(usize, f64)>,
}

impl Ball {
    /// The squared radius without a block.
    pub(super) fn without(&self, block: usize) -> f64 {
        self.wider.iter().find(|(other, _)| *other == block).map_or(self.squared, |(_, squared)| *squared)
    }

    /// The squared distance to the nearest other image of the set: of all, or without a block.
    pub(super) fn nearest(&self, without: Option<usize>) -> f64 {
        self.second.filter(|(block, _)| Some(*block) == without).map_or(self.first, |(_, squared)| squared)
    }
}

/// Whether an image at this squared distance is in a ball of this squared radius: images on the edge are not, an equal image always is.
pub(super) fn holds(radius: f64, squared: f64) -> bool {
    squared < radius || squared == 0.0
}

/// All balls of a set.
pub(super) struct Balls<'a> {
    pub(super) set: Features<'a>,
    pub(super) k: usize,
    /// The block of each image, and the number of blocks; none are left out where there is no block.
    of: &'a [usize],
    blocks: usize,
    pub(super) balls: Vec<Ball>,
    /// The squared median of the radii, as they are and then without each block.
    medians: Vec<f64>,
}

impl<'a> Balls<'a> {
    /// Balls that reach to the `k`-th nearest other image.
    pub(super) fn new(set: Features<'a>, k: usize, blocks: Option<&'a Blocks>) -> Result<Self> {
        if k == 0 || k >= set.len() {
            return Err(Error::Neighbours { k, needed: k.max(1) + 1, rows: set.len() });
        }
        let (of, blocks) = blocks.map_or((&[][..], 0), |blocks| (blocks.of.as_slice(), blocks.count));
        let block = |row: usize| of.get(row).copied();
        let found = scan(
            set,
            set,
            |_| (Vec::new(), false),
            |(list, whole): &mut (Vec<Neighbour>, bool), query, first, row| {
                let limit_of = |list: &[Neighbour], whole| {
                    if whole { list.last().map_or(0.0, |last| round_up(last.distance)) } else { f32::INFINITY }
                };
                let mut limit = limit_of(list, *whole);
                for j in 0..row.len() {
                    let index = first + j;
                    if row.lower(j) > limit || index == query {
                        continue;
                    }
                    let distance = squared_distance(set.row(query), set.row(index));
                    let place = list.partition_point(|other| other.distance <= distance);
                    if *whole && place == list.len() {
                        continue;
                    }
                    list.insert(place, Neighbour { index, distance });
                    *whole = trim(list, k, block(query), block);
                    limit = limit_of(list, *whole);
                }
            },
        )?;
        let balls: Vec<Ball> =
            found.iter().enumerate().map(|(row, (list, _))| ball(list, k, block(row), block)).collect();
        let median = |without: Option<usize>| {
            let kept = balls.iter().enumerate().filter(|(row, _)| without.is_none() || block(*row) != without);
            let mut radii: Vec<f64> =
                kept.map(|(_, ball)| without.map_or(ball.squared, |block| ball.without(block)).sqrt()).collect();
            radii.sort_by(f64::total_cmp);
            quantile(&radii, 0.5).unwrap_or(0.0).powi(2)
        };
        let medians = std::iter::once(None).chain((0..blocks).map(Some)).map(median).collect();
        Ok(Self { set, k, of, blocks, balls, medians })
    }

    /// What of these balls lies around each of `points`, and what is near it.
    pub(super) fn around(&self, points: Features, scores: bool) -> Result<Vec<Around>> {
        let slots = self.blocks + 1;
        let start = |_| Around {
            balls: vec![0; slots],
            near: Near { index: 0, squared: f64::INFINITY, block: None, second: f64::INFINITY, second_index: 0 },
            rarity: if scores { vec![f64::INFINITY; slots] } else { Vec::new() },
            small_balls: if scores { vec![0; slots] } else { Vec::new() },
            realism: 0.0,
        };
        scan(points, self.set, start, |state, query, first, row| {
            for j in 0..row.len() {
                let index = first + j;
                self.visit(state, points.row(query), index, row, j, scores);
            }
        })
    }

    fn visit(&self, state: &mut Around, point: &[f32], index: usize, row: &Row, j: usize, scores: bool) {
        let ball = &self.balls[index];
        let (lower, own) = (row.lower(j), self.of.get(index).copied());
        // The bound is NaN where norms overflow: only what it rules out for certain is passed over.
        let (beyond, farther) = (lower > ball.above, f64::from(lower) > state.near.second);
        let (reached, near) = (!beyond, !farther);
        // A ball that is not wide may make an image more realistic even from outside.
        let small = scores && ball.squared <= self.medians[0];
        let no_closer = ball.squared <= state.realism * f64::from(lower);
        let closer = small && !no_closer;
        if !(reached || near || closer) {
            return;
        }
        let squared = squared_distance(point, self.set.row(index));
        if near {
            state.near.see(index, squared, own);
        }
        if closer {
            let score = if squared == 0.0 { f64::INFINITY } else { ball.squared / squared };
            state.realism = state.realism.max(score);
        }
        if !reached {
            return;
        }
        for slot in 0..=self.blocks {
            let left_out = slot.checked_sub(1);
            if left_out.is_some() && left_out == own {
                continue;
            }
            let radius = left_out.map_or(ball.squared, |block| ball.without(block));
            if !holds(radius, squared) {
                continue;
            }
            state.balls[slot] += 1;
            if scores {
                state.rarity[slot] = state.rarity[slot].min(radius);
                state.small_balls[slot] += u32::from(radius <= self.medians[slot]);
            }
        }
    }
}

/// What lies around a point. Of lists, entry 0 is with all blocks and entry `b + 1` without block `b` of the balls' set.
pub(super) struct Around {
    /// Balls that hold the point.
    pub(super) balls: Vec<u32>,
    /// The nearest image.
    pub(super) near: Near,
    /// The smallest squared radius of the balls that hold the point; infinite where none does.
    pub(super) rarity: Vec<f64>,
    /// Balls that hold the point, of those no wider than the median.
    pub(super) small_balls: Vec<u32>,
    /// The squared realism score; infinite where an image equals the point.
    pub(super) realism: f64,
}

/// The nearest image, and the nearest of another block.
pub(super) struct Near {
    index: usize,
    squared: f64,
    block: Option<usize>,
    second_index: usize,
    second: f64,
}

impl Near {
    fn see(&mut self, index: usize, squared: f64, block: Option<usize>) {
        if squared < self.squared {
            if self.squared.is_finite() && (block.is_none() || self.block != block) {
                (self.second, self.second_index) = (self.squared, self.index);
            }
            (self.squared, self.index, self.block) = (squared, index, block);
        } else if squared < self.second && (block.is_none() || self.block != block) {
            (self.second, self.second_index) = (squared, index);
        }
    }

    /// Number and squared distance of the nearest image: of all, or without a block.
    pub(super) fn without(&self, block: Option<usize>) -> (usize, f64) {
        if block.is_some() && block == self.block {
            (self.second_index, self.second)
        } else {
            (self.index, self.squared)
        }
    }
}

/// Cuts a sorted list of neighbours where, without any one block but the image's own, `k` are left. Whether there are so many.
fn trim(list: &mut Vec<Neighbour>, k: usize, own: Option<usize>, block: impl Fn(usize) -> Option<usize>) -> bool {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    let mut most = 0;
    for at in 0..list.len() {
        if let Some(block) = block(list[at].index).filter(|block| Some(*block) != own) {
            let count = match counts.iter_mut().find(|(other, _)| *other == block) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    counts.push((block, 1));
                    1
                }
            };
            most = most.max(count);
        }
        if at + 1 - most >= k {
            list.truncate(at + 1);
            return true;
        }
    }
    false
}

fn ball(list: &[Neighbour], k: usize, own: Option<usize>, block: impl Fn(usize) -> Option<usize>) -> Ball {
    let squared = list[k - 1].distance;
    let mut left_out: Vec<usize> =
        list[..k].iter().filter_map(|near| block(near.index)).filter(|block| Some(*block) != own).collect();
    left_out.sort_unstable();
    left_out.dedup();
    // Where fewer than `k` are left, as many as there are.
    let without = |left_out: usize, k: usize| {
        list.iter().filter(|near| block(near.index) != Some(left_out)).take(k).last().map(|near| near.distance)
    };
    let wider: Vec<(usize, f64)> =
        left_out.into_iter().map(|left_out| (left_out, without(left_out, k).unwrap_or(squared).max(squared))).collect();
    let above = wider.iter().fold(squared, |above, (_, squared)| above.max(*squared));
    let second = block(list[0].index).filter(|block| Some(*block) != own);
    Ball {
        squared,
        above: round_up(above),
        wider,
        first: list[0].distance,
        second: second.and_then(|block| Some((block, without(block, 1)?))),
    }
}
