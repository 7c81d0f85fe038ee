//! Making a view, and turning one into another set.

use image::{DynamicImage, GrayImage, RgbImage};
use rayon::prelude::*;

use super::{Facts, Pixels, Stored, View, ViewParts, rgb_image};
use crate::{Error, ImageSize, Result};

/// Making a view.
impl View {
    /// A view of all images of a new set in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] if lengths differ, a label names no class, a side is 0, or there are neither 1 nor 3 channels.
    pub fn new(parts: ViewParts) -> Result<Self> {
        let ViewParts { mut classes, mut names, mut labels, mut groups, size, channels, pixels } = parts;
        let given = [names.len(), labels.len(), groups.len()].into_iter().max().unwrap_or_default();
        let bytes = size.area().saturating_mul(channels);
        let n = if given > 0 { given } else { pixels.len() / bytes.max(1) };
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
        let (parts, skipped, facts) = (Vec::new(), Vec::new(), Facts::default());
        Stored { classes, names, labels, groups, parts, skipped, facts, size, channels, pixels }.into_view()
    }

    /// RGB images of one class without a name. [`ViewParts::from_rgb`] lets one add labels, groups and names.
    ///
    /// ```
    /// use cellforge_data::View;
    /// use image::{Rgb, RgbImage};
    ///
    /// let view = View::from_rgb((0..3).map(|i| RgbImage::from_pixel(8, 8, Rgb([i, 0, 0]))))?;
    /// assert_eq!((view.len(), view.size(), view.image(2)[0]), (3, 8.into(), 2));
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
        let mut all = ViewParts { size: first.size(), channels: first.channels(), ..ViewParts::default() };
        for view in views {
            if (view.size(), view.channels()) != (all.size, all.channels) {
                return Err(Error::Invalid(format!(
                    "images of {:#}x{} and of {:#}x{} make no set",
                    all.size,
                    all.channels,
                    view.size(),
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

    /// The images at these positions as a set of its own, with all that is known of how the set was read. Pixels are copied.
    pub(crate) fn copied(&self, positions: &[usize]) -> Result<Self> {
        let pixels: Vec<&[u8]> = positions.iter().map(|&i| self.image(i)).collect();
        Stored {
            classes: self.classes().to_vec(),
            names: positions.iter().map(|&i| self.name(i).to_owned()).collect(),
            labels: positions.iter().map(|&i| self.label(i)).collect(),
            groups: positions.iter().map(|&i| self.group(i).map(str::to_owned)).collect(),
            parts: positions.iter().map(|&i| self.given_part(i)).collect(),
            skipped: self.skipped().to_vec(),
            facts: self.facts().clone(),
            size: self.size(),
            channels: self.channels(),
            pixels: Pixels::Memory(pixels.concat()),
        }
        .into_view()
    }

    /// A copy of what the view holds.
    #[must_use]
    pub fn to_parts(&self) -> ViewParts {
        ViewParts {
            classes: self.classes().to_vec(),
            names: self.names().map(str::to_owned).collect(),
            labels: self.labels(),
            groups: (0..self.len()).map(|i| self.group(i).map(str::to_owned)).collect(),
            size: self.size(),
            channels: self.channels(),
            pixels: self.pixels(),
        }
    }

    /// A set of its own with the same classes, labels, groups and names, in which each image is what `change` makes of its bytes:
    /// `height * width * channels` of them. Rows are counted anew.
    ///
    /// # Errors
    /// What `change` fails with; [`Error::Invalid`] where it gives another number of bytes.
    pub fn mapped(
        &self,
        size: impl Into<ImageSize>,
        channels: usize,
        change: impl Fn(&[u8]) -> Result<Vec<u8>> + Sync,
    ) -> Result<Self> {
        let pixels: Vec<Vec<u8>> =
            (0..self.len()).into_par_iter().map(|i| change(self.image(i))).collect::<Result<_>>()?;
        let mut parts = self.to_parts();
        (parts.size, parts.channels, parts.pixels) = (size.into(), channels, pixels.concat());
        Self::new(parts)
    }

    /// The images stretched to another size, with another number of channels, as a set of its own (Lanczos3; grey by luma). The view itself where it has
    /// them already.
    ///
    /// # Errors
    /// A side or number of channels that images cannot have.
    pub fn resized(&self, size: impl Into<ImageSize>, channels: usize) -> Result<Self> {
        let size = size.into();
        let (from, depth) = (self.size(), self.channels());
        if (from, depth) == (size, channels) {
            return Ok(self.clone());
        }
        self.mapped(size, channels, |image| {
            let bytes = crate::decode::resize(image, from.width, from.height, depth, size)?;
            Ok(match (depth, channels) {
                (3, 1) => DynamicImage::from(rgb_image(size, 3, &bytes)).into_luma8().into_raw(),
                (1, 3) => bytes.into_iter().flat_map(|grey| [grey; 3]).collect(),
                _ => bytes,
            })
        })
    }
}
