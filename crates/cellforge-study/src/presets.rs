//! The as one table: what each changes, and why.

use serde::{Deserialize, Serialize};

use crate::{StudyConfig, config::merge};

/// A named set of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Under a minute on two cores: every stage runs, no figure means anything.
    Smoke,
    /// About five minutes on two cores: narrower networks on smaller images.
    #[default]
    Quick,
    /// The study's own settings.
    Paper,
    /// Cells that pass: the recipe for better GANs in place of the study's, and none of the published small networks that learn nothing.
    /// Hours on two cores.
    Best,
}

/// One line of the preset table. Values are TOML.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Dotted name of the setting.
    pub key: &'static str,
    /// Its value in `smoke`.
    pub smoke: &'static str,
    /// Its value in `quick`.
    pub quick: &'static str,
    /// Its value in `paper`.
    pub paper: &'static str,
    /// Its value in `best`.
    pub best: &'static str,
    /// Why the others differ from `paper`.
    pub why: &'static str,
}

const fn row(
    key: &'static str,
    smoke: &'static str,
    quick: &'static str,
    paper: &'static str,
    best: &'static str,
    why: &'static str,
) -> Setting {
    Setting { key, smoke, quick, paper, best, why }
}

/// Every setting on which the presets differ; all others are the study's.
#[rustfmt::skip]
pub const TABLE: &[Setting] = &[
    //  setting                         smoke        quick          paper    best
    row("data.side",                    "32",        "32",          "64", "64",
        "a quarter of the pixels: every convolution costs a quarter"),
    row("data.train_limit",             "200",       "3000",        "0", "0",
        "bounds the time of a classifier epoch when the real 27,558 cells are given"),
    row("data.test_limit",              "100",       "1000",        "0", "0",
        "bounds the time of validation and test; the intervals say what the smaller test costs"),
    row("data.phantom.cells_per_class", "80",        "1500",        "13779", "13779",
        "enough cells for the classifiers to learn the phantom, few enough to render in seconds"),
    row("data.phantom.patients",        "10",        "60",          "200", "200",
        "several patients on each side of the split"),
    row("cnn.width",                    "0.25",      "0.5",         "1.0", "1.0",
        "a convolution's cost goes with the square of the width"),
    row("cnn.runs",
        r#"[{recipe="paper",model=1,epochs=1},{recipe="tuned",model=1,epochs=2}]"#,
        r#"[{recipe="paper",model=1,epochs=1},{recipe="paper",model=2,epochs=2},{recipe="paper",model=3,epochs=1},{recipe="tuned",model=1,epochs=6}]"#,
        r#"[{recipe="paper",model=1,epochs=30},{recipe="paper",model=2,epochs=100},{recipe="paper",model=3,epochs=50},{recipe="tuned",model=1,epochs=30}]"#,
        r#"[{recipe="tuned",model=1,epochs=30}]"#,
        "the published learning rate hardly moves the network, so a few epochs show what a hundred do"),
    row("resnet.width",                 "0.125",     "0.375",       "1.0", "1.0",
        "a convolution's cost goes with the square of the width"),
    row("resnet.epochs",                "2",         "6",           "4", "4",
        "few cells make short epochs, so quick takes more of them; smoke only needs the stage to run"),
    row("resnet.lr",                    "0.01",      "0.01",        "0.1", "0.1",
        "at 0.1 a few hundred steps are too few to leave chance"),
    row("gan.width",                    "0.125",     "0.375",       "1.0", "1.0",
        "a convolution's cost goes with the square of the width"),
    row("gan.batch",                    "32",        "16",          "32", "32",
        "twice the iterations in the same time, which early in the training is worth more"),
    row("gan.iterations",               "20",        "1500",        "15000", "15000",
        "what the time allows"),
    row("gan.grid_at",                  "[1, 7, 14, 20]", "[1, 500, 1000, 1500]", "[1, 5000, 10000, 15000]", "[1, 5000, 10000, 15000]",
        "four grids, at the study's thirds of the training"),
    row("gan.checkpoint_every",         "10",        "100",         "500", "500",
        "little is lost when a run is killed"),
    row("gan.log_every",                "1",         "10",          "50", "50",
        "a few hundred points per curve at most"),
    row("gan.lr",                       "1e-3",      "4e-4",        "1.5e-4", "2e-4",
        "narrow networks and few iterations need larger steps"),
    row("gan.recipe",                   "'study'",    "'study'",      "'study'", "'best'",
        "better networks, losses and data for the discriminator than were published"),
    row("gan.latent",                   "100",        "100",          "100", "64",
        "cells vary in fewer ways than that"),
    row("gan.beta1",                    "0.5",        "0.5",          "0.5", "0.0",
        "with a penalty on its gradient the discriminator is to follow at once"),
    row("generate.per_class",           "60",        "1000",        "1000", "1000",
        "the study tests 1,000 images per class; smoke keeps to what takes a second"),
    row("judge.resamples",              "200",       "1000",        "1000", "1000",
        "bootstrap resamples cost little; smoke needs no smooth interval"),
    row("evaluate.max_images",           "60",        "1000",        "0", "0",
        "privacy tests compare all cells with all others"),
    row("evaluate.k",                   "3",         "5",           "5", "5",
        "smoke has too few cells for five neighbours to be near"),
    row("evaluate.kid_subset",          "20",        "200",         "1000", "1000",
        "a subset has fewer cells than the smaller set"),
    row("evaluate.kid_subsets",         "10",        "50",          "100", "100",
        "the subsets only repeat what the estimate over all pairs says"),
    row("evaluate.resamples",           "50",        "500",         "1000", "1000",
        "rough intervals will do for a first look"),
    row("evaluate.frechet_resamples",   "20",        "50",          "100", "100",
        "each resample costs as much as the distance itself"),
    row("evaluate.relabellings",        "100",       "1000",        "2000", "2000",
        "p-values down to 1 in 1000 are fine enough for a first look"),
    row("evaluate.pixel_side",          "16",        "16",          "32", "32",
        "a quarter of the numbers per cell"),
    row("evaluate.training.width",      "0.25",      "0.25",        "1.0", "1.0",
        "a convolution's cost goes with the square of the width"),
    row("evaluate.training.steps",      "4",         "1200",        "500", "500",
        "many small networks are trained; what the time allows"),
    row("evaluate.training.batch",      "16",        "16",          "32", "32",
        "more updates in the same time, without which so small a network learns nothing"),
    row("evaluate.training.seeds",      "2",         "5",           "5", "5",
        "smoke only needs the stage to run"),
    row("evaluate.training.fractions",  "[1.0]",     "[0.1, 1.0]",  "[0.01, 0.05, 0.1, 1.0]", "[0.01, 0.05, 0.1, 1.0]",
        "one per cent of few patients is none"),
    row("evaluate.training.ratios",     "[0, 1]",    "[0, 4]",      "[0, 1, 4]", "[0, 1, 4]",
        "smoke only needs the stage to run"),
];

impl Preset {
    /// Every preset, fastest first.
    pub const ALL: [Self; 4] = [Self::Smoke, Self::Quick, Self::Paper, Self::Best];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Paper => "paper",
            Self::Best => "best",
        }
    }

    /// The study's defaults with this preset's column of [`TABLE`] laid over them.
    ///
    /// # Panics
    /// If a line of the table is not valid; the tests build every preset.
    #[must_use]
    pub fn config(self) -> StudyConfig {
        let mut settings = toml::Table::try_from(StudyConfig::default()).expect("the defaults are valid TOML");
        for line in TABLE {
            let value = match self {
                Self::Smoke => line.smoke,
                Self::Quick => line.quick,
                Self::Paper => line.paper,
                Self::Best => line.best,
            };
            let overlay = format!("{} = {value}", line.key).parse().expect("a line of the preset table is valid TOML");
            merge(&mut settings, &overlay);
        }
        let mut config: StudyConfig = settings.try_into().expect("the preset table names real settings");
        config.preset = self;
        config
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| format!("no preset {text:?}; there are smoke, quick, paper and best"))
    }
}
