//! Colours by a table: PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6.

use dicom_core::PrimitiveValue;
use dicom_object::{DefaultDicomObject, Tag};
use dicom_pixeldata::DecodedPixelData;

use super::{PIXEL_REPRESENTATION, chain, number};
use crate::formats::Outcome;

/// Descriptors, tables and segmented tables of red; green and blue follow.
const DESCRIPTOR: Tag = Tag(0x0028, 0x1101);
const TABLE: Tag = Tag(0x0028, 0x1201);
const SEGMENTED: Tag = Tag(0x0028, 0x1221);

/// A table of colours.
pub(super) struct Palette {
    /// The value that has the first of them. Lesser values have it too, and those above all have the last.
    first: i32,
    signed: bool,
    colours: Vec<[u8; 3]>,
}

/// The table of one channel: its first value, and its entries of up to 16 bits.
fn table(object: &DefaultDicomObject, channel: u16, signed: bool) -> Outcome<(i32, Vec<u16>)> {
    let name = ["red", "green", "blue"][usize::from(channel)];
    let tag = |tag: Tag| Tag(tag.0, tag.1 + channel);
    let descriptor = object.get(tag(DESCRIPTOR)).and_then(|element| element.to_multi_int::<i64>().ok());
    let Some([count, first, bits]) = descriptor.as_deref() else {
        return Err(format!("its {name} palette is not described"));
    };
    let Some(element) = object.get(tag(TABLE)) else {
        let kind = if object.get(tag(SEGMENTED)).is_some() { "segmented, which is not read" } else { "missing" };
        return Err(format!("its {name} palette is {kind}"));
    };
    // Both are 16 bits, whichever sign their type gives them. 65536 entries do not fit, and are written as 0.
    let count = match *count as u16 {
        0 => 1 << 16,
        count => usize::from(count),
    };
    let first = if signed { i32::from(*first as i16) } else { i32::from(*first as u16) };
    let words: Vec<u16> = match element.value().primitive() {
        Some(PrimitiveValue::U16(words)) => words.to_vec(),
        Some(PrimitiveValue::U8(bytes)) => {
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
        }
        _ => vec![],
    };
    // Entries of 8 bits come two in a word, the lower first; some files give each a word of its own.
    let mut entries = if *bits <= 8 && words.len() < count {
        words.into_iter().flat_map(u16::to_le_bytes).map(u16::from).collect()
    } else {
        words
    };
    if entries.len() < count {
        return Err(format!("its {name} palette has {} of {count} entries", entries.len()));
    }
    entries.truncate(count);
    Ok((first, entries))
}

impl Palette {
    pub(super) fn of(object: &DefaultDicomObject) -> Outcome<Self> {
        let signed = number(object, PIXEL_REPRESENTATION) == Some(1);
        let [red, green, blue] = [0, 1, 2].map(|channel| table(object, channel, signed));
        let ((first, red), (_, green), (_, blue)) = (red?, green?, blue?);
        if red.len() != green.len() || red.len() != blue.len() {
            return Err("its palette has channels of different lengths".to_owned());
        }
        // Entries of 16 bits use all of them; those of 8 that were given 16 do not.
        let most = red.iter().chain(&green).chain(&blue).max().copied().unwrap_or(0);
        let shift = if most > 255 { 8 } else { 0 };
        let colours = red.into_iter().zip(green).zip(blue);
        let colours = colours.map(|((r, g), b)| [r, g, b].map(|entry| (entry >> shift) as u8)).collect();
        Ok(Self { first, signed, colours })
    }

    /// The colours of a frame, red first.
    pub(super) fn frame(&self, pixels: &DecodedPixelData<'_>, frame: u32) -> Outcome<Vec<u8>> {
        let data =
            pixels.frame_data(frame).map_err(|error| format!("its pixels cannot be decoded ({})", chain(&error)))?;
        let stored = u32::from(pixels.bits_stored()).clamp(1, 16);
        let shift = 32 - stored;
        let colour = |raw: u16| {
            let value = u32::from(raw) << shift;
            let value = if self.signed { value as i32 >> shift } else { (value >> shift) as i32 };
            self.colours[(value - self.first).clamp(0, self.colours.len() as i32 - 1) as usize]
        };
        match pixels.bits_allocated() {
            8 => Ok(data.iter().flat_map(|byte| colour(u16::from(*byte))).collect()),
            16 => Ok(data.chunks_exact(2).flat_map(|pair| colour(u16::from_ne_bytes([pair[0], pair[1]]))).collect()),
            bits => Err(format!("its palette is of pixels with {bits} bits, which is not read")),
        }
    }
}
