//! Formats beyond the usual ones: depths, pages, volumes, arrays and DICOM files become images by one rule for a set.

#[cfg(feature = "dicom")]
mod codestreams;
#[cfg(feature = "dicom")]
mod dicom;

use std::io::{Cursor, Write};

use crate::common::write_folder;
use cellforge_data::{Index, IntensityRule, OpenOptions, Slices, View};
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
