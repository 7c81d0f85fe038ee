//! Accuracies over seeds, their paired differences and Holm's adjustment against numbers worked by hand.

use cellforge_eval::{BootstrapOptions, Difference, Error, accuracy_over_seeds, holm, paired_difference, wilson};

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

/// Predictions for images of class 0: the first `right` of each ten are right.
fn tens(right: &[usize]) -> Vec<u32> {
    right.iter().flat_map(|&right| (0..10).map(move |i| u32::from(i >= right))).collect()
}

/// As many patients of ten images each.
fn patients(n: usize) -> Vec<String> {
    (0..10 * n).map(|i| format!("C{:03}", i / 10)).collect()
}

fn options(resamples: usize) -> BootstrapOptions {
    BootstrapOptions { resamples, seed: 3, ..Default::default() }
}

#[test]
fn holm_by_hand() {
    // In order: 0.005 * 4 = 0.02; 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, but not below 0.06.
    let found = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
    for (found, expected) in found.into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
        close(found, expected, 1e-12);
    }
    // Three times 0.5 is no probability.
    assert_eq!(holm(&[0.5, 0.5, 0.9]).unwrap(), [1.0, 1.0, 1.0]);
    assert_eq!(holm(&[]).unwrap(), [0.0; 0]);
    assert_eq!(holm(&[0.2, 1.5]), Err(Error::PValue { index: 1, value: 1.5 }));
    assert!(matches!(holm(&[f64::NAN]), Err(Error::PValue { index: 0, .. })));
}

#[test]
fn trainings_of_equal_patients_compare_as_in_a_paired_t_test() {
    // Every patient has the same shares, so that only the seeds vary: differences 0.1, 0.2, 0.3, 0.4, 0.5. Mean 0.3, standard
    // deviation sqrt(0.1 / 4) = 0.158114, standard error 0.158114 / sqrt(5) = 0.0707107. With four degrees of freedom the 97.5%
    // quantile of t is 2.776445: 0.3 -+ 0.196325. t = 0.3 / 0.0707107 = 4.242641; with four degrees of freedom the distribution
    // function has a closed form: with s = t / sqrt(4 + t^2) = 4.242641 / 4.690416 = 0.904534, the tail on one side is
    // 1/2 - s (3 - s^2) / 4 = 1/2 - 0.904534 * 2.181818 / 4 = 0.006618, both sides 0.013236.
    let truth = vec![0; 60];
    let with: Vec<_> = (3..8).map(|right| tens(&[right; 6])).collect();
    let without = vec![tens(&[2; 6]); 5];
    let found = paired_difference(&truth, &with, &without, Some(&patients(6)), &options(4000)).unwrap();
    close(found.difference.value, 0.3, 1e-12);
    close(found.difference.low, 0.103675, 5e-4);
    close(found.difference.high, 0.496325, 5e-4);
    close(found.p, 0.013236, 5e-4);
    assert_eq!((found.seeds, found.units, found.by_group), (5, 6, true));
    close(found.accuracy_with.value, 0.5, 1e-12);
    close(found.accuracy_without.value, 0.2, 1e-12);
    // The second way never varies. Wilson's upper end for 0 of 6 patients is 3.841459 / 9.841459 = 0.390334.
    close(found.accuracy_without.high, 0.590334, 1e-6);
    assert_eq!(found.accuracy_without.low, 0.0);
}

#[test]
fn two_patients_by_hand() {
    // One training; the first patient's images gain everything, the second's nothing. Both are drawn with chance 1/4 twice the first
    // (difference 1), with 1/2 once each (0.5), with 1/4 twice the second (0). The interval is [0, 1], and p is twice the share of
    // resamples that are not above 0: about 1/2.
    let found =
        paired_difference(&[0; 20], &[tens(&[10, 10])], &[tens(&[0, 10])], Some(&patients(2)), &options(2000)).unwrap();
    assert_eq!((found.difference.value, found.difference.low, found.difference.high), (0.5, 0.0, 1.0));
    close(found.p, 0.5, 0.05);
    // All single images: 10 of 20 differ, all one way. The chance of drawing none of them is below one in a million.
    let images = paired_difference(&[0; 20], &[tens(&[10, 10])], &[tens(&[0, 10])], None, &options(2000)).unwrap();
    assert_eq!((images.units, images.by_group), (20, false));
    close(images.p, 2.0 / 4001.0, 1e-9);
    // One patient alone cannot be drawn again: images are.
    let one = vec!["C1".to_owned(); 20];
    let one = paired_difference(&[0; 20], &[tens(&[10, 10])], &[tens(&[0, 10])], Some(&one), &options(2000)).unwrap();
    assert_eq!(one, images);
}

/// Five trainings whose hits differ by patient and by seed.
fn varied(shift: usize) -> Vec<Vec<u32>> {
    (0..5).map(|seed| tens(&(0..12).map(|p| (p * (7 + shift) + seed * (3 - shift)) % 10).collect::<Vec<_>>())).collect()
}

