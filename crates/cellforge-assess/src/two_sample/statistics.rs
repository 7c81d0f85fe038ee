//! Statistics of single images that a person can read: what a difference that a network sees may consist of.

use cellforge_data::{ImageSize, View};
use cellforge_train::FeatureMatrix;
use rayon::prelude::*;

/// Bands of the spectrum, from one cycle an image to the highest frequency of the grid.
const BANDS: usize = 8;

/// Grey levels by which pixels are counted: first and last of each, after 0 itself.
const LEVELS: [(u8, u8); 7] = [(1, 19), (20, 49), (50, 99), (100, 149), (150, 199), (200, 254), (255, 255)];

/// Added to a power before its logarithm, in squared grey levels.
const LEAST_POWER: f64 = 1e-3;

/// What a number of a row means, in words that complete "the ... differs".
pub(super) fn names(channels: usize) -> Vec<(String, Unit)> {
    let mut names = vec![("share of pixels of grey level 0".to_owned(), Unit::Share)];
    let level = |(first, last): (u8, u8)| {
        if first == last {
            format!("of grey level {first}")
        } else {
            format!("with grey levels from {first} to {last}")
        }
    };
    names.extend(LEVELS.map(|range| (format!("share of pixels {}", level(range)), Unit::Share)));
    names.push(("number of different grey levels".to_owned(), Unit::Number));
    names.push(("share of pixels with an even grey level".to_owned(), Unit::Share));
    if channels == 3 {
        for colour in ["red", "green", "blue"] {
            names.push((format!("mean {colour}"), Unit::Number));
            names.push((format!("spread of {colour} (standard deviation)"), Unit::Number));
            names.push((format!("share of pixels with {colour} from 1 to 19"), Unit::Share));
            names.push((format!("share of pixels with {colour} 255"), Unit::Share));
        }
        for pair in ["red and green", "red and blue", "green and blue"] {
            names.push((format!("correlation of {pair}"), Unit::Number));
        }
        names.push(("mean difference between the largest and the smallest colour".to_owned(), Unit::Number));
        names.push(("largest difference between two colours of a pixel".to_owned(), Unit::Number));
    } else {
        names.push(("mean grey level".to_owned(), Unit::Number));
        names.push(("spread of grey levels (standard deviation)".to_owned(), Unit::Number));
    }
    for name in [
        "sharpness (mean of the absolute Laplacian)",
        "sharpest pixel (largest absolute Laplacian)",
        "mean difference between neighbours in a row",
        "mean difference between neighbours in a column",
    ] {
        names.push((name.to_owned(), Unit::Number));
    }
    names.push(("share of pixels that equal their neighbours".to_owned(), Unit::Share));
    names.push(("share of pixels on a strong edge".to_owned(), Unit::Share));
    names
        .extend((1..=BANDS).map(|band| (format!("log power in band {band} of {BANDS} of the spectrum"), Unit::Number)));
    for name in [
        "log power at every second pixel of a row",
        "log power at every second pixel of a column",
        "log power of a checkerboard",
        "checkerboard (mean difference between black and white squares)",
        "difference between even and odd columns",
        "difference between even and odd rows",
        "excess of steps at the borders of 8 x 8 blocks",
    ] {
        names.push((name.to_owned(), Unit::Number));
    }
    names
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share, as percent.
    Share,
    /// A plain number.
    Number,
}

/// A row of numbers for each image that a person can read: shares of grey levels, colours, sharpness, the spectrum, and patterns that are
/// fixed to the grid of pixels.
#[must_use]
pub fn image_statistics(images: &View) -> FeatureMatrix {
    let (size, channels) = (images.size(), images.channels());
    let dims = names(channels).len();
    let transform = Transform::new(size.shorter());
    let rows: Vec<Vec<f32>> =
        (0..images.len()).into_par_iter().map(|i| row(images.image(i), size, channels, &transform)).collect();
    debug_assert!(rows.iter().all(|row| row.len() == dims));
    FeatureMatrix { values: rows.concat(), dims }
}

fn row(image: &[u8], size: ImageSize, channels: usize, transform: &Transform) -> Vec<f32> {
    let grey: Vec<f64> = image
        .chunks_exact(channels)
        .map(|pixel| pixel.iter().map(|&x| f64::from(x)).sum::<f64>() / channels as f64)
        .collect();
    let mut row: Vec<f64> = Vec::new();
    levels(&grey, &mut row);
    colours(image, channels, &mut row);
    detail(&grey, size, &mut row);
    spectrum(&grey, size, transform, &mut row);
    phases(&grey, size, &mut row);
    row.into_iter().map(|x| x as f32).collect()
}

