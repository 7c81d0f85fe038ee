//! Writing many images: single files in one folder per class, in a folder or a zip, or one file of NumPy's arrays.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::atomic::{Readers, Temporary};
use crate::formats::{MAX_FRAMES, MAX_STACK_BYTES};
use crate::names::folder_name;
use crate::zip_file::ZipFile;
use crate::{Error, ImageSize, Result, View};

/// Quality of JPEG files, of 100.
const QUALITY: u8 = 95;

/// What images are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// PNG files, which lose nothing.
    #[default]
    Png,
    /// JPEG files of quality 95, which are smaller. They lose detail.
    Jpg,
    /// One file of NumPy's arrays: `images` (n, height, width, 3) or (n, height, width), `labels` (n) and `class_names`.
    Npz,
}

impl ImageFormat {
    /// How files of it end.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Npz => "npz",
        }
    }
}

/// What files of images are, and how they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// What they are.
    pub format: ImageFormat,
    /// How names of single files begin; a number of six digits follows.
    pub prefix: String,
    /// The intensities of black and of white, where grey PNG files are to have 16 bits: a grey level becomes the intensity that it stands
    /// for, in 256 steps.
    pub window: Option<(u16, u16)>,
}

impl Default for WriteOptions {
    /// `synthetic_000001.png` and so on.
    fn default() -> Self {
        Self { format: ImageFormat::Png, prefix: "synthetic_".to_owned(), window: None }
    }
}

impl WriteOptions {
    /// What image `number` of a class, counted from 1, is called.
    #[must_use]
    pub fn file_name(&self, number: usize) -> String {
        format!("{}{number:06}.{}", self.prefix, self.format.ending())
    }

    /// The number of the image that is called so; `None` for other names.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        let digits = name.strip_prefix(&self.prefix)?.strip_suffix(self.format.ending())?.strip_suffix('.')?;
        let number = digits.parse().ok()?;
        (self.file_name(number) == name).then_some(number)
    }

    /// # Errors
    /// [`Error::Invalid`] where the prefix is no part of a file's name on every system.
    pub fn validate(&self) -> Result<()> {
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
        if self.prefix.starts_with(['.', ' ']) || !self.prefix.chars().all(good) {
            let reason = format!(
                "{:?} cannot begin the names of files: letters, digits, spaces and _ - . may, and the first is no space or dot",
                self.prefix
            );
            return Err(Error::Invalid(reason));
        }
        Ok(())
    }
}

/// Writes images into a folder, or into a zip when the path ends in `.zip`, or into one `.npz` file.
///
/// Single files are `CLASS/synthetic_000001.png` and so on. Names, order and bytes depend on the images and their classes alone; the entries
/// of a zip carry a fixed date.
///
/// ```
/// use cellforge_data::phantom::{self, PhantomConfig};
/// use cellforge_data::{ImageWriter, OpenOptions, View, WriteOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let images = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 3, ..PhantomConfig::default() })?;
/// let mut writer = ImageWriter::create(&dir.path().join("made.zip"), &WriteOptions::default())?;
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
    options: WriteOptions,
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
    /// What will be written at the end.
    Arrays {
        path: PathBuf,
        temporary: Temporary,
        size: Option<(ImageSize, usize)>,
        classes: Vec<String>,
        labels: Vec<u32>,
        pixels: Vec<u8>,
    },
}

impl ImageWriter {
    /// Opens `path` for writing. A zip or `.npz` file appears under its name only once it is finished; where it is not, nothing is left.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or file cannot be made; [`Error::Invalid`] for a format and a path that do not go together, or a prefix that
    /// is no part of a name.
    pub fn create(path: &Path, options: &WriteOptions) -> Result<Self> {
        options.validate()?;
        let ends_in = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
        let (is_zip, is_npz) = (ends_in("zip"), ends_in("npz"));
        if is_npz != (options.format == ImageFormat::Npz) {
            let what =
                if is_npz { "single files need a folder or a zip" } else { "arrays need a file that ends in .npz" };
            return Err(Error::Invalid(format!("{}: {what}", path.display())));
        }
        let target = if is_zip || is_npz {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            let temporary = Temporary::new(folder, Readers::AsUsual).map_err(Error::io(folder))?;
            let path = path.to_path_buf();
            if is_npz {
                Target::Arrays {
                    path,
                    temporary,
                    size: None,
                    classes: Vec::new(),
                    labels: Vec::new(),
                    pixels: Vec::new(),
                }
            } else {
                let zip = ZipFile::new(temporary.handle().map_err(Error::io(&path))?, &path);
                Target::Zip { zip, temporary, path }
            }
        } else {
            std::fs::create_dir_all(path).map_err(Error::io(path))?;
            Target::Folder(path.to_path_buf())
        };
        Ok(Self { options: options.clone(), target, written: BTreeMap::new() })
    }