#[test]
fn swapping_the_ways_turns_the_signs() {
    let (truth, groups) = (vec![0; 120], patients(12));
    let judge = |a: &[Vec<u32>], b: &[Vec<u32>]| paired_difference(&truth, a, b, Some(&groups), &options(500)).unwrap();
    let (there, back) = (judge(&varied(0), &varied(1)), judge(&varied(1), &varied(0)));
    close(there.difference.value, -back.difference.value, 1e-12);
    close(there.difference.low, -back.difference.high, 1e-12);
    close(there.difference.high, -back.difference.low, 1e-12);
    assert_eq!((there.p, there.accuracy_with), (back.p, back.accuracy_without));
    assert!(there.difference.low < there.difference.value && there.difference.value < there.difference.high);
    close(there.difference.value, there.accuracy_with.value - there.accuracy_without.value, 1e-12);
}

#[test]
fn equal_predictions_differ_by_nothing() {
    let (truth, groups) = (vec![0; 120], patients(12));
    let found = paired_difference(&truth, &varied(0), &varied(0), Some(&groups), &options(200)).unwrap();
    assert_eq!((found.difference.value, found.p), (0.0, 1.0));
    // No patient of 12 shows a difference, which excludes none: Wilson's upper end for 0 of 12 is 3.841459 / 15.841459.
    close(found.difference.high, 0.242494, 1e-6);
    close(found.difference.low, -0.242494, 1e-6);
    assert_eq!(found.accuracy_with, found.accuracy_without);
}

#[test]
fn patients_give_wider_intervals_than_images() {
    // Whole patients gain, whole patients lose: 200 images, but only 20 things that were seen.
    let truth = vec![0; 200];
    let with = vec![tens(&(0..20).map(|p| if p % 3 == 0 { 10 } else { 4 }).collect::<Vec<_>>()); 3];
    let without = vec![tens(&(0..20).map(|p| if p % 4 == 0 { 9 } else { 3 }).collect::<Vec<_>>()); 3];
    let width = |groups: Option<&[String]>| {
        let Difference { difference, accuracy_with, .. } =
            paired_difference(&truth, &with, &without, groups, &options(1000)).unwrap();
        [difference.high - difference.low, accuracy_with.high - accuracy_with.low]
    };
    let (groups, [by_patient, by_image]) = (patients(20), [Some(()), None]);
    let widths = [by_patient, by_image].map(|known| width(known.map(|()| groups.as_slice())));
    assert!(widths[0][0] > 1.4 * widths[1][0] && widths[0][1] > 1.4 * widths[1][1], "{widths:?}");
}

#[test]
fn one_training_knows_its_patients_alone() {
    // Without seeds to vary: the bootstrap of images, here 50 of 100, standard deviation 0.05.
    let found = accuracy_over_seeds(&[0; 100], &[tens(&[5; 10])], None, &options(4000)).unwrap();
    assert_eq!(found.value, 0.5);
    close(found.low, 0.402, 0.015);
    close(found.high, 0.598, 0.015);
    // All right: what Wilson says of 10 of 10.
    let found = accuracy_over_seeds(&[0; 100], &[tens(&[10; 10])], Some(&patients(10)), &options(100)).unwrap();
    assert_eq!((found.value, found.high), (1.0, 1.0));
    close(found.low, wilson(10, 10).unwrap().low, 1e-12);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (truth, groups) = (vec![0; 120], patients(12));
    let judge = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| paired_difference(&truth, &varied(0), &varied(1), Some(&groups), &options(300)));
        serde_json::to_string(&found.unwrap()).unwrap()
    };
    assert_eq!(judge(1), judge(4));
    let back: Difference = serde_json::from_str(&judge(1)).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), judge(1));
}

#[test]
fn bad_input_is_named() {
    let options = options(100);
    let judge = |truth: &[u32], a: &[Vec<u32>], b: &[Vec<u32>], groups: Option<&[String]>| {
        paired_difference(truth, a, b, groups, &options).unwrap_err()
    };
    let one = [vec![0, 0]];
    assert!(matches!(judge(&[], &one, &one, None), Error::Empty { .. }));
    assert_eq!(judge(&[0, 1], &[], &[], None), Error::Seeds { with: 0, without: 0 });
    assert_eq!(judge(&[0, 1], &one, &[vec![0, 0], vec![0, 0]], None), Error::Seeds { with: 1, without: 2 });
    assert!(matches!(judge(&[0, 1], &one, &[vec![0]], None), Error::Length { found: 1, expected: 2, .. }));
    assert!(matches!(judge(&[0, 1], &one, &one, Some(&patients(1))), Error::Length { found: 10, expected: 2, .. }));
    let few = BootstrapOptions { resamples: 2, ..options };
    assert_eq!(accuracy_over_seeds(&[0, 1], &one, None, &few), Err(Error::Resamples(2)));
    assert_eq!(accuracy_over_seeds(&[0, 1], &[], None, &options), Err(Error::Seeds { with: 0, without: 0 }));
}