fn levels(grey: &[f64], row: &mut Vec<f64>) {
    let mut counts = [0_usize; 256];
    // A pixel is black or white only where all of its colours are.
    let level = |x: f64| if x > 0.0 && x < 1.0 { 1 } else { x as usize };
    grey.iter().for_each(|&x| counts[level(x)] += 1);
    let share = |n: usize| n as f64 / grey.len() as f64;
    row.push(share(counts[0]));
    row.extend(LEVELS.map(|(first, last)| share(counts[usize::from(first)..=usize::from(last)].iter().sum())));
    row.push(counts.iter().filter(|&&n| n > 0).count() as f64);
    row.push(share(counts.iter().step_by(2).sum()));
}

fn colours(image: &[u8], channels: usize, row: &mut Vec<f64>) {
    let n = (image.len() / channels) as f64;
    let plane = |c: usize| image.iter().skip(c).step_by(channels).map(|&x| f64::from(x));
    let mean: Vec<f64> = (0..channels).map(|c| plane(c).sum::<f64>() / n).collect();
    let product =
        |a: usize, b: usize| plane(a).zip(plane(b)).map(|(x, y)| (x - mean[a]) * (y - mean[b])).sum::<f64>() / n;
    for (c, &level) in mean.iter().enumerate() {
        row.extend([level, product(c, c).sqrt()]);
        if channels == 3 {
            row.push(plane(c).filter(|x| (1.0..=19.0).contains(x)).count() as f64 / n);
            row.push(plane(c).filter(|&x| x >= 255.0).count() as f64 / n);
        }
    }
    if channels == 3 {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let scale = (product(a, a) * product(b, b)).sqrt();
            row.push(if scale > 0.0 { product(a, b) / scale } else { 1.0 });
        }
        let spread = |pixel: &[u8]| {
            let (least, most) = pixel.iter().fold((255, 0), |(least, most): (u8, u8), &x| (least.min(x), most.max(x)));
            f64::from(most - least)
        };
        row.push(image.chunks_exact(channels).map(spread).sum::<f64>() / n);
        row.push(image.chunks_exact(channels).map(spread).fold(0.0, f64::max));
    }
}

fn detail(grey: &[f64], size: ImageSize, row: &mut Vec<f64>) {
    let ImageSize { height, width } = size;
    let at = |x: usize, y: usize| grey[y * width + x];
    let (mut sum, mut largest, mut inner) = (0.0, 0.0_f64, 0_usize);
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let laplacian = (at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4.0 * at(x, y)).abs();
            sum += laplacian;
            largest = largest.max(laplacian);
            inner += 1;
        }
    }
    row.extend([sum / inner.max(1) as f64, largest]);
    let (mut across, mut down, mut flat, mut strong) = (0.0, 0.0, 0_usize, 0_usize);
    for y in 0..height.saturating_sub(1) {
        for x in 0..width.saturating_sub(1) {
            let (dx, dy) = (at(x + 1, y) - at(x, y), at(x, y + 1) - at(x, y));
            across += dx.abs();
            down += dy.abs();
            flat += usize::from(dx == 0.0 && dy == 0.0);
            strong += usize::from(dx.hypot(dy) > 32.0);
        }
    }
    let n = (height.saturating_sub(1) * width.saturating_sub(1)).max(1) as f64;
    row.extend([across / n, down / n, flat as f64 / n, strong as f64 / n]);
}

/// Log power by distance from the mean level, then at the three corners of the spectrum, where upsampling and compression leave traces.
fn spectrum(grey: &[f64], size: ImageSize, transform: &Transform, row: &mut Vec<f64>) {
    let n = transform.side;
    let power = transform.power(grey, size);
    let log = |sum: f64, count: usize| (sum / count.max(1) as f64 + LEAST_POWER).log10();
    let half = n / 2;
    let mut bands = [(0.0, 0_usize); BANDS];
    for v in 0..n {
        for u in 0..n {
            let (fu, fv) = (u.min(n - u) as f64, v.min(n - v) as f64);
            let radius = fu.hypot(fv) / half.max(1) as f64;
            if (u, v) != (0, 0) {
                let band = ((radius * BANDS as f64).ceil() as usize).clamp(1, BANDS) - 1;
                bands[band].0 += power[v * n + u];
                bands[band].1 += 1;
            }
        }
    }
    row.extend(bands.map(|(sum, count)| log(sum, count)));
    row.push(log((0..half).map(|v| power[v * n + half]).sum(), half));
    row.push(log((0..half).map(|u| power[half * n + u]).sum(), half));
    row.push(log(power[half * n + half], 1));
}

