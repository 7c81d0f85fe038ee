//! Images with labels, groups and names, and which of them are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::{DynamicImage, GrayImage, RgbImage};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::index::Skipped;
use crate::names::folder_name;
use crate::{Error, Result};

/// Images of one size with a class, a name and, where known, a group each; and which of them are meant.
///
/// A view is what everything takes: all images of a folder, those of one class, the training part of a split, what a generator made. It
/// is a reference to a stored set and a choice of its images. To clone a view or to narrow it copies no pixel, and a stored set never
/// changes. So its lengths always agree.
///
/// Positions count the images of the view, from 0. The row of an image is its place in the stored set. Whatever is random about an image
/// is drawn for its row: the same image is changed alike in every view of its set.
///
/// ```
/// use cellforge_data::phantom::{self, PhantomConfig};
/// use cellforge_data::{SplitOptions, split};
///
/// let all = phantom::render(&PhantomConfig { side: 16, images_per_class: 20, ..PhantomConfig::default() })?;
/// let train = all.part(&split(&all, &SplitOptions::default())?.train);
/// let healthy = train.class(1);
/// assert_eq!(healthy.classes(), ["Uninfected"]);
/// assert_eq!(healthy.image(0), all.image(healthy.row(0)));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone)]
pub struct View {
    set: Arc<Stored>,
    /// The rows meant; all where there is none.
    rows: Option<Arc<[usize]>>,
    /// Other classes than those of the stored set.
    classes: Option<Arc<Classes>>,
}

/// What a view is made from: see [`View::new`]. Lists that are left empty get a value for each image.
///
/// ```
/// use cellforge_data::{View, ViewParts};
///
/// let black = View::new(ViewParts { side: 4, channels: 1, pixels: vec![0; 3 * 16], ..ViewParts::default() })?;
/// assert_eq!((black.len(), black.name(2), black.label(2), black.group(2)), (3, "000003", 0, None));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewParts {
    /// Class names; a label is an index into them. Empty: one class without a name.
    pub classes: Vec<String>,
    /// Each image's name; for one from a folder or zip its path inside, with `/` between the parts. Empty: `000001` and so on.
    pub names: Vec<String>,
    /// Each image's class. Empty: all are of the first.
    pub labels: Vec<u32>,
    /// Each image's group, where known: images of one patient are one group. Empty: none is known.
    pub groups: Vec<Option<String>>,
    /// Pixels a side.
    pub side: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// All images one after the other, `side * side * channels` bytes each: row by row, channels last.
    pub pixels: Vec<u8>,
}

impl ViewParts {
    /// The size and pixels of RGB images, without labels, groups and names.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no image, one is not square, or their sizes differ.
    pub fn from_rgb(images: impl IntoIterator<Item = RgbImage>) -> Result<Self> {
        Self::collect(3, images.into_iter().map(|image| (image.dimensions(), image.into_raw())))
    }

    /// The size and pixels of grey images, without labels, groups and names.
    ///
    /// # Errors
    /// As [`ViewParts::from_rgb`].
    pub fn from_grey(images: impl IntoIterator<Item = GrayImage>) -> Result<Self> {
        Self::collect(1, images.into_iter().map(|image| (image.dimensions(), image.into_raw())))
    }

    fn collect(channels: usize, images: impl Iterator<Item = ((u32, u32), Vec<u8>)>) -> Result<Self> {
        let mut parts = Self { channels, ..Self::default() };
        for (number, ((width, height), bytes)) in images.enumerate() {
            if number == 0 {
                parts.side = width as usize;
            }
            let side = parts.side;
            if (width as usize, height as usize) != (side, side) {
                let wanted = if number == 0 { "a square".to_owned() } else { format!("{side}x{side} as the first") };
                return Err(Error::Invalid(format!("image {number} has {width}x{height} pixels, not {wanted}")));
            }
            parts.pixels.extend(bytes);
        }
        if parts.side == 0 {
            return Err(Error::Invalid("there is no image, and so no size of images".to_owned()));
        }
        Ok(parts)
    }
}

