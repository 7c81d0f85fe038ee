//! How a folder or zip becomes a view.

use std::path::{Path, PathBuf};

use crate::groups::{GroupPattern, Groups};
use crate::index::{Entry, Index, is_image};
use crate::{Error, Progress, Result, Source, View};

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
    /// Pixels a side, within [`SIDES`](crate::decode::SIDES). Images are stretched to a square, as Pillow's `resize` does.
    pub side: usize,
    /// 3 for RGB, 1 for grey (ITU-R 601 luma, as Pillow's `L`).
    pub channels: usize,
    /// Where the group (patient) of an image comes from.
    pub groups: Groups,
    /// How the names of known data sets tell a group: what [`Groups::Auto`] tries, in this order, and what [`Groups::Csv`] looks for in
    /// the names of slides. There are none by default.
    pub patterns: Vec<GroupPattern>,
    /// Accept a source of a single class, enough for a GAN.
    pub allow_one_class: bool,
    /// Leave out what cannot be used and list it in [`View::skipped`], rather than fail at the first in order of name: images that cannot
    /// be decoded, unreadable names, images whose class folder is not beside the others, class folders without an image, images without
    /// a group. Where class folders lie in several folders (`train/a` and `test/a`), the one that holds most images is kept, or else the
    /// first by name.
    pub skip_bad: bool,
    /// Folder for a memory-mapped cache, made if absent; delete it at will. Without one, pixels stay in memory.
    ///
    /// A cache is found again by its settings, the names of the images, and their content: the SHA-256 of each file in a folder,
    /// but no more than the size and CRC-32 that a zip's directory gives for each file in it. So it goes stale in one case: where
    /// an image in a zip is replaced by another of the same name, size and CRC-32.
    pub cache_dir: Option<PathBuf>,
    /// Is told how many images of all are decoded. None are told of where the cache is there already.
    pub progress: Option<Progress>,
}

impl OpenOptions {
    /// Images of `side` by `side` pixels in `channels` channels: in memory, of two classes or more, none left out, groups from names where
    /// patterns are given.
    #[must_use]
    pub fn new(side: usize, channels: usize) -> Self {
        Self {
            side,
            channels,
            groups: Groups::Auto,
            patterns: Vec::new(),
            allow_one_class: false,
            skip_bad: false,
            cache_dir: None,
            progress: None,
        }
    }
}

impl Default for OpenOptions {
    /// 64 x 64 RGB.
    fn default() -> Self {
        Self::new(64, 3)
    }
}

impl View {
    /// Reads a folder or zip with one folder of images per class, or `cifar10:DIR` or `mnist:DIR`, the folders that `candle-datasets`
    /// reads.
    ///
    /// # Errors
    /// As [`Index::open`] and [`View::load`]; [`Error::NoVision`] for `cifar10:` and `mnist:` in a build without the feature
    /// `candle-datasets`.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        if let Some((kind @ ("cifar10" | "mnist"), dir)) = path.to_str().and_then(|text| text.split_once(':')) {
            return vision(kind, Path::new(dir))?.resized(options.side, options.channels);
        }
        Self::load(&Index::open(path, options)?, options)
    }

    /// As [`View::open`], for images that need not be sorted into classes: a folder or zip of loose images becomes one class without a
    /// name, and a single class will do.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn open_unlabelled(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let options = OpenOptions { allow_one_class: true, ..options.clone() };
        match Self::open(path, &options) {
            Err(Error::NoClasses(root)) => {
                let names = loose_images(&root)?;
                if names.is_empty() {
                    return Err(Error::NoClasses(root));
                }
                let entries = names.into_iter().map(|name| Entry { name, class: 0, group: None }).collect();
                let index = Index { root, classes: vec![String::new()], entries, ignored: 0, skipped: Vec::new() };
                Self::load(&index, &options)
            }
            other => other,
        }
    }
}

/// Names of the images directly in a folder or zip, sorted.
fn loose_images(root: &Path) -> Result<Vec<String>> {
    let mut names = Source::open(root)?.list().files;
    names.retain(|name| !name.contains('/') && is_image(name));
    Ok(names)
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
    Err(Error::NoVision(kind.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_images_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpg", "notes.txt", ".hidden.png"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(loose_images(dir.path()).unwrap(), ["a.jpg", "b.PNG"]);
    }
}
