//! How an image of another shape becomes one of the set's size.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ImageSize;
use crate::view::Original;

/// How an image of another shape becomes one of the set's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// What suits the set: `pad` where the shape of one image in twenty differs from the set's by a factor above 1.5, and `stretch` otherwise.
    #[default]
    Auto,
    /// Both sides are scaled, each by its own factor, as Pillow's `resize` does.
    Stretch,
    /// The whole image is scaled and lies in the middle. The rest has the median colour of the image's outermost pixels.
    Pad,
    /// The image is scaled until it covers the size, and its middle is kept.
    Crop,
}

/// Shapes that differ by less than this factor are stretched where nothing else is asked for.
const MOST_STRETCH: f64 = 1.5;
/// The share of images whose shapes may differ by more.
const SHARE: f64 = 0.05;

impl Fit {
    /// What `self` means for images of these widths and heights.
    pub(crate) fn settled(self, originals: &[(usize, usize)], size: ImageSize) -> Self {
        match self {
            Self::Auto => {
                let shapes = originals.iter().map(|&(width, height)| (ImageSize::new(height, width), 1)).collect();
                if most_of(shapes, size) > MOST_STRETCH { Self::Pad } else { Self::Stretch }
            }
            other => other,
        }
    }
}

/// By what factor the shape of an image differs from `size`: 2 for one that is twice as wide, or twice as high, for its other side.
fn factor(original: ImageSize, size: ImageSize) -> f64 {
    let aspect = |size: ImageSize| size.width as f64 / size.height as f64;
    (aspect(original) / aspect(size)).ln().abs().exp()
}

/// The factor above which the shapes of at most [`SHARE`] of the images differ from `size`, for sizes with the numbers of their images;
/// 1 where there are none.
fn most_of(shapes: Vec<(ImageSize, usize)>, size: ImageSize) -> f64 {
    let total: usize = shapes.iter().map(|(_, images)| images).sum();
    let mut factors: Vec<(f64, usize)> = shapes.iter().map(|(shape, images)| (factor(*shape, size), *images)).collect();
    factors.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut above = (total as f64 * SHARE) as usize;
    let found = factors.iter().find(|(_, images)| match above.checked_sub(*images) {
        Some(rest) => {
            above = rest;
            false
        }
        None => true,
    });
    found.map_or(1.0, |(factor, _)| *factor)
}

/// The factor above which the shapes of at most one image in twenty differ from `size`; 1 where no original is known.
///
/// An image that is twice as wide for its height as `size` is differs by 2, and so does one that is half as wide.
#[must_use]
pub fn shape_factor(originals: &[Original], size: ImageSize) -> f64 {
    let shape = |of: &Original| (ImageSize::new(of.height, of.width), of.images);
    most_of(originals.iter().map(shape).collect(), size)
}

/// An image of `width * height * channels` bytes as one of `size`, with a Lanczos filter of 3 lobes; `channels` is 1 or 3.
pub(crate) fn fitted(
    pixels: Vec<u8>,
    from: ImageSize,
    channels: usize,
    to: ImageSize,
    fit: Fit,
) -> Result<Vec<u8>, String> {
    match fit {
        Fit::Auto | Fit::Stretch => stretched(pixels, from, channels, to),
        Fit::Pad => {
            let inner = inside(from, to);
            if inner == to {
                return stretched(pixels, from, channels, to);
            }
            let colour = border_colour(&pixels, from, channels);
            let image = stretched(pixels, from, channels, inner)?;
            let mut padded = colour.repeat(to.area());
            let (top, left) = ((to.height - inner.height) / 2, (to.width - inner.width) / 2);
            for (y, row) in image.chunks_exact(inner.width * channels).enumerate() {
                padded[((top + y) * to.width + left) * channels..][..row.len()].copy_from_slice(row);
            }
            Ok(padded)
        }
        Fit::Crop => {
            let part = inside(to, from);
            let (top, left) = ((from.height - part.height) / 2, (from.width - part.width) / 2);
            let rows = pixels.chunks_exact(from.width * channels).skip(top).take(part.height);
            let kept = rows.flat_map(|row| &row[left * channels..][..part.width * channels]).copied().collect();
            stretched(kept, part, channels, to)
        }
    }
}

