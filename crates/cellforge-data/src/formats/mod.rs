//! The formats of image files, one module each: how each is known by its content, what it holds, and how an image of it is read.
//!
//! A file is looked at twice. [`look`] tells which images it holds without decoding them, for the index. [`Opened`] decodes them one by
//! one. Neither allocates by what a header claims before that is checked against [`MAX_STACK_BYTES`] or the limits of
//! [`decode`](crate::decode).

#[cfg(feature = "dicom")]
mod dicom;
#[cfg(feature = "nifti")]
mod nifti;
#[cfg(feature = "numpy")]
mod numpy;
mod raster;
#[cfg(any(feature = "nifti", feature = "numpy"))]
mod samples;
mod tiff;

use image::ImageFormat;

use crate::split::SplitPart;
use crate::stacks::Stacks;

/// The most bytes that a file of many images (a volume, a stack of pages, an array) may have, and the most that its images may take
/// unpacked: 2 GiB.
pub const MAX_STACK_BYTES: u64 = 2 << 30;
/// The most images that one file may hold.
pub const MAX_FRAMES: usize = 1 << 20;
/// The bytes at the beginning of a file by which its format is known.
pub(crate) const HEAD: usize = 512;

/// What a reader yields, or why it cannot, in words.
pub(crate) type Outcome<T> = Result<T, String>;

/// The format of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One of those that hold one image, read by the crate `image`.
    Raster(ImageFormat),
    Tiff,
    Dicom,
    Nifti,
    /// One array of NumPy's.
    Npy,
    /// Several, in a zip.
    Npz,
}

impl Format {
    /// The format of a file that begins with `head`: by its content, and by the ending of its name where the content leaves it open.
    pub(crate) fn of(head: &[u8], name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |ending: &str| name.ends_with(ending);
        match head {
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Self::Raster(ImageFormat::Png)),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Raster(ImageFormat::Jpeg)),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Raster(ImageFormat::Gif)),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Raster(ImageFormat::WebP)),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            [b'P', b'1'..=b'7', white, ..] if white.is_ascii_whitespace() => Some(Self::Raster(ImageFormat::Pnm)),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some(Self::Npy),
            [b'P', b'K', ..] if ends(".npz") => Some(Self::Npz),
            // Two letters are not much of a mark: the size of the header that follows has to be one of a BMP's too.
            [b'B', b'M', ..]
                if ends(".bmp")
                    || matches!(head.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) =>
            {
                Some(Self::Raster(ImageFormat::Bmp))
            }
            _ if head.get(128..132) == Some(b"DICM") => Some(Self::Dicom),
            _ if matches!(head.get(344..348), Some(b"n+1\0" | b"ni1\0")) => Some(Self::Nifti),
            // The size of the header and the mark, of the second version.
            [28, 2, 0, 0, b'n', b'+' | b'i', b'2', 0, ..] | [0, 0, 2, 28, b'n', b'+' | b'i', b'2', 0, ..] => {
                Some(Self::Nifti)
            }
            [0x1F, 0x8B, ..] if ends(".nii.gz") => Some(Self::Nifti),
            // A DICOM file may lack the mark.
            _ if ends(".dcm") && !head.is_empty() => Some(Self::Dicom),
            _ => None,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raster(ImageFormat::Png) => "PNG",
            Self::Raster(ImageFormat::Jpeg) => "JPEG",
            Self::Raster(ImageFormat::Gif) => "GIF",
            Self::Raster(ImageFormat::WebP) => "WebP",
            Self::Raster(ImageFormat::Bmp) => "BMP",
            Self::Raster(_) => "PNM",
            Self::Tiff => "TIFF",
            Self::Dicom => "DICOM",
            Self::Nifti => "NIfTI",
            Self::Npy | Self::Npz => "NumPy",
        }
    }

    /// Whether this build reads it.
    fn is_built(self) -> bool {
        match self {
            Self::Dicom => cfg!(feature = "dicom"),
            Self::Nifti => cfg!(feature = "nifti"),
            Self::Npy | Self::Npz => cfg!(feature = "numpy"),
            Self::Raster(_) | Self::Tiff => true,
        }
    }

    /// Whether a file of it may hold several images, or state something of them: one that has to be looked into for the index.
    pub(crate) fn is_rich(self) -> bool {
        !matches!(self, Self::Raster(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Pnm))
    }

    /// Whether an image of a file that begins with `head` may have more than 8 bits a sample.
    pub(crate) fn may_be_deep(self, head: &[u8]) -> bool {
        match self {
            // Where the header of a PNG has the bits.
            Self::Raster(ImageFormat::Png) => head.get(24) == Some(&16),
            Self::Raster(kind) => kind == ImageFormat::Pnm,
            _ => true,
        }
    }

    /// The most bytes that a file of it may have.
    pub(crate) fn max_bytes(self) -> u64 {
        match self {
            Self::Raster(_) => crate::source::MAX_FILE_BYTES,
            _ => MAX_STACK_BYTES,
        }
    }
}

