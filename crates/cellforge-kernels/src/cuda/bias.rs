//! The gradient of a bias.

use super::with_ptrs;
use crate::tape::wants;
use candle_core::{Result, Tensor};

/// The gradient of a bias that was added to each channel, where it is asked for.
pub(super) fn bias_gradient(op: &str, bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !wants(bias) {
        return Ok(None);
    }
    let c = bias.elem_count();
    let sums = with_ptrs(op, [grad], |gpu, [g]| gpu.channel_sums(g, grad.elem_count() / c, c))?;
    Ok(Some(sums.tensor(bias.shape())))
}
