//! Arrays of images as views.

use std::collections::BTreeMap;

use cellforge_data::{ImageSize, View, ViewParts, WriteOptions};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::raise;

/// Images of one size, `(n, height, width, channels)` bytes.
#[pyclass(frozen, module = "cellforge._native")]
pub(crate) struct Images {
    pub(crate) view: View,
}

#[pymethods]
impl Images {
    /// Images that nothing sorts, in their order.
    #[staticmethod]
    fn plain(py: Python<'_>, pixels: &Bound<'_, PyBytes>, size: (usize, usize), channels: usize) -> PyResult<Self> {
        let (pixels, size) = (pixels.as_bytes(), ImageSize::new(size.0, size.1));
        let made =
            py.detach(|| View::new(ViewParts { size, channels, pixels: pixels.to_vec(), ..ViewParts::default() }));
        Ok(Self { view: made.map_err(|error| raise(&error))? })
    }

    /// Images of a set, with the position of each one's class in `classes`, and its group where that is known. `prefix` begins the names of images.
    #[staticmethod]
    #[pyo3(signature = (pixels, size, channels, classes, labels, groups, prefix))]
    #[expect(clippy::too_many_arguments, reason = "arrays cross the border as bytes with their shape")]
    fn sorted(
        py: Python<'_>,
        pixels: &Bound<'_, PyBytes>,
        size: (usize, usize),
        channels: usize,
        classes: Vec<String>,
        labels: Vec<u32>,
        groups: Option<Vec<Option<String>>>,
        prefix: String,
    ) -> PyResult<Self> {
        let (pixels, size) = (pixels.as_bytes(), ImageSize::new(size.0, size.1));
        let unsorted =
            ViewParts { classes, labels, groups: groups.unwrap_or_default(), size, channels, ..ViewParts::default() };
        let made = py.detach(|| as_in_folders(unsorted, pixels, prefix));
        Ok(Self { view: made.map_err(|error| raise(&error))? })
    }

    fn __len__(&self) -> usize {
        self.view.len()
    }
}

/// The view that reading folders of classes gives in which image `i` of a class is called `CLASS/PREFIX00000i.png`, counted from 1, as a writer names it: the classes in the order of
/// their names, and the images in that of theirs. What is drawn of a seed goes by names and places, so an evaluation of arrays has the figures of one
/// of such folders.
fn as_in_folders(unsorted: ViewParts, pixels: &[u8], prefix: String) -> cellforge_data::Result<View> {
    let ViewParts { classes, labels, groups, size, channels, .. } = unsorted;
    let invalid = |reason: String| cellforge_data::Error::Invalid(reason);
    let bytes = size.area().saturating_mul(channels);
    if bytes == 0 || pixels.len() != labels.len().saturating_mul(bytes) {
        return Err(invalid(format!(
            "{} images of {size:#}x{channels} do not make {} bytes",
            labels.len(),
            pixels.len()
        )));
    }
    if !groups.is_empty() && groups.len() != labels.len() {
        return Err(invalid(format!("there are {} groups for {} images", groups.len(), labels.len())));
    }
    let mut sorted = classes.clone();
    sorted.sort_unstable();
    let places: BTreeMap<&str, u32> = sorted.iter().zip(0..).map(|(class, at)| (class.as_str(), at)).collect();
    let naming = WriteOptions { prefix, ..WriteOptions::default() };
    let mut counts = vec![0_usize; classes.len()];
    let mut named = Vec::with_capacity(labels.len());
    for (row, &label) in labels.iter().enumerate() {
        let Some(class) = classes.get(label as usize) else {
            return Err(invalid(format!("label {label} names none of the {} classes", classes.len())));
        };
        counts[label as usize] += 1;
        named.push((format!("{class}/{}", naming.file_name(counts[label as usize])), row, places[class.as_str()]));
    }
    named.sort_unstable();
    let rows = || named.iter().map(|(_, row, _)| *row);
    View::new(ViewParts {
        labels: named.iter().map(|(.., label)| *label).collect(),
        groups: if groups.is_empty() { groups } else { rows().map(|row| groups[row].clone()).collect() },
        pixels: rows().flat_map(|row| &pixels[row * bytes..][..bytes]).copied().collect(),
        names: named.iter().map(|(name, ..)| name.clone()).collect(),
        classes: sorted.clone(),
        size,
        channels,
    })
}
