//! JPEG 2000 (ISO/IEC 15444-1), lossless and not: DICOM's transfer syntaxes 1.2.840.10008.1.2.4.90 and .91. `hayro-jpeg2000` decodes it, built
//! without its SIMD, so that no unsafe code runs and all machines decode a lossy image to the same bytes.
//!
//! That crate takes memory by what a header says of tiles, precincts and code-blocks. So [`Header::of`] reads the stream's markers first, and
//! refuses what would take much of it.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::compressed::{Coded, Shape, cut};
use crate::formats::Outcome;

/// The most that is kept of a tile's structure, in pieces of about 24 bytes: 400 MB. An image of 8192 x 8192 pixels in three components, with
/// blocks of 32 x 32 and 20 layers, takes a third of it.
const MAX_PIECES: u64 = 1 << 24;
/// The most tiles that a stream can number.
const MAX_TILES: u64 = 1 << 16;
/// The most levels, of the 32 that there could be. Eight make one pixel of 256.
const MAX_LEVELS: u8 = 16;
/// The largest coordinate on the grid that images lie on.
const MAX_GRID: u64 = 1 << 20;
/// The most changes of the order of packets.
const MAX_CHANGES: usize = 32;

const SOC: u8 = 0x4F;
const SIZ: u8 = 0x51;
const COD: u8 = 0x52;
const COC: u8 = 0x53;
const QCD: u8 = 0x5C;
const QCC: u8 = 0x5D;
const RGN: u8 = 0x5E;
const POC: u8 = 0x5F;
const PLT: u8 = 0x58;
const PPT: u8 = 0x61;
const COM: u8 = 0x64;
const SOT: u8 = 0x90;
const SOD: u8 = 0x93;
const EOC: u8 = 0xD9;

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Decodes one frame, which has to be of the shape that the file states.
pub(super) fn decode(stream: &[u8], shape: Shape) -> Outcome<Coded> {
    // What makes the length of a fragment even.
    let padding = stream.iter().rev().take_while(|byte| **byte == 0).count();
    let stream = &stream[..stream.len() - padding];
    let header = Header::of(stream, shape)?;
    let broken = |error| format!("it is broken or of a kind that is not read ({error})");
    let image = Image::new(stream, &DecodeSettings::default()).map_err(broken)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(broken)?;
    let components = decoded.components();
    let pixels = shape.width * shape.height;
    if components.len() != shape.channels || components.iter().any(|component| component.samples().len() != pixels) {
        return Err("it decodes to another shape than it states".to_owned());
    }
    let most = ((1u32 << header.bits) - 1) as f32;
    // The decoder lifts signed samples to where unsigned ones are.
    let lift = if header.signed { 1u16 << (header.bits - 1) } else { 0 };
    let mask = most as u16;
    let sample = |value: f32| (value.round().clamp(0.0, most) as u16).wrapping_sub(lift) & mask;
    let samples = (0..pixels).flat_map(|at| components.iter().map(move |component| sample(component.samples()[at])));
    Ok(Coded { bits: header.bits, samples: samples.collect() })
}

/// What the markers of a stream say of its samples.
struct Header {
    bits: u32,
    signed: bool,
}

impl Header {
    /// Reads all markers, each as long as its kind has to be, so that the decoder can read no others.
    fn of(stream: &[u8], shape: Shape) -> Outcome<Self> {
        if !stream.starts_with(&[0xFF, SOC, 0xFF, SIZ]) {
            return Err("it does not begin as a codestream does".to_owned());
        }
        let mut at = 2;
        let siz = segment(stream, &mut at)?.1;
        let (numbers, components) = siz.split_at_checked(36).ok_or("its size is broken")?;
        let count = word(&numbers[34..]);
        let [x1, y1, x0, y0, tile_width, tile_height, tile_x, tile_y] =
            std::array::from_fn(|at| word(&numbers[2 + 4 * at..][..4]));
        let lies = x1.max(y1) <= MAX_GRID && x0 < x1 && y0 < y1 && tile_x <= x0 && tile_y <= y0;
        if components.len() as u64 != 3 * count || !lies || tile_width == 0 || tile_height == 0 {
            return Err("its size is broken".to_owned());
        }
        shape.check((x1 - x0) as usize, (y1 - y0) as usize, count as usize)?;
        let tiles = (x1 - tile_x).div_ceil(tile_width) * (y1 - tile_y).div_ceil(tile_height);
        if tiles > MAX_TILES {
            return Err(format!("it has {tiles} tiles, at most {MAX_TILES} are read"));
        }
        let first = &components[..3];
        if components.chunks(3).any(|component| component != first) || first[1..] != [1, 1] {
            return Err("its components differ in size or depth, which is not read".to_owned());
        }
        let (bits, signed) = (u32::from(first[0] & 0x7F) + 1, first[0] & 0x80 != 0);
        if bits > 16 {
            return Err(format!("its samples have {bits} bits, at most 16 are read"));
        }
        let pieces = pieces(stream, &mut at, (tile_width.min(x1 - x0), tile_height.min(y1 - y0)))?;
        if pieces * count > MAX_PIECES {
            return Err("its blocks and layers are more than are read".to_owned());
        }
        check_tiles(stream, at)?;
        Ok(Self { bits, signed })
    }
}

