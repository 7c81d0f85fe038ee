//! The layers of the vision transformer.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use cellforge_nn::{Precision, ops};

use super::DinoV2Config;

/// Added to the variance in layer normalisation.
const EPS: f32 = 1e-6;

/// Layer normalisation (Ba et al. 2016) of tokens `(rows, d)`.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(dims: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get(dims, "weight")?.detach(), bias: vb.get(dims, "bias")?.detach() })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_norm(xs, &self.weight, &self.bias, EPS)
    }
}

/// A fully connected layer: `(rows, c_in)` to `(rows, c_out)`.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    /// `(c_out, c_in)`
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    /// With the layer's own `weight` `(c_out, c_in)` and `bias`.
    fn new(c_in: usize, c_out: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::of(vb.get((c_out, c_in), "weight")?, vb.get(c_out, "bias")?))
    }

    /// With these, which are constants from then on.
    pub fn of(weight: Tensor, bias: Tensor) -> Self {
        Self { weight: weight.detach(), bias: bias.detach() }
    }

    /// This layer and then a product with `scale` `(c_out)`.
    fn scaled(self, scale: &Tensor) -> Result<Self> {
        Ok(Self::of(self.weight.broadcast_mul(&scale.unsqueeze(1)?)?, (self.bias * scale)?))
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, Some(&self.bias), Precision::F32)
    }
}

/// Multi-head self-attention among the tokens of each image: `(b n, d)` to the same shape.
#[derive(Debug, Clone)]
struct Attention {
    /// Queries, keys and values in one product. Queries are scaled beforehand, and the output by the layer scale.
    qkv: Dense,
    output: Dense,
    heads: usize,
}

impl Attention {
    fn new(cfg: &DinoV2Config, scale: &Tensor, vb: VarBuilder) -> Result<Self> {
        let d = cfg.hidden;
        let part = |name: &str| -> Result<(Tensor, Tensor)> {
            let vb = vb.pp("attention").pp(name);
            Ok((vb.get((d, d), "weight")?, vb.get(d, "bias")?))
        };
        let [(q, q_bias), (k, k_bias), (v, v_bias)] = [part("query")?, part("key")?, part("value")?];
        let root = ((d / cfg.heads) as f64).sqrt();
        let weight = Tensor::cat(&[(q / root)?, k, v], 0)?; // (3d, d)
        let bias = Tensor::cat(&[(q_bias / root)?, k_bias, v_bias], 0)?;
        let output = Dense::new(d, d, vb.pp("output").pp("dense"))?.scaled(scale)?;
        Ok(Self { qkv: Dense::of(weight, bias), output, heads: cfg.heads })
    }

    fn forward(&self, xs: &Tensor, images: usize) -> Result<Tensor> {
        let (rows, d) = xs.dims2()?;
        let qkv = self.qkv.forward(xs)?.reshape((images, rows / images, 3 * d))?;
        self.output.forward(&ops::attention(&qkv, self.heads)?.reshape((rows, d))?)
    }
}

/// A pre-norm block with layer scale (Touvron et al. 2021): `(b n, d)` to the same shape.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Dense,
    fc2: Dense,
}

impl Block {
    pub fn new(cfg: &DinoV2Config, vb: VarBuilder) -> Result<Self> {
        let d = cfg.hidden;
        let scale = |name: &str| vb.pp(name).get(d, "lambda1");
        Ok(Self {
            norm1: LayerNorm::new(d, vb.pp("norm1"))?,
            attention: Attention::new(cfg, &scale("layer_scale1")?, vb.pp("attention"))?,
            norm2: LayerNorm::new(d, vb.pp("norm2"))?,
            fc1: Dense::new(d, cfg.mlp, vb.pp("mlp").pp("fc1"))?,
            fc2: Dense::new(cfg.mlp, d, vb.pp("mlp").pp("fc2"))?.scaled(&scale("layer_scale2")?)?,
        })
    }

    pub fn forward(&self, xs: &Tensor, images: usize) -> Result<Tensor> {
        let xs = ops::add(xs, &self.attention.forward(&self.norm1.forward(xs)?, images)?)?;
        let hidden = ops::gelu(&self.fc1.forward(&self.norm2.forward(&xs)?)?)?; // (b n, mlp)
        ops::add(&xs, &self.fc2.forward(&hidden)?)
    }
}