/// The formats that this build reads, in words.
#[must_use]
pub fn formats() -> String {
    let mut names = vec!["PNG", "JPEG", "BMP", "TIFF", "WebP", "GIF", "PNM"];
    names.extend([Format::Dicom, Format::Nifti, Format::Npy].into_iter().filter(|f| f.is_built()).map(Format::name));
    let last = names.pop().unwrap_or_default();
    format!("{} and {last}", names.join(", "))
}

/// One image of a file, as the index knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its place among all that the file holds.
    pub(crate) frame: usize,
    /// What tells it from the others of its file; sorts as they come.
    pub(crate) suffix: String,
    /// The class that the file states.
    pub(crate) label: Option<String>,
    /// The part of a split that the file states.
    pub(crate) part: Option<SplitPart>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The images that are meant, in order.
    pub(crate) slots: Vec<Slot>,
    /// The patient whose images they are, as the file states.
    pub(crate) patient: Option<String>,
    /// Whether the images are cuts through one thing, and so of one group.
    pub(crate) is_stack: bool,
    /// Whether all images have 8 bits a sample or fewer.
    pub(crate) is_shallow: bool,
    /// What of it is left out, in words.
    pub(crate) left_out: Option<&'static str>,
}

impl Contents {
    /// A file of one image.
    fn one() -> Self {
        Self { slots: vec![Slot::default()], ..Self::default() }
    }

    /// A file of `frames` images, of which `stacks` chooses.
    #[cfg(any(feature = "dicom", feature = "nifti", feature = "numpy"))]
    fn stack(frames: usize, stacks: &Stacks) -> Outcome<Self> {
        if frames == 0 {
            return Err("it holds no image".to_owned());
        }
        if frames > MAX_FRAMES {
            return Err(format!("it holds {frames} images, at most {MAX_FRAMES} are read"));
        }
        if frames == 1 {
            return Ok(Self::one());
        }
        let slot = |frame| Slot { frame, suffix: numbered(frame, frames), ..Slot::default() };
        Ok(Self { slots: stacks.slices.chosen(frames).map(slot).collect(), is_stack: true, ..Self::default() })
    }
}

/// The number of image `frame` of `frames`, counted from 1, with as many digits as the last one has.
fn numbered(frame: usize, frames: usize) -> String {
    format!("{:0width$}", frame + 1, width = frames.to_string().len())
}

/// What a file of this content holds.
pub(crate) fn look(bytes: &[u8], format: Format, stacks: &Stacks) -> Outcome<Contents> {
    match format {
        Format::Raster(kind) => Ok(raster::look(bytes, kind)),
        Format::Tiff => tiff::look(bytes, stacks),
        #[cfg(feature = "dicom")]
        Format::Dicom => dicom::look(bytes, stacks),
        #[cfg(feature = "nifti")]
        Format::Nifti => nifti::look(bytes, stacks),
        #[cfg(feature = "numpy")]
        Format::Npy => numpy::look_npy(bytes, stacks),
        #[cfg(feature = "numpy")]
        Format::Npz => numpy::look_npz(bytes),
        #[allow(unreachable_patterns, reason = "reached in builds without some of the formats")]
        other => Err(format!("this build does not read {}", other.name())),
    }
}

