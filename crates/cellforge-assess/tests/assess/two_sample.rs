//! The two-sample test end to end, on tiny networks and phantom images: the "synthetic" images are images of other phantom patients.

use std::sync::atomic::Ordering;

use cellforge_assess::two_sample::{
    Difference, ToldApart, TwoSample, TwoSampleConfig, TwoSampleData, plant, two_sample, two_sample_by,
};
use cellforge_assess::{Control, Error, evaluation::Words};
use cellforge_data::{View, ViewParts, phantom};
use cellforge_eval::BootstrapOptions;

fn phantom(seed: u64, images_per_class: usize, patients: usize) -> View {
    phantom::render(&phantom::PhantomConfig { size: 32.into(), images_per_class, patients, seed }).unwrap()
}

/// A generator knows no patients.
fn without_patients(images: &View) -> View {
    View::new(ViewParts { groups: Vec::new(), ..images.to_parts() }).unwrap()
}

fn data(real: View, synthetic: &View) -> TwoSampleData {
    TwoSampleData {
        real,
        also: None,
        synthetic: without_patients(synthetic),
        judged_on: "the held-out images".to_owned(),
    }
}

fn config() -> TwoSampleConfig {
    TwoSampleConfig {
        seeds: 1,
        updates: 3,
        batch: 8,
        halvings: 99,
        planted: false,
        pictures: 1,
        width: 0.5,
        seed: 3,
        bootstrap: BootstrapOptions { resamples: 50, ..Default::default() },
        ..Default::default()
    }
}

fn run(config: &TwoSampleConfig, data: &TwoSampleData) -> TwoSample {
    let folder = tempfile::tempdir().unwrap();
    two_sample(config, data, folder.path(), &Control::default()).unwrap()
}

#[test]
fn a_checkerboard_is_told_by_statistics_and_other_patients_are_not() {
    let config = TwoSampleConfig { updates: 0, ..config() };
    let (real, other) = (phantom(1, 160, 40), phantom(2, 100, 12));
    let untouched = run(&config, &data(real.clone(), &other));
    assert_eq!(untouched.telling_statistics().count(), 0, "{:?}", untouched.statistics[0]);
    assert!(matches!(untouched.told_apart(), ToldApart::Unknown(reason) if reason.contains("no network")));
    let changed = plant(&other, Difference::Checkerboard(6), 1).unwrap();
    let found = run(&config, &data(real, &changed));
    assert_eq!(found.told_apart(), ToldApart::Yes);
    let names: Vec<&str> = found.telling_statistics().map(|one| one.name.as_str()).collect();
    assert!(names.iter().any(|name| name.starts_with("checkerboard")), "{names:?}");
    let words = found.in_words(&Words::default());
    assert!(words.starts_with("They can be told from real images.") && words.contains("Most telling"), "{words}");
}

#[test]
fn planted_differences_are_tried_from_weak_to_strong() {
    let found = run(
        &TwoSampleConfig { updates: 0, planted: true, ..config() },
        &data(phantom(1, 160, 40), &phantom(2, 100, 12)),
    );
    let boards: Vec<_> = found
        .planted
        .iter()
        .filter(|one| matches!(one.difference, Difference::Checkerboard(_)))
        .map(|one| (one.difference, one.found))
        .collect();
    // The statistics see a checkerboard of one level, so that no stronger one is tried.
    assert_eq!(boards, [(Difference::Checkerboard(1), true)]);
    assert!(found.weakest_found().count() >= 1);
}

#[test]
fn a_stopped_test_goes_on_to_the_same_result() {
    let data = data(phantom(1, 160, 40), &phantom(2, 60, 12));
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let whole = two_sample(&config, &data, folder.path(), &Control::default()).unwrap();
    let network = whole.network.as_ref().unwrap();
    assert_eq!((network.real.len(), network.synthetic.per_class.len()), (1, 2));
    assert!(folder.path().join("runs/two-sample-synthetic-0-fold-1.json").is_file());
    // Two of the four are lost, one of them torn: the others are not trained again.
    let runs = folder.path().join("runs");
    let kept = runs.join("two-sample-real-0-fold-0.json");
    let before = std::fs::metadata(&kept).unwrap().modified().unwrap();
    std::fs::remove_file(runs.join("two-sample-real-0-fold-1.json")).unwrap();
    std::fs::write(runs.join("two-sample-synthetic-0-fold-0.json"), "{\"inputs\"").unwrap();
    assert_eq!(two_sample(&config, &data, folder.path(), &Control::default()).unwrap(), whole);
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), before);
    // Other settings do not take the old scores.
    let other =
        two_sample(&TwoSampleConfig { updates: 4, ..config }, &data, folder.path(), &Control::default()).unwrap();
    assert_ne!(other.network, whole.network);

    let control = Control::default();
    control.stop.store(true, Ordering::SeqCst);
    let stopped = two_sample(&self::config(), &data, tempfile::tempdir().unwrap().path(), &control);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn too_few_images_or_patients_are_said() {
    let few = run(&config(), &data(phantom(1, 70, 20), &phantom(2, 8, 4)));
    assert!(matches!(few.told_apart(), ToldApart::Unknown(reason) if reason.contains("at least 30")));
    let patients = run(&config(), &data(phantom(1, 70, 4), &phantom(2, 70, 12)));
    assert!(matches!(patients.told_apart(), ToldApart::Unknown(reason) if reason.contains("effective patients")));
}

/// A learner that sees the set of each image tells all of them; one that sees nothing tells none. Both go through the halves, folds and rule.
#[test]
fn the_rule_takes_any_learner() {
    let data = data(phantom(1, 160, 40), &phantom(2, 100, 12));
    let mut oracle = |_: &View, test: &View| Ok(test.labels().into_iter().map(|label| label as f32).collect());
    let found = two_sample_by(&config(), &data, &mut oracle).unwrap().unwrap();
    assert_eq!((found.synthetic.auc.value, found.real_auc().value), (1.0, 1.0));
    assert!(!found.tells(), "what real halves show as well is no difference");
    let mut blind = |_: &View, test: &View| Ok(vec![0.0; test.len()]);
    let found = two_sample_by(&config(), &data, &mut blind).unwrap().unwrap();
    assert_eq!((found.synthetic.auc.value, found.synthetic.found.value), (0.5, 0.0));
}
