//! The utility study end to end, on tiny networks and phantom images: the "synthetic" images are images of other phantom patients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, atomic::AtomicBool};

use cellforge_assess::utility::{Utility, UtilityClassifier, UtilityConfig, UtilityData, UtilityPoint, utility};
use cellforge_assess::{Control, Error};
use cellforge_data::{View, ViewParts, phantom};
use cellforge_eval::BootstrapOptions;

/// Phantom images; those of another seed are of other patients.
fn phantom(seed: u64, images_per_class: usize) -> View {
    phantom::render(&phantom::PhantomConfig { size: 32.into(), images_per_class, patients: 12, seed }).unwrap()
}

struct Fixture {
    real: View,
    train: Vec<usize>,
    test: Vec<usize>,
    synthetic: View,
}

impl Fixture {
    fn new() -> Self {
        let real = phantom(1, 40);
        let patients: Vec<String> = real.group_names().into_iter().map(str::to_owned).collect();
        let of = |chosen: &[String]| -> Vec<usize> {
            (0..real.len()).filter(|&i| chosen.contains(&real.group(i).unwrap().to_owned())).collect()
        };
        let (train, test) = (of(&patients[..patients.len() / 2]), of(&patients[patients.len() / 2..]));
        // A generator knows no patients.
        let synthetic = without_patients(&phantom(2, 20));
        Self { real, train, test, synthetic }
    }

    fn data(&self) -> UtilityData {
        UtilityData {
            real: self.real.part(&self.train),
            test: self.real.part(&self.test),
            synthetic: self.synthetic.clone(),
        }
    }
}

fn without_patients(images: &View) -> View {
    View::new(ViewParts { groups: Vec::new(), ..images.to_parts() }).unwrap()
}

fn config() -> UtilityConfig {
    UtilityConfig {
        width: 0.25,
        updates: 4,
        batch: 6,
        seeds: 2,
        fractions: vec![0.1, 0.5, 1.0],
        ratios: vec![0, 1, 4],
        seed: 3,
        bootstrap: BootstrapOptions { resamples: 50, ..Default::default() },
        ..Default::default()
    }
}

fn run(config: &UtilityConfig, images: &Fixture, out: &Path) -> Utility {
    utility(config, &images.data(), out, &Control::default()).unwrap()
}

/// The files of the runs, without what is being written.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(out.join("runs")) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    paths.map(|path| (path.file_stem().unwrap().display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn json(found: &Utility) -> String {
    serde_json::to_string(found).unwrap()
}

