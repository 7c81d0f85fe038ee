//! The layers of the vision transformer.

use candle_core::{Result, Tensor};
use candle_nn::{
    VarBuilder,
    ops::{layer_norm, softmax_last_dim},
};

use super::DinoV2Config;

/// Added to the variance in layer normalisation.
const EPS: f32 = 1e-6;

/// Layer normalisation (Ba et al. 2016) over the last axis.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(dims: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get(dims, "weight")?, bias: vb.get(dims, "bias")? })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        layer_norm(&xs.contiguous()?, &self.weight, &self.bias, EPS)
    }
}

/// A fully connected layer over the last axis: `(b, n, c_in)` to `(b, n, c_out)`.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    /// `(c_in, c_out)`
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    /// With the layer's own `weight` `(c_out, c_in)` and `bias`.
    pub fn new(c_in: usize, c_out: usize, vb: VarBuilder) -> Result<Self> {
        Self::of(&vb.get((c_out, c_in), "weight")?, vb.get(c_out, "bias")?)
    }

    /// With `weight` `(c_out, c_in)`.
    pub fn of(weight: &Tensor, bias: Tensor) -> Result<Self> {
        Ok(Self { weight: weight.t()?.contiguous()?, bias })
    }

    /// This layer and then a product with `scale` `(c_out)`.
    fn scaled(self, scale: &Tensor) -> Result<Self> {
        Ok(Self { weight: self.weight.broadcast_mul(scale)?, bias: (self.bias * scale)? })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, n, c_in) = xs.dims3()?;
        let ys = xs.reshape((b * n, c_in))?.matmul(&self.weight)?.broadcast_add(&self.bias)?;
        ys.reshape((b, n, ()))
    }
}

/// Multi-head self-attention: `(b, n, d)` to the same shape.
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
        Ok(Self { qkv: Dense::of(&weight, bias)?, output, heads: cfg.heads })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, n, d) = xs.dims3()?;
        let qkv = self.qkv.forward(xs)?.reshape((b, n, 3, self.heads, d / self.heads))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?; // (3, b, heads, n, d / heads)
        let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
        let weights = softmax_last_dim(&q.matmul(&k.t()?)?)?; // (b, heads, n, n)
        let mixed = weights.matmul(&v)?.transpose(1, 2)?.reshape((b, n, d))?;
        self.output.forward(&mixed)
    }
}

/// A pre-norm block with layer scale (Touvron et al. 2021): `(b, n, d)` to the same shape.
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

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = (xs + self.attention.forward(&self.norm1.forward(xs)?)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&xs)?)?.gelu_erf()?; // (b, n, mlp)
        xs + self.fc2.forward(&hidden)?
    }
}