/// A file whose images are decoded one by one.
pub(crate) enum Opened {
    Raster(Vec<u8>, ImageFormat),
    Tiff(Vec<u8>),
    #[cfg(feature = "dicom")]
    Dicom(Box<dicom::Dicom>),
    #[cfg(feature = "nifti")]
    Nifti(Box<nifti::Volume>),
    #[cfg(feature = "numpy")]
    Numpy(Vec<numpy::Array>),
}

impl Opened {
    /// Opens a file of this content.
    pub(crate) fn new(bytes: Vec<u8>, format: Format, stacks: &Stacks) -> Outcome<Self> {
        match format {
            Format::Raster(kind) => Ok(Self::Raster(bytes, kind)),
            Format::Tiff => Ok(Self::Tiff(bytes)),
            #[cfg(feature = "dicom")]
            Format::Dicom => Ok(Self::Dicom(Box::new(dicom::Dicom::open(&bytes, stacks.windows)?))),
            #[cfg(feature = "nifti")]
            Format::Nifti => Ok(Self::Nifti(Box::new(nifti::Volume::open(&bytes, stacks)?))),
            #[cfg(feature = "numpy")]
            Format::Npy => Ok(Self::Numpy(vec![numpy::Array::open(&bytes)?])),
            #[cfg(feature = "numpy")]
            Format::Npz => Ok(Self::Numpy(numpy::open_npz(&bytes)?)),
            #[allow(unreachable_patterns, reason = "reached in builds without some of the formats")]
            other => Err(format!("this build does not read {} {stacks:?}", other.name())),
        }
    }

    /// Width and height of image `frame`. Those of most formats that hold one image are read without decoding it.
    pub(crate) fn shape(&self, frame: usize) -> Outcome<(usize, usize)> {
        match self {
            Self::Raster(bytes, kind) => raster::shape(bytes, *kind),
            other => other.frame(frame).map(|frame| (frame.width, frame.height)),
        }
    }

    /// Decodes image `frame`.
    pub(crate) fn frame(&self, frame: usize) -> Outcome<Frame> {
        match self {
            Self::Raster(bytes, kind) => raster::frame(bytes, *kind),
            Self::Tiff(bytes) => tiff::frame(bytes, frame),
            #[cfg(feature = "dicom")]
            Self::Dicom(file) => file.frame(frame),
            #[cfg(feature = "nifti")]
            Self::Nifti(volume) => volume.frame(frame),
            #[cfg(feature = "numpy")]
            Self::Numpy(arrays) => numpy::frame(arrays, frame),
        }
    }
}

/// A decoded image of any size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 or 3.
    pub(crate) channels: usize,
    /// `width * height * channels` of them: row by row, channels last.
    pub(crate) samples: Samples,
    /// How the file stores it, as in "16-bit grey".
    pub(crate) mode: String,
}

/// The samples of an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Samples {
    /// Grey levels or colours as they are shown.
    Bytes(Vec<u8>),
    /// Intensities that are yet to be scaled to 8 bits, by one rule for the set.
    Deep(Vec<f32>, Depth),
}

/// What intensities may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Depth {
    /// Whole numbers from `low` to `high`, as the type of the samples has it.
    Whole {
        /// The least.
        low: f32,
        /// The greatest.
        high: f32,
    },
    /// Any numbers: measured in a unit, such as Hounsfield's, or in none.
    Measured,
}

impl Depth {
    /// Unsigned integers of so many bits.
    fn unsigned(bits: u32) -> Self {
        Self::Whole { low: 0.0, high: ((1u64 << bits.min(63)) - 1) as f32 }
    }