/// Patterns that are fixed to the grid of pixels.
fn phases(grey: &[f64], size: ImageSize, row: &mut Vec<f64>) {
    let ImageSize { height, width } = size;
    let signed = |sign: &dyn Fn(usize, usize) -> bool| {
        let mut sums = [(0.0, 0_usize); 2];
        for (i, &x) in grey.iter().enumerate() {
            let sum = &mut sums[usize::from(sign(i % width, i / width))];
            sum.0 += x;
            sum.1 += 1;
        }
        sums[0].0 / sums[0].1.max(1) as f64 - sums[1].0 / sums[1].1.max(1) as f64
    };
    row.push(signed(&|x, y| (x + y) % 2 == 1));
    row.push(signed(&|x, _| x % 2 == 1));
    row.push(signed(&|_, y| y % 2 == 1));
    let (mut border, mut elsewhere) = ((0.0, 0_usize), (0.0, 0_usize));
    let mut step = |at: usize, difference: f64| {
        let sum = if at.is_multiple_of(8) { &mut border } else { &mut elsewhere };
        sum.0 += difference.abs();
        sum.1 += 1;
    };
    for line in 0..size.longer() {
        for at in 1..size.longer() {
            if line < height && at < width {
                step(at, grey[line * width + at] - grey[line * width + at - 1]);
            }
            if line < width && at < height {
                step(at, grey[at * width + line] - grey[(at - 1) * width + line]);
            }
        }
    }
    row.push(border.0 / border.1.max(1) as f64 - elsewhere.0 / elsewhere.1.max(1) as f64);
}

/// The power spectrum of the largest central square whose side is a power of two.
struct Transform {
    side: usize,
    /// `exp(-2 pi i k / side)`.
    roots: Vec<(f64, f64)>,
}

impl Transform {
    fn new(side: usize) -> Self {
        let side = 1 << side.max(1).ilog2();
        let root = |k: usize| {
            let angle = -std::f64::consts::TAU * k as f64 / side as f64;
            (angle.cos(), angle.sin())
        };
        Self { side, roots: (0..side).map(root).collect() }
    }

    /// Squared magnitudes over the number of pixels, row by row from frequency 0.
    fn power(&self, grey: &[f64], size: ImageSize) -> Vec<f64> {
        let n = self.side;
        let (top, left) = ((size.height - n) / 2, (size.width - n) / 2);
        let mut values: Vec<(f64, f64)> =
            (0..n * n).map(|i| (grey[(top + i / n) * size.width + left + i % n], 0.0)).collect();
        values.chunks_exact_mut(n).for_each(|row| self.line(row));
        let mut column = vec![(0.0, 0.0); n];
        for x in 0..n {
            (0..n).for_each(|y| column[y] = values[y * n + x]);
            self.line(&mut column);
            (0..n).for_each(|y| values[y * n + x] = column[y]);
        }
        values.iter().map(|(re, im)| (re * re + im * im) / (n * n) as f64).collect()
    }

