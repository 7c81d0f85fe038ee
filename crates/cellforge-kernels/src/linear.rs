//! The fully connected layer.

use crate::check::{f32_only, matrix, vector};
use crate::composed;
use candle_core::{Result, Tensor, bail};

/// `xs * weight^T + bias`: `xs` is `(b, in)`, `weight` `(out, in)`, `bias` `(out)`, and the result `(b, out)`.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "linear";
    f32_only(op, &[("xs", xs), ("weight", weight)])?;
    let (_, features) = matrix(op, "xs", xs)?;
    let (out, weight_features) = matrix(op, "weight", weight)?;
    if features != weight_features {
        bail!("{op}: xs {:?} and weight {:?} differ in their number of input features", xs.dims(), weight.dims());
    }
    if let Some(bias) = bias {
        f32_only(op, &[("bias", bias)])?;
        vector(op, "bias", bias, out)?;
    }
    composed::linear(xs, weight, bias)
}
