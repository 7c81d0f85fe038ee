//! Synthetic sets that are linked to training patients, and sets that are not.

use super::*;

/// A number in [-1, 1) that depends on its arguments alone.
fn noise(key: &str, at: usize) -> f64 {
    derive_seed(at as u64, key) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Colour images whose patients have a colour of their own, with noise in each image and pixel.
fn images(key: &str, patients: usize, each: usize) -> (View, Vec<String>) {
    let n = patients * each;
    let groups: Vec<String> = (0..n).map(|image| format!("{key}{:02}", image / each)).collect();
    let mut pixels = Vec::new();
    for (image, patient) in groups.iter().enumerate() {
        let name = format!("{key}/{image}");
        let colour = [0, 1, 2].map(|c| 128.0 + 70.0 * noise(patient, c) + 6.0 * noise(&name, c));
        // One number makes the noise of a row.
        for row in 0..SIDE {
            let bits = derive_seed(row as u64, &name);
            for at in 0..SIDE * 3 {
                let grain = f64::from(u8::from((bits >> (at % 53)) & 1 == 1)) * 20.0 - 10.0;
                pixels.push((colour[at % 3] + grain).round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    let parts = ViewParts {
        classes: vec!["a".to_owned()],
        names: (0..n).map(|i| format!("{key}/{i:03}")).collect(),
        labels: vec![0; n],
        groups: groups.iter().cloned().map(Some).collect(),
        size: SIDE.into(),
        channels: 3,
        pixels,
    };
    (View::new(parts).unwrap(), groups)
}

fn config() -> ReidentificationConfig {
    ReidentificationConfig { updates: 60, batch: 16, images: 4, width: 0.5, seed: 1 }
}

fn options() -> PrivacyOptions {
    PrivacyOptions { relabellings: 500, ..PrivacyOptions::default() }
}

fn run(config: &ReidentificationConfig, synthetic: &View) -> Linked {
    let ((real, a), (holdout, b)) = (images("t", 14, 5), images("h", 12, 5));
    let known = |images, patients| KnownImages { images, patients };
    reidentify(config, known(&real, &a), known(&holdout, &b), synthetic, &options(), &Control::default())
        .unwrap()
        .unwrap()
}

#[test]
fn copies_are_linked_to_training_patients_and_third_patients_are_not() {
    let leaking = run(&config(), &images("t", 14, 5).0);
    let found = &leaking.found;
    assert!(found.can_tell && found.real_pairs.value > 0.7, "{found:?}");
    let patient = leaking.membership.as_ref().unwrap().patient.as_ref().unwrap();
    assert!(patient.auc.value > 0.95 && patient.auc_chance.p < 0.01, "{patient:?}");
    assert_eq!((found.training_patients, found.holdout_patients, found.most_linked.len()), (14, 12, 5));
    let most = &found.most_linked[0];
    assert!(most.patient.starts_with('t') && most.real.starts_with("t/") && most.score > found.highest_holdout);
    // The same seed gives the same answer.
    assert_eq!(leaking, run(&config(), &images("t", 14, 5).0));

    let innocent = run(&config(), &images("third", 14, 5).0);
    let patient = innocent.membership.unwrap().patient.unwrap();
    assert!(patient.auc_chance.p > 0.0125, "{patient:?}");
    // The networks see no synthetic image: what they can tell is the same.
    assert_eq!(innocent.found.real_pairs, found.real_pairs);
}

#[test]
fn a_network_that_cannot_tell_patients_says_so() {
    // Every image has a patient of another name: nothing is alike within a patient.
    let shuffled = |key: &str| -> (View, Vec<String>) {
        let (view, _) = images(key, 60, 1);
        (view, (0..60).map(|image| format!("{key}{:02}", image % 12)).collect())
    };
    let ((real, a), (holdout, b)) = (shuffled("t"), shuffled("h"));
    let known = |images, patients| KnownImages { images, patients };
    let few = ReidentificationConfig { updates: 5, ..config() };
    let found = reidentify(&few, known(&real, &a), known(&holdout, &b), &real, &options(), &Control::default());
    let found = found.unwrap().unwrap();
    assert!(!found.found.can_tell && found.membership.is_none() && found.found.most_linked.is_empty(), "{found:?}");
}

#[test]
fn few_patients_are_refused_with_the_reason() {
    let ((real, a), (holdout, b)) = (images("t", 9, 3), images("h", 7, 3));
    let known = |images, patients| KnownImages { images, patients };
    let of = |config: &ReidentificationConfig| {
        reidentify(config, known(&real, &a), known(&holdout, &b), &real, &options(), &Control::default())
    };
    let reason = of(&config()).unwrap().unwrap_err();
    assert!(reason.contains("8 held-out patients") && reason.contains("there are 7"), "{reason}");
    let error = of(&ReidentificationConfig { images: 1, ..config() }).unwrap_err().to_string();
    assert!(error.contains("evaluate.reidentification.images"), "{error}");
    let (holdout, b) = images("h", 8, 3);
    let stopped = Control::default();
    stopped.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let found = reidentify(&config(), known(&real, &a), known(&holdout, &b), &real, &options(), &stopped);
    assert!(matches!(found, Err(Error::Interrupted)));
}

#[test]
fn rows_are_compared_by_angle() {
    // Less the mean (1, 1): (3, 4) and (-3, -4), of length 5.
    let taught = FeatureMatrix { values: vec![4.0, 5.0, -2.0, -3.0], dims: 2 };
    assert_eq!(unit_rows(&taught, &taught).values, [0.6, 0.8, -0.6, -0.8]);
    assert_eq!(standardised(&[1.0, 3.0]), [-1.0, 1.0]);
    assert_eq!(standardised(&[2.0, 2.0]), [0.0, 0.0]);
}
