//! The settings of a study: plain structs, one per stage, read from and written to TOML.
//!
//! The defaults are the study's own settings. A preset overlays the lines of [`presets::TABLE`](crate::presets::TABLE) on them,
//! and a configuration file overlays its own lines on the preset.

use std::path::PathBuf;

use cellforge_eval::BootstrapOptions;
use serde::{Deserialize, Serialize};

use crate::{
    Error, EvaluationConfig, Result, derive_seed,
    presets::Preset,
    utility::{UtilityClassifier, UtilityConfig},
};

/// Everything that decides what a study computes, and nothing that does not (no device, no thread count, no paths of results).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StudyConfig {
    /// The preset whose values these settings started from.
    pub preset: Preset,
    /// Every random choice of the study derives from this number.
    pub seed: u64,
    /// Which cells, and how they are split.
    pub data: DataConfig,
    /// The small convolutional networks.
    pub cnn: CnnStage,
    /// The residual network that judges the synthetic cells.
    pub resnet: ResnetStage,
    /// The generative networks.
    pub gan: GanStage,
    /// The synthetic cells.
    pub generate: GenerateStage,
    /// The figures and their intervals.
    pub judge: JudgeStage,
    /// What the synthetic cells are worth.
    pub evaluate: EvaluateStage,
}

/// Which cells, and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder or zip with one folder per class, or `cifar10:DIR`, or `mnist:DIR`. Without it: the phantom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where the group (patient) of a cell comes from.
    pub groups: GroupSource,
    /// Files of `file,group` lines, or NLM's `patientid_cellmapping_*.csv`; they win over `groups`.
    pub group_csv: Vec<PathBuf>,
    /// Side of the square images, in pixels: 32, 64 or 128.
    pub side: usize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// What is never divided between training and test.
    pub split_by: SplitRule,
    /// Share of the cells for validation (choosing the best small network).
    pub val: f64,
    /// Share of the cells for the test.
    pub test: f64,
    /// At most so many training cells per class; 0 means all.
    pub train_limit: usize,
    /// At most so many validation cells and so many test cells per class; 0 means all.
    pub test_limit: usize,
    /// Leave out images that cannot be read, and list them, instead of failing.
    pub skip_bad: bool,
    /// The stand-in for real cells.
    pub phantom: PhantomStage,
}

/// Where the group (patient) of a cell comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupSource {
    /// From NIH file names where they have that form, otherwise none.
    #[default]
    Auto,
    /// From NIH file names.
    Nih,
    /// No groups.
    None,
}

/// What is never divided between training and test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// Groups where the cells have them, otherwise single cells.
    #[default]
    Auto,
    /// Single cells, class by class.
    Cell,
    /// Whole groups: no patient on two sides.
    Group,
}

/// The size of the phantom, the rendered stand-in for real cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhantomStage {
    /// Cells per class.
    pub cells_per_class: usize,
    /// Patients the cells come from.
    pub patients: usize,
}

/// The small convolutional networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnStage {
    /// Multiplies every filter count; 1 is the study's network.
    pub width: f64,
    /// The networks to train; the best by validation accuracy is the study's "best CNN".
    pub runs: Vec<CnnRun>,
}

/// One training of the small network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnnRun {
    /// The published optimiser settings, or those with a sane learning rate.
    pub recipe: Recipe,
    /// Which of the study's three models: 1, 2 or 3.
    pub model: usize,
    /// Passes over the training cells.
    pub epochs: usize,
}

impl CnnRun {
    /// The name of the run and of its folder, for example `paper-1`.
    #[must_use]
    pub fn name(&self) -> String {
        let recipe = match self.recipe {
            Recipe::Paper => "paper",
            Recipe::Tuned => "tuned",
        };
        format!("{recipe}-{}", self.model)
    }
}

/// How a small network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// As published: SGD at 1e-6, at which the network hardly moves.
    Paper,
    /// The same with a learning rate that works.
    Tuned,
}

/// The residual network that judges the synthetic cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResnetStage {
    /// Multiplies every filter count; 1 is the study's network.
    pub width: f64,
    /// Passes over the training cells.
    pub epochs: usize,
    /// Cells per step.
    pub batch: usize,
    /// Learning rate at the start; it falls linearly to 0.
    pub lr: f64,
}

/// What GANs are made of and how they learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GanRecipe {
    /// As published: one GAN per class.
    #[default]
    Study,
    /// That of [`gan_best`](cellforge_train::presets::gan_best): one GAN of all classes.
    Best,
}

