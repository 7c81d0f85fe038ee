//! What the crate `image` reads: PNG, JPEG, BMP, WebP, GIF and PNM, one image a file; and TIFF where it has 8 bits.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{Contents, Depth, Frame, Outcome, Samples};
use crate::decode::{MAX_IMAGE_BYTES, MAX_IMAGE_SIDE};

/// Bytes a pixel of the two copies, RGBA and RGB, that [`MAX_IMAGE_BYTES`] makes room for.
const COPIES: u64 = 4 + 3;

/// A file of one image; of an animation, its first.
pub(super) fn look(bytes: &[u8], kind: ImageFormat) -> Contents {
    let animated = match kind {
        ImageFormat::Gif => GifDecoder::new(Cursor::new(bytes)).is_ok_and(|mut gif| {
            gif.set_limits(limits()).is_ok() && gif.into_frames().take(2).filter(Result::is_ok).count() > 1
        }),
        ImageFormat::Png => {
            PngDecoder::with_limits(Cursor::new(bytes), limits()).is_ok_and(|png| png.is_apng().unwrap_or(false))
        }
        ImageFormat::WebP => WebPDecoder::new(Cursor::new(bytes)).is_ok_and(|webp| webp.has_animation()),
        _ => false,
    };
    Contents { left_out: animated.then_some("an animation, of which the first frame alone is read"), ..Contents::one() }
}

/// The limits of a decoder.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_IMAGE_SIDE);
    limits.max_image_height = Some(MAX_IMAGE_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    limits
}

/// Decodes an image, turned as its EXIF data say, with alpha laid over black.
pub(super) fn frame(bytes: &[u8], kind: ImageFormat) -> Outcome<Frame> {
    let bytes = if kind == ImageFormat::Jpeg { whole_jpeg(bytes).ok_or("the JPEG is cut short")? } else { bytes };
    let mut limits = limits();
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    reader.limits(limits.clone());
    let undecodable = |error: ImageError| format!("it cannot be decoded ({error})");
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    check_size(width, height, u64::from(colour.bytes_per_pixel()))?;
    // What cannot be read of it says nothing of how the image lies.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // What the decoder needs beside the pixels has to do with the rest.
    limits.reserve(decoder.total_bytes()).and_then(|()| decoder.set_limits(limits)).map_err(undecodable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, mut samples) = samples(image);
    if let (ImageFormat::Pnm, Samples::Deep(values, _)) = (kind, &mut samples) {
        unspread(values, bytes);
    }
    Ok(Frame { width, height, channels, samples, mode: mode(colour) })
}

/// Makes of samples that the decoder has spread over 16 bits what a PNM file holds: its largest value is stated, and often 4095.
fn unspread(values: &mut [f32], bytes: &[u8]) {
    let Ok(decoder) = PnmDecoder::new(Cursor::new(bytes)) else { return };
    let largest = decoder.header().maximal_sample();
    for value in values.iter_mut().filter(|_| largest < u32::from(u16::MAX)) {
        *value = (f64::from(*value) * f64::from(largest) / f64::from(u16::MAX)).round() as f32;
    }
}

/// Width and height of an image, turned as its EXIF data say, from its header alone.
pub(super) fn shape(bytes: &[u8], kind: ImageFormat) -> Outcome<(usize, usize)> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let is_turned = (5..=8).contains(&orientation.to_exif());
    Ok(if is_turned { (height as usize, width as usize) } else { (width as usize, height as usize) })
}

/// Refuses an image whose pixels, of so many bytes each, and their copies would take more than [`MAX_IMAGE_BYTES`].
pub(super) fn check_size(width: u32, height: u32, bytes_per_pixel: u64) -> Outcome<()> {
    let needed = (u64::from(width) * u64::from(height)).saturating_mul(bytes_per_pixel + COPIES);
    if needed > MAX_IMAGE_BYTES {
        return Err(format!(
            "it cannot be decoded (its {width}x{height} pixels would take {} MiB, at most {} are given)",
            needed >> 20,
            MAX_IMAGE_BYTES >> 20
        ));
    }
    Ok(())
}

fn mode(colour: ColorType) -> String {
    let kind = match (colour.has_color(), colour.has_alpha()) {
        (false, false) => "grey",
        (false, true) => "grey with alpha",
        (true, false) => "RGB",
        (true, true) => "RGB with alpha",
    };
    let bits = u16::from(colour.bytes_per_pixel()) * 8 / u16::from(colour.channel_count());
    let number = if matches!(colour, ColorType::Rgb32F | ColorType::Rgba32F) { " float" } else { "" };
    format!("{bits}-bit{number} {kind}")
}

