//! Keys: where every random number comes from.

use candle_core::{Device, Result, Shape, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use sha2::{Digest, Sha256};

/// A name for a source of random numbers. Keys form a tree: a child is named by a label or an index, and its numbers
/// depend on the seed and on the path to it alone, not on what was drawn before or elsewhere. Children are derived
/// with SHA-256, so that keys with different paths are independent.
///
/// ```
/// use cellforge_nn::Key;
/// let key = Key::new(1);
/// let noise = |step| key.with("noise").at(step).normal(4, &candle_core::Device::Cpu)?.to_vec1::<f32>();
/// assert_eq!(noise(3)?, noise(3)?);
/// assert_ne!(noise(3)?, noise(4)?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The root of the keys of a seed.
    pub fn new(seed: u64) -> Self {
        Self::derive(b"cellforge seed", &[], &seed.to_le_bytes())
    }

    /// The child with this label, which says what the numbers are for.
    pub fn with(&self, label: &str) -> Self {
        Self::derive(b"cellforge label", &self.0, label.as_bytes())
    }

    /// The child with this index, such as an iteration or the number of an image.
    pub fn at(&self, index: u64) -> Self {
        Self::derive(b"cellforge index", &self.0, &index.to_le_bytes())
    }

    fn derive(kind: &[u8], parent: &[u8], name: &[u8]) -> Self {
        Self(Sha256::new().chain_update(kind).chain_update(parent).chain_update(name).finalize().into())
    }

    /// The seed of its generator.
    #[cfg(feature = "cuda")]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A generator that starts at this key's first number.
    pub fn rng(&self) -> ChaCha12Rng {
        ChaCha12Rng::from_seed(self.0)
    }

    /// Standard normal noise of this shape, `f32`. It is drawn on the host, so that it is the same on every device.
    pub fn normal(&self, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        let mut rng = self.rng();
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| rng.sample(StandardNormal)).collect();
        Tensor::from_vec(values, shape, device)
    }

    /// Uniform noise of this shape from `lo` to `hi`, `f32`, drawn on the host. It is `lo + (hi - lo) u` with `u` in `[0, 1)`, but
    /// rounding to `f32` can make `hi` itself of it: from 1 to 3 about once in 2^24 numbers.
    pub fn uniform(&self, lo: f64, hi: f64, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
        let shape = shape.into();
        let mut rng = self.rng();
        let values: Vec<f32> =
            (0..shape.elem_count()).map(|_| (lo + (hi - lo) * f64::from(rng.random::<f32>())) as f32).collect();
        Tensor::from_vec(values, shape, device)
    }
}