/// The generative networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanStage {
    /// What they are made of and how they learn, in all that the settings below leave open.
    pub recipe: GanRecipe,
    /// Multiplies every filter count; 1 is the study's networks.
    pub width: f64,
    /// Length of the noise vector.
    pub latent: usize,
    /// Training iterations (the study calls them epochs).
    pub iterations: u64,
    /// Cells per step.
    pub batch: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// Adam's first moment decay.
    pub beta1: f64,
    /// Iterations after which a grid of samples from fixed noise is drawn.
    pub grid_at: Vec<u64>,
    /// Iterations between checkpoints.
    pub checkpoint_every: u64,
    /// Iterations between lines of the log.
    pub log_every: u64,
}

/// The synthetic cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateStage {
    /// Synthetic cells per class.
    pub per_class: usize,
    /// Redraw noise components beyond so many standard deviations; none by default, as in the study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f64>,
}

/// The figures and their intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeStage {
    /// Bootstrap resamples per interval.
    pub resamples: usize,
    /// Coverage of the intervals.
    pub level: f64,
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
    pub max_cells: usize,
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

impl EvaluateStage {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.fidelity || self.privacy || self.utility
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
            max_cells: stage.max_cells,
            pixel_side: stage.pixel_side,
            pairs: stage.pairs,
            seed,
        }
    }
}

impl Default for EvaluateStage {
    fn default() -> Self {
        let usual = EvaluationConfig::default();
        Self {
            fidelity: true,
            privacy: true,
            utility: true,
            max_cells: usual.max_cells,
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

impl Default for StudyConfig {
    fn default() -> Self {
        Self {
            preset: Preset::Paper,
            seed: 1,
            data: DataConfig::default(),
            cnn: CnnStage::default(),
            resnet: ResnetStage::default(),
            gan: GanStage::default(),
            generate: GenerateStage::default(),
            judge: JudgeStage::default(),
            evaluate: EvaluateStage::default(),
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            groups: GroupSource::Auto,
            group_csv: Vec::new(),
            side: 64,
            channels: 3,
            split_by: SplitRule::Auto,
            val: 0.1,
            test: 0.2,
            train_limit: 0,
            test_limit: 0,
            skip_bad: false,
            phantom: PhantomStage::default(),
        }
    }
}

impl Default for PhantomStage {
    fn default() -> Self {
        // As many cells and patients as the NIH set has.
        Self { cells_per_class: 13_779, patients: 200 }
    }
}

impl Default for CnnStage {
    fn default() -> Self {
        let run = |recipe, model, epochs| CnnRun { recipe, model, epochs };
        Self {
            width: 1.0,
            runs: vec![
                run(Recipe::Paper, 1, 30),
                run(Recipe::Paper, 2, 100),
                run(Recipe::Paper, 3, 50),
                run(Recipe::Tuned, 1, 30),
            ],
        }
    }
}

impl Default for ResnetStage {
    fn default() -> Self {
        Self { width: 1.0, epochs: 4, batch: 32, lr: 0.1 }
    }
}

impl Default for GanStage {
    fn default() -> Self {
        Self {
            recipe: GanRecipe::Study,
            width: 1.0,
            latent: 100,
            iterations: 15_000,
            batch: 32,
            lr: 1.5e-4,
            beta1: 0.5,
            grid_at: vec![1, 5_000, 10_000, 15_000],
            checkpoint_every: 500,
            log_every: 50,
        }
    }
}

impl Default for GenerateStage {
    fn default() -> Self {
        Self { per_class: 1_000, truncation: None }
    }
}

impl Default for JudgeStage {
    fn default() -> Self {
        Self { resamples: 1_000, level: 0.95 }
    }
}

impl StudyConfig {
    /// The settings of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        preset.config()
    }

    /// Reads a TOML text. Its `preset` line, or else `preset`, or else `quick`, gives the values that the text does not name.
    ///
    /// # Errors
    /// Text that is not TOML, unknown settings, and values of a wrong type.
    pub fn from_toml(text: &str, preset: Option<Preset>) -> Result<Self> {
        Self::from_table(&text.parse::<toml::Table>()?, preset)
    }

    /// As [`from_toml`](Self::from_toml), from a parsed table. `preset` wins over the table's own `preset` line.
    ///
    /// # Errors
    /// Unknown settings, and values of a wrong type.
    pub fn from_table(table: &toml::Table, preset: Option<Preset>) -> Result<Self> {
        let named = match table.get("preset") {
            Some(value) => Some(value.clone().try_into::<Preset>()?),
            None => None,
        };
        let preset = preset.or(named).unwrap_or_default();
        let mut merged = toml::Table::try_from(preset.config())?;
        merge(&mut merged, table);
        merged.insert("preset".into(), toml::Value::try_from(preset)?);
        Ok(merged.try_into()?)
    }

    /// The effective settings as TOML, every value named.
    ///
    /// # Errors
    /// Does not fail for settings that came from TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// Checks every value that can be checked without data.
    ///
    /// # Errors
    /// [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        let check = |good: bool, setting: &'static str, problem: &str| {
            if good { Ok(()) } else { Err(Error::Setting { setting, problem: problem.to_owned() }) }
        };
        let data = &self.data;
        let share = |x: f64| x > 0.0 && x < 1.0;
        check(matches!(data.side, 32 | 64 | 128), "data.side", "must be 32, 64 or 128")?;
        check(matches!(data.channels, 1 | 3), "data.channels", "must be 1 or 3")?;
        check(share(data.val), "data.val", "must lie between 0 and 1")?;
        check(share(data.test), "data.test", "must lie between 0 and 1")?;
        check(data.val + data.test < 0.9, "data.test", "val and test together leave too little to train on")?;
        check(data.phantom.cells_per_class >= 20, "data.phantom.cells_per_class", "must be at least 20")?;
        check(data.phantom.patients >= 5, "data.phantom.patients", "must be at least 5")?;
        check(!self.cnn.runs.is_empty(), "cnn.runs", "must name at least one run")?;
        for (i, run) in self.cnn.runs.iter().enumerate() {
            check((1..=3).contains(&run.model), "cnn.runs.model", "must be 1, 2 or 3")?;
            check(run.epochs > 0, "cnn.runs.epochs", "must be at least 1")?;
            let again = self.cnn.runs[..i].iter().any(|other| other.name() == run.name());
            check(!again, "cnn.runs", "names the same recipe and model twice")?;
        }
        let width = |x: f64| x.is_finite() && x > 0.0 && x <= 8.0;
        check(width(self.cnn.width), "cnn.width", "must lie between 0 and 8")?;
        check(width(self.resnet.width), "resnet.width", "must lie between 0 and 8")?;
        check(width(self.gan.width), "gan.width", "must lie between 0 and 8")?;
        check(self.resnet.epochs > 0, "resnet.epochs", "must be at least 1")?;
        check(self.resnet.batch > 1, "resnet.batch", "must be at least 2")?;
        check(self.gan.iterations > 0, "gan.iterations", "must be at least 1")?;
        check(self.gan.batch > 1, "gan.batch", "must be at least 2")?;
        check(self.gan.latent > 0, "gan.latent", "must be at least 1")?;
        let rate = |x: f64| x.is_finite() && x > 0.0;
        check(rate(self.gan.lr), "gan.lr", "must be a number above 0")?;
        check(rate(self.resnet.lr), "resnet.lr", "must be a number above 0")?;
        check((0.0..1.0).contains(&self.gan.beta1), "gan.beta1", "must be at least 0 and below 1")?;
        check(self.gan.checkpoint_every > 0, "gan.checkpoint_every", "must be at least 1")?;
        check(self.gan.log_every > 0, "gan.log_every", "must be at least 1")?;
        check(self.generate.per_class > 0, "generate.per_class", "must be at least 1")?;
        check(self.generate.truncation.is_none_or(|t| t > 0.0), "generate.truncation", "must be above 0")?;
        check(self.judge.resamples >= 20, "judge.resamples", "must be at least 20")?;
        check(share(self.judge.level), "judge.level", "must lie between 0 and 1")?;
        if self.evaluate.is_on() { self.evaluation().validate() } else { Ok(()) }
    }
}

