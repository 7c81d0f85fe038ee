//! The verdict of the privacy tests on generators of which it is known whether they leak.

use crate::population::{DIMS, Population, features, input, judge, quick};
use cellforge_eval::{
    BootstrapOptions, Error, Features,
    privacy::{Discriminator, Finding, Labels, Privacy, PrivacyInput, PrivacyOptions, Space, privacy},
};

fn leaking(found: &Privacy) -> Vec<String> {
    found.findings().into_iter().filter(|finding| finding.leaks).map(|finding| finding.test).collect()
}

#[test]
fn every_test_finds_a_replay() {
    for seed in 0..3 {
        let mut population = Population::new(seed, 0.7);
        let (train, holdout) = (population.patients(60), population.patients(20));
        let mut input = input(&train, &holdout, &train.values);
        // A discriminator that knows its training images by heart, and is unsure of its own scale.
        let members: Vec<f64> = (0..train.len()).map(|i| 2.0 + (i % 7) as f64).collect();
        let others: Vec<f64> = (0..holdout.len()).map(|i| (i % 5) as f64).collect();
        input.discriminator = Some(Discriminator { train: &members, holdout: &others });
        let found = privacy(&input, &quick(seed)).unwrap();
        let findings = found.findings();
        let names: Vec<&str> = findings.iter().map(|finding| finding.test.as_str()).collect();
        assert_eq!(
            names,
            [
                "identical",
                "nearer_to_train",
                "closest_nearer_to_train",
                "copying",
                "authenticity",
                "gan_leaks_image_auc",
                "gan_leaks_image_tpr",
                "gan_leaks_patient_auc",
                "gan_leaks_calibrated_image_auc",
                "gan_leaks_calibrated_image_tpr",
                "gan_leaks_calibrated_patient_auc",
                "logan_image_auc",
                "logan_image_tpr",
                "logan_patient_auc",
            ]
        );
        for finding in findings {
            assert!(finding.leaks && finding.in_words.contains("That is a leak"), "{finding:?}");
        }
        let space = &found.spaces["features"];
        assert_eq!((space.nearer_to_train.rate, space.authenticity.synthetic.value), (1.0, 0.0));
        assert_eq!((space.dcr.synthetic.median.value, space.closest.len(), space.closest[0].distance), (0.0, 10, 0.0));
        assert!(space.dcr.holdout.as_ref().unwrap().median.low > 1.0);
    }
}

#[test]
fn innocents_are_accused_by_no_test() {
    // All tests together accuse at most 2.5% of the innocent: of 20 studies half a one is to be expected, and three or more have a
    // chance of 1.3%. The binomial interval, which takes images for independent, accuses a fifth of them (`examples/privacy_simulation.rs`).
    let (mut accused, mut binomial) = (0, 0);
    for seed in 0..20 {
        let mut population = Population::new(500 + seed, 0.7);
        let (train, holdout, third) = (population.patients(60), population.patients(20), population.patients(20));
        let found = judge(&train, &holdout, &third.values, seed);
        accused += usize::from(found.leaks());
        binomial += usize::from(found.spaces["features"].nearer_to_train.binomial.low > 0.5);
    }
    assert!(accused <= 2, "{accused} of 20");
    assert!(binomial > accused, "{binomial} of 20 by the binomial interval");
}

#[test]
fn good_generators_pass() {
    for seed in 0..5 {
        let mut population = Population::new(900 + seed, 0.7);
        let (train, holdout) = (population.patients(60), population.patients(20));
        let found = judge(&train, &holdout, &population.new_images(400), seed);
        assert_eq!(leaking(&found), [""; 0]);
        assert!(found.findings().iter().all(|finding| finding.conclusive && finding.in_words.contains("no leak")));
    }
}

#[test]
fn bad_generators_are_bad_and_do_not_leak() {
    for seed in 0..5 {
        let mut population = Population::new(700 + seed, 0.7);
        let (train, holdout) = (population.patients(60), population.patients(20));
        let (far, collapsed, blurred) =
            (population.around(15.0, 2.0, 300), population.around(0.3, 0.01, 300), population.around(0.0, 0.4, 300));
        assert_eq!(leaking(&judge(&train, &holdout, &far, seed)), [""; 0]);
        assert_eq!(leaking(&judge(&train, &holdout, &collapsed, seed)), [""; 0]);
        // Blurred images lie in the middle, nearer to training than other patients' images are. By its ideal, 0, that is copying.
        let found = judge(&train, &holdout, &blurred, seed);
        assert!(found.spaces["features"].copying.interval.unwrap().high < 0.0);
        assert_eq!(leaking(&found), [""; 0]);
    }
}