/// The next marker, and the bytes of its segment.
fn segment<'a>(stream: &'a [u8], at: &mut usize) -> Outcome<(u8, &'a [u8])> {
    let Some([0xFF, marker]) = stream.get(*at..*at + 2) else { return Err("a marker is missing".to_owned()) };
    if matches!(marker, 0x30..=0x3F) {
        *at += 2;
        return Ok((*marker, &[]));
    }
    let length = word(stream.get(*at + 2..*at + 4).ok_or_else(cut)?).max(2) as usize;
    let bytes = stream.get(*at + 4..*at + 2 + length).ok_or_else(cut)?;
    *at += 2 + length;
    Ok((*marker, bytes))
}

/// Reads the markers before the first tile. Returns the most pieces that a component of a tile takes.
fn pieces(stream: &[u8], at: &mut usize, tile: (u64, u64)) -> Outcome<u64> {
    // The bytes of a coding style: as many as its levels ask for, if it has sizes of precincts.
    let is_style =
        |flags: u8, style: &[u8]| style.len() == 5 + if flags & 1 == 1 { usize::from(style[0]) + 1 } else { 0 };
    let (mut styles, mut layers, mut changes) = (vec![], 1, 0);
    while stream.get(*at..*at + 2) != Some(&[0xFF, SOT]) {
        let (marker, bytes) = segment(stream, at)?;
        let is_whole = match (marker, bytes) {
            (COD, [flags, _, high, low, _, style @ ..]) if style.len() >= 5 => {
                layers = word(&[*high, *low]);
                styles.push(style);
                is_style(*flags, style)
            }
            (COC, [_, flags, style @ ..]) if style.len() >= 5 => {
                styles.push(style);
                is_style(*flags, style)
            }
            (QCD, [kind, steps @ ..]) | (QCC, [_, kind, steps @ ..]) => match kind & 0x1F {
                0 => true,
                1 => steps.len() == 2,
                _ => steps.len() % 2 == 0,
            },
            (RGN, bytes) => bytes.len() == 3,
            (POC, bytes) => {
                changes += bytes.len() / 7;
                bytes.len() % 7 == 0 && changes <= MAX_CHANGES
            }
            (COD | COC | QCD | QCC | SIZ | SOD | EOC, _) => false,
            _ => true,
        };
        if !is_whole {
            return Err(format!("its marker FF{marker:02X} is broken"));
        }
    }
    styles.into_iter().try_fold(0, |most: u64, style| Ok(most.max(pieces_of(style, tile, layers)?)))
}

/// The pieces that a component of a tile takes, in a coding style: B.6 and B.7.
fn pieces_of(style: &[u8], (width, height): (u64, u64), layers: u64) -> Outcome<u64> {
    let (levels, block) = (style[0], [style[1].saturating_add(2), style[2].saturating_add(2)]);
    if levels > MAX_LEVELS || block[0].max(block[1]) > 10 {
        return Err(format!("its {levels} levels or its blocks are more than are read"));
    }
    let mut pieces = 0;
    for resolution in 0..=levels {
        let precinct = style.get(5 + usize::from(resolution)).map_or([15, 15], |size| [size & 15, size >> 4]);
        let halved = u8::from(resolution > 0);
        if precinct[0].min(precinct[1]) < halved {
            return Err("its precincts are too small".to_owned());
        }
        let [mut precincts, mut blocks] = [1 + 2 * u64::from(halved); 2];
        for (side, (precinct, block)) in [width, height].into_iter().zip(precinct.into_iter().zip(block)) {
            let side = side.div_ceil(1 << (levels - resolution));
            precincts *= side.div_ceil(1 << precinct) + 1;
            blocks *= side.div_ceil(1 << halved).div_ceil(1 << block.min(precinct - halved)) + 1;
        }
        pieces += 6 * precincts + (7 + layers) * blocks;
    }
    Ok(pieces)
}

