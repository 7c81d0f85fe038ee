//! Precision is what a run is told, on whatever thread it runs.

use crate::common::{cnn, fresh, gan, images, resumed, split};
use candle_core::Device;
use cellforge_nn::Precision;
use cellforge_train::{Control, Error, Slot, TrainedClassifier, TrainedGan, checkpoint, train_classifier, train_gan};
use std::path::Path;
use std::{fs, thread};

fn control(precision: Precision) -> Control {
    Control { precision, ..Control::default() }
}

/// The bytes of the networks that two short trainings leave in `out`.
fn trained(out: &Path, precision: Precision) -> Vec<Vec<u8>> {
    let (split, control) = (split(), control(precision));
    let (of_gan, of_cnn) = (fresh(&out.join("gan")), fresh(&out.join("cnn")));
    train_gan(&gan(3), &images().class(0), &of_gan, &control, &mut []).unwrap();
    train_classifier(&cnn(1), &split.train, &split.val, &of_cnn, &control, &mut []).unwrap();
    let files = [(&of_gan, checkpoint::WEIGHTS), (&of_gan, checkpoint::DISCRIMINATOR), (&of_cnn, checkpoint::WEIGHTS)];
    let read = |(dir, stem): (&cellforge_train::RunDir, &str)| {
        fs::read(dir.checkpoint(Slot::Last).unwrap().unwrap().file(stem)).unwrap()
    };
    files.map(read).into()
}

#[test]
fn trainings_on_other_threads_and_side_by_side_keep_their_precision() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lower = trained(&at("lower"), Precision::EmulatedBf16);
    let single = trained(&at("single"), Precision::F32);
    assert!(lower.iter().zip(&single).all(|(lower, single)| lower != single));
    let spawned = thread::scope(|scope| scope.spawn(|| trained(&at("spawned"), Precision::EmulatedBf16)).join());
    assert!(spawned.unwrap() == lower);
    let beside = thread::scope(|scope| {
        let lower = scope.spawn(|| trained(&at("beside lower"), Precision::EmulatedBf16));
        let single = scope.spawn(|| trained(&at("beside single"), Precision::F32));
        (lower.join().unwrap(), single.join().unwrap())
    });
    assert!(beside == (lower, single));
}

#[test]
fn a_network_keeps_the_precision_that_it_was_trained_in() {
    let folder = tempfile::tempdir().unwrap();
    for (name, precision) in [("single", Precision::F32), ("lower", Precision::EmulatedBf16)] {
        let out = folder.path().join(name);
        trained(&out, precision);
        for run in ["gan", "cnn"] {
            let state = fs::read_to_string(out.join(run).join("last/state.json")).unwrap();
            let said = state.contains("\"precision\": \"bf16-emulated\"");
            assert!(said != precision.is_f32() && said == state.contains("precision"), "{state}");
        }
    }
    let lower = folder.path().join("lower");
    let (gan_dir, cnn_dir) = (lower.join("gan"), lower.join("cnn"));
    let made = |gan: TrainedGan| gan.sample(1, &gan.classes()[0], 0..3).unwrap().part(&[0, 1, 2]).fingerprint();
    let own = made(TrainedGan::load(&gan_dir).unwrap());
    let of = |precision| made(TrainedGan::load_in(&gan_dir, &Device::Cpu, precision).unwrap());
    assert!(own == of(Precision::EmulatedBf16) && own != of(Precision::F32));
    let said = |classifier: TrainedClassifier| classifier.predict(&split().test).unwrap();
    let own = said(TrainedClassifier::load(&cnn_dir).unwrap());
    let of = |precision| said(TrainedClassifier::load_in(&cnn_dir, &Device::Cpu, precision).unwrap());
    assert!(own == of(Precision::EmulatedBf16) && own != of(Precision::F32));

    // A run goes on in no other, and its network's configuration must not say another.
    let other = train_gan(&gan(3), &images().class(0), &resumed(&gan_dir), &control(Precision::F32), &mut []);
    assert!(matches!(&other, Err(Error::Mismatch { field, .. }) if field == "model.precision"), "{other:?}");
    let mut config = gan(3);
    config.model.precision = Precision::EmulatedBf16;
    let other = train_gan(&config, &images().class(0), &fresh(&lower.join("new")), &Control::default(), &mut []);
    assert!(matches!(&other, Err(Error::Invalid { field: "model.precision", .. })), "{other:?}");
    // Where there is no support for one, the run is of f32, and says so.
    let out = folder.path().join("without");
    train_gan(&gan(3), &images().class(0), &fresh(&out), &control(Precision::Tf32), &mut []).unwrap();
    assert!(!fs::read_to_string(out.join("last/state.json")).unwrap().contains("precision"));
}
