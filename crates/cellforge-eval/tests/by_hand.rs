//! Every figure against numbers worked out by hand; the derivations are in the comments.

use cellforge_eval::{
    BootstrapOptions, Error, IntervalMethod, Resampler, classifier_report, confusion, recognition, roc_auc, wilson,
    wilson_at,
};

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Scores that predict `class` of `k`.
fn row(class: usize, k: usize) -> Vec<f32> {
    (0..k).map(|c| if c == class { 0.8 } else { 0.2 / (k - 1) as f32 }).collect()
}

#[test]
fn the_studys_rates_have_wilson_intervals() {
    // n = 1000, z = 1.959964, z^2 = 3.841459.
    // 300: centre (0.3 + 0.00192073) / 1.003841459 = 0.30076534,
    //      half z / 1.003841459 * sqrt(0.21 / 1000 + 3.841459 / 4e6) = 1.95246342 * 0.01452449 = 0.02835853.
    let p = wilson(300, 1000).unwrap();
    close(p.low, 0.27240681, 1e-7);
    close(p.high, 0.32912387, 1e-7);
    assert_eq!(format!("{:.1}-{:.1}", 100.0 * p.low, 100.0 * p.high), "27.2-32.9");
    // 991: centre 0.99292073 / 1.003841459 = 0.98912106,
    //      half 1.95246342 * sqrt(0.008919 / 1000 + 9.6036e-7) = 1.95246342 * 0.00314315 = 0.00613689.
    let p = wilson(991, 1000).unwrap();
    close(p.low, 0.98298417, 1e-7);
    close(p.high, 0.99525795, 1e-7);
    assert_eq!(format!("{:.1}-{:.1}", 100.0 * p.low, 100.0 * p.high), "98.3-99.5");
}

#[test]
fn wilson_at_the_ends() {
    // 0 of 10: from 0 to z^2 / (n + z^2) = 3.841459 / 13.841459; 10 of 10 is its mirror image.
    let (none, all) = (wilson(0, 10).unwrap(), wilson(10, 10).unwrap());
    assert_eq!((none.low, all.high), (0.0, 1.0));
    close(none.high, 0.27753279, 1e-7);
    close(all.low, 1.0 - none.high, 1e-12);
    // A lower level gives a narrower interval.
    assert!(wilson_at(5, 10, 0.5).unwrap().low > wilson(5, 10).unwrap().low);
}

#[test]
fn recognised_images_are_counted() {
    let p = recognition(1, &[1, 0, 1, 1]).unwrap();
    assert_eq!((p.successes, p.total, p.rate), (3, 4, 0.75));
}

#[test]
fn confusion_has_truth_in_rows() {
    let found = confusion(&[0, 0, 0, 1, 1], &[0, 1, 1, 1, 0], 2).unwrap();
    assert_eq!(found.counts, [[1, 2], [1, 1]]);
    assert_eq!((found.correct(), found.total(), found.support(0), found.predicted(0)), (2, 5, 3, 2));
}

#[test]
fn precision_recall_f1_and_averages() {
    // Truth 0 0 0 0 1 1, predicted 0 0 0 1 1 0: confusion [[3, 1], [1, 1]].
    // Class 0: precision 3/4, recall 3/4, F1 3/4. Class 1: 1/2, 1/2, 1/2. Accuracy 4/6.
    // Macro mean (3/4 + 1/2) / 2 = 0.625; weighted (4 * 3/4 + 2 * 1/2) / 6 = 2/3.
    let probabilities: Vec<_> = [0, 0, 0, 1, 1, 0].map(|class| row(class, 2)).into();
    let report =
        classifier_report(&[0, 0, 0, 0, 1, 1], &probabilities, &names(&["a", "b"]), None, &BootstrapOptions::default())
            .unwrap();
    close(report.accuracy, 4.0 / 6.0, 1e-12);
    let [a, b] = &report.per_class[..] else { panic!("two classes") };
    assert_eq!((a.precision.rate, a.recall.rate, a.f1.value, a.support), (0.75, 0.75, 0.75, 4));
    assert_eq!((b.precision.rate, b.recall.rate, b.f1.value, b.support), (0.5, 0.5, 0.5, 2));
    close(report.macro_average.f1.value, 0.625, 1e-12);
    close(report.weighted_average.recall.value, 2.0 / 3.0, 1e-12);
    assert_eq!(report.interval_method, IntervalMethod::WilsonAndImages);
    // Without groups the accuracy has Wilson's interval.
    let p = wilson(4, 6).unwrap();
    assert_eq!((report.accuracy_interval.low, report.accuracy_interval.high), (p.low, p.high));
    // Scores of class 1: positives 0.8, 0.2; negatives 0.2, 0.2, 0.2, 0.8. Of 8 pairs, 0.8 beats three and ties one, 0.2 ties
    // three: (3 + 1/2 + 3/2) / 8 = 5/8.
    close(report.roc_auc.unwrap().value, 0.625, 1e-12);
}

