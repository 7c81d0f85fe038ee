//! The settings of the figures: those of the judged networks, and those of what the synthetic cells are worth.

use cellforge_eval::BootstrapOptions;
use serde::{Deserialize, Serialize};

use cellforge_assess::{
    EvaluationConfig,
    utility::{UtilityClassifier, UtilityConfig},
};
use cellforge_data::derive_seed;

use super::StudyConfig;

/// The figures and their intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeStage {
    /// Bootstrap resamples per interval.
    pub resamples: usize,
    /// Coverage of the intervals.
    pub level: f64,
}

impl Default for JudgeStage {
    fn default() -> Self {
        Self { resamples: 1_000, level: 0.95 }
    }
}

/// What the synthetic cells are worth: realism, coverage, use for training, leaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateStage {
    /// Whether to measure how close the synthetic cells come to real ones.
    pub fidelity: bool,
    /// Whether to test for leaks.
    pub privacy: bool,
    /// Whether to train classifiers on real and synthetic cells; with none of the three the stage is left out.
    pub utility: bool,
    /// At most so many cells of each set and class, as whole patients where those are known; 0 takes all.
    pub max_images: usize,
    /// Which nearest neighbour counts as near, for precision, recall, density and coverage.
    pub k: usize,
    /// Cells of each set in a subset for the kernel distance.
    pub kid_subset: usize,
    /// Subsets for the kernel distance.
    pub kid_subsets: usize,
    /// Bootstrap resamples per interval.
    pub resamples: usize,
    /// The same for the Fréchet distance.
    pub frechet_resamples: usize,
    /// Drawings of who was in training, for the p-values of the privacy tests.
    pub relabellings: usize,
    /// Side to which cells are averaged for distances between pixels.
    pub pixel_side: usize,
    /// Closest pairs that are shown in the report as pictures, with real cells on them; 0 shows none.
    pub pairs: usize,
    /// The classifiers that are trained on real and synthetic cells.
    pub training: TrainingStage,
}

impl Default for EvaluateStage {
    fn default() -> Self {
        let usual = EvaluationConfig::default();
        Self {
            fidelity: true,
            privacy: true,
            utility: true,
            max_images: usual.max_images,
            k: usual.k,
            kid_subset: usual.kid_subset,
            kid_subsets: usual.kid_subsets,
            resamples: usual.resamples,
            frechet_resamples: usual.frechet_resamples,
            relabellings: usual.relabellings,
            pixel_side: usual.pixel_side,
            pairs: usual.pairs,
            training: TrainingStage::default(),
        }
    }
}

impl EvaluateStage {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.fidelity || self.privacy || self.utility
    }
}

/// The classifiers that are trained on real and synthetic cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingStage {
    /// The network.
    pub classifier: UtilityClassifier,
    /// Multiplies every filter count; 1 is the study's network.
    pub width: f64,
    /// Updates of every training.
    pub steps: u64,
    /// Cells in every update.
    pub batch: usize,
    /// Trainings of each kind.
    pub seeds: usize,
    /// Shares of the real patients to train on, ascending.
    pub fractions: Vec<f64>,
    /// Synthetic cells added for each real one; 0 is among them.
    pub ratios: Vec<usize>,
}

impl Default for TrainingStage {
    fn default() -> Self {
        let usual = UtilityConfig::default();
        Self {
            classifier: usual.classifier,
            width: usual.width,
            steps: usual.steps,
            batch: usual.batch,
            seeds: usual.seeds,
            fractions: usual.fractions,
            ratios: usual.ratios,
        }
    }
}

impl StudyConfig {
    /// The settings of the study's evaluation.
    #[must_use]
    pub fn evaluation(&self) -> EvaluationConfig {
        let (stage, level) = (&self.evaluate, self.judge.level);
        let seed = derive_seed(self.seed, "evaluate");
        let training = &stage.training;
        let utility = stage.utility.then(|| UtilityConfig {
            classifier: training.classifier,
            width: training.width,
            steps: training.steps,
            batch: training.batch,
            seeds: training.seeds,
            fractions: training.fractions.clone(),
            ratios: training.ratios.clone(),
            seed: derive_seed(seed, "utility"),
            bootstrap: BootstrapOptions { resamples: stage.resamples, seed: derive_seed(seed, "utility"), level },
        });
        EvaluationConfig {
            fidelity: stage.fidelity,
            privacy: stage.privacy,
            utility,
            k: stage.k,
            kid_subset: stage.kid_subset,
            kid_subsets: stage.kid_subsets,
            resamples: stage.resamples,
            frechet_resamples: stage.frechet_resamples,
            relabellings: stage.relabellings,
            level,
            max_images: stage.max_images,
            pixel_side: stage.pixel_side,
            pairs: stage.pairs,
            seed,
        }
    }
}