    /// Writes images, each after those of its class that were written before. Returns where each lies: its path below the folder or in the zip,
    /// with `/` between the parts, or its place in the array, counted from 0.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Encode`] naming the file, or the folder where that was removed in the meantime; [`Error::Invalid`] where one
    /// `.npz` file would get images of two sizes, or more than are read of one.
    pub fn write(&mut self, images: &View) -> Result<Vec<String>> {
        if let Target::Arrays { path, size, classes, labels, pixels, .. } = &mut self.target {
            let first = labels.len();
            append(path, images, (size, classes, labels, pixels))?;
            return Ok((first..labels.len()).map(|at| at.to_string()).collect());
        }
        let folders: Vec<String> = images.classes().iter().map(|class| folder_name(class)).collect();
        let mut names = Vec::with_capacity(images.len());
        for i in 0..images.len() {
            let folder = &folders[images.label(i) as usize];
            let written = self.written.entry(images.class_of(i).to_owned()).or_default();
            *written += 1;
            let file = self.options.file_name(*written);
            let name = format!("{folder}/{file}");
            match &mut self.target {
                Target::Folder(root) => {
                    let class_folder = root.join(folder);
                    let path = class_folder.join(file);
                    let bytes = encoded(images, i, &self.options, &path)?;
                    // The folder itself is not made again: if it was removed in the meantime, somebody did so.
                    if !class_folder.is_dir() {
                        std::fs::create_dir(&class_folder).map_err(Error::io(&class_folder))?;
                    }
                    // Thousands of small files: no sync for each; the stage's stamp holds their hashes and a torn file is
                    // made again.
                    std::fs::write(&path, bytes).map_err(Error::io(&path))?;
                }
                Target::Zip { path, zip, .. } => {
                    zip.add(name.clone(), &encoded(images, i, &self.options, path)?)?;
                }
                Target::Arrays { .. } => {}
            }
            names.push(name);
        }
        Ok(names)
    }

    /// Completes the output; a zip or `.npz` file gets its name only now.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn finish(self) -> Result<()> {
        match self.target {
            Target::Folder(_) => Ok(()),
            Target::Zip { zip, temporary, path } => {
                zip.finish()?;
                temporary.rename(&path)
            }
            Target::Arrays { path, temporary, size, classes, labels, pixels } => {
                let mut zip = ZipFile::new(temporary.handle().map_err(Error::io(&path))?, &path);
                let (size, channels) = size.unwrap_or((ImageSize::square(0), 1));
                let shape = [labels.len(), size.height, size.width, channels];
                let shape = if channels == 1 { &shape[..3] } else { &shape };
                zip.add("images.npy".to_owned(), &npy("|u1", shape, &pixels))?;
                let numbers: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
                zip.add("labels.npy".to_owned(), &npy("<u4", &[labels.len()], &numbers))?;
                let (descr, texts) = unicode(&classes);
                zip.add("class_names.npy".to_owned(), &npy(&descr, &[classes.len()], &texts))?;
                zip.finish()?;
                temporary.rename(&path)
            }
        }
    }
}

/// The arrays of an `.npz` file under way: size and channels, classes, labels and pixels.
type Arrays<'a> = (&'a mut Option<(ImageSize, usize)>, &'a mut Vec<String>, &'a mut Vec<u32>, &'a mut Vec<u8>);

fn append(path: &Path, images: &View, (size, classes, labels, pixels): Arrays<'_>) -> Result<()> {
    let invalid = |reason: String| Err(Error::Invalid(format!("{}: {reason}", path.display())));
    let own = (images.size(), images.channels());
    if *size.get_or_insert(own) != own {
        return invalid("an array holds images of one size and number of channels".to_owned());
    }
    let bytes = pixels.len() as u64 + (images.len() * own.0.area() * own.1) as u64;
    if bytes > MAX_STACK_BYTES || labels.len() + images.len() > MAX_FRAMES {
        return invalid(format!(
            "one file is to hold at most {} MiB of pixels and {MAX_FRAMES} images; a zip of PNG files can hold more",
            MAX_STACK_BYTES >> 20
        ));
    }
    for i in 0..images.len() {
        let class = images.class_of(i);
        let label = classes.iter().position(|known| known == class).unwrap_or_else(|| {
            classes.push(class.to_owned());
            classes.len() - 1
        });
        labels.push(label as u32);
        pixels.extend_from_slice(images.image(i));
    }
    Ok(())
}

