//! Sums whose order of additions depends on the length alone.

/// The sum of `f` over pairs of elements: short runs in `f32` lanes that the compiler can vectorise, then `f64`.
pub(crate) fn sum_pairs(xs: &[f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    const LANES: usize = 16;
    const RUN: usize = 32 * LANES;
    let mut total = 0f64;
    for (xs, ys) in xs.chunks(RUN).zip(ys.chunks(RUN)) {
        let mut lanes = [0f32; LANES];
        let (xs, ys) = (xs.chunks_exact(LANES), ys.chunks_exact(LANES));
        for (&x, &y) in xs.remainder().iter().zip(ys.remainder()) {
            total += f64::from(f(x, y));
        }
        for (xs, ys) in xs.zip(ys) {
            for ((lane, &x), &y) in lanes.iter_mut().zip(xs).zip(ys) {
                *lane += f(x, y);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// The sum of `f` over the elements.
pub(crate) fn sum_by(xs: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    sum_pairs(xs, xs, |x, _| f(x))
}

/// The sum of each channel of `(b, c, plane)` over batch and plane.
pub(crate) fn channel_sums(xs: &[f32], channels: usize, plane: usize) -> Vec<f32> {
    use rayon::prelude::*;
    (0..channels)
        .into_par_iter()
        .map(|c| planes(xs, channels, plane, c).map(|xs| sum_by(xs, |x| x)).sum::<f64>() as f32)
        .collect()
}

/// The planes of channel `c` of `(b, c, plane)`, image by image.
pub(crate) fn planes(xs: &[f32], channels: usize, plane: usize, c: usize) -> impl Iterator<Item = &[f32]> {
    xs.chunks(plane).skip(c).step_by(channels)
}
