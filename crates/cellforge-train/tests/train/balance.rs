//! Uneven classes, temperatures, and classifiers that start from trained ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{assert_same, cnn, fresh, images, resumed, split};
use candle_core::{Device, Tensor, Var};
use cellforge_classify::{Classifier, ClassifierConfig, TorchvisionConfig};
use cellforge_data::View;
use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_nn::{Key, ParamStore, gradients};
use cellforge_train::{
    Balance, ClassifierStep, ClassifierTrainConfig, Control, Error, Event, LossKind, Observer, Phase, Result, RunDir,
    TrainedClassifier, figures, train_classifier,
};

fn train(config: &ClassifierTrainConfig, parts: [&View; 2], dir: &RunDir) -> Result<()> {
    train_classifier(config, parts[0], parts[1], dir, &Control::default(), &mut []).map(|_| ())
}

#[test]
fn weighted_losses_by_hand() {
    let rows = [[0.3f32, -1.2, 0.5], [2.0, 0.1, -0.4], [-0.7, 0.9, 0.2], [1.1, 1.3, -2.0]];
    let (targets, weights) = ([2u32, 0, 0, 1], [0.5f32, 2.0, 3.0]);
    let labels = Tensor::new(&targets, &Device::Cpu).unwrap();
    let logits = Var::new(&rows, &Device::Cpu).unwrap();
    for kind in [LossKind::CrossEntropy, LossKind::SoftmaxBce] {
        // The mean over the images of the loss of each alone times the weight of its class.
        let alone = |row: &[f32; 3], target: u32| -> f32 {
            let row = Tensor::new(&[*row], &Device::Cpu).unwrap();
            kind.of(&row, &Tensor::new(&[target], &Device::Cpu).unwrap()).unwrap().to_scalar().unwrap()
        };
        let by_hand = |rows: &[[f32; 3]]| -> f32 {
            let each = rows.iter().zip(targets).map(|(row, target)| weights[target as usize] * alone(row, target));
            each.sum::<f32>() / rows.len() as f32
        };
        let (loss, grads) = gradients(|| kind.weighted(&logits, &labels, &weights)).unwrap();
        let found: f32 = loss.to_scalar().unwrap();
        assert!((found - by_hand(&rows)).abs() < 1e-5, "{kind:?}: {found}");
        let grad = grads.get(&logits).unwrap().to_vec2::<f32>().unwrap();
        for (i, j) in (0..4).flat_map(|i| (0..3).map(move |j| (i, j))) {
            let moved = |by: f32| {
                let mut rows = rows;
                rows[i][j] += by;
                by_hand(&rows)
            };
            let slope = (moved(0.01) - moved(-0.01)) / 0.02;
            assert!((grad[i][j] - slope).abs() < 1e-3, "{kind:?} {i} {j}: {} and {slope}", grad[i][j]);
        }
        // Weights of 1 are none.
        let plain: f32 = kind.of(&logits, &labels).unwrap().to_scalar().unwrap();
        let ones: f32 = kind.weighted(&logits, &labels, &[1.0; 3]).unwrap().to_scalar().unwrap();
        assert!((plain - ones).abs() < 1e-5);
    }
}

/// Stops a run at one update.
struct StopAt(u64, Arc<AtomicBool>);

impl Observer<ClassifierStep> for StopAt {
    fn phase(&self) -> Phase {
        Phase::Show
    }

