//! Inception-v3 in the form that the Fréchet Inception distance is defined by.

mod blocks;
mod resize;

pub use resize::inception_input;

use blocks::{BlockA, BlockB, BlockC, BlockD, BlockE, ConvNorm, Place, Shape};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use cellforge_nn::{Precision, ops};

/// Pixels a side of the images that [`Inception`] takes.
pub const INCEPTION_SIDE: usize = 299;

/// Features that [`Inception`] makes of an image.
pub const INCEPTION_FEATURES: usize = 2048;

/// Numbers that the largest layer of [`Inception`] has for an image: 64 maps of 147 x 147 pixels.
pub const INCEPTION_LARGEST: usize = 64 * 147 * 147;

/// Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision") up to its last feature map, in
/// inference mode, as the network of 2015 computes it by which the Fréchet Inception distance (Heusel et al. 2017) is defined.
///
/// Three things set that network apart from the one of the paper and of torchvision: the average pools leave padding out, the
/// last block pools by the maximum where the paper has the mean, and images are brought to size and scaled as [`inception_input`]
/// does it.
///
/// Checkpoint keys are those of the PyTorch ports of that network, pytorch-fid and torch-fidelity: `Conv2d_1a_3x3.conv.weight`,
/// `Conv2d_1a_3x3.bn.running_mean`, ... `Mixed_7c.branch_pool.bn.bias`. Their classifier, `fc`, is not asked for.
#[derive(Debug, Clone)]
pub struct Inception {
    conv_1a: ConvNorm,
    conv_2a: ConvNorm,
    conv_2b: ConvNorm,
    conv_3b: ConvNorm,
    conv_4a: ConvNorm,
    mixed_5: [BlockA; 3],
    mixed_6a: BlockB,
    mixed_6: [BlockC; 4],
    mixed_7a: BlockD,
    mixed_7b: BlockE,
    mixed_7c: BlockE,
}

impl Inception {
    /// Builds the network from the tensors of `vb`; its convolutions multiply in `precision`.
    ///
    /// # Errors
    /// The first tensor that is missing, or of another shape, by name.
    pub fn new(precision: Precision, vb: VarBuilder) -> Result<Self> {
        let at = |name: &str| Place { precision, vb: vb.pp(name) };
        let conv = |name: &str, c_in, c_out, shape| ConvNorm::new(c_in, c_out, shape, at(name));
        let mixed_5 = |name: &str, c_in, pool| BlockA::new(c_in, pool, at(name));
        let mixed_6 = |name: &str, mid| BlockC::new(mid, at(name));
        Ok(Self {
            conv_1a: conv("Conv2d_1a_3x3", 3, 32, Shape::square(3).stride(2))?,
            conv_2a: conv("Conv2d_2a_3x3", 32, 32, Shape::square(3))?,
            conv_2b: conv("Conv2d_2b_3x3", 32, 64, Shape::square(3).same())?,
            conv_3b: conv("Conv2d_3b_1x1", 64, 80, Shape::square(1))?,
            conv_4a: conv("Conv2d_4a_3x3", 80, 192, Shape::square(3))?,
            mixed_5: [mixed_5("Mixed_5b", 192, 32)?, mixed_5("Mixed_5c", 256, 64)?, mixed_5("Mixed_5d", 288, 64)?],
            mixed_6a: BlockB::new(288, at("Mixed_6a"))?,
            mixed_6: [
                mixed_6("Mixed_6b", 128)?,
                mixed_6("Mixed_6c", 160)?,
                mixed_6("Mixed_6d", 160)?,
                mixed_6("Mixed_6e", 192)?,
            ],
            mixed_7a: BlockD::new(768, at("Mixed_7a"))?,
            mixed_7b: BlockE::new(1280, blocks::Pool::Mean, at("Mixed_7b"))?,
            mixed_7c: BlockE::new(INCEPTION_FEATURES, blocks::Pool::Max, at("Mixed_7c"))?,
        })
    }

    /// Images `(b, 3, 299, 299)` as [`inception_input`] makes them to the averaged last feature map, `(b, 2048)`.
    ///
    /// # Errors
    /// If images are of another shape.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        if xs.rank() != 4 || xs.dims()[1..] != [3, INCEPTION_SIDE, INCEPTION_SIDE] {
            let side = INCEPTION_SIDE;
            bail!("Inception-v3 takes images of shape (batch, 3, {side}, {side}), not {:?}", xs.dims())
        }
        let xs = self.conv_2a.forward(&self.conv_1a.forward(xs)?)?; // (b, 32, 147, 147)
        let xs = ops::max_pool2d(&self.conv_2b.forward(&xs)?, 3, 2, 0)?; // (b, 64, 73, 73)
        let xs = self.conv_4a.forward(&self.conv_3b.forward(&xs)?)?; // (b, 192, 71, 71)
        let mut xs = ops::max_pool2d(&xs, 3, 2, 0)?; // (b, 192, 35, 35)
        for block in &self.mixed_5 {
            xs = block.forward(&xs)?; // (b, 256 and then 288, 35, 35)
        }
        xs = self.mixed_6a.forward(&xs)?; // (b, 768, 17, 17)
        for block in &self.mixed_6 {
            xs = block.forward(&xs)?;
        }
        xs = self.mixed_7a.forward(&xs)?; // (b, 1280, 8, 8)
        xs = self.mixed_7c.forward(&self.mixed_7b.forward(&xs)?)?; // (b, 2048, 8, 8)
        ops::avg_pool2d_global(&xs)
    }
}