/// Overlays `top` on `base`: tables are merged key by key, everything else is replaced.
pub(crate) fn merge(base: &mut toml::Table, top: &toml::Table) {
    for (key, value) in top {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_toml() {
        for preset in Preset::ALL {
            let config = StudyConfig::preset(preset);
            config.validate().unwrap();
            assert_eq!(config.preset, preset);
            assert_eq!(StudyConfig::from_toml(&config.to_toml().unwrap(), None).unwrap(), config);
        }
    }

    #[test]
    fn a_file_overlays_the_preset_it_names() {
        let config = StudyConfig::from_toml("preset = \"smoke\"\n[gan]\niterations = 3\n", None).unwrap();
        let smoke = StudyConfig::preset(Preset::Smoke);
        assert_eq!(config.gan.iterations, 3);
        assert_eq!(config.gan.width, smoke.gan.width);
        let quick = StudyConfig::from_toml("preset = \"smoke\"\n", Some(Preset::Quick)).unwrap();
        assert_eq!(quick, StudyConfig::preset(Preset::Quick));
    }

    #[test]
    fn unknown_settings_and_bad_values_are_refused() {
        assert!(StudyConfig::from_toml("[gan]\nitterations = 3\n", None).is_err());
        let mut config = StudyConfig::default();
        config.data.side = 48;
        assert!(config.validate().unwrap_err().to_string().contains("data.side"));
    }

    #[test]
    fn paper_is_the_study() {
        let paper = StudyConfig::preset(Preset::Paper);
        assert_eq!(paper, StudyConfig::default());
        assert_eq!((paper.gan.iterations, paper.resnet.epochs, paper.data.side), (15_000, 4, 64));
    }
}
