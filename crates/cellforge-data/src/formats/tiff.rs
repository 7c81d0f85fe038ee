//! TIFF and BigTIFF: pages, and samples of 8 to 64 bits, signed, unsigned and float.

use std::io::Cursor;

use image::ImageFormat;
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::{Contents, Depth, Frame, Outcome, Samples, Slot, numbered, oriented, raster};
use crate::decode::{MAX_IMAGE_BYTES, MAX_IMAGE_SIDE};
use crate::stacks::Stacks;

/// The most pages that are read of a file.
const MAX_PAGES: usize = 4096;
/// Bits of the tag of a page that is a smaller version of another, and of one that is a mask.
const REDUCED: u32 = 1;
const MASK: u32 = 4;

fn undecodable(error: tiff::TiffError) -> String {
    format!("it cannot be decoded ({error})")
}

fn decoder(bytes: &[u8]) -> Outcome<Decoder<Cursor<&[u8]>>> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_IMAGE_BYTES as usize;
    Ok(Decoder::new(Cursor::new(bytes)).map_err(undecodable)?.with_limits(limits))
}

/// Its pages, but for smaller versions of others and masks.
pub(super) fn look(bytes: &[u8], stacks: &Stacks) -> Outcome<Contents> {
    let mut decoder = decoder(bytes)?;
    let mut pages = Vec::new();
    let (mut left_out, mut is_shallow) = (None, true);
    for page in 0.. {
        if page == MAX_PAGES {
            return Err(format!("it has more than {MAX_PAGES} pages"));
        }
        let kind: Option<u32> = decoder.find_tag_unsigned(Tag::NewSubfileType).map_err(undecodable)?;
        if page > 0 && kind.unwrap_or_default() & (REDUCED | MASK) != 0 {
            left_out = Some("a TIFF with pages that are smaller versions or masks of others, which are not read");
        } else {
            let bits = decoder.colortype().map_err(undecodable)?.bit_depth();
            is_shallow &= bits <= 8 && is_unsigned(&mut decoder)?;
            pages.push(page);
        }
        if !decoder.more_images() {
            break;
        }
        decoder.next_image().map_err(undecodable)?;
    }
    if pages.len() == 1 {
        return Ok(Contents { left_out, is_shallow, ..Contents::one() });
    }
    let (n, last) = (pages.len(), pages.last().map_or(0, |page| page + 1));
    let slot = |at: usize| Slot { frame: pages[at], suffix: numbered(pages[at], last), ..Slot::default() };
    let slots = stacks.slices.chosen(n).map(slot).collect();
    Ok(Contents { slots, is_stack: true, is_shallow, left_out, ..Contents::default() })
}

/// Whether the samples of a page are unsigned whole numbers.
fn is_unsigned(decoder: &mut Decoder<Cursor<&[u8]>>) -> Outcome<bool> {
    let format: Option<Vec<u16>> = decoder.find_tag_unsigned_vec(Tag::SampleFormat).map_err(undecodable)?;
    Ok(format.is_none_or(|formats| formats.iter().all(|format| *format == 1)))
}

