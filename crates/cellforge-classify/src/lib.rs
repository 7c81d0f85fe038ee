//! The classifiers of the study: a small convolutional network and a pre-activation ResNet; and torchvision's ResNet-18 and ResNet-50, which
//! take weights that were trained on ImageNet ([`TorchvisionResNet`]). Beside them [`Inception`], whose
//! features the Fréchet Inception distance compares, and [`DinoV2`], which knows photographs and no labels.
//!
//! The first two follow the published architectures at their default configurations, and scale with them in image side,
//! channels, classes, width and depth. Parameters have the names and layouts of the same networks written in PyTorch,
//! so that checkpoints go both ways. This crate knows no files, data sets or optimizers.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use cellforge_classify::{Classifier, ClassifierConfig, ResNetConfig};
//! use cellforge_nn::{Key, ParamStore};
//!
//! # fn main() -> candle_core::Result<()> {
//! let cfg = ClassifierConfig::Resnet(ResNetConfig { image_size: 32.into(), width: 0.125, ..Default::default() });
//! let store = ParamStore::new(Key::new(7), &Device::Cpu);
//! let classifier = Classifier::new(&cfg, store.vb())?;
//!
//! let images = Tensor::full(0.5f32, (2, 3, 32, 32), &Device::Cpu)?;
//! assert_eq!(classifier.forward_t(&images, false)?.dims(), [2, 2]);
//! assert_eq!(classifier.features(&images)?.dims(), [2, 64]);
//!
//! // The study's own networks, layer by layer.
//! assert_eq!(ClassifierConfig::study_cnn().summary().params(), 176_290);
//! assert_eq!(ClassifierConfig::study_resnet().summary().params(), 2_164_174);
//! # Ok(())
//! # }
//! ```

mod cnn;
mod config;
mod encoders;
mod resnet;
mod torchvision;

pub use cellforge_settings::ImageSize;
pub use cnn::{CnnConfig, SmallCnn};
pub use config::ClassifierConfig;
pub use encoders::{
    DINOV2_SIDE, DinoV2, DinoV2Config, INCEPTION_FEATURES, INCEPTION_LARGEST, INCEPTION_SIDE, Inception, dinov2_input,
    inception_input,
};
pub use resnet::{Bottleneck, ResNet, ResNetConfig};
pub use torchvision::{TorchvisionConfig, TorchvisionResNet};

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use torchvision::Depth;

/// Mean and standard deviation of ImageNet's red, green and blue, for pixels in `[0, 1]`, by which networks that were trained on it see images.
pub(crate) const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// Any of the networks, behind one interface.
#[derive(Debug, Clone)]
pub struct Classifier {
    network: Network,
    input: [usize; 3],
}

#[derive(Debug, Clone)]
enum Network {
    Cnn(SmallCnn),
    Resnet(ResNet),
    Torchvision(TorchvisionResNet),
}

impl Classifier {
    /// Builds the network in `vb`; weights start Glorot uniform (convolutions of torchvision's networks as there), biases at zero.
    pub fn new(cfg: &ClassifierConfig, vb: VarBuilder) -> Result<Self> {
        let network = match cfg {
            ClassifierConfig::Cnn(cfg) => Network::Cnn(SmallCnn::new(cfg, vb)?),
            ClassifierConfig::Resnet(cfg) => Network::Resnet(ResNet::new(cfg, vb)?),
            ClassifierConfig::Resnet18(cfg) => Network::Torchvision(TorchvisionResNet::new(cfg, Depth::D18, vb)?),
            ClassifierConfig::Resnet50(cfg) => Network::Torchvision(TorchvisionResNet::new(cfg, Depth::D50, vb)?),
        };
        Ok(Self { network, input: [cfg.channels(), cfg.image_size().height, cfg.image_size().width] })
    }

    /// Images `(b, channels, height, width)` in `[0, 1]` to logits `(b, classes)`. With `train`, batch norm uses the
    /// statistics of this batch and moves its running ones towards them.
    pub fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.check(xs)?;
        match &self.network {
            Network::Cnn(cnn) => cnn.forward(xs),
            Network::Resnet(resnet) => resnet.forward_t(xs, train),
            Network::Torchvision(resnet) => resnet.forward_t(xs, train),
        }
    }

    /// What the last layer judges by, in inference mode: images `(b, channels, height, width)` in `[0, 1]` to
    /// `(b, features)`, the hidden dense layer of the CNN or the averaged last feature map of a ResNet.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        self.check(xs)?;
        match &self.network {
            Network::Cnn(cnn) => cnn.features(xs),
            Network::Resnet(resnet) => resnet.features(xs),
            Network::Torchvision(resnet) => resnet.features(xs),
        }
    }

    /// The last layer alone: [`Classifier::features`] `(b, features)` to logits `(b, classes)`.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        match &self.network {
            Network::Cnn(cnn) => cnn.logits(features),
            Network::Resnet(resnet) => resnet.logits(features),
            Network::Torchvision(resnet) => resnet.logits(features),
        }
    }

    fn check(&self, xs: &Tensor) -> Result<()> {
        if xs.rank() != 4 || xs.dims()[1..] != self.input {
            let [c, h, w] = self.input;
            bail!("the classifier takes images of shape (batch, {c}, {h}, {w}), not {:?}", xs.dims())
        }
        Ok(())
    }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
