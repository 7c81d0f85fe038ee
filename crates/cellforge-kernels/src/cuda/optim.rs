//! Updates of all parameters in one launch.

use super::with_ptrs;
use crate::gather::gathered;
use crate::gpu::{Arg, Ptr, args, blocks, gpu_of, size};
use crate::updates::{AdamNumbers, AdamUpdate, SgdStep, SgdUpdate};
use candle_core::{Result, Tensor, Var, bail};

/// What a row of an optimizer's table has beside the number of elements.
enum Entry<'a> {
    /// A variable, which the kernel may change.
    Var(&'a Var),
    Tensor(&'a Tensor),
    Number(f32),
}

/// Runs a kernel over all rows of a table, in one launch.
fn update<const N: usize, const M: usize>(
    name: &'static str,
    rows: &[[Entry<'_>; N]],
    args: impl FnOnce(&Tensor) -> Result<[Arg; M]>,
) -> Result<()> {
    /// Blocks that share a parameter.
    const BLOCKS: usize = 256;
    let (mut kept, mut table, mut device) = (Vec::new(), Vec::with_capacity(rows.len() * (N + 1)), None);
    for row in rows {
        let mut len = 0;
        for entry in row {
            let tensor = match entry {
                Entry::Number(number) => {
                    table.push(i64::from(number.to_bits()));
                    continue;
                }
                Entry::Var(var) if var.is_contiguous() => var.as_detached_tensor(),
                Entry::Var(var) => bail!("{name}: a variable of shape {:?} is not contiguous", var.dims()),
                Entry::Tensor(tensor) if tensor.is_contiguous() => tensor.detach(),
                Entry::Tensor(tensor) => gathered(tensor)?,
            };
            len = tensor.elem_count();
            table.push(with_ptrs(name, [&tensor], |_, [ptr]| Ok(ptr.bits()))?);
            device.get_or_insert_with(|| tensor.device().clone());
            kept.push(tensor);
        }
        table.push(i64::from(size(len)?));
    }
    let Some(device) = device else { return Ok(()) };
    let table = Tensor::from_vec(table, rows.len() * (N + 1), &device)?;
    gpu_of(&table)?.launch(name, blocks(BLOCKS, rows.len())?, &args(&table)?)
}

/// The address of an optimizer's table, which must be held until its kernel is in the stream.
fn table_ptr(table: &Tensor) -> Result<Ptr> {
    with_ptrs("optimizer update", [table], |_, [table]| Ok(table))
}

pub(crate) fn adam_update(updates: &[AdamUpdate<'_>], numbers: &AdamNumbers) -> Result<()> {
    let AdamNumbers { b1, b2, c1, c2, rate, root, eps } = *numbers;
    let rows: Vec<_> = updates
        .iter()
        .map(|&AdamUpdate { param, grad, m, v }| [Entry::Var(param), Entry::Tensor(grad), Entry::Var(m), Entry::Var(v)])
        .collect();
    update("adam", &rows, |table| Ok(args![table_ptr(table)?, b1, b2, c1, c2, rate, root, eps]))
}

pub(crate) fn sgd_update(updates: &[SgdUpdate<'_>], step: &SgdStep) -> Result<()> {
    let rows: Vec<_> = updates
        .iter()
        .map(|&SgdUpdate { param, grad, velocity, l2 }| {
            [Entry::Var(param), Entry::Tensor(grad), Entry::Var(velocity), Entry::Number((2. * l2) as f32)]
        })
        .collect();
    let (lr, momentum, nesterov) = (step.lr as f32, step.momentum as f32, u32::from(step.nesterov));
    update("sgd", &rows, |table| Ok(args![table_ptr(table)?, lr, momentum, nesterov]))
}

pub(crate) fn ema_update(pairs: &[(&Var, &Tensor)], kept: f32, share: f32) -> Result<()> {
    let rows: Vec<_> = pairs.iter().map(|(average, value)| [Entry::Var(average), Entry::Tensor(value)]).collect();
    update("average", &rows, |table| Ok(args![table_ptr(table)?, kept, share]))
}
