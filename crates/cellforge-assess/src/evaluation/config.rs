//! The settings of an evaluation, and what it is given.

use std::path::PathBuf;

use cellforge_data::{View, derive_seed};
use cellforge_eval::{BootstrapOptions, FidelityOptions, PrivacyOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, utility::UtilityConfig};

/// What an evaluation can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// How close the synthetic images come to real ones.
    Fidelity,
    /// Whether they leak a patient; it needs held-out images.
    Privacy,
    /// Whether a classifier can be trained on them.
    Utility,
}

/// Everything that decides what an evaluation computes from its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// What to measure.
    pub measure: Vec<Measure>,
    /// Most images of each set and class, as whole patients where they are known. 0 takes all.
    pub max_images: usize,
    /// Side to which images are averaged for distances between pixels.
    ///
    /// It is at most that of the images.
    #[schemars(range(min = 1))]
    pub pixel_side: usize,
    /// Bootstrap resamples per interval.
    #[schemars(range(min = 20))]
    pub resamples: usize,
    /// Coverage of the intervals.
    #[schemars(skip)]
    pub level: f64,
    /// How close the synthetic images come to the real ones.
    pub fidelity: FidelityOptions,
    /// The tests for leaks.
    pub privacy: PrivacyOptions,
    /// The classifiers that are trained on real and synthetic images.
    pub utility: UtilityConfig,
    /// Seed of everything random.
    #[schemars(skip)]
    pub seed: u64,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            measure: vec![Measure::Fidelity, Measure::Privacy],
            max_images: 0,
            pixel_side: 32,
            resamples: 1000,
            level: 0.95,
            fidelity: FidelityOptions::default(),
            privacy: PrivacyOptions::default(),
            utility: UtilityConfig::default(),
            seed: 1,
        }
    }
}

impl EvaluationConfig {
    /// Whether this is measured.
    #[must_use]
    pub fn measures(&self, what: Measure) -> bool {
        self.measure.contains(&what)
    }

    /// Checks every value that can be checked without images.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "evaluate")?;
        let check = |good: bool, setting: &'static str, problem: &str| {
            if good { Ok(()) } else { Err(Error::Setting { setting, problem: problem.to_owned() }) }
        };
        check(self.level > 0.0 && self.level < 1.0, "evaluate.level", "must lie between 0 and 1")?;
        let enough = self.max_images == 0 || self.max_images > self.fidelity.k;
        check(enough, "evaluate.max_images", "must be 0 for all, or more than evaluate.fidelity.k")?;
        self.utility.validate()
    }

    pub(super) fn bootstrap(&self, purpose: &str) -> BootstrapOptions {
        BootstrapOptions { resamples: self.resamples, seed: derive_seed(self.seed, purpose), level: self.level }
    }

    pub(super) fn fidelity_options(&self) -> FidelityOptions {
        FidelityOptions { bootstrap: self.bootstrap("fidelity"), ..self.fidelity }
    }

    pub(super) fn privacy_options(&self) -> PrivacyOptions {
        PrivacyOptions { bootstrap: self.bootstrap("privacy"), seed: derive_seed(self.seed, "privacy"), ..self.privacy }
    }

    /// The utility study, with the seed and the intervals of this evaluation.
    pub(super) fn utility_config(&self) -> UtilityConfig {
        let seed = derive_seed(self.seed, "utility");
        let bootstrap = BootstrapOptions { resamples: self.resamples, seed, level: self.level };
        UtilityConfig { seed, bootstrap, ..self.utility.clone() }
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