/// The largest size of the shape of `shape` within `frame`, each side rounded to whole pixels and at least 1.
fn inside(shape: ImageSize, frame: ImageSize) -> ImageSize {
    // Which side meets its end first: width / frame.width against height / frame.height.
    let rounded = |side: usize, by: usize, of: usize| ((2 * side * by + of) / (2 * of)).max(1);
    if shape.width * frame.height >= shape.height * frame.width {
        ImageSize::new(rounded(shape.height, frame.width, shape.width).min(frame.height), frame.width)
    } else {
        ImageSize::new(frame.height, rounded(shape.width, frame.height, shape.height).min(frame.width))
    }
}

/// The median of the outermost pixels, channel by channel; of an even number of them, the lower of the two in the middle.
fn border_colour(pixels: &[u8], size: ImageSize, channels: usize) -> Vec<u8> {
    let ImageSize { height, width } = size;
    let is_border = |i: usize| {
        let (y, x) = (i / width, i % width);
        y == 0 || x == 0 || y + 1 == height || x + 1 == width
    };
    let border: Vec<usize> = (0..size.area()).filter(|&i| is_border(i)).collect();
    let median = |channel: usize| {
        let mut values: Vec<u8> = border.iter().map(|i| pixels[i * channels + channel]).collect();
        values.sort_unstable();
        values[(values.len() - 1) / 2]
    };
    (0..channels).map(median).collect()
}

/// Each side scaled by its own factor.
fn stretched(pixels: Vec<u8>, from: ImageSize, channels: usize, to: ImageSize) -> Result<Vec<u8>, String> {
    if from == to {
        return Ok(pixels);
    }
    if channels == 1 { stretched_as::<U8>(&pixels, from, to) } else { stretched_as::<U8x3>(&pixels, from, to) }
}