    fn on_step(&mut self, _: &mut ClassifierStep, event: &mut Event<'_>) -> Result<()> {
        self.1.fetch_or(event.position.iteration == self.0, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn balanced_trainings_differ_and_resume_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let images = images();
    // 12 of the first class, 3 of the second.
    let uneven = images.part(&(0..15).collect::<Vec<_>>());
    let val = images.part(&(15..24).collect::<Vec<_>>());
    let mut weights = Vec::new();
    for balance in [Balance::None, Balance::Weights, Balance::Batches] {
        let config = ClassifierTrainConfig { balance, ..cnn(2) };
        let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(format!("{balance:?}-{name}")));
        train(&config, [&uneven, &val], &fresh(&whole)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let control = Control { stop: stop.clone(), ..Control::default() };
        let mut stopper = StopAt(5, stop);
        let outcome = train_classifier(&config, &uneven, &val, &fresh(&broken), &control, &mut [&mut stopper]).unwrap();
        assert!(outcome.interrupted && outcome.iterations == 5);
        train(&config, [&uneven, &val], &resumed(&broken)).unwrap();
        assert_same(&whole, &broken);
        weights.push(std::fs::read(whole.join("last/weights.safetensors")).unwrap());
    }
    assert!(weights[0] != weights[1] && weights[1] != weights[2] && weights[0] != weights[2]);
    let config = ClassifierTrainConfig { balance: Balance::None, ..cnn(2) };
    let other = train(&config, [&uneven, &val], &resumed(&folder.path().join("Weights-whole"))).unwrap_err();
    assert!(other.to_string().contains("balance"), "{other}");
}

#[test]
fn a_temperature_is_fitted_on_the_validation_images() {
    let folder = tempfile::tempdir().unwrap();
    let config = PhantomConfig { size: 32.into(), images_per_class: 20, patients: 4, ..PhantomConfig::default() };
    let images = phantom::render(&config).unwrap();
    let (train_images, rest) = (images.part(&[0, 1, 2, 3, 20, 21, 22, 23]), images.part(&(4..36).collect::<Vec<_>>()));
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    train(&cnn(2), [&train_images, &rest.part(&[])], &fresh(&first)).unwrap();
    let said = TrainedClassifier::load(&first).unwrap().predict(&rest).unwrap();
    // Labels of which the network has three of four right, so that there is a temperature. Validation images change no weight.
    let labels = said.iter().enumerate().map(|(i, row)| u32::from((row[1] > row[0]) != (i % 4 == 0)));
    let val = View::new(cellforge_data::ViewParts {
        classes: images.classes().to_vec(),
        labels: labels.collect(),
        size: 32.into(),
        channels: 3,
        pixels: rest.pixels(),
        ..Default::default()
    })
    .unwrap();
    train(&cnn(2), [&train_images, &val], &fresh(&second)).unwrap();
    let log = cellforge_train::read_log(&second.join("log.jsonl")).unwrap();
    let last = TrainedClassifier::load(second.join("last")).unwrap();
    let logged = log.iter().rev().find(|line| line.values.contains_key(figures::VAL_ACCURACY)).unwrap();
    assert_eq!(logged.values[figures::VAL_ACCURACY], 0.75);
    let temperature = last.temperature().unwrap();
    assert_eq!(last.state().temperature, logged.values.get(figures::TEMPERATURE).copied());
    // It divides the logits: the odds of two classes to its power are those of before.
    let rows = last.predict(&val).unwrap();
    for (before, row) in said.iter().zip(&rows).filter(|(_, row)| row.iter().all(|p| *p > 1e-3)) {
        let odds = |row: &[f32]| f64::from(row[0] / row[1]).ln();
        assert!(
            (odds(row) * temperature - odds(before)).abs() < 1e-2 * (1.0 + odds(before).abs()),
            "{before:?} {row:?}"
        );
    }
    // What it is fitted for: no other near it makes the labels likelier.
    let likelihood = |power: f64| -> f64 {
        let one = |(row, label): (&Vec<f32>, u32)| {
            let powers: Vec<f64> = row.iter().map(|&p| f64::from(p).powf(power)).collect();
            (powers[label as usize] / powers.iter().sum::<f64>()).ln()
        };
        rows.iter().zip(val.labels()).map(one).sum()
    };
    assert!(likelihood(1.0) >= likelihood(1.1) && likelihood(1.0) >= likelihood(0.9), "{temperature}");
    // Of fewer than 30 validation images there is none.
    let (dir, none) = (folder.path().join("none"), val.part(&(0..29).collect::<Vec<_>>()));
    train(&cnn(1), [&train_images, &none], &fresh(&dir)).unwrap();
    assert_eq!(TrainedClassifier::load(&dir).unwrap().temperature(), None);
}

#[test]
fn a_classifier_starts_from_a_trained_one() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|name| folder.path().join(name));
    let parts = split();
    train(&cnn(1), [&parts.train, &parts.val], &fresh(&first)).unwrap();
    let path = first.to_str().unwrap().to_owned();
    // A learning rate at which nothing changes shows what it started from.
    let still = cellforge_train::OptimizerConfig::Sgd { lr: 1e-30, momentum: 0.0, nesterov: false };
    let config = ClassifierTrainConfig { from: Some(path.clone()), optimizer: still, seed: 9, ..cnn(1) };
    train(&config, [&parts.test, &parts.val.part(&[])], &fresh(&second)).unwrap();
    let weights = |dir: &std::path::Path| {
        candle_core::safetensors::load(dir.join("last/weights.safetensors"), &Device::Cpu).unwrap()
    };
    let best = candle_core::safetensors::load(first.join("best/weights.safetensors"), &Device::Cpu).unwrap();
    let same = |a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>, name: &str| {
        let value = |of: &HashMap<String, Tensor>| of[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        value(a).iter().zip(value(b)).all(|(a, b)| (a - b).abs() < 1e-20)
    };
    let started = weights(&second);
    assert!(best.keys().all(|name| same(&best, &started, name)));
    let loaded = TrainedClassifier::load(&second).unwrap();
    let state = TrainedClassifier::load(&first).unwrap().state().clone();
    let record = loaded.state().started_from.clone().unwrap();
    assert_eq!((Some(record.weights.as_str()), record.data), (state.weights_sha256(), state.data.clone()));
    // It has seen the images of the network that it started from, also after it was resumed.
    let seen = |classifier: &TrainedClassifier| {
        let seen = classifier.seen(&parts.train).unwrap();
        (seen.train, seen.images)
    };
    assert_eq!(seen(&loaded), (14, 14));
    std::fs::rename(&first, folder.path().join("moved")).unwrap();
    train(&config, [&parts.test, &parts.val.part(&[])], &resumed(&second)).unwrap();
    assert_eq!(seen(&TrainedClassifier::load(&second).unwrap()), (14, 14));
    std::fs::rename(folder.path().join("moved"), &first).unwrap();

    // Other classes: all but the last layer, which of three convolutions is 12.
    let renamed = parts.test.relabelled(&["Parasitized", "Uninfected", "third"].map(String::from)).unwrap();
    let other = ClassifierTrainConfig { from: Some(path.clone()), ..config.clone().for_images(32, 3, 3) };
    train(&other, [&renamed, &renamed.part(&[])], &fresh(&third)).unwrap();
    let started = weights(&third);
    assert_eq!(started["12.weight"].dims()[0], 3);
    assert!(best.keys().filter(|name| !name.starts_with("12.")).all(|name| same(&best, &started, name)));

    // Another network is refused, and the run that was there stays.
    let wrong = ClassifierTrainConfig {
        from: Some(path),
        ..ClassifierTrainConfig::recipe("resnet18").unwrap().for_images(32, 3, 2)
    };
    let dir = RunDir::new(&second).mode(cellforge_train::Mode::Overwrite);
    let error = train(&wrong, [&parts.test, &parts.val], &dir).unwrap_err().to_string();
    assert!(error.contains("there is no bn1.bias") && error.contains("this program's cnn"), "{error}");
    assert!(TrainedClassifier::load(&second).is_ok());
}

/// The tensors of one of torchvision's networks, as a file.
fn weights_of(model: &ClassifierConfig, path: &std::path::Path) -> HashMap<String, Tensor> {
    let store = ParamStore::new(Key::new(3), &Device::Cpu);
    Classifier::new(model, store.vb()).unwrap();
    let mut tensors: HashMap<String, Tensor> = store.tensors().into_iter().collect();
    tensors.insert("bn1.num_batches_tracked".to_owned(), Tensor::new(7i64, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, path).unwrap();
    tensors
}

#[test]
fn weights_of_torchvision_are_taken_and_others_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resnet18.safetensors");
    let cfg = TorchvisionConfig { image_size: 32.into(), classes: 10, ..TorchvisionConfig::default() };
    let tensors = weights_of(&ClassifierConfig::Resnet18(cfg.clone()), &file);
    let recipe = |name: &str| ClassifierTrainConfig {
        from: Some(file.to_str().unwrap().to_owned()),
        batch: 4,
        epochs: 1,
        optimizer: cellforge_train::OptimizerConfig::Sgd { lr: 1e-30, momentum: 0.0, nesterov: false },
        ..ClassifierTrainConfig::recipe(name).unwrap().for_images(32, 3, 2)
    };
    let parts = split();
    let (few, none) = (parts.test.clone(), parts.val.part(&[]));
    let out = folder.path().join("out");
    train(&recipe("resnet18"), [&few, &none], &fresh(&out)).unwrap();
    let started = candle_core::safetensors::load(out.join("last/weights.safetensors"), &Device::Cpu).unwrap();
    let value = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for name in ["conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.weight"] {
        assert_eq!(value(&started[name]), value(&tensors[name]), "{name}");
    }
    assert_eq!(started["fc.weight"].dims(), [2, 512]);
    let record = TrainedClassifier::load(&out).unwrap().state().started_from.clone().unwrap();
    assert_eq!((record.weights.len(), record.classes.len()), (64, 0));

    let refused = |name: &str| match train(&recipe(name), [&few, &none], &fresh(&folder.path().join("no"))) {
        Err(error @ Error::Supplied { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let error = refused("resnet50");
    assert!(error.contains("layer1.0.bn3.bias") && error.contains("ResNet-18 with torchvision's names"), "{error}");
    // More than the network has is another network.
    let mut more = tensors.clone();
    more.insert("layer1.2.conv1.weight".to_owned(), tensors["layer1.1.conv1.weight"].clone());
    candle_core::safetensors::save(&more, &file).unwrap();
    let error = refused("resnet18");
    assert!(error.contains("layer1.2.conv1.weight is nothing that resnet18 has"), "{error}");
    std::fs::write(&file, b"no weights").unwrap();
    assert!(refused("resnet18").contains("neither a whole safetensors file"));
    assert!(!folder.path().join("no").exists());
}
