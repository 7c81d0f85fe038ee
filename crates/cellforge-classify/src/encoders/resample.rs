//! Bicubic resampling along an axis, as Pillow and PyTorch do it.

use cellforge_settings::ImageSize;
use rayon::prelude::*;

/// What a value of the result is made of: values before, each with its weight. Weights sum to 1.
pub(super) type Taps = Vec<(usize, f64)>;

/// Keys's cubic kernel (1981) with slope `a` at 1: Pillow's and PyTorch's antialiased one has -0.5, PyTorch's plain one -0.75.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1. {
        ((a + 2.) * x - (a + 3.)) * x * x + 1.
    } else if x < 2. {
        (((x - 5.) * x + 8.) * x - 4.) * a
    } else {
        0.
    }
}

/// The taps of an axis that is brought from `from` values to `to`, with a kernel that widens as far as the axis shrinks: Pillow's
/// `BICUBIC`, and PyTorch's `interpolate` with `antialias=True`.
pub(super) fn antialiased(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.);
    let reach = 2. * widened;
    let taps = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        // Rounded as a cast to a whole number does it.
        let first = (centre - reach + 0.5).max(0.) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |at: usize| cubic((at as f64 - centre + 0.5) / widened, -0.5);
        let sum: f64 = (first..end).map(weight).sum();
        (first..end).map(|at| (at, weight(at) / sum)).collect()
    };
    (0..to).map(taps).collect()
}

/// The taps of an axis that is brought from `from` values to `to`, four each whatever the sizes: PyTorch's `interpolate` with
/// `size`, `mode="bicubic"` and `align_corners=False`. The first and last value are repeated past the ends.
pub(super) fn plain(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let taps = |i: usize| {
        let at = (i as f64 + 0.5) * scale - 0.5;
        let before = at.floor();
        let tap = |offset: i64| {
            let pixel = (before as i64 + offset).clamp(0, from as i64 - 1) as usize;
            (pixel, cubic(at - before - offset as f64, -0.75))
        };
        (-1..3).map(tap).collect()
    };
    (0..to).map(taps).collect()
}

/// Bits after the point in Pillow's sums.
const BITS: u32 = 32 - 8 - 2;

/// Taps with weights as Pillow rounds them for images of bytes.
fn rounded(taps: &[Taps]) -> Vec<Vec<(usize, i32)>> {
    // Half away from zero, as Pillow adds 0.5 or takes it away before it cuts off.
    let round = |&(at, weight): &(usize, f64)| (at, (weight * f64::from(1 << BITS)).round() as i32);
    taps.iter().map(|taps| taps.iter().map(round).collect()).collect()
}

/// A sum of Pillow's as a byte.
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// An image of `height * width * channels` bytes brought to `to` by `to` pixels, byte for byte as Pillow's `resize` with `BICUBIC`: rows
/// first, then columns, with sums of whole numbers.
pub(super) fn pillow_bicubic(image: &[u8], size: ImageSize, channels: usize, to: usize) -> Vec<u8> {
    if size == ImageSize::square(to) {
        return image.to_vec();
    }
    let ImageSize { height, width } = size;
    let [down, across] = [height, width].map(|side| rounded(&antialiased(side, to)));
    let half = 1 << (BITS - 1);
    let mut narrow = Vec::with_capacity(height * to * channels); // (height, to, channels)
    for row in image.chunks_exact(width * channels) {
        for taps in &across {
            for channel in 0..channels {
                let part = |&(at, weight): &(usize, i32)| i32::from(row[at * channels + channel]) * weight;
                narrow.push(byte(half + taps.iter().map(part).sum::<i32>()));
            }
        }
    }
    let row = to * channels;
    let mut resized = vec![0; to * row];
    resized.par_chunks_mut(row).zip(&down).for_each(|(line, taps)| {
        for (x, value) in line.iter_mut().enumerate() {
            let part = |&(at, weight): &(usize, i32)| i32::from(narrow[at * row + x]) * weight;
            *value = byte(half + taps.iter().map(part).sum::<i32>());
        }
    });
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_by_hand() {
        // With a = -0.5: 1.5 |x|^3 - 2.5 x^2 + 1 within 1, and -0.5 |x|^3 + 2.5 x^2 - 4 |x| + 2 within 2.
        let expected = [(0., 1.), (0.5, 0.5625), (-0.5, 0.5625), (1., 0.), (1.5, -0.0625), (2., 0.), (3., 0.)];
        for (x, y) in expected {
            assert!((cubic(x, -0.5) - y).abs() < 1e-12, "{x}");
        }
        // With a = -0.75: 1.25 / 8 - 2.25 / 4 + 1 = 0.59375, and -0.09375 at 1.5.
        assert_eq!((cubic(0.5, -0.75), cubic(1.5, -0.75)), (0.593_75, -0.093_75));
    }

    #[test]
    fn half_the_size_by_hand() {
        // The value at the middle of four pixels, with the kernel twice as wide: 0.5625 at half, -0.0625 at one and a half, and at
        // quarters 0.8671875 = 1.5 / 64 - 2.5 / 16 + 1, 0.2265625, -0.0703125 and -0.0234375. Half of the sum of each is a weight.
        let taps = &antialiased(16, 8)[3];
        let weights: Vec<f64> = taps.iter().map(|(_, weight)| *weight).collect();
        let side = [-0.023_437_5, -0.070_312_5, 0.226_562_5, 0.867_187_5].map(|weight| weight / 2.);
        let expected: Vec<f64> = side.iter().chain(side.iter().rev()).copied().collect();
        assert_eq!(taps[0].0, 3);
        assert_eq!(weights.len(), 8);
        for (got, expected) in weights.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-12, "{weights:?}");
        }
        let plain = &plain(16, 8)[0];
        // At 0.5, between the first two; the first is repeated on the left.
        assert_eq!(*plain, [(0, -0.093_75), (0, 0.593_75), (1, 0.593_75), (2, -0.093_75)]);
    }

    #[test]
    fn its_own_size_and_flat_images_stay() {
        let image: Vec<u8> = (0..48).collect();
        assert_eq!(pillow_bicubic(&image, 4.into(), 3, 4), image);
        for to in [3, 7, 33] {
            assert!(pillow_bicubic(&[93; 25], 5.into(), 1, to).iter().all(|&value| value == 93));
            assert!(pillow_bicubic(&[93; 24], ImageSize::new(3, 8), 1, to).iter().all(|&value| value == 93));
        }
    }
}
