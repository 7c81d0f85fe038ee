//! Losses.

use super::op::kernel1;
use super::with_ptrs;
use crate::gpu::{Ptr, args, blocks, elements, size};
use crate::tape::{apply1, contiguous};
use candle_core::{Result, Tensor};

/// The losses of `kernels.cu`, by their numbers there, and what they are called.
pub(crate) const CROSS_ENTROPY: (u32, &str) = (0, "cross_entropy");
pub(crate) const SOFTMAX_BCE: (u32, &str) = (1, "softmax_bce");
pub(crate) const BCE: (u32, &str) = (2, "bce_with_logits");
pub(crate) const HINGE: (u32, &str) = (3, "hinge");
pub(crate) const MEAN: (u32, &str) = (4, "mean");

/// The mean over the rows of a loss of logits, with its number of `kernels.cu`, the classes where it has any, and its parameter.
pub(crate) fn row_loss(
    (kind, name): (u32, &'static str),
    logits: &Tensor,
    targets: Option<&Tensor>,
    param: f32,
) -> Result<Tensor> {
    /// The address of the classes, which must be held until the kernel is in the stream.
    fn ids(name: &str, targets: Option<&Tensor>) -> Result<Option<Ptr>> {
        targets.map(|targets| with_ptrs(name, [targets], |_, [ids]| Ok(ids))).transpose()
    }
    let targets = targets.map(|targets| targets.detach().contiguous()).transpose()?;
    let kept = targets.clone();
    let op = kernel1(
        name,
        move |gpu, x, layout| {
            let (rows, cols) = layout.shape().dims2()?;
            let loss = gpu.buffer(1)?;
            let arguments = args![x, ids(name, targets.as_ref())?, &loss, size(rows)?, size(cols)?, kind, param];
            gpu.launch("row_loss", blocks(1, 1)?, &arguments)?;
            Ok((loss, ().into()))
        },
        move |logits, _, grad| {
            let (rows, cols) = logits.dims2()?;
            let ids = ids(name, kept.as_ref())?;
            with_ptrs(name, [logits, grad], |gpu, [x, upstream]| {
                let out = gpu.buffer(rows * cols)?;
                let arguments = args![x, ids, upstream, &out, size(rows)?, size(cols)?, kind, param];
                gpu.launch("row_loss_gradient", elements(rows)?, &arguments)?;
                Ok(Some(out.tensor(logits.shape())))
            })
        },
    );
    apply1(&contiguous(logits)?, op)
}
