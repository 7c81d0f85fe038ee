//! The settings of an evaluation.

use cellforge_data::derive_seed;
use cellforge_eval::{BootstrapOptions, FidelityOptions, PrivacyOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EncoderConfig;
use crate::{
    Error, Result, copies::CopyConfig, reidentification::ReidentificationConfig, two_sample::TwoSampleConfig,
    utility::UtilityConfig,
};

/// What an evaluation can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// How close the synthetic images come to real ones.
    Fidelity,
    /// Whether a network or a statistic tells them from real ones.
    #[serde(rename = "two_sample")]
    TwoSample,
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
    #[schemars(range(max = 1_000_000_000))]
    pub max_images: usize,
    /// Side to which images are averaged for distances between pixels.
    ///
    /// It is at most that of the images, and at most 12 for fidelity.
    #[schemars(range(min = 1, max = 128))]
    pub pixel_side: usize,
    /// Bootstrap resamples per interval.
    #[schemars(range(min = 20, max = 100_000))]
    pub resamples: usize,
    /// Coverage of the intervals.
    #[schemars(skip)]
    pub level: f64,
    /// The search for copies of training images.
    pub copies: CopyConfig,
    /// The encoder that learns in the run, where it is among the features.
    pub encoder: EncoderConfig,
    /// How close the synthetic images come to the real ones.
    pub fidelity: FidelityOptions,
    /// The networks and statistics that are to tell synthetic images from real ones.
    pub two_sample: TwoSampleConfig,
    /// The tests for leaks.
    pub privacy: PrivacyOptions,
    /// The networks that link synthetic images to patients.
    pub reidentification: ReidentificationConfig,
    /// The classifiers that are trained on real and synthetic images.
    pub utility: UtilityConfig,
    /// Seed of everything random.
    #[schemars(skip)]
    pub seed: u64,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            measure: vec![Measure::Fidelity, Measure::TwoSample, Measure::Privacy],
            max_images: 0,
            pixel_side: 32,
            resamples: 1000,
            level: 0.95,
            copies: CopyConfig::default(),
            encoder: EncoderConfig::default(),
            fidelity: FidelityOptions::default(),
            two_sample: TwoSampleConfig::default(),
            privacy: PrivacyOptions::default(),
            reidentification: ReidentificationConfig::default(),
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
        self.two_sample.validate()?;
        self.reidentification.validate()?;
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

    /// The two-sample test, with the seed and the intervals of this evaluation.
    pub(super) fn two_sample_config(&self) -> TwoSampleConfig {
        let (seed, bootstrap) = (derive_seed(self.seed, "two_sample"), self.bootstrap("two_sample"));
        TwoSampleConfig { seed, bootstrap, ..self.two_sample.clone() }
    }

    /// Re-identification, with the seed of this evaluation.
    pub(super) fn reidentification_config(&self) -> ReidentificationConfig {
        ReidentificationConfig { seed: derive_seed(self.seed, "reidentification"), ..self.reidentification.clone() }
    }

    /// The utility study, with the seed and the intervals of this evaluation.
    pub(super) fn utility_config(&self) -> UtilityConfig {
        let seed = derive_seed(self.seed, "utility");
        let bootstrap = BootstrapOptions { resamples: self.resamples, seed, level: self.level };
        UtilityConfig { seed, bootstrap, ..self.utility.clone() }
    }
}
