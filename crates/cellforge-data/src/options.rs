//! How a folder or zip becomes a view.

use std::path::{Path, PathBuf};

use crate::duplicates::Duplicates;
use crate::groups::{GroupPattern, Groups};
use crate::index::Index;
use crate::layout::Layout;
use crate::masks::Masks;
use crate::stacks::Stacks;
use crate::table::Table;
use crate::{Fit, ImageSize, Progress, Result, View};

/// How images are found, grouped and decoded.
///
/// ```
/// use cellforge_data::OpenOptions;
///
/// let mut options = OpenOptions::new(64, 3);
/// options.skip_bad = true;
/// options.cache_dir = Some("cache".into());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Height and width, each within [`SIDES`](crate::decode::SIDES).
    pub size: ImageSize,
    /// How an image of another shape becomes one of this size.
    pub fit: Fit,
    /// 3 for RGB, 1 for grey (ITU-R 601 luma, as Pillow's `L`). Without it, 1 where no image shows a colour, however it is stored, else 3.
    pub channels: Option<usize>,
    /// Where the group (patient) of an image comes from.
    pub groups: Groups,
    /// How the names of known data sets tell a group: what [`Groups::Auto`] tries, in this order, and what [`Groups::Csv`] looks for in
    /// the names of slides. There are none by default.
    pub patterns: Vec<GroupPattern>,
    /// What the folders above the images mean; without it, that is found out.
    pub layout: Option<Layout>,
    /// A table of classes, groups and parts of a split. It goes before folders, names and what the files state.
    pub table: Option<Table>,
    /// How volumes and other files of several images are cut into images.
    pub stacks: Stacks,
    /// The intensities that are black and white, of samples of more than 8 bits. Without it, they are the least and the greatest of the set for
    /// whole numbers, and its [percentiles](crate::intensity::PERCENTILES) where some are measured (floats, volumes, DICOM).
    pub window: Option<(f64, f64)>,
    /// What becomes of masks that lie beside the images.
    pub masks: Masks,
    /// What becomes of identical images. [`SplitOptions`](crate::SplitOptions) says it of a split.
    pub duplicates: Duplicates,
    /// Accept a source of a single class, enough for a GAN. Images that nothing sorts into classes are one class, called as the source is.
    pub allow_one_class: bool,
    /// Leave out what cannot be used and list it in [`View::skipped`], rather than fail at the first in order of name: images that cannot
    /// be decoded, unreadable names, images that lie deeper or less deep than most, class folders without an image, images without a group
    /// or a line in a table.
    pub skip_bad: bool,
    /// Folder for a memory-mapped cache, made if absent; delete it at will. Without one, pixels stay in memory.
    ///
    /// A cache is found again by its settings, the names of the images, and their content: the SHA-256 of each file in a folder,
    /// but no more than the size and CRC-32 that a zip's directory gives for each file in it. So it goes stale in one case: where
    /// an image in a zip is replaced by another of the same name, size and CRC-32.
    pub cache_dir: Option<PathBuf>,
    /// The most bytes that pixels may take in memory, where there is no cache. Without it, there is no limit.
    pub memory: Option<u64>,
    /// Is told how many images of all are decoded. None are told of where the cache is there already.
    pub progress: Option<Progress>,
}

impl OpenOptions {
    /// Images of `size`, or of as many pixels a side, in `channels` channels, or in as many as they show where that is `None`: in memory, of two classes or more, none left out, groups from names where
    /// patterns are given.
    #[must_use]
    pub fn new(size: impl Into<ImageSize>, channels: impl Into<Option<usize>>) -> Self {
        Self {
            size: size.into(),
            fit: Fit::Auto,
            channels: channels.into(),
            groups: Groups::Auto,
            patterns: Vec::new(),
            layout: None,
            table: None,
            stacks: Stacks::default(),
            window: None,
            masks: Masks::default(),
            duplicates: Duplicates::default(),
            allow_one_class: false,
            skip_bad: false,
            cache_dir: None,
            memory: None,
            progress: None,
        }
    }
}

impl OpenOptions {
    /// The channels of images that are read now: found out before, or said.
    pub(crate) fn used_channels(&self) -> usize {
        self.channels.unwrap_or(3)
    }
}

impl Default for OpenOptions {
    /// 64 x 64 RGB.
    fn default() -> Self {
        Self::new(64, 3)
    }
}

impl View {
    /// Reads a folder, a zip or a file of many images, sorted into classes by folders, a table or the file itself; or `cifar10:DIR` or
    /// `mnist:DIR`, the folders that `candle-datasets` reads.
    ///
    /// # Errors
    /// As [`Index::open`] and [`View::load`]; [`Error::NoVision`](crate::Error::NoVision) for `cifar10:` and `mnist:` in a build without the feature
    /// `candle-datasets`.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        if let Some((kind @ ("cifar10" | "mnist"), dir)) = path.to_str().and_then(|text| text.split_once(':')) {
            let images = vision(kind, Path::new(dir))?;
            return images.resized(options.size, options.channels.unwrap_or(images.channels()));
        }
        Self::load(&Index::open(path, options)?, options)
    }

    /// As [`View::open`], for images that need not be sorted into classes: those that nothing sorts are one class without a name, and a
    /// single class will do.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn open_unlabelled(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let (path, options) = (path.as_ref(), OpenOptions { allow_one_class: true, ..options.clone() });
        if path.to_str().is_some_and(|text| text.starts_with("cifar10:") || text.starts_with("mnist:")) {
            return Self::open(path, &options);
        }
        let mut index = Index::open(path, &options)?;
        if index.is_unlabelled {
            index.classes = vec![String::new()];
        }
        Self::load(&index, &options)
    }
}

#[cfg(feature = "candle-datasets")]
fn vision(kind: &str, dir: &Path) -> Result<View> {
    match kind {
        "mnist" => crate::vision::mnist(dir),
        _ => crate::vision::cifar10(dir),
    }
}

#[cfg(not(feature = "candle-datasets"))]
fn vision(kind: &str, _dir: &Path) -> Result<View> {
    Err(crate::Error::NoVision(kind.to_owned()))
}