#[test]
fn a_study_from_end_to_end() {
    let (folder, images, config) = (tempfile::tempdir().unwrap(), Fixture::new(), config());
    let found = run(&config, &images, folder.path());
    assert_eq!((found.test.images, found.synthetic.images), (images.test.len(), 40));
    assert_eq!((found.shared_patients, found.synthetic.patients), (Some(0), None));
    assert_eq!(found.train.per_class.values().sum::<usize>(), images.train.len());
    assert_eq!(found.training.optimizer.lr(), 0.001);

    // Points come by fraction and ratio; the real images of a fraction and seed are the same whatever is added to them.
    assert_eq!(found.augmentation.len(), 9);
    for points in found.augmentation.chunks(3) {
        for (point, ratio) in points.iter().zip([0, 1, 4]) {
            assert_eq!((point.ratio, point.per_seed.len(), point.fraction), (ratio, 2, points[0].fraction));
            for (seed, alone) in point.per_seed.iter().zip(&points[0].per_seed) {
                assert_eq!((seed.patients, seed.real_images), (alone.patients, alone.real_images));
                assert!(seed.synthetic_images == ratio * seed.real_images || point.short);
                assert!(seed.synthetic_images <= 40 && seed.patients.unwrap() >= 1);
            }
            // Where there are no more images than at the smaller ratio, it is the same training and no other comparison.
            let used =
                |point: &UtilityPoint| point.per_seed.iter().map(|seed| seed.synthetic_images).collect::<Vec<_>>();
            let new = ratio > 0 && (ratio == 1 || used(point) != used(&points[1]));
            assert_eq!((point.difference.is_some(), point.p_holm.is_some()), (ratio > 0, new));
            if let (Some(difference), Some(p)) = (point.difference, point.p_holm) {
                assert_eq!(difference.accuracy_with, point.accuracy);
                assert_eq!(difference.accuracy_without, points[0].accuracy);
                assert!(difference.by_group && difference.seeds == 2 && p >= difference.p && p <= 1.0);
            }
            let mean = point.per_seed.iter().map(|seed| seed.accuracy).sum::<f64>() / 2.0;
            assert!((point.accuracy.value - mean).abs() < 1e-12);
        }
    }
    let whole = &found.augmentation[6];
    assert_eq!(
        (whole.real_images, whole.patients),
        (images.train.len() as f64, found.train.patients.map(|n| n as f64))
    );
    assert!(found.augmentation[8].short && !found.augmentation[0].short);

    // All real images without synthetic ones are the ceiling, and are trained on once: 2 seeds of 9 points and TSTR. Both ratios above 0
    // find too few synthetic images for all real ones and come to the same.
    assert_eq!(whole.accuracy, found.trtr.accuracy);
    assert_eq!(whole.per_seed.iter().map(|seed| seed.accuracy).collect::<Vec<_>>(), found.trtr.per_seed);
    let same = |a: usize, b: usize| {
        let taken = |i: usize| found.augmentation[i].per_seed.iter().map(|s| s.synthetic_images).collect::<Vec<_>>();
        taken(a) == taken(b)
    };
    let twice = [(1, 2), (4, 5), (7, 8)].into_iter().filter(|&(a, b)| same(a, b)).count();
    assert!(twice >= 1);
    assert_eq!(files(folder.path()).len(), 20 - 2 * twice);
    assert_eq!(found.tstr_gap.accuracy_with, found.tstr.accuracy);
    assert_eq!(found.tstr_gap.accuracy_without, found.trtr.accuracy);
    assert_eq!(found.trts.confusion.total(), 2 * 40);
    assert_eq!(found.tstr.confusion.total(), 2 * images.test.len() as u64);
    let recalls: BTreeSet<&String> = found.tstr.recall.keys().collect();
    assert_eq!(recalls, found.classes.iter().collect());

    // Nothing in it is without a value, and it reads back as it was written.
    let text = json(&found);
    assert!(!text.contains("NaN"));
    assert_eq!(json(&serde_json::from_str(&text).unwrap()), text);
}

#[test]
fn a_study_that_was_stopped_finds_what_one_that_was_not_does() {
    let (folder, images, config) = (tempfile::tempdir().unwrap(), Fixture::new(), config());
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let expected = run(&config, &images, &whole);

    // Stopped before it began, then as soon as a few more runs have left their files: in the midst of a later one.
    let stop = Arc::new(AtomicBool::new(true));
    let control = Control { stop: stop.clone(), ..Control::default() };
    let error = utility(&config, &images.data(), &broken, &control).unwrap_err();
    assert!(matches!(&error, Error::Interrupted), "{error}");
    assert!(files(&broken).is_empty());
    let mut stops = 0;
    let found = loop {
        stop.store(false, Ordering::Relaxed);
        let seen = files(&broken).len();
        let result = std::thread::scope(|scope| {
            let run = scope.spawn(|| utility(&config, &images.data(), &broken, &control));
            while !run.is_finished() && files(&broken).len() < seen + 5 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap()
        });
        match result {
            Ok(found) => break found,
            Err(error) => assert!(matches!(error, Error::Interrupted), "{error}"),
        }
        stops += 1;
        assert!(stops < 20 && files(&broken).len() > seen);
    };
    assert!(stops > 0);
    assert_eq!(json(&found), json(&expected));
    assert_eq!(files(&broken), files(&whole));

    // A file that was cut short, and one of other settings, are made again; others are only read.
    let names: Vec<String> = files(&broken).into_keys().collect();
    let path = |name: &String| broken.join("runs").join(format!("{name}.json"));
    std::fs::write(path(&names[0]), b"{\"inputs\":\"").unwrap();
    let altered =
        String::from_utf8(files(&broken)[&names[1]].clone()).unwrap().replace("\"inputs\":\"", "\"inputs\":\"0");
    std::fs::write(path(&names[1]), altered).unwrap();
    let kept = std::fs::metadata(path(&names[2])).unwrap().modified().unwrap();
    stop.store(false, Ordering::Relaxed);
    assert_eq!(json(&utility(&config, &images.data(), &broken, &control).unwrap()), json(&expected));
    assert_eq!(files(&broken), files(&whole));
    assert_eq!(std::fs::metadata(path(&names[2])).unwrap().modified().unwrap(), kept);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (folder, images) = (tempfile::tempdir().unwrap(), Fixture::new());
    let config = UtilityConfig { fractions: vec![0.1], ratios: vec![0, 1], ..config() };
    let at = |threads: usize| {
        let out = folder.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        (json(&pool.install(|| run(&config, &images, &out))), files(&out))
    };
    assert_eq!(at(1), at(2));
}

