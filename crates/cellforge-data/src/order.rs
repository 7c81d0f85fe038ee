//! The order in which images come up. All of it is a pure function of a seed and a position, so that a resumed run sees what it would
//! have seen.

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::rng::keyed;

/// `indices` in the order of one epoch.
#[must_use]
pub fn epoch_order(indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut order = indices.to_vec();
    order.shuffle(&mut keyed("epoch order", &[seed, epoch]));
    order
}

/// `b` of `indices`, drawn with replacement for one iteration.
///
/// # Panics
/// If `indices` is empty.
#[must_use]
pub fn replacement_draw(indices: &[usize], seed: u64, iteration: u64, b: usize) -> Vec<usize> {
    assert!(!indices.is_empty(), "nothing to draw from");
    let mut rng = keyed("replacement draw", &[seed, iteration]);
    (0..b).map(|_| indices[rng.random_range(0..indices.len())]).collect()
}

/// `b` indices for one iteration, drawn with replacement from each of `classes` in turn, so that each has as many, but for a remainder
/// that the first classes get.
///
/// # Panics
/// If there is no class, or one is empty.
#[must_use]
pub fn balanced_draw<C: AsRef<[usize]>>(classes: &[C], seed: u64, iteration: u64, b: usize) -> Vec<usize> {
    assert!(!classes.is_empty() && classes.iter().all(|class| !class.as_ref().is_empty()), "nothing to draw from");
    let mut rng = keyed("balanced draw", &[seed, iteration]);
    let one = |class: &[usize]| class[rng.random_range(0..class.len())];
    classes.iter().map(AsRef::as_ref).cycle().take(b).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_is_a_permutation(n in 0usize..200, seed: u64, epoch: u64) {
            let indices: Vec<usize> = (10..10 + n).collect();
            let mut order = epoch_order(&indices, seed, epoch);
            prop_assert_eq!(&order, &epoch_order(&indices, seed, epoch));
            order.sort_unstable();
            prop_assert_eq!(order, indices);
        }
    }

    #[test]
    fn orders_and_draws_differ_between_epochs() {
        let indices: Vec<usize> = (0..100).collect();
        assert_ne!(epoch_order(&indices, 1, 0), epoch_order(&indices, 1, 1));
        assert_ne!(replacement_draw(&indices, 1, 0, 32), replacement_draw(&indices, 1, 1, 32));
        assert_eq!(replacement_draw(&indices, 1, 7, 32), replacement_draw(&indices, 1, 7, 32));
    }
}
