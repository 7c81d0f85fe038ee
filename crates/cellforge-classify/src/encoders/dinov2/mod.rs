//! DINOv2: a vision transformer that was trained without labels on 142 million photographs.

mod block;
mod input;
mod position;

pub use input::dinov2_input;

use block::{Block, Dense, LayerNorm};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

/// Pixels a side of the images that [`DinoV2`] takes.
pub const DINOV2_SIDE: usize = 224;

/// Features of one attention head, in every DINOv2.
const HEAD: usize = 64;

/// The sizes of a DINOv2. ViT-S/14 is 384 numbers wide with 12 layers, ViT-B/14 768 with 12, ViT-L/14 1024 with 24.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DinoV2Config {
    /// Numbers of a token, and features of an image: a multiple of 64.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads, which divide `hidden`.
    pub heads: usize,
    /// Pixels a side of a patch, which divide 224.
    pub patch: usize,
    /// Patches a side that the position embedding was trained for: 37, of images of 518 pixels.
    pub grid: usize,
    /// Numbers between the two layers of the multilayer perceptron.
    pub mlp: usize,
    /// Register tokens (Darcet et al. 2024), usually 0 or 4.
    pub registers: usize,
}

impl DinoV2Config {
    /// Reads the sizes from the shapes of tensors; `shape` gives that of a name, or none where there is no such tensor.
    ///
    /// # Errors
    /// The first tensor that is missing, or whose shape no DINOv2 has, by name.
    pub fn from_shapes(shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<Self> {
        let of = |name: &str| match shape(name) {
            Some(dims) => Ok(dims),
            None => bail!("cannot find tensor {name}"),
        };
        let misshapen = |name: &str, dims: &[usize], expected: &str| -> Result<usize> {
            bail!("tensor {name} has shape {dims:?}: expected {expected}")
        };
        let name = "embeddings.cls_token";
        let hidden = match of(name)?[..] {
            [1, 1, hidden] if hidden > 0 && hidden.is_multiple_of(HEAD) => hidden,
            ref dims => misshapen(name, dims, "[1, 1, a multiple of 64]")?,
        };
        let name = "embeddings.position_embeddings";
        let grid = match of(name)?[..] {
            [1, tokens, _] if tokens > 1 && (tokens - 1).isqrt().pow(2) == tokens - 1 => (tokens - 1).isqrt(),
            ref dims => misshapen(name, dims, "[1, 1 + a square, hidden]")?,
        };
        let name = "embeddings.patch_embeddings.projection.weight";
        let patch = match of(name)?[..] {
            [_, 3, patch, other] if patch == other && patch > 0 && DINOV2_SIDE.is_multiple_of(patch) => patch,
            ref dims => misshapen(name, dims, "[hidden, 3, patch, patch] with a patch that divides 224")?,
        };
        let name = "embeddings.register_tokens";
        let registers = match shape(name).as_deref() {
            None => 0,
            Some(&[1, registers, _]) => registers,
            Some(dims) => misshapen(name, dims, "[1, registers, hidden]")?,
        };
        let name = "encoder.layer.0.mlp.fc1.bias";
        let mlp = match of(name)?[..] {
            [mlp] => mlp,
            ref dims => misshapen(name, dims, "[numbers]")?,
        };
        let is_layer = |i: &usize| shape(&format!("encoder.layer.{i}.norm1.weight")).is_some();
        let layers = (0..).take_while(is_layer).count();
        Ok(Self { hidden, layers, heads: hidden / HEAD, patch, grid, mlp, registers })
    }

    /// Numbers that the largest layer has for an image: the tokens between the two layers of the perceptron.
    #[must_use]
    pub fn largest(&self) -> usize {
        (1 + self.registers + (DINOV2_SIDE / self.patch).pow(2)) * self.mlp
    }

    /// The name that DINOv2's authors give a network of this width: `vits14`, `vitb14` or `vitl14`, with `_reg` where there are register
    /// tokens. None for other widths.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let size = match self.hidden {
            384 => 's',
            768 => 'b',
            1024 => 'l',
            _ => return None,
        };
        Some(format!("vit{size}{}{}", self.patch, if self.registers > 0 { "_reg" } else { "" }))
    }
}

