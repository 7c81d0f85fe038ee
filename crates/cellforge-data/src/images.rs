//! A set of decoded images: `u8` pixels of one size with a label, a name and, where known, a patient each.

use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, RgbImage};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::index::{Index, IndexOptions, Skipped};
use crate::{DecodeOptions, Error, Result};

/// Decoded images of one size. Cloning is cheap: the pixels are shared.
#[derive(Clone, Debug)]
pub struct CellSet {
    /// Class names, sorted; a label is an index into them.
    pub classes: Vec<String>,
    /// Each image's name: its path inside the folder or zip, with `/` between the parts.
    pub names: Vec<String>,
    /// Each image's class.
    pub labels: Vec<u32>,
    /// Each image's patient, where known.
    pub groups: Vec<Option<String>>,
    /// What was skipped on the way here, with the reason.
    pub skipped: Vec<Skipped>,
    pub(crate) side: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: Pixels,
}

/// Pixels in memory, or a part of the mapped cache file.
#[derive(Clone)]
pub(crate) enum Pixels {
    Memory(Arc<Vec<u8>>),
    Mapped(Arc<memmap2::Mmap>, std::ops::Range<usize>),
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} bytes)", self.bytes().len())
    }
}

impl Pixels {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

impl CellSet {
    /// Builds a set from its parts. `pixels` holds each image in turn, `side * side * channels` bytes, row by row,
    /// channels last; `channels` is 1 or 3.
    ///
    /// # Errors
    /// [`Error::Invalid`] if lengths differ, a label names no class, or `channels` is neither 1 nor 3.
    pub fn from_parts(
        classes: Vec<String>,
        names: Vec<String>,
        labels: Vec<u32>,
        groups: Vec<Option<String>>,
        side: usize,
        channels: usize,
        pixels: Vec<u8>,
    ) -> Result<Self> {
        let pixels = Pixels::Memory(Arc::new(pixels));
        Self { classes, names, labels, groups, skipped: Vec::new(), side, channels, pixels }.checked()
    }

    /// The set itself, if its parts fit together.
    pub(crate) fn checked(self) -> Result<Self> {
        let Self { classes, names, labels, groups, side, channels, pixels, .. } = &self;
        let (n, side, channels) = (names.len(), *side, *channels);
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
        if side == 0 || bytes != n * side * side * channels {
            return Err(Error::Invalid(format!("{n} images of {side}x{side}x{channels} do not make {bytes} bytes")));
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes.len()) {
            return Err(Error::Invalid(format!("label {label} names none of the {} classes", classes.len())));
        }
        Ok(self)
    }

    /// Indexes and decodes a folder or zip in one go.
    ///
    /// # Errors
    /// As [`Index::open`] and [`CellSet::load`].
    pub fn open(path: &Path, index: &IndexOptions, decode: &DecodeOptions) -> Result<Self> {
        Self::load(&Index::open(path, index)?, decode)
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Pixels a side.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// 1 (grey) or 3 (RGB).
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Image `i`: `side * side * channels` bytes, row by row, channels last.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.side * self.side * self.channels;
        &self.pixels.bytes()[i * size..(i + 1) * size]
    }

    /// The images of one class, in order.
    #[must_use]
    pub fn class_indices(&self, class: u32) -> Vec<usize> {
        (0..self.len()).filter(|i| self.labels[*i] == class).collect()
    }

