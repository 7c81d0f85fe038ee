//! Sums whose order of additions depends on shapes alone.

use crate::element::Element;
use crate::simd::vectorised;
use rayon::prelude::*;
use std::ops::DerefMut;

/// Numbers that one task sums in `f32` before it goes on in `f64`.
pub(crate) const CHUNK: usize = 1 << 16;

/// The sum of vectors of one length, added in their order.
pub(crate) fn add_up<V: DerefMut<Target = [f32]> + Default + Sync>(parts: Vec<V>) -> V {
    const CHUNK: usize = 1 << 13;
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    let rest: Vec<V> = parts.collect();
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, sum)| {
        for part in &rest {
            for (s, &x) in sum.iter_mut().zip(&part[chunk * CHUNK..]) {
                *s += x;
            }
        }
    });
    sum
}

/// Numbers in a row of pixels that loops go over at a time: whole pixels that fill whole vectors, and enough of them that the loop
/// costs little beside what it does.
pub(crate) fn row_len(channels: usize) -> usize {
    const LANES: usize = 16;
    const LEAST: usize = 256;
    let whole = (1..=LANES).find(|n| (n * channels).is_multiple_of(LANES)).unwrap_or(1) * channels;
    LEAST.div_ceil(whole) * whole
}

/// Numbers for each channel, repeated to fill a row of [`row_len`].
pub(crate) fn repeat(channels: &[f32]) -> Vec<f32> {
    channels.iter().copied().cycle().take(row_len(channels.len())).collect()
}

/// Elements in a chunk of whole rows of pixels, `about` so many.
pub(crate) fn chunk_len(channels: usize, about: usize) -> usize {
    let row = row_len(channels);
    (about / row).max(1) * row
}

/// For each channel of `(pixels, channels)`, `N` sums over the pixels: `f` gets a row of [`row_len`] numbers (the last may be
/// shorter) and where it begins, and adds to rows of sums.
pub(crate) fn channel_sums_of<const N: usize>(
    len: usize,
    channels: usize,
    f: impl Fn(std::ops::Range<usize>, &mut [Vec<f32>; N]) + Sync,
) -> Vec<[f64; N]> {
    let chunk = chunk_len(channels, CHUNK);
    let partial: Vec<Vec<[f64; N]>> = (0..len.div_ceil(chunk))
        .into_par_iter()
        .map(|i| {
            let mut sums: [Vec<f32>; N] = std::array::from_fn(|_| vec![0f32; row_len(channels)]);
            f(i * chunk..len.min((i + 1) * chunk), &mut sums);
            fold(&sums, channels)
        })
        .collect();
    let mut total = vec![[0f64; N]; channels];
    for partial in &partial {
        for (total, partial) in total.iter_mut().zip(partial) {
            for (total, partial) in total.iter_mut().zip(partial) {
                *total += partial;
            }
        }
    }
    total
}

/// Sums of rows to sums of channels.
pub(crate) fn fold<const N: usize>(rows: &[Vec<f32>; N], channels: usize) -> Vec<[f64; N]> {
    let mut sums = vec![[0f64; N]; channels];
    for (n, row) in rows.iter().enumerate() {
        for pixel in row.chunks(channels) {
            for (sum, &x) in sums.iter_mut().zip(pixel) {
                sum[n] += f64::from(x);
            }
        }
    }
    sums
}

vectorised! {
    /// Adds rows of `row` numbers, of which the last may be shorter, to a row of sums.
    pub(crate) fn add_rows<E: Element>(xs: &'a [E], row: usize, sums: &'a mut [f32]) {
        for xs in xs.chunks(row) {
            for (sum, x) in sums.iter_mut().zip(xs) {
                *sum += x.widen();
            }
        }
    }
}

/// The sum of each channel of `(pixels, channels)`.
pub(crate) fn channel_sums<E: Element>(xs: &[E], channels: usize) -> Vec<f32> {
    let row = row_len(channels);
    let sums = channel_sums_of(xs.len(), channels, |range, [sums]: &mut [Vec<f32>; 1]| {
        add_rows(&xs[range], row, sums);
    });
    sums.into_iter().map(|[sum]| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::Aligned;

    /// However memory happens to lie: parts of one length that end close to a chunk's end.
    #[test]
    fn parts_add_up() {
        for len in [1, 8184, 8192, 20_000] {
            let mut between = Vec::new();
            let parts: Vec<Aligned> = (0..9)
                .map(|part| {
                    between.push(vec![0u8; 24 + 8 * part]);
                    let mut numbers = Aligned::zeros(len);
                    numbers.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 100 * (part + 1)) as f32);
                    numbers
                })
                .collect();
            let sum = add_up(parts);
            assert_eq!(sum.len(), len);
            assert!(sum.iter().enumerate().all(|(i, &x)| x == (i % 100 * 45) as f32), "{len}");
        }
        assert!(add_up(Vec::<Aligned>::new()).is_empty());
    }
}