/// DINOv2 (Oquab et al. 2024, "DINOv2: Learning Robust Visual Features without Supervision", arXiv:2304.07193) in inference mode: a
/// vision transformer whose features come from photographs without labels, and so know nothing of any task.
///
/// Checkpoint keys are Hugging Face's: `embeddings.cls_token`, `encoder.layer.0.attention.attention.query.weight`,
/// `encoder.layer.0.layer_scale1.lambda1`, ... `layernorm.bias`. Networks with register tokens are taken as well, those with SwiGLU
/// (ViT-g/14) are not.
#[derive(Debug, Clone)]
pub struct DinoV2 {
    cfg: DinoV2Config,
    patches: Dense,
    /// `(1, 1 + registers, hidden)`: the class token, with its position, and the registers.
    before: Tensor,
    /// `(1, patches, hidden)`: the positions of the patches.
    positions: Tensor,
    layers: Vec<Block>,
    layernorm: LayerNorm,
}

impl DinoV2 {
    /// Builds the network from the tensors of `vb`.
    ///
    /// # Errors
    /// The first tensor that is missing, or of another shape, by name.
    pub fn new(cfg: &DinoV2Config, vb: VarBuilder) -> Result<Self> {
        let d = cfg.hidden;
        let embeddings = vb.pp("embeddings");
        let side = DINOV2_SIDE / cfg.patch;
        let stored = embeddings.get((1, 1 + cfg.grid * cfg.grid, d), "position_embeddings")?;
        let positions = position::position_embedding(&stored, cfg.grid, side, cfg.registers > 0)?;
        let class = (embeddings.get((1, 1, d), "cls_token")? + positions.narrow(1, 0, 1)?)?;
        let before = if cfg.registers > 0 {
            Tensor::cat(&[class, embeddings.get((1, cfg.registers, d), "register_tokens")?], 1)?
        } else {
            class
        };
        let projection = embeddings.pp("patch_embeddings").pp("projection");
        let kernel = projection.get((d, 3, cfg.patch, cfg.patch), "weight")?.flatten_from(1)?;
        let layer = |i: usize| Block::new(cfg, vb.pp("encoder").pp("layer").pp(i));
        Ok(Self {
            cfg: cfg.clone(),
            patches: Dense::of(kernel, projection.get(d, "bias")?),
            before: before.detach(),
            positions: positions.narrow(1, 1, side * side)?.contiguous()?.detach(),
            layers: (0..cfg.layers).map(layer).collect::<Result<_>>()?,
            layernorm: LayerNorm::new(d, vb.pp("layernorm"))?,
        })
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &DinoV2Config {
        &self.cfg
    }

    /// Images `(b, 3, 224, 224)` as [`dinov2_input`] makes them to the class token after the last normalisation, `(b, hidden)`.
    ///
    /// # Errors
    /// If images are of another shape.
    pub fn features(&self, xs: &Tensor) -> Result<Tensor> {
        if xs.rank() != 4 || xs.dims()[1..] != [3, DINOV2_SIDE, DINOV2_SIDE] {
            let side = DINOV2_SIDE;
            bail!("DINOv2 takes images of shape (batch, 3, {side}, {side}), not {:?}", xs.dims())
        }
        let (b, patch, side) = (xs.dim(0)?, self.cfg.patch, DINOV2_SIDE / self.cfg.patch);
        // A convolution whose stride is its kernel is a product with each patch.
        let xs = xs.reshape(vec![b, 3, side, patch, side, patch])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let patches = self.patches.forward(&xs.reshape((b * side * side, 3 * patch * patch))?)?;
        let (_, before, d) = self.before.dims3()?;
        let patches = patches.reshape((b, side * side, d))?.broadcast_add(&self.positions)?;
        let xs = Tensor::cat(&[self.before.broadcast_as((b, before, d))?.contiguous()?, patches], 1)?; // (b, n, hidden)
        let n = xs.dim(1)?;
        let mut xs = xs.reshape((b * n, d))?;
        for layer in &self.layers {
            xs = layer.forward(&xs, b)?;
        }
        self.layernorm.forward(&xs.reshape((b, n, d))?.narrow(1, 0, 1)?.squeeze(1)?) // Each token is normalised by itself.
    }
}
