//! DICOM files whose pixels are compressed, or numbers of a palette.

use cellforge_data::OpenOptions;

use super::dicom::{element, open, short, whole};
use super::options;

const NATIVE: &str = "1.2.840.10008.1.2.1";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const JPEG_XL: &str = "1.2.840.10008.1.2.4.110";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const RLE: &str = "1.2.840.10008.1.2.5";
const BASELINE: &str = "1.2.840.10008.1.2.4.50";

macro_rules! stream {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/codestreams/", $name)).to_vec()
    };
}

/// A file of 13 x 11 pixels, the size of the codestreams.
struct Coded<'a> {
    syntax: &'a str,
    interpretation: &'a str,
    rows: u16,
    bits: (u16, u16),
    signed: bool,
    frames: usize,
    /// Fragments; or native pixels, all in one.
    pixels: Vec<Vec<u8>>,
    /// Elements after those of the pixels' form.
    more: Vec<Vec<u8>>,
}

fn coded<'a>(syntax: &'a str, interpretation: &'a str, pixels: &[Vec<u8>]) -> Coded<'a> {
    let (rows, bits, pixels) = (11, (16, 12), pixels.to_vec());
    Coded { syntax, interpretation, rows, bits, signed: false, frames: 1, pixels, more: vec![] }
}

fn coded_file(coded: &Coded<'_>) -> Vec<u8> {
    let (allocated, stored) = coded.bits;
    let is_grey = coded.interpretation.starts_with("MONO") || coded.interpretation.starts_with("PAL");
    let mut elements = vec![
        short((0x28, 2), if is_grey { 1 } else { 3 }),
        element((0x28, 4), "CS", coded.interpretation.as_bytes()),
        short((0x28, 6), 0),
        element((0x28, 8), "IS", coded.frames.to_string().as_bytes()),
        short((0x28, 0x10), coded.rows),
        short((0x28, 0x11), 13),
        short((0x28, 0x100), allocated),
        short((0x28, 0x101), stored),
        short((0x28, 0x102), stored.saturating_sub(1)),
        short((0x28, 0x103), u16::from(coded.signed)),
    ];
    elements.extend(coded.more.iter().cloned());
    if matches!(coded.syntax, NATIVE | DEFLATED) {
        elements.push(element((0x7FE0, 0x10), "OW", &coded.pixels.concat()));
        return whole(coded.syntax, &elements);
    }
    // An item with the offset of each frame's first fragment, where there are as many frames as pairs of them; and one a fragment.
    let item = |bytes: &[u8]| {
        let even = [bytes, &vec![0; bytes.len() % 2]].concat();
        [&[0xFE, 0xFF, 0x00, 0xE0][..], &(even.len() as u32).to_le_bytes(), &even].concat()
    };
    let mut offsets = vec![];
    if coded.pixels.len() == 2 * coded.frames {
        let mut offset = 0;
        for pair in coded.pixels.chunks(2) {
            offsets.extend((offset as u32).to_le_bytes());
            offset += pair.iter().map(|fragment| item(fragment).len()).sum::<usize>();
        }
    }
    elements.push([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF].to_vec());
    elements.push(item(&offsets));
    elements.extend(coded.pixels.iter().map(|fragment| item(fragment)));
    elements.push([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0].to_vec());
    whole(coded.syntax, &elements)
}

/// Native pixels of 16 bits in RLE (PS3.5, annex G): the upper and the lower bytes, in runs of one byte each.
fn rle(native: &[u8]) -> Vec<u8> {
    let plane = |byte: usize| {
        let bytes = native.chunks(2).map(move |pair| pair[byte]);
        let mut plane: Vec<u8> = bytes.flat_map(|byte| [0, byte]).collect();
        plane.resize(plane.len().next_multiple_of(2), 0);
        plane
    };
    let (upper, lower) = (plane(1), plane(0));
    let mut header = [2, 64, 64 + upper.len() as u32].map(u32::to_le_bytes).concat();
    header.resize(64, 0);
    [header, upper, lower].concat()
}

