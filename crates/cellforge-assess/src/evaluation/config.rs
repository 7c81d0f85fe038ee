//! The settings of an evaluation, and what it is given.

use std::path::PathBuf;

use cellforge_data::{View, derive_seed};
use cellforge_eval::{BootstrapOptions, FidelityOptions, PrivacyOptions};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, utility::UtilityConfig};

/// Everything that decides what an evaluation computes from its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Whether to measure how close the synthetic images come to the real ones.
    pub fidelity: bool,
    /// Whether to test for leaks; it needs held-out images.
    pub privacy: bool,
    /// How to measure whether a classifier can be trained on the synthetic images; none leaves it out.
    pub utility: Option<UtilityConfig>,
    /// Which nearest neighbour a ball reaches to, for precision, recall, density and coverage.
    pub k: usize,
    /// Images of each set in a subset for the kernel distance.
    pub kid_subset: usize,
    /// Subsets for the kernel distance; 0 leaves it to the estimate over all pairs.
    pub kid_subsets: usize,
    /// Bootstrap resamples per interval.
    pub resamples: usize,
    /// The same for the Fréchet distance, where each resample costs as much as the distance itself.
    pub frechet_resamples: usize,
    /// Drawings of who was in training, for the p-values of the privacy tests.
    pub relabellings: usize,
    /// Coverage of the intervals.
    pub level: f64,
    /// At most so many images of each set and class, chosen as whole patients where those are known; 0 takes all.
    pub max_images: usize,
    /// Side to which images are averaged for distances between pixels, at most that of the images.
    pub pixel_side: usize,
    /// Closest pairs of a synthetic and a training image that are kept as pictures for the report; 0 keeps none.
    pub pairs: usize,
    /// Everything random derives from this number.
    pub seed: u64,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            fidelity: true,
            privacy: true,
            utility: None,
            k: 5,
            kid_subset: 1000,
            kid_subsets: 100,
            resamples: 1000,
            frechet_resamples: 100,
            relabellings: 2000,
            level: 0.95,
            max_images: 0,
            pixel_side: 32,
            pairs: 10,
            seed: 1,
        }
    }
}

impl EvaluationConfig {
    /// Checks every value that can be checked without images.
    ///
    /// # Errors
    /// [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        let check = |good: bool, setting: &'static str, problem: &str| {
            if good { Ok(()) } else { Err(Error::Setting { setting, problem: problem.to_owned() }) }
        };
        check(self.k > 0, "evaluate.k", "must be at least 1")?;
        check(self.kid_subset > 1, "evaluate.kid_subset", "must be at least 2")?;
        check(self.resamples >= 20, "evaluate.resamples", "must be at least 20, better 1000")?;
        check(self.frechet_resamples >= 20, "evaluate.frechet_resamples", "must be at least 20, better 100")?;
        check(self.relabellings >= 20, "evaluate.relabellings", "must be at least 20, better 2000")?;
        check(self.level > 0.0 && self.level < 1.0, "evaluate.level", "must lie between 0 and 1")?;
        check(self.pixel_side > 0, "evaluate.pixel_side", "must be at least 1")?;
        let enough = self.max_images == 0 || self.max_images > self.k;
        check(enough, "evaluate.max_images", "must be 0 for all, or more than evaluate.k")?;
        self.utility.as_ref().map_or(Ok(()), UtilityConfig::validate)
    }

    pub(super) fn bootstrap(&self, purpose: &str) -> BootstrapOptions {
        BootstrapOptions { resamples: self.resamples, seed: derive_seed(self.seed, purpose), level: self.level }
    }

    pub(super) fn fidelity_options(&self) -> FidelityOptions {
        FidelityOptions {
            k: self.k,
            kid_subset: self.kid_subset,
            kid_subsets: self.kid_subsets,
            bootstrap: self.bootstrap("fidelity"),
            frechet_resamples: self.frechet_resamples,
        }
    }

    pub(super) fn privacy_options(&self) -> PrivacyOptions {
        PrivacyOptions {
            bootstrap: self.bootstrap("privacy"),
            relabellings: self.relabellings,
            pairs: self.pairs,
            seed: derive_seed(self.seed, "privacy"),
            ..PrivacyOptions::default()
        }
    }
}

/// What images are compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureSource {
    /// What the last layer of a trained classifier judges by: the folder of a checkpoint, of a run or of a study (its residual network).
    Classifier(PathBuf),
    /// The pixels, averaged to a small image.
    Pixels,
    /// Inception-v3 with the weights of this safetensors file.
    Inception(PathBuf),
    /// Features that another program computed: a safetensors file with matrices `real`, `synthetic` and perhaps `holdout`, one row per
    /// image, in the order of the images' names within each set.
    File(PathBuf),
}

/// Some images, and words for them.
#[derive(Clone, Debug)]
pub struct Part {
    /// The images.
    pub images: View,
    /// Where they come from, in words.
    pub source: String,
}

impl Part {
    /// Images that come from `source`.
    pub fn new(images: View, source: impl Into<String>) -> Self {
        Self { images, source: source.into() }
    }
}

/// What is evaluated. All sets have images of one size and the same classes, known by name or by the folder of that name.
#[derive(Clone, Debug)]
pub struct EvaluationInputs {
    /// The real images that the generators learned from.
    pub real: Part,
    /// Real images of other patients, which no generator saw.
    pub holdout: Option<Part>,
    /// The synthetic images.
    pub synthetic: Part,
    /// What images are compared by.
    pub features: FeatureSource,
    /// The discriminator of each class, for the test of membership by its score: folders of trained GANs. Empty leaves the test out.
    pub discriminators: Vec<PathBuf>,
    /// Where the synthetic images come from, for the data sheet.
    pub provenance: Provenance,
}

/// Where a synthetic set comes from. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// What made the images, in words.
    pub generator: Option<String>,
    /// The seed of the generation.
    pub seed: Option<u64>,
    /// The command that repeats the evaluation.
    pub command: String,
    /// Whether the real images are the phantom, rendered by a program.
    pub is_phantom: bool,
    /// Whether the real images are the NIH/NLM malaria images.
    pub is_nih: bool,
}
