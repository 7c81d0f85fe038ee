//! Splits keep patients whole, classes balanced and every image in its place; manifests read back what was written.

use std::collections::BTreeSet;

use cellforge_data::{
    Error, Split, SplitOptions, SplitPart, SplitRule, View, ViewParts, k_fold, read_manifest, split, write_manifest,
};
use proptest::prelude::*;

/// Images of 1 x 1 grey with the given labels and groups.
fn images(labels: Vec<u32>, groups: Vec<Option<String>>) -> View {
    let n = labels.len();
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let names = (0..n).map(|i| format!("{}/image, {i}.png", classes[labels[i] as usize])).collect();
    View::new(ViewParts { classes, names, labels, groups, size: 1.into(), channels: 1, pixels: vec![0; n] }).unwrap()
}

fn grouped(assigned: &[(u32, u8)]) -> View {
    images(
        assigned.iter().map(|(label, _)| *label).collect(),
        assigned.iter().map(|(_, g)| Some(format!("P{g}"))).collect(),
    )
}

fn groups_of(set: &View, side: &[usize]) -> BTreeSet<String> {
    set.part(side).groups().unwrap().into_iter().collect()
}

fn is_partition(split: &Split, n: usize) -> bool {
    let mut all = [split.train.as_slice(), &split.val, &split.test].concat();
    all.sort_unstable();
    all == (0..n).collect::<Vec<_>>()
}

fn options(by: SplitRule, seed: u64) -> SplitOptions {
    SplitOptions { by, seed, ..SplitOptions::default() }
}

proptest! {
    #[test]
    fn no_patient_on_two_sides(assigned in prop::collection::vec((0u32..2, 0u8..12), 30..150), seed: u64) {
        let set = grouped(&assigned);
        prop_assume!(set.group_names().len() >= 3);
        let split_once = split(&set, &options(SplitRule::Group, seed)).unwrap();
        prop_assert!(is_partition(&split_once, set.len()));
        prop_assert!(!split_once.train.is_empty() && !split_once.val.is_empty() && !split_once.test.is_empty());
        let [train, val, test] = [&split_once.train, &split_once.val, &split_once.test].map(|side| groups_of(&set, side));
        prop_assert!(train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test));
        prop_assert_eq!(&split_once, &split(&set, &options(SplitRule::Group, seed)).unwrap());
    }

    #[test]
    fn images_are_stratified(n in 20usize..120, m in 20usize..120, seed: u64) {
        let labels: Vec<u32> = (0..n + m).map(|i| u32::from(i >= n)).collect();
        let set = images(labels, vec![None; n + m]);
        let split_once = split(&set, &options(SplitRule::Image, seed)).unwrap();
        prop_assert!(is_partition(&split_once, set.len()));
        for (class, size) in [(0, n), (1, m)] {
            let count = split_once.test.iter().filter(|image| set.label(**image) == class).count();
            prop_assert!((count as f64 - 0.2 * size as f64).abs() <= 1.0);
        }
        prop_assert_eq!(&split_once, &split(&set, &options(SplitRule::Image, seed)).unwrap());
    }

    #[test]
    fn folds_cover_every_cell_once(assigned in prop::collection::vec((0u32..2, 0u8..15), 60..120), k in 2usize..5, seed: u64) {
        let set = grouped(&assigned);
        prop_assume!(set.group_names().len() >= k && set.class_counts().iter().all(|count| *count >= k));
        for by in [SplitRule::Image, SplitRule::Group] {
            let folds = k_fold(&set, k, by, seed).unwrap();
            let mut tested: Vec<usize> = folds.iter().flat_map(|fold| fold.test.clone()).collect();
            tested.sort_unstable();
            prop_assert_eq!(tested, (0..set.len()).collect::<Vec<_>>());
            for fold in &folds {
                prop_assert!(is_partition(fold, set.len()) && !fold.test.is_empty());
                if by == SplitRule::Group {
                    prop_assert!(groups_of(&set, &fold.train).is_disjoint(&groups_of(&set, &fold.test)));
                }
            }
        }
    }
}

#[test]
fn classes_stay_near_their_shares_with_uneven_patients() {
    // Sixty patients of 1 to 60 images; every third has images of class b alone.
    let assigned: Vec<(u32, u8)> =
        (1..=60u8).flat_map(|p| (0..p).map(move |i| (u32::from(p % 3 == 0 || i % 2 == 0), p))).collect();
    let set = grouped(&assigned);
    for seed in 0..20 {
        let split = split(&set, &options(SplitRule::Group, seed)).unwrap();
        for (side, share) in [(&split.train, 0.7), (&split.val, 0.1), (&split.test, 0.2)] {
            for class in 0..2 {
                let count = side.iter().filter(|image| set.label(**image) == class).count() as f64;
                let got = count / set.class_counts()[class as usize] as f64;
                assert!((got - share).abs() < 0.02, "seed {seed}: class {class} has {got:.3} where {share} was asked");
            }
        }
    }
    let [a, b] = [1, 2].map(|seed| split(&set, &options(SplitRule::Group, seed)).unwrap());
    assert_ne!(a, b);
}

