//! The losses of a GAN whose discriminator answers with one logit an image, as in Goodfellow et al. 2014.
//!
//! Each takes logits `(b, 1)` and returns the mean over the batch, a scalar in nats.

use candle_core::{Result, Tensor};
use cellforge_nn::ops::bce_with_logits;

/// What the discriminator pays on real images: `-log sigmoid(logit)`.
pub fn discriminator_real(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 1.0)
}

/// What the discriminator pays on generated images: `-log (1 - sigmoid(logit))`.
pub fn discriminator_fake(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 0.0)
}

/// What the generator pays on its own images: `-log sigmoid(logit)`, the form whose gradient does not vanish while
/// the discriminator is winning.
pub fn generator(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 1.0)
}
