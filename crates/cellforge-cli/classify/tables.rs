//! What `classify` says of images, patients and strata, as CSV and as text.

use std::collections::BTreeMap;

use cellforge::{
    data::{View, counted},
    eval::{ClassifierReport, GroupFigures},
};

use crate::common::csv_field;

/// A line for each image.
pub(super) fn csv(set: &View, classes: &[String], probabilities: &[Vec<f32>], predicted: &[u32]) -> String {
    let mut text = String::from("name,folder,predicted");
    for class in classes {
        text.push(',');
        text.push_str(&csv_field(&format!("p_{class}")));
    }
    text.push('\n');
    for (i, row) in probabilities.iter().enumerate() {
        let fields = [set.name(i), set.class_of(i), &classes[predicted[i] as usize]];
        text.push_str(&fields.map(csv_field).join(","));
        for p in row {
            text.push_str(&format!(",{p:.6}"));
        }
        text.push('\n');
    }
    text
}

/// A line for each patient: images, those that are right, and both of each class.
pub(super) fn patient_csv(patients: &[GroupFigures], classes: &[String]) -> String {
    let mut header = vec!["patient".to_owned(), "images".to_owned(), "correct".to_owned(), "accuracy".to_owned()];
    for class in classes {
        header.extend(["images", "correct", "recall"].map(|what| format!("{what}_{class}")));
    }
    let mut text = header.iter().map(|field| csv_field(field)).collect::<Vec<_>>().join(",") + "\n";
    for patient in patients {
        text.push_str(&csv_field(&patient.group));
        let all = std::iter::once(&patient.accuracy).chain(classes.iter().map(|class| &patient.recall[class]));
        for found in all {
            let rate = if found.total > 0 { format!("{:.6}", found.rate) } else { String::new() };
            text.push_str(&format!(",{},{},{rate}", found.total, found.successes));
        }
        text.push('\n');
    }
    text
}

/// How the accuracy of single patients spreads.
pub(super) fn spread(patients: &[GroupFigures]) -> String {
    let mut sorted: Vec<&GroupFigures> = patients.iter().collect();
    sorted.sort_by(|a, b| a.accuracy.rate.total_cmp(&b.accuracy.rate));
    let one = |found: &GroupFigures| {
        let images = counted(found.images as usize, "image", "images");
        format!("{:.4} ({}, {images})", found.accuracy.rate, found.group)
    };
    let (Some(lowest), Some(highest)) = (sorted.first(), sorted.last()) else { return String::new() };
    let middle = [(sorted.len() - 1) / 2, sorted.len() / 2].map(|at| sorted[at].accuracy.rate);
    format!(
        "accuracy of single patients ({}): lowest {}, median {:.4}, highest {}",
        patients.len(),
        one(lowest),
        (middle[0] + middle[1]) / 2.0,
        one(highest)
    )
}

/// A line for each stratum. The recall of a class is its sensitivity, and in two classes the specificity of the other.
pub(super) fn strata(strata: &BTreeMap<String, ClassifierReport>, classes: &[String]) -> String {
    let width = strata.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
    let recalls: Vec<String> = classes.iter().map(|class| format!("recall of {class}")).collect();
    let mut text = format!("{:<width$}  {:>7}  {:>8}  {:<25}", "stratum", "images", "patients", "accuracy");
    recalls.iter().for_each(|title| text.push_str(&format!("  {title:<25}")));
    for (name, report) in strata {
        let patients = report.groups.map_or("-".to_owned(), |n| n.to_string());
        let interval = report.accuracy_interval;
        let show = |value: f64, low: f64, high: f64| format!("{value:.4} ({low:.4} to {high:.4})");
        let accuracy = show(report.accuracy, interval.low, interval.high);
        text = format!("{}\n{name:<width$}  {:>7}  {patients:>8}  {accuracy:<25}", text.trim_end(), report.total);
        for class in &report.per_class {
            let r = class.recall;
            let shown = if r.total == 0 { "none".to_owned() } else { show(r.rate, r.low, r.high) };
            text.push_str(&format!("  {shown:<25}"));
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use cellforge::eval::{self, BootstrapOptions};

    use super::{super::Known, *};

    #[test]
    fn tables_of_patients_and_strata() {
        let classes = ["a,b", "c"].map(str::to_owned);
        let patients = ["P2", "P1", "P2", "P2"].map(str::to_owned);
        let (truth, predicted) = ([0, 0, 1, 1], [0, 1, 1, 0]);
        let found = eval::by_group(&truth, &predicted, &classes, &patients, 0.95).unwrap();
        let csv = patient_csv(&found, &classes);
        let lines: Vec<&str> = csv.lines().collect();
        let header =
            "patient,images,correct,accuracy,\"images_a,b\",\"correct_a,b\",\"recall_a,b\",images_c,correct_c,recall_c";
        // P1 has one image, a wrong one, and none of class c; of P2's three the last is wrong.
        assert_eq!(lines, [header, "P1,1,0,0.000000,1,0,0.000000,0,0,", "P2,3,2,0.666667,1,1,1.000000,2,1,0.500000"]);
        let said = spread(&found);
        assert_eq!(
            said,
            "accuracy of single patients (2): lowest 0.0000 (P1, 1 image), median 0.3333, highest 0.6667 (P2, 3 images)"
        );

        let probabilities: Vec<Vec<f32>> =
            predicted.iter().map(|&class| if class == 0 { vec![0.9, 0.1] } else { vec![0.1, 0.9] }).collect();
        let strata = ["X", "Y", "X", "X"].map(str::to_owned);
        let known = Known { truth: Some(truth.into()), patients: Some(patients.into()), strata: Some(strata.into()) };
        let options = BootstrapOptions { resamples: 20, ..BootstrapOptions::default() };
        let found = known.figures(&classes, &probabilities, &predicted, &options).unwrap();
        let (x, y) = (&found.strata["X"], &found.strata["Y"]);
        assert_eq!((x.total, x.correct, x.groups, y.total, y.correct, y.groups), (3, 2, Some(1), 1, 0, Some(1)));
        let table = self::strata(&found.strata, &classes);
        assert!(table.starts_with("stratum   images  patients  accuracy"), "{table}");
        assert!(table.contains("recall of a,b") && table.contains("\nX              3         1  0.6667 ("), "{table}");
        assert!(table.lines().last().unwrap().ends_with("none"), "{table}");
        let unknown = Known { truth: None, patients: None, strata: None };
        assert!(unknown.figures(&classes, &probabilities, &predicted, &options).unwrap().report.is_none());
    }
}
