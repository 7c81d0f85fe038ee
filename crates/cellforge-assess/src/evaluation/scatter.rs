//! The images in a plane: principal components of the real ones.

use cellforge_train::FeatureMatrix;

use super::{Scatter, fidelity::Measured, sets::pick};

/// Images of each set that are shown, at most.
const SHOWN: usize = 600;

/// Rounds of the power iteration. The plane is for looking at: a direction that is not found to the last digit is as good.
const ROUNDS: usize = 60;

/// Places some images of each set in the plane of the two largest principal components of the real images.
pub(super) fn scatter(
    real: Measured<'_>,
    holdout: Option<Measured<'_>>,
    synthetic: Measured<'_>,
    seed: u64,
) -> Scatter {
    let shown =
        |set: Measured<'_>| pick(&set.images.view, &(0..set.images.view.len()).collect::<Vec<_>>(), SHOWN, seed);
    let real_rows = shown(real);
    let dims = real.rows.dims;
    let n = real_rows.len() as f64;
    let mut mean = vec![0.0; dims];
    for &row in &real_rows {
        mean.iter_mut().zip(real.rows.row(row)).for_each(|(sum, &x)| *sum += f64::from(x) / n);
    }
    let centred = |matrix: &FeatureMatrix, row: usize| -> Vec<f64> {
        matrix.row(row).iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean).collect()
    };
    let data: Vec<Vec<f64>> = real_rows.iter().map(|&row| centred(real.rows, row)).collect();
    let [first, second] = axes(&data, dims);
    let total: f64 = data.iter().flatten().map(|x| x * x).sum();
    let share = |axis: &[f64]| {
        let along: f64 = data.iter().map(|row| dot(row, axis).powi(2)).sum();
        if total > 0.0 { round(along / total) } else { 0.0 }
    };
    let explained = [share(&first), share(&second)];
    let place = |set: Measured<'_>| -> Vec<(f64, f64, u32)> {
        let at = |row: usize| {
            let row_values = centred(set.rows, row);
            (round(dot(&row_values, &first)), round(dot(&row_values, &second)), set.images.view.label(row))
        };
        shown(set).into_iter().map(at).collect()
    };
    Scatter {
        explained,
        real: place(real),
        holdout: holdout.map(place).unwrap_or_default(),
        synthetic: place(synthetic),
    }
}

/// The two directions of most variance, by power iteration (the second with the first taken out). A sign is chosen so that the largest
/// component is positive.
fn axes(data: &[Vec<f64>], dims: usize) -> [Vec<f64>; 2] {
    let mut found: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for at in 0..2 {
        // Any start that has a part in the direction will do; this one is no direction that data favour.
        let mut axis: Vec<f64> = (0..dims).map(|i| 1.0 + ((i * 7919 + at * 104_729) % 1009) as f64 / 1009.0).collect();
        for _ in 0..ROUNDS {
            let mut next = vec![0.0; dims];
            for row in data {
                let along = dot(row, &axis);
                next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
            }
            if let Some(before) = found[..at].first() {
                let along = dot(&next, before);
                next.iter_mut().zip(before).for_each(|(x, b)| *x -= along * b);
            }
            let norm = dot(&next, &next).sqrt();
            if norm <= f64::MIN_POSITIVE {
                next = vec![0.0; dims];
                axis = next;
                break;
            }
            next.iter_mut().for_each(|x| *x /= norm);
            axis = next;
        }
        let largest = axis.iter().copied().fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
        if largest < 0.0 {
            axis.iter_mut().for_each(|x| *x = -*x);
        }
        found[at] = axis;
    }
    found
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Five digits are more than a plot shows, and keep the file small.
fn round(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(4 - x.abs().log10().floor() as i32);
    (x * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_a_long_cloud() {
        // Long along (3, 4, 0) / 5, shorter along the third axis, nothing across.
        let data: Vec<Vec<f64>> = (-10..=10)
            .map(f64::from)
            .map(|t| vec![3.0 * t, 4.0 * t, if t as i32 % 2 == 0 { 1.0 } else { -1.0 }])
            .collect();
        let [first, second] = axes(&data, 3);
        for (found, expected) in first.iter().zip([0.6, 0.8, 0.0]) {
            assert!((found - expected).abs() < 1e-3, "{first:?}");
        }
        assert!((second[2].abs() - 1.0).abs() < 1e-3, "{second:?}");
        assert_eq!(axes(&[vec![0.0, 0.0]], 2)[0], [0.0, 0.0]);
    }

    #[test]
    fn five_digits() {
        assert_eq!((round(123_456.7), round(-0.001_234_567), round(0.0)), (123_460.0, -0.001_234_6, 0.0));
    }
}