fn encoded(images: &View, i: usize, options: &WriteOptions, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let is_grey = images.channels() == 1;
    let colour = if is_grey { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let [width, height] = [images.size().width, images.size().height].map(|side| side as u32);
    let image = images.image(i);
    let done = match (options.format, options.window) {
        (ImageFormat::Jpg, _) => {
            JpegEncoder::new_with_quality(&mut bytes, QUALITY).write_image(image, width, height, colour)
        }
        (_, Some(window)) if is_grey => {
            let deep: Vec<u8> = image.iter().flat_map(|level| intensity(*level, window).to_ne_bytes()).collect();
            PngEncoder::new(&mut bytes).write_image(&deep, width, height, ExtendedColorType::L16)
        }
        _ => PngEncoder::new(&mut bytes).write_image(image, width, height, colour),
    };
    done.map_err(|source| Error::Encode { path: path.to_path_buf(), source })?;
    Ok(bytes)
}

/// The intensity that a grey level stands for.
fn intensity(level: u8, (low, high): (u16, u16)) -> u16 {
    let share = f64::from(level) / 255.0;
    (f64::from(low) + share * (f64::from(high) - f64::from(low))).round() as u16
}

/// An `.npy` file (NumPy's format, version 1): a header that is padded so that the numbers begin at a multiple of 64 bytes.
fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    text.push_str(&" ".repeat(63 - (10 + text.len()) % 64));
    text.push('\n');
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], text.as_bytes(), data].concat()
}

