//! The PNG files of one class folder, read back; and many images in one picture.

use std::io::{Cursor, Write};
use std::path::Path;

use image::{Rgb, RgbImage};

use crate::atomic::{Readers, make_private_folder, write_with};
use crate::{Error, ImageSize, Result, View, ViewParts};

/// Pixels between images of a grid.
const GAP: usize = 2;

/// Reads back the PNG files of one class folder, in the order of their names, which the images get. Their class is the folder's name.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be read; [`Error::BadImage`] for an image that cannot be, or has another size.
pub fn read_class(folder: &Path, size: impl Into<ImageSize>, channels: usize) -> Result<View> {
    let size = size.into();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|e| e == "png") {
            paths.push(path);
        }
    }
    paths.sort();
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = ViewParts { classes: vec![file_name(folder)], size, channels, ..ViewParts::default() };
    for path in &paths {
        let bad = |reason| Error::BadImage { path: folder.to_path_buf(), name: file_name(path), reason };
        let image = image::open(path).map_err(|error| bad(format!("it cannot be decoded ({error})")))?;
        if (image.height() as usize, image.width() as usize) != (size.height, size.width) {
            return Err(bad(format!("the image has {}x{} pixels, not {size:#}", image.width(), image.height())));
        }
        let bytes = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
        parts.names.push(file_name(path));
        parts.pixels.extend(bytes);
    }
    View::new(parts)
}

/// Lays out images row by row in `columns` columns with a thin white line between them; grey becomes RGB.
///
/// ```
/// use cellforge_data::{View, ViewParts, sample_grid};
///
/// let images = View::new(ViewParts { size: 8.into(), channels: 1, pixels: vec![0; 3 * 64], ..ViewParts::default() })?;
/// // Two columns and two rows of 8 pixels with a gap of 2.
/// assert_eq!(sample_grid(&images, 2).dimensions(), (18, 18));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[must_use]
pub fn sample_grid(images: &View, columns: usize) -> RgbImage {
    let columns = columns.clamp(1, images.len().max(1));
    let rows = images.len().div_ceil(columns).max(1);
    let (across, down) = (images.size().width + GAP, images.size().height + GAP);
    let size = |images: usize, pitch: usize| (images * pitch - GAP) as u32;
    let mut grid = RgbImage::from_pixel(size(columns, across), size(rows, down), Rgb([255; 3]));
    for (i, image) in images.rgb_images().enumerate() {
        let (left, top) = (i % columns * across, i / columns * down);
        for (x, y, pixel) in image.enumerate_pixels() {
            grid.put_pixel(left as u32 + x, top as u32 + y, *pixel);
        }
    }
    grid
}

/// Saves a [`sample_grid`] as a PNG, whole or not at all, and makes the folders above it. Where it is for its owner alone, so are folders that are made.
///
/// # Errors
/// [`Error::Io`] or [`Error::Encode`] naming the file.
pub fn save_grid(path: &Path, images: &View, columns: usize, readers: Readers) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    sample_grid(images, columns)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|source| Error::Encode { path: path.to_path_buf(), source })?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made =
            if readers == Readers::Owner { make_private_folder(parent) } else { std::fs::create_dir_all(parent) };
        made.map_err(Error::io(parent))?;
    }
    write_with(path, readers, |file| file.write_all(bytes.get_ref()).map_err(Error::io(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_grid_go_row_by_row() {
        let parts = ViewParts { size: 1.into(), channels: 3, pixels: (1..=9).collect(), ..ViewParts::default() };
        let grid = sample_grid(&View::new(parts).unwrap(), 2);
        assert_eq!(grid.dimensions(), (4, 4));
        assert_eq!(grid.get_pixel(0, 0).0, [1, 2, 3]);
        assert_eq!(grid.get_pixel(3, 0).0, [4, 5, 6]);
        assert_eq!(grid.get_pixel(0, 3).0, [7, 8, 9]);
        assert_eq!(grid.get_pixel(1, 1).0, [255; 3]);
    }
}
