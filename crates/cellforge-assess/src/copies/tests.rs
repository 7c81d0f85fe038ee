//! The search on rendered images: what leaks is found, what does not is left alone.

use cellforge_data::{
    ImageSize, View, ViewParts,
    phantom::{self, PhantomConfig},
};
use cellforge_train::Orientation;

use super::*;

/// Real images of so many patients, and others.
fn sets() -> (View, Vec<String>, View) {
    let config = PhantomConfig { size: 32.into(), images_per_class: 160, patients: 24, ..PhantomConfig::default() };
    let all = phantom::render(&config).unwrap();
    let patients = all.groups().unwrap();
    let names: std::collections::BTreeSet<&String> = patients.iter().collect();
    let third: Vec<&String> = names.into_iter().take(8).collect();
    let (new, known): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|&i| third.contains(&&patients[i]));
    let real = all.part(&known);
    (real.clone(), real.groups().unwrap(), all.part(&new))
}

fn set_of(like: &View, pixels: Vec<u8>) -> View {
    View::new(ViewParts { size: like.size(), channels: like.channels(), pixels, ..ViewParts::default() }).unwrap()
}

fn run(training: &View, patients: &[String], synthetic: &View, config: &CopyConfig) -> CopiesPart {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::default();
    let search = Search { config, alpha: 0.025, seed: 1, spaces: Ok(&[]), folder: folder.path(), control: &control };
    search.run(Known { view: training, patients: Some(patients) }, None, synthetic).unwrap()
}

/// Rectangles: copies are found whichever of the four ways they lie.
#[test]
fn turned_copies_of_rectangles_are_found() {
    let size = ImageSize::new(28, 40);
    let config = PhantomConfig { size, images_per_class: 40, patients: 10, ..PhantomConfig::default() };
    let training = phantom::render(&config).unwrap();
    let keys = exact::Keys::new(&training);
    let units: Vec<usize> = (0..training.len()).collect();
    let searcher = Searcher::new(&training, None, &units).unwrap();
    for (i, turn) in Orientation::of(size).iter().enumerate() {
        let pixels = turn.apply(training.image(i), size, 3);
        let copy = View::new(ViewParts { size, channels: 3, pixels, ..ViewParts::default() }).unwrap();
        assert_eq!(exact::Keys::new(&copy).found_in(&keys), [Some(i)]);
        let near = searcher.search(&copy, None, "test", &Control::default()).unwrap();
        assert_eq!(near[0].training, i, "{turn:?}");
        assert!(near[0].ratio() < 0.5, "{turn:?}: {:?}", near[0]);
    }
}

#[test]
fn near_copies_of_one_patient_are_found_and_new_patients_are_not() {
    let (training, patients, new) = sets();
    let one: Vec<usize> = (0..training.len()).filter(|&i| patients[i] == patients[0]).take(6).collect();
    let units: Vec<usize> = (0..training.len()).collect();
    // Noise of a grey level, and turned by any angle.
    let mut pixels =
        plant(&training.part(&one), &units[..one.len()], Kind::Plain, one.len(), 1).unwrap().images.pixels();
    pixels
        .extend(plant(&training.part(&one), &units[..one.len()], Kind::Turned, one.len(), 2).unwrap().images.pixels());
    pixels.extend(new.first(60).pixels());
    let config = CopyConfig { planted: 24, ..CopyConfig::default() };
    let found = run(&training, &patients, &set_of(&training, pixels), &config);
    let plain: Vec<&Copied> = found.found.iter().filter(|copy| copy.index < one.len()).collect();
    assert_eq!(plain.len(), one.len(), "{:?}", found.found);
    assert!(
        plain.iter().all(|copy| copy.training_index == one[copy.index] && copy.patient.as_ref() == Some(&patients[0]))
    );
    let wrong = found.found.iter().filter(|copy| copy.index >= 2 * one.len()).count();
    assert_eq!(wrong, 0, "{:?}", found.found);
    assert_eq!(found.others(72).len(), 72 - found.found.len());
    let near = found.near.as_ref().unwrap();
    assert_eq!((near.by_patient, near.power.len()), (true, Kind::ALL.len()));
    assert!(near.power[0].found.rate > 0.9, "{:?}", near.power[0]);
    let words = found.in_words(&Words::default(), 72).unwrap();
    assert!(
        words.contains("all of one patient") && near.in_words(&Words::default()).unwrap().contains("plain"),
        "{words}"
    );
}

