//! Training, validation and test images: by image or by patient, from a seed, kept as a CSV manifest or laid out as folders.

mod by_group;
mod by_image;
mod folders;
mod given;
mod manifest;

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::duplicates::Duplicates;
use crate::{Error, Result, View, counted};
use by_group::by_group;
use by_image::by_image;

pub use folders::{remove_folders, write_folders};
pub use manifest::{read_manifest, write_manifest};

/// Positions of images in a view, sorted, each on one side at most. [`View::part`] makes views of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// To learn from.
    pub train: Vec<usize>,
    /// To choose between models.
    pub val: Vec<usize>,
    /// To judge the chosen one.
    pub test: Vec<usize>,
}

/// A part of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitPart {
    /// The training images.
    Train,
    /// The validation images.
    Val,
    /// The test images.
    #[default]
    Test,
}

impl SplitPart {
    /// Its name in a sentence: `training`, `validation` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Val => "validation",
            Self::Test => "test",
        }
    }
}

impl Split {
    /// The positions of a part's images.
    #[must_use]
    pub fn part(&self, part: SplitPart) -> &[usize] {
        match part {
            SplitPart::Train => &self.train,
            SplitPart::Val => &self.val,
            SplitPart::Test => &self.test,
        }
    }
}

/// What is kept whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// As the source splits its images where it does, by group where every image has one and there are at least two, otherwise by image.
    #[default]
    Auto,
    /// By image, every class in the same proportion. Images of one patient end up on several sides.
    Image,
    /// By group (patient): all images of a group are on one side.
    Group,
    /// As the source splits its images, by folders such as `train` and `test`, by a table, or in the file itself.
    Given,
}

impl SplitRule {
    /// What the rule means for these images: [`SplitRule::Image`], [`SplitRule::Group`] or [`SplitRule::Given`].
    #[must_use]
    pub fn settled(self, view: &View) -> Self {
        match self {
            Self::Auto if view.has_given_parts() => Self::Given,
            Self::Auto => Self::drawn(view),
            rule => rule,
        }
    }

    /// The rule by which sides of these images are drawn: [`SplitRule::Group`] where groups are known, else [`SplitRule::Image`].
    fn drawn(view: &View) -> Self {
        if view.has_groups() { Self::Group } else { Self::Image }
    }
}

/// How to split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// What is kept whole.
    pub by: SplitRule,
    /// Share of images to validate with, from 0 to below 1.
    pub val: f64,
    /// Share of images to test with, from 0 to below 1; the rest is to train with.
    pub test: f64,
    /// The same seed gives the same split of the same images.
    pub seed: u64,
    /// What becomes of identical images: on one side together, unless they are [kept](Duplicates::Keep) apart.
    pub duplicates: Duplicates,
}

impl Default for SplitOptions {
    /// 70% to train, 10% to validate, 20% to test; groups stay whole where they are known.
    fn default() -> Self {
        Self { by: SplitRule::Auto, val: 0.1, test: 0.2, seed: 0, duplicates: Duplicates::SameSide }
    }
}

/// Splits images into three.
///
/// By image, every class is dealt out in the same proportion, at least one image to each side that is asked for. By group, groups go
/// one at a time, in an order drawn from the seed, to the side that lacks their classes most, and are then moved while that
/// brings the sides' class counts closer to their shares; no group is on two sides. Identical images are on one side, which unites their
/// groups. As the source splits its images, only what it does not split is drawn.
///
/// # Errors
/// [`Error::Invalid`] for shares out of range, too few images of a class or too few groups, an image without a group, or a side of a
/// split by group that would lack a class.
pub fn split(view: &View, options: &SplitOptions) -> Result<Split> {
    let train = 1.0 - options.val - options.test;
    for (name, share) in [("val", options.val), ("test", options.test)] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::Invalid(format!("the {name} share of a split must be from 0 to below 1, not {share}")));
        }
    }
    if train <= 1e-9 {
        return Err(Error::Invalid(format!(
            "val {} and test {} leave nothing to train with: their sum must be below 1",
            options.val, options.test
        )));
    }
    if options.by.settled(view) == SplitRule::Given {
        return given::given(view, options);
    }
    let shares = [train, options.val, options.test];
    let parts = sides(view, options.by, &shares, options.seed, options.duplicates)?;
    let wanted = shares.iter().filter(|share| **share > 0.0).count();
    for ((name, share), part) in ["training", "validation", "test"].into_iter().zip(shares).zip(&parts) {
        if share > 0.0
            && let Some(class) = lacking(view, part)
        {
            let has = if drawn_by(view, options.by) == SplitRule::Group {
                format!(
                    "a split by group leaves the {name} part without class {:?} (groups, or patients, that have it: {}; parts that \
                     want it: {wanted}): give more patients, ask for fewer parts, or split by image",
                    view.classes()[class],
                    groups_with(view, class)
                )
            } else {
                let images = view.class_indices(class as u32);
                let twins = view.twins();
                format!(
                    "the {name} part is left without class {:?}: its {} are {} of different content, for {wanted} parts, and \
                     identical images stay in one part; give more, ask for fewer parts, or keep duplicates apart",
                    view.classes()[class],
                    counted(images.len(), "image", "images"),
                    images.iter().map(|i| twins[*i]).collect::<BTreeSet<_>>().len()
                )
            };
            return Err(Error::Invalid(has));
        }
    }
    let [train, val, test] = parts.try_into().map_err(|_| Error::Invalid("a split has three sides".to_owned()))?;
    Ok(Split { train, val, test })
}