/// What views share.
pub(crate) struct Stored {
    pub(crate) classes: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    pub(crate) groups: Vec<Option<String>>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) side: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: Pixels,
}

/// Classes that stand in for those of a stored set.
struct Classes {
    names: Vec<String>,
    /// The label of each class of the stored set. One that no image of the view is of has any.
    labels: Vec<u32>,
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
        let wanted = side.checked_mul(side).and_then(|area| area.checked_mul(n * channels));
        if side == 0 || wanted != Some(bytes) {
            return Err(Error::Invalid(format!("{n} images of {side}x{side}x{channels} do not make {bytes} bytes")));
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes.len()) {
            return Err(Error::Invalid(format!("label {label} names none of the {} classes", classes.len())));
        }
        Ok(View { set: Arc::new(self), rows: None, classes: None })
    }
}

/// Making a view.
impl View {
    /// A view of all images of a new set in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] if lengths differ, a label names no class, the side is 0, or there are neither 1 nor 3 channels.
    pub fn new(parts: ViewParts) -> Result<Self> {
        let ViewParts { mut classes, mut names, mut labels, mut groups, side, channels, pixels } = parts;
        let given = [names.len(), labels.len(), groups.len()].into_iter().max().unwrap_or_default();
        let size = side.saturating_mul(side).saturating_mul(channels);
        let n = if given > 0 { given } else { pixels.len() / size.max(1) };
        if classes.is_empty() {
            classes.push(String::new());
        }
        if names.is_empty() {
            names = (1..=n).map(|number| format!("{number:06}")).collect();
        }
        if labels.is_empty() {
            labels = vec![0; n];
        }
        if groups.is_empty() {
            groups = vec![None; n];
        }
        let pixels = Pixels::Memory(pixels);
        Stored { classes, names, labels, groups, skipped: Vec::new(), side, channels, pixels }.into_view()
    }

    /// RGB images of one class without a name. [`ViewParts::from_rgb`] lets one add labels, groups and names.
    ///
    /// ```
    /// use cellforge_data::View;
    /// use image::{Rgb, RgbImage};
    ///
    /// let view = View::from_rgb((0..3).map(|i| RgbImage::from_pixel(8, 8, Rgb([i, 0, 0]))))?;
    /// assert_eq!((view.len(), view.side(), view.image(2)[0]), (3, 8, 2));
    /// assert_eq!(View::from_rgb(view.rgb_images())?, view);
    /// # Ok::<(), cellforge_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ViewParts::from_rgb`].
    pub fn from_rgb(images: impl IntoIterator<Item = RgbImage>) -> Result<Self> {
        Self::new(ViewParts::from_rgb(images)?)
    }

    /// Grey images of one class without a name.
    ///
    /// # Errors
    /// As [`ViewParts::from_rgb`].
    pub fn from_grey(images: impl IntoIterator<Item = GrayImage>) -> Result<Self> {
        Self::new(ViewParts::from_grey(images)?)
    }

    /// The images of several views, one view after the other, copied into a set of their own. Its classes are those of the first view,
    /// then those that the others have beside, known by name.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no view, or they differ in side or channels.
    pub fn joined(views: &[Self]) -> Result<Self> {
        let Some(first) = views.first() else {
            return Err(Error::Invalid("no views to join".to_owned()));
        };
        let mut all = ViewParts { side: first.side(), channels: first.channels(), ..ViewParts::default() };
        for view in views {
            if (view.side(), view.channels()) != (all.side, all.channels) {
                return Err(Error::Invalid(format!(
                    "images of {0}x{0}x{1} and of {2}x{2}x{3} make no set",
                    all.side,
                    all.channels,
                    view.side(),
                    view.channels()
                )));
            }
            let mut place = |class: &String| {
                let known = all.classes.iter().position(|name| name == class);
                known.unwrap_or_else(|| {
                    all.classes.push(class.clone());
                    all.classes.len() - 1
                })
            };
            let places: Vec<usize> = view.classes().iter().map(&mut place).collect();
            let parts = view.to_parts();
            all.labels.extend(parts.labels.into_iter().map(|label| places[label as usize] as u32));
            all.names.extend(parts.names);
            all.groups.extend(parts.groups);
            all.pixels.extend(parts.pixels);
        }
        Self::new(all)
    }

