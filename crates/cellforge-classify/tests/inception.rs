//! Inception-v3 against PyTorch, with weights and images that both sides compute: see `fixtures/make_inception.py`.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use cellforge_classify::{INCEPTION_FEATURES, INCEPTION_SIDE, Inception, inception_input};
use cellforge_nn::Precision;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Largest difference that passes, relative to the largest feature. What sets the network apart from others moves it by half a
/// percent and more: the script prints how far.
const TOLERANCE: f64 = 1e-5;

/// `hash(name, i)` for every `i`.
fn hashes(name: &str) -> impl Iterator<Item = u64> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    (1u64..).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

fn parameter(name: &str, dims: &[usize]) -> Vec<f32> {
    let units = hashes(name).map(|h| (h >> 40) as f32 / (1 << 24) as f32).take(dims.iter().product());
    if name.ends_with("conv.weight") {
        let limit = (6. / dims[1..].iter().product::<usize>() as f64).sqrt() as f32;
        units.map(|u| (2. * u - 1.) * limit).collect()
    } else if name.ends_with("bn.weight") || name.ends_with("running_var") {
        units.map(|u| 0.5 + u).collect()
    } else {
        units.map(|u| 0.4 * u - 0.2).collect()
    }
}

fn image(k: usize, side: usize) -> Vec<u8> {
    hashes(&format!("image {k}")).map(|h| (h >> 56) as u8).take(side * side * 3).collect()
}

/// Tensors by the formula; counts the numbers that are asked for.
struct Formula(Arc<Mutex<usize>>);

impl SimpleBackend for Formula {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        *self.0.lock().unwrap() += shape.elem_count();
        Tensor::from_vec(parameter(name, shape.dims()), shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let json = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inception.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
    let sides: Vec<usize> = serde_json::from_value(fixture["sides"].clone()).unwrap();
    let expected: Vec<Vec<f64>> = serde_json::from_value(fixture["features"].clone()).unwrap();

    let count = Arc::new(Mutex::new(0));
    let network = Inception::new(
        Precision::F32,
        VarBuilder::from_backend(Box::new(Formula(count.clone())), DType::F32, Device::Cpu),
    )?;
    // torchvision counts 27,161,264 parameters with its two classifiers of 2,049,000 and 3,326,696, and no statistics, which are
    // two for each of 17,216 channels.
    let count = *count.lock().unwrap();
    assert_eq!(count, 27_161_264 - 2_049_000 - 3_326_696 + 2 * 17_216);
    assert_eq!(count as u64, fixture["parameters"].as_u64().unwrap());
    let batches = sides.iter().enumerate().map(|(k, &side)| inception_input(&[&image(k, side)], side, 3, &Device::Cpu));
    let images = Tensor::cat(&batches.collect::<Result<Vec<_>>>()?, 0)?; // (2, 3, 299, 299)
    assert_eq!(images.dims(), [2, 3, INCEPTION_SIDE, INCEPTION_SIDE]);
    let features = network.features(&images)?;
    assert_eq!(features.dims(), [2, INCEPTION_FEATURES]);

    let largest = expected.iter().flatten().copied().fold(0., f64::max);
    let mut error = 0f64;
    for (got, expected) in features.to_vec2::<f32>()?.iter().zip(&expected) {
        for (&got, expected) in got.iter().zip(expected) {
            error = error.max((f64::from(got) - expected).abs() / largest);
        }
    }
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

    let network = Inception::new(
        Precision::F32,
        VarBuilder::from_backend(Box::new(Formula(Arc::default())), DType::F32, Device::Cpu),
    )?;
    let error = network.features(&Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
    assert!(error.contains("299"), "{error}");
    Ok(())
}