#[test]
fn a_few_uneven_patients_leave_no_side_without_a_class() {
    // Images of classes a and b of each patient. Moving single patients from a greedy start ends with the seventh kind of
    // patient, without an image of class a, alone on a side.
    let patients = [(7, 4), (6, 11), (6, 5), (0, 5), (6, 11), (7, 4), (9, 5), (0, 6), (7, 22), (32, 7)];
    let images_of =
        |(p, (a, b)): (usize, (usize, usize))| [(0u32, a), (1, b)].map(|(class, n)| vec![(class, p as u8); n]);
    for count in [5, 6, 8, 10] {
        let assigned: Vec<(u32, u8)> =
            patients[10 - count..].iter().copied().enumerate().flat_map(images_of).flatten().collect();
        let set = grouped(&assigned);
        for seed in 0..200 {
            let split = split(&set, &options(SplitRule::Group, seed)).unwrap();
            for (name, side) in [("train", &split.train), ("val", &split.val), ("test", &split.test)] {
                let classes: BTreeSet<u32> = side.iter().map(|image| set.label(*image)).collect();
                assert_eq!(classes.len(), 2, "{count} patients, seed {seed}: {name} has classes {classes:?}");
            }
        }
    }
}

#[test]
fn a_class_that_a_part_would_lack_is_named() {
    // Six patients with images of class a, of whom the first few have images of class b too.
    let of = |few: u8| grouped(&(0..6).flat_map(|p| [(0, p), (u32::from(p < few), p)]).collect::<Vec<_>>());
    for seed in 0..5 {
        let refused = split(&of(2), &options(SplitRule::Group, seed)).unwrap_err().to_string();
        assert!(refused.contains("class \"b\"") && refused.contains("it: 2") && refused.contains("it: 3"), "{refused}");
        // Two parts can share two patients.
        let two = split(&of(2), &SplitOptions { val: 0.0, ..options(SplitRule::Group, seed) }).unwrap();
        assert!(two.val.is_empty() && !two.test.is_empty());
        split(&of(3), &options(SplitRule::Group, seed)).unwrap();
        // A fold may lack a class, and the images to train on may not.
        k_fold(&of(2), 3, SplitRule::Group, seed).unwrap();
        let refused = k_fold(&of(1), 3, SplitRule::Group, seed).unwrap_err().to_string();
        assert!(refused.contains("class \"b\"") && refused.contains("it: 1"), "{refused}");
    }
}

#[test]
fn folds_of_patients_are_balanced() {
    let assigned: Vec<(u32, u8)> =
        (1..=60u8).flat_map(|p| (0..p).map(move |i| (u32::from(p % 3 == 0 || i % 2 == 0), p))).collect();
    let set = grouped(&assigned);
    for fold in k_fold(&set, 5, SplitRule::Group, 3).unwrap() {
        for class in 0..2 {
            let count = fold.test.iter().filter(|image| set.label(**image) == class).count() as f64;
            let share = count / set.class_counts()[class as usize] as f64;
            assert!((share - 0.2).abs() < 0.02, "class {class} has {share:.3} of its images in a fold of 5");
        }
    }
}

#[test]
fn what_cannot_be_split_says_why() {
    let set = images(vec![0, 0, 0, 1, 1, 1], vec![None; 6]);
    let fails = |options: SplitOptions| match split(&set, &options) {
        Err(Error::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(fails(options(SplitRule::Group, 0)).contains("a/image, 0.png has no group"));
    for (val, test) in [(-0.1, 0.2), (0.1, 1.0), (f64::NAN, 0.1), (0.5, 0.5)] {
        fails(SplitOptions { val, test, ..SplitOptions::default() });
    }
    let two = images(vec![0, 0, 1, 1], ["x", "x", "y", "y"].map(|g| Some(g.to_owned())).to_vec());
    assert!(split(&two, &options(SplitRule::Group, 0)).unwrap_err().to_string().contains("2 groups"));
    assert!(split(&two, &options(SplitRule::Image, 0)).unwrap_err().to_string().contains("class \"a\" has 2 images"));
    assert!(k_fold(&two, 1, SplitRule::Image, 0).is_err());
    let only_train = split(&two, &SplitOptions { val: 0.0, test: 0.0, ..options(SplitRule::Group, 0) }).unwrap();
    assert_eq!(only_train.train, [0, 1, 2, 3]);
}

#[test]
fn manifests_read_back_and_are_checked() {
    let set = grouped(&[(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("split.csv");
    let by_group = split(&set, &options(SplitRule::Group, 4)).unwrap();
    write_manifest(&path, &set, &by_group).unwrap();
    assert_eq!(read_manifest(&path, &set).unwrap(), by_group);
    let partial = Split { train: vec![0, 3], val: vec![], test: vec![5] };
    write_manifest(&path, &set, &partial).unwrap();
    assert_eq!(read_manifest(&path, &set).unwrap(), partial);
    let part = |part: SplitPart| partial.part(part).to_vec();
    assert_eq!([SplitPart::Train, SplitPart::Val, SplitPart::Test].map(part), [vec![0, 3], vec![], vec![5]]);
    let text = std::fs::read_to_string(&path).unwrap();
    let reason = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_manifest(&path, &set).unwrap_err().to_string()
    };
    let first = "\"a/image, 0.png\",a,P1,train\n";
    assert!(text.contains(first), "{text}");
    assert!(reason(&text.replace(first, "")).contains("image, 0.png"));
    assert!(reason(&text.replace(first, &format!("{first}{first}"))).contains("line 3"));
    assert!(reason(&text.replace("image, 0", "image, 9")).contains("line 2"));
    assert!(reason(&text.replace(first, "\"a/image, 0.png\",a,P2,train\n")).contains("P2"));
    assert!(reason(&text.replace(first, "\"a/image, 0.png\",a,P1,holdout\n")).contains("holdout"));
    assert!(reason("name,split\n").contains("name,class,group,split"));
    assert!(write_manifest(&path, &set, &Split { train: vec![0], val: vec![0], test: vec![] }).is_err());
    assert!(write_manifest(&path, &set, &Split { train: vec![99], ..Split::default() }).is_err());
}