    /// A copy of what the view holds.
    #[must_use]
    pub fn to_parts(&self) -> ViewParts {
        ViewParts {
            classes: self.classes().to_vec(),
            names: self.names().map(str::to_owned).collect(),
            labels: self.labels(),
            groups: (0..self.len()).map(|i| self.group(i).map(str::to_owned)).collect(),
            side: self.side(),
            channels: self.channels(),
            pixels: self.pixels(),
        }
    }

    /// A set of its own with the same classes, labels, groups and names, in which each image is what `change` makes of its bytes:
    /// `side * side * channels` of them. Rows are counted anew.
    ///
    /// # Errors
    /// What `change` fails with; [`Error::Invalid`] where it gives another number of bytes.
    pub fn mapped(
        &self,
        side: usize,
        channels: usize,
        change: impl Fn(&[u8]) -> Result<Vec<u8>> + Sync,
    ) -> Result<Self> {
        let pixels: Vec<Vec<u8>> =
            (0..self.len()).into_par_iter().map(|i| change(self.image(i))).collect::<Result<_>>()?;
        let mut parts = self.to_parts();
        (parts.side, parts.channels, parts.pixels) = (side, channels, pixels.concat());
        Self::new(parts)
    }

    /// The images with another side and number of channels, as a set of its own (Lanczos3; grey by luma). The view itself where it has
    /// them already.
    ///
    /// # Errors
    /// A side or number of channels that images cannot have.
    pub fn resized(&self, side: usize, channels: usize) -> Result<Self> {
        let (from, depth) = (self.side(), self.channels());
        if (from, depth) == (side, channels) {
            return Ok(self.clone());
        }
        self.mapped(side, channels, |image| {
            let bytes = crate::decode::resize(image, from, from, depth, side)?;
            Ok(match (depth, channels) {
                (3, 1) => DynamicImage::from(rgb_image(side, 3, &bytes)).into_luma8().into_raw(),
                (1, 3) => bytes.into_iter().flat_map(|grey| [grey; 3]).collect(),
                _ => bytes,
            })
        })
    }
}

/// Narrowing a view. No pixel is copied.
impl View {
    /// The images at these positions, in this order. A position may be named twice.
    ///
    /// # Panics
    /// If a position names no image.
    #[must_use]
    pub fn part(&self, positions: &[usize]) -> Self {
        let rows = positions
            .iter()
            .map(|&i| {
                assert!(i < self.len(), "position {i} is past the end of {} images", self.len());
                self.row(i)
            })
            .collect();
        Self { rows: Some(rows), ..self.clone() }
    }

