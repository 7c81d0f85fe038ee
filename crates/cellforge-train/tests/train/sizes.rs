//! Runs on rectangles.

use crate::common::{assert_same, cnn, fresh, gan, gan_of_two, sealed};
use cellforge_classify::ClassifierConfig;
use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_data::{Fit, ImageSize, ImageWriter, OpenOptions, View, WriteOptions};
use cellforge_train::{
    Checkpoint, ClassifierState, Control, GanTrainConfig, RunDir, TrainedClassifier, TrainedGan, train_classifier,
    train_gan,
};

const SIZE: ImageSize = ImageSize::new(28, 40);

fn images() -> View {
    phantom::render(&PhantomConfig { size: SIZE, images_per_class: 8, patients: 4, seed: 3 }).unwrap()
}

#[test]
fn gans_of_rectangles_are_the_same_twice_and_load() {
    let folder = tempfile::tempdir().unwrap();
    let both = gan_of_two(3).for_images(SIZE, 3, 2);
    let one = GanTrainConfig { class: "Uninfected".into(), ..gan(3).for_images(SIZE, 3, 1) };
    for (name, config, images) in [("both", both, images()), ("one", one, images().class(1))] {
        let [first, second] = ["first", "second"].map(|run| folder.path().join(name).join(run));
        for out in [&first, &second] {
            train_gan(&config, &images, &fresh(out), &Control::default(), &mut []).unwrap();
        }
        assert_same(&first, &second);
        let loaded = TrainedGan::load(&first).unwrap();
        assert_eq!(loaded.image_size(), SIZE);
        let made = loaded.sample(4, "Uninfected", 0..3).unwrap();
        assert_eq!((made.len(), made.size(), made.image(0).len()), (3, SIZE, 28 * 40 * 3));
        assert_eq!(made, TrainedGan::load(&second).unwrap().sample(4, "Uninfected", 0..3).unwrap());
        let state = std::fs::read_to_string(first.join("last/state.json")).unwrap();
        assert!(state.contains("\"image_size\": \"40x28\"") && !state.contains("\"fit\""), "{state}");
    }
}

#[test]
fn a_classifier_remembers_how_its_images_were_fitted() {
    let folder = tempfile::tempdir().unwrap();
    // Twice as high as wide for their size: padded.
    let high = phantom::render(&PhantomConfig {
        size: ImageSize::new(80, 40),
        images_per_class: 6,
        patients: 4,
        ..PhantomConfig::default()
    });
    let mut writer = ImageWriter::create(&folder.path().join("images"), &WriteOptions::default()).unwrap();
    writer.write(&high.unwrap()).unwrap();
    writer.finish().unwrap();
    let read = View::open(folder.path().join("images"), &OpenOptions::new(SIZE, 3)).unwrap();
    assert_eq!(read.facts().fit, Fit::Pad);

    let out = folder.path().join("run");
    let config = cnn(1).for_images(SIZE, 3, 2);
    let outcome = train_classifier(&config, &read, &read.first(0), &fresh(&out), &Control::default(), &mut []).unwrap();
    let loaded = TrainedClassifier::load(&out).unwrap();
    assert_eq!((loaded.image_size(), loaded.state().fit), (SIZE, Fit::Pad));
    assert_eq!(loaded.predict(&read).unwrap().len(), 12);
    assert!(matches!(loaded.state().config.model, ClassifierConfig::Cnn(_)));
    let saved: ClassifierState = Checkpoint::find(&outcome.checkpoint).unwrap().state("classifier").unwrap();
    assert_eq!(saved.fit, Fit::Pad);
    // What earlier versions wrote says nothing of it.
    let file = outcome.checkpoint.join("state.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let old = text.replace("  \"fit\": \"pad\",\n", "");
    assert_ne!(old, text);
    std::fs::write(&file, sealed(&old)).unwrap();
    assert_eq!(TrainedClassifier::load(RunDir::new(&out).classifier()).unwrap().state().fit, Fit::Stretch);
}
