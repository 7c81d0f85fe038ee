//! The generators: from noise to images.

mod residual;
mod study;
mod style;

use crate::config::GeneratorKind;
use crate::{GanConfig, check_classes};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use cellforge_nn::summary::ModelSummary;
use residual::ResidualGenerator;
use study::StudyGenerator;
use style::StyleGenerator;

/// From noise, and for some a class, to images. What it is built of is the configuration's choice, [`GeneratorKind`]; names in
/// checkpoints are those of [`GanConfig::generator_summary`].
#[derive(Debug, Clone)]
pub struct Generator {
    body: Body,
    latent: usize,
    classes: usize,
}

#[derive(Debug, Clone)]
enum Body {
    Study(StudyGenerator),
    Residual(ResidualGenerator),
    Style(StyleGenerator),
}

impl Generator {
    /// Builds the network in `vb` with the starting weights of its kind.
    ///
    /// # Errors
    /// A configuration that is not valid, see [`GanConfig::validate`].
    pub fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        cfg.validate()?;
        let body = match cfg.generator {
            GeneratorKind::Study => Body::Study(StudyGenerator::new(cfg, vb)?),
            GeneratorKind::Residual => Body::Residual(ResidualGenerator::new(cfg, vb)?),
            GeneratorKind::Style => Body::Style(StyleGenerator::new(cfg, vb)?),
        };
        Ok(Self { body, latent: cfg.latent, classes: cfg.classes })
    }

    /// Noise `(b, latent)`, standard normal, to images `(b, channels, height, width)` in `[-1, 1]`, by a generator of one class. With
    /// `train`, batch norm uses the statistics of this batch and moves its running ones towards them.
    pub fn forward_t(&self, zs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_class_t(zs, None, train)
    }

    /// As [`forward_t`](Self::forward_t), with the class of each image as rows `(b, classes)`, usually of
    /// [`one_hot`](cellforge_nn::one_hot); rows between two classes give images between them. A generator of one class takes none.
    ///
    /// # Errors
    /// Noise or classes of another shape.
    pub fn forward_class_t(&self, zs: &Tensor, classes: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let b = match zs.dims() {
            &[b, latent] if latent == self.latent => b,
            dims => bail!("the generator takes noise of shape (batch, {}), not {dims:?}", self.latent),
        };
        check_classes("generator", classes, b, self.classes)?;
        match &self.body {
            Body::Study(body) => body.forward_t(zs, train),
            Body::Residual(body) => body.forward_t(zs, classes, train),
            Body::Style(body) => body.forward(zs, classes),
        }
    }
}

impl GanConfig {
    /// The layers of a valid configuration's generator, as [`Generator::new`] builds them. Activations that Keras counts as part of a
    /// dense layer have no row of their own, and multiply-adds are those of convolutions and dense layers.
    pub fn generator_summary(&self) -> ModelSummary {
        match self.generator {
            GeneratorKind::Study => study::summary(self),
            GeneratorKind::Residual => residual::summary(self),
            GeneratorKind::Style => style::summary(self),
        }
    }
}