/// Channels and samples, with alpha laid over black.
fn samples(image: DynamicImage) -> (usize, Samples) {
    let deep = Depth::unsigned(16);
    match image {
        DynamicImage::ImageLuma8(image) => (1, Samples::Bytes(image.into_raw())),
        DynamicImage::ImageRgb8(image) => (3, Samples::Bytes(image.into_raw())),
        DynamicImage::ImageLuma16(image) => {
            (1, Samples::Deep(image.into_raw().into_iter().map(f32::from).collect(), deep))
        }
        DynamicImage::ImageRgb16(image) => {
            (3, Samples::Deep(image.into_raw().into_iter().map(f32::from).collect(), deep))
        }
        DynamicImage::ImageLumaA16(image) => {
            let over = |v: u16, alpha: u16| f32::from(v) * f32::from(alpha) / 65535.0;
            (1, Samples::Deep(image.pixels().map(|p| over(p[0], p[1])).collect(), deep))
        }
        DynamicImage::ImageRgba16(image) => {
            let over = |v: u16, alpha: u16| f32::from(v) * f32::from(alpha) / 65535.0;
            (3, Samples::Deep(image.pixels().flat_map(|p| [0, 1, 2].map(|c| over(p[c], p[3]))).collect(), deep))
        }
        DynamicImage::ImageRgb32F(image) => (3, Samples::Deep(image.into_raw(), Depth::Measured)),
        DynamicImage::ImageRgba32F(image) => {
            let pixels = image.pixels().flat_map(|p| [0, 1, 2].map(|c| p[c] * p[3]));
            (3, Samples::Deep(pixels.collect(), Depth::Measured))
        }
        image => {
            let grey = !image.color().has_color();
            let over_black = |value: u8, alpha: u8| ((u16::from(value) * u16::from(alpha) + 127) / 255) as u8;
            let image = image.into_rgba8();
            if grey {
                return (1, Samples::Bytes(image.pixels().map(|p| over_black(p[0], p[3])).collect()));
            }
            let pixels = image.pixels().flat_map(|p| [0, 1, 2].map(|c| over_black(p[c], p[3])));
            (3, Samples::Bytes(pixels.collect()))
        }
    }
}

/// A JPEG up to its end marker: what follows is no part of it, such as the film that a telephone appends. None where there is no end
/// marker: the decoder fills a missing part with grey and says nothing.
fn whole_jpeg(bytes: &[u8]) -> Option<&[u8]> {
    const END: u8 = 0xD9;
    let mut at = 2;
    loop {
        // Between segments, and after a scan's data, a marker is looked for. Fill bytes before it, and bytes of data with what stands
        // for 255 in them, are passed over; so are those that an encoder left there by mistake.
        let marker = loop {
            let offset = bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
            at += offset + 1;
            match *bytes.get(at)? {
                0xFF => {}
                // A stuffed byte, a restart in a scan, or a marker without a segment.
                0x00 | 0x01 | 0xD0..=0xD8 => at += 1,
                marker => break marker,
            }
        };
        at += 1;
        if marker == END {
            return Some(&bytes[..at]);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        // After the header of a scan come its data, which are looked through for the next marker.
        at += length.max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Rgb};

    fn jpeg() -> Vec<u8> {
        let image: DynamicImage =
            ImageBuffer::from_fn(33, 21, |x, y| Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])).into();
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn deep_pnm_files_hold_what_they_state() {
        let pnm = |largest: u16, values: [u16; 2]| {
            let header = format!("P5\n# 12 bits\n2 1\n{largest}\n").into_bytes();
            [header, values.into_iter().flat_map(u16::to_be_bytes).collect()].concat()
        };
        for (largest, values) in [(4095, [3571, 17]), (65535, [65535, 1]), (1000, [999, 500])] {
            let found = frame(&pnm(largest, values), ImageFormat::Pnm).unwrap();
            let Samples::Deep(found, _) = found.samples else { panic!("it is deep") };
            assert_eq!(found, values.map(f32::from));
        }
    }

    #[test]
    fn what_follows_a_jpeg_is_no_part_of_it() {
        let bytes = jpeg();
        assert_eq!(whole_jpeg(&bytes), Some(&bytes[..]));
        let plain = frame(&bytes, ImageFormat::Jpeg).unwrap();
        // What looks like the beginning of a scan, as in a film's data.
        let longer = [&bytes[..], b"ftypmp42", &[0xFF, 0xDA, 0, 3, 0xFF, 0xD8, 1, 2, 3]].concat();
        assert_eq!(whole_jpeg(&longer), Some(&bytes[..]));
        assert_eq!(frame(&longer, ImageFormat::Jpeg).unwrap(), plain);
        for kept in 2..bytes.len() {
            assert_eq!(whole_jpeg(&bytes[..kept]), None, "cut to {kept}");
        }
    }
}
