//! Dropout whose mask comes from a key.

use crate::{Key, ops};
use candle_core::{Result, Tensor, bail};
use cellforge_kernels::DropoutMask;
use rand::Rng;
use rayon::prelude::*;

/// Dropout (Srivastava et al. 2014) in its inverted form: in training each element is zeroed with probability `p` and
/// the others are scaled by `1 / (1 - p)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    p: f64,
}

impl Dropout {
    /// Dropout with probability `p` in `[0, 1)`, which is kept to within 1/65536.
    pub fn new(p: f64) -> Self {
        Self { p }
    }

    /// `xs` of any shape to the same shape. The mask is a function of `key` and the number of elements alone: give
    /// each layer and each step a key of its own. Without `train`, `xs` itself.
    pub fn forward_t(&self, xs: &Tensor, train: bool, key: &Key) -> Result<Tensor> {
        match self.active_mask(xs, train, key)? {
            Some(mask) => ops::dropout(xs, mask),
            None => Ok(xs.clone()),
        }
    }

    /// A leaky ReLU of this negative slope and this layer, in the same pass over memory.
    pub fn forward_after_leaky_relu_t(
        &self,
        xs: &Tensor,
        negative_slope: f32,
        train: bool,
        key: &Key,
    ) -> Result<Tensor> {
        match self.active_mask(xs, train, key)? {
            Some(mask) => ops::leaky_relu_dropout(xs, negative_slope, mask),
            None => ops::leaky_relu(xs, negative_slope),
        }
    }

    /// The mask of elements of `xs`, if any are to be dropped.
    pub(crate) fn active_mask(&self, xs: &Tensor, train: bool, key: &Key) -> Result<Option<DropoutMask>> {
        if !(0. ..1.).contains(&self.p) {
            bail!("dropout: the probability is {}, expected one in [0, 1)", self.p);
        }
        if train && self.p > 0. { self.mask(xs, key).map(Some) } else { Ok(None) }
    }

    /// One byte an element, 1 where it is kept. Each chunk has its own stream of the key's generator, so that threads
    /// can share the work; 16 random bits decide over each element. A GPU draws the same bits itself.
    fn mask(&self, xs: &Tensor, key: &Key) -> Result<DropoutMask> {
        const CHUNK: usize = 1 << 14;
        let (threshold, scale) = ((self.p * 65536.).round() as u32, (1. / (1. - self.p)) as f32);
        #[cfg(feature = "cuda")]
        if xs.device().is_cuda() {
            return DropoutMask::drawn_on(xs.device(), key.bytes(), xs.elem_count(), CHUNK, threshold, scale);
        }
        let mut keep = vec![0u8; xs.elem_count()];
        keep.par_chunks_mut(CHUNK).enumerate().for_each(|(stream, chunk)| {
            let mut rng = key.rng();
            rng.set_stream(stream as u64);
            for four in chunk.chunks_mut(4) {
                let mut bits = rng.next_u64();
                for keep in four {
                    *keep = u8::from(bits as u16 as u32 >= threshold);
                    bits >>= 16;
                }
            }
        });
        Ok(DropoutMask::new(keep, scale))
    }
}
