//! The position embedding of another number of patches than it was trained for.

use crate::encoders::resample::{Taps, antialiased, plain};
use candle_core::{Device, Result, Tensor};

/// The embedding `(1, 1 + from^2, dims)` of the class token and of a square of patches for a square of `to` patches a side,
/// `(1, 1 + to^2, dims)`. As in Hugging Face's models: bicubic without antialiasing, and with it where there are register tokens.
pub(super) fn position_embedding(embedding: &Tensor, from: usize, to: usize, antialias: bool) -> Result<Tensor> {
    if from == to {
        return Ok(embedding.clone());
    }
    let dims = embedding.dim(2)?;
    let taps = if antialias { antialiased(from, to) } else { plain(from, to) };
    let class = embedding.narrow(1, 0, 1)?;
    let square = embedding.narrow(1, 1, from * from)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    // Columns first, then rows: (from, from, dims) to (from, to, dims) to (to, to, dims).
    let narrow: Vec<f32> = square.chunks_exact(from * dims).flat_map(|row| along(row, &taps, dims)).collect();
    let resized = along(&narrow, &taps, to * dims);
    let resized = Tensor::from_vec(resized, (1, to * to, dims), embedding.device())?;
    Tensor::cat(&[class, resized], 1)
}

/// Sums of runs of `len` values, run by run of the result.
fn along(values: &[f32], taps: &[Taps], len: usize) -> Vec<f32> {
    let mut sums = Vec::with_capacity(taps.len() * len);
    for taps in taps {
        for i in 0..len {
            let part = |&(at, weight): &(usize, f64)| f64::from(values[at * len + i]) * weight;
            sums.push(taps.iter().map(part).sum::<f64>() as f32);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_ramp_by_hand() -> Result<()> {
        // Two numbers a patch: 10 for each row down, and the column, of 4x4 patches after a class token.
        let square = (0..16).flat_map(|i| [10. * (i / 4) as f32, (i % 4) as f32]);
        let values: Vec<f32> = [-1., -2.].into_iter().chain(square).collect();
        let embedding = Tensor::from_vec(values, (1, 17, 2), &Device::Cpu)?;
        let half = position_embedding(&embedding, 4, 2, false)?.flatten_all()?.to_vec1::<f32>()?;
        // Halfway between 0 and 1, with 0 repeated before and 2 behind: -0.09375 * (0 + 2) + 0.59375 * (0 + 1) = 0.40625. The other
        // end is its mirror, 3 - 0.40625.
        let (low, high) = (0.406_25, 2.593_75);
        let expected = [[-1., -2.], [10. * low, low], [10. * low, high], [10. * high, low], [10. * high, high]];
        assert_eq!(half, expected.concat());
        Ok(())
    }
}
