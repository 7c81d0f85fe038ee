//! Images of another shape than the set's: what becomes of them, and what is remembered of it.

use std::path::Path;

use cellforge_data::{Fit, ImageSize, OpenOptions, Readers, View, read_class, sample_grid, save_grid, shape_factor};
use image::{GrayImage, Luma};

/// A folder of two classes with grey images of these widths and heights, of 10 with a frame of 200.
fn write(root: &Path, sizes: &[(u32, u32)]) {
    for (i, &(width, height)) in sizes.iter().enumerate() {
        let folder = root.join(["a", "b"][i % 2]);
        std::fs::create_dir_all(&folder).unwrap();
        let image = GrayImage::from_fn(width, height, |x, y| {
            Luma([if x == 0 || y == 0 || x + 1 == width || y + 1 == height { 200 } else { 10 }])
        });
        image.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

fn open(root: &Path, size: ImageSize, fit: Fit) -> View {
    let mut options = OpenOptions::new(size, 1);
    options.fit = fit;
    View::open(root, &options).unwrap()
}

#[test]
fn the_set_decides_unless_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[(16, 8), (16, 8)]);
    // Twice as wide as high: padded with the colour of the frame, four rows above and four below.
    let padded = open(dir.path(), 16.into(), Fit::Auto);
    assert_eq!(padded.facts().fit, Fit::Pad);
    assert_eq!(shape_factor(&padded.facts().originals, padded.size()), 2.0);
    let image = padded.image(0);
    assert!(image[..4 * 16 + 16].iter().all(|&v| v == 200) && image[12 * 16..].iter().all(|&v| v == 200));
    assert_eq!(image[5 * 16 + 1..5 * 16 + 15], [10; 14]);
    // The middle half: the frame is left at top and bottom alone.
    let cropped = open(dir.path(), 8.into(), Fit::Crop);
    assert_eq!((cropped.facts().fit, &cropped.image(0)[8..16]), (Fit::Crop, &[10; 8][..]));
    // Its own shape is left as it is.
    let own = open(dir.path(), ImageSize::new(8, 16), Fit::Auto);
    assert_eq!((own.facts().fit, own.image(0)[17]), (Fit::Stretch, 10));
    assert_eq!(own.size().to_string(), "16x8");
    let stretched = open(dir.path(), 16.into(), Fit::Stretch);
    assert_ne!(stretched.image(0), padded.image(0));
}

#[test]
fn a_cache_is_of_one_way() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(dir.path(), &[(16, 8), (8, 16), (16, 8), (8, 16)]);
    let cached = |fit| {
        let mut options = OpenOptions::new(ImageSize::new(8, 12), 1);
        (options.fit, options.cache_dir) = (fit, Some(cache.path().into()));
        let view = View::open(dir.path(), &options).unwrap();
        assert_eq!(view.pixels(), open(dir.path(), ImageSize::new(8, 12), fit).pixels(), "{fit:?}");
        view
    };
    let files = || {
        let files = std::fs::read_dir(cache.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "images")).count()
    };
    for (fit, expected) in [(Fit::Pad, 1), (Fit::Auto, 1), (Fit::Stretch, 2), (Fit::Crop, 3), (Fit::Crop, 3)] {
        cached(fit);
        assert_eq!(files(), expected, "{fit:?}");
    }
    assert_eq!(cached(Fit::Auto).facts().fit, Fit::Pad);
}

#[test]
fn rectangles_are_written_and_drawn_in_their_shape() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[(12, 8), (12, 8), (12, 8)]);
    let view = open(dir.path(), ImageSize::new(8, 12), Fit::Auto);
    // Two columns and two rows with a gap of 2.
    assert_eq!(sample_grid(&view, 2).dimensions(), (26, 18));
    save_grid(&dir.path().join("grid.png"), &view, 3, Readers::Owner).unwrap();
    assert_eq!(image::image_dimensions(dir.path().join("grid.png")).unwrap(), (40, 8));
    let back = read_class(&dir.path().join("a"), ImageSize::new(8, 12), 1).unwrap();
    assert_eq!((back.len(), back.image(0)), (2, view.image(0)));
    let error = read_class(&dir.path().join("a"), ImageSize::new(12, 8), 1).unwrap_err().to_string();
    assert!(error.contains("12x8") && error.contains("8x12"), "{error}");
}

#[test]
fn too_many_images_for_memory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[(8, 8), (8, 8)]);
    let mut options = OpenOptions::new(8, 1);
    options.memory = Some(127);
    let error = View::open(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("2 images of 8x8 pixels"), "{error}");
    options.memory = Some(128);
    assert_eq!(View::open(dir.path(), &options).unwrap().len(), 2);
}