#[test]
fn division_by_zero_is_flagged() {
    // Class 2 is neither present nor predicted; class 1 is present and never predicted.
    let probabilities = vec![row(0, 3), row(0, 3), row(0, 3)];
    let classes = names(&["a", "b", "c"]);
    let report = classifier_report(&[0, 0, 1], &probabilities, &classes, None, &BootstrapOptions::default()).unwrap();
    let flags: Vec<bool> = report.per_class.iter().map(|class| class.zero_division).collect();
    assert_eq!(flags, [false, true, true]);
    let b = &report.per_class[1];
    assert_eq!((b.precision.rate, b.precision.total, b.precision.low, b.precision.high), (0.0, 0, 0.0, 1.0));
    assert_eq!(report.per_class[2].roc_auc, None);
    assert_eq!(report.roc_auc, None);
}

#[test]
fn areas_count_pairs() {
    let labels = [true, true, false, false];
    assert_eq!(roc_auc(&[4.0, 3.0, 2.0, 1.0], &labels).unwrap(), 1.0);
    assert_eq!(roc_auc(&[1.0, 2.0, 3.0, 4.0], &labels).unwrap(), 0.0);
    assert_eq!(roc_auc(&[1.0; 4], &labels).unwrap(), 0.5);
    // 3 beats 2 and 1, 1 ties with 1 and loses to 2: (2 + 1/2) / 4.
    assert_eq!(roc_auc(&[3.0, 1.0, 2.0, 1.0], &labels).unwrap(), 0.625);
}

#[test]
fn one_group_against_many() {
    // Two patients, one all right and one all wrong: a resample draws (right, right), (right, wrong), (wrong, right) or
    // (wrong, wrong), so that each of 0 and 1 comes up in a quarter of them and the 95% interval is [0, 1]. Single images would
    // claim Wilson's 0.40 to 0.60 for 50 of 100.
    let truth = vec![0; 100];
    let probabilities: Vec<_> = (0..100).map(|i| row(i % 2, 2)).collect();
    let patients: Vec<String> = (0..100).map(|i| format!("C{}", i % 2)).collect();
    let classes = names(&["a", "b"]);
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let report = classifier_report(&truth, &probabilities, &classes, Some(&patients), &options).unwrap();
    assert_eq!((report.accuracy_interval.low, report.accuracy_interval.high), (0.0, 1.0));
    assert_eq!((report.interval_method, report.groups), (IntervalMethod::Groups, Some(2)));
    let one = vec!["C1".to_owned(); 100];
    let report = classifier_report(&truth, &probabilities, &classes, Some(&one), &options).unwrap();
    assert_eq!(report.interval_method, IntervalMethod::ImagesOfOneGroup);
    close(report.accuracy_interval.low, wilson(50, 100).unwrap().low, 1e-12);
}

#[test]
fn unanimous_groups_do_not_claim_certainty() {
    // All 40 images of 4 patients are right. Every resample says 100%; the interval is Wilson's for 4 of 4: from
    // 1 - 3.841459 / 7.841459 = 0.5101092.
    let patients: Vec<String> = (0..40).map(|i| format!("C{}", i % 4)).collect();
    let truth: Vec<u32> = (0..40).map(|i| i / 20).collect();
    let probabilities: Vec<_> = truth.iter().map(|&class| row(class as usize, 2)).collect();
    let options = BootstrapOptions { resamples: 100, ..Default::default() };
    let report = classifier_report(&truth, &probabilities, &names(&["a", "b"]), Some(&patients), &options).unwrap();
    close(report.accuracy_interval.low, 0.5101092, 1e-6);
    assert_eq!(report.accuracy_interval.high, 1.0);
    let (first, average, auc) = (&report.per_class[0], report.macro_average, report.roc_auc.unwrap());
    for estimate in [first.f1, first.roc_auc.unwrap(), average.recall, report.weighted_average.precision, auc] {
        assert_eq!((estimate.value, estimate.high), (1.0, 1.0));
        close(estimate.low, 0.5101092, 1e-6);
    }
}

