//! Rows of images on the way from one to another.

use candle_core::Tensor;
use cellforge_data::{View, ViewParts};

use crate::generate::{BATCH, Series, images_of};
use crate::{Error, Result};

/// The most images in a strip.
const LONGEST: usize = 1024;
/// Below this sine of the angle between them, the way between two vectors is taken for straight.
const STRAIGHT: f64 = 1e-6;

/// The way of strips: see [`TrainedGan::interpolate`](crate::TrainedGan::interpolate).
pub(crate) struct Path<'a> {
    series: &'a Series<'a>,
    /// The class that strips go to; none for strips inside of a class, from noise to noise.
    to: Option<u32>,
    steps: usize,
}

impl<'a> Path<'a> {
    pub(crate) fn new(series: &'a Series<'a>, to: Option<u32>, steps: usize) -> Result<Self> {
        if !(2..=LONGEST).contains(&steps) {
            let reason = format!("{steps} is out of range: a strip has from 2 to {LONGEST} images");
            return Err(Error::Invalid { field: "steps", reason });
        }
        Ok(Self { series, to, steps })
    }

    pub(crate) fn strip(&self, number: usize) -> Result<View> {
        let Self { series, to, steps } = *self;
        let place = |step: usize| step as f64 / (steps - 1) as f64;
        let ends = if to.is_some() { [number, number] } else { [2 * number, 2 * number + 1] }.map(|i| series.noise(i));
        let noise = |step| slerp(&ends[0], &ends[1], place(step));

        // Batches are filled up, as those of a series: the number of rows is what the order of sums depends on.
        let mut images: Option<ViewParts> = None;
        for start in (0..steps).step_by(BATCH) {
            let places: Vec<usize> = (start..start + BATCH).map(|step| step.min(steps - 1)).collect();
            let zs = places.iter().flat_map(|&step| noise(step)).collect();
            let zs = Tensor::from_vec(zs, (BATCH, series.latent), series.device)?;
            let rows = |(from, classes)| {
                let row = |&step| class_row(from, to.unwrap_or(from), classes, place(step));
                Tensor::from_vec(places.iter().flat_map(row).collect(), (BATCH, classes), series.device)
            };
            let classes = series.label.map(rows).transpose()?;
            let batch = images_of(series.generator, &zs, classes.as_ref())?;
            match &mut images {
                Some(images) => images.pixels.extend(batch.pixels),
                None => images = Some(batch),
            }
        }
        let mut images = images.expect("a strip has two images or more");
        images.pixels.truncate(steps * images.size.area() * images.channels);
        Ok(View::new(images)?)
    }
}

/// Spherical interpolation (Shoemake 1985, as White 2016 uses it): `(sin((1 - t) w) a + sin(t w) b) / sin w`, where `w` is the angle
/// between `a` and `b`. Where that angle is nearly none or half a turn, no arc is preferred to another and the way is a straight line.
fn slerp(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let angle = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-1.0, 1.0).acos();
    // Noise of zeros has no angle.
    let (weight_a, weight_b) = if angle.is_nan() || angle.sin() < STRAIGHT {
        (1.0 - t, t)
    } else {
        (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin())
    };
    a.iter().zip(b).map(|(a, b)| (weight_a * f64::from(*a) + weight_b * f64::from(*b)) as f32).collect()
}

/// The row between those of two classes.
fn class_row(from: u32, to: u32, classes: usize, t: f64) -> Vec<f32> {
    let mut row = vec![0.0; classes];
    row[from as usize] += 1.0 - t;
    row[to as usize] += t;
    row.into_iter().map(|x: f64| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} is not {expected:?}");
    }

    #[test]
    fn slerp_by_hand() {
        // A quarter turn of radius 3: at a third, 30 degrees; cos and sin of them are sqrt(3) / 2 and 1 / 2.
        let (a, b) = ([3.0, 0.0], [0.0, 3.0]);
        assert_close(&slerp(&a, &b, 1.0 / 3.0), &[3f32.sqrt() * 1.5, 1.5]);
        assert_close(&slerp(&a, &b, 0.5), &[4.5f32.sqrt(), 4.5f32.sqrt()]);
        // The weights do not depend on lengths: half-way of a right angle each is sqrt(1/2).
        assert_close(&slerp(&[1.0, 0.0], &[0.0, 2.0], 0.5), &[0.5f32.sqrt(), 2f32.sqrt()]);
        // The ends are what was given, to the last digit.
        let (a, b) = ([0.1, -0.7, 1.3], [2.1, 0.4, -0.2]);
        assert_eq!((slerp(&a, &b, 0.0), slerp(&a, &b, 1.0)), (a.to_vec(), b.to_vec()));
    }

    #[test]
    fn without_an_arc_the_way_is_straight() {
        assert_close(&slerp(&[1.0, 2.0], &[2.0, 4.0], 0.25), &[1.25, 2.5]);
        assert_close(&slerp(&[1.0, 0.0], &[-1.0, 0.0], 0.25), &[0.5, 0.0]);
        assert_close(&slerp(&[0.0, 0.0], &[4.0, 2.0], 0.5), &[2.0, 1.0]);
        assert_close(&slerp(&[3.0], &[-1.0], 0.5), &[1.0]);
    }

    #[test]
    fn rows_between_classes() {
        assert_eq!(class_row(2, 0, 3, 0.25), [0.25, 0.0, 0.75]);
        assert_eq!(class_row(1, 1, 2, 0.1), [0.0, 1.0]);
    }
}
