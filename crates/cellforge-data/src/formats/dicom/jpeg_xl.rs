//! JPEG XL (ISO/IEC 18181-1), lossless, lossy, and made of a JPEG file: DICOM's transfer syntaxes 1.2.840.10008.1.2.4.110 to .112. `jxl-oxide`
//! decodes it.

use jxl_oxide::image::BitDepth;
use jxl_oxide::{AllocTracker, InitializeResult, JxlImage, JxlThreadPool};

use super::compressed::{Coded, Shape, cut};
use crate::decode::MAX_IMAGE_BYTES;
use crate::formats::Outcome;

/// What a bare codestream begins with, and one in a container.
pub(super) const MARKS: &[&[u8]] = &[&[0xFF, 0x0A], &[0, 0, 0, 12, b'J', b'X', b'L', b' ']];

/// Decodes one frame, which has to be of the shape that the file states. Colours are RGB, however they were coded.
pub(super) fn decode(stream: &[u8], shape: Shape) -> Outcome<Coded> {
    let broken = |error| format!("it is broken or of a kind that is not read ({error})");
    let tracker = AllocTracker::with_limit(MAX_IMAGE_BYTES as usize);
    let mut begun = JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(tracker).build_uninit();
    begun.feed_bytes(stream).map_err(broken)?;
    let InitializeResult::Initialized(image) = begun.try_init().map_err(broken)? else { return Err(cut()) };
    shape.check(image.width() as usize, image.height() as usize, image.pixel_format().channels())?;
    let bits = match image.image_header().metadata.bit_depth {
        BitDepth::IntegerSample { bits_per_sample: bits @ 1..=16 } => bits,
        other => return Err(format!("its samples ({other:?}) are not read")),
    };
    if !image.is_loading_done() {
        return Err(cut());
    }
    if image.num_loaded_keyframes() != 1 {
        return Err(format!("it has {} frames, and one is expected", image.num_loaded_keyframes()));
    }
    let frame = image.render_frame(0).map_err(broken)?;
    let mut values = vec![0f32; shape.width * shape.height * shape.channels];
    if frame.stream().write_to_buffer(&mut values) != values.len() {
        return Err("it decodes to another shape than it states".to_owned());
    }
    // Samples are parts of the largest. A 16-bit one comes back exactly.
    let most = ((1u32 << bits) - 1) as f32;
    let samples = values.into_iter().map(|value| (value * most).round().clamp(0., most) as u16).collect();
    Ok(Coded { bits, samples })
}

#[cfg(test)]
mod tests {
    use super::super::compressed::tests::check;
    use super::*;

    macro_rules! stream {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/codestreams/", $name, ".jxl")).as_slice()
        };
    }

    #[test]
    fn every_depth_and_colours_are_read() {
        for (bits, stream) in [(8, stream!("grey8")), (12, stream!("grey12")), (16, stream!("grey16"))] {
            check(decode, stream, bits, false, 0);
        }
        check(decode, stream!("rgb"), 8, true, 0);
        check(decode, stream!("rgb-box"), 8, true, 0);
        // A lossy stream, in a colour space of its own: its encoder's decoder is off by 5.
        check(decode, stream!("rgb-lossy"), 8, true, 6);
    }

    #[test]
    fn what_makes_a_fragment_even_is_passed_over() {
        let shape = Shape { width: 13, height: 11, channels: 3 };
        for stream in [stream!("rgb"), stream!("rgb-box")] {
            let padded = [stream, &[0]].concat();
            assert_eq!(decode(&padded, shape).unwrap().samples, decode(stream, shape).unwrap().samples);
        }
    }
}
