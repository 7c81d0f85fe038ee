//! What trained networks give: images, probabilities, and the study's losses.

use crate::common::{cnn, fresh, gan, images, resumed, split};
use candle_core::{Device, Tensor};
use cellforge_train::{
    ClassifierTrainConfig, Control, Error, GenerateOptions, LogEvent, LossKind, OptimizerConfig, RunDir, evaluate,
    generate, load_classifier, load_generator, predict, train_classifier, train_gan,
};

#[test]
fn generated_images_do_not_depend_on_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let images = images();
    let outcome = train_gan(&gan(2), &images.class(0), &fresh(folder.path()), &Control::default(), &mut []).unwrap();
    let device = Device::Cpu;
    let (generator, state) = load_generator(folder.path(), &device).unwrap();
    assert_eq!(state.classes, ["Parasitized"]);
    let options = |count, truncation| GenerateOptions {
        seed: 9,
        class: "Parasitized".into(),
        label: None,
        latent: 8,
        first: 0,
        count,
        truncation,
    };
    let many = generate(&generator, &options(40, None), &device).unwrap();
    let few = generate(&generator, &options(3, None), &device).unwrap();
    assert_eq!((many.len(), few.len(), few.side(), few.channels()), (40, 3, 32, 3));
    assert_eq!(few, many.first(3));
    assert_ne!(few.image(0), few.image(1));
    let late = generate(&generator, &GenerateOptions { first: 30, ..options(10, None) }, &device).unwrap();
    assert_eq!(late, many.part(&(30..40).collect::<Vec<_>>()), "a series can be made in parts");
    let other = GenerateOptions { class: "Uninfected".into(), ..options(3, None) };
    assert_ne!(generate(&generator, &other, &device).unwrap().pixels(), few.pixels());
    assert_ne!(generate(&generator, &options(3, Some(0.5)), &device).unwrap(), few);
    assert!(matches!(generate(&generator, &options(3, Some(0.0)), &device), Err(Error::Invalid { .. })));
    assert!(matches!(load_classifier(&outcome.checkpoint, &device), Err(Error::Unsuitable { .. })));

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

    let device = Device::Cpu;
    let (classifier, state) = load_classifier(folder.path(), &device).unwrap();
    assert_eq!(state.position.epoch, best.epoch);
    let score = evaluate(&classifier, &split.val, LossKind::CrossEntropy, &device).unwrap();
    assert_eq!(score.accuracy, best.value);
    let rows = predict(&classifier, &split.test, &device).unwrap();
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
