//! The settings of a study: plain structs, one per stage, read from and written to TOML.
//!
//! The defaults are the study's own settings. A preset overlays the lines of [`presets::TABLE`](crate::presets::TABLE) on them,
//! and a configuration file overlays its own lines on the preset.

mod classifiers;
mod data;
mod evaluate;
mod gan;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, presets::Preset};

pub use classifiers::{CnnRun, CnnStage, Recipe, ResnetStage};
pub use data::{DataConfig, GroupSource, PhantomStage, SplitRule};
pub use evaluate::{EvaluateStage, JudgeStage, TrainingStage};
pub use gan::{GanRecipe, GanStage, GenerateStage};

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
        let truncation = self.generate.truncation.is_none_or(cellforge_train::can_truncate_at);
        check(truncation, "generate.truncation", "must be a finite number, at least 0.01")?;
        check(self.judge.resamples >= 20, "judge.resamples", "must be at least 20")?;
        check(share(self.judge.level), "judge.level", "must lie between 0 and 1")?;
        if self.evaluate.is_on() {
            self.evaluation().validate()?;
        }
        Ok(())
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

    /// Found here, not by the stage that generates, after hours of training.
    #[test]
    fn a_truncation_that_generates_nothing_is_refused() {
        let mut config = StudyConfig::preset(Preset::Smoke);
        for (truncation, good) in [(0.01, true), (0.009, false), (f64::INFINITY, false), (f64::NAN, false)] {
            config.generate.truncation = Some(truncation);
            let found = config.validate();
            assert_eq!(found.is_ok(), good, "{truncation}: {found:?}");
            assert!(good || found.unwrap_err().to_string().contains("generate.truncation"));
        }
    }

    #[test]
    fn paper_is_the_study() {
        let paper = StudyConfig::preset(Preset::Paper);
        assert_eq!(paper, StudyConfig::default());
        assert_eq!((paper.gan.iterations, paper.resnet.epochs, paper.data.side), (15_000, 4, 64));
    }
}
