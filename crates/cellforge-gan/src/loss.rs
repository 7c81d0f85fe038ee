//! The losses of a GAN whose discriminator answers with one logit an image.
//!
//! Each takes logits `(b, 1)` and returns the mean over the batch, a scalar.

use candle_core::{Result, Tensor, bail};
use cellforge_nn::ops::{self, bce_with_logits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The adversarial loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GanLoss {
    /// Binary cross-entropy, and for the generator the form whose gradient does not vanish while the discriminator is winning, which is
    /// also called the non-saturating logistic loss (Goodfellow et al. 2014). The study's.
    #[default]
    Logistic,
    /// The hinge loss (Lim and Ye 2017).
    Hinge,
    /// The logistic loss of the difference between a real image's logit and a generated one's (Jolicoeur-Martineau 2019; R3GAN, Huang
    /// et al. 2024).
    Relativistic,
}

impl GanLoss {
    /// What the discriminator pays on real images. `smoothing` is the one-sided label smoothing of the logistic loss, whose target is 1 less this.
    ///
    /// # Errors
    /// Asked of the relativistic loss, which is of both kinds of images together: see [`discriminator`](Self::discriminator).
    pub fn on_reals(self, logits: &Tensor, smoothing: f32) -> Result<Tensor> {
        match self {
            Self::Logistic => bce_with_logits(logits, 1.0 - smoothing),
            Self::Hinge => ops::hinge(logits, true),
            Self::Relativistic => bail!("the relativistic loss has no part of the real images alone"),
        }
    }

    /// What the discriminator pays on generated images.
    ///
    /// # Errors
    /// As [`on_reals`](Self::on_reals).
    pub fn on_fakes(self, logits: &Tensor) -> Result<Tensor> {
        match self {
            Self::Logistic => discriminator_fake(logits),
            Self::Hinge => ops::hinge(logits, false),
            Self::Relativistic => bail!("the relativistic loss has no part of the generated images alone"),
        }
    }

    /// What the discriminator pays on real images and generated ones together.
    pub fn discriminator(self, reals: &Tensor, fakes: &Tensor, smoothing: f32) -> Result<Tensor> {
        match self {
            Self::Relativistic => relativistic(reals, fakes),
            _ => ops::add(&self.on_reals(reals, smoothing)?, &self.on_fakes(fakes)?),
        }
    }

    /// What the generator pays on its own images. Only the relativistic loss looks at real ones.
    ///
    /// # Errors
    /// The relativistic loss without real images.
    pub fn generator(self, fakes: &Tensor, reals: Option<&Tensor>) -> Result<Tensor> {
        match (self, reals) {
            (Self::Logistic, _) => generator(fakes),
            (Self::Hinge, _) => ops::scale(&ops::mean(fakes)?, -1.0),
            (Self::Relativistic, Some(reals)) => relativistic(fakes, reals),
            (Self::Relativistic, None) => bail!("the relativistic loss needs the logits of real images"),
        }
    }
}

/// `-log sigmoid(winner - loser)`.
fn relativistic(winners: &Tensor, losers: &Tensor) -> Result<Tensor> {
    bce_with_logits(&ops::sub(winners, losers)?, 1.0)
}

/// What the discriminator pays on real images: `-log sigmoid(logit)`, in nats.
pub fn discriminator_real(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 1.0)
}

/// What the discriminator pays on generated images: `-log (1 - sigmoid(logit))`, in nats.
pub fn discriminator_fake(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 0.0)
}

/// What the generator pays on its own images: `-log sigmoid(logit)`, in nats, the form whose gradient does not vanish while
/// the discriminator is winning.
pub fn generator(logits: &Tensor) -> Result<Tensor> {
    bce_with_logits(logits, 1.0)
}
