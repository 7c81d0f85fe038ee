//! Spectral normalisation of a layer's weights.

use crate::ops;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

/// The singular vectors by which a layer's weights are normalised (Miyato et al. 2018): buffers `weight_u` `(rows)` and `weight_v`
/// `(columns)` beside the layer's own parameters, under PyTorch's names.
#[derive(Clone, Debug)]
pub struct SpectralNorm {
    u: Var,
    v: Var,
}

/// Steps of power iteration that random vectors are brought nearer by, as in PyTorch: without any, what the weights are divided by
/// would be any number at all until the first step of training.
const FIRST_STEPS: usize = 15;

/// The vectors of weights `weight`. New ones start from random numbers and power iteration.
pub fn spectral_norm(weight: &Tensor, vb: VarBuilder<'_>) -> Result<SpectralNorm> {
    let rows = weight.dim(0)?;
    let new = !vb.contains_tensor("weight_u");
    let normal = Init::Randn { mean: 0., stdev: 1. };
    let vector = |len: usize, name: &str| Var::from_tensor(&vb.get_with_hints(len, name, normal)?);
    let norm = SpectralNorm { u: vector(rows, "weight_u")?, v: vector(weight.elem_count() / rows, "weight_v")? };
    if new {
        (0..FIRST_STEPS).try_for_each(|_| norm.iterate(&weight.detach()))?;
    }
    Ok(norm)
}

impl SpectralNorm {
    /// `weight` divided by its largest singular value. With `train`, one more step of power iteration is taken first; otherwise the
    /// vectors are those of the last step.
    pub fn apply(&self, weight: &Tensor, train: bool) -> Result<Tensor> {
        if train {
            self.iterate(&weight.detach())?;
        }
        ops::spectral_normalised(weight, &self.u.as_detached_tensor(), &self.v.as_detached_tensor())
    }

    /// A step of power iteration, `v = W^T u / |W^T u|` and `u = W v / |W v|`, such as [`apply`](Self::apply) takes in training.
    ///
    /// # Errors
    /// Weights of another shape.
    pub fn iterate(&self, weight: &Tensor) -> Result<()> {
        let rows = weight.dim(0)?;
        let matrix = weight.reshape((rows, weight.elem_count() / rows))?;
        let unit = |xs: Tensor| -> Result<Tensor> {
            let norm = xs.sqr()?.sum_all()?.sqrt()?;
            xs.broadcast_div(&(norm + 1e-12)?)?.flatten_all()
        };
        let v = unit(self.u.as_detached_tensor().unsqueeze(0)?.matmul(&matrix)?)?;
        let u = unit(matrix.matmul(&v.unsqueeze(1)?)?)?;
        self.v.set(&v)?;
        self.u.set(&u)
    }
}
