//! Resized images agree with Pillow's Lanczos within 2/255, on synthetic images kept here and, where two environment variables
//! name them, on NLM's originals (`fixtures/make_resize.py` makes the second zip from the first; it may hold more images):
//! `CELLFORGE_NIH_ORIGINALS=originals.zip CELLFORGE_NIH_PILLOW=reference.zip cargo test --release --test data pillow`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cellforge_data::{Fit, OpenOptions, View};

/// The greatest difference between images of ours and those of the same file names in `theirs`, and the share of values
/// that differ at all.
fn difference(ours: &View, theirs: &View) -> (u8, f64) {
    fn file(name: &str) -> &str {
        name.rsplit('/').next().unwrap()
    }
    let places: BTreeMap<&str, usize> = theirs.names().enumerate().map(|(i, name)| (file(name), i)).collect();
    let (mut greatest, mut differing, mut total) = (0, 0usize, 0usize);
    for image in 0..ours.len() {
        let place = *places.get(file(ours.name(image))).unwrap_or_else(|| panic!("no {}", ours.name(image)));
        for (a, b) in ours.image(image).iter().zip(theirs.image(place)) {
            greatest = greatest.max(a.abs_diff(*b));
            differing += usize::from(a != b);
            total += 1;
        }
    }
    (greatest, differing as f64 / total as f64)
}

fn open(path: &Path, side: usize, channels: usize) -> View {
    let mut options = OpenOptions::new(side, channels);
    (options.allow_one_class, options.fit) = (true, Fit::Stretch);
    View::open(path, &options).unwrap()
}

fn one_image(file: &str, side: usize, channels: usize) -> View {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    std::fs::copy(fixture, dir.path().join("images/image.png")).unwrap();
    open(dir.path(), side, channels)
}

#[test]
fn synthetic_images_match_pillow() {
    for (number, side) in [64, 32, 64, 16].into_iter().enumerate() {
        for (kind, channels) in [("rgb", 3), ("grey", 1)] {
            let ours = one_image(&format!("cell_{number}.png"), side, channels);
            let theirs = one_image(&format!("cell_{number}_{kind}_{side}.png"), side, channels);
            let (greatest, _) = difference(&ours, &theirs);
            assert!(greatest <= 2, "image_{number} {kind} at {side}: differs by {greatest}/255");
        }
    }
}

#[test]
fn originals_match_pillow_where_given() {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(originals), Some(reference)) = (variable("CELLFORGE_NIH_ORIGINALS"), variable("CELLFORGE_NIH_PILLOW"))
    else {
        return; // The originals are not shipped; the images above hold the same in their stead.
    };
    let (ours, theirs) = (open(&originals, 64, 3), open(&reference, 64, 3));
    let (greatest, share) = difference(&ours, &theirs);
    let n = ours.len();
    assert!(greatest <= 2, "{n} originals: greatest difference {greatest}/255");
    assert!(share < 0.01, "{n} originals: {:.2}% of values differ", share * 100.0);
}
