//! Splits that keep groups whole, and the balance of classes between their sides.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::rng;
use crate::{Error, Result, View, counted};

/// `twins` has the positions of the images of each picture that is there several times: groups that share one stay together.
pub(super) fn by_group(view: &View, shares: &[f64], seed: u64, twins: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (image, group) in (0..view.len()).map(|image| (image, view.group(image))) {
        let group = group.ok_or_else(|| {
            Error::Invalid(format!(
                "{} has no group (patient): split by image, or give the groups in a CSV file",
                view.name(image)
            ))
        })?;
        members.entry(group).or_default().push(image);
    }
    let wanted: Vec<usize> = (0..shares.len()).filter(|side| shares[*side] > 0.0).collect();
    let known = members.len();
    let mut groups = united(members.into_values().collect(), twins);
    if groups.len() < wanted.len() {
        let share = if groups.len() < known { ", once those are one that share identical images," } else { "" };
        return Err(Error::Invalid(format!(
            "{}{share} for {} sides of a split: more groups (patients) are needed, or a split by image",
            counted(groups.len(), "group (patient)", "groups (patients)"),
            wanted.len()
        )));
    }
    groups.shuffle(&mut rng(seed, "groups"));
    let mut balance = Balance::new(view, &groups, shares);
    for group in 0..groups.len() {
        let side = balance.cheapest(group, &wanted);
        balance.put(group, side);
    }
    balance.fill_empty(&wanted);
    balance.improve(&wanted);
    let mut sides = vec![Vec::new(); shares.len()];
    for (images, side) in groups.into_iter().zip(balance.side_of) {
        sides[side].extend(images);
    }
    Ok(sides)
}

/// The groups, those that share a picture made one.
fn united(groups: Vec<Vec<usize>>, twins: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let of_image: BTreeMap<usize, usize> =
        groups.iter().enumerate().flat_map(|(group, images)| images.iter().map(move |image| (*image, group))).collect();
    // The group that each is united with, the first of them; its own where it is that.
    let mut first: Vec<usize> = (0..groups.len()).collect();
    fn root(first: &[usize], mut group: usize) -> usize {
        while first[group] != group {
            group = first[group];
        }
        group
    }
    for members in twins {
        let roots: Vec<usize> =
            members.iter().filter_map(|image| of_image.get(image)).map(|group| root(&first, *group)).collect();
        let least = roots.iter().copied().min().unwrap_or_default();
        roots.into_iter().for_each(|group| first[group] = least);
    }
    let mut together: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let apart = groups.len();
    for (group, images) in groups.into_iter().enumerate() {
        together.entry(root(&first, group)).or_default().extend(images);
    }
    if together.len() < apart {
        tracing::warn!(
            "{} groups (patients) share identical images with others, and stay on one side with them",
            apart - together.len()
        );
    }
    together.into_values().collect()
}

/// Class counts of sides as groups are put on them, against what their shares ask for. The cost of a state is the sum over
/// sides and classes of the squared difference, each class counted as 1 in all, and [`Balance::LACKING`] for each class that a
/// side has no image of.
struct Balance {
    /// The share of the images that each side asks for.
    shares: Vec<f64>,
    /// Images of each class.
    totals: Vec<usize>,
    /// Images of each class in each group.
    counts: Vec<Vec<usize>>,
    /// Images of each class on each side.
    on_side: Vec<Vec<usize>>,
    side_of: Vec<usize>,
    groups_on: Vec<usize>,
}

impl Balance {
    const NOWHERE: usize = usize::MAX;
    /// More than any imbalance costs: a side without a class can neither be learnt from nor be judged by.
    const LACKING: f64 = 100.0;
    /// Passes of [`Balance::improve`]; it ends sooner where nothing helps.
    const PASSES: usize = 20;
    /// Beyond so many groups single moves balance well, and trying all pairs would take long.
    const SWAPPED: usize = 1000;

