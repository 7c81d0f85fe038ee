//! Compressed pixels that dicom-rs does not read in safe Rust. Each frame is decoded here, and the file goes on as one that was never compressed:
//! so rescale, window, inversion and colours are one path for all.

use std::borrow::Cow;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::DefaultDicomObject;
use rayon::prelude::*;

use super::{
    BITS_ALLOCATED, COLUMNS, PHOTOMETRIC_INTERPRETATION, PIXEL_DATA, PIXEL_REPRESENTATION, PLANAR_CONFIGURATION, ROWS,
    SAMPLES_PER_PIXEL, jpeg_2000, jpeg_ls, jpeg_xl, number, text,
};
use crate::decode::MAX_IMAGE_BYTES;
use crate::formats::Outcome;

const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// What a file says of its frames.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 1 or 3.
    pub(super) channels: usize,
}

impl Shape {
    /// Whether a frame has the shape that its file states. Decoders ask before they take memory for it.
    pub(super) fn check(self, width: usize, height: usize, channels: usize) -> Outcome<()> {
        if (width, height, channels) == (self.width, self.height, self.channels) {
            return Ok(());
        }
        let Self { width: w, height: h, channels: c } = self;
        Err(format!("it has {width}x{height} pixels of {channels} components, and the file states {w}x{h} of {c}"))
    }
}

/// A decoded frame: row by row, components last.
pub(super) struct Coded {
    /// The bits that samples have, up to 16.
    pub(super) bits: u32,
    /// Those bits; of signed samples in two's complement.
    pub(super) samples: Vec<u16>,
}

/// Why a stream is not read that ends too early.
pub(super) fn cut() -> String {
    "it is cut short".to_owned()
}

/// A way of compressing.
struct Codec {
    name: &'static str,
    /// What every frame begins with: one of these.
    marks: &'static [&'static [u8]],
    /// The colours that a decoder makes RGB of: C.7.6.3.1.2.
    undoes: &'static [&'static str],
    decode: fn(&[u8], Shape) -> Outcome<Coded>,
}

/// The codec of a transfer syntax; none where dicom-rs reads it, or nobody knows it.
fn codec(syntax: &str) -> Outcome<Option<Codec>> {
    let Some(Ok(number)) = syntax.strip_prefix("1.2.840.10008.1.2.4.").map(str::parse::<u32>) else { return Ok(None) };
    let unread = match number {
        80 | 81 => {
            let marks: &[&[u8]] = &[&[0xFF, 0xD8, 0xFF]];
            return Ok(Some(Codec { name: "JPEG-LS", marks, undoes: &[], decode: jpeg_ls::decode }));
        }
        90 | 91 => {
            let marks: &[&[u8]] = &[&[0xFF, 0x4F, 0xFF, 0x51]];
            let undoes = &["YBR_RCT", "YBR_ICT"];
            return Ok(Some(Codec { name: "JPEG 2000", marks, undoes, decode: jpeg_2000::decode }));
        }
        110..=112 => {
            let undoes = &["XYB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420"];
            return Ok(Some(Codec { name: "JPEG XL", marks: jpeg_xl::MARKS, undoes, decode: jpeg_xl::decode }));
        }
        92 | 93 => "JPEG 2000 of several components (part 2)",
        94 | 95 | 204 | 205 => "elsewhere (JPIP)",
        100..=108 => "a video (MPEG)",
        201..=203 => "High-Throughput JPEG 2000",
        _ => return Ok(None),
    };
    Err(format!("its pixels are {unread}, which is not read: convert it to an uncompressed transfer syntax"))
}

