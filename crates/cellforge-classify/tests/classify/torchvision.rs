//! ResNet-18 and ResNet-50 against torchvision, with weights and images that both sides compute: see `fixtures/make_torchvision.py`.

use crate::support::{Formula, image, largest_difference, units};
use crate::tape::assert_same_gradients;
use candle_core::{Device, Result, Tensor};
use cellforge_classify::{Classifier, ClassifierConfig, TorchvisionConfig};
use cellforge_nn::{AnyOptimizer, Key, ParamStore, Sgd, SgdConfig, ops};
use std::collections::BTreeMap;

/// Largest difference that passes, relative to the largest logit.
const TOLERANCE: f64 = 1e-5;

fn parameter(name: &str, dims: &[usize]) -> Vec<f32> {
    let units = units(name).take(dims.iter().product());
    if dims.len() > 1 {
        let limit = (6. / dims[1..].iter().product::<usize>() as f64).sqrt() as f32;
        units.map(|u| (2. * u - 1.) * limit).collect()
    } else if name.ends_with("weight") || name.ends_with("running_var") {
        units.map(|u| 0.5 + u).collect()
    } else {
        units.map(|u| 0.4 * u - 0.2).collect()
    }
}

fn config(name: &str, image_size: usize, channels: usize, classes: usize) -> ClassifierConfig {
    let config = TorchvisionConfig { image_size: image_size.into(), channels, classes, ..Default::default() };
    if name == "resnet18" { ClassifierConfig::Resnet18(config) } else { ClassifierConfig::Resnet50(config) }
}

/// Image `k` in [0, 1], (1, channels, side, side).
fn picture(k: usize, side: usize, channels: usize) -> Result<Tensor> {
    let bytes = image(k, side, channels);
    let values = bytes.iter().map(|&byte| f32::from(byte) / 255.);
    Tensor::from_iter(values, &Device::Cpu)?.reshape((1, side, side, channels))?.permute((0, 3, 1, 2))?.contiguous()
}

#[test]
fn agrees_with_torchvision() -> Result<()> {
    let json =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/torchvision.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
    let [side, classes] = ["side", "classes"].map(|name| fixture[name].as_u64().unwrap() as usize);
    for name in ["resnet18", "resnet50"] {
        let expected: Vec<Vec<f64>> = serde_json::from_value(fixture[name]["logits"].clone()).unwrap();
        let mut logits = Vec::new();
        // The first image is grey, the second in colour.
        for (k, channels) in [(0, 1), (1, 3)] {
            let (weights, count) = Formula::builder(parameter);
            let network = Classifier::new(&config(name, side, channels, classes), weights.pp(name))?;
            assert_eq!(*count.lock().unwrap() as u64, fixture[name]["numbers"].as_u64().unwrap());
            let xs = picture(k, side, channels)?;
            let row = network.forward_t(&xs, false)?;
            let by_parts = network.logits(&network.features(&xs)?)?;
            assert_eq!(row.to_vec2::<f32>()?, by_parts.to_vec2::<f32>()?);
            logits.push(row);
        }
        let error = largest_difference(&Tensor::cat(&logits, 0)?, &expected)?;
        assert!(error <= TOLERANCE, "logits of {name} differ from torchvision's by {error:.1e} of the largest");
    }
    Ok(())
}

/// What torchvision counts with ImageNet's 1000 classes: 11,689,512 and 25,557,032 parameters, and a mean and a variance for each of 4800 and
/// of 26,560 channels.
#[test]
fn counts_are_torchvisions() -> Result<()> {
    for (name, trainable, channels) in [("resnet18", 11_689_512, 4800), ("resnet50", 25_557_032, 26_560)] {
        let summary = config(name, 128, 3, 1000).summary();
        assert_eq!((summary.trainable(), summary.params()), (trainable, trainable + 2 * channels));
        assert_eq!(summary.layers.last().unwrap().output, [1000]);
    }
    let store = ParamStore::new(Key::new(0), &Device::Cpu);
    let cfg = config("resnet18", 32, 1, 2);
    Classifier::new(&cfg, store.vb())?;
    assert_eq!(cfg.summary().params(), store.num_elements());
    // At 224 pixels torchvision's documentation gives 1.81 and 4.09 billion multiply-adds. A quarter of 128/224 squared is 0.327.
    for (name, macs) in [("resnet18", 1.81e9), ("resnet50", 4.09e9)] {
        let found = config(name, 128, 3, 1000).summary().macs() as f64;
        assert!((found / (macs * (128f64 / 224.).powi(2)) - 1.).abs() < 0.02, "{name}: {found}");
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_graph_and_one_batch_is_learned() -> Result<()> {
    let images = Key::new(4).uniform(0.0, 1.0, (4, 3, 32, 32), &Device::Cpu)?;
    let labels = Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu)?;
    let cfg = config("resnet18", 32, 3, 2);
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let classifier = Classifier::new(&cfg, store.vb())?;
    let loss = || ops::cross_entropy(&classifier.forward_t(&images, true)?, &labels);
    assert_same_gradients(&store.trainable(), loss)?;
    let sgd = SgdConfig { lr: 0.01, momentum: 0.9, nesterov: false };
    let mut optimizer = AnyOptimizer::Sgd(Sgd::named(store.trainable(), sgd, BTreeMap::new())?);
    let start = loss()?.to_scalar::<f32>()?;
    for _ in 0..8 {
        optimizer.step(&loss()?.backward()?)?;
    }
    let end = loss()?.to_scalar::<f32>()?;
    assert!(end < 0.1 * start, "the loss went from {start} to {end}");
    Ok(())
}
