//! What can go wrong with images: every message names the file or value at fault and what to do about it.

use std::path::{Path, PathBuf};

use crate::ImageSize;
use crate::left_out::LeftOut;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pixels of the images would take more memory than they may.
    #[error(
        "{images} images of {size:#} pixels in {channels} channels take {:.1} GiB of memory, and {:.1} GiB are given: take fewer or smaller ones",
        gib(*bytes), gib(*limit)
    )]
    Memory {
        /// How many there are.
        images: usize,
        /// The size at which they are read.
        size: ImageSize,
        /// The channels in which they are read.
        channels: usize,
        /// What they would take.
        bytes: u64,
        /// What they may.
        limit: u64,
    },
    /// A file or folder could not be read or written.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The path given does not exist.
    #[error("{0} does not exist: give a folder or a .zip of images")]
    NotFound(PathBuf),
    /// A file of no kind that holds images.
    #[error(
        "{0} is no folder, no zip and no file of images that is read: give the folder or zip that holds the images"
    )]
    NoSet(PathBuf),
    /// A zip that cannot be read.
    #[error("{path} is not a whole zip file ({reason}): it may be cut short; fetch or make it again")]
    Zip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A zip that tries to write or read outside itself, or to unpack into far more than it holds.
    #[error("{path} is refused: its entry {entry:?} {reason}")]
    HostileZip {
        /// The zip.
        path: PathBuf,
        /// The entry at fault.
        entry: String,
        /// What it tries.
        reason: String,
    },
    /// A file that is one image, where a set of them is wanted.
    #[error("{0} is one image, and no set of images: give the folder or zip that holds it")]
    LoneImage(PathBuf),
    /// No image was found.
    #[error(
        "no image under {path}: {} ({} are read)",
        listed(.left_out),
        crate::formats::formats()
    )]
    NoImages {
        /// The folder or zip.
        path: PathBuf,
        /// What there is instead.
        left_out: Vec<LeftOut>,
    },
    /// Folders that can be read in several ways.
    #[error("it is not clear which folders in {path} are the classes: above the images are {levels}")]
    Ambiguous {
        /// The folder or zip.
        path: PathBuf,
        /// The levels of folders that differ, with examples.
        levels: String,
    },
    /// Images that do not lie as deep as the others.
    #[error(
        "the images in {path} are not side by side: {first:?} lies in {:?} ({layout}), but {second:?} in {:?}; move what does not belong there, or give a source with some of them alone",
        folder_of(.first),
        folder_of(.second)
    )]
    Layout {
        /// The folder or zip.
        path: PathBuf,
        /// How most of the images lie, as a layout.
        layout: String,
        /// An image where most of them are.
        first: String,
        /// One that is elsewhere.
        second: String,
    },
    /// A class folder without a single image.
    #[error("class {class:?} under {path} has no image{}: remove the folder or fill it", in_folder(.left_out))]
    EmptyClass {
        /// The folder or zip.
        path: PathBuf,
        /// The class.
        class: String,
        /// What there is instead, as far as it was told apart.
        left_out: Vec<LeftOut>,
    },
    /// Only one class where two are needed.
    #[error("only one class, {class:?}, under {path}: {layout}, and a classifier needs two or more classes")]
    OneClass {
        /// The folder or zip.
        path: PathBuf,
        /// The class.
        class: String,
        /// How the images lie.
        layout: String,
    },
    /// An image that cannot be used.
    #[error("cannot use image {name} in {path}: {reason}; mend or remove it")]
    BadImage {
        /// The folder or zip.
        path: PathBuf,
        /// The image's path inside it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A CSV file (groups or split manifest) that does not fit.
    #[error("{path}{}: {reason}", if *line == 0 { String::new() } else { format!(", line {line}") })]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 for the file as a whole.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A CSV file of groups that has not two columns.
    #[error("{path}, line {line}: expected two columns, file and group, but found {columns}")]
    Columns {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Its columns.
        columns: usize,
    },
    /// A setting out of its range.
    #[error("{0}")]
    Invalid(String),
    /// Two classes would share one folder.
    #[error("the classes {first:?} and {second:?} would share the folder {folder:?}; rename one of them")]
    ClassFolder {
        /// One class.
        first: String,
        /// The other.
        second: String,
        /// The folder name both map to.
        folder: String,
    },
    /// A view has images of a class that is not among those it is to have.
    #[error("there are images of class {class:?}, which is none of {}", known.join(", "))]
    UnknownClass {
        /// The class.
        class: String,
        /// Those that are known.
        known: Vec<String>,
    },
    /// An image could not be written as a PNG.
    #[error("cannot encode {path} as PNG")]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// A set of `candle-datasets` was asked for in a build without it.
    #[error("this build cannot read {0}: sets: it was made without the feature candle-datasets")]
    NoVision(String),
    /// A download that failed.
    #[error("cannot download {url}: {reason}")]
    Fetch {
        /// The address.
        url: String,
        /// What happened and what to do.
        reason: String,
    },
    /// A download that came to an end too often: the server cannot be reached, or breaks off.
    #[error(
        "cannot download {url}: {reason}. Is this machine online? Otherwise download the file elsewhere and copy it to {}; what has \
         arrived so far is kept beside it and a later fetch goes on from there",
        dest.display()
    )]
    Offline {
        /// The address.
        url: String,
        /// The file it was meant for.
        dest: PathBuf,
        /// What happened last.
        reason: String,
    },
    /// A well-known data set that could not be read from its folder.
    #[error("cannot read {kind} from {path}: {reason}; expected {expected}")]
    Dataset {
        /// Which data set: `CIFAR-10` or `MNIST`.
        kind: &'static str,
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        reason: String,
        /// The files that should be there.
        expected: &'static str,
    },
    /// A background worker ended without a result.
    #[error("a background worker stopped unexpectedly: {0}")]
    Worker(String),
    /// Candle could not make a tensor.
    #[cfg(feature = "tensor")]
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The folder of an image inside a source; the source itself is `.`.
pub(crate) fn folder_of(image: &str) -> &str {
    image.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// What was left out, in words.
fn listed(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return "there are no files".to_owned();
    }
    left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// As [`listed`], in parentheses where there is something.
fn in_folder(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() { String::new() } else { format!(" ({})", listed(left_out)) }
}

impl Error {
    /// Wraps an I/O error with the path it concerns.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}
