//! Images with labels, groups and names, and which of them are meant.

mod facts;
mod make;
mod narrow;
mod parts;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::ImageSize;
use crate::index::Skipped;
use crate::split::SplitPart;

pub use facts::{Facts, Original};
pub use parts::ViewParts;
pub(crate) use stored::{Pixels, Stored};

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
/// let all = phantom::render(&PhantomConfig { size: 16.into(), images_per_class: 20, ..PhantomConfig::default() })?;
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

/// Classes that stand in for those of a stored set.
struct Classes {
    names: Vec<String>,
    /// The label of each class of the stored set. One that no image of the view is of has any.
    labels: Vec<u32>,
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

    /// Height and width of the images.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        self.set.size
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

    /// The label of a class, whose name may be spelled in another form of Unicode.
    #[must_use]
    pub fn class_label(&self, class: &str) -> Option<u32> {
        self.classes().iter().position(|name| crate::same_name(name, class)).map(|label| label as u32)
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

    /// A number for the group of each image; for the image itself where groups are not known ([`View::has_groups`]).
    #[must_use]
    pub fn units(&self) -> Vec<usize> {
        if !self.has_groups() {
            return (0..self.len()).collect();
        }
        let names = self.group_names();
        let number = |i| names.binary_search(&self.group(i).unwrap_or_default()).unwrap_or_default();
        (0..self.len()).map(number).collect()
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

    /// The part of a split that the source puts image `i` into: its folders, a table, or the file itself.
    #[must_use]
    pub fn given_part(&self, i: usize) -> Option<SplitPart> {
        self.set.parts.get(self.row(i)).copied().flatten()
    }

    /// Whether the source itself splits the images: some are for training, and some for validation or the test.
    #[must_use]
    pub fn has_given_parts(&self) -> bool {
        let has = |part| (0..self.len()).any(|i| self.given_part(i) == Some(part));
        has(SplitPart::Train) && (has(SplitPart::Val) || has(SplitPart::Test))
    }

    /// How the stored set was read.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.set.facts
    }

    /// Image `i`: `height * width * channels` bytes, row by row, channels last.
    #[must_use]
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.set.size.area() * self.set.channels;
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
        rgb_image(self.size(), self.channels(), self.image(i))
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
        hash.update(self.size_bytes());
        match &self.rows {
            None => hash.update(self.set.pixels.bytes()),
            Some(_) => (0..self.len()).for_each(|i| hash.update(self.image(i))),
        }
        hex(&hash.finalize())
    }

    /// The first eight bytes of the SHA-256 of the size, the channels and the pixels of image `i`, whatever it is called: by it the same
    /// image is known in another set. Of ten million images, a new one equals one by chance with a probability below 10⁻¹².
    #[must_use]
    pub fn pixel_hash(&self, i: usize) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.size_bytes());
        hash.update([self.channels() as u8]);
        hash.update(self.image(i));
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// What hashes know the size by: one number for a square, as there were in earlier versions, and two for a rectangle.
    fn size_bytes(&self) -> Vec<u8> {
        let ImageSize { height, width } = self.size();
        let sides = if height == width { vec![height] } else { vec![width, height] };
        sides.into_iter().flat_map(|side| (side as u64).to_le_bytes()).collect()
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
        (self.len(), self.size(), self.channels()) == (other.len(), other.size(), other.channels())
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
            .field("size", &self.size())
            .field("channels", &self.channels())
            .field("classes", &self.classes())
            .finish_non_exhaustive()
    }
}

/// An image of `height * width * channels` bytes as RGB.
fn rgb_image(size: ImageSize, channels: usize, bytes: &[u8]) -> RgbImage {
    RgbImage::from_fn(size.width as u32, size.height as u32, |x, y| {
        let at = (y as usize * size.width + x as usize) * channels;
        let pixel = &bytes[at..at + channels];
        image::Rgb(if channels >= 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] })
    })
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
