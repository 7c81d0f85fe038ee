//! The settings of the utility study.

use std::{fmt, str::FromStr};

use cellforge_classify::ClassifierConfig;
use cellforge_data::{Augment, View, derive_seed};
use cellforge_eval::BootstrapOptions;
use cellforge_train::{ClassifierTrainConfig, LossKind, OptimizerConfig, Schedule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which network is trained on real and synthetic images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UtilityClassifier {
    /// The small convolutional network.
    #[default]
    Cnn,
    /// The residual network.
    Resnet,
}

impl UtilityClassifier {
    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Resnet => "resnet",
        }
    }
}

impl fmt::Display for UtilityClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for UtilityClassifier {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        [Self::Cnn, Self::Resnet]
            .into_iter()
            .find(|classifier| classifier.name() == text)
            .ok_or_else(|| format!("no classifier {text:?}; there are cnn and resnet"))
    }
}

/// Everything that decides what a utility study computes from its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UtilityConfig {
    /// Network to train on real and synthetic images.
    pub classifier: UtilityClassifier,
    /// Width: factor on every filter count. 1 is the published network.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Updates of each training, however many images it has.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub updates: u64,
    /// Batch size: images in an update.
    #[schemars(range(min = 2, max = 4096))]
    pub batch: usize,
    /// Seeds: trainings of each kind, each from its own seed.
    ///
    /// Where not all real images are used, each has a choice of its own, too.
    #[schemars(range(min = 1, max = 1000))]
    pub seeds: usize,
    /// Shares of the real patients to train on, ascending, each above 0 and at most 1.
    pub fractions: Vec<f64>,
    /// Synthetic images added for each real one. 0 must be among them, as the baseline.
    #[schemars(inner(range(min = 0, max = 1000)))]
    pub ratios: Vec<usize>,
    /// Everything random but the intervals derives from this number.
    #[schemars(skip)]
    pub seed: u64,
    /// How the intervals are computed.
    #[schemars(skip)]
    pub bootstrap: BootstrapOptions,
}

impl Default for UtilityConfig {
    fn default() -> Self {
        Self {
            classifier: UtilityClassifier::Cnn,
            width: 1.0,
            updates: 500,
            batch: 32,
            seeds: 5,
            fractions: vec![0.01, 0.05, 0.1, 1.0],
            ratios: vec![0, 1, 4],
            seed: 1,
            bootstrap: BootstrapOptions::default(),
        }
    }
}

impl UtilityConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "evaluate.utility")?;
        let check = |good: bool, setting: &'static str, problem: &str| {
            if good { Ok(()) } else { Err(Error::Setting { setting, problem: problem.to_owned() }) }
        };
        let shares = self.fractions.iter().all(|&share| share > 0.0 && share <= 1.0);
        check(
            shares && !self.fractions.is_empty(),
            "evaluate.utility.fractions",
            "must be one or more shares above 0, at most 1",
        )?;
        let ascending = self.fractions.is_sorted_by(|a, b| a < b);
        check(ascending, "evaluate.utility.fractions", "must be in ascending order, each once")?;
        check(self.ratios.contains(&0), "evaluate.utility.ratios", "must have 0, to compare the others with")?;
        let once = self.ratios.iter().enumerate().all(|(i, ratio)| !self.ratios[..i].contains(ratio));
        check(once, "evaluate.utility.ratios", "names the same number twice")?;
        check(self.bootstrap.resamples >= 20, "evaluate.resamples", "must be at least 20, better 1000")?;
        let level = self.bootstrap.level > 0.0 && self.bootstrap.level < 1.0;
        check(level, "judge.level", "must lie between 0 and 1")
    }

    /// How the network for these images is trained in training number `seed`.
    pub(crate) fn training(&self, images: &View, seed: usize) -> Result<ClassifierTrainConfig> {
        let recipe = match self.classifier {
            UtilityClassifier::Cnn => ClassifierTrainConfig::recipe("cnn-3")?,
            UtilityClassifier::Resnet => ClassifierTrainConfig::default(),
        };
        let (size, channels, classes) = (images.size(), images.channels(), images.classes().len());
        let mut config = recipe.for_images(size, channels, classes).with_width(self.width);
        config.schedule = Schedule::Linear;
        config.augment = Augment::FLIPS;
        config.batch = self.batch;
        config.seed = derive_seed(self.seed, &format!("utility/{seed}"));
        Ok(config)
    }
}

/// How every network of a utility study was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilityTraining {
    /// The network.
    pub model: ClassifierConfig,
    /// The optimizer and its base learning rate.
    pub optimizer: OptimizerConfig,
    /// How the learning rate falls over the updates.
    pub schedule: Schedule,
    /// What is minimised.
    pub loss: LossKind,
    /// Whether the network's own L2 penalties are applied.
    pub l2: bool,
    /// Random changes to each training image, real or synthetic.
    pub augment: Augment,
}

impl From<ClassifierTrainConfig> for UtilityTraining {
    fn from(config: ClassifierTrainConfig) -> Self {
        let ClassifierTrainConfig { model, optimizer, schedule, loss, l2, augment, .. } = config;
        Self { model, optimizer, schedule, loss, l2, augment }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = UtilityConfig::default();
        good.validate().unwrap();
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<UtilityConfig>(&text).unwrap(), good);
        let bad = |change: fn(&mut UtilityConfig)| {
            let mut config = UtilityConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        for (error, name) in [
            (bad(|c| c.width = f64::NAN), "width"),
            (bad(|c| c.updates = 0), "updates"),
            (bad(|c| c.batch = 1), "batch"),
            (bad(|c| c.seeds = 0), "seeds"),
            (bad(|c| c.fractions.clear()), "fractions"),
            (bad(|c| c.fractions = vec![0.5, 1.5]), "fractions"),
            (bad(|c| c.fractions = vec![f64::NAN]), "fractions"),
            (bad(|c| c.fractions = vec![0.5, 0.5]), "ascending"),
            (bad(|c| c.ratios = vec![1, 4]), "ratios must have 0"),
            (bad(|c| c.ratios = vec![0, 1, 1]), "twice"),
            (bad(|c| c.bootstrap.resamples = 3), "resamples"),
            (bad(|c| c.bootstrap.level = 1.0), "level"),
        ] {
            assert!(error.replace(':', "").contains(name), "{error}");
        }
        assert_eq!("resnet".parse(), Ok(UtilityClassifier::Resnet));
        assert!("vgg".parse::<UtilityClassifier>().unwrap_err().contains("cnn and resnet"));
    }
}