/// Decodes one page.
pub(super) fn frame(bytes: &[u8], page: usize) -> Outcome<Frame> {
    let mut decoder = decoder(bytes)?;
    for _ in 0..page {
        decoder.next_image().map_err(undecodable)?;
    }
    let (width, height) = decoder.dimensions().map_err(undecodable)?;
    let colour = decoder.colortype().map_err(undecodable)?;
    let exif = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten().unwrap_or(1);
    let unsigned = is_unsigned(&mut decoder)?;
    // What has 8 bits or fewer is read as it always was, with all kinds of colours that `image` knows.
    if page == 0 && unsigned && colour.bit_depth() <= 8 {
        return raster::frame(bytes, ImageFormat::Tiff);
    }
    if width.max(height) > MAX_IMAGE_SIDE {
        return Err(format!(
            "it cannot be decoded (its sides of {width} and {height} pixels are above {MAX_IMAGE_SIDE})"
        ));
    }
    let (stored, kind) = match colour {
        ColorType::Gray(_) => (1, "grey"),
        ColorType::GrayA(_) => (2, "grey with alpha"),
        ColorType::RGB(_) => (3, "RGB"),
        ColorType::RGBA(_) => (4, "RGB with alpha"),
        other => return Err(format!("it cannot be decoded (a page of colours {other:?} is not read)")),
    };
    let bits = colour.bit_depth();
    raster::check_size(width, height, stored * (u64::from(bits).div_ceil(8) + 4))?;
    let (width, height, stored) = (width as usize, height as usize, stored as usize);
    let (values, depth, number) = if bits > 8 && !bits.is_multiple_of(8) {
        (packed(&mut decoder, bytes, (width * stored, height), bits)?, Depth::unsigned(u32::from(bits)), "")
    } else {
        let mut samples = DecodingResult::U8(Vec::new());
        decoder.read_image_to_buffer(&mut samples).map_err(undecodable)?;
        floats(samples, bits)
    };
    if values.len() != width * height * stored {
        return Err("it cannot be decoded (its samples lie in a way that is not read)".to_owned());
    }
    let (values, channels) = over_black(values, stored, depth);
    let (values, width, height) = oriented(&values, (width, height, channels), exif);
    let samples = match depth {
        Depth::Whole { low: 0.0, high: 255.0 } => Samples::Bytes(values.into_iter().map(|v| v as u8).collect()),
        depth => Samples::Deep(values, depth),
    };
    Ok(Frame { width, height, channels, samples, mode: format!("{bits}-bit{number} {kind}") })
}

/// Samples of 9 to 15 bits that follow one another without a gap, each row from a new byte on, as cameras of microscopes write them. The decoder
/// does not read them; here they are where nothing compresses them.
fn packed(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    bytes: &[u8],
    (across, rows): (usize, usize),
    bits: u8,
) -> Outcome<Vec<f32>> {
    let unread = || {
        format!(
            "it cannot be decoded (samples of {bits} bits are read where they are whole numbers in uncompressed strips alone)"
        )
    };
    let compression: Option<u16> = decoder.find_tag_unsigned(Tag::Compression).map_err(undecodable)?;
    let planar: Option<u16> = decoder.find_tag_unsigned(Tag::PlanarConfiguration).map_err(undecodable)?;
    let order: Option<u16> = decoder.find_tag_unsigned(Tag::FillOrder).map_err(undecodable)?;
    if [compression, planar, order].into_iter().any(|tag| tag.unwrap_or(1) != 1) || !is_unsigned(decoder)? || bits > 16
    {
        return Err(unread());
    }
    let mut tag = |tag| decoder.find_tag_unsigned_vec::<u64>(tag).map_err(undecodable)?.ok_or_else(unread);
    let (offsets, counts) = (tag(Tag::StripOffsets)?, tag(Tag::StripByteCounts)?);
    let mut data = Vec::new();
    for (offset, count) in offsets.iter().zip(&counts) {
        let strip = usize::try_from(*offset).ok().zip(usize::try_from(*count).ok());
        let strip = strip.and_then(|(offset, count)| bytes.get(offset..offset.checked_add(count)?));
        data.extend_from_slice(strip.ok_or("it cannot be decoded (it is cut short)")?);
    }
    let bits = usize::from(bits);
    let row = (across * bits).div_ceil(8);
    if data.len() < row * rows {
        return Err("it cannot be decoded (it is cut short)".to_owned());
    }
    let sample = |row: &[u8], at: usize| {
        let first = at * bits;
        let word = (0..3).fold(0u32, |word, byte| word << 8 | u32::from(*row.get(first / 8 + byte).unwrap_or(&0)));
        (word >> (24 - first % 8 - bits) & ((1 << bits) - 1)) as f32
    };
    Ok(data.chunks(row).take(rows).flat_map(|row| (0..across).map(move |at| sample(row, at))).collect())
}