    /// Images per class, in the classes' order.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for label in &self.labels {
            counts[*label as usize] += 1;
        }
        counts
    }

    /// The different groups, sorted; empty where none is known.
    #[must_use]
    pub fn group_names(&self) -> Vec<&str> {
        let names: std::collections::BTreeSet<&str> = self.groups.iter().flatten().map(String::as_str).collect();
        names.into_iter().collect()
    }

    /// Whether every image's group is known and there are at least two.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups.iter().all(Option::is_some) && self.group_names().len() > 1
    }

    /// Some of the images as a set of their own, in the order given.
    ///
    /// # Panics
    /// If an index names no image.
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let pixels = indices.iter().flat_map(|i| self.image(*i)).copied().collect();
        Self {
            classes: self.classes.clone(),
            names: indices.iter().map(|i| self.names[*i].clone()).collect(),
            labels: indices.iter().map(|i| self.labels[*i]).collect(),
            groups: indices.iter().map(|i| self.groups[*i].clone()).collect(),
            skipped: Vec::new(),
            side: self.side,
            channels: self.channels,
            pixels: Pixels::Memory(Arc::new(pixels)),
        }
    }

    /// The set with another image side and number of channels (Lanczos3; grey by luma).
    ///
    /// # Errors
    /// A side or number of channels that images cannot have.
    pub fn resized(&self, side: usize, channels: usize) -> Result<Self> {
        let (from, depth) = (self.side(), self.channels());
        if (self.side(), depth) == (side, channels) {
            return Ok(self.clone());
        }
        let one = |i: usize| -> Result<Vec<u8>> {
            let bytes = crate::decode::resize(self.image(i), from, from, depth, side)?;
            Ok(match (depth, channels) {
                (3, 1) => {
                    let image =
                        RgbImage::from_raw(side as u32, side as u32, bytes).expect("a resized image has its size");
                    DynamicImage::from(image).into_luma8().into_raw()
                }
                (1, 3) => bytes.into_iter().flat_map(|grey| [grey; 3]).collect(),
                _ => bytes,
            })
        };
        let pixels: Vec<Vec<u8>> = (0..self.len()).into_par_iter().map(one).collect::<Result<_>>()?;
        let (classes, names, labels) = (self.classes.clone(), self.names.clone(), self.labels.clone());
        Self::from_parts(classes, names, labels, self.groups.clone(), side, channels, pixels.concat())
    }

    /// SHA-256 (hex) of everything in the set: classes, names, labels, groups, size and pixels. Takes about a second
    /// for a gigabyte.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        for class in &self.classes {
            text(class);
        }
        for (name, group) in self.names.iter().zip(&self.groups) {
            text(name);
            text(group.as_deref().unwrap_or("\0"));
        }
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        hash.update([self.channels as u8]);
        hash.update((self.side as u64).to_le_bytes());
        hash.update(self.pixels.bytes());
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> CellSet {
        CellSet::from_parts(
            vec!["a".into(), "b".into()],
            vec!["a/1".into(), "b/2".into()],
            vec![0, 1],
            vec![Some("P1".into()), Some("P2".into())],
            2,
            1,
            (0..8).collect(),
        )
        .unwrap()
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let make = |labels: Vec<u32>, channels, bytes| {
            let names = vec!["x".to_owned()];
            CellSet::from_parts(vec!["a".into()], names, labels, vec![None], 2, channels, vec![0; bytes])
        };
        assert!(make(vec![0], 1, 4).is_ok());
        assert!(make(vec![1], 1, 4).unwrap_err().to_string().contains("label 1"));
        assert!(make(vec![0], 2, 8).is_err());
        assert!(make(vec![0], 1, 5).is_err());
        assert!(make(vec![], 1, 4).is_err());
    }

    #[test]
    fn subset_and_fingerprint_follow_the_content() {
        let set = two();
        assert_eq!(set.subset(&[1]).image(0), &[4, 5, 6, 7]);
        assert_eq!(set.class_counts(), [1, 1]);
        assert_eq!(set.fingerprint(), set.subset(&[0, 1]).fingerprint());
        let mut other = two();
        other.groups[0] = Some("P3".into());
        assert_ne!(set.fingerprint(), other.fingerprint());
    }

    #[test]
    fn resizing_keeps_a_flat_colour_and_the_labels() {
        let pixels = [10, 200, 30].repeat(16).into_iter().chain([77, 77, 77].repeat(16)).collect();
        let set = CellSet::from_parts(
            vec!["a".into(), "b".into()],
            vec!["a/1".into(), "b/1".into()],
            vec![0, 1],
            vec![None, None],
            4,
            3,
            pixels,
        )
        .unwrap();
        let larger = set.resized(8, 3).unwrap();
        assert_eq!(larger.image(0), [10, 200, 30].repeat(64));
        assert_eq!(larger.labels, [0, 1]);
        let grey = set.resized(8, 1).unwrap();
        assert_eq!(grey.image(1), [77; 64]);
    }
}