    /// The discrete Fourier transform in place: bits of the index reversed, then butterflies (Cooley and Tukey 1965).
    fn line(&self, values: &mut [(f64, f64)]) {
        let n = values.len();
        let bits = n.trailing_zeros();
        for i in 0..n {
            let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
            if i < j {
                values.swap(i, j);
            }
        }
        let mut half = 1;
        while half < n {
            for start in (0..n).step_by(2 * half) {
                for k in 0..half {
                    let (re, im) = self.roots[k * (n / (2 * half))];
                    let (a, b) = (values[start + k], values[start + k + half]);
                    let b = (b.0 * re - b.1 * im, b.0 * im + b.1 * re);
                    values[start + k] = (a.0 + b.0, a.1 + b.1);
                    values[start + k + half] = (a.0 - b.0, a.1 - b.1);
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    fn of(size: impl Into<ImageSize>, channels: usize, pixels: Vec<u8>) -> impl Fn(&str) -> f32 {
        let view = View::new(ViewParts { size: size.into(), channels, pixels, ..ViewParts::default() }).unwrap();
        let row = image_statistics(&view).values;
        let names = names(channels);
        assert_eq!(names.len(), row.len());
        move |name| row[names.iter().position(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}"))]
    }

    #[test]
    fn grey_levels_are_counted() {
        // Of 16 pixels, 4 are 0, 2 are 10, 10 are 255.
        let found = of(4, 1, [[0; 4].as_slice(), &[10; 2], &[255; 10]].concat());
        assert_eq!(found("share of pixels of grey level 0"), 0.25);
        assert_eq!(found("share of pixels with grey levels from 1 to 19"), 0.125);
        assert_eq!(found("share of pixels of grey level 255"), 0.625);
        assert_eq!(found("number of different grey levels"), 3.0);
        assert_eq!(found("share of pixels with an even grey level"), 0.375);
    }

    #[test]
    fn a_checkerboard_is_a_checkerboard() {
        let pixels = (0..64).map(|i| if (i % 8 + i / 8) % 2 == 0 { 106 } else { 94 }).collect();
        let found = of(8, 1, pixels);
        assert_eq!(found("checkerboard (mean difference between black and white squares)"), 12.0);
        assert_eq!(found("difference between even and odd columns"), 0.0);
        // Four neighbours differ by 12 each.
        assert_eq!(found("sharpness (mean of the absolute Laplacian)"), 48.0);
        // All power but that of the mean lies in one number: 6^2 for each of 64 pixels.
        assert!((found("log power of a checkerboard") - (36.0_f32 * 64.0 + 0.001).log10()).abs() < 1e-5);
        assert!((found("log power in band 1 of 8 of the spectrum") + 3.0).abs() < 1e-5);
    }

    #[test]
    fn rectangles_are_seen_row_by_row() {
        // Four rows of eight columns: as in the square, and columns alone.
        let found =
            of(ImageSize::new(4, 8), 1, (0..32).map(|i| if (i % 8 + i / 8) % 2 == 0 { 106 } else { 94 }).collect());
        assert_eq!(found("checkerboard (mean difference between black and white squares)"), 12.0);
        assert_eq!(found("sharpness (mean of the absolute Laplacian)"), 48.0);
        // The middle square of 4x4 pixels is transformed.
        assert!((found("log power of a checkerboard") - (36.0_f32 * 16.0 + 0.001).log10()).abs() < 1e-5);
        let found = of(ImageSize::new(4, 8), 1, (0..32).map(|i| if i % 2 == 0 { 106 } else { 94 }).collect());
        assert_eq!(found("difference between even and odd columns"), 12.0);
        assert_eq!(found("difference between even and odd rows"), 0.0);
    }

    #[test]
    fn the_transform_keeps_the_energy_and_finds_a_wave() {
        let n = 16;
        let transform = Transform::new(n);
        let wave = |i: usize| 3.0 * (std::f64::consts::TAU * 2.0 * (i % n) as f64 / n as f64).cos();
        let grey: Vec<f64> = (0..n * n).map(wave).collect();
        let power = transform.power(&grey, n.into());
        // Parseval.
        let energy: f64 = grey.iter().map(|x| x * x).sum();
        assert!((power.iter().sum::<f64>() - energy).abs() < 1e-9 * energy);
        // Half of it at two cycles across, half at the mirrored frequency.
        assert!((power[2] - energy / 2.0).abs() < 1e-9 * energy && (power[n - 2] - energy / 2.0).abs() < 1e-9 * energy);
    }

    #[test]
    fn block_borders_and_colours_are_seen() {
        // Two blocks of 8 columns, 100 and 120: 16 steps of 20 among 16 at the border in rows, none in columns (16 places at the border).
        let found = of(16, 1, (0..256).map(|i| if i % 16 < 8 { 100 } else { 120 }).collect());
        assert_eq!(found("excess of steps at the borders of 8 x 8 blocks"), 10.0);
        let found = of(2, 3, vec![10, 20, 30, 20, 10, 30, 10, 20, 30, 20, 10, 30]);
        assert_eq!(found("correlation of red and green"), -1.0);
        assert_eq!((found("mean red"), found("spread of red (standard deviation)")), (15.0, 5.0));
        assert_eq!(found("mean difference between the largest and the smallest colour"), 20.0);
    }
}
