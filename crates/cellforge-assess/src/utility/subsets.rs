//! Which images a training gets: parts of the real ones, and synthetic ones to go with them.

use std::collections::BTreeMap;

use cellforge_data::epoch_order;

/// A part of the real images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subset {
    /// Images, ascending.
    pub(super) images: Vec<usize>,
    /// Patients they come from; none where the part is one of images.
    pub(super) patients: Option<usize>,
}

/// A part of the images for each of `fractions`, which ascend. Each part holds those before it, and images of every class.
///
/// With patients known, the part of fraction `f` holds all images of the first `f` of the patients in an order drawn from `seed`, at
/// least one, and as many more in that order as it takes to have every class. Without, it holds the first `f` of the images of each
/// class in such an order, at least one.
pub(super) fn nested(
    labels: &[u32],
    patients: Option<&[String]>,
    classes: usize,
    fractions: &[f64],
    seed: u64,
) -> Vec<Subset> {
    match patients {
        Some(patients) => {
            let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (image, patient) in patients.iter().enumerate() {
                members.entry(patient).or_default().push(image);
            }
            let members: Vec<Vec<usize>> = members.into_values().collect();
            let order = epoch_order(&(0..members.len()).collect::<Vec<_>>(), seed, 0);
            let complete = shortest_complete(labels, &members, &order, classes);
            fractions
                .iter()
                .map(|&fraction| {
                    let taken = share(fraction, order.len()).max(complete);
                    let mut images: Vec<usize> =
                        order[..taken].iter().flat_map(|&p| members[p].iter().copied()).collect();
                    images.sort_unstable();
                    Subset { images, patients: Some(taken) }
                })
                .collect()
        }
        None => {
            let orders = class_orders(labels, classes, seed);
            fractions
                .iter()
                .map(|&fraction| {
                    let mut images: Vec<usize> =
                        orders.iter().flat_map(|order| order[..share(fraction, order.len())].iter().copied()).collect();
                    images.sort_unstable();
                    Subset { images, patients: None }
                })
                .collect()
        }
    }
}

/// How many patients of `order` it takes to have images of every class.
fn shortest_complete(labels: &[u32], members: &[Vec<usize>], order: &[usize], classes: usize) -> usize {
    let mut seen = vec![false; classes];
    for (taken, &patient) in order.iter().enumerate() {
        for &image in &members[patient] {
            seen[labels[image] as usize] = true;
        }
        if seen.iter().all(|&seen| seen) {
            return taken + 1;
        }
    }
    order.len()
}

/// `fraction` of `n`, rounded, at least 1.
fn share(fraction: f64, n: usize) -> usize {
    ((fraction * n as f64).round() as usize).clamp(1, n)
}

/// The images of each class in an order drawn from `seed`.
fn class_orders(labels: &[u32], classes: usize, seed: u64) -> Vec<Vec<usize>> {
    let of_class = |class| -> Vec<usize> { (0..labels.len()).filter(|&i| labels[i] as usize == class).collect() };
    (0..classes).map(|class| epoch_order(&of_class(class), seed, class as u64)).collect()
}

/// Images of each class among `labels`.
pub(super) fn class_counts(labels: impl IntoIterator<Item = u32>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[label as usize] += 1;
    }
    counts
}

