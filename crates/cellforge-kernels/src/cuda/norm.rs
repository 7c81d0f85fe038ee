//! Batch normalisation with an activation and a mask.

use super::elements::mask_on;
use super::op::kernel3;
use super::{bytes_ptr, with_ptrs};
use crate::config::BatchStats;
use crate::gpu::{Buffer, Ptr, args, size};
use crate::layout::{channels_first, channels_last};
use crate::mask::DropoutMask;
use crate::tape::{apply3_adding, contiguous, wants};
use candle_core::{Result, Tensor};

/// Mean and inverse deviation of each channel, in the memory of a device.
#[derive(Clone)]
struct Stats {
    mean: Tensor,
    inv_std: Tensor,
    /// Whether they are those of the images themselves, so that the gradient goes through them.
    from_batch: bool,
}

/// Normalisation of images `(b, h, w, c)`, an activation, and a mask.
fn normalised(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    stats: Stats,
    negative_slope: f32,
    mask: Option<&DropoutMask>,
) -> Result<Tensor> {
    let name = if stats.from_batch { "batch_norm_train" } else { "batch_norm_eval" };
    let (keep, scale) = mask_on(mask, xs.device())?;
    let (kept, known) = (keep.clone(), stats.clone());
    let op = kernel3(
        name,
        move |gpu, [x, gamma, beta], [layout, gamma_l, _]| {
            let (len, c) = (layout.shape().elem_count(), size(gamma_l.shape().elem_count())?);
            let keep = bytes_ptr(name, keep.as_ref())?;
            let ys = with_ptrs(name, [&stats.mean, &stats.inv_std], |_, [mean, inv_std]| {
                gpu.map("normalise", len, |ys, n| {
                    args![x, mean, inv_std, gamma, beta, keep, ys, n, c, negative_slope, scale]
                })
            })?;
            Ok((ys, layout.shape().clone()))
        },
        move |[xs, gamma, beta], _, grad, more| {
            let rows = xs.elem_count() / gamma.elem_count();
            let share = if known.from_batch { 1. / rows as f32 } else { 0. };
            let keep = bytes_ptr(name, kept.as_ref())?;
            let operands = [xs, grad, &known.mean, &known.inv_std, gamma, beta];
            let wanted = [xs, gamma, beta].map(wants);
            with_ptrs(name, operands, |gpu, [x, g, mean, inv_std, gamma_ptr, beta_ptr]| {
                let c = gamma.elem_count();
                let (by_beta, by_gamma) = (gpu.buffer(c)?, gpu.buffer(c)?);
                gpu.sum_rows(
                    ["normalise_products", "normalise_products_total"],
                    (rows, c),
                    |parts, [rows, c, rows_a_part]| {
                        args![
                            x,
                            g,
                            mean,
                            inv_std,
                            gamma_ptr,
                            beta_ptr,
                            keep,
                            parts,
                            rows,
                            c,
                            rows_a_part,
                            negative_slope,
                            scale
                        ]
                    },
                    |parts, [count, c]| args![parts, inv_std, &by_beta, &by_gamma, count, c],
                )?;
                let gradient = |more: Option<Ptr>| {
                    let c = size(c)?;
                    let out = gpu.map("normalise_gradient", xs.elem_count(), |out, n| {
                        args![
                            x,
                            g,
                            mean,
                            inv_std,
                            gamma_ptr,
                            beta_ptr,
                            &by_beta,
                            &by_gamma,
                            keep,
                            more,
                            out,
                            n,
                            c,
                            negative_slope,
                            scale,
                            share
                        ]
                    })?;
                    Ok(out.tensor(xs.shape()))
                };
                let by_xs = match (wanted[0], more) {
                    (false, _) => None,
                    (true, None) => Some(gradient(None)?),
                    (true, Some(more)) => Some(with_ptrs(name, [more], |_, [more]| gradient(Some(more)))?),
                };
                let shape = gamma.shape();
                let of = |wanted: bool, sums: Buffer| wanted.then(|| sums.tensor(shape));
                Ok((by_xs, of(wanted[1], by_gamma), of(wanted[2], by_beta)))
            })
        },
    );
    channels_first(&apply3_adding(xs, &contiguous(gamma)?, &contiguous(beta)?, op)?)
}

pub(crate) fn batch_norm_train(
    xs: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    negative_slope: f32,
    mask: Option<&DropoutMask>,
) -> Result<(Tensor, BatchStats)> {
    let xs = channels_last(xs)?;
    let c = gamma.elem_count();
    let rows = xs.elem_count() / c;
    let [mean, inv_std, var_unbiased] = with_ptrs("batch_norm_train", [&xs], |gpu, [x]| {
        let (mean, inv_std, var) = (gpu.buffer(c)?, gpu.buffer(c)?, gpu.buffer(c)?);
        let all_rows = size(rows)?;
        gpu.sum_rows(
            ["batch_statistics", "batch_statistics_total"],
            (rows, c),
            |parts, [rows, c, rows_a_part]| args![x, parts, rows, c, rows_a_part],
            |parts, [count, c]| args![x, parts, &mean, &inv_std, &var, count, all_rows, c, eps as f32],
        )?;
        Ok([mean, inv_std, var].map(|buffer| buffer.tensor(c)))
    })?;
    let stats = Stats { mean: mean.clone(), inv_std, from_batch: true };
    Ok((normalised(&xs, gamma, beta, stats, negative_slope, mask)?, BatchStats { mean, var_unbiased }))
}

pub(crate) fn batch_norm_eval(
    xs: &Tensor,
    [gamma, beta, mean, var]: [&Tensor; 4],
    eps: f64,
    negative_slope: f32,
) -> Result<Tensor> {
    let inv_std = with_ptrs("batch_norm_eval", [&var.detach()], |gpu, [var_ptr]| {
        let out = gpu.map("inverse_deviation", var.elem_count(), |out, n| args![var_ptr, out, n, eps as f32])?;
        Ok(out.tensor(var.shape()))
    })?;
    // A copy: the running mean may move before the gradient is asked for.
    let stats = Stats { mean: mean.detach().copy()?, inv_std, from_batch: false };
    normalised(&channels_last(xs)?, gamma, beta, stats, negative_slope, None)
}
