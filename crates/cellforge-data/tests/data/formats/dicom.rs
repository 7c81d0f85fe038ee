//! DICOM files: windows, frames, patients, and what is broken.

use std::io::Write;
use std::path::Path;

use cellforge_data::{OpenOptions, View};

use super::options;
use crate::common::write_folder;

/// An element in explicit little-endian form.
pub fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
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
pub fn whole(syntax: &str, elements: &[Vec<u8>]) -> Vec<u8> {
    let mut meta = element((2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.7");
    meta.extend(element((2, 3), "UI", b"1.2.3.4"));
    meta.extend(element((2, 0x10), "UI", syntax.as_bytes()));
    meta.extend(element((2, 0x12), "UI", b"1.2.3"));
    let mut bytes = vec![0u8; 128];
    bytes.extend(b"DICM");
    bytes.extend(element((2, 0), "UL", &(meta.len() as u32).to_le_bytes()));
    bytes.extend(meta);
    let mut set = element((8, 0x16), "UI", b"1.2.840.10008.5.1.4.1.1.7");
    set.extend(element((8, 0x18), "UI", b"1.2.3.4"));
    set.extend(elements.concat());
    if syntax == "1.2.840.10008.1.2.1.99" {
        let mut deflated = flate2::write::DeflateEncoder::new(bytes, flate2::Compression::default());
        deflated.write_all(&set).unwrap();
        return deflated.finish().unwrap();
    }
    bytes.extend(set);
    bytes
}

pub fn short(tag: (u16, u16), value: u16) -> Vec<u8> {
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

pub fn open(root: &Path, files: &[(&str, Vec<u8>)], options: &OpenOptions) -> cellforge_data::Result<View> {
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
    let told =
        format!("{view:?} {:?} {:?}", view.facts(), (0..3).map(|i| (view.name(i), view.group(i))).collect::<Vec<_>>());
    assert!(!told.contains("SECRET") && !told.contains("Doe"), "{told}");
    // The key is of the images: elsewhere the same patient has another pseudonym.
    let other = tempfile::tempdir().unwrap();
    let files =
        [("a/1.dcm", file(&Made { pixels: vec![7; 64], ..made("SECRET-1") })), ("b/3.dcm", file(&made("SECRET-2")))];
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
