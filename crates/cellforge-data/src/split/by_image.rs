//! Splits in which each image goes its own way, class by class.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::rng;
use crate::{Error, Result, View, counted};

/// `twins` has the positions of the images of each picture that is there several times: they go where the first of them is.
pub(super) fn by_image(view: &View, shares: &[f64], seed: u64, twins: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    let mut sides = vec![Vec::new(); shares.len()];
    let wanted = shares.iter().filter(|share| **share > 0.0).count();
    for (class, name) in view.classes().iter().enumerate() {
        let mut images = view.class_indices(class as u32);
        if images.is_empty() {
            continue;
        }
        if images.len() < wanted {
            return Err(Error::Invalid(format!(
                "class {name:?} has {}, too few for {wanted} sides of a split",
                counted(images.len(), "image", "images")
            )));
        }
        images.shuffle(&mut rng(seed, name));
        // Classes hand their surplus images to different sides, so that folds stay even where there are many classes.
        let counts = apportion(images.len(), shares, class);
        let mut rest = images.as_slice();
        for (side, count) in sides.iter_mut().zip(counts) {
            let (taken, left) = rest.split_at(count);
            side.extend_from_slice(taken);
            rest = left;
        }
    }
    unite(&mut sides, twins);
    Ok(sides)
}

/// Moves identical images to the side of the first of them.
fn unite(sides: &mut [Vec<usize>], twins: &[Vec<usize>]) {
    if twins.is_empty() {
        return;
    }
    let mut side_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (side, images) in sides.iter().enumerate() {
        side_of.extend(images.iter().map(|image| (*image, side)));
    }
    let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
    for members in twins {
        let to = side_of[&members[0]];
        moved.extend(members.iter().filter(|image| side_of[*image] != to).map(|image| (*image, to)));
    }
    for side in sides.iter_mut() {
        side.retain(|image| !moved.contains_key(image));
    }
    let images = moved.len();
    moved.into_iter().for_each(|(image, to)| sides[to].push(image));
    if images > 0 {
        tracing::warn!("{images} images are identical to ones on another side of the split, and were moved to them");
    }
}

/// Whole numbers that sum to `n`, nearest to the shares (largest remainders; equal ones in turn from side `first`), at least 1
/// for each share above 0. `n` is no less than the number of those.
fn apportion(n: usize, shares: &[f64], first: usize) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * n as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|exact| (exact + 1e-9).floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).filter(|side| shares[*side] > 0.0).collect();
    order.sort_by_key(|side| (side + shares.len() - first % shares.len()) % shares.len());
    order.sort_by(|a, b| (exact[*b] - counts[*b] as f64).total_cmp(&(exact[*a] - counts[*a] as f64)));
    let mut left = n.saturating_sub(counts.iter().sum());
    for side in order.iter().cycle() {
        if left == 0 {
            break;
        }
        counts[*side] += 1;
        left -= 1;
    }
    while let Some(empty) = order.iter().find(|side| counts[**side] == 0) {
        let largest = (0..counts.len()).max_by_key(|side| counts[*side]).unwrap_or(0);
        counts[largest] -= 1;
        counts[*empty] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apportioning_by_hand() {
        assert_eq!(apportion(10, &[0.7, 0.1, 0.2], 0), [7, 1, 2]);
        // 4.9, 0.7, 1.4: floors 4, 0, 1; the two left go to the remainders 0.9 and 0.7.
        assert_eq!(apportion(7, &[0.7, 0.1, 0.2], 0), [5, 1, 1]);
        // 2.7, 0.15, 0.15: both small sides still get one.
        assert_eq!(apportion(3, &[0.9, 0.05, 0.05], 0), [1, 1, 1]);
        assert_eq!(apportion(5, &[1.0, 0.0, 0.0], 2), [5, 0, 0]);
        // Four thirds: the one left over goes to the side asked for.
        assert_eq!(apportion(4, &[1.0 / 3.0; 3], 1), [1, 2, 1]);
    }
}
