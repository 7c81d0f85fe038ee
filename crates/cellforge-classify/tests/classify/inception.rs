//! Inception-v3 against PyTorch, with weights and images that both sides compute: see `fixtures/make_inception.py`.

use crate::support::{Formula, image, largest_difference, units};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use cellforge_classify::{INCEPTION_FEATURES, INCEPTION_SIDE, Inception, inception_input};
use cellforge_nn::Precision;
use std::collections::HashMap;

/// Largest difference that passes, relative to the largest feature. What sets the network apart from others moves it by half a
/// percent and more: the script prints how far.
const TOLERANCE: f64 = 1e-5;

fn parameter(name: &str, dims: &[usize]) -> Vec<f32> {
    let units = units(name).take(dims.iter().product());
    if name.ends_with("conv.weight") {
        let limit = (6. / dims[1..].iter().product::<usize>() as f64).sqrt() as f32;
        units.map(|u| (2. * u - 1.) * limit).collect()
    } else if name.ends_with("bn.weight") || name.ends_with("running_var") {
        units.map(|u| 0.5 + u).collect()
    } else {
        units.map(|u| 0.4 * u - 0.2).collect()
    }
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let json = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inception.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
    let sides: Vec<usize> = serde_json::from_value(fixture["sides"].clone()).unwrap();
    let expected: Vec<Vec<f64>> = serde_json::from_value(fixture["features"].clone()).unwrap();

    let (weights, count) = Formula::builder(parameter);
    let network = Inception::new(Precision::F32, weights)?;
    // torchvision counts 27,161,264 parameters with its two classifiers of 2,049,000 and 3,326,696, and no statistics, which are
    // two for each of 17,216 channels.
    let count = *count.lock().unwrap();
    assert_eq!(count, 27_161_264 - 2_049_000 - 3_326_696 + 2 * 17_216);
    assert_eq!(count as u64, fixture["parameters"].as_u64().unwrap());
    let batches =
        sides.iter().enumerate().map(|(k, &side)| inception_input(&[&image(k, side, 3)], side, 3, &Device::Cpu));
    let images = Tensor::cat(&batches.collect::<Result<Vec<_>>>()?, 0)?; // (2, 3, 299, 299)
    assert_eq!(images.dims(), [2, 3, INCEPTION_SIDE, INCEPTION_SIDE]);
    let features = network.features(&images)?;
    assert_eq!(features.dims(), [2, INCEPTION_FEATURES]);

    let error = largest_difference(&features, &expected)?;
    assert!(error <= TOLERANCE, "features differ from PyTorch's by {error:.1e} of the largest");
    Ok(())
}

#[test]
fn a_missing_or_misshapen_tensor_and_other_images_are_named() -> Result<()> {
    let refused = |tensors: HashMap<String, Tensor>| {
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Inception::new(Precision::F32, vb).expect_err("this must fail").to_string()
    };
    let name = "Conv2d_1a_3x3.conv.weight";
    let error = refused(HashMap::new());
    assert!(error.contains(name), "{error}");
    let tensor = Tensor::zeros((32, 3, 3, 4), DType::F32, &Device::Cpu)?;
    let error = refused(HashMap::from([(name.to_owned(), tensor)]));
    assert!(error.contains(name) && error.contains("[32, 3, 3, 3]") && error.contains("[32, 3, 3, 4]"), "{error}");

    let network = Inception::new(Precision::F32, Formula::builder(parameter).0)?;
    let error = network.features(&Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
    assert!(error.contains("299"), "{error}");
    Ok(())
}
