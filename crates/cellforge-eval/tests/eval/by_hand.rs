//! Every figure against numbers worked out by hand; the derivations are in the comments.

use cellforge_eval::{
    BootstrapOptions, CrossValidation, Error, IntervalMethod, Resampler, by_group, classifier_report, confusion,
    fit_temperature, recognition, roc_auc, wilson, wilson_at,
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
fn calibration_by_hand() {
    // Highest probabilities 0.9 right, 0.9 wrong, 0.62 right, 0.62 right. Of fifteen bins, 0.9 lies in the 14th, from 13/15 to 14/15, and
    // 0.62 in the 10th. |1 - 1.8| = 0.8 and |2 - 1.24| = 0.76, over 4 images: 0.39.
    // Brier: 2 * 0.1^2 = 0.02, 2 * 0.9^2 = 1.62, and twice 2 * 0.38^2 = 0.2888: 2.2176 / 4 = 0.5544.
    let rows = vec![vec![0.9, 0.1], vec![0.9, 0.1], vec![0.62, 0.38], vec![0.38, 0.62]];
    let (truth, classes) = ([0, 1, 0, 1], names(&["a", "b"]));
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let report = classifier_report(&truth, &rows, &classes, None, &options).unwrap();
    let found = report.calibration.unwrap();
    close(found.ece.value, 0.39, 1e-7);
    close(found.brier.value, 0.5544, 1e-7);
    assert_eq!(found.bins.len(), 15);
    let [tenth, last] = [found.bins[9], found.bins[13]];
    assert_eq!((tenth.images, tenth.accuracy, last.images, last.accuracy), (2, 1.0, 2, 0.5));
    close(tenth.confidence, 0.62, 1e-7);
    close(last.low, 13.0 / 15.0, 1e-12);
    close(last.high, 14.0 / 15.0, 1e-12);
    assert_eq!(found.bins.iter().map(|bin| bin.images).sum::<u64>(), 4);
    for e in [found.ece, found.brier] {
        assert!(0.0 <= e.low && e.low < e.value && e.value < e.high && e.high <= 2.0, "{e:?}");
    }
    // Three classes: 0.5^2 + 0.3^2 + (1 - 0.2)^2 = 0.98; predicted with 0.5, and wrong.
    let report = classifier_report(&[2], &[vec![0.5, 0.3, 0.2]], &names(&["a", "b", "c"]), None, &options).unwrap();
    let found = report.calibration.unwrap();
    close(found.brier.value, 0.98, 1e-7);
    close(found.ece.value, 0.5, 1e-7);
    // Always sure and always wrong: 2, and one image claims no certainty.
    let report = classifier_report(&[1], &[vec![1.0, 0.0]], &classes, None, &options).unwrap();
    let found = report.calibration.unwrap();
    assert_eq!((found.brier.value, found.brier.high, found.ece.value), (2.0, 2.0, 1.0));
    assert!(found.brier.low < 1.0 && found.ece.low < 0.5, "{found:?}");
    // Scores that are no probabilities have no calibration.
    for scores in [vec![0.9, 0.9], vec![1.5, -0.5], vec![3.0, 1.0]] {
        assert_eq!(classifier_report(&[0], &[scores], &classes, None, &options).unwrap().calibration, None);
    }
}

/// Of 100 sets from a classifier that is as sure as it is right, and from one that is 0.05 too sure, the intervals hold the truth about as often
/// as they say. Plain percentiles hold none of the first.
#[test]
fn intervals_of_the_calibration_error_cover() {
    let mut state = 1_u64;
    let mut uniform = || {
        // Steele, Lea and Flood (2014), SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    for too_sure in [0.0, 0.05] {
        let mut covered = 0;
        for set in 0..100 {
            let (mut truth, mut rows) = (Vec::new(), Vec::new());
            for _ in 0..300 {
                let sure = 0.56 + 0.43 * uniform();
                truth.push(u32::from(uniform() >= sure - too_sure));
                rows.push(vec![sure as f32, 1.0 - sure as f32]);
            }
            let options = BootstrapOptions { resamples: 200, seed: set, ..Default::default() };
            let report = classifier_report(&truth, &rows, &names(&["a", "b"]), None, &options).unwrap();
            let ece = report.calibration.unwrap().ece;
            covered += usize::from(ece.low <= too_sure && too_sure <= ece.high);
        }
        assert!(covered >= 90, "{too_sure}: {covered}");
    }
}

#[test]
fn sensitivities_at_a_specificity_by_hand() {
    // Of 20 other images one may be taken for the class at 95%, two at 90%, none at 99%. From the top, by the score of class 1: class, class,
    // other, class, other, class, 18 others: 2 of 4 above all others, 3 above all but one, 4 above all but two.
    let kinds = [&[1, 1, 0, 1, 0, 1][..], &[0; 18]].concat();
    let rows: Vec<Vec<f32>> = (0..24).map(|i| 1.0 - 0.04 * i as f32).map(|p| vec![1.0 - p, p]).collect();
    let classes = names(&["other", "class"]);
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let report = classifier_report(&kinds, &rows, &classes, None, &options).unwrap();
    let found = &report.per_class[1].sensitivity_at;
    let values: Vec<(f64, f64)> = found.iter().map(|at| (at.specificity, at.sensitivity.value)).collect();
    assert_eq!(values, [(0.9, 1.0), (0.95, 0.75), (0.99, 0.5)]);
    assert!(found.iter().all(|at| at.sensitivity.low <= at.sensitivity.value && at.sensitivity.low < 1.0));
    // The other way round 4 images are too few for one of them to be allowed: 18 of 20 score below all four.
    let found = &report.per_class[0].sensitivity_at;
    assert!(found.iter().all(|at| (at.sensitivity.value - 0.9).abs() < 0.011), "{found:?}");
    // Where one side is missing there is none, and files from before had none.
    let report = classifier_report(&[1; 24], &rows, &classes, None, &options).unwrap();
    assert!(report.per_class.iter().all(|class| class.sensitivity_at.is_empty()));
    let mut old = serde_json::to_value(&report).unwrap();
    old.as_object_mut().unwrap().remove("calibration");
    for class in old["per_class"].as_array_mut().unwrap() {
        class.as_object_mut().unwrap().remove("sensitivity_at");
    }
    let read: cellforge_eval::ClassifierReport = serde_json::from_value(old).unwrap();
    assert_eq!((read.calibration, read.correct), (None, report.correct));
}

#[test]
fn balanced_accuracy_leaves_out_what_is_not_there() {
    // Class 0: 2 of 4 right; class 1: 1 of 1; class 2 has no images, and one was taken for it.
    let rows: Vec<_> = [0, 0, 1, 2, 1].map(|class| row(class, 3)).into();
    let classes = names(&["a", "b", "none"]);
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let report = classifier_report(&[0, 0, 0, 0, 1], &rows, &classes, None, &options).unwrap();
    close(report.balanced_accuracy.unwrap().value, 0.75, 1e-12);
    assert_eq!((report.average_precision, report.per_class[2].average_precision), (None, None));
    // Reports of before have neither.
    let mut old = serde_json::to_value(&report).unwrap();
    for name in ["balanced_accuracy", "average_precision"] {
        old.as_object_mut().unwrap().remove(name);
    }
    let read: cellforge_eval::ClassifierReport = serde_json::from_value(old).unwrap();
    assert_eq!((read.balanced_accuracy, read.total), (None, 5));
}

/// Logits in tenths from the generator of `scikit_learn.rs` of 60 images in three classes. SciPy's `minimize_scalar` of the mean negative
/// log-likelihood over the temperature, bounded by 0.05 and 50, finds 4.816580254756686.
#[test]
fn the_temperature_is_scipys() {
    let mut x: u64 = 7;
    let mut next = || {
        x = (1_103_515_245 * x + 12_345) % (1 << 31);
        x / 65_536 % 100
    };
    let truth: Vec<u32> = (0..60).map(|_| (next() % 3) as u32).collect();
    let logits: Vec<Vec<f32>> = truth
        .iter()
        .map(|&label| {
            let logit = |class| (next() as f32 - 50.0) / 10.0 + if class == label { 2.0 } else { 0.0 };
            (0..3).map(logit).collect()
        })
        .collect();
    let found = fit_temperature(&logits, &truth).unwrap().unwrap();
    close(found, 4.816_580_254_756_686, 1e-5);
    // All right: the lower, the likelier. All wrong: the higher.
    let sure = vec![vec![2.0, 0.0], vec![0.0, 1.0]];
    assert_eq!(fit_temperature(&sure, &[0, 1]).unwrap(), None);
    assert_eq!(fit_temperature(&sure, &[1, 0]).unwrap(), None);
    assert!(fit_temperature(&sure, &[0]).is_err() && fit_temperature(&sure, &[0, 2]).is_err());
    assert!(fit_temperature(&[], &[]).is_err() && fit_temperature(&[vec![f32::NAN, 0.0]], &[0]).is_err());

    // The report says what the calibration was before, which is that of probabilities without a temperature.
    let softmax = |t: f64| -> Vec<Vec<f32>> {
        let one = |row: &Vec<f32>| {
            let exps: Vec<f64> = row.iter().map(|&z| (f64::from(z) / t).exp()).collect();
            exps.iter().map(|exp| (exp / exps.iter().sum::<f64>()) as f32).collect()
        };
        logits.iter().map(one).collect()
    };
    let (classes, options) = (names(&["a", "b", "c"]), BootstrapOptions { resamples: 20, ..Default::default() });
    let report = |rows: &[Vec<f32>]| classifier_report(&truth, rows, &classes, None, &options).unwrap();
    let (plain, scaled) = (softmax(1.0), softmax(found));
    let before = report(&plain).calibration.unwrap();
    let after = report(&scaled).scaled_by(Some(found), &truth, &scaled);
    let calibration = after.calibration.as_ref().unwrap();
    let scaling = calibration.scaling.unwrap();
    assert_eq!(scaling.temperature, found);
    close(scaling.unscaled_ece, before.ece.value, 1e-5);
    close(scaling.unscaled_brier, before.brier.value, 1e-5);
    assert!(calibration.ece.value < 0.5 * before.ece.value && calibration.brier.value < before.brier.value);
    assert_eq!(report(&scaled).scaled_by(None, &truth, &scaled).calibration.unwrap().scaling, None);
}

#[test]
fn folds_have_a_mean_and_a_spread() {
    let options = BootstrapOptions { resamples: 20, ..Default::default() };
    let classes = names(&["a", "b"]);
    // One of two right, both right, and a fold with one class alone, which has no area.
    let report = |truth: &[u32], predicted: &[usize]| {
        let rows: Vec<_> = predicted.iter().map(|&class| row(class, 2)).collect();
        classifier_report(truth, &rows, &classes, None, &options).unwrap()
    };
    let folds = vec![report(&[0, 1], &[0, 0]), report(&[0, 1], &[0, 1]), report(&[0], &[0])];
    let pooled = report(&[0, 1, 0, 1, 0], &[0, 0, 0, 1, 0]);
    let found = CrossValidation::new(pooled, folds);
    let over = |name: &str| found.over_folds.iter().find(|over| over.figure == name).unwrap();
    // Accuracies 0.5, 1 and 1: mean 5/6, squares (1/9 + 1/36 + 1/36) / 2 = 1/12.
    let accuracy = over("accuracy");
    close(accuracy.mean, 5.0 / 6.0, 1e-12);
    close(accuracy.sd.unwrap(), (1.0f64 / 12.0).sqrt(), 1e-12);
    // Areas 0.5 and 1, of two folds.
    let area = over("ROC AUC");
    assert_eq!((area.folds, area.mean, accuracy.folds), (2, 0.75, 3));
    close(area.sd.unwrap(), 0.125f64.sqrt(), 1e-12);
}

#[test]
fn calibration_and_sensitivity_are_resampled_by_patient() {
    // Two patients, one that is sure and right, one that is sure and wrong. A draw has both, or twice the one or the other: the Brier scores 0, 1
    // and 2 come up in a quarter, a half and a quarter of the resamples, whose 95% are all of it. Single images would claim far less.
    let truth: Vec<u32> = (0..100).map(|i| i % 2).collect();
    let rows: Vec<_> = (0..100).map(|_| vec![1.0, 0.0]).collect();
    let patients: Vec<String> = (0..100).map(|i| format!("P{}", i % 2)).collect();
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let classes = names(&["a", "b"]);
    let found = classifier_report(&truth, &rows, &classes, Some(&patients), &options).unwrap().calibration.unwrap();
    assert_eq!((found.brier.low, found.brier.value, found.brier.high), (0.0, 1.0, 2.0));
    let images = classifier_report(&truth, &rows, &classes, None, &options).unwrap().calibration.unwrap();
    assert!(images.brier.low > 0.7 && images.brier.high < 1.3, "{:?}", images.brier);
    assert!(images.ece.low > 0.35 && found.ece.high - found.ece.low > images.ece.high - images.ece.low);
}

#[test]
fn every_patient_by_itself() {
    let groups = names(&["P2", "P1", "P2", "P2", "P1"]);
    let classes = names(&["a", "b"]);
    let found = by_group(&[0, 0, 1, 1, 0], &[0, 1, 1, 0, 0], &classes, &groups, 0.95).unwrap();
    let [first, second] = &found[..] else { panic!("two patients") };
    // P1: images 1 and 4, of which the second is right; none of class b. P2: images 0, 2 and 3, of which the last is wrong.
    assert_eq!((first.group.as_str(), first.images, first.accuracy.successes), ("P1", 2, 1));
    assert_eq!((first.recall["a"].rate, first.recall["b"].total, first.recall["b"].high), (0.5, 0, 1.0));
    assert_eq!((second.images, second.accuracy), (3, wilson(2, 3).unwrap()));
    assert_eq!((second.recall["a"].rate, second.recall["b"].rate), (1.0, 0.5));
    assert!(by_group(&[0], &[0], &classes, &groups, 0.95).is_err());
    assert!(by_group(&[0], &[2], &classes, &groups[..1], 0.95).is_err());
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
