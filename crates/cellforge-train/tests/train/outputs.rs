//! What trained networks give: images, probabilities, and the study's losses.

use crate::common::{cnn, fresh, gan, images, resumed, split};
use candle_core::{Device, Tensor};
use cellforge_train::{
    ClassifierTrainConfig, Control, Error, LogEvent, LossKind, OptimizerConfig, RunDir, SampleOptions,
    TrainedClassifier, TrainedGan, train_classifier, train_gan,
};

#[test]
fn generated_images_do_not_depend_on_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let images = images();
    let outcome = train_gan(&gan(2), &images.class(0), &fresh(folder.path()), &Control::default(), &mut []).unwrap();
    let device = Device::Cpu;
    let gan = TrainedGan::load(folder.path()).unwrap();
    assert_eq!(gan.classes(), ["Parasitized"]);
    let sample = |images| gan.sample(9, "Parasitized", images).unwrap();
    let (many, few) = (sample(0..40), sample(0..3));
    assert_eq!((many.len(), few.len(), few.size(), few.channels()), (40, 3, 32.into(), 3));
    assert_eq!(few, many.first(3));
    assert_ne!(few.image(0), few.image(1));
    assert_eq!(sample(30..40), many.part(&(30..40).collect::<Vec<_>>()), "a series can be made in parts");
    let truncated = |limit| {
        let options = SampleOptions { seed: 9, truncation: Some(limit), ..SampleOptions::default() };
        gan.sample_with(&options, "Parasitized", 0..3)
    };
    assert_ne!(truncated(0.5).unwrap(), few);
    assert!(matches!(truncated(0.0), Err(Error::Invalid { .. })));
    assert!(matches!(gan.sample(9, "Uninfected", 0..3), Err(Error::Invalid { field: "class", .. })));
    assert!(matches!(TrainedClassifier::load(&outcome.checkpoint), Err(Error::Unsuitable { .. })));

    // The checkpoint's weights are PyTorch's names.
    let weights = candle_core::safetensors::load(outcome.checkpoint.join("weights.safetensors"), &device).unwrap();
    assert!(weights.contains_key("fc.weight"));
}

#[test]
fn the_best_epoch_is_the_one_that_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let split = split();
    let outcome =
        train_classifier(&cnn(6), &split.train, &split.val, &fresh(folder.path()), &Control::default(), &mut [])
            .unwrap();
    let best = outcome.best.unwrap();
    let log = cellforge_train::read_log(&outcome.log).unwrap();
    let epochs: Vec<_> = log.iter().filter(|line| line.event == LogEvent::Epoch).collect();
    assert_eq!(epochs.len(), 6);
    let highest = epochs.iter().map(|line| line.values["val_accuracy"]).fold(0.0, f32::max);
    assert_eq!(best.value, highest);

    let classifier = TrainedClassifier::load(folder.path()).unwrap();
    assert_eq!(classifier.state().position.epoch, best.epoch);
    let score = classifier.evaluate(&split.val, LossKind::CrossEntropy).unwrap();
    assert_eq!(score.accuracy, best.value);
    let rows = classifier.predict(&split.test).unwrap();
    assert_eq!(rows.len(), split.test.len());
    assert!(rows.iter().all(|row| row.len() == 2 && (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
}

#[test]
fn patience_ends_a_run_that_no_longer_improves() {
    let folder = tempfile::tempdir().unwrap();
    // A learning rate at which nothing changes: the first epoch is the best, and two later ones are enough.
    let optimizer = OptimizerConfig::Sgd { lr: 1e-12, momentum: 0.0, nesterov: false };
    let config = ClassifierTrainConfig { patience: Some(2), optimizer, ..cnn(9) };
    let split = split();
    let train =
        |dir: &RunDir| train_classifier(&config, &split.train, &split.val, dir, &Control::default(), &mut []).unwrap();
    let outcome = train(&fresh(folder.path()));
    assert_eq!((outcome.epochs, outcome.interrupted), (3, false));
    assert_eq!(outcome.best.unwrap().epoch, 1);
    // It stays ended when it is resumed.
    let again = train(&resumed(folder.path()));
    assert_eq!((again.epochs, again.interrupted), (3, false));

    let none = split.val.part(&[]);
    let error = train_classifier(&config, &split.train, &none, &fresh(folder.path()), &Control::default(), &mut [])
        .unwrap_err()
        .to_string();
    assert!(error.contains("patience"), "{error}");
}

#[test]
fn losses_by_hand() {
    // Equal logits: both softmax outputs are 1/2, so either loss is ln 2.
    let logits = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    let targets = Tensor::new(&[0u32, 1, 1], &Device::Cpu).unwrap();
    for kind in [LossKind::CrossEntropy, LossKind::SoftmaxBce] {
        let loss: f32 = kind.of(&logits, &targets).unwrap().to_scalar().unwrap();
        assert!((loss - 2f32.ln()).abs() < 1e-6, "{loss}");
    }
}
