//! DINOv2 against Hugging Face's, with weights and images that both sides compute: see `fixtures/make_dinov2.py`.

use crate::support::{Formula, fnv, image, largest_difference, units};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use cellforge_classify::{DINOV2_SIDE, DinoV2, DinoV2Config, dinov2_input};
use std::collections::{BTreeMap, HashMap};

/// Largest difference that passes, relative to the largest feature. What is easily got wrong moves features by three percent and more:
/// the script prints how far.
const TOLERANCE: f64 = 1e-5;

fn parameter(name: &str, dims: &[usize]) -> Vec<f32> {
    let units = units(name).take(dims.iter().product());
    if name.contains("lambda1") || (name.contains("norm") && name.ends_with("weight")) {
        units.map(|u| 0.5 + u).collect()
    } else if name.ends_with("weight") {
        let limit = (3. / dims[1..].iter().product::<usize>() as f64).sqrt() as f32;
        units.map(|u| (2. * u - 1.) * limit).collect()
    } else if name.ends_with("bias") {
        units.map(|u| 0.4 * u - 0.2).collect()
    } else {
        units.map(|u| 2. * u - 1.).collect()
    }
}

/// A narrow network of two layers.
fn small(registers: usize) -> DinoV2Config {
    DinoV2Config { hidden: 128, layers: 2, heads: 2, patch: 14, grid: 37, mlp: 512, registers }
}

fn fixture() -> serde_json::Value {
    let json = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dinov2.json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// The images of the fixture, `(3, 3, 224, 224)`.
fn images(fixture: &serde_json::Value) -> Result<Tensor> {
    let images: Vec<(usize, usize)> = serde_json::from_value(fixture["images"].clone()).unwrap();
    let input = |(k, &(side, channels)): (usize, &(usize, usize))| {
        dinov2_input(&[&image(k, side, channels)], side, channels, &Device::Cpu)
    };
    Tensor::cat(&images.iter().enumerate().map(input).collect::<Result<Vec<_>>>()?, 0)
}

#[test]
fn images_are_those_of_hugging_faces_processor_byte_for_byte() -> Result<()> {
    let fixture = fixture();
    let expected: Vec<String> = serde_json::from_value(fixture["bytes"].clone()).unwrap();
    let xs = images(&fixture)?;
    for (k, expected) in expected.iter().enumerate() {
        let planes = xs.get(k)?.flatten_from(1)?.to_vec2::<f32>()?;
        let channels = planes.iter().zip([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]);
        let bytes = channels.flat_map(|(plane, (mean, std))| {
            plane.iter().map(move |&value| ((f64::from(value) * std + mean) * 255.).round() as u8)
        });
        assert_eq!(format!("{:016x}", fnv(bytes)), *expected, "image {k}");
    }
    Ok(())
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let fixture = fixture();
    let images = images(&fixture)?;
    for registers in [0, 4] {
        let expected: Vec<Vec<f64>> =
            serde_json::from_value(fixture["features"][registers.to_string()].clone()).unwrap();
        let (weights, count) = Formula::builder(parameter);
        let network = DinoV2::new(&small(registers), weights)?;
        let parameters = fixture[format!("parameters_{registers}")].as_u64().unwrap();
        assert_eq!(*count.lock().unwrap() as u64, parameters);
        let features = network.features(&images)?;
        assert_eq!(features.dims(), [3, 128]);
        let error = largest_difference(&features, &expected)?;
        assert!(
            error <= TOLERANCE,
            "with {registers} registers, features differ from PyTorch's by {error:.1e} of the largest"
        );
    }
    Ok(())
}

#[test]
fn features_do_not_depend_on_the_number_of_threads_or_on_the_other_images() -> Result<()> {
    let images = images(&fixture())?;
    let network = DinoV2::new(&small(0), Formula::builder(parameter).0)?;
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| network.features(&images)?.to_vec2::<f32>())
    };
    let one = with(1)?;
    assert_eq!(with(3)?, one);
    assert_eq!(network.features(&images.narrow(0, 1, 1)?)?.to_vec2::<f32>()?, one[1..2]);
    Ok(())
}

/// The shapes of the tensors of a network, without the layers'.
fn shapes(cfg: &DinoV2Config) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::from([
        ("embeddings.cls_token".to_owned(), vec![1, 1, cfg.hidden]),
        ("embeddings.position_embeddings".to_owned(), vec![1, 1 + cfg.grid * cfg.grid, cfg.hidden]),
        ("embeddings.patch_embeddings.projection.weight".to_owned(), vec![cfg.hidden, 3, cfg.patch, cfg.patch]),
        ("encoder.layer.0.mlp.fc1.bias".to_owned(), vec![cfg.mlp]),
    ]);
    if cfg.registers > 0 {
        shapes.insert("embeddings.register_tokens".to_owned(), vec![1, cfg.registers, cfg.hidden]);
    }
    for i in 0..cfg.layers {
        shapes.insert(format!("encoder.layer.{i}.norm1.weight"), vec![cfg.hidden]);
    }
    shapes
}

#[test]
fn sizes_are_read_from_shapes() -> Result<()> {
    let base = DinoV2Config { hidden: 768, layers: 12, heads: 12, patch: 14, grid: 37, mlp: 3072, registers: 4 };
    for (cfg, name) in [(base, Some("vitb14_reg".to_owned())), (small(0), None)] {
        let shapes = shapes(&cfg);
        let read = DinoV2Config::from_shapes(|name| shapes.get(name).cloned())?;
        assert_eq!((read.name(), read), (name, cfg));
    }
    let refused = |name: &str, shape: Option<Vec<usize>>| {
        let mut shapes = shapes(&small(0));
        match shape {
            Some(shape) => shapes.insert(name.to_owned(), shape),
            None => shapes.remove(name),
        };
        let error = DinoV2Config::from_shapes(|name| shapes.get(name).cloned()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    };
    refused("embeddings.cls_token", None);
    refused("embeddings.cls_token", Some(vec![1, 1, 100]));
    refused("embeddings.position_embeddings", Some(vec![1, 1369, 128]));
    refused("embeddings.patch_embeddings.projection.weight", Some(vec![128, 3, 15, 15]));
    refused("embeddings.register_tokens", Some(vec![4, 128]));
    refused("encoder.layer.0.mlp.fc1.bias", None);
    Ok(())
}

#[test]
fn a_missing_or_misshapen_tensor_and_other_images_are_named() -> Result<()> {
    let refused = |tensors: HashMap<String, Tensor>| {
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        DinoV2::new(&small(0), vb).expect_err("this must fail").to_string()
    };
    let name = "embeddings.position_embeddings";
    let error = refused(HashMap::new());
    assert!(error.contains(name), "{error}");
    let tensor = Tensor::zeros((1, 257, 128), DType::F32, &Device::Cpu)?;
    let error = refused(HashMap::from([(name.to_owned(), tensor)]));
    assert!(error.contains(name) && error.contains("[1, 1370, 128]") && error.contains("[1, 257, 128]"), "{error}");

    let network = DinoV2::new(&DinoV2Config { layers: 0, ..small(0) }, Formula::builder(parameter).0)?;
    let side = DINOV2_SIDE + 14;
    let error =
        network.features(&Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
    assert!(error.contains("224"), "{error}");
    Ok(())
}