/// `ratio` synthetic images for each of `real` real ones of every class, ascending, the first in an order drawn from `seed`; and whether
/// there are too few. Where there are, as many as there are are taken so that the classes keep the proportions of the real images (at
/// least one of each): none is used twice.
pub(super) fn companions(synthetic: &[u32], real: &[usize], ratio: usize, seed: u64) -> (Vec<usize>, bool) {
    let orders = class_orders(synthetic, real.len(), seed);
    let scarcest = orders
        .iter()
        .zip(real)
        .map(|(order, &real)| (order.len() as u128, (ratio * real) as u128))
        .filter(|&(have, want)| have < want)
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
    let mut images = Vec::new();
    for (order, &real) in orders.iter().zip(real) {
        let wanted = ratio * real;
        let taken = match scarcest {
            Some((have, want)) => ((wanted as u128 * have / want) as usize).clamp(1, order.len()),
            None => wanted,
        };
        images.extend_from_slice(&order[..taken]);
    }
    images.sort_unstable();
    (images, scarcest.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const FRACTIONS: [f64; 4] = [0.01, 0.05, 0.1, 1.0];

    /// Images as (class, patient), at least one of each of three classes.
    fn images() -> impl Strategy<Value = (Vec<u32>, Vec<String>)> {
        proptest::collection::vec((0u32..3, 0u32..30), 1..120).prop_map(|mut images| {
            images.extend([(0, 30), (1, 31), (2, 32)]);
            images.into_iter().map(|(class, patient)| (class, format!("P{patient}"))).unzip()
        })
    }

    proptest! {
        #[test]
        fn parts_are_nested_whole_and_have_every_class((labels, patients) in images(), seed: u64, known: bool) {
            let groups = known.then_some(patients.as_slice());
            let parts = nested(&labels, groups, 3, &FRACTIONS, seed);
            prop_assert_eq!(&parts, &nested(&labels, groups, 3, &FRACTIONS, seed));
            // Fractions asked for alone are the same as among others.
            prop_assert_eq!(&nested(&labels, groups, 3, &FRACTIONS[1..2], seed)[0], &parts[1]);
            let mut before = BTreeSet::new();
            for (part, fraction) in parts.iter().zip(FRACTIONS) {
                let inside: BTreeSet<usize> = part.images.iter().copied().collect();
                prop_assert!(part.images.is_sorted_by(|a, b| a < b) && before.is_subset(&inside));
                let counts = class_counts(part.images.iter().map(|&image| labels[image]), 3);
                prop_assert!(counts.iter().all(|&count| count > 0));
                if known {
                    // No patient is divided, and none is taken that the fraction or a missing class does not ask for.
                    let chosen: BTreeSet<&String> = part.images.iter().map(|&image| &patients[image]).collect();
                    let whole = (0..labels.len()).filter(|&image| chosen.contains(&patients[image])).count();
                    prop_assert_eq!((whole, Some(chosen.len())), (part.images.len(), part.patients));
                } else {
                    let all = class_counts(labels.iter().copied(), 3);
                    let expected: Vec<usize> = all.iter().map(|&n| share(fraction, n)).collect();
                    prop_assert_eq!((counts, part.patients), (expected, None));
                }
                before = inside;
            }
            prop_assert_eq!(parts[3].images.len(), labels.len());
        }

        #[test]
        fn companions_keep_the_proportions(
            synthetic in proptest::collection::vec(0u32..2, 0..300), real in (1usize..40, 1usize..40), ratio in 1usize..6, seed: u64
        ) {
            let synthetic: Vec<u32> = synthetic.into_iter().chain([0, 1]).collect();
            let real = [real.0, real.1];
            let (images, short) = companions(&synthetic, &real, ratio, seed);
            let have = class_counts(synthetic.iter().copied(), 2);
            let taken = class_counts(images.iter().map(|&image| synthetic[image]), 2);
            prop_assert!(images.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(short, (0..2).any(|class| have[class] < ratio * real[class]));
            if !short {
                prop_assert_eq!(&taken, &real.map(|real| ratio * real));
            } else {
                // All of one class are taken, and of the other what goes with them, to one image.
                let all = (0..2).find(|&class| taken[class] == have[class]).unwrap();
                let other = taken[1 - all] as f64 - taken[all] as f64 * real[1 - all] as f64 / real[all] as f64;
                prop_assert!(other.abs() < 1.0 || taken[1 - all] == 1 || taken[1 - all] == have[1 - all]);
            }
            let more: BTreeSet<usize> = companions(&synthetic, &real, ratio + 1, seed).0.into_iter().collect();
            prop_assert!(images.iter().all(|image| more.contains(image)));
        }
    }

    #[test]
    fn a_patient_of_one_class_is_joined_by_others() {
        // Nine healthy patients and one with both classes: one patient is asked for, and whoever comes first, the infected is there.
        let labels: Vec<u32> = (0..20).map(|i| u32::from(i == 19)).collect();
        let patients: Vec<String> = (0..20).map(|i| format!("P{}", i / 2)).collect();
        let mut numbers = BTreeSet::new();
        for seed in 0..40 {
            let part = nested(&labels, Some(&patients), 2, &[0.01], seed).remove(0);
            assert!(part.images.contains(&19));
            assert_eq!(part.images.len(), 2 * part.patients.unwrap());
            numbers.insert(part.patients.unwrap());
        }
        assert!(numbers.contains(&1) && numbers.len() > 5, "{numbers:?}");
    }

    #[test]
    fn too_few_companions_by_hand() {
        // 2 real of class 0 and 8 of class 1, four synthetic for each: 8 and 32 wanted, 20 and 16 there. Class 1 is at a half, so
        // that 4 and 16 are taken.
        let synthetic: Vec<u32> = (0..36).map(|i| u32::from(i >= 20)).collect();
        let (images, short) = companions(&synthetic, &[2, 8], 4, 7);
        assert!(short);
        assert_eq!(class_counts(images.iter().map(|&image| synthetic[image]), 2), [4, 16]);
        assert_eq!(companions(&synthetic, &[2, 8], 0, 7), (Vec::new(), false));
    }
}
