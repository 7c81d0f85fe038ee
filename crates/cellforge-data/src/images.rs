//! Images on disk: PNG files in one folder per class, in a folder or a zip, and back; and many images in one picture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

use crate::atomic::{Temporary, write_atomic};
use crate::names::folder_name;
use crate::zip_file::ZipFile;
use crate::{Error, ImageSize, Result, View, ViewParts};

/// Pixels between images of a grid.
const GAP: usize = 2;

/// Writes images as PNG files into a folder, or into a zip when the path ends in `.zip`.
///
/// The files are `CLASS/synthetic_000001.png` and so on. Names, order and bytes depend on the images and their classes alone; the entries
/// of a zip carry a fixed date.
///
/// ```
/// use cellforge_data::phantom::{self, PhantomConfig};
/// use cellforge_data::{ImageWriter, OpenOptions, View};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let images = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 3, ..PhantomConfig::default() })?;
/// let mut writer = ImageWriter::create(&dir.path().join("made.zip"))?;
/// writer.write(&images)?;
/// writer.finish()?;
/// let read = View::open(dir.path().join("made.zip"), &OpenOptions::new(32, 3))?;
/// assert!(read.name(0).ends_with("/synthetic_000001.png"));
/// assert_eq!(read.image(0), images.image(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ImageWriter {
    target: Target,
    /// Images written of each class.
    written: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Target {
    Folder(PathBuf),
    /// The zip is dropped before its file.
    Zip {
        zip: ZipFile<File>,
        temporary: Temporary,
        path: PathBuf,
    },
}

impl ImageWriter {
    /// Opens `path` for writing. A zip appears under its name only once it is finished; where it is not, nothing is left.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let is_zip = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"));
        if !is_zip {
            std::fs::create_dir_all(path).map_err(Error::io(path))?;
            return Ok(Self { target: Target::Folder(path.to_path_buf()), written: BTreeMap::new() });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let temporary = Temporary::new(folder).map_err(Error::io(folder))?;
        let zip = ZipFile::new(temporary.handle().map_err(Error::io(path))?, path);
        Ok(Self { target: Target::Zip { zip, temporary, path: path.to_path_buf() }, written: BTreeMap::new() })
    }

    /// Writes images, each after those of its class that were written before, and returns the files made (none for a zip).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Encode`] naming the file, or the folder where that was removed in the meantime.
    pub fn write(&mut self, images: &View) -> Result<Vec<PathBuf>> {
        let folders: Vec<String> = images.classes().iter().map(|class| folder_name(class)).collect();
        let mut files = Vec::new();
        for i in 0..images.len() {
            let folder = &folders[images.label(i) as usize];
            let written = self.written.entry(images.class_of(i).to_owned()).or_default();
            *written += 1;
            let name = format!("synthetic_{written:06}.png");
            match &mut self.target {
                Target::Folder(root) => {
                    let path = root.join(folder).join(name);
                    let bytes = png(images, i, &path)?;
                    // The folder itself is not made again: if it was removed in the meantime, somebody did so.
                    let class_folder = root.join(folder);
                    if !class_folder.is_dir() {
                        std::fs::create_dir(&class_folder).map_err(Error::io(&class_folder))?;
                    }
                    // Thousands of small files: no sync for each; the stage's stamp holds their hashes and a torn file is
                    // made again.
                    std::fs::write(&path, bytes).map_err(Error::io(&path))?;
                    files.push(path);
                }
                Target::Zip { path, zip, .. } => {
                    let bytes = png(images, i, path)?;
                    zip.add(format!("{folder}/{name}"), &bytes)?;
                }
            }
        }
        Ok(files)
    }

    /// Completes the output; a zip gets its name only now.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn finish(self) -> Result<()> {
        if let Target::Zip { zip, temporary, path } = self.target {
            zip.finish()?;
            temporary.rename(&path)?;
        }
        Ok(())
    }
}

fn png(images: &View, i: usize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = if images.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let [width, height] = [images.size().width, images.size().height].map(|side| side as u32);
    PngEncoder::new(&mut bytes)
        .write_image(images.image(i), width, height, colour)
        .map_err(|source| Error::Encode { path: path.to_path_buf(), source })?;
    Ok(bytes)
}

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

/// Saves a [`sample_grid`] as a PNG, whole or not at all, and makes the folders above it.
///
/// # Errors
/// [`Error::Io`] or [`Error::Encode`] naming the file.
pub fn save_grid(path: &Path, images: &View, columns: usize) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    sample_grid(images, columns)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|source| Error::Encode { path: path.to_path_buf(), source })?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    write_atomic(path, bytes.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> View {
        View::new(ViewParts {
            classes: vec!["a/b".to_owned()],
            size: 4.into(),
            channels: 3,
            pixels: (0..3 * 4 * 4 * 3).map(|i| (i * 7 % 251) as u8).collect(),
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn a_folder_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ImageWriter::create(dir.path()).unwrap();
        let files = writer.write(&images()).unwrap();
        assert_eq!(files.len(), 3);
        let folder = dir.path().join(folder_name("a/b"));
        assert_eq!(read_class(&folder, 4, 3).unwrap().pixels(), images().pixels());
        let more = writer.write(&images()).unwrap();
        writer.finish().unwrap();
        assert_eq!(more[0], folder.join("synthetic_000004.png"));
        let read = read_class(&folder, 4, 3).unwrap();
        assert_eq!((read.pixels(), read.name(3)), (images().pixels().repeat(2), "synthetic_000004.png"));
        assert!(read_class(&folder, 8, 3).is_err());
    }

    #[test]
    fn a_removed_folder_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("images");
        let mut writer = ImageWriter::create(&out).unwrap();
        std::fs::remove_dir(&out).unwrap();
        assert!(writer.write(&images()).unwrap_err().to_string().contains("images"));
        assert!(!out.exists());
    }

    #[test]
    fn the_same_images_give_the_same_zip() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            let mut writer = ImageWriter::create(&path).unwrap();
            writer.write(&images()).unwrap();
            writer.finish().unwrap();
            std::fs::read(path).unwrap()
        };
        assert_eq!(make("1.zip"), make("2.zip"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

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
