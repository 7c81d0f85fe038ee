//! What goes in: three sets of images in one or more spaces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BootstrapOptions, Error, Features, Result};

/// One space in which distances are measured.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    /// Its name: `pixels`, or that of the features.
    pub name: String,
    /// Training images, `(n, d)`.
    pub train: Features<'a>,
    /// Held-out images, `(m, d)`: as they are, alone or followed by the other orientations of `synthetic`. The others are needed for
    /// the baseline of [`SpacePrivacy::dcr_turned`](super::SpacePrivacy::dcr_turned) and nothing else.
    pub holdout: Vec<Features<'a>>,
    /// Synthetic images, `(k, d)`: as they are, alone or followed by the same images in the same order in other orientations, e.g. flips
    /// and right-angle rotations.
    pub synthetic: Vec<Features<'a>>,
}

/// The class of each real image: patients with images of the same classes can stand in for each other.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Of training images, `(n,)`.
    pub train: &'a [u32],
    /// Of held-out images, `(m,)`.
    pub holdout: &'a [u32],
}

/// What the discriminator says of each real image: higher where it finds the image more real. Where each class has its own discriminator,
/// each image is judged by that of its class; scales may differ between classes.
#[derive(Clone, Copy, Debug)]
pub struct Discriminator<'a> {
    /// Of training images, `(n,)`.
    pub train: &'a [f64],
    /// Of held-out images, `(m,)`.
    pub holdout: &'a [f64],
}

/// Training, held-out and synthetic images.
///
/// All sets of a space have the same dimensions; each set has as many images in all spaces. There are at least two training images. No
/// patient is on both sides. Patients count as known where they are on both sides.
#[derive(Clone, Debug)]
pub struct PrivacyInput<'a> {
    /// The spaces, at least one, under different names.
    pub spaces: Vec<Space<'a>>,
    /// Classes of the real images.
    pub labels: Labels<'a>,
    /// Patient of each training image, `(n,)`, where known.
    pub train_groups: Option<&'a [String]>,
    /// Patient of each held-out image, `(m,)`, where known.
    pub holdout_groups: Option<&'a [String]>,
    /// Scores of the discriminator, where there is one.
    pub discriminator: Option<Discriminator<'a>>,
}

/// How to compute the figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrivacyOptions {
    /// Bootstrap of the intervals.
    #[schemars(skip)]
    pub bootstrap: BootstrapOptions,
    /// Permutations of who was in training, for the p-values.
    ///
    /// The smallest p-value is one over this. Over all tests together it may be several times that.
    #[schemars(range(min = 20, max = 1_000_000))]
    pub relabellings: usize,
    /// Clusters of the copying test, by k-means over all real images. 0 counts as 1.
    #[schemars(range(max = 10_000))]
    pub clusters: usize,
    /// False positive rate at which membership inference counts true positives.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub fpr: f64,
    /// Closest pairs of a synthetic and a real image, which the report shows as pictures. 0 is none.
    #[schemars(range(max = 1000))]
    pub pairs: usize,
    /// Seed of the labellings, the clusters and the controls.
    #[schemars(skip)]
    pub seed: u64,
    /// Controls: replay training images, which tests ought to find, and held-out ones, which none ought to accuse.
    ///
    /// They compute no distances, but as many permutations as the tests themselves.
    pub controls: bool,
}

impl Default for PrivacyOptions {
    fn default() -> Self {
        Self {
            bootstrap: BootstrapOptions::default(),
            relabellings: 2000,
            clusters: 10,
            fpr: 0.01,
            pairs: 10,
            seed: 0,
            controls: true,
        }
    }
}

impl PrivacyOptions {
    pub(crate) fn check(&self) -> Result<()> {
        self.bootstrap.check()?;
        if self.relabellings < 20 {
            return Err(Error::Relabellings(self.relabellings));
        }
        if !(self.fpr > 0.0 && self.fpr < 1.0) {
            return Err(Error::Fpr(self.fpr));
        }
        Ok(())
    }
}

impl PrivacyInput<'_> {
    pub(crate) fn check(&self, options: &PrivacyOptions) -> Result<()> {
        options.check()?;
        let (train, holdout) = (self.labels.train.len(), self.labels.holdout.len());
        let Some(first) = self.spaces.first() else { return Err(Error::Empty { what: "the list of spaces" }) };
        for (i, space) in self.spaces.iter().enumerate() {
            if self.spaces[..i].iter().any(|other| other.name == space.name) {
                return Err(Error::SpaceTwice { name: space.name.clone() });
            }
            let (turned, synthetic) = (space.holdout.len(), space.synthetic.len());
            if turned == 0 || synthetic == 0 || turned != 1 && turned != synthetic {
                return Err(Error::Orientations { space: space.name.clone(), holdout: turned, synthetic });
            }
            let expected = first.synthetic.first().map_or(0, Features::len);
            for set in &space.synthetic {
                same_images("a set of synthetic images", set.len(), expected)?;
            }
            same_images("the set of training images", space.train.len(), train)?;
            for set in &space.holdout {
                same_images("a set of held-out images", set.len(), holdout)?;
            }
            for set in space.holdout.iter().chain(&space.synthetic) {
                space.train.same_dims(set)?;
            }
        }
        if train < 2 {
            return Err(Error::Neighbours { k: 1, needed: 2, rows: train });
        }
        if let Some(scores) = self.discriminator {
            same_images("the array of scores of training images", scores.train.len(), train)?;
            same_images("the array of scores of held-out images", scores.holdout.len(), holdout)?;
        }
        Ok(())
    }
}

fn same_images(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::SetSize { what, found, expected }) }
}