/// The samples as floats, what they may be, and a word for their kind.
fn floats(samples: DecodingResult, bits: u8) -> (Vec<f32>, Depth, &'static str) {
    fn all<T>(samples: Vec<T>, float: impl Fn(T) -> f32) -> Vec<f32> {
        samples.into_iter().map(float).collect()
    }
    let bits = u32::from(bits);
    let (whole, signed) = (Depth::unsigned(bits), Depth::signed(bits));
    match samples {
        // Fewer than 8 bits are spread over all 8.
        DecodingResult::U8(v) if bits < 8 => {
            let most = f32::from((1u8 << bits) - 1);
            (all(v, |v| (f32::from(v) * 255.0 / most).round().min(255.0)), Depth::unsigned(8), "")
        }
        DecodingResult::U8(v) => (all(v, f32::from), whole, ""),
        DecodingResult::U16(v) => (all(v, f32::from), whole, ""),
        DecodingResult::U32(v) => (all(v, |v| v as f32), whole, ""),
        DecodingResult::U64(v) => (all(v, |v| v as f32), whole, ""),
        DecodingResult::I8(v) => (all(v, f32::from), signed, " signed"),
        DecodingResult::I16(v) => (all(v, f32::from), signed, " signed"),
        DecodingResult::I32(v) => (all(v, |v| v as f32), signed, " signed"),
        DecodingResult::I64(v) => (all(v, |v| v as f32), signed, " signed"),
        DecodingResult::F16(v) => (all(v, f32::from), Depth::Measured, " float"),
        DecodingResult::F32(v) => (v, Depth::Measured, " float"),
        DecodingResult::F64(v) => (all(v, |v| v as f32), Depth::Measured, " float"),
    }
}

