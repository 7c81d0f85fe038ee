//! Formats beyond the usual ones: depths, pages, volumes, arrays and DICOM files become images by one rule for a set.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod common;

use std::io::{Cursor, Write};
use std::path::Path;

use cellforge_data::{Index, IntensityRule, OpenOptions, Slices, View};
use common::write_folder;
use image::{ImageBuffer, ImageFormat, Luma};
use tiff::encoder::{TiffEncoder, colortype};

fn options() -> OpenOptions {
    let mut options = OpenOptions::new(8, 1);
    options.allow_one_class = true;
    options
}

/// 16-bit grey TIFF of as many pages as there are values, each page the ramp from 0 to its value.
fn tiff16(values: &[u16]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
    for value in values {
        let data: Vec<u16> = (0..64u32).map(|i| (u32::from(*value) * i / 63) as u16).collect();
        encoder.write_image::<colortype::Gray16>(8, 8, &data).unwrap();
    }
    bytes.into_inner()
}

#[test]
fn twelve_bits_in_sixteen_are_scaled_by_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let png = |value: u16| {
        let image = ImageBuffer::from_fn(8, 8, |x, y| Luma([((u32::from(value) * (8 * y + x)) / 63) as u16]));
        let mut bytes = Cursor::new(Vec::new());
        image::DynamicImage::from(image).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    for (kind, images) in [("tif", [tiff16(&[4080]), tiff16(&[2040])]), ("png", [png(4080), png(2040)])] {
        let root = dir.path().join(kind);
        write_folder(&root, &[(&format!("a/x.{kind}"), &images[0]), (&format!("b/y.{kind}"), &images[1])]);
        let view = View::open(&root, &options()).unwrap();
        let found = view.facts().intensities.clone().unwrap();
        assert_eq!((found.low, found.high, found.rule, found.images), (0.0, 4080.0, IntensityRule::Range, 2));
        assert_eq!((view.image(0)[63], view.image(1)[63]), (255, 128), "{kind}");
        let mut window = options();
        window.window = Some((0.0, 8160.0));
        let view = View::open(&root, &window).unwrap();
        assert_eq!((view.image(0)[63], view.facts().intensities.as_ref().unwrap().rule), (128, IntensityRule::Given));
        window.window = Some((5.0, 5.0));
        assert!(View::open(&root, &window).is_err());
    }
}

#[test]
fn a_cache_keeps_the_rule_and_follows_the_window() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_folder(dir.path(), &[("a/x.tif", &tiff16(&[4080, 100])), ("b/y.tif", &tiff16(&[2040]))]);
    let mut cached = options();
    cached.cache_dir = Some(cache.path().into());
    let first = View::open(dir.path(), &cached).unwrap();
    let again = View::open(dir.path(), &cached).unwrap();
    assert_eq!((first.fingerprint(), first.facts()), (again.fingerprint(), again.facts()));
    assert_eq!(first.fingerprint(), View::open(dir.path(), &options()).unwrap().fingerprint());
    cached.window = Some((0.0, 65535.0));
    assert_ne!(View::open(dir.path(), &cached).unwrap().image(0), first.image(0));
}

#[test]
fn pages_of_a_tiff_are_images_of_one_group() {
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), &[("a/x.tif", &tiff16(&[10, 20, 30])), ("b/y.tif", &tiff16(&[40, 50, 60]))]);
    let view = View::open(dir.path(), &options()).unwrap();
    assert_eq!(view.names().collect::<Vec<_>>()[..3], ["a/x.tif#1", "a/x.tif#2", "a/x.tif#3"]);
    assert_eq!((view.group_names(), view.has_groups()), (vec!["a/x.tif", "b/y.tif"], true));
    assert_eq!(view.image(2)[63], 128);
    let mut middle = options();
    middle.stacks.slices = Slices::Middle;
    assert_eq!(View::open(dir.path(), &middle).unwrap().names().collect::<Vec<_>>(), ["a/x.tif#2", "b/y.tif#2"]);
    // A single file is a source too.
    let lone = View::open(dir.path().join("a/x.tif"), &options()).unwrap();
    assert_eq!((lone.len(), lone.classes()), (3, &["x".to_owned()][..]));
    // One that is broken says so, or is skipped as a whole.
    std::fs::write(dir.path().join("a/z.tif"), &tiff16(&[1, 2])[..40]).unwrap();
    assert!(View::open(dir.path(), &options()).unwrap_err().to_string().contains("a/z.tif"));
    let mut skipping = options();
    skipping.skip_bad = true;
    assert_eq!(View::open(dir.path(), &skipping).unwrap().len(), 6);
}

