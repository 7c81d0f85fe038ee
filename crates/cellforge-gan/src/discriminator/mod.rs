//! The discriminators: from images to one logit each.

mod residual;
mod study;

use crate::config::DiscriminatorKind;
use crate::{GanConfig, check_classes};
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::VarBuilder;
use cellforge_nn::summary::ModelSummary;
use cellforge_nn::{Key, gradients, ops};
use residual::ResidualDiscriminator;
use study::StudyDiscriminator;

/// From images, and for some a class, to one logit each. What it is built of is the configuration's choice, [`DiscriminatorKind`];
/// names in checkpoints are those of [`GanConfig::discriminator_summary`].
#[derive(Debug, Clone)]
pub struct Discriminator {
    body: Body,
    input: [usize; 3],
    classes: usize,
}

#[derive(Debug, Clone)]
enum Body {
    Study(StudyDiscriminator),
    Residual(Box<ResidualDiscriminator>),
}

/// The gradient of a discriminator's logits by its images, and where its activations stood there: what
/// [`Discriminator::gradient_penalty`] needs.
#[derive(Debug, Clone)]
pub struct InputGradient {
    /// Of each activation, a tensor that has the signs of its input.
    trace: Vec<Tensor>,
    /// The gradient of each logit by its image, `(b, channels, height, width)`.
    values: Tensor,
}

impl InputGradient {
    /// The gradient of each logit by its image, `(b, channels, height, width)`.
    #[must_use]
    pub fn values(&self) -> &Tensor {
        &self.values
    }
}

impl Discriminator {
    /// Builds the network in `vb` with the starting weights of its kind.
    ///
    /// # Errors
    /// A configuration that is not valid, see [`GanConfig::validate`].
    pub fn new(cfg: &GanConfig, vb: VarBuilder) -> Result<Self> {
        cfg.validate()?;
        let body = match cfg.discriminator {
            DiscriminatorKind::Study => Body::Study(StudyDiscriminator::new(cfg, vb)?),
            DiscriminatorKind::Residual => Body::Residual(Box::new(ResidualDiscriminator::new(cfg, vb)?)),
        };
        Ok(Self { body, input: [cfg.channels, cfg.image_size.height, cfg.image_size.width], classes: cfg.classes })
    }

    /// Images `(b, channels, height, width)` in `[-1, 1]` to logits `(b, 1)`, by a discriminator of one class: above zero means judged
    /// real. With `train`, batch norm uses and records the statistics of this batch, spectral normalisation takes a step of power
    /// iteration, and dropout draws its masks from `key` (a key per step); without it the key is not used.
    pub fn forward_t(&self, xs: &Tensor, train: bool, key: &Key) -> Result<Tensor> {
        self.forward_class_t(xs, None, train, key)
    }

    /// As [`forward_t`](Self::forward_t), with the class of each image as rows `(b, classes)`, usually of
    /// [`one_hot`](cellforge_nn::one_hot). A discriminator of one class takes none.
    ///
    /// # Errors
    /// Images or classes of another shape.
    pub fn forward_class_t(&self, xs: &Tensor, classes: Option<&Tensor>, train: bool, key: &Key) -> Result<Tensor> {
        self.check(xs, classes)?;
        match &self.body {
            Body::Study(body) => body.forward_t(xs, train, key),
            Body::Residual(body) => body.forward_t(xs, classes, train),
        }
    }

    /// Takes `steps` steps of power iteration, as so many passes in training mode do, and nothing else of them. They depend on the weights
    /// alone. Without spectral normalisation nothing happens.
    ///
    /// # Errors
    /// Those of the device.
    pub fn power_iteration(&self, steps: usize) -> Result<()> {
        match &self.body {
            Body::Study(_) => Ok(()),
            Body::Residual(body) => (0..steps).try_for_each(|_| body.power_iteration()),
        }
    }

