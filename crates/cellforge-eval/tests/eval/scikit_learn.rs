//! The figures of scikit-learn 1.9.1 for the same arrays. They come from:
//!
//! ```python
//! import numpy as np
//! from sklearn.metrics import average_precision_score, balanced_accuracy_score, classification_report
//! from sklearn.metrics import confusion_matrix, roc_auc_score
//!
//! def lcg(n, seed):
//!     out, x = [], seed
//!     for _ in range(n):
//!         x = (1103515245 * x + 12345) % 2**31
//!         out.append(x // 65536 % 100)
//!     return out
//!
//! n, k = 60, 3
//! r = lcg(n * (k + 1), 7)
//! y = np.array([v % k for v in r[:n]])
//! s = np.array(r[n:], float).reshape(n, k)
//! s[np.arange(n), y] += 25
//! p = (s / s.sum(1, keepdims=True)).astype(np.float32)
//! print(confusion_matrix(y, p.argmax(1)))
//! print(classification_report(y, p.argmax(1), output_dict=True, zero_division=0))
//! print([roc_auc_score(y == c, p[:, c]) for c in range(k)])
//! print([average_precision_score(y == c, p[:, c]) for c in range(k)])
//! print(balanced_accuracy_score(y, p.argmax(1)))
//! # Two classes with many ties.
//! print(roc_auc_score([v % 2 for v in r[:n]], [v // 10 + 2 * (u % 2) for u, v in zip(r[:n], r[n:2 * n])]))
//! ```

use cellforge_eval::{BootstrapOptions, Estimate, classifier_report, roc_auc};

fn lcg(n: usize, mut x: u64) -> Vec<u64> {
    (0..n)
        .map(|_| {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            x / 65_536 % 100
        })
        .collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "found {found}, scikit-learn says {expected}");
}

const N: usize = 60;
const K: usize = 3;

#[test]
fn classification_report_and_areas() {
    let r = lcg(N * (K + 1), 7);
    let truth: Vec<u32> = r[..N].iter().map(|v| (v % K as u64) as u32).collect();
    let probabilities: Vec<Vec<f32>> = r[N..]
        .chunks(K)
        .zip(&truth)
        .map(|(row, &label)| {
            let mut scores: Vec<f64> = row.iter().map(|&v| v as f64).collect();
            scores[label as usize] += 25.0;
            let sum: f64 = scores.iter().sum();
            scores.iter().map(|score| (score / sum) as f32).collect()
        })
        .collect();
    let classes = ["a", "b", "c"].map(String::from);
    let report = classifier_report(&truth, &probabilities, &classes, None, &BootstrapOptions::default()).unwrap();

    assert_eq!(report.confusion.counts, [[7, 4, 4], [6, 14, 8], [2, 4, 11]]);
    close(report.accuracy, 0.5333333333333333);
    let expected = [
        (0.4666666666666667, 0.4666666666666667, 0.4666666666666667, 15, 0.7866666666666666),
        (0.6363636363636364, 0.5, 0.56, 28, 0.7600446428571428),
        (0.4782608695652174, 0.6470588235294118, 0.55, 17, 0.7277701778385773),
    ];
    for (class, (precision, recall, f1, support, area)) in report.per_class.iter().zip(expected) {
        close(class.precision.rate, precision);
        close(class.recall.rate, recall);
        close(class.f1.value, f1);
        assert_eq!(class.support, support);
        close(class.roc_auc.unwrap().value, area);
        assert!(!class.zero_division);
    }
    let mean = &report.macro_average;
    close(mean.precision.value, 0.5270970575318401);
    close(mean.recall.value, 0.5379084967320261);
    close(mean.f1.value, 0.5255555555555557);
    let weighted = &report.weighted_average;
    close(weighted.precision.value, 0.5491436100131752);
    close(weighted.recall.value, 0.5333333333333333);
    close(weighted.f1.value, 0.5338333333333334);
    close(report.roc_auc.unwrap().value, 0.7581604957874623);
    let average_precision = [0.5653696512274944, 0.7048463317244408, 0.5709956894253715];
    for (class, expected) in report.per_class.iter().zip(average_precision) {
        let found = class.average_precision.unwrap();
        close(found.value, expected);
        assert!(found.low < expected && expected < found.high, "{found:?}");
    }
    close(report.average_precision.unwrap().value, 0.6137372241257689);
    close(report.balanced_accuracy.unwrap().value, 0.5379084967320261);
    for Estimate { value, low, high } in [mean.f1, weighted.f1, report.roc_auc.unwrap(), report.per_class[0].f1] {
        assert!(low < value && value < high, "{low} {value} {high}");
    }
}

#[test]
fn area_with_ties() {
    let r = lcg(N * (K + 1), 7);
    let positives: Vec<bool> = r[..N].iter().map(|v| v % 2 == 1).collect();
    let scores: Vec<f64> = (0..N).map(|i| (r[N + i] / 10 + 2 * (r[i] % 2)) as f64).collect();
    close(roc_auc(&scores, &positives).unwrap(), 0.6537142857142857);
}

#[test]
fn zero_division_is_zero() {
    // classification_report([0, 0, 1, 2], [0, 1, 1, 1], zero_division=0)
    let predicted = [0, 1, 1, 1];
    let probabilities: Vec<Vec<f32>> =
        predicted.iter().map(|&p| (0..3).map(|c| f32::from(u8::from(c == p))).collect()).collect();
    let classes = ["a", "b", "c"].map(String::from);
    let report =
        classifier_report(&[0, 0, 1, 2], &probabilities, &classes, None, &BootstrapOptions::default()).unwrap();
    close(report.macro_average.precision.value, 0.4444444444444444);
    close(report.macro_average.f1.value, 0.38888888888888884);
    close(report.weighted_average.f1.value, 0.4583333333333333);
    assert!(report.per_class[2].zero_division);
}