    fn new(view: &View, groups: &[Vec<usize>], shares: &[f64]) -> Self {
        let totals = view.class_counts();
        let counts = groups.iter().map(|images| {
            let mut counts = vec![0usize; totals.len()];
            for image in images {
                counts[view.label(*image) as usize] += 1;
            }
            counts
        });
        Self {
            shares: shares.to_vec(),
            counts: counts.collect(),
            on_side: vec![vec![0; totals.len()]; shares.len()],
            totals,
            side_of: vec![Self::NOWHERE; groups.len()],
            groups_on: vec![0; shares.len()],
        }
    }

    /// What a side costs as it stands.
    fn cost(&self, side: usize) -> f64 {
        let classes = self.on_side[side].iter().zip(&self.totals);
        let squares =
            classes.map(|(count, total)| (self.shares[side] - *count as f64 / (*total).max(1) as f64).powi(2));
        let lacking = self.on_side[side].iter().filter(|count| **count == 0).count();
        squares.sum::<f64>() + Self::LACKING * lacking as f64
    }

    /// What putting a group on a side adds to the cost.
    fn added(&mut self, group: usize, side: usize) -> f64 {
        let before = self.cost(side);
        self.put(group, side);
        let after = self.cost(side);
        self.take(group);
        after - before
    }

    fn cheapest(&mut self, group: usize, sides: &[usize]) -> usize {
        let costs: Vec<(f64, usize)> = sides.iter().map(|side| (self.added(group, *side), *side)).collect();
        costs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, side)| side)
    }

    fn put(&mut self, group: usize, side: usize) {
        for (count, more) in self.on_side[side].iter_mut().zip(&self.counts[group]) {
            *count += more;
        }
        self.groups_on[side] += 1;
        self.side_of[group] = side;
    }

    fn take(&mut self, group: usize) -> usize {
        let side = std::mem::replace(&mut self.side_of[group], Self::NOWHERE);
        for (count, less) in self.on_side[side].iter_mut().zip(&self.counts[group]) {
            *count -= less;
        }
        self.groups_on[side] -= 1;
        side
    }

    /// Gives each side that has none the group whose move costs least, from a side that has several.
    fn fill_empty(&mut self, sides: &[usize]) {
        while let Some(empty) = sides.iter().copied().find(|side| self.groups_on[*side] == 0) {
            let mut best: Option<(f64, usize)> = None;
            for group in 0..self.side_of.len() {
                let from = self.side_of[group];
                if self.groups_on[from] < 2 {
                    continue;
                }
                let before = self.cost(from);
                self.take(group);
                let cost = self.cost(from) - before + self.added(group, empty);
                self.put(group, from);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, group));
                }
            }
            let Some((_, group)) = best else { return };
            self.take(group);
            self.put(group, empty);
        }
    }

    /// Moves single groups and exchanges pairs while that lowers the cost; no side loses its last group.
    fn improve(&mut self, sides: &[usize]) {
        for _ in 0..Self::PASSES {
            if !(self.move_groups(sides) | self.swap_groups()) {
                break;
            }
        }
    }

    fn move_groups(&mut self, sides: &[usize]) -> bool {
        let mut moved = false;
        for group in 0..self.side_of.len() {
            if self.groups_on[self.side_of[group]] < 2 {
                continue;
            }
            let from = self.take(group);
            let to = self.cheapest(group, sides);
            let better = self.added(group, to) < self.added(group, from) - Self::ROUNDING;
            self.put(group, if better { to } else { from });
            moved |= better;
        }
        moved
    }

    /// A change must be worth more than rounding, or two equal states would take turns for ever.
    const ROUNDING: f64 = 1e-12;

    fn swap_groups(&mut self) -> bool {
        let groups = self.side_of.len();
        if groups > Self::SWAPPED {
            return false;
        }
        let mut swapped = false;
        for a in 0..groups {
            for b in a + 1..groups {
                let (side_a, side_b) = (self.side_of[a], self.side_of[b]);
                if side_a == side_b {
                    continue;
                }
                let before = self.cost(side_a) + self.cost(side_b);
                self.exchange(a, b);
                if self.cost(side_a) + self.cost(side_b) < before - Self::ROUNDING {
                    swapped = true;
                } else {
                    self.exchange(a, b);
                }
            }
        }
        swapped
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let (side_a, side_b) = (self.take(a), self.take(b));
        self.put(a, side_b);
        self.put(b, side_a);
    }
}
