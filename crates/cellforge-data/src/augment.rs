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
    /// Whether half of the images are mirrored top to bottom. Not in the study; a cell has no upside.
    pub vertical_flip: bool,
}

impl Default for Augment {
    fn default() -> Self {
        Self { rotation: 20.0, zoom: 0.05, shift: 0.05, shear: 0.05, horizontal_flip: true, vertical_flip: false }
    }
}

impl Augment {
    /// No change at all.
    pub const NONE: Self =
        Self { rotation: 0.0, zoom: 0.0, shift: 0.0, shear: 0.0, horizontal_flip: false, vertical_flip: false };

    /// Mirrored either way, and no pixel computed anew.
    pub const FLIPS: Self = Self { horizontal_flip: true, vertical_flip: true, ..Self::NONE };

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
        let rotation = within(self.rotation);
        let shift = [within(self.shift) * side as f64, within(self.shift) * side as f64];
        let shear = within(self.shear);
        let zoom = [1.0 + within(self.zoom), 1.0 + within(self.zoom)];
        let flip = self.horizontal_flip && rng.random::<bool>();
        let upside_down = self.vertical_flip && rng.random::<bool>();
        let (m, t) = affine(rotation, shift, shear, zoom);
        let mut out = warp(image, side, channels, m, t, flip);
        if upside_down {
            out = out.chunks_exact(side * channels).rev().flatten().copied().collect();
        }
        out
    }
}

/// The linear part of rotation * shift * shear * zoom, rows first as in Keras, and where it moves the centre. Angles are
/// in degrees, shifts in pixels.
fn affine(rotation: f64, shift: [f64; 2], shear: f64, zoom: [f64; 2]) -> ([[f64; 2]; 2], [f64; 2]) {
    let (sin, cos) = rotation.to_radians().sin_cos();
    let (shear_sin, shear_cos) = shear.to_radians().sin_cos();
    let (s00, s01, s11) = (zoom[0], -shear_sin * zoom[1], shear_cos * zoom[1]);
    let m = [[cos * s00, cos * s01 - sin * s11], [sin * s00, sin * s01 + cos * s11]];
    (m, [cos * shift[0] - sin * shift[1], sin * shift[0] + cos * shift[1]])
}

/// Reads `image` at `m (p - c) + c + t` for each pixel `p` (row, column) around the centre `c`, then mirrors if `flip`.
fn warp(image: &[u8], side: usize, channels: usize, m: [[f64; 2]; 2], t: [f64; 2], flip: bool) -> Vec<u8> {
    let mut out = vec![0; image.len()];
    let (m, t) = (m.map(|row| row.map(|v| v as f32)), t.map(|v| v as f32));
    match channels {
        // With the number of channels known to the compiler, a pixel's loop unrolls.
        1 => warp_into::<1>(image, side, m, t, flip, &mut out),
        3 => warp_into::<3>(image, side, m, t, flip, &mut out),
        // Any other number, one channel at a time.
        _ => {
            let (mut plane, mut warped) = (vec![0; side * side], vec![0; side * side]);
            for channel in 0..channels {
                for (to, from) in plane.iter_mut().zip(image[channel..].iter().step_by(channels)) {
                    *to = *from;
                }
                warp_into::<1>(&plane, side, m, t, flip, &mut warped);
                for (to, from) in out[channel..].iter_mut().step_by(channels).zip(&warped) {
                    *to = *from;
                }
            }
        }
    }
    out
}

fn warp_into<const C: usize>(image: &[u8], side: usize, m: [[f32; 2]; 2], t: [f32; 2], flip: bool, out: &mut [u8]) {
    let centre = (side as f32 - 1.0) / 2.0;
    let last = side as f32 - 1.0;
    let (pixels, _) = image.as_chunks::<C>();
    let (out, _) = out.as_chunks_mut::<C>();
    for (row, line) in out.chunks_exact_mut(side).enumerate() {
        let dy = row as f32 - centre;
        let (from_y, from_x) = (m[0][0] * dy + t[0], m[1][0] * dy + t[1]);
        for (column, out) in line.iter_mut().enumerate() {
            // Keras mirrors after the affine map, so the output's column is mirrored before it is looked up.
            let seen = if flip { side - 1 - column } else { column };
            let dx = seen as f32 - centre;
            let y = (m[0][1] * dx + from_y + centre).clamp(0.0, last);
            let x = (m[1][1] * dx + from_x + centre).clamp(0.0, last);
            let (y0, x0) = (y as u32 as usize, x as u32 as usize);
            let (fy, fx) = (y - y0 as f32, x - x0 as f32);
            let (below, right) = (if y0 + 1 < side { side } else { 0 }, usize::from(x0 + 1 < side));
            let at = y0 * side + x0;
            let (a, b) = (&pixels[at], &pixels[at + right]);
            let (c, d) = (&pixels[at + below], &pixels[at + below + right]);
            for channel in 0..C {
                let [a, b, c, d] = [a, b, c, d].map(|pixel| f32::from(pixel[channel]));
                let (top, bottom) = (a + (b - a) * fx, c + (d - c) * fx);
                out[channel] = (top + (bottom - top) * fy + 0.5) as u8;
            }
        }
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
    fn the_map_is_that_of_keras() {
        // Keras calls SciPy. With R, T, S, Z as in Keras for a rotation of 17 degrees, shifts of 0.3 and -0.6 pixels, a
        // shear of 8 degrees and zooms of 0.9 and 1.15, moved to the centre (2, 2):
        // floor(scipy.ndimage.affine_transform(image, A[:2, :2], A[:2, 2], order=1, mode="nearest") + 0.5)[:, ::-1]
        let expected = [
            22, 161, 48, 181, 153, 115, 140, 133, 151, 104, 159, 115, 116, 125, 55, 210, 89, 88, 99, 23, 173, 64, 194,
            112, 23,
        ];
        let grey: Vec<u8> = (0..25).map(|i| (i * 89 % 251) as u8).collect();
        let (m, t) = affine(17.0, [0.3, -0.6], 8.0, [0.9, 1.15]);
        assert_eq!(warp(&grey, 5, 1, m, t, true), expected);
        // Each channel alike, whatever their number.
        for channels in [2, 3] {
            let repeated: Vec<u8> = grey.iter().flat_map(|v| vec![*v; channels]).collect();
            let all: Vec<u8> = expected.iter().flat_map(|v| vec![*v; channels]).collect();
            assert_eq!(warp(&repeated, 5, channels, m, t, true), all);
        }
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
    fn flips_either_way_make_four_images() {
        let image = image(4);
        let turned = |f: fn(usize, usize) -> usize| -> Vec<u8> {
            (0..16).flat_map(|p| image[f(p / 4, p % 4) * 3..][..3].to_vec()).collect()
        };
        let four: [Vec<u8>; 4] = [
            turned(|y, x| 4 * y + x),
            turned(|y, x| 4 * y + 3 - x),
            turned(|y, x| 4 * (3 - y) + x),
            turned(|y, x| 4 * (3 - y) + 3 - x),
        ];
        let mut counts = [0; 4];
        for i in 0..400 {
            let out = Augment::FLIPS.apply(&image, 4, 3, 0, 0, i);
            counts[four.iter().position(|one| *one == out).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
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
