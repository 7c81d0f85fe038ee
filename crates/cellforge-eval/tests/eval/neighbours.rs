//! Nearest neighbours against plain loops over all pairs.

use cellforge_eval::{Error, Features, Neighbour, nearest, nearest_in_groups, nearest_other};
use proptest::prelude::*;

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

/// All references by distance, then by number.
fn sorted(query: &[f32], refs: Features, skip: Option<usize>) -> Vec<Neighbour> {
    let others = (0..refs.len()).filter(|&index| Some(index) != skip);
    let mut found: Vec<Neighbour> =
        others.map(|index| Neighbour { index, distance: distance(query, refs.row(index)) }).collect();
    found.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index)));
    found
}

/// Two sets of whole numbers, whose distances are exact in any order of summation, with many ties; and their dimensions.
fn whole_numbers() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>)> {
    (1..20_usize, 1..40_usize, 2..700_usize).prop_flat_map(|(dims, queries, refs)| {
        let values = |rows| prop::collection::vec((-3..4_i8).prop_map(f32::from), rows * dims);
        (Just(dims), values(queries), values(refs))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn as_sorting_all_distances((dims, queries, refs) in whole_numbers(), k in 1..8_usize, groups in 1..5_usize) {
        let (queries, refs) = (Features::new(&queries, dims).unwrap(), Features::new(&refs, dims).unwrap());
        let k = k.min(refs.len() - 1);
        let found = nearest(queries, refs, k).unwrap();
        for (i, found) in found.iter().enumerate() {
            prop_assert_eq!(&found[..], &sorted(queries.row(i), refs, None)[..k]);
        }
        for (i, found) in nearest_other(refs, k).unwrap().iter().enumerate() {
            prop_assert_eq!(&found[..], &sorted(refs.row(i), refs, Some(i))[..k]);
        }
        // One group more than is used: nothing is near it.
        let group_of: Vec<usize> = (0..refs.len()).map(|j| j * j % groups).collect();
        let found = nearest_in_groups(queries, refs, &group_of, groups + 1).unwrap();
        for (i, row) in found.chunks(groups + 1).enumerate() {
            for (group, &found) in row.iter().enumerate() {
                let members = (0..refs.len()).filter(|&j| group_of[j] == group);
                let expected = members.map(|j| distance(queries.row(i), refs.row(j))).fold(f64::INFINITY, f64::min);
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Rows far from the origin, or of sizes that differ by many orders, or near the ends of what `f32` holds: where the fast form
    /// loses all its digits.
    #[test]
    fn exact_where_cancellation_is_at_its_worst(
        rows in prop::collection::vec(prop::collection::vec(-1.0..1.0_f32, 6), 8..60),
        offset in prop::sample::select(vec![0.0, 1.0e4, -3.0e6]),
        scale in prop::sample::select(vec![1.0, 1.0e-22, 1.0e-40, 3.0e38]),
        outlier in any::<bool>(),
    ) {
        let mut values: Vec<f32> = rows.concat().iter().map(|v| (v * scale + offset).clamp(f32::MIN, f32::MAX)).collect();
        if outlier {
            values[0] = 1.0e15;
        }
        // The last rows repeat the first ones.
        values.extend_from_within(..12);
        let set = Features::new(&values, 6).unwrap();
        for (i, found) in nearest_other(set, 3).unwrap().iter().enumerate() {
            let expected = sorted(set.row(i), set, Some(i));
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found.distance - expected.distance).abs() <= 1e-12 * expected.distance);
            }
            prop_assert!(i >= 2 || found[0].distance == 0.0);
        }
    }
}

/// Pseudo-random rows.
fn rows(n: usize, dims: usize, mut x: u64) -> Vec<f32> {
    (0..n * dims)
        .map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 40) as f32 / (1 << 24) as f32
        })
        .collect()
}

#[test]
fn the_same_with_any_number_of_threads() {
    let (a, b) = (rows(700, 33, 1), rows(1500, 33, 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| nearest(Features::new(&a, 33).unwrap(), Features::new(&b, 33).unwrap(), 4).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn errors_say_what_is_missing() {
    let set = Features::new(&[1.0, 2.0, 3.0], 1).unwrap();
    assert_eq!(nearest_other(set, 3).unwrap_err(), Error::Neighbours { k: 3, needed: 4, rows: 3 });
    assert_eq!(nearest(set, set, 0).unwrap_err(), Error::Neighbours { k: 0, needed: 1, rows: 3 });
    let pairs = Features::new(&[1.0, 2.0], 2).unwrap();
    assert_eq!(nearest(pairs, set, 1).unwrap_err(), Error::DimsDiffer { left: 2, right: 1 });
    assert!(matches!(nearest_in_groups(set, set, &[0], 1), Err(Error::Length { .. })));
    assert_eq!(nearest_in_groups(set, set, &[0, 2, 1], 2).unwrap_err(), Error::Group { index: 1, group: 2, groups: 2 });
}