    /// The gradient of each logit by its image, at `xs`, with what [`gradient_penalty`](Self::gradient_penalty) needs. It is to be asked of a
    /// discriminator whose parameters take no gradient (of [`frozen_vb`](cellforge_nn::ParamStore::frozen_vb)), outside of
    /// [`gradients`].
    ///
    /// # Errors
    /// The study's discriminator, whose batch norm makes every answer depend on the other images and whose dropout changes it from call
    /// to call; images or classes of another shape.
    pub fn input_gradient(&self, xs: &Tensor, classes: Option<&Tensor>) -> Result<InputGradient> {
        self.check(xs, classes)?;
        let body = self.piecewise_linear()?;
        let xs = Var::from_tensor(&xs.detach().contiguous()?)?;
        let mut trace = Vec::new();
        let (_, grads) = gradients(|| {
            let logits = body.traced(&xs, classes, &mut trace)?;
            ops::sum(&logits)
        })?;
        let Some(values) = grads.get(&xs) else { bail!("the discriminator's answer does not depend on its images") };
        Ok(InputGradient { trace, values: values.detach() })
    }

    /// The mean over the images of the squared gradient of the logit by the image, a scalar, at the images and with the classes of
    /// `gradient`, which must be of the present weights (R1 of real images, R2 of generated ones; Mescheder et al. 2018).
    ///
    /// Inside [`gradients`], its gradient by the parameters is right, though nothing is differentiated twice: the network is linear
    /// between the kinks of its leaky ReLUs, so the squared gradient is what a step along the gradient adds to the logit, `d(x; v)` with
    /// `v` the gradient. That is a forward pass without biases in which each leaky ReLU keeps the slope it had, and with `v` held
    /// constant half of the squared gradient's derivative comes of it. The other half, by `v`, is equal to it: the result is the
    /// squared gradient in value, and twice `d(x; v)` in its gradient.
    ///
    /// # Errors
    /// As [`input_gradient`](Self::input_gradient).
    pub fn gradient_penalty(&self, gradient: &InputGradient, classes: Option<&Tensor>) -> Result<Tensor> {
        check_classes("discriminator", classes, gradient.values.dim(0)?, self.classes)?;
        let body = self.piecewise_linear()?;
        let along = ops::mean(&body.jvp(&gradient.values, classes, &gradient.trace)?)?;
        // Twice the mean less the mean, of which the second part is a constant.
        let constant = along.detach();
        ops::add(&ops::scale(&along, 2.)?, &(constant * -1.)?)
    }

    fn piecewise_linear(&self) -> Result<&ResidualDiscriminator> {
        match &self.body {
            Body::Residual(body) => Ok(body),
            Body::Study(_) => bail!(
                "the study's discriminator has no penalty on its gradient, since batch norm and dropout make its answers depend on more than the image; take discriminator \"residual\""
            ),
        }
    }

    fn check(&self, xs: &Tensor, classes: Option<&Tensor>) -> Result<()> {
        if xs.rank() != 4 || xs.dims()[1..] != self.input {
            let [c, h, w] = self.input;
            bail!("the discriminator takes images of shape (batch, {c}, {h}, {w}), not {:?}", xs.dims())
        }
        check_classes("discriminator", classes, xs.dim(0)?, self.classes)
    }
}

impl GanConfig {
    /// The layers of a valid configuration's discriminator between image and answer, from the image on, each as the paths below which its
    /// parameters lie. A residual block is one layer, and a convolution with its batch norm is one.
    #[must_use]
    pub fn discriminator_layers(&self) -> Vec<Vec<String>> {
        match self.discriminator {
            DiscriminatorKind::Study => study::layers(self),
            DiscriminatorKind::Residual => residual::layers(self),
        }
    }

    /// The layers of a valid configuration's discriminator, as [`Discriminator::new`] builds them. Multiply-adds are those of
    /// convolutions and dense layers. The study's last layer ends in a sigmoid; here it is part of the loss.
    pub fn discriminator_summary(&self) -> ModelSummary {
        match self.discriminator {
            DiscriminatorKind::Study => study::summary(self),
            DiscriminatorKind::Residual => residual::summary(self),
        }
    }
}
