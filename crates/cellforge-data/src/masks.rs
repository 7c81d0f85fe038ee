//! Masks that lie beside the images they are of.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::groups::file_name;

/// What the names of masks end in.
const WORDS: [&str; 9] =
    ["mask", "masks", "seg", "segmentation", "segmentations", "gt", "groundtruth", "annotation", "label"];
/// What the folders of masks are called.
const FOLDERS: [&str; 10] = [
    "mask",
    "masks",
    "seg",
    "segmentation",
    "segmentations",
    "gt",
    "groundtruth",
    "ground_truth",
    "annotations",
    "labels",
];
const SEPARATORS: [char; 4] = ['_', '-', ' ', '.'];

/// What becomes of masks that lie beside images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Masks {
    /// They are left out.
    #[default]
    LeaveOut,
    /// They are images like any others.
    Keep,
}

/// A name without its ending; of `x.nii.gz` both go.
pub(crate) fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() && !stem.ends_with('/') => stem,
        _ => name,
    }
}

/// Why an image is taken for a mask.
pub(crate) const BY_NAME: &str = "masks, by their names";
pub(crate) const BY_FOLDER: &str = "masks, by their folder";
pub(crate) const BY_VALUES: &str = "masks, by their two values";

/// Which of these files are masks of others, with the reason: those whose names end as masks' do, or that lie in a folder of masks, where an image
/// of the same name without it is there too; and those of two values alone (`two_valued`) whose name is an image's with something after it.
pub(crate) fn found(files: &[&str], two_valued: impl Fn(usize) -> bool) -> BTreeMap<usize, &'static str> {
    let folder = |at: usize| files[at].rsplit_once('/').map_or("", |(folder, _)| folder);
    let stems: Vec<String> = files.iter().map(|file| stem(file_name(file)).to_lowercase()).collect();
    // Names by folder, and by the folder above it.
    let mut beside: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut around: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (at, name) in stems.iter().enumerate() {
        beside.insert((folder(at), name), at);
        if !is_mask_folder(folder(at)) {
            around.entry(above(folder(at))).or_default().insert(name);
        }
    }
    let mut masks = BTreeMap::new();
    for (at, name) in stems.iter().enumerate() {
        let (folder, name) = (folder(at), name.as_str());
        let plain = without_word(name);
        let is_around = |name: &str| around.get(above(folder)).is_some_and(|names| names.contains(name));
        if is_mask_folder(folder) && (is_around(name) || plain.is_some_and(is_around)) {
            masks.insert(at, BY_FOLDER);
        } else if plain.is_some_and(|plain| beside.contains_key(&(folder, plain))) {
            masks.insert(at, BY_NAME);
        } else if let Some(image) = prefixes(name).find_map(|prefix| beside.get(&(folder, prefix)))
            && two_valued(at)
            && !two_valued(*image)
        {
            masks.insert(at, BY_VALUES);
        }
    }
    masks
}

fn above(folder: &str) -> &str {
    folder.rsplit_once('/').map_or("", |(above, _)| above)
}

fn is_mask_folder(folder: &str) -> bool {
    FOLDERS.contains(&file_name(folder).to_lowercase().as_str())
}

/// A name without the word for masks that it ends in, and a number after that.
fn without_word(name: &str) -> Option<&str> {
    let numberless = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(SEPARATORS);
    [name, numberless].into_iter().find_map(|name| {
        let (plain, word) = name.rsplit_once(SEPARATORS)?;
        (WORDS.contains(&word) && !plain.is_empty()).then_some(plain)
    })
}

/// What stands before each separator of a name.
fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(SEPARATORS).map(|(at, _)| &name[..at]).filter(|prefix| !prefix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(files: &[&str], two_valued: &[&str]) -> Vec<String> {
        found(files, |at| two_valued.contains(&files[at])).into_keys().map(|at| files[at].to_owned()).collect()
    }

    #[test]
    fn masks_are_known_beside_their_images() {
        assert_eq!(masks(&["a/1.png", "a/1_mask.png", "a/2.png"], &[]), ["a/1_mask.png"]);
        assert_eq!(masks(&["a/x (1).png", "a/x (1)_mask.png", "a/x (1)_mask_1.png"], &[]).len(), 2);
        assert_eq!(masks(&["a/v.nii.gz", "a/v_seg.nii.gz"], &[]), ["a/v_seg.nii.gz"]);
        assert_eq!(masks(&["a/images/1.png", "a/masks/1.png", "b/images/2.png"], &[]), ["a/masks/1.png"]);
        assert_eq!(masks(&["a/1.jpg", "a/1_lesion.png"], &["a/1_lesion.png"]), ["a/1_lesion.png"]);
    }

    #[test]
    fn what_has_no_image_beside_it_is_one() {
        assert!(masks(&["a/1_mask.png", "a/2_mask.png", "b/1.png"], &[]).is_empty());
        assert!(masks(&["masks/1.png", "faces/2.png"], &[]).is_empty());
        assert!(masks(&["a/1.png", "a/1_lesion.png"], &[]).is_empty());
        // Drawings are two-valued all of them.
        assert!(masks(&["a/1.png", "a/1_b.png"], &["a/1.png", "a/1_b.png"]).is_empty());
    }
}
