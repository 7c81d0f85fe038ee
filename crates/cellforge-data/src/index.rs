//! The list of images in a folder or zip: classes from folders, groups from names or CSV files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::folder_of;
use crate::groups;
use crate::source::Source;
use crate::{Error, OpenOptions, Result};

/// Extensions of files taken for images, whatever their case.
pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// A file that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path inside the folder or zip.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One image that is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path inside the folder or zip, `/` between the parts.
    pub name: String,
    /// Its class, an index into [`Index::classes`].
    pub class: usize,
    /// Its group (patient), where known.
    pub group: Option<String>,
}

/// The images of a folder or zip.
///
/// Images lie in one folder per class, all class folders side by side at any depth (`ill/x.png` or
/// `images/ill/x.png`). Other files, such as `Thumbs.db`, and hidden ones are ignored.
#[derive(Clone, Debug)]
pub struct Index {
    /// The folder or zip.
    pub root: PathBuf,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Images, sorted by name.
    pub entries: Vec<Entry>,
    /// Number of files that are no images, and of hidden ones as far as [`Listing::hidden`](crate::source::Listing::hidden)
    /// counts them.
    pub ignored: usize,
    /// What was left out, with [`OpenOptions::skip_bad`].
    pub skipped: Vec<Skipped>,
}

impl Index {
    /// Lists a folder or zip.
    ///
    /// # Errors
    /// As [`Source::open`]; [`Error::NoClasses`], [`Error::EmptyClass`], [`Error::OneClass`], [`Error::Layout`] where class
    /// folders are not side by side, [`Error::BadImage`] for a name that cannot be used or has no group, [`Error::Csv`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let listing = Source::open(path)?.list();
        let mut skip = Skip { path, allowed: options.skip_bad, skipped: Vec::new() };
        for problem in listing.problems {
            skip.bad(problem.name, problem.reason)?;
        }
        let (images, others): (Vec<String>, Vec<String>) = listing.files.into_iter().partition(|name| is_image(name));
        let (prefix, images) = one_level(images, &mut skip)?;
        let entries = with_groups(images, options, &mut skip)?;

        let filled: BTreeSet<&str> = entries.iter().map(|(name, _)| class_folder(name)).collect();
        let siblings = listing.folders.iter().map(String::as_str).filter(|folder| split_last(folder).0 == prefix);
        for folder in siblings.filter(|folder| !filled.contains(folder)) {
            let class = split_last(folder).1.to_owned();
            skip.or_fail(folder.to_owned(), "a class folder without an image".to_owned(), |path, _| {
                Error::EmptyClass { path, class }
            })?;
        }
        let classes: Vec<String> = filled.iter().map(|folder| split_last(folder).1.to_owned()).collect();
        match classes.as_slice() {
            [] => return Err(Error::NoClasses(path.to_path_buf())),
            [class] if !options.allow_one_class => {
                return Err(Error::OneClass { path: path.to_path_buf(), class: class.clone() });
            }
            _ => {}
        }
        let places: BTreeMap<&str, usize> = filled.iter().enumerate().map(|(place, folder)| (*folder, place)).collect();
        let classes_of: Vec<usize> = entries.iter().map(|(name, _)| places[class_folder(name)]).collect();
        let entries = entries.into_iter().zip(classes_of).map(|((name, group), class)| Entry { name, class, group });
        Ok(Self {
            root: path.to_path_buf(),
            classes,
            entries: entries.collect(),
            ignored: others.len() + listing.hidden,
            skipped: skip.skipped,
        })
    }

    /// Number of images per class, in the classes' order.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for entry in &self.entries {
            counts[entry.class] += 1;
        }
        counts
    }
}

/// Whether a name has one of the [`EXTENSIONS`], in any case.
#[must_use]
pub fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Either notes what is left out or fails for it.
struct Skip<'a> {
    path: &'a Path,
    allowed: bool,
    skipped: Vec<Skipped>,
}

impl Skip<'_> {
    fn or_fail(&mut self, name: String, reason: String, error: impl FnOnce(PathBuf, Skipped) -> Error) -> Result<()> {
        let skipped = Skipped { name, reason };
        if !self.allowed {
            return Err(error(self.path.to_path_buf(), skipped));
        }
        self.skipped.push(skipped);
        Ok(())
    }

    fn bad(&mut self, name: String, reason: String) -> Result<()> {
        self.or_fail(name, reason, |path, Skipped { name, reason }| Error::BadImage { path, name, reason })
    }
}

/// Splits off the last part of a path; the rest is empty where there is no other.
fn split_last(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn class_folder(image: &str) -> &str {
    split_last(image).0
}

/// Keeps the images whose class folders lie side by side, in the folder that holds most of them.
fn one_level(images: Vec<String>, skip: &mut Skip<'_>) -> Result<(String, Vec<String>)> {
    let level = |name: &str| name.contains('/').then(|| split_last(class_folder(name)).0.to_owned());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for prefix in images.iter().filter_map(|name| level(name)) {
        *counts.entry(prefix).or_default() += 1;
    }
    // The first of those with the highest count: `max_by_key` alone would give the last.
    let Some(prefix) = counts.iter().rev().max_by_key(|(_, count)| **count).map(|(prefix, _)| prefix.clone()) else {
        return Err(Error::NoClasses(skip.path.to_path_buf()));
    };
    let (kept, astray): (Vec<String>, Vec<String>) =
        images.into_iter().partition(|name| level(name).as_deref() == Some(prefix.as_str()));
    for name in astray {
        let first = kept[0].clone();
        let reason = format!("its folder {:?} is not beside {:?}", folder_of(&name), folder_of(&first));
        skip.or_fail(name, reason, |path, astray| Error::Layout { path, first, second: astray.name })?;
    }
    Ok((prefix, kept))
}

fn with_groups(
    images: Vec<String>,
    options: &OpenOptions,
    skip: &mut Skip<'_>,
) -> Result<Vec<(String, Option<String>)>> {
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    let assigned = groups::assign(&names, options)?;
    let mut entries = Vec::with_capacity(images.len());
    for (name, group) in images.into_iter().zip(assigned) {
        match group {
            Ok(group) => entries.push((name, group)),
            Err(reason) => skip.bad(name, reason)?,
        }
    }
    Ok(entries)
}