#[test]
fn a_class_that_was_not_drawn_is_not_a_class_of_recall_0() {
    // Patient C0 has all images of class a, C1 and C2 those of class b; of each class one of 20 is wrong. A resample of the
    // patients misses a class in (2/3)^3 + (1/3)^3 = 1/3 of the cases; counted as recall 0, those would draw the interval of
    // the mean recall 0.95 down to half of that.
    let patients: Vec<String> = (0..40).map(|i| format!("C{}", if i < 20 { 0 } else { 1 + i % 2 })).collect();
    let truth: Vec<u32> = (0..40).map(|i| i / 20).collect();
    let wrong = [0, 20];
    let probabilities: Vec<_> = (0..40).map(|i| row((i / 20 + usize::from(wrong.contains(&i))) % 2, 2)).collect();
    let options = BootstrapOptions { resamples: 500, ..Default::default() };
    let report = classifier_report(&truth, &probabilities, &names(&["a", "b"]), Some(&patients), &options).unwrap();
    close(report.macro_average.recall.value, 0.95, 1e-12);
    // Of class b the two patients have recall 0.9 and 1: the mean with 0.95 lies between 0.925 and 0.975.
    close(report.macro_average.recall.low, 0.925, 1e-9);
    close(report.macro_average.recall.high, 0.975, 1e-9);
}

#[test]
fn bootstrap_of_a_mean_has_its_known_spread() {
    // The mean of 100 draws from 0 and 1 in equal parts has standard deviation 0.05: about 0.402 to 0.598.
    let values: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
    let mean = |weights: &[u32]| Some(weights.iter().zip(&values).map(|(&w, v)| f64::from(w) * v).sum::<f64>() / 100.0);
    let options = BootstrapOptions { resamples: 4000, seed: 3, level: 0.95 };
    let interval = Resampler::images(100).unwrap().interval(&options, mean).unwrap().unwrap();
    close(interval.low, 0.402, 0.015);
    close(interval.high, 0.598, 0.015);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let truth: Vec<u32> = (0..90).map(|i| i % 3).collect();
    let probabilities: Vec<_> = (0..90).map(|i| row((i * i / 7) % 3, 3)).collect();
    let patients: Vec<String> = (0..90).map(|i| format!("P{}", i % 11)).collect();
    let judge = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let classes = names(&["a", "b", "c"]);
        let options = BootstrapOptions { resamples: 300, seed: 5, level: 0.9 };
        let report = pool.install(|| classifier_report(&truth, &probabilities, &classes, Some(&patients), &options));
        serde_json::to_string(&report.unwrap()).unwrap()
    };
    let one = judge(1);
    assert_eq!(one, judge(4));
    let back: cellforge_eval::ClassifierReport = serde_json::from_str(&one).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), one, "figures survive JSON to the last digit");
}

#[test]
fn bad_input_is_named() {
    let (classes, options) = (names(&["a", "b"]), BootstrapOptions::default());
    let judge =
        |truth: &[u32], rows: &[Vec<f32>]| classifier_report(truth, rows, &classes, None, &options).unwrap_err();
    assert!(matches!(judge(&[], &[]), Error::Empty { .. }));
    assert!(matches!(judge(&[0, 1], &[row(0, 2)]), Error::Length { found: 1, expected: 2, .. }));
    assert_eq!(judge(&[0, 2], &[row(0, 2), row(0, 2)]), Error::Label { index: 1, label: 2, classes: 2 });
    assert!(matches!(judge(&[0], &[vec![0.5, f32::NAN]]), Error::NotFinite { index: 0, .. }));
    assert!(matches!(judge(&[0], &[vec![1.0]]), Error::Columns { index: 0, found: 1, classes: 2 }));
    let patients = names(&["C1"]);
    let rows = [row(0, 2), row(1, 2)];
    let error = classifier_report(&[0, 1], &rows, &classes, Some(&patients), &options).unwrap_err();
    assert!(error.to_string().contains("groups"), "{error}");
    let few = BootstrapOptions { resamples: 3, ..options };
    assert_eq!(classifier_report(&[0, 1], &rows, &classes, None, &few).unwrap_err(), Error::Resamples(3));
    assert_eq!(roc_auc(&[0.1, 0.2], &[true, true]), Err(Error::OneClass { positives: 2, total: 2 }));
    assert!(matches!(roc_auc(&[0.1, f64::NAN], &[true, false]), Err(Error::NotFinite { index: 1, .. })));
    assert!(matches!(confusion(&[0], &[0, 1], 2), Err(Error::Length { .. })));
    assert!(matches!(confusion(&[0], &[5], 2), Err(Error::Label { label: 5, .. })));
    assert_eq!(wilson(0, 0), Err(Error::Counts { successes: 0, total: 0 }));
    assert_eq!(wilson(3, 2), Err(Error::Counts { successes: 3, total: 2 }));
    assert_eq!(wilson_at(1, 2, 1.0), Err(Error::Level(1.0)));
    assert!(matches!(recognition(0, &[]), Err(Error::Empty { .. })));
}