    /// Signed integers of so many bits.
    fn signed(bits: u32) -> Self {
        let half = (1u64 << (bits.clamp(1, 63) - 1)) as f32;
        Self::Whole { low: -half, high: half - 1.0 }
    }
}

/// Turns rows and columns of an image as an orientation of EXIF's says; the result has its width and height.
fn oriented<T: Copy>(data: &[T], (width, height, channels): (usize, usize, usize), exif: u8) -> (Vec<T>, usize, usize) {
    // For each place of the result, the place that it comes from.
    let (w, h) = if matches!(exif, 5..=8) { (height, width) } else { (width, height) };
    let from = |x: usize, y: usize| match exif {
        2 => (width - 1 - x, y),
        3 => (width - 1 - x, height - 1 - y),
        4 => (x, height - 1 - y),
        5 => (y, x),
        6 => (y, height - 1 - x),
        7 => (width - 1 - y, height - 1 - x),
        8 => (width - 1 - y, x),
        _ => (x, y),
    };
    let mut turned = Vec::with_capacity(data.len());
    for y in 0..h {
        for x in 0..w {
            let (x, y) = from(x, y);
            let at = (y * width + x) * channels;
            turned.extend_from_slice(&data[at..at + channels]);
        }
    }
    (turned, w, h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_content() {
        let of = |head: &[u8]| Format::of(head, "a/x.dat").map(Format::name);
        assert_eq!(of(b"\x89PNG\r\n\x1a\n...."), Some("PNG"));
        assert_eq!(of(b"\xFF\xD8\xFF\xE0...."), Some("JPEG"));
        assert_eq!(of(b"GIF89a"), Some("GIF"));
        assert_eq!(of(b"RIFF\0\0\0\0WEBPVP8 "), Some("WebP"));
        assert_eq!(of(b"II*\0...."), Some("TIFF"));
        assert_eq!(of(b"II+\0...."), Some("TIFF"));
        assert_eq!(of(b"P5\n4 4\n255\n"), Some("PNM"));
        assert_eq!(of(b"\x93NUMPY\x01\0"), Some("NumPy"));
        for words in [&b"BMI of patients"[..], b"P53 is a gene", b"", b"PK\x03\x04", b"\x1F\x8B\x08"] {
            assert_eq!(of(words), None, "{words:?}");
        }
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        assert_eq!(of(&dicom), Some("DICOM"));
        assert_eq!(of(b"\x1C\x02\0\0n+2\0\r\n\x1A\n"), Some("NIfTI"));
        assert_eq!(of(b"\0\0\x02\x1Cn+2\0\r\n\x1A\n"), Some("NIfTI"));
        assert_eq!(Format::of(b"PK\x03\x04", "x.NPZ"), Some(Format::Npz));
        assert_eq!(Format::of(b"\x1F\x8B\x08", "x.nii.gz"), Some(Format::Nifti));
    }

    #[test]
    fn orientations_are_those_of_exif() {
        // 1 2
        // 3 4
        // 5 6
        let image = [1, 2, 3, 4, 5, 6];
        let turned = |exif| oriented(&image, (2, 3, 1), exif);
        assert_eq!(turned(1), (image.to_vec(), 2, 3));
        assert_eq!(turned(2).0, [2, 1, 4, 3, 6, 5]);
        assert_eq!(turned(3).0, [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(4).0, [5, 6, 3, 4, 1, 2]);
        assert_eq!(turned(5), (vec![1, 3, 5, 2, 4, 6], 3, 2));
        // 6: a quarter turn clockwise.
        assert_eq!(turned(6), (vec![5, 3, 1, 6, 4, 2], 3, 2));
        assert_eq!(turned(7), (vec![6, 4, 2, 5, 3, 1], 3, 2));
        assert_eq!(turned(8), (vec![2, 4, 6, 1, 3, 5], 3, 2));
    }

    #[test]
    fn numbers_sort_as_they_come() {
        assert_eq!([numbered(0, 9), numbered(0, 10), numbered(9, 10)], ["1", "01", "10"]);
    }
}