#[test]
fn some_copies_among_new_images_are_found() {
    for seed in 0..5 {
        let mut population = Population::new(300 + seed, 0.7);
        let (train, holdout) = (population.patients(60), population.patients(20));
        let synthetic = population.copies(&train, 500, 0.2, 0.2);
        let found = judge(&train, &holdout, &synthetic, seed);
        assert!(leaking(&found).contains(&"gan_leaks_calibrated_image_tpr".to_owned()), "{:?}", leaking(&found));
    }
}

#[test]
fn few_copies_among_many_new_images_are_found() {
    // 30 of 1000 images, off by a fifth of the spread of a patient's images: they do not show in the share over all images. (Of 20, 20 are
    // nearest to training as well, but by Holm's method p is 0.030 over all tests.)
    let mut population = Population::new(123, 0.7);
    let (train, holdout) = (population.patients(60), population.patients(40));
    let synthetic = [population.new_images(970), population.copies(&train, 30, 1.0, 0.2)].concat();
    let found = judge(&train, &holdout, &synthetic, 0);
    let space = &found.spaces["features"];
    assert_eq!((space.identical, space.closest_nearer_to_train.cuts[2].images), (0, 20));
    assert!(leaking(&found).contains(&"closest_nearer_to_train".to_owned()), "{:#?}", found.findings());
    assert!(!leaking(&found).contains(&"nearer_to_train".to_owned()));
    // A single exact copy is one too many.
    let one = [population.new_images(99), train.row(7).to_vec()].concat();
    let found = judge(&train, &holdout, &one, 0);
    assert_eq!(leaking(&found), ["identical"]);
}

#[test]
fn controls_behave() {
    let mut population = Population::new(77, 0.7);
    let (train, holdout) = (population.patients(60), population.patients(24));
    let synthetic = population.new_images(200);
    let mut input = input(&train, &holdout, &synthetic);
    let scores = [vec![0.0; train.len()], vec![0.0; holdout.len()]];
    input.discriminator = Some(Discriminator { train: &scores[0], holdout: &scores[1] });
    let found = privacy(&input, &PrivacyOptions { controls: true, ..quick(0) }).unwrap();
    let controls = found.controls.as_ref().unwrap();
    assert_eq!(controls.replay.len(), found.findings().len());
    assert!(controls.replay.iter().all(|finding| finding.leaks), "{:#?}", controls.replay);
    let innocent = controls.innocent.as_ref().unwrap();
    assert!(innocent.len() == controls.replay.len() && innocent.iter().all(|finding| !finding.leaks));
    assert!(controls.behave());

    // With as many synthetic images as there are training images, the control is what the tests say of all of these from outside.
    let many = population.new_images(train.len());
    let found = privacy(&self::input(&train, &holdout, &many), &PrivacyOptions { controls: true, ..quick(0) }).unwrap();
    let controls = found.controls.as_ref().unwrap();
    let replayed = judge(&train, &holdout, &train.values, 0);
    let figures = |findings: &[Finding]| findings[..11].iter().map(|finding| finding.value).collect::<Vec<f64>>();
    let outside = replayed.findings();
    let (a, b) = (figures(&outside), figures(&controls.replay));
    // But for the regions of the copying test, which do not depend on synthetic images, all is the same.
    assert_eq!(a, b);
}