/// The pattern of the codestreams, as native pixels of 16 bits.
fn pattern(bits: u32, turned: impl Fn(u16) -> u16) -> Vec<u8> {
    let base = |x: u32, y: u32| {
        if y < 3 {
            50
        } else if x < 4 {
            200
        } else {
            (x * x * 7 + y * 13) % 256
        }
    };
    (0..143).flat_map(|at| turned((base(at % 13, at / 13) * ((1 << bits) - 1) / 255) as u16).to_le_bytes()).collect()
}

/// Asserts that the second file and all after it give the images of the first.
fn assert_same(files: &[Coded<'_>], options: &OpenOptions) {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..files.len()).map(|at| format!("a/{at}.dcm")).collect();
    let files: Vec<_> = names.iter().map(String::as_str).zip(files.iter().map(coded_file)).collect();
    let view = open(dir.path(), &files, options).unwrap();
    let each = view.len() / files.len();
    assert!(view.image(0).iter().any(|level| *level != view.image(0)[0]));
    for at in each..view.len() {
        assert_eq!(view.image(at), view.image(at % each), "{}", view.name(at));
    }
}

#[test]
fn compressed_files_are_those_that_were_not() {
    let native = pattern(12, |level| level);
    for interpretation in ["MONOCHROME2", "MONOCHROME1"] {
        for more in [
            vec![],
            vec![element((0x28, 0x1050), "DS", b"900"), element((0x28, 0x1051), "DS", b"1500")],
            vec![element((0x28, 0x1052), "DS", b"-1024"), element((0x28, 0x1053), "DS", b"2")],
        ] {
            let file = |syntax, pixels| Coded { more: more.clone(), ..coded(syntax, interpretation, &[pixels]) };
            assert_same(
                &[
                    file(NATIVE, native.clone()),
                    file(JPEG_2000, stream!("grey12.j2k")),
                    file("1.2.840.10008.1.2.4.91", stream!("grey12.j2k")),
                    file(JPEG_LS, stream!("grey12.jls")),
                    file(JPEG_XL, stream!("grey12.jxl")),
                    file("1.2.840.10008.1.2.4.57", stream!("grey12-lossless.jpg")),
                    file("1.2.840.10008.1.2.4.70", stream!("grey12-lossless.jpg")),
                    file(RLE, rle(&native)),
                    file(DEFLATED, native.clone()),
                ],
                &options(),
            );
        }
    }
}

#[test]
fn signed_samples_are_what_the_file_says() {
    let file = |syntax, pixels| Coded { signed: true, ..coded(syntax, "MONOCHROME2", &[pixels]) };
    // Of a signed codestream; and of one that is not, as many encoders write them: the same bits.
    let less = pattern(12, |level| level.wrapping_sub(2048));
    assert_same(&[file(NATIVE, less), file(JPEG_2000, stream!("signed12.j2k"))], &options());
    let wrapped = pattern(12, |level| ((level << 4) as i16 >> 4) as u16);
    assert_same(
        &[file(NATIVE, wrapped), file(JPEG_2000, stream!("grey12.j2k")), file(JPEG_LS, stream!("grey12.jls"))],
        &options(),
    );
}

#[test]
fn frames_lie_in_one_fragment_or_several() {
    let streams = [stream!("grey12.j2k"), stream!("grey10.j2k"), stream!("grey12.j2k")];
    let native = [12, 10, 12].map(|bits| pattern(bits, |level| level));
    let halves: Vec<_> = streams.iter().flat_map(|stream| [stream[..100].to_vec(), stream[100..].to_vec()]).collect();
    let file = |syntax, pixels: &[_]| Coded { frames: 3, ..coded(syntax, "MONOCHROME2", pixels) };
    let files = [file(NATIVE, &native), file(JPEG_2000, &streams), file(JPEG_2000, &halves)];
    assert_same(&files, &options());
    let lone = coded(JPEG_2000, "MONOCHROME2", &halves[..2]);
    assert_same(&[coded(NATIVE, "MONOCHROME2", &native[..1]), lone], &options());
}

#[test]
fn compressed_colours_are_colours() {
    let bytes = pattern(8, |level| level);
    let levels = bytes.chunks(2).map(|pair| pair[0]);
    let rgb: Vec<u8> = levels.flat_map(|level| [level, 255 - level, level.wrapping_add(90)]).collect();
    let file = |syntax, kind, pixels| Coded { bits: (8, 8), ..coded(syntax, kind, &[pixels]) };
    let mut colours = OpenOptions::new(8, 3);
    colours.allow_one_class = true;
    assert_same(
        &[
            file(NATIVE, "RGB", [rgb, vec![0]].concat()),
            file(JPEG_2000, "YBR_RCT", stream!("rgb-rct.j2k")),
            file(JPEG_2000, "RGB", stream!("rgb-rct.j2k")),
            file(JPEG_LS, "RGB", stream!("rgb-plane.jls")),
            file(JPEG_LS, "RGB", stream!("rgb-line.jls")),
            file(JPEG_LS, "RGB", stream!("rgb-sample.jls")),
            file(JPEG_XL, "RGB", stream!("rgb.jxl")),
            file("1.2.840.10008.1.2.4.112", "XYB", stream!("rgb-box.jxl")),
        ],
        &colours,
    );
    assert_same(
        &[
            file(JPEG_2000, "RGB", stream!("rgb-ict.j2k")),
            file("1.2.840.10008.1.2.4.91", "YBR_ICT", stream!("rgb-ict.j2k")),
        ],
        &colours,
    );
}

#[test]
fn compressed_files_that_cannot_be_read_say_why() {
    let grey = |syntax| coded(syntax, "MONOCHROME2", &[stream!("grey12.j2k")]);
    for (file, words) in [
        (Coded { rows: 12, ..grey(JPEG_2000) }, "13x11 pixels of 1 components, and the file states 13x12 of 1"),
        (Coded { bits: (8, 8), ..grey(JPEG_2000) }, "it has 12 bits, and the file states 8"),
        (Coded { bits: (16, 0), ..grey(JPEG_2000) }, "0 bits of 16"),
        (Coded { bits: (16, 0), ..coded(NATIVE, "MONOCHROME2", &[vec![7; 286]]) }, "0 bits of 16"),
        (Coded { frames: 2, ..grey(JPEG_2000) }, "it states 2 frames and has 1"),
        (grey(JPEG_LS), "does not begin as JPEG-LS does"),
        (Coded { pixels: vec![stream!("grey12.j2k")[..200].to_vec()], ..grey(JPEG_2000) }, "frame 1"),
        (grey("1.2.840.10008.1.2.4.201"), "High-Throughput JPEG 2000, which is not read"),
        (grey(JPEG_XL), "JPEG XL of frame 1 is not read"),
        (coded(JPEG_XL, "MONOCHROME2", &[stream!("rgb.jxl")]), "13x11 pixels of 3 components"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path(), &[("a/x.dcm", coded_file(&file))], &options()).unwrap_err();
        let error = format!("{error:?} {error}");
        assert!(error.contains("a/x.dcm") && error.contains(words), "{words}: {error}");
    }
}

/// Elements of a palette: for red, green and blue the entries, and what their descriptor says.
fn palette(descriptor: [u16; 3], tables: [&[u8]; 3]) -> Vec<Vec<u8>> {
    let said: Vec<u8> = descriptor.into_iter().flat_map(u16::to_le_bytes).collect();
    let described = (0x1101..).take(3).map(|tag| element((0x28, tag), "US", &said));
    let tables = (0x1201..).zip(tables).map(|(tag, table)| element((0x28, tag), "OW", table));
    described.chain(tables).collect()
}

#[test]
fn palettes_make_colours() {
    // Values from 40 to 210: those below 60 have the first of three colours, and those from 62 on the last.
    let values: Vec<u8> = (0..143).map(|at| [40, 60, 61, 62, 210][at % 5]).collect();
    let colour = |value: u8| match value {
        0..=60 => [10, 20, 30],
        61 => [250, 5, 0],
        _ => [7, 8, 200],
    };
    let mut colours = OpenOptions::new(8, 3);
    colours.allow_one_class = true;
    let expected = values.iter().flat_map(|value| colour(*value)).chain([0]).collect();
    let expected = Coded { bits: (8, 8), ..coded(NATIVE, "RGB", &[expected]) };
    let words = |entries: [u8; 3]| entries.map(|entry| [0x99, entry]).concat();
    let wide = |entries: [u8; 3]| entries.map(|entry| [entry, 0]).concat();
    let (red, green, blue) = ([10, 250, 7], [20, 5, 8], [30, 0, 200]);
    let narrow = |entries: [u8; 3]| [&entries[..], &[0]].concat();
    let packed = palette([3, 60, 8], [&narrow(red), &narrow(green), &narrow(blue)]);
    let full = palette([3, 60, 16], [&words(red), &words(green), &words(blue)]);
    let spread = palette([3, 60, 8], [&wide(red), &wide(green), &wide(blue)]);
    let file = |more: &Vec<Vec<u8>>, bits: (u16, u16), pixels: Vec<u8>| Coded {
        bits,
        more: more.clone(),
        ..coded(NATIVE, "PALETTE COLOR", &[pixels])
    };
    let bytes = [values.clone(), vec![0]].concat();
    let deep: Vec<u8> = values.iter().flat_map(|value| u16::from(*value).to_le_bytes()).collect();
    assert_same(
        &[
            expected,
            file(&packed, (8, 8), bytes.clone()),
            file(&full, (8, 8), bytes.clone()),
            file(&spread, (8, 8), bytes),
            file(&full, (16, 16), deep.clone()),
        ],
        &colours,
    );
    // A first value below 0: all others have the last colour.
    let last = Coded { bits: (8, 8), ..coded(NATIVE, "RGB", &[[[7, 8, 200].repeat(143), vec![0]].concat()]) };
    let below = palette([3, 0xFFFE, 16], [&words(red), &words(green), &words(blue)]);
    let below = Coded { signed: true, ..file(&below, (16, 16), deep) };
    // All 65536 entries, written as 0: each value is a grey of its own.
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let greys = values.iter().flat_map(|value| [*value; 3]).chain([0]).collect();
    let greys = Coded { bits: (8, 8), ..coded(NATIVE, "RGB", &[greys]) };
    let own = values.iter().flat_map(|value| [0xAA, *value]).collect();
    assert_same(&[greys, file(&palette([0, 0, 16], [&all, &all, &all]), (16, 16), own)], &colours);
    let dir = tempfile::tempdir().unwrap();
    let files = [("a/0.dcm", coded_file(&last)), ("b/1.dcm", coded_file(&below))];
    let view = open(dir.path(), &files, &colours).unwrap();
    assert_eq!(view.image(0), view.image(1));
}

#[test]
fn palettes_that_cannot_be_read_say_why() {
    let whole = palette([3, 0, 8], [&[1, 2, 3, 0]; 3]);
    let segmented: Vec<Vec<u8>> = (0..6)
        .map(|at| match at {
            0..3 => whole[at].clone(),
            _ => element((0x28, 0x1221 + at as u16 - 3), "OW", &[0, 0, 3, 0]),
        })
        .collect();
    let other = palette([2, 0, 8], [&[1, 2]; 3])[2].clone();
    for (more, words) in [
        (vec![], "its red palette is not described"),
        (whole[..5].to_vec(), "its blue palette is missing"),
        (segmented, "its red palette is segmented, which is not read"),
        (palette([9, 0, 16], [&[0; 16]; 3]), "its red palette has 8 of 9 entries"),
        ([&whole[..2], &[other], &whole[3..]].concat(), "different lengths"),
    ] {
        let file = Coded { bits: (8, 8), more, ..coded(NATIVE, "PALETTE COLOR", &[vec![1; 144]]) };
        let dir = tempfile::tempdir().unwrap();
        let error = format!("{:?}", open(dir.path(), &[("a/x.dcm", coded_file(&file))], &options()).unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_jpeg_in_a_dicom_file_is_that_jpeg() {
    let dir = tempfile::tempdir().unwrap();
    let mut dicom = coded(BASELINE, "MONOCHROME2", &[stream!("grey8.jpg")]);
    dicom.bits = (8, 8);
    // The window that changes nothing: without one, levels are scaled by the range of the set.
    dicom.more = vec![element((0x28, 0x1050), "DS", b"128"), element((0x28, 0x1051), "DS", b"256")];
    let files = [("a/1.dcm", coded_file(&dicom)), ("a/2.jpg", stream!("grey8.jpg"))];
    let view = open(dir.path(), &files, &options()).unwrap();
    // Two decoders, which may round otherwise.
    let far = view.image(0).iter().zip(view.image(1)).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(far <= 2 && view.image(0).iter().any(|level| *level != view.image(0)[0]), "{far}");
}