/// Texts as NumPy has them: code points of 4 bytes, padded to the longest text.
fn unicode(texts: &[String]) -> (String, Vec<u8>) {
    let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let padded = texts.iter().flat_map(|text| {
        let points = text.chars().map(u32::from).chain(std::iter::repeat(0));
        points.take(width).flat_map(u32::to_le_bytes)
    });
    (format!("<U{width}"), padded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpenOptions, ViewParts, read_class};

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
        let mut writer = ImageWriter::create(dir.path(), &WriteOptions::default()).unwrap();
        assert_eq!(writer.write(&images()).unwrap().len(), 3);
        let folder = dir.path().join(folder_name("a/b"));
        assert_eq!(read_class(&folder, 4, 3).unwrap().pixels(), images().pixels());
        let more = writer.write(&images()).unwrap();
        writer.finish().unwrap();
        assert_eq!(more[0], format!("{}/synthetic_000004.png", folder_name("a/b")));
        let read = read_class(&folder, 4, 3).unwrap();
        assert_eq!((read.pixels(), read.name(3)), (images().pixels().repeat(2), "synthetic_000004.png"));
        assert!(read_class(&folder, 8, 3).is_err());
    }

    #[test]
    fn a_removed_folder_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("images");
        let mut writer = ImageWriter::create(&out, &WriteOptions::default()).unwrap();
        std::fs::remove_dir(&out).unwrap();
        assert!(writer.write(&images()).unwrap_err().to_string().contains("images"));
        assert!(!out.exists());
    }

    #[test]
    fn the_same_images_give_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        for (ending, format) in [("zip", ImageFormat::Png), ("zip", ImageFormat::Jpg), ("npz", ImageFormat::Npz)] {
            let make = |name: &str| {
                let path = dir.path().join(format!("{name}.{ending}"));
                let options = WriteOptions { format, ..WriteOptions::default() };
                let mut writer = ImageWriter::create(&path, &options).unwrap();
                writer.write(&images()).unwrap();
                writer.finish().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                std::fs::remove_file(path).unwrap();
                bytes
            };
            assert_eq!(make("1"), make("2"));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(feature = "numpy")]
    #[test]
    fn arrays_read_back_with_their_classes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made.npz");
        let options = WriteOptions { format: ImageFormat::Npz, ..WriteOptions::default() };
        for channels in [1, 3] {
            let parts = |class: &str, seed: usize| ViewParts {
                classes: vec![class.to_owned()],
                labels: vec![0; 2],
                size: 28.into(),
                channels,
                pixels: (0..2 * 28 * 28 * channels).map(|i| ((i + seed) * 13 % 251) as u8).collect(),
                ..ViewParts::default()
            };
            let views =
                [("zwölf", 1), ("a", 2), ("zwölf", 3)].map(|(class, seed)| View::new(parts(class, seed)).unwrap());
            let mut writer = ImageWriter::create(&path, &options).unwrap();
            let names = views.iter().map(|view| writer.write(view).unwrap()).collect::<Vec<_>>();
            writer.finish().unwrap();
            assert_eq!(names[1], ["2", "3"]);
            let read = View::open(&path, &OpenOptions::new(28, channels)).unwrap();
            assert_eq!((read.len(), read.classes()), (6, &["a".to_owned(), "zwölf".to_owned()][..]));
            assert_eq!(read.class(0).pixels(), views[1].pixels());
            assert_eq!(read.class(1).pixels(), [views[0].pixels(), views[2].pixels()].concat());
        }
    }

    #[test]
    fn an_array_has_the_header_that_numpy_writes() {
        // numpy.save of numpy.zeros((2, 3), "u1"), version 1: 10 bytes, then text to byte 127 and a line's end.
        let bytes = npy("|u1", &[2, 3], &[0; 6]);
        assert_eq!(bytes.len(), 128 + 6);
        assert_eq!((bytes[8], bytes[9], bytes[127]), (118, 0, b'\n'));
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3,), }";
        assert!(bytes[10..].starts_with(text.as_bytes()));
        assert_eq!(unicode(&["ab".to_owned(), "c".to_owned()]).0, "<U2");
        assert_eq!(unicode(&["c".to_owned()]).1, [b'c', 0, 0, 0]);
    }

    #[test]
    fn names_and_formats_that_do_not_go_together_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = |format, prefix: &str| WriteOptions { format, prefix: prefix.to_owned(), window: None };
        for (out, options, word) in [
            ("a.npz", options(ImageFormat::Png, "x"), "folder or a zip"),
            ("a.zip", options(ImageFormat::Npz, "x"), ".npz"),
            ("a", options(ImageFormat::Png, "../x"), "cannot begin"),
            ("a", options(ImageFormat::Png, ".x"), "cannot begin"),
        ] {
            let error = ImageWriter::create(&dir.path().join(out), &options).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let named = options(ImageFormat::Jpg, "case ");
        assert_eq!(named.file_name(7), "case 000007.jpg");
        assert_eq!(
            [named.number("case 000007.jpg"), named.number("case 7.jpg"), named.number("case 000007.png")],
            [Some(7), None, None]
        );
    }

    #[test]
    fn intensities_of_16_bits_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let levels: Vec<u8> = (0..=255).collect();
        let grey = ViewParts { size: 16.into(), channels: 1, pixels: levels.clone(), ..ViewParts::default() };
        let grey = View::new(ViewParts { classes: vec!["a".to_owned()], labels: vec![0], ..grey }).unwrap();
        let options = WriteOptions { window: Some((120, 3945)), ..WriteOptions::default() };
        let mut writer = ImageWriter::create(dir.path(), &options).unwrap();
        let name = writer.write(&grey).unwrap().remove(0);
        let stored = image::open(dir.path().join(name)).unwrap();
        assert_eq!(stored.color(), image::ColorType::L16);
        // 3945 - 120 = 15 * 255: a level is worth 15.
        let values = stored.into_luma16().into_raw();
        assert!(values.iter().zip(&levels).all(|(value, level)| *value == 120 + 15 * u16::from(*level)));
        let mut reading = OpenOptions::new(16, 1);
        (reading.window, reading.allow_one_class) = (Some((120.0, 3945.0)), true);
        assert_eq!(View::open(dir.path(), &reading).unwrap().pixels(), levels);
    }

    #[test]
    fn an_array_is_of_one_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let options = WriteOptions { format: ImageFormat::Npz, ..WriteOptions::default() };
        let mut writer = ImageWriter::create(&path, &options).unwrap();
        writer.write(&images()).unwrap();
        let error = writer.write(&images().resized(8, 3).unwrap()).unwrap_err().to_string();
        assert!(error.contains("one size"), "{error}");
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