#[test]
fn more_images_than_are_decoded_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<u16> = (0..600).map(|i| i * 100).collect();
    write_folder(
        dir.path(),
        &[("a/x.tif", &tiff16(&many)), ("b/y.tif", &tiff16(&[59_900, 7])), ("b/z.tif", &tiff16(&[9]))],
    );
    let view = View::open(dir.path(), &options()).unwrap();
    assert_eq!((view.len(), view.image(599)[63], view.image(600)[63]), (603, 255, 255));
    assert_eq!((view.name(599), view.name(602)), ("a/x.tif#600", "b/z.tif"));
}

#[test]
fn exif_turns_images() {
    // A JPEG with a bright left half, to be turned a quarter clockwise: its top is bright then.
    let image = image::GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 230 } else { 20 }]));
    let mut bytes = Cursor::new(Vec::new());
    image::DynamicImage::from(image).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    let bytes = bytes.into_inner();
    let exif: &[u8] = &[
        b"Exif\0\0II*\0\x08\0\0\0".as_slice(),
        // One entry: tag 0x112, a short, one of them, 6; and no further directory.
        &[1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let segment = [&[0xFF, 0xE1][..], &((exif.len() + 2) as u16).to_be_bytes(), exif].concat();
    let turned = [&bytes[..2], &segment, &bytes[2..]].concat();
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), &[("a/plain.jpg", &bytes), ("b/turned.jpg", &turned)]);
    let view = View::open(dir.path(), &options()).unwrap();
    let corners = |i: usize| [view.image(i)[9] > 128, view.image(i)[14] > 128, view.image(i)[49] > 128];
    assert_eq!(corners(0), [true, false, true]);
    assert_eq!(corners(1), [true, true, false]);
}

#[cfg(feature = "nifti")]
#[test]
fn volumes_are_cut_into_slices() {
    let nii = |offset: f32| {
        let mut bytes = vec![0u8; 352];
        bytes[..4].copy_from_slice(&348i32.to_le_bytes());
        for (at, size) in [3u16, 8, 8, 5].into_iter().enumerate() {
            bytes[40 + 2 * at..42 + 2 * at].copy_from_slice(&size.to_le_bytes());
        }
        bytes[70..72].copy_from_slice(&16i16.to_le_bytes());
        bytes[72..74].copy_from_slice(&32i16.to_le_bytes());
        bytes[108..112].copy_from_slice(&352f32.to_le_bytes());
        bytes[344..348].copy_from_slice(b"n+1\0");
        bytes.extend((0..320).flat_map(|i| (offset + i as f32).to_le_bytes()));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&bytes).unwrap();
        packed.finish().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), &[("a/v0.nii.gz", &nii(100.0)), ("b/v1.nii.gz", &nii(100.0))]);
    let view = View::open(dir.path(), &options()).unwrap();
    assert_eq!((view.class_counts(), view.name(4)), (vec![5, 5], "a/v0.nii.gz#5"));
    assert_eq!(view.group_names(), ["a/v0.nii.gz", "b/v1.nii.gz"]);
    let found = view.facts().intensities.clone().unwrap();
    assert_eq!(found.rule, IntensityRule::Percentiles);
    assert!((found.low - 101.6).abs() < 1.0 && (found.high - 417.4).abs() < 1.0, "{found}");
    let mut across = options();
    (across.stacks.axis, across.stacks.slices) = (1, Slices::Every(3));
    assert_eq!(Index::open(dir.path(), &across).unwrap().class_counts(), [3, 3]);
}

