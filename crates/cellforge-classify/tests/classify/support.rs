//! Weights and images from names and indices, which the scripts in `fixtures` compute as well.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use std::sync::{Arc, Mutex};

/// `hash(name, i)` for every `i`.
pub fn hashes(name: &str) -> impl Iterator<Item = u64> {
    let seed = fnv(name.bytes());
    (1u64..).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// The FNV-1a hash of bytes.
pub fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// `unit(name, i)` for every `i`.
pub fn units(name: &str) -> impl Iterator<Item = f32> {
    hashes(name).map(|h| (h >> 40) as f32 / (1 << 24) as f32)
}

/// The bytes of image `k`.
pub fn image(k: usize, side: usize, channels: usize) -> Vec<u8> {
    hashes(&format!("image {k}")).map(|h| (h >> 56) as u8).take(side * side * channels).collect()
}

/// A parameter from its name and shape.
pub type Parameter = fn(&str, &[usize]) -> Vec<f32>;

/// Tensors by a formula, with a count of the numbers that were asked for.
pub struct Formula {
    parameter: Parameter,
    count: Arc<Mutex<usize>>,
}

impl Formula {
    pub fn builder(parameter: Parameter) -> (VarBuilder<'static>, Arc<Mutex<usize>>) {
        let count = Arc::default();
        let formula = Self { parameter, count: Arc::clone(&count) };
        (VarBuilder::from_backend(Box::new(formula), DType::F32, Device::Cpu), count)
    }
}

impl SimpleBackend for Formula {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        *self.count.lock().unwrap() += shape.elem_count();
        Tensor::from_vec((self.parameter)(name, shape.dims()), shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// The largest difference from what is expected, relative to the largest number expected.
pub fn largest_difference(got: &Tensor, expected: &[Vec<f64>]) -> Result<f64> {
    let largest = expected.iter().flatten().fold(0f64, |a, b| a.max(b.abs()));
    let got = got.to_vec2::<f32>()?;
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected).flat_map(|(got, expected)| {
        assert_eq!(got.len(), expected.len());
        got.iter().zip(expected)
    });
    Ok(pairs.map(|(&got, expected)| (f64::from(got) - expected).abs() / largest).fold(0., f64::max))
}