/// Reads the markers of all tiles, up to the end of the stream: none may change how samples are coded.
fn check_tiles(stream: &[u8], mut at: usize) -> Outcome<()> {
    while stream.get(at..at + 2) == Some(&[0xFF, SOT]) {
        let start = at;
        let bytes = segment(stream, &mut at)?.1;
        if bytes.len() != 8 {
            return Err("a tile of it is broken".to_owned());
        }
        let end = match word(&bytes[2..6]) as usize {
            0 => stream.len().saturating_sub(2),
            length => start + length,
        };
        loop {
            match stream.get(at..at + 2) {
                _ if end > stream.len() => return Err(cut()),
                Some([0xFF, SOD]) if at + 2 <= end => break,
                Some([0xFF, PLT | PPT | COM]) if at < end => segment(stream, &mut at)?,
                _ => return Err("a tile of it changes how samples are coded, which is not read".to_owned()),
            };
        }
        at = end;
    }
    if stream[at..] == [0xFF, EOC] { Ok(()) } else { Err(cut()) }
}

#[cfg(test)]
mod tests {
    use super::super::compressed::tests::{check, signed};
    use super::*;

    const SHAPE: Shape = Shape { width: 13, height: 11, channels: 1 };

    macro_rules! stream {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/codestreams/", $name, ".j2k")).as_slice()
        };
    }

    #[test]
    fn every_depth_is_read() {
        for (bits, stream) in
            [(8, stream!("grey8")), (10, stream!("grey10")), (12, stream!("grey12")), (16, stream!("grey16"))]
        {
            check(decode, stream, bits, false, 0);
        }
        check(decode, stream!("tiled8"), 8, false, 0);
        assert_eq!(decode(stream!("signed12"), SHAPE).unwrap().samples, signed());
    }

    #[test]
    fn colour_transforms_are_undone() {
        check(decode, stream!("rgb-rct"), 8, true, 0);
        // A lossy stream: as near as its encoder was asked to make it.
        check(decode, stream!("rgb-ict"), 8, true, 4);
    }

    #[test]
    fn memory_is_bounded_before_it_is_taken() {
        let piece = |style: &[u8], side, layers| pieces_of(style, (side, side), layers);
        // Five levels, blocks of 32 x 32, 20 layers.
        assert!(piece(&[5, 3, 3, 0, 1], 8192, 20).unwrap() * 3 < MAX_PIECES);
        // Blocks of 4 x 4 with 32 layers; and precincts of one pixel.
        assert!(piece(&[0, 0, 0, 0, 1], 8192, 32).unwrap() > MAX_PIECES);
        assert!(piece(&[0, 0, 0, 0, 1, 0x00], 8192, 1).unwrap() > MAX_PIECES);
        assert!(piece(&[32, 4, 4, 0, 1], 64, 1).is_err() && piece(&[1, 4, 4, 0, 1, 0x11, 0x10], 64, 1).is_err());
        let changed = |at: usize, bytes: &[u8]| {
            let mut stream = stream!("grey8").to_vec();
            stream[at..at + bytes.len()].copy_from_slice(bytes);
            decode(&stream, SHAPE).err().unwrap()
        };
        // The size of tiles, after SOC, and SIZ's marker, length, capabilities, size and offset.
        assert!(changed(24, &[0, 0, 0, 0]).contains("size is broken"));
        assert!(changed(8, &[0x7F]).contains("size is broken"));
        let wide = [&1u32.to_be_bytes()[..], &1u32.to_be_bytes()].concat();
        let huge = Shape { width: 8192, height: 8192, channels: 1 };
        let mut stream = stream!("grey8").to_vec();
        stream[8..16].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x20, 0]);
        stream[24..32].copy_from_slice(&wide);
        assert!(decode(&stream, huge).err().unwrap().contains("67108864 tiles"));
    }

    #[test]
    fn tiles_cannot_change_the_coding() {
        // A coding style of its own in the header of the first tile, which is that much longer.
        let stream = stream!("grey8");
        let at = stream.windows(2).position(|pair| pair == [0xFF, SOT]).unwrap();
        let style = [0xFF, COD, 0, 12, 0, 0, 0, 1, 0, 0, 4, 4, 0, 1];
        let mut stream = [&stream[..at + 12], &style, &stream[at + 12..]].concat();
        let length = u32::from_be_bytes(std::array::from_fn(|byte| stream[at + 6 + byte])) + style.len() as u32;
        stream[at + 6..at + 10].copy_from_slice(&length.to_be_bytes());
        assert!(decode(&stream, SHAPE).err().unwrap().contains("change"));
        // A comment may stand there.
        stream[at + 13] = COM;
        assert!(decode(&stream, SHAPE).is_ok());
    }
}