    /// The first `n` images, or all where there are fewer.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        if n >= self.len() {
            return self.clone();
        }
        self.part(&(0..n).collect::<Vec<_>>())
    }

    /// The images of class number `class` alone, in order. That class is the only one of the new view, and its label is 0: a GAN that is
    /// trained on it is a GAN of this class.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn class(&self, class: u32) -> Self {
        let names = vec![self.classes()[class as usize].clone()];
        let classes = Classes { names, labels: vec![0; self.set.classes.len()] };
        Self { classes: Some(Arc::new(classes)), ..self.part(&self.class_indices(class)) }
    }

    /// The same images under other class names: each of its classes is the one of `classes` with its name, or whose folder
    /// ([`folder_name`]) has its name. Labels are then indices into `classes`. A class without an image need not be among them.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] naming a class that has images here and is not among `classes`.
    pub fn relabelled(&self, classes: &[String]) -> Result<Self> {
        let counts = self.class_counts();
        let known = |class: &String| classes.iter().position(|name| name == class || folder_name(name) == *class);
        let found: Vec<Option<u32>> = self.classes().iter().map(|name| known(name).map(|at| at as u32)).collect();
        if let Some(at) = (0..found.len()).find(|&at| found[at].is_none() && counts[at] > 0) {
            return Err(Error::UnknownClass { class: self.classes()[at].clone(), known: classes.to_vec() });
        }
        let new = |stored: usize| found.get(self.label_of(stored as u32) as usize).copied().flatten().unwrap_or(0);
        let labels = (0..self.set.classes.len()).map(new).collect();
        Ok(Self { classes: Some(Arc::new(Classes { names: classes.to_vec(), labels })), ..self.clone() })
    }

    /// All images of the stored set, under the classes that it has.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { set: self.set.clone(), rows: None, classes: None }
    }

    /// The place in the stored set of image `i`.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn row(&self, i: usize) -> usize {
        match &self.rows {
            Some(rows) => rows[i],
            None => {
                assert!(i < self.set.names.len(), "position {i} is past the end of {} images", self.set.names.len());
                i
            }
        }
    }

    /// The places of all its images, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<usize> {
        self.rows.as_ref().map_or_else(|| (0..self.set.names.len()).collect(), |rows| rows.to_vec())
    }

    /// Whether the two are views of one stored set.
    #[must_use]
    pub fn shares_set(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set, &other.set)
    }

    /// The first position of an image that the other view has as well: one stored set, and the same row.
    #[must_use]
    pub fn first_shared(&self, other: &Self) -> Option<usize> {
        if !self.shares_set(other) {
            return None;
        }
        let rows: BTreeSet<usize> = other.rows().into_iter().collect();
        (0..self.len()).find(|&i| rows.contains(&self.row(i)))
    }
}

/// What is in a view.
impl View {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.set.names.len(), |rows| rows.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels a side.
    #[must_use]
    pub fn side(&self) -> usize {
        self.set.side
    }

    /// 1 (grey) or 3 (RGB).
    #[must_use]
    pub fn channels(&self) -> usize {
        self.set.channels
    }

