//! Synthetic images on disk: PNG files in one folder per class, in a folder or a zip, and back.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Cursor, Write},
    path::{Path, PathBuf},
};

use cellforge_train::Images;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use cellforge_data::folder_name;

use crate::{
    Error, Result,
    files::{make_folders, write_atomic},
};

/// Where synthetic images go: a folder, or a zip when the path ends in `.zip`.
///
/// The files are `CLASS/synthetic_000001.png` and so on. Names, order and bytes depend on the images alone; the entries of a zip
/// carry a fixed date.
#[derive(Debug)]
pub struct SampleWriter {
    target: Target,
    /// Images written of each class.
    written: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Target {
    Folder(PathBuf),
    Zip { path: PathBuf, temporary: PathBuf, zip: Box<ZipWriter<BufWriter<File>>> },
}

impl SampleWriter {
    /// Opens `path` for writing. A zip appears under its name only once it is finished.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let is_zip = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"));
        if !is_zip {
            std::fs::create_dir_all(path).map_err(Error::io("create the folder", path))?;
            return Ok(Self { target: Target::Folder(path.to_path_buf()), written: BTreeMap::new() });
        }
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
        }
        let temporary = path.with_extension("zip.part");
        let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        let zip = Box::new(ZipWriter::new(BufWriter::new(file)));
        Ok(Self { target: Target::Zip { path: path.to_path_buf(), temporary, zip }, written: BTreeMap::new() })
    }

    /// Writes images of one class, after those of it that were written before, and returns the files made (none for a zip).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] naming the file, or the folder where that was removed in the meantime.
    pub fn write(&mut self, class: &str, images: &Images) -> Result<Vec<PathBuf>> {
        let folder = folder_name(class);
        let mut files = Vec::new();
        let written = self.written.entry(class.to_owned()).or_default();
        for i in 0..images.len() {
            *written += 1;
            let name = format!("synthetic_{written:06}.png");
            match &mut self.target {
                Target::Folder(root) => {
                    let path = root.join(&folder).join(name);
                    let bytes = png(images, i, &path)?;
                    make_folders(root, &folder)?;
                    // Thousands of small files: no sync for each; the stage's stamp holds their hashes and a torn file is
                    // made again.
                    std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
                    files.push(path);
                }
                Target::Zip { path, zip, .. } => {
                    let bytes = png(images, i, path)?;
                    // PNG is compressed already, and the fixed date makes equal images equal archives.
                    let options = SimpleFileOptions::default()
                        .compression_method(CompressionMethod::Stored)
                        .last_modified_time(DateTime::default());
                    let fail = |e: zip::result::ZipError| Error::io("write", path)(e.into());
                    zip.start_file(format!("{folder}/{name}"), options).map_err(fail)?;
                    zip.write_all(&bytes).map_err(Error::io("write", path))?;
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
        if let Target::Zip { path, temporary, zip } = self.target {
            let fail = |e: std::io::Error| Error::io("write", &path)(e);
            let mut file = zip.finish().map_err(|e| fail(e.into()))?;
            file.flush().map_err(fail)?;
            file.get_ref().sync_all().map_err(fail)?;
            std::fs::rename(&temporary, &path).map_err(fail)?;
        }
        Ok(())
    }
}

fn png(images: &Images, index: usize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = if images.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let side = images.side as u32;
    PngEncoder::new(&mut bytes)
        .write_image(images.image(index), side, side, colour)
        .map_err(|source| Error::Image { action: "write", path: path.to_path_buf(), source })?;
    Ok(bytes)
}

/// Reads back the PNG files of one class folder, in the order of their names.
///
/// # Errors
/// [`Error::Io`] or [`Error::Image`] naming the file.
pub fn read_samples(folder: &Path, side: usize, channels: usize) -> Result<Images> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let path = entry.map_err(Error::io("read the folder", folder))?.path();
        if path.extension().is_some_and(|e| e == "png") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut pixels = Vec::with_capacity(paths.len() * side * side * channels);
    for path in &paths {
        let fail = |source| Error::Image { action: "read", path: path.clone(), source };
        let image = image::open(path).map_err(fail)?;
        let bytes = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
        if bytes.len() != side * side * channels {
            let problem = std::io::Error::other(format!("the image is not {side} pixels a side"));
            return Err(Error::io("use", path)(problem));
        }
        pixels.extend(bytes);
    }
    Ok(Images { side, channels, pixels })
}

/// Saves a grid of images as a PNG.
///
/// # Errors
/// [`Error::Io`] or [`Error::Image`] naming the file.
pub fn save_grid(path: &Path, images: &Images, columns: usize) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    cellforge_train::sample_grid(images, columns)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|source| Error::Image { action: "write", path: path.to_path_buf(), source })?;
    write_atomic(path, &bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        Images { side: 4, channels: 3, pixels: (0..3 * 4 * 4 * 3).map(|i| (i * 7 % 251) as u8).collect() }
    }

    #[test]
    fn a_folder_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SampleWriter::create(dir.path()).unwrap();
        let files = writer.write("a/b", &images()).unwrap();
        assert_eq!(files.len(), 3);
        let folder = dir.path().join(folder_name("a/b"));
        assert_eq!(read_samples(&folder, 4, 3).unwrap(), images());
        let more = writer.write("a/b", &images()).unwrap();
        writer.finish().unwrap();
        assert_eq!(more[0], folder.join("synthetic_000004.png"));
        assert_eq!(read_samples(&folder, 4, 3).unwrap().pixels, images().pixels.repeat(2));
        assert!(read_samples(&folder, 8, 3).is_err());
    }

    #[test]
    fn a_removed_folder_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("images");
        let mut writer = SampleWriter::create(&out).unwrap();
        std::fs::remove_dir(&out).unwrap();
        assert!(writer.write("a", &images()).unwrap_err().to_string().contains("images"));
        assert!(!out.exists());
    }

    #[test]
    fn the_same_images_give_the_same_zip() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            let mut writer = SampleWriter::create(&path).unwrap();
            writer.write("a", &images()).unwrap();
            writer.finish().unwrap();
            std::fs::read(path).unwrap()
        };
        assert_eq!(make("1.zip"), make("2.zip"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