/// The first class of the set that none of these images is of.
fn lacking(view: &View, images: &[usize]) -> Option<usize> {
    let mut there = vec![false; view.classes().len()];
    for image in images {
        there[view.label(*image) as usize] = true;
    }
    view.class_counts().into_iter().zip(there).position(|(count, there)| count > 0 && !there)
}

/// Groups that have an image of a class.
fn groups_with(view: &View, class: usize) -> usize {
    let images = view.class_indices(class as u32);
    images.into_iter().filter_map(|image| view.group(image)).collect::<BTreeSet<&str>>().len()
}

/// Splits images into `k` equal folds, identical images together: split `i` tests on fold `i` and trains on the others; none validates.
///
/// # Errors
/// As [`split`], and for `k` below 2. A fold may lack a class, but no training part.
pub fn k_fold(view: &View, k: usize, by: SplitRule, seed: u64) -> Result<Vec<Split>> {
    if k < 2 {
        return Err(Error::Invalid(format!("k-fold splits need 2 folds or more, not {k}")));
    }
    let folds = sides(view, by, &vec![1.0 / k as f64; k], seed, Duplicates::SameSide)?;
    let splits: Vec<Split> = (0..k)
        .map(|test| {
            let mut train: Vec<usize> = folds
                .iter()
                .enumerate()
                .filter(|(fold, _)| *fold != test)
                .flat_map(|(_, images)| images)
                .copied()
                .collect();
            train.sort_unstable();
            Split { train, val: Vec::new(), test: folds[test].clone() }
        })
        .collect();
    match splits.iter().find_map(|split| lacking(view, &split.train)) {
        Some(class) => Err(Error::Invalid(format!(
            "folds by group leave a training part without class {:?} (groups, or patients, that have it: {}): give more \
             patients, or split by image",
            view.classes()[class],
            groups_with(view, class)
        ))),
        None => Ok(splits),
    }
}

/// The images of each side, sorted; a side of share 0 stays empty. What the source says of a split does not matter here.
fn sides(view: &View, by: SplitRule, shares: &[f64], seed: u64, duplicates: Duplicates) -> Result<Vec<Vec<usize>>> {
    if view.is_empty() {
        return Err(Error::Invalid("there are no images to split".to_owned()));
    }
    let by = drawn_by(view, by);
    let twins = if duplicates == Duplicates::Keep { Vec::new() } else { view.twin_sets() };
    let mut sides = match by {
        SplitRule::Group => by_group(view, shares, seed, &twins)?,
        _ => by_image(view, shares, seed, &twins)?,
    };
    sides.iter_mut().for_each(|side| side.sort_unstable());
    Ok(sides)
}

/// By what images are dealt out where the source says nothing of a split.
fn drawn_by(view: &View, by: SplitRule) -> SplitRule {
    match by {
        SplitRule::Auto | SplitRule::Given => SplitRule::drawn(view),
        rule => rule,
    }
}

/// A generator for one purpose of one seed.
fn rng(seed: u64, purpose: &str) -> ChaCha12Rng {
    let mut hash = Sha256::new();
    hash.update(b"cellforge split\0");
    hash.update(seed.to_le_bytes());
    hash.update(purpose);
    ChaCha12Rng::from_seed(hash.finalize().into())
}
