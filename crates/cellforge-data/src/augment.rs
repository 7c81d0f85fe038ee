//! Random changes to training images, as Keras's `ImageDataGenerator` makes them.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::rng::keyed;

/// How far images are changed at random. The default is the study's. Each image's change is a function of the seed, the
/// epoch and the image's index alone.
///
/// The transformations are those of Keras: for output pixel `p`, the input is read at `M (p - c) + c` with
/// `M = rotation * shift * shear * zoom` around the centre `c = (side - 1) / 2`, bilinearly, and pixels outside repeat
/// the nearest edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Largest rotation either way, in degrees.
    pub rotation: f64,
    /// Zoom of each axis, drawn from `[1 - zoom, 1 + zoom]`.
    pub zoom: f64,
    /// Largest shift of each axis either way, as a fraction of the side.
    pub shift: f64,
    /// Largest shear either way, in degrees. The study passes 0.05 to Keras, whose unit is the degree: next to nothing.
    pub shear: f64,
    /// Whether half of the images are mirrored left to right.
    pub horizontal_flip: bool,
}

impl Default for Augment {
    fn default() -> Self {
        Self { rotation: 20.0, zoom: 0.05, shift: 0.05, shear: 0.05, horizontal_flip: true }
    }
}

impl Augment {
    /// No change at all.
    pub const NONE: Self = Self { rotation: 0.0, zoom: 0.0, shift: 0.0, shear: 0.0, horizontal_flip: false };

    /// The change of image number `index` in `epoch`. `image` holds `side * side * channels` bytes, channels last, and
    /// so does the result.
    ///
    /// # Panics
    /// If `image` has another length.
    #[must_use]
    pub fn apply(&self, image: &[u8], side: usize, channels: usize, seed: u64, epoch: u64, index: u64) -> Vec<u8> {
        assert_eq!(image.len(), side * side * channels, "an image of another size");
        let mut rng = keyed("augment", &[seed, epoch, index]);
        let mut within = |limit: f64| if limit > 0.0 { rng.random_range(-limit..=limit) } else { 0.0 };
        let (sin, cos) = within(self.rotation).to_radians().sin_cos();
        let shift = [within(self.shift) * side as f64, within(self.shift) * side as f64];
        let (shear_sin, shear_cos) = within(self.shear).to_radians().sin_cos();
        let zoom = [1.0 + within(self.zoom), 1.0 + within(self.zoom)];
        let flip = self.horizontal_flip && rng.random::<bool>();

        // Rows first, as in Keras: (row, column) -> R * T * S * Z, an affine map.
        let (s00, s01, s10, s11) = (zoom[0], -shear_sin * zoom[1], 0.0, shear_cos * zoom[1]);
        let m = [
            [cos * s00 - sin * s10, cos * s01 - sin * s11],
            [sin * s00 + cos * s10, sin * s01 + cos * s11],
        ];
        let t = [cos * shift[0] - sin * shift[1], sin * shift[0] + cos * shift[1]];
        let centre = (side as f64 - 1.0) / 2.0;
        let last = side as f64 - 1.0;

        let mut out = vec![0; image.len()];
        for row in 0..side {
            for column in 0..side {
                // Keras mirrors after the affine map, so the output's column is mirrored before it is looked up.
                let seen = if flip { side - 1 - column } else { column };
                let (dy, dx) = (row as f64 - centre, seen as f64 - centre);
                let y = (m[0][0] * dy + m[0][1] * dx + t[0] + centre).clamp(0.0, last);
                let x = (m[1][0] * dy + m[1][1] * dx + t[1] + centre).clamp(0.0, last);
                let pixel = &mut out[(row * side + column) * channels..][..channels];
                sample(image, side, channels, y as f32, x as f32, pixel);
            }
        }
        out
    }
}

/// Bilinear value of `image` at (y, x), both in `[0, side - 1]`.
fn sample(image: &[u8], side: usize, channels: usize, y: f32, x: f32, out: &mut [u8]) {
    let (y0, x0) = (y as usize, x as usize);
    let (y1, x1) = ((y0 + 1).min(side - 1), (x0 + 1).min(side - 1));
    let (fy, fx) = (y - y0 as f32, x - x0 as f32);
    let at = |y: usize, x: usize| &image[(y * side + x) * channels..][..channels];
    let (a, b, c, d) = (at(y0, x0), at(y0, x1), at(y1, x0), at(y1, x1));
    for (channel, value) in out.iter_mut().enumerate() {
        let top = f32::from(a[channel]) * (1.0 - fx) + f32::from(b[channel]) * fx;
        let bottom = f32::from(c[channel]) * (1.0 - fx) + f32::from(d[channel]) * fx;
        *value = (top * (1.0 - fy) + bottom * fy + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(side: usize) -> Vec<u8> {
        (0..side * side * 3).map(|i| (i * 89 % 251) as u8).collect()
    }

    #[test]
    fn no_change_returns_the_same_bytes() {
        let image = image(9);
        assert_eq!(Augment::NONE.apply(&image, 9, 3, 1, 2, 3), image);
    }

    #[test]
    fn a_change_is_a_function_of_seed_epoch_and_index() {
        let (augment, image) = (Augment::default(), image(16));
        let of = |seed, epoch, index| augment.apply(&image, 16, 3, seed, epoch, index);
        assert_eq!(of(1, 2, 3), of(1, 2, 3));
        for other in [of(2, 2, 3), of(1, 3, 3), of(1, 2, 4)] {
            assert_ne!(of(1, 2, 3), other);
        }
    }

    #[test]
    fn flips_mirror_about_half_of_the_images() {
        let augment = Augment { horizontal_flip: true, ..Augment::NONE };
        let image = image(4);
        let mirrored: Vec<u8> = (0..16).flat_map(|p| image[(p / 4 * 4 + 3 - p % 4) * 3..][..3].to_vec()).collect();
        let outs: Vec<Vec<u8>> = (0..200).map(|i| augment.apply(&image, 4, 3, 0, 0, i)).collect();
        assert!(outs.iter().all(|out| *out == image || *out == mirrored));
        let flips = outs.iter().filter(|out| **out == mirrored).count();
        assert!((70..130).contains(&flips), "{flips} of 200");
    }

    #[test]
    fn a_quarter_turn_moves_pixels_as_a_rotation_does() {
        // Whatever the angle drawn from [-90, 90], the centre of an odd image stays, and a uniform image stays uniform.
        let augment = Augment { rotation: 90.0, ..Augment::NONE };
        let mut image = vec![10; 5 * 5];
        image[12] = 200;
        for index in 0..20 {
            let out = augment.apply(&image, 5, 1, 0, 0, index);
            assert_eq!(out[12], 200);
            assert!(out.iter().all(|v| (10..=200).contains(v)));
        }
    }

    #[test]
    fn shifts_repeat_the_edge() {
        // A horizontal gradient shifted by up to half its width never shows a value it did not hold.
        let augment = Augment { shift: 0.5, ..Augment::NONE };
        let image: Vec<u8> = (0..64).map(|i| 100 + (i % 8) as u8).collect();
        for index in 0..20 {
            let out = augment.apply(&image, 8, 1, 3, 1, index);
            assert!(out.iter().all(|v| (100..=107).contains(v)));
            assert!(out.chunks(8).all(|row| row.windows(2).all(|pair| pair[0] <= pair[1])));
        }
    }
}
