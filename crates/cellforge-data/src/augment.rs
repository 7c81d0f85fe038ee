//! Random changes to training images, as Keras's `ImageDataGenerator` makes them.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rng::keyed;
use crate::{Error, ImageSize, Result};

/// How far images are changed at random. The default is the study's. Each image's change is a function of the seed, the
/// epoch and the image's index alone.
///
/// The transformations are those of Keras: for output pixel `p`, the input is read at `M (p - c) + c` with
/// `M = rotation * shift * shear * zoom` around the centre `c`, bilinearly, and pixels outside repeat
/// the nearest edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Rotation: largest angle either way, in degrees.
    #[schemars(range(min = 0.0, max = 180.0))]
    pub rotation: f64,
    /// Zoom of each axis, drawn from `[1 - zoom, 1 + zoom]`.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub zoom: f64,
    /// Shift: largest way along each axis, as a share of the side that it runs along.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub shift: f64,
    /// Shear: largest angle either way, in degrees.
    ///
    /// The study passes 0.05 to Keras, whose unit is the degree: next to nothing.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 90.0))]
    pub shear: f64,
    /// Horizontal flip: half of the images are mirrored left to right.
    pub horizontal_flip: bool,
    /// Vertical flip: half of the images are mirrored top to bottom.
    ///
    /// The study has none. It suits images without an up or down.
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

    /// Checks that each field is within its range. Settings read from a file may hold anything; [`Augment::apply`] does not
    /// look again.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, its value and what it may be.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "augment").map_err(|error| Error::Invalid(error.to_string()))
    }

    /// Whether any image is ever changed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::NONE
    }

    /// The change of image number `index` in `epoch`. `image` holds `height * width * channels` bytes, channels last, and
    /// so does the result.
    ///
    /// # Panics
    /// If `image` has another length; where a field is out of its range, perhaps as well (see [`Augment::validate`]).
    #[must_use]
    pub fn apply(
        &self,
        image: &[u8],
        size: impl Into<ImageSize>,
        channels: usize,
        seed: u64,
        epoch: u64,
        index: u64,
    ) -> Vec<u8> {
        let size = size.into();
        assert_eq!(image.len(), size.area() * channels, "an image of another size");
        let change = self.draw(size, seed, epoch, index);
        let (m, t) = affine(change.rotation, change.shift, change.shear, change.zoom);
        let mut out = warp(image, size, channels, m, t, change.flip);
        if change.upside_down {
            out = out.chunks_exact(size.width * channels).rev().flatten().copied().collect();
        }
        out
    }

    /// What is drawn for one image.
    fn draw(&self, size: ImageSize, seed: u64, epoch: u64, index: u64) -> Change {
        let mut rng = keyed("augment", &[seed, epoch, index]);
        let mut within = |limit: f64| if limit > 0.0 { rng.random_range(-limit..=limit) } else { 0.0 };
        Change {
            rotation: within(self.rotation),
            shift: [within(self.shift) * size.height as f64, within(self.shift) * size.width as f64],
            shear: within(self.shear),
            zoom: [1.0 + within(self.zoom), 1.0 + within(self.zoom)],
            flip: self.horizontal_flip && rng.random::<bool>(),
            upside_down: self.vertical_flip && rng.random::<bool>(),
        }
    }
}