/// Values without their alpha, which is laid over black, and the number of channels that are left.
fn over_black(values: Vec<f32>, stored: usize, depth: Depth) -> (Vec<f32>, usize) {
    if stored % 2 == 1 {
        return (values, stored);
    }
    let most = if let Depth::Whole { high, .. } = depth { high } else { 1.0 };
    let pixel = |pixel: &[f32]| {
        let (colour, alpha) = pixel.split_at(stored - 1);
        let share = alpha[0] / most;
        colour.iter().map(|value| value * share).collect::<Vec<_>>()
    };
    (values.chunks_exact(stored).flat_map(pixel).collect(), stored - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::Slices;
    use tiff::encoder::{TiffEncoder, TiffValue, colortype};

    fn pages(n: u16) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        for page in 0..n {
            let data: Vec<u16> = (0..20).map(|i| 100 * page + i).collect();
            encoder.write_image::<colortype::Gray16>(5, 4, &data).unwrap();
        }
        bytes.into_inner()
    }

    /// A TIFF of one uncompressed strip: entries of its directory beside those of the strip, and the strip.
    fn strip(tags: &[(u16, u32)], data: &[u8]) -> Vec<u8> {
        let mut tags = [tags, &[(273, 8), (279, data.len() as u32)]].concat();
        tags.sort_unstable();
        let directory = 8 + data.len() as u32;
        let mut bytes = [&b"II*\0"[..], &directory.to_le_bytes(), data, &(tags.len() as u16).to_le_bytes()].concat();
        for (tag, value) in tags {
            bytes.extend([tag.to_le_bytes(), 4u16.to_le_bytes()].concat());
            bytes.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat());
        }
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn twelve_bits_without_gaps_are_read() {
        // Rows of three samples are four and a half bytes, and so five: 0x123, 0x456, 0x789; 0xFFF, 0, 0xABC.
        let data = [0x12, 0x34, 0x56, 0x78, 0x90, 0xFF, 0xF0, 0x00, 0xAB, 0xC0];
        let tags = |compression| [(256, 3), (257, 2), (258, 12), (259, compression), (262, 1), (277, 1), (278, 2)];
        let found = frame(&strip(&tags(1), &data), 0).unwrap();
        let Samples::Deep(values, Depth::Whole { high, .. }) = found.samples else { panic!("12 bits are deep") };
        assert_eq!(values, [0x123, 0x456, 0x789, 0xFFF, 0, 0xABC].map(|value| value as f32));
        assert_eq!((high, found.mode.as_str()), (4095.0, "12-bit grey"));
        assert!(frame(&strip(&tags(1), &data[..9]), 0).err().unwrap().contains("cut short"));
        assert!(frame(&strip(&tags(5), &data), 0).err().unwrap().contains("uncompressed"));
    }

    #[test]
    fn each_page_is_an_image() {
        let bytes = pages(12);
        let contents = look(&bytes, &Stacks::default()).unwrap();
        assert_eq!((contents.slots.len(), contents.slots[0].suffix.as_str(), contents.is_stack), (12, "01", true));
        let middle = look(&bytes, &Stacks { slices: Slices::Middle, ..Stacks::default() }).unwrap();
        assert_eq!((middle.slots.len(), middle.slots[0].frame), (1, 6));
        let page = frame(&bytes, 6).unwrap();
        assert_eq!((page.width, page.height, page.channels, page.mode.as_str()), (5, 4, 1, "16-bit grey"));
        let Samples::Deep(values, depth) = page.samples else { panic!("not deep") };
        assert_eq!((values[0], values[19], depth), (600.0, 619.0, Depth::unsigned(16)));
        assert!(!look(&pages(1), &Stacks::default()).unwrap().is_stack);
    }

    #[test]
    fn depths_are_read_as_they_are() {
        fn one<C: colortype::ColorType>(data: &[C::Inner], side: u32, big: bool) -> Frame
        where
            [C::Inner]: TiffValue,
        {
            let mut bytes = Cursor::new(Vec::new());
            if big {
                TiffEncoder::new_big(&mut bytes).unwrap().write_image::<C>(side, 1, data).unwrap();
            } else {
                TiffEncoder::new(&mut bytes).unwrap().write_image::<C>(side, 1, data).unwrap();
            }
            frame(bytes.get_ref(), 0).unwrap()
        }
        let deep = |frame: Frame| match frame.samples {
            Samples::Deep(values, depth) => (values, depth, frame.mode),
            Samples::Bytes(_) => panic!("not deep"),
        };
        let (values, depth, mode) = deep(one::<colortype::GrayI16>(&[-5, 0, 7, 9], 4, false));
        assert_eq!(
            (values, depth, mode.as_str()),
            (vec![-5.0, 0.0, 7.0, 9.0], Depth::signed(16), "16-bit signed grey")
        );
        let (values, depth, _) = deep(one::<colortype::Gray32Float>(&[0.5, -1.0, 2.0, 3.0], 4, true));
        assert_eq!((values, depth), (vec![0.5, -1.0, 2.0, 3.0], Depth::Measured));
        let (values, ..) = deep(one::<colortype::Gray32>(&[1, 2, 3, 1 << 20], 4, false));
        assert_eq!(values[3], 1_048_576.0);
        let (values, ..) = deep(one::<colortype::RGB16>(&[1, 2, 3, 4, 5, 6], 2, true));
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(one::<colortype::Gray8>(&[1, 2, 3, 4], 4, false).samples, Samples::Bytes(vec![1, 2, 3, 4]));
    }

    #[test]
    fn what_is_broken_says_so() {
        let bytes = pages(2);
        for kept in [0, 7, bytes.len() / 2] {
            assert!(look(&bytes[..kept], &Stacks::default()).is_err() || frame(&bytes[..kept], 1).is_err(), "{kept}");
        }
        assert!(frame(&bytes, 2).is_err());
    }
}
