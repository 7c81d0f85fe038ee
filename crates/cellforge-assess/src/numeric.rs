//! Small computations that several parts share.

use cellforge_data::ImageSize;

/// A Gaussian blur of an image `(height, width, channels)`, separable, cut off at three standard deviations `sigma`, which is in pixels. Pixels
/// beyond the edge repeat it.
pub(crate) fn blur(image: &[f32], size: ImageSize, channels: usize, sigma: f32) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f32> = (-reach..=reach).map(|at| (-0.5 * (at as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = weights.iter().sum();
    let ImageSize { height, width } = size;
    let along = |from: &[f32], (step, side): (usize, usize), place: &dyn Fn(usize) -> usize| -> Vec<f32> {
        let one = |i: usize| {
            let at = place(i) as isize;
            let value = |shift: isize| {
                let moved = (at + shift).clamp(0, side as isize - 1) - at;
                from[(i as isize + moved * step as isize) as usize]
            };
            weights.iter().zip(-reach..).map(|(weight, shift)| weight * value(shift)).sum::<f32>() / total
        };
        (0..from.len()).map(one).collect()
    };
    let across = along(image, (channels, width), &|i| i / channels % width);
    along(&across, (channels * width, height), &|i| i / channels / width)
}

/// The median, between the two middle values where there is an even number; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