    /// Class names; a label is an index into them. Those of a folder or zip are sorted. Not each need have an image in the view.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.classes.as_ref().map_or(&self.set.classes, |classes| &classes.names)
    }

    /// The name of image `i`: its path inside the folder or zip, with `/` between the parts.
    ///
    /// # Panics
    /// If there is no such image. So do all functions that take a position.
    #[must_use]
    pub fn name(&self, i: usize) -> &str {
        &self.set.names[self.row(i)]
    }

    /// All names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.name(i))
    }

    /// The class of image `i`.
    #[must_use]
    pub fn label(&self, i: usize) -> u32 {
        self.label_of(self.set.labels[self.row(i)])
    }

    /// All labels, in order.
    #[must_use]
    pub fn labels(&self) -> Vec<u32> {
        (0..self.len()).map(|i| self.label(i)).collect()
    }

    /// The name of the class of image `i`.
    #[must_use]
    pub fn class_of(&self, i: usize) -> &str {
        &self.classes()[self.label(i) as usize]
    }

    /// The group (patient) of image `i`, where known.
    #[must_use]
    pub fn group(&self, i: usize) -> Option<&str> {
        self.set.groups[self.row(i)].as_deref()
    }

    /// The group of each image, if all are known.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<String>> {
        (0..self.len()).map(|i| self.group(i).map(str::to_owned)).collect()
    }

    /// The different groups, sorted; empty where none is known.
    #[must_use]
    pub fn group_names(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = (0..self.len()).filter_map(|i| self.group(i)).collect();
        names.into_iter().collect()
    }

    /// Whether every image's group is known and there are at least two.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        (0..self.len()).all(|i| self.group(i).is_some()) && self.group_names().len() > 1
    }

    /// How many groups, of those whose images are all of one class, have images of each class alone; in the classes' order.
    #[must_use]
    pub fn single_class_groups(&self) -> Vec<SingleClass> {
        let mut of_group: BTreeMap<&str, (BTreeSet<u32>, usize)> = BTreeMap::new();
        for i in 0..self.len() {
            if let Some(group) = self.group(i) {
                let entry = of_group.entry(group).or_default();
                entry.0.insert(self.label(i));
                entry.1 += 1;
            }
        }
        let mut found = vec![SingleClass::default(); self.classes().len()];
        for (labels, images) in of_group.into_values() {
            if let (1, Some(&label)) = (labels.len(), labels.first()) {
                found[label as usize].groups += 1;
                found[label as usize].images += images;
            }
        }
        found
    }

    /// The positions of the images of one class, in order.
    #[must_use]
    pub fn class_indices(&self, class: u32) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.label(i) == class).collect()
    }

    /// Images per class, in the classes' order.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().len()];
        (0..self.len()).for_each(|i| counts[self.label(i) as usize] += 1);
        counts
    }

    /// What was left out when the stored set was read, with the reason.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.set.skipped
    }

    /// Image `i`: `side * side * channels` bytes, row by row, channels last.
    #[must_use]
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.set.side * self.set.side * self.set.channels;
        let row = self.row(i);
        &self.set.pixels.bytes()[row * size..(row + 1) * size]
    }

    /// The bytes of all images, one image after the other.
    #[must_use]
    pub fn pixels(&self) -> Vec<u8> {
        match &self.rows {
            None => self.set.pixels.bytes().to_vec(),
            Some(_) => (0..self.len()).flat_map(|i| self.image(i)).copied().collect(),
        }
    }

    /// Image `i` as RGB; grey has three equal channels.
    #[must_use]
    pub fn rgb(&self, i: usize) -> RgbImage {
        rgb_image(self.side(), self.channels(), self.image(i))
    }

    /// All images as RGB, in order.
    pub fn rgb_images(&self) -> impl ExactSizeIterator<Item = RgbImage> {
        (0..self.len()).map(|i| self.rgb(i))
    }

    /// SHA-256 (hex) of everything in the view: classes, names, labels, groups, size and pixels. Takes about a second for a gigabyte.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        for class in self.classes() {
            text(class);
        }
        for i in 0..self.len() {
            text(self.name(i));
            text(self.group(i).unwrap_or("\0"));
        }
        for i in 0..self.len() {
            hash.update(self.label(i).to_le_bytes());
        }
        hash.update([self.channels() as u8]);
        hash.update((self.side() as u64).to_le_bytes());
        match &self.rows {
            None => hash.update(self.set.pixels.bytes()),
            Some(_) => (0..self.len()).for_each(|i| hash.update(self.image(i))),
        }
        hex(&hash.finalize())
    }

    /// The label here of a class of the stored set.
    fn label_of(&self, stored: u32) -> u32 {
        self.classes.as_ref().map_or(stored, |classes| classes.labels[stored as usize])
    }
}

/// Groups whose images are all of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleClass {
    /// How many there are.
    pub groups: usize,
    /// Their images.
    pub images: usize,
}

/// Two views are equal where everything in them is, wherever it is stored.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        (self.len(), self.side(), self.channels()) == (other.len(), other.side(), other.channels())
            && self.classes() == other.classes()
            && (0..self.len()).all(|i| {
                (self.name(i), self.label(i), self.group(i)) == (other.name(i), other.label(i), other.group(i))
                    && self.image(i) == other.image(i)
            })
    }
}

impl Eq for View {}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("images", &self.len())
            .field("of", &self.set.names.len())
            .field("side", &self.side())
            .field("channels", &self.channels())
            .field("classes", &self.classes())
            .finish_non_exhaustive()
    }
}