#[test]
fn the_residual_network_and_images_without_patients() {
    let (folder, mut images) = (tempfile::tempdir().unwrap(), Fixture::new());
    images.real = without_patients(&images.real);
    let config = UtilityConfig {
        classifier: UtilityClassifier::Resnet,
        width: 0.125,
        updates: 2,
        seeds: 1,
        fractions: vec![0.1, 1.0],
        ratios: vec![0],
        ..config()
    };
    let found = run(&config, &images, folder.path());
    assert_eq!((found.train.patients, found.test.patients, found.shared_patients), (None, None, None));
    assert!(!found.tstr_gap.by_group && found.tstr_gap.units == images.test.len());
    let [part, whole] = &found.augmentation[..] else { panic!("two fractions") };
    // A tenth of the images of each class.
    let tenth = found.train.per_class.values().map(|&n| (n as f64 / 10.0).round()).sum::<f64>();
    assert_eq!((part.patients, part.real_images), (None, tenth));
    assert_eq!((whole.difference, whole.real_images), (None, images.train.len() as f64));
    assert_eq!((found.training.optimizer.lr(), found.training.l2), (0.1, true));
}

#[test]
fn classes_are_matched_by_name() {
    let (folder, images) = (tempfile::tempdir().unwrap(), Fixture::new());
    let config = UtilityConfig { fractions: vec![1.0], ratios: vec![0, 1], seeds: 1, ..config() };
    let expected = run(&config, &images, &folder.path().join("one"));
    let turned = |images: &View| {
        let mut parts = images.to_parts();
        parts.classes.reverse();
        parts.labels.iter_mut().for_each(|label| *label = 1 - *label);
        View::new(parts).unwrap()
    };
    let (test, synthetic) = (turned(&images.data().test), turned(&images.synthetic));
    let data = UtilityData { test, synthetic, ..images.data() };
    let out = folder.path().join("two");
    assert_eq!(json(&utility(&config, &data, &out, &Control::default()).unwrap()), json(&expected));
}

#[test]
fn images_that_do_not_fit_are_named() {
    let (folder, images) = (tempfile::tempdir().unwrap(), Fixture::new());
    let refused = |data: UtilityData| {
        let error = utility(&config(), &data, &folder.path().join("none"), &Control::default()).unwrap_err();
        // Nothing was trained, nothing was written.
        assert!(!folder.path().join("none").exists());
        error.to_string()
    };
    let synthetic = |view: &View| refused(UtilityData { synthetic: view.clone(), ..images.data() });
    let test = |indices: &[usize]| refused(UtilityData { test: images.real.part(indices), ..images.data() });

    let error = synthetic(&images.synthetic.part(&images.synthetic.class_indices(0)));
    assert!(error.contains("synthetic images") && error.contains("none of class \"Uninfected\""), "{error}");
    let mut renamed = images.synthetic.to_parts();
    renamed.classes[1] = "Healthy".to_owned();
    let error = synthetic(&View::new(renamed).unwrap());
    assert!(error.contains("\"Healthy\"") && error.contains("Uninfected"), "{error}");
    let small = phantom::PhantomConfig { size: 16.into(), images_per_class: 4, patients: 4, seed: 1 };
    let error = synthetic(&phantom::render(&small).unwrap());
    assert!(error.contains("16x16") && error.contains("32x32"), "{error}");
    assert!(synthetic(&images.synthetic.part(&[])).contains("synthetic images: there are none"));

    let grey = images.real.resized(32, 1).unwrap();
    let error = refused(UtilityData { test: grey, ..images.data() });
    assert!(error.contains("test images") && error.contains("in 1 channels"), "{error}");
    assert!(
        refused(UtilityData { real: images.real.part(&[]), ..images.data() })
            .contains("training images: there are none")
    );
    assert!(test(&[]).contains("test images: there are none"));
    assert!(test(&images.train).contains("training image too"));
    let one_class: Vec<usize> = images.test.iter().copied().filter(|&i| images.real.label(i) == 1).collect();
    assert!(test(&one_class).contains("none of class \"Parasitized\""));

    let bad = UtilityConfig { ratios: vec![1], ..config() };
    let error = utility(&bad, &images.data(), folder.path(), &Control::default()).unwrap_err();
    assert!(matches!(error, Error::Setting { setting: "evaluate.utility.ratios", .. }), "{error}");
}