/// The change of one image; its fields are drawn in this order. Angles are in degrees, shifts in pixels, rows first.
struct Change {
    rotation: f64,
    shift: [f64; 2],
    shear: f64,
    zoom: [f64; 2],
    flip: bool,
    upside_down: bool,
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
fn warp(image: &[u8], size: ImageSize, channels: usize, m: [[f64; 2]; 2], t: [f64; 2], flip: bool) -> Vec<u8> {
    let mut out = vec![0; image.len()];
    let (m, t) = (m.map(|row| row.map(|v| v as f32)), t.map(|v| v as f32));
    match channels {
        // With the number of channels known to the compiler, a pixel's loop unrolls.
        1 => warp_into::<1>(image, size, m, t, flip, &mut out),
        3 => warp_into::<3>(image, size, m, t, flip, &mut out),
        // Any other number, one channel at a time.
        _ => {
            let (mut plane, mut warped) = (vec![0; size.area()], vec![0; size.area()]);
            for channel in 0..channels {
                for (to, from) in plane.iter_mut().zip(image[channel..].iter().step_by(channels)) {
                    *to = *from;
                }
                warp_into::<1>(&plane, size, m, t, flip, &mut warped);
                for (to, from) in out[channel..].iter_mut().step_by(channels).zip(&warped) {
                    *to = *from;
                }
            }
        }
    }
    out
}

fn warp_into<const C: usize>(image: &[u8], size: ImageSize, m: [[f32; 2]; 2], t: [f32; 2], flip: bool, out: &mut [u8]) {
    let ImageSize { height, width } = size;
    let [last_y, last_x] = [height, width].map(|side| side as f32 - 1.0);
    let (middle_y, middle_x) = (last_y / 2.0, last_x / 2.0);
    let (pixels, _) = image.as_chunks::<C>();
    let (out, _) = out.as_chunks_mut::<C>();
    for (row, line) in out.chunks_exact_mut(width).enumerate() {
        let dy = row as f32 - middle_y;
        let (from_y, from_x) = (m[0][0] * dy + t[0], m[1][0] * dy + t[1]);
        for (column, out) in line.iter_mut().enumerate() {
            // Keras mirrors after the affine map, so the output's column is mirrored before it is looked up.
            let seen = if flip { width - 1 - column } else { column };
            let dx = seen as f32 - middle_x;
            let y = (m[0][1] * dx + from_y + middle_y).clamp(0.0, last_y);
            let x = (m[1][1] * dx + from_x + middle_x).clamp(0.0, last_x);
            let (y0, x0) = (y as u32 as usize, x as u32 as usize);
            let (fy, fx) = (y - y0 as f32, x - x0 as f32);
            let (below, right) = (if y0 + 1 < height { width } else { 0 }, usize::from(x0 + 1 < width));
            let at = y0 * width + x0;
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
        assert_eq!(warp(&grey, 5.into(), 1, m, t, true), expected);
        // Each channel alike, whatever their number.
        for channels in [2, 3] {
            let repeated: Vec<u8> = grey.iter().flat_map(|v| vec![*v; channels]).collect();
            let all: Vec<u8> = expected.iter().flat_map(|v| vec![*v; channels]).collect();
            assert_eq!(warp(&repeated, 5.into(), channels, m, t, true), all);
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

    /// Checks images that `augment` changed against `place`, which tells where the pixel (y, x), counted from the centre, is read
    /// after what was drawn.
    fn reads_at(augment: &Augment, place: impl Fn(&Change, f64, f64) -> [f64; 2]) {
        const SIDE: usize = 16;
        const LAST: f64 = SIDE as f64 - 1.0;
        // One image rises by 4 a row, the other by 4 a column: a value tells the row or column that it was read at.
        let images = [0, 1]
            .map(|axis| -> Vec<u8> { (0..SIDE * SIDE).map(|p| 100 + 4 * [p / SIDE, p % SIDE][axis] as u8).collect() });
        let mut changed = 0;
        for index in 0..50 {
            let drawn = augment.draw(SIDE.into(), 3, 1, index);
            for (axis, image) in images.iter().enumerate() {
                let out = augment.apply(image, SIDE, 1, 3, 1, index);
                changed += usize::from(out != *image);
                for (p, value) in out.iter().enumerate() {
                    let [y, x] = [p / SIDE, p % SIDE].map(|v| v as f64 - LAST / 2.0);
                    // Past the edge, the edge is repeated.
                    let at = (place(&drawn, y, x)[axis] + LAST / 2.0).clamp(0.0, LAST);
                    let expected = 100.0 + 4.0 * at;
                    assert!(
                        (f64::from(*value) - expected).abs() < 0.51,
                        "image {index}: {value} for {expected} at {p}"
                    );
                }
            }
        }
        assert!(changed > 80, "only {changed} of 100 images changed at all");
    }

    #[test]
    fn a_shift_moves_every_pixel_alike_and_repeats_the_edge() {
        reads_at(&Augment { shift: 0.5, ..Augment::NONE }, |drawn, y, x| [y + drawn.shift[0], x + drawn.shift[1]]);
    }

    #[test]
    fn a_rotation_turns_around_the_centre() {
        reads_at(&Augment { rotation: 90.0, ..Augment::NONE }, |drawn, y, x| {
            let (sin, cos) = drawn.rotation.to_radians().sin_cos();
            [cos * y - sin * x, sin * y + cos * x]
        });
    }

    #[test]
    fn a_zoom_stretches_from_the_centre() {
        reads_at(&Augment { zoom: 0.4, ..Augment::NONE }, |drawn, y, x| [y * drawn.zoom[0], x * drawn.zoom[1]]);
    }

    #[test]
    fn what_is_drawn_fills_its_range_and_stays_within() {
        let (augment, side) = (Augment::default(), 64);
        let drawn: Vec<Change> = (0..2000).map(|index| augment.draw(side.into(), 5, 0, index)).collect();
        let fills = |name: &str, limit: f64, value: &dyn Fn(&Change) -> f64| {
            let values: Vec<f64> = drawn.iter().map(value).collect();
            let (low, high) =
                (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max));
            assert!((-limit..-0.95 * limit).contains(&low), "{name}: {low} is the least of +-{limit}");
            assert!(high > 0.95 * limit && high <= limit, "{name}: {high} is the most of +-{limit}");
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            // The standard error of the mean of 2000 uniform numbers is 0.013 of the limit.
            assert!(mean.abs() < 0.06 * limit, "{name}: mean {mean} of +-{limit}");
        };
        fills("rotation", 20.0, &|change| change.rotation);
        fills("shear", 0.05, &|change| change.shear);
        for axis in [0, 1] {
            fills("shift", 0.05 * side as f64, &|change| change.shift[axis]);
            // 1 + z less 1 is z but for its last digits.
            fills("zoom", 0.05 + 1e-12, &|change| change.zoom[axis] - 1.0);
        }
        assert!(drawn.iter().all(|change| change.shift[0] != change.shift[1] && change.zoom[0] != change.zoom[1]));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for augment in [Augment::default(), Augment::NONE, Augment::FLIPS] {
            augment.validate().unwrap();
        }
        Augment { rotation: 180.0, zoom: 0.99, shift: 1.0, shear: 89.0, ..Augment::NONE }.validate().unwrap();
        for value in [-0.1, 200.0, f64::INFINITY, f64::NAN] {
            for (name, augment) in [
                ("rotation", Augment { rotation: value, ..Augment::NONE }),
                ("zoom", Augment { zoom: value, ..Augment::NONE }),
                ("shift", Augment { shift: value, ..Augment::NONE }),
                ("shear", Augment { shear: value, ..Augment::NONE }),
            ] {
                let error = augment.validate().unwrap_err().to_string();
                assert!(error.contains(name) && error.contains(&value.to_string()), "{error}");
            }
        }
        assert!(Augment { zoom: 1.0, ..Augment::NONE }.validate().is_err());
        assert!(Augment { shear: 90.0, ..Augment::NONE }.validate().is_err());
    }
}