#[cfg(feature = "numpy")]
#[test]
fn arrays_of_medmnist_have_classes_and_parts() {
    let npy = |shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (part, n) in [("train", 6usize), ("val", 2), ("test", 4)] {
        for (name, array) in [
            ("images", npy(&format!("{n}, 8, 8"), &(0..n * 64).map(|i| (i % 251 + n) as u8).collect::<Vec<_>>())),
            ("labels", npy(&format!("{n}, 1"), &(0..n).map(|i| (i % 2) as u8).collect::<Vec<_>>())),
        ] {
            zip.start_file(format!("{part}_{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&array).unwrap();
        }
    }
    zip.finish().unwrap();
    let view = View::open(&path, &options()).unwrap();
    assert_eq!((view.classes(), view.class_counts()), (&["0".to_owned(), "1".to_owned()][..], vec![6, 6]));
    let parts = cellforge_data::split(&view, &cellforge_data::SplitOptions::default()).unwrap();
    assert_eq!((parts.train.len(), parts.val.len(), parts.test.len()), (6, 2, 4));
    assert!(view.facts().intensities.is_none());
}

#[cfg(feature = "dicom")]
mod dicom {
    use super::*;

    /// An element in explicit little-endian form.
    fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        let mut bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        bytes.extend(vr.as_bytes());
        if matches!(vr, "OW" | "OB") {
            bytes.extend([0, 0]);
            bytes.extend((value.len() as u32).to_le_bytes());
        } else {
            bytes.extend((value.len() as u16).to_le_bytes());
        }
        bytes.extend(value);
        bytes
    }

    struct Made<'a> {
        patient: &'a str,
        interpretation: &'a str,
        window: Option<(&'a str, &'a str)>,
        rescale: Option<(&'a str, &'a str)>,
        frames: usize,
        pixels: Vec<u16>,
    }

    /// A file in a transfer syntax, of these elements.
    fn whole(syntax: &str, elements: &[Vec<u8>]) -> Vec<u8> {
        let mut meta = element((2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.7");
        meta.extend(element((2, 3), "UI", b"1.2.3.4"));
        meta.extend(element((2, 0x10), "UI", syntax.as_bytes()));
        meta.extend(element((2, 0x12), "UI", b"1.2.3"));
        let mut bytes = vec![0u8; 128];
        bytes.extend(b"DICM");
        bytes.extend(element((2, 0), "UL", &(meta.len() as u32).to_le_bytes()));
        bytes.extend(meta);
        bytes.extend(element((8, 0x16), "UI", b"1.2.840.10008.5.1.4.1.1.7"));
        bytes.extend(element((8, 0x18), "UI", b"1.2.3.4"));
        bytes.extend(elements.concat());
        bytes
    }

    fn short(tag: (u16, u16), value: u16) -> Vec<u8> {
        element(tag, "US", &value.to_le_bytes())
    }

    /// A file of 8 x 8 pixels, 12 bits of 16; or of RGB in 8 bits.
    fn file(made: &Made<'_>) -> Vec<u8> {
        let colour = made.interpretation == "RGB";
        let (allocated, stored) = if colour { (8, 8) } else { (16, 12) };
        let mut elements = vec![
            element((0x10, 0x10), "PN", b"Doe^Jane"),
            element((0x10, 0x20), "LO", made.patient.as_bytes()),
            short((0x28, 2), if colour { 3 } else { 1 }),
            element((0x28, 4), "CS", made.interpretation.as_bytes()),
        ];
        if colour {
            elements.push(short((0x28, 6), 0));
        }
        elements.extend([
            element((0x28, 8), "IS", made.frames.to_string().as_bytes()),
            short((0x28, 0x10), 8),
            short((0x28, 0x11), 8),
            short((0x28, 0x100), allocated),
            short((0x28, 0x101), stored),
            short((0x28, 0x102), stored - 1),
            short((0x28, 0x103), 0),
        ]);
        if let Some((centre, width)) = made.window {
            elements.push(element((0x28, 0x1050), "DS", centre.as_bytes()));
            elements.push(element((0x28, 0x1051), "DS", width.as_bytes()));
        }
        if let Some((intercept, slope)) = made.rescale {
            elements.push(element((0x28, 0x1052), "DS", intercept.as_bytes()));
            elements.push(element((0x28, 0x1053), "DS", slope.as_bytes()));
        }
        let data: Vec<u8> = if colour {
            made.pixels.iter().map(|value| *value as u8).collect()
        } else {
            made.pixels.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        elements.push(element((0x7FE0, 0x10), if colour { "OB" } else { "OW" }, &data));
        whole("1.2.840.10008.1.2.1", &elements)
    }

    fn ramp(frames: usize) -> Vec<u16> {
        (0..frames * 64).map(|i| ((i % 64) * 65) as u16).collect()
    }

    fn made(patient: &str) -> Made<'_> {
        Made { patient, interpretation: "MONOCHROME2", window: None, rescale: None, frames: 1, pixels: ramp(1) }
    }

    fn open(root: &Path, files: &[(&str, Vec<u8>)], options: &OpenOptions) -> cellforge_data::Result<View> {
        write_folder(root, &files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>());
        View::open(root, options)
    }

    #[test]
    fn windows_rescale_and_inversion_make_grey_levels() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("a/window.dcm", file(&Made { window: Some(("2048", "4096")), ..made("P1") })),
            ("a/inverted", file(&Made { window: Some(("2048", "4096")), interpretation: "MONOCHROME1", ..made("P1") })),
            ("b/ct.dcm", file(&Made { window: Some(("40", "400")), rescale: Some(("-1024", "1")), ..made("P2") })),
            ("b/frames.dcm", file(&Made { frames: 3, pixels: ramp(3), ..made("P3") })),
            ("b/rgb.dcm", file(&Made { interpretation: "RGB", pixels: (0..192).collect(), ..made("P2") })),
        ];
        let view = open(dir.path(), &files, &options()).unwrap();
        assert_eq!((view.class_counts(), view.group_names().len()), (vec![2, 5], 3));
        let image = |name: &str| view.image(view.names().position(|other| other == name).unwrap());
        let level = |value: f64, centre: f64, width: f64| {
            (((value - (centre - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
        };
        for i in 0..64 {
            let value = (i * 65) as f64;
            assert_eq!(image("a/window.dcm")[i], level(value, 2048.0, 4096.0));
            assert_eq!(image("a/inverted")[i], 255 - level(value, 2048.0, 4096.0));
            assert_eq!(image("b/ct.dcm")[i], level(value - 1024.0, 40.0, 400.0));
        }
        // Without a window, intensities are the set's.
        assert_eq!((image("b/frames.dcm#3")[0], image("b/frames.dcm#3")[63]), (0, 255));
        assert_eq!(image("b/rgb.dcm")[0], 1); // Luma of (0, 1, 2).
        // A window that is asked for is one for all.
        let mut window = options();
        (window.window, window.stacks.windows) = (Some((-1024.0, 3071.0)), false);
        let asked = View::open(dir.path(), &window).unwrap();
        assert_eq!(asked.image(asked.names().position(|name| name == "b/ct.dcm").unwrap())[63], 255);
    }

    #[test]
    fn of_a_patient_a_pseudonym_alone_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("a/1.dcm", file(&made("SECRET-1"))),
            ("b/2.dcm", file(&made("SECRET-1"))),
            ("b/3.dcm", file(&made("SECRET-2"))),
        ];
        let view = open(dir.path(), &files, &options()).unwrap();
        assert!(view.group(0) == view.group(1) && view.group(0) != view.group(2));
        let told = format!(
            "{view:?} {:?} {:?}",
            view.facts(),
            (0..3).map(|i| (view.name(i), view.group(i))).collect::<Vec<_>>()
        );
        assert!(!told.contains("SECRET") && !told.contains("Doe"), "{told}");
        // The key is of the images: elsewhere the same patient has another pseudonym.
        let other = tempfile::tempdir().unwrap();
        let files = [
            ("a/1.dcm", file(&Made { pixels: vec![7; 64], ..made("SECRET-1") })),
            ("b/3.dcm", file(&made("SECRET-2"))),
        ];
        assert_ne!(open(other.path(), &files, &options()).unwrap().group(0), view.group(0));
    }

    #[test]
    fn what_is_broken_says_so() {
        let whole = file(&made("P1"));
        for kept in [0, 100, 140, 300, whole.len() - 20] {
            let dir = tempfile::tempdir().unwrap();
            let files = [("a/x.dcm", whole.clone()), ("b/y.dcm", whole[..kept].to_vec())];
            let error = open(dir.path(), &files, &options()).unwrap_err().to_string();
            assert!(error.contains("b/y.dcm"), "cut to {kept}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let huge = file(&Made { frames: 999_999_999, ..made("P1") });
        assert!(open(dir.path(), &[("a/x.dcm", whole), ("b/y.dcm", huge)], &options()).is_err());
    }

    const NATIVE: &str = "1.2.840.10008.1.2.1";
    const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
    const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";

    macro_rules! stream {
        ($name:literal) => {
            include_bytes!(concat!("fixtures/codestreams/", $name)).to_vec()
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
        if coded.syntax == NATIVE {
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
        (0..143)
            .flat_map(|at| turned((base(at % 13, at / 13) * ((1 << bits) - 1) / 255) as u16).to_le_bytes())
            .collect()
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
        let halves: Vec<_> =
            streams.iter().flat_map(|stream| [stream[..100].to_vec(), stream[100..].to_vec()]).collect();
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
            (grey("1.2.840.10008.1.2.4.110"), "JPEG XL, which is not read"),
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
}