/// Everything in one line: a turned replay, seen only when images are turned.
#[test]
fn a_replay_is_found_in_other_orientations() {
    let mut population = Population::new(5, 0.7);
    let (train, holdout) = (population.patients(40), population.patients(20));
    // Turning is changing the sign and moving far off, so that images as they are have nothing in common.
    let turned: Vec<f32> = train.values.iter().map(|value| 50.0 - value).collect();
    let holdout_turned: Vec<f32> = holdout.values.iter().map(|value| 50.0 - value).collect();
    let mut input = input(&train, &holdout, &turned);
    input.spaces[0].synthetic.push(features(&train.values));
    let found = privacy(&input, &quick(0)).unwrap();
    let space = &found.spaces["features"];
    assert!(leaking(&found).contains(&"nearer_to_train".to_owned()));
    assert!(leaking(&found).contains(&"gan_leaks_image_auc".to_owned()));
    assert_eq!((space.closest[0].orientation, space.closest[0].distance, space.nearer_to_train.rate), (1, 0.0, 1.0));
    assert_eq!(space.closest[0].synthetic, space.closest[0].train);
    let dcr_turned = space.dcr_turned.as_ref().unwrap();
    assert!(dcr_turned.synthetic.median.value == 0.0 && space.dcr.synthetic.median.value > 50.0);
    assert_eq!(dcr_turned.holdout, None);
    input.spaces[0].holdout.push(features(&holdout_turned));
    let found = privacy(&input, &quick(0)).unwrap();
    assert!(found.spaces["features"].dcr_turned.as_ref().unwrap().holdout.is_some());
}

#[test]
fn figures_do_not_depend_on_threads_and_survive_json() {
    let mut population = Population::new(11, 0.7);
    let (train, holdout) = (population.patients(20), population.patients(10));
    let synthetic = population.new_images(100);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            privacy(&input(&train, &holdout, &synthetic), &PrivacyOptions { controls: true, ..quick(4) }).unwrap()
        })
    };
    let found = run(1);
    assert_eq!(found, run(3));
    let json = serde_json::to_string(&found).unwrap();
    // JSON has no NaN and no infinity: serde_json would write null, which no number is read from.
    assert_eq!(serde_json::from_str::<Privacy>(&json).unwrap(), found);
    assert_ne!(found.findings(), judge(&train, &holdout, &synthetic, 5).findings(), "another seed");
}

#[test]
fn small_and_odd_sets_give_finite_figures() {
    let mut population = Population::new(21, 0.7);
    let many = population.patients(12);
    let (few, one) = (population.patients(3), population.patients(1));
    let synthetic = population.new_images(3);
    let check = |input: &PrivacyInput| {
        let found = privacy(input, &PrivacyOptions { controls: true, ..quick(0) }).unwrap();
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Privacy>(&json).unwrap(), found);
        found
    };
    // One held-out patient: 13 labellings at most, too few for any verdict, and intervals that say so.
    let found = check(&input(&many, &one, &many.values));
    assert!(found.smallest_p >= 1.0 / 13.0);
    let findings = found.findings();
    assert!(findings[1..].iter().all(|finding| !finding.conclusive && finding.in_words.contains("too few patients")));
    // Identical images speak for themselves.
    assert!(findings[0].leaks && findings[0].value == many.len() as f64 && findings[1..].iter().all(|f| !f.leaks));
    let auc = found.spaces["features"].gan_leaks.image.auc;
    assert_eq!((auc.low, auc.high, found.spaces["features"].copying.interval), (0.0, 1.0, None));
    assert_eq!(found.controls.unwrap().innocent, None);
    // One training patient, and one on each side.
    check(&input(&one, &many, &synthetic));
    let found = check(&input(&one, &few, &synthetic[..DIMS]));
    assert_eq!(found.train_units, 1);
    // All images equal, the same in all three sets: nobody is nearer to anybody.
    let mut equal = population.patients(6);
    equal.values.fill(2.5);
    let mut other = population.patients(5);
    other.values.fill(2.5);
    let found = check(&input(&equal, &other, &equal.values));
    let space = &found.spaces["features"];
    assert_eq!((space.nearer_to_train.rate, space.copying.c_t, space.gan_leaks.image.auc.value), (0.5, 0.0, 0.5));
    assert!(!found.leaks());
    // Synthetic images that are exactly the held-out ones do not leak training.
    let holdout = population.patients(12);
    let found = check(&input(&many, &holdout, &holdout.values));
    assert!(!found.leaks() && found.spaces["features"].nearer_to_train.rate == 0.0);
}