/// As [`stretched`], of pixels of one type: the other types of pixels that there are would be compiled too, and take as long as the whole crate.
fn stretched_as<P>(pixels: &[u8], from: ImageSize, to: ImageSize) -> Result<Vec<u8>, String>
where
    P: PixelTrait + InnerPixel<Component = u8>,
{
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    let mut resizer = Resizer::new();
    // One axis at a time: bytes are clipped between the two passes, so their order shows at hard edges. It is Pillow's (13.0,
    // found by trying shapes): the width first, unless the height shrinks by more than twice as many pixels.
    let tall = from.height > to.height && from.height + 2 * to.width > 2 * from.width + to.height;
    let between = if tall { ImageSize::new(to.height, from.width) } else { ImageSize::new(from.height, to.width) };
    let mut resized = |from: ImageSize, pixels: &[u8], to: ImageSize| -> Result<Vec<u8>, String> {
        let source = TypedImageRef::<P>::from_buffer(from.width as u32, from.height as u32, pixels);
        let mut result = TypedImage::<P>::new(to.width as u32, to.height as u32);
        resizer
            .resize_typed(&source.map_err(|error| error.to_string())?, &mut result, &options)
            .map_err(|error| error.to_string())?;
        Ok(P::components(result.pixels()).to_vec())
    };
    let first = resized(from, pixels, between)?;
    resized(between, &first, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(pixels: &[u8], from: (usize, usize), to: (usize, usize), fit: Fit) -> Vec<u8> {
        fitted(pixels.to_vec(), ImageSize::new(from.0, from.1), 1, ImageSize::new(to.0, to.1), fit).unwrap()
    }

    #[test]
    fn padding_keeps_every_pixel_and_takes_the_colour_of_the_border() {
        // Two rows of four: all are border. In order 1 2 3 4 5 6 7 9, of which the lower middle is 4.
        let image = [1, 2, 3, 4, 5, 6, 7, 9];
        let expected = [4, 4, 4, 4, 1, 2, 3, 4, 5, 6, 7, 9, 4, 4, 4, 4];
        assert_eq!(fit(&image, (2, 4), (4, 4), Fit::Pad), expected);
        // Four rows of two, in the middle of five columns: one column to the left, two to the right.
        let high = [1, 2, 3, 4, 5, 6, 7, 9];
        let expected = [4, 1, 2, 4, 4, 4, 3, 4, 4, 4, 4, 5, 6, 4, 4, 4, 7, 9, 4, 4];
        assert_eq!(fit(&high, (4, 2), (4, 5), Fit::Pad), expected);
        // The border alone is asked: the 200s inside of it are more.
        let mut framed = vec![7; 6 * 12];
        for y in 1..5 {
            framed[y * 12 + 1..y * 12 + 11].fill(200);
        }
        assert_eq!(fit(&framed, (6, 12), (12, 12), Fit::Pad)[..36], [7; 36]);
        let colours = fitted([1, 2, 3].repeat(8), ImageSize::new(2, 4), 3, ImageSize::square(4), Fit::Pad).unwrap();
        assert_eq!(colours, [1, 2, 3].repeat(16));
    }

    #[test]
    fn cropping_keeps_the_middle() {
        // Of two rows of five, the columns 1 and 2: one of three is left out to the left, two to the right.
        let image = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(fit(&image, (2, 5), (2, 2), Fit::Crop), [2, 3, 7, 8]);
        assert_eq!(fit(&image, (5, 2), (2, 2), Fit::Crop), [3, 4, 5, 6]);
        // Enlarged: 2x2 to 2x4 keeps one row of two.
        assert_eq!(fit(&[9, 9, 5, 5], (2, 2), (1, 2), Fit::Crop), [9, 9]);
    }

    #[test]
    fn hard_edges_of_rectangles_are_those_of_pillow() {
        // PIL 13.0: Image.fromarray(a).resize((4, 2), Image.LANCZOS). The other axis first, values would be off by up to 11.
        let image: Vec<u8> = (0..7 * 6)
            .map(|i| (i % 6, i / 6))
            .map(|(x, y)| u8::from((x * x + 3 * y * x + y * y * 5) % 7 < 3) * 255)
            .collect();
        let pillow = [89_u8, 158, 109, 9, 55, 59, 0, 113];
        let ours = fit(&image, (7, 6), (2, 4), Fit::Stretch);
        assert!(ours.iter().zip(pillow).all(|(a, b)| a.abs_diff(b) <= 2), "{ours:?}");
    }

    #[test]
    fn images_of_the_same_shape_are_scaled_alike() {
        let image: Vec<u8> = (0..6 * 8).map(|i| (i * 37 % 251) as u8).collect();
        let [stretch, pad, crop] = [Fit::Stretch, Fit::Pad, Fit::Crop].map(|how| fit(&image, (6, 8), (12, 16), how));
        assert_eq!((&stretch, &stretch), (&pad, &crop));
        // A rectangle is resized along each of its own sides: constant rows stay constant.
        let rows: Vec<u8> = (0..4).flat_map(|y| [y * 60; 3]).collect();
        let wide = fit(&rows, (4, 3), (4, 9), Fit::Stretch);
        assert_eq!(wide, (0..4).flat_map(|y| [y * 60; 9]).collect::<Vec<u8>>());
    }

    #[test]
    fn the_shapes_of_the_set_decide() {
        let settled = |shapes: &[(usize, usize)]| Fit::Auto.settled(shapes, ImageSize::square(64));
        assert_eq!(settled(&[]), Fit::Stretch);
        assert_eq!(settled(&[(100, 140), (140, 100), (500, 500)]), Fit::Stretch);
        assert_eq!(settled(&[(100, 151), (100, 100)]), Fit::Pad);
        // One in twenty may differ by more; two may not.
        let mut shapes = vec![(100, 100); 19];
        shapes.push((300, 100));
        assert_eq!(settled(&shapes), Fit::Stretch);
        shapes[0] = (100, 300);
        assert_eq!(settled(&shapes), Fit::Pad);
        // A size of their own shape is not stretched at all.
        assert_eq!(Fit::Auto.settled(&[(640, 480); 3], ImageSize::new(24, 32)), Fit::Stretch);
        assert_eq!(Fit::Auto.settled(&[(640, 480); 3], ImageSize::new(32, 24)), Fit::Pad);
        assert_eq!(Fit::Crop.settled(&[(100, 300)], ImageSize::square(64)), Fit::Crop);
    }
}