/// The compressed frames of a file. A frame may lie in several fragments, of which the first begins with one of its codec's marks.
fn streams<'a>(fragments: &'a [Vec<u8>], frames: usize, marks: &[&[u8]]) -> Outcome<Vec<Cow<'a, [u8]>>> {
    if fragments.len() == frames {
        return Ok(fragments.iter().map(|fragment| Cow::Borrowed(fragment.as_slice())).collect());
    }
    let mut streams: Vec<Cow<'_, [u8]>> = vec![];
    for fragment in fragments {
        match streams.last_mut() {
            Some(stream) if frames == 1 || !marks.iter().any(|mark| fragment.starts_with(mark)) => {
                stream.to_mut().extend(fragment)
            }
            _ => streams.push(Cow::Borrowed(fragment)),
        }
    }
    if streams.len() == frames {
        Ok(streams)
    } else {
        Err(format!("it states {frames} frames and has {}", streams.len()))
    }
}

/// Makes of a file of `frames` frames, whose size is one that is read, one that is not compressed.
pub(super) fn unpack(object: &mut DefaultDicomObject, frames: usize) -> Outcome<()> {
    let syntax = object.meta().transfer_syntax().to_owned();
    let Some(Codec { name, marks, undoes, decode }) = codec(&syntax)? else { return Ok(()) };
    let side = |tag| number(object, tag).unwrap_or(0) as usize;
    let shape = Shape { width: side(COLUMNS), height: side(ROWS), channels: side(SAMPLES_PER_PIXEL).max(1) };
    let (allocated, signed) = (side(BITS_ALLOCATED), side(PIXEL_REPRESENTATION) == 1);
    if !matches!(allocated, 8 | 16) || !matches!(shape.channels, 1 | 3) || shape.width * shape.height == 0 {
        let Shape { width, height, channels } = shape;
        return Err(format!("its {width}x{height} pixels of {channels} samples with {allocated} bits are not read"));
    }
    let pixels = object.take(PIXEL_DATA).ok_or("it has no pixels")?;
    let fragments = pixels.fragments().ok_or_else(|| format!("its pixels are not the {name} that it states"))?;
    let streams = streams(fragments, frames, marks)?;
    let width = allocated / 8;
    let samples = shape.width * shape.height * shape.channels;
    let size = samples * width;
    let native = |frame: usize, stream: &[u8], native: &mut [u8]| {
        let coded = decode(stream, shape).and_then(|coded| match coded.bits as usize {
            bits if bits > allocated => Err(format!("it has {bits} bits, and the file states {allocated}")),
            _ => Ok(coded),
        });
        let coded = coded.map_err(|reason| format!("the {name} of frame {} is not read: {reason}", frame + 1))?;
        // Whether samples are signed is the file's to say: codestreams are often of the other opinion, of the same bits.
        let shift = if signed { 16 - coded.bits } else { 0 };
        for (native, sample) in native.chunks_mut(width).zip(coded.samples) {
            let sample = if signed { ((sample << shift) as i16 >> shift) as u16 } else { sample };
            match native {
                [byte] => *byte = sample as u8,
                pair => pair.copy_from_slice(&sample.to_ne_bytes()),
            }
        }
        Ok(())
    };
    let mut data = vec![0; size * frames];
    // Decoders hold samples in 32 bits: no more frames at once than an image may take.
    let at_once = (MAX_IMAGE_BYTES as usize / (4 * samples)).max(1);
    for (group, (data, streams)) in data.chunks_mut(at_once * size).zip(streams.chunks(at_once)).enumerate() {
        let frames = data.par_chunks_mut(size).zip(streams).enumerate();
        let done: Vec<Outcome<()>> =
            frames.map(|(frame, (data, stream))| native(group * at_once + frame, stream, data)).collect();
        // The first frame that is broken is the one to name, whichever thread came first.
        done.into_iter().collect::<Outcome<()>>()?;
    }
    if text(object, PHOTOMETRIC_INTERPRETATION).is_some_and(|kind| undoes.contains(&kind.as_str())) {
        object.put(DataElement::new(PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from("RGB")));
    }
    if shape.channels > 1 {
        object.put(DataElement::new(PLANAR_CONFIGURATION, VR::US, PrimitiveValue::from(0u16)));
    }
    object.put(DataElement::new(PIXEL_DATA, VR::OW, PrimitiveValue::U8(data.into())));
    object.meta_mut().transfer_syntax = EXPLICIT_LITTLE_ENDIAN.to_owned();
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const GREY: Shape = Shape { width: 13, height: 11, channels: 1 };
    const RGB: Shape = Shape { channels: 3, ..GREY };

    /// The pattern of `tests/fixtures/codestreams`, in so many bits.
    fn grey(bits: u32) -> Vec<u16> {
        let base = |x: u32, y: u32| match (x, y) {
            (_, 0..3) => 50,
            (0..4, _) => 200,
            _ => (x * x * 7 + y * 13) % 256,
        };
        (0..143).map(|at| (base(at % 13, at / 13) * ((1 << bits) - 1) / 255) as u16).collect()
    }

    fn rgb() -> Vec<u16> {
        grey(8).into_iter().flat_map(|level| [level, 255 - level, (level + 90) % 256]).collect()
    }

    /// Holds what a stream decodes to against the pattern, and that no stream which is not whole is taken for one.
    pub(in super::super) fn check(
        decode: fn(&[u8], Shape) -> Outcome<Coded>,
        stream: &[u8],
        bits: u32,
        is_rgb: bool,
        off: u16,
    ) {
        let (shape, expected) = if is_rgb { (RGB, rgb()) } else { (GREY, grey(bits)) };
        let coded = decode(stream, shape).unwrap();
        assert_eq!((coded.bits, coded.samples.len()), (bits, expected.len()));
        let far = coded.samples.iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected)).max().unwrap();
        assert!(far <= off, "off by {far}");
        for kept in 0..stream.len() {
            assert!(decode(&stream[..kept], shape).is_err(), "cut to {kept}");
        }
        let other = Shape { width: 12, ..shape };
        assert!(decode(stream, other).err().unwrap().contains("13x11 pixels"));
        assert!(decode(stream, Shape { channels: 4 - shape.channels, ..shape }).err().unwrap().contains("components"));
        // What is changed somewhere may decode, but not to anything else than an image of that shape.
        for at in 0..stream.len() {
            for change in [1 << (at % 8), 0xFF] {
                let mut changed = stream.to_vec();
                changed[at] ^= change;
                if let Ok(coded) = decode(&changed, shape) {
                    assert_eq!(coded.samples.len(), expected.len(), "changed at {at}");
                }
            }
        }
    }

    /// Samples of the pattern in 12 bits, less half of what those may be, in two's complement.
    pub(in super::super) fn signed() -> Vec<u16> {
        grey(12).into_iter().map(|level| level.wrapping_sub(2048) & 0xFFF).collect()
    }

    #[test]
    fn fragments_make_frames() {
        let fragments = [vec![1, 2], vec![9], vec![1, 2, 3]];
        let joined = |frames| {
            streams(&fragments, frames, &[&[1, 2]])
                .map(|all| all.iter().map(|stream| stream.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(joined(3).unwrap(), fragments);
        assert_eq!(joined(2).unwrap(), [vec![1, 2, 9], vec![1, 2, 3]]);
        assert_eq!(joined(1).unwrap(), [vec![1, 2, 9, 1, 2, 3]]);
        assert_eq!(joined(4).unwrap_err(), "it states 4 frames and has 2");
    }

    #[test]
    fn what_is_not_read_is_named() {
        for (syntax, name) in [("201", "High-Throughput JPEG 2000"), ("102", "MPEG"), ("93", "part 2")] {
            let reason = codec(&format!("1.2.840.10008.1.2.4.{syntax}")).err().unwrap();
            assert!(reason.contains(name) && reason.contains("uncompressed"), "{reason}");
        }
        assert!(codec("1.2.840.10008.1.2.4.50").unwrap().is_none() && codec("1.2.840.10008.1.2.1").unwrap().is_none());
    }
}