#[test]
fn without_patients_images_are_exchanged() {
    let mut population = Population::new(31, 0.0);
    let (train, holdout) = (population.patients(20), population.patients(20));
    let synthetic = population.copies(&train, 200, 1.0, 0.0);
    let mut input = input(&train, &holdout, &synthetic);
    input.holdout_groups = None;
    let found = privacy(&input, &quick(0)).unwrap();
    assert!(!found.by_patient && found.leaks());
    assert_eq!((found.train_units, found.holdout_units), (train.len(), holdout.len()));
    let space = &found.spaces["features"];
    assert_eq!((space.nearer_to_train.by_patient, &space.gan_leaks.patient), (None, &None));
    let clean = population.new_images(200);
    input.spaces[0].synthetic = vec![features(&clean)];
    assert_eq!(leaking(&privacy(&input, &quick(0)).unwrap()), [""; 0]);
}

#[test]
fn a_class_that_one_side_lacks_takes_no_part() {
    let mut population = Population::new(41, 0.7);
    let (train, mut holdout) = (population.patients(40), population.patients(20));
    holdout.labels.fill(0);
    let synthetic = population.new_images(100);
    let found = privacy(&input(&train, &holdout, &synthetic), &quick(0)).unwrap();
    let share = &found.spaces["features"].nearer_to_train;
    assert!(share.train_groups.unwrap() < 40 && share.holdout_groups == Some(20));
    assert!((0.0..=1.0).contains(&share.rate));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let mut population = Population::new(51, 0.7);
    let (train, holdout) = (population.patients(4), population.patients(4));
    let synthetic = population.new_images(10);
    let good = || input(&train, &holdout, &synthetic);
    let refused = |input: &PrivacyInput| privacy(input, &quick(0)).unwrap_err();

    let mut none = good();
    none.spaces.clear();
    assert_eq!(refused(&none), Error::Empty { what: "the list of spaces" });
    let mut twice = good();
    twice.spaces.push(twice.spaces[0].clone());
    assert_eq!(refused(&twice), Error::SpaceTwice { name: "features".to_owned() });
    let mut unmatched = good();
    unmatched.spaces[0].holdout.clear();
    assert!(refused(&unmatched).to_string().contains("1 orientations and held-out images in 0"));
    let mut fewer = good();
    fewer.labels = Labels { train: &train.labels[1..], holdout: &holdout.labels };
    assert!(refused(&fewer).to_string().starts_with("the set of training images has"));
    let mut dims = good();
    dims.spaces[0].synthetic = vec![Features::new(&synthetic, 1).unwrap()];
    assert_eq!(refused(&dims), Error::DimsDiffer { left: DIMS, right: 1 });
    let mut both = good();
    let same: Vec<String> = vec!["P1".to_owned(); holdout.len()];
    both.holdout_groups = Some(&same);
    assert_eq!(refused(&both), Error::BothSides { group: "P1".to_owned() });
    let mut scores = good();
    scores.discriminator = Some(Discriminator { train: &[0.0], holdout: &[0.0] });
    assert!(matches!(refused(&scores), Error::SetSize { found: 1, .. }));
    let nan = [vec![f64::NAN; train.len()], vec![0.0; holdout.len()]];
    scores.discriminator = Some(Discriminator { train: &nan[0], holdout: &nan[1] });
    assert!(matches!(refused(&scores), Error::NotFinite { index: 0, .. }));

    let single = Labels { train: &[0], holdout: &[0] };
    let space = Space {
        name: "one".to_owned(),
        train: Features::new(&[1.0], 1).unwrap(),
        holdout: vec![Features::new(&[1.0], 1).unwrap()],
        synthetic: vec![Features::new(&[1.0], 1).unwrap()],
    };
    let one = PrivacyInput {
        spaces: vec![space],
        labels: single,
        train_groups: None,
        holdout_groups: None,
        discriminator: None,
    };
    assert!(matches!(refused(&one), Error::Neighbours { needed: 2, .. }));

    let with = |options| privacy(&good(), &options).unwrap_err();
    assert_eq!(with(PrivacyOptions { relabellings: 19, ..quick(0) }), Error::Relabellings(19));
    assert_eq!(with(PrivacyOptions { fpr: 1.0, ..quick(0) }), Error::Fpr(1.0));
    let bootstrap = BootstrapOptions { resamples: 3, ..BootstrapOptions::default() };
    assert_eq!(with(PrivacyOptions { bootstrap, ..quick(0) }), Error::Resamples(3));
}