/// An image of `side * side * channels` bytes as RGB.
fn rgb_image(side: usize, channels: usize, bytes: &[u8]) -> RgbImage {
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let at = (y as usize * side + x as usize) * channels;
        let pixel = &bytes[at..at + channels];
        image::Rgb(if channels >= 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] })
    })
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> ViewParts {
        ViewParts {
            classes: vec!["a".into(), "b".into()],
            names: vec!["a/1".into(), "b/2".into()],
            labels: vec![0, 1],
            groups: vec![Some("P1".into()), Some("P2".into())],
            side: 2,
            channels: 1,
            pixels: (0..8).collect(),
        }
    }

    fn two() -> View {
        View::new(parts()).unwrap()
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let make = |labels: Vec<u32>, channels, bytes| {
            let (classes, names, groups) = (vec!["a".into()], vec!["x".to_owned()], vec![None]);
            View::new(ViewParts { classes, names, labels, groups, side: 2, channels, pixels: vec![0; bytes] })
        };
        assert!(make(vec![0], 1, 4).is_ok());
        assert!(make(vec![1], 1, 4).unwrap_err().to_string().contains("label 1"));
        assert!(make(vec![0], 2, 8).is_err());
        assert!(make(vec![0], 1, 5).is_err());
        assert!(make(vec![0, 0], 1, 4).is_err());
        // What is left out is filled in; what is given must be of one length.
        assert_eq!(make(vec![], 1, 4).unwrap().labels(), [0]);
        assert!(View::new(ViewParts { side: 2, channels: 1, pixels: vec![0; 7], ..ViewParts::default() }).is_err());
        assert!(View::new(ViewParts { side: 0, channels: 1, ..ViewParts::default() }).is_err());
        assert!(View::new(ViewParts { groups: vec![None; 3], ..parts() }).is_err());
    }

    #[test]
    fn a_part_and_its_fingerprint_follow_the_content() {
        let set = two();
        assert_eq!(set.part(&[1]).image(0), &[4, 5, 6, 7]);
        assert_eq!(set.class_counts(), [1, 1]);
        assert_eq!(set.fingerprint(), set.part(&[0, 1]).fingerprint());
        assert_ne!(set.fingerprint(), set.part(&[1, 0]).fingerprint());
        let other = View::new(ViewParts { groups: vec![Some("P3".into()), Some("P2".into())], ..parts() }).unwrap();
        assert_ne!(set.fingerprint(), other.fingerprint());
    }

    #[test]
    fn the_fingerprint_is_pinned() {
        // Runs that were begun with another version go on only with the same value.
        assert_eq!(two().fingerprint(), "ebad3a28903e14030bc5a89fa8da10f88d07a8cf94813fd210f259841b6a2c4a");
    }

    #[test]
    fn views_of_views_know_their_rows() {
        let pixels = (0..6 * 4).collect();
        let classes = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let labels = vec![0, 1, 2, 0, 1, 2];
        let all = View::new(ViewParts { classes, labels, side: 2, channels: 1, pixels, ..ViewParts::default() });
        let all = all.unwrap();
        let part = all.part(&[5, 4, 1, 4]);
        assert_eq!((part.rows(), part.labels()), (vec![5, 4, 1, 4], vec![2, 1, 1, 1]));
        let of_b = part.class(1);
        assert_eq!((of_b.rows(), of_b.labels(), of_b.classes()), (vec![4, 1, 4], vec![0; 3], &["b".to_owned()][..]));
        assert_eq!(of_b.first(2).rows(), [4, 1]);
        assert_eq!(of_b.first(9).len(), 3);
        assert_eq!(of_b.part(&[1]).name(0), "000002");
        assert_eq!((of_b.whole(), of_b.whole().rows()), (all.clone(), (0..6).collect()));
        assert_eq!(part.first_shared(&all.part(&[0, 1])), Some(2));
        assert_eq!(part.first_shared(&all.part(&[0, 2])), None);
        // An equal image of another set is another image.
        assert_eq!(part.first_shared(&View::new(all.to_parts()).unwrap()), None);
        assert_eq!(View::new(all.to_parts()).unwrap(), all);
    }

    #[test]
    #[should_panic(expected = "position 2 is past the end of 2 images")]
    fn a_part_is_of_the_view() {
        let _ = two().part(&[0, 2]);
    }

    #[test]
    fn classes_go_by_name_or_folder() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let classes = vec!["z".to_owned(), folder_name("x y")];
        let view = View::new(ViewParts { classes, ..parts() }).unwrap();
        let known = names(&["q", "x y", "z"]);
        let relabelled = view.relabelled(&known).unwrap();
        assert_eq!((relabelled.labels(), relabelled.classes()), (vec![2, 1], &known[..]));
        assert_eq!(relabelled.class(2).labels(), [0]);
        assert_eq!(relabelled.class(1).rows(), [1]);
        // Once more, from the new labels.
        assert_eq!(relabelled.relabelled(&names(&["z", "x y"])).unwrap().labels(), [0, 1]);
        let error = view.relabelled(&names(&["z", "q"])).unwrap_err();
        assert!(matches!(&error, Error::UnknownClass { class, .. } if *class == folder_name("x y")), "{error}");
        // A class that no image is of is no matter.
        assert_eq!(view.part(&[0]).relabelled(&names(&["q", "z"])).unwrap().labels(), [1]);
    }

    #[test]
    fn joined_views_share_their_classes_by_name() {
        let classes = vec!["b".to_owned(), "c".to_owned()];
        let other = View::new(ViewParts { classes, ..parts() }).unwrap();
        let joined = View::joined(&[two(), other.clone()]).unwrap();
        assert_eq!((joined.classes().join(" "), joined.labels()), ("a b c".to_owned(), vec![0, 1, 1, 2]));
        assert_eq!((joined.image(3), joined.group(3), joined.name(3)), (&[4, 5, 6, 7][..], Some("P2"), "b/2"));
        assert!(View::joined(&[two(), other.resized(4, 1).unwrap()]).is_err());
        assert!(View::joined(&[]).is_err());
    }

    #[test]
    fn images_come_and_go_as_rgb() {
        let grey = two();
        assert_eq!(grey.rgb(1).get_pixel(1, 0).0, [5; 3]);
        assert_eq!(
            View::from_grey(grey.rgb_images().map(|image| DynamicImage::from(image).into_luma8())).unwrap().image(1),
            grey.image(1)
        );
        assert!(View::from_rgb([]).is_err());
        assert!(View::from_rgb([RgbImage::new(4, 5)]).is_err());
        assert!(View::from_rgb([RgbImage::new(4, 4), RgbImage::new(5, 5)]).is_err());
    }

    #[test]
    fn groups_of_one_class_are_counted() {
        let groups = ["p", "p", "q", "q", "r"].map(|group| Some(group.to_owned())).to_vec();
        let view = View::new(ViewParts {
            classes: vec!["a".into(), "b".into()],
            labels: vec![0, 1, 1, 1, 0],
            groups,
            side: 1,
            channels: 1,
            pixels: vec![0; 5],
            ..ViewParts::default()
        })
        .unwrap();
        let counts = view.single_class_groups();
        assert_eq!(counts, [SingleClass { groups: 1, images: 1 }, SingleClass { groups: 1, images: 2 }]);
    }

    #[test]
    fn resizing_keeps_a_flat_colour_and_the_labels() {
        let pixels = [10, 200, 30].repeat(16).into_iter().chain([77, 77, 77].repeat(16)).collect();
        let set = View::new(ViewParts { side: 4, channels: 3, pixels, groups: vec![None; 2], ..parts() }).unwrap();
        let larger = set.resized(8, 3).unwrap();
        assert_eq!(larger.image(0), [10, 200, 30].repeat(64));
        assert_eq!(larger.labels(), [0, 1]);
        let grey = set.resized(8, 1).unwrap();
        assert_eq!(grey.image(1), [77; 64]);
    }
}