#[test]
fn identical_images_are_found_turned_and_without_patients() {
    let (training, _, new) = sets();
    let (size, channels) = (training.size(), training.channels());
    let turned = Orientation::Transverse.apply(training.image(9), size, channels);
    let pixels = [
        training.image(3).to_vec(),
        turned,
        new.image(0).to_vec(),
        new.image(0).to_vec(),
        vec![7; size.area() * channels],
    ];
    let synthetic = set_of(&training, pixels.concat());
    let config = CopyConfig { near: false, ..CopyConfig::default() };
    let folder = tempfile::tempdir().unwrap();
    let control = Control::default();
    let search =
        Search { config: &config, alpha: 0.025, seed: 1, spaces: Ok(&[]), folder: folder.path(), control: &control };
    let found = search.run(Known { view: &training, patients: None }, None, &synthetic).unwrap();
    let same = &found.identical;
    assert_eq!((same.of_training.images, same.of_training.unturned, same.among_synthetic.images), (2, 1, 1));
    assert_eq!(found.found.iter().map(|copy| (copy.index, copy.training_index)).collect::<Vec<_>>(), [(0, 3), (1, 9)]);
    assert!(found.found.iter().all(|copy| copy.identical && copy.patient.is_none()));
    assert_eq!(found.not_searched.as_deref(), Some("it was not asked for"));
}

#[test]
fn a_held_out_image_among_the_synthetic_ones_is_refused_by_name() {
    let (training, _, new) = sets();
    let error =
        AllKeys::new(&training, Some(&new), &set_of(&training, new.image(5).to_vec())).err().unwrap().to_string();
    assert!(error.contains(new.name(5)) && error.contains("000001"), "{error}");
    assert!(AllKeys::new(&training, Some(&new), &training).is_ok());
}

#[test]
fn too_few_patients_are_told() {
    let (training, patients, new) = sets();
    let few: Vec<usize> = (0..training.len()).filter(|&i| patients[i] == patients[0]).collect();
    let part = training.part(&few);
    let found = run(&part, &part.groups().unwrap(), &new.first(3), &CopyConfig::default());
    assert!(found.near.is_none() && found.not_searched.unwrap().contains("too few"));
}

/// Features that know a cut-out again, which pixels do not: the number of the training image that it was made of.
#[test]
fn copies_are_found_by_features_too() {
    let (training, patients, new) = sets();
    let row = |i: f32| [i, 0.0];
    let unlike = |i: usize| [(7 * i % 97) as f32 * 10.0 + 0.37 * (i % 11) as f32, 500.0];
    let real: Vec<f32> = (0..training.len()).flat_map(|i| row(100.0 * i as f32)).collect();
    // The first of the new images lies on training image 5, the others far from all.
    let made = (0..new.len()).flat_map(|i| if i == 0 { row(500.5) } else { unlike(i) }).collect();
    let matrix = |values| FeatureMatrix { values, dims: 2 };
    let space = Space {
        name: "numbers".to_owned(),
        id: "numbers".to_owned(),
        real: matrix(real),
        synthetic: matrix(made),
        make: Box::new(|_| Ok(None)),
    };
    let folder = tempfile::tempdir().unwrap();
    let control = Control::default();
    let config = CopyConfig { planted: 0, ..CopyConfig::default() };
    let spaces = [space];
    let search = Search {
        config: &config,
        alpha: 0.025,
        seed: 1,
        spaces: Ok(&spaces),
        folder: folder.path(),
        control: &control,
    };
    let known = Known { view: &training, patients: Some(&patients) };
    let found = search.run(known, None, &set_of(&training, new.pixels())).unwrap();
    let [copy] = &found.found[..] else { panic!("{:?}", found.found) };
    assert_eq!((copy.index, copy.training_index, copy.space.as_str()), (0, 5, "numbers"));
    assert!((copy.distance - 0.5).abs() < 1e-6 && copy.ratio < 0.01, "{copy:?}");
    let names: Vec<String> = found.near.unwrap().spaces.into_iter().map(|space| space.name).collect();
    assert_eq!(names, ["pixels", "numbers"]);
    let alone = Search { spaces: Err("there are none".to_owned()), ..search };
    let found = alone.run(known, None, &set_of(&training, new.pixels())).unwrap();
    assert!(found.found.is_empty() && found.near.unwrap().pixels_alone.as_deref() == Some("there are none"));
}
