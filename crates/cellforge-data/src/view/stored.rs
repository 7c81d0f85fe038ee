//! The set of images that views share.

use std::sync::Arc;

use super::{Facts, View};
use crate::index::Skipped;
use crate::split::SplitPart;
use crate::{Error, ImageSize, Result};

/// What views share.
pub(crate) struct Stored {
    pub(crate) classes: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    pub(crate) groups: Vec<Option<String>>,
    /// The part of a split that the source puts each image into; empty where it says nothing of any.
    pub(crate) parts: Vec<Option<SplitPart>>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) facts: Facts,
    pub(crate) size: ImageSize,
    pub(crate) channels: usize,
    pub(crate) pixels: Pixels,
}

/// Pixels in memory, or a part of the mapped cache file.
pub(crate) enum Pixels {
    Memory(Vec<u8>),
    Mapped(memmap2::Mmap, std::ops::Range<usize>),
}

impl Pixels {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

impl Stored {
    /// A view of all images, if the parts fit together.
    pub(crate) fn into_view(self) -> Result<View> {
        let Self { classes, names, labels, groups, size, channels, pixels, .. } = &self;
        let (n, size, channels) = (names.len(), *size, *channels);
        if !matches!(channels, 1 | 3) {
            return Err(Error::Invalid(format!("images have 1 or 3 channels, not {channels}")));
        }
        if labels.len() != n || groups.len() != n {
            return Err(Error::Invalid(format!(
                "{n} names need as many labels and groups, not {} and {}",
                labels.len(),
                groups.len()
            )));
        }
        let bytes = pixels.bytes().len();
        let wanted = size.height.checked_mul(size.width).and_then(|area| area.checked_mul(n * channels));
        if size.area() == 0 || wanted != Some(bytes) {
            return Err(Error::Invalid(format!("{n} images of {size:#}x{channels} do not make {bytes} bytes")));
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes.len()) {
            return Err(Error::Invalid(format!("label {label} names none of the {} classes", classes.len())));
        }
        Ok(View { set: Arc::new(self), rows: None, classes: None })
    }
}
