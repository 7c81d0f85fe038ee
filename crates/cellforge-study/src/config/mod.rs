//! The settings of a study, and of everything that is a part of one: each has one definition, and every verb takes all of them.
//!
//! The defaults are the study's own settings. What is given is laid over them in this order, the last on top: the recipes that `gan.recipe`
//! and `classifier.recipe` name, the preset, files, single assignments.

mod beside;
mod classifiers;
mod data;
mod generate;
mod inputs;

use candle_core::Device;
use cellforge_assess::{AuditConfig, EvaluationConfig, panel::PanelConfig};
use cellforge_data::derive_seed;
use cellforge_kernels::Precision;
use cellforge_settings::{Layer, Renamed, assemble};
use cellforge_train::{CLASSIFIER_RECIPES, ClassifierTrainConfig, GAN_RECIPES, GanTrainConfig, Recipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, Origin, Result, presets::Preset};

pub use beside::BesideRun;
pub use classifiers::{CnnRun, CnnStage};
pub use data::{DataConfig, GroupSetting, PhantomStage, SplitRule, TableConfig};
pub use generate::{GenerateStage, JudgeStage};
pub use inputs::Inputs;

/// Everything that decides what a study computes, and nothing that does not (no device, no thread count, no paths of results).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StudyConfig {
    /// Preset: a named set of settings, which lies below everything else that is given.
    pub preset: Preset,
    /// Seed of everything random. The same seed gives the same files.
    ///
    /// It is at most 2^53, so that every reader of JSON keeps it.
    #[schemars(range(max = 9_007_199_254_740_992u64))]
    pub seed: u64,
    /// Precision of convolutions. Without it, f32, and tf32 on NVIDIA GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Inputs beside the images of `data`. A study finds all of them itself.
    pub inputs: Inputs,
    /// Which images, and how they are split.
    pub data: DataConfig,
    /// The small convolutional networks of the study.
    pub cnn: CnnStage,
    /// The classifier: in a study, the network that judges the synthetic images.
    pub classifier: ClassifierTrainConfig,
    /// The generative networks.
    pub gan: GanTrainConfig,
    /// GANs of other recipes, which a study trains and judges beside its own. One with the recipe of `gan` is left out.
    pub beside: Vec<BesideRun>,
    /// The synthetic images.
    pub generate: GenerateStage,
    /// The figures of the classifiers and their intervals.
    pub judge: JudgeStage,
    /// The evaluation of the synthetic images.
    pub evaluate: EvaluationConfig,
    /// The blinded panel. A study makes none.
    pub panel: PanelConfig,
    /// The audit of how GANs are trained. A study makes none.
    pub audit: AuditConfig,
}

impl Default for StudyConfig {
    fn default() -> Self {
        Self {
            preset: Preset::Paper,
            seed: 1,
            precision: None,
            inputs: Inputs::default(),
            data: DataConfig::default(),
            cnn: CnnStage::default(),
            classifier: ClassifierTrainConfig::default(),
            gan: GanTrainConfig::default(),
            beside: Vec::new(),
            generate: GenerateStage::default(),
            judge: JudgeStage::default(),
            evaluate: EvaluationConfig::default(),
            panel: PanelConfig::default(),
            audit: AuditConfig::default(),
        }
    }
}

/// What took the place of three settings that were true or false.
const MEASURE: &str = "evaluate.measure lists what to measure, as in [\"fidelity\", \"privacy\", \"utility\"]";

/// What settings were called before there was one name for each, with what they are called now.
pub const RENAMED: &Renamed = &[
    ("resnet.width", "classifier.model.width"),
    ("resnet.epochs", "classifier.epochs"),
    ("resnet.batch", "classifier.batch"),
    ("resnet.lr", "classifier.optimizer.lr"),
    ("gan.width", "gan.model.width"),
    ("gan.latent", "gan.model.latent"),
    ("gan.dropout", "gan.model.dropout"),
    ("gan.generator", "gan.model.generator"),
    ("gan.discriminator", "gan.model.discriminator"),
    ("gan.spectral_norm", "gan.model.spectral_norm"),
    ("gan.cooldown", "gan.lr_decay"),
    ("gan.joint", "gan.joint_update"),
    ("gan.any_orientation", "gan.dihedral"),
    ("gan.average", "gan.ema_decay"),
    ("gan.accumulate", "gan.accumulation_steps"),
    ("gan.augment_target", "gan.augment.ada_target"),
    ("gan.model.leak", "gan.model.negative_slope"),
    ("gan.augment.chance", "gan.augment.p"),
    ("gan.augment.target", "gan.augment.ada_target"),
    ("gan.augment.rise", "gan.augment.ada_speed"),
    ("gan.model.image_size", "the side is data.side"),
    ("gan.model.channels", "the channels are data.channels"),
    ("gan.model.classes", "the classes are those of the images, all of them in one GAN with gan.conditional = true"),
    ("gan.seed", "the seed is seed"),
    ("data.phantom.cells_per_class", "data.phantom.images_per_class"),
    ("data.split_by = \"cell\"", "write data.split_by = \"image\""),
    ("cnn.runs.model", "it is the number in recipe = \"cnn-1\", or in \"cnn-paper-1\" for that of the paper"),
    ("evaluate.fidelity = true", MEASURE),
    ("evaluate.fidelity = false", MEASURE),
    ("evaluate.privacy = true", MEASURE),
    ("evaluate.privacy = false", MEASURE),
    ("evaluate.utility = true", MEASURE),
    ("evaluate.utility = false", MEASURE),
    ("evaluate.privacy_tests", "evaluate.measure"),
    ("evaluate.max_cells", "evaluate.max_images"),
    ("evaluate.k", "evaluate.fidelity.k"),
    ("evaluate.kid_subset", "evaluate.fidelity.kid_subset"),
    ("evaluate.kid_subsets", "evaluate.fidelity.kid_subsets"),
    ("evaluate.frechet_resamples", "evaluate.fidelity.frechet_resamples"),
    ("evaluate.relabellings", "evaluate.privacy.relabellings"),
    ("evaluate.pairs", "evaluate.privacy.pairs"),
    ("evaluate.training.classifier", "evaluate.utility.classifier"),
    ("evaluate.training.width", "evaluate.utility.width"),
    ("evaluate.training.steps", "evaluate.utility.updates"),
    ("evaluate.training.batch", "evaluate.utility.batch"),
    ("evaluate.training.seeds", "evaluate.utility.seeds"),
    ("evaluate.training.fractions", "evaluate.utility.fractions"),
    ("evaluate.training.ratios", "evaluate.utility.ratios"),
    // The flat files of `train gan`, `train classifier` and `evaluate`.
    ("side", "data.side"),
    ("channels", "data.channels"),
    ("groups", "data.groups"),
    ("group_csv", "data.group_csv"),
    ("skip_bad", "data.skip_bad"),
    ("split_by", "data.split_by"),
    ("val", "data.val"),
    ("test", "data.test"),
    ("cells_per_class", "data.phantom.images_per_class"),
    ("model", "classifier.recipe names the network, such as \"resnet\" and \"cnn-1\""),
    ("variant", "it is the number in classifier.recipe = \"cnn-1\""),
    ("augment", "gan.augment or classifier.augment, a table of settings"),
    ("monitor_every", "gan.monitor.every"),
    ("discriminator", "inputs.discriminators"),
    ("recipe", "gan.recipe or classifier.recipe, in the table of what is trained"),
    ("iterations", "gan.iterations"),
    ("epochs", "classifier.epochs"),
    ("batch", "gan.batch or classifier.batch, in the table of what is trained"),
    ("lr", "gan.lr or classifier.optimizer.lr, in the table of what is trained"),
    ("width", "gan.model.width or classifier.model.width, in the table of what is trained"),
    ("cooldown", "gan.lr_decay"),
    ("joint", "gan.joint_update"),
    ("any_orientation", "gan.dihedral"),
    ("average", "gan.ema_decay"),
    ("accumulate", "gan.accumulation_steps"),
    ("r1", "gan.r1"),
    ("r2", "gan.r2"),
    ("penalty_every", "gan.penalty_every"),
    ("latent", "gan.model.latent"),
    ("conditional", "gan.conditional"),
    ("count", "generate.per_class"),
    ("truncation", "generate.truncation"),
    ("keep", "generate.keep"),
    ("k", "evaluate.fidelity.k"),
    ("resamples", "evaluate.resamples"),
    ("max_cells", "evaluate.max_images"),
    ("utility", "evaluate.measure, with \"utility\" among its words"),
    ("utility_steps", "evaluate.utility.updates"),
    ("utility_seeds", "evaluate.utility.seeds"),
    ("utility_width", "evaluate.utility.width"),
    ("no_privacy", "evaluate.measure, without \"privacy\""),
    ("no_pairs", "evaluate.privacy.pairs = 0"),
];

impl StudyConfig {
    /// The settings of a preset.
    ///
    /// # Panics
    /// If the preset's file is not valid; the tests build every preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        Self::layered(&[], Some(preset)).expect("the presets are valid")
    }

    /// The settings that `layers` make, the last on top. They lie on the preset that the last of them names, else on `preset`, else on the
    /// defaults; below that lie the recipes that are named.
    ///
    /// # Errors
    /// Unknown settings, settings of an earlier version, and values of a wrong type or out of range, each with the layer and the key.
    pub fn layered(layers: &[Layer], preset: Option<Preset>) -> Result<Self> {
        let preset = match named(layers, &["preset"]) {
            // A word that is no preset is an error of the layer that has it.
            Some(word) => word.parse().ok(),
            None => preset,
        };
        let mut all = Vec::new();
        if let Some(preset) = preset {
            let mut layer = preset.layer()?;
            layer.table.insert("preset".to_owned(), Value::String(preset.name().to_owned()));
            all.push(layer);
        }
        all.extend(layers.iter().cloned());
        let recipes = [("gan", GAN_RECIPES), ("classifier", CLASSIFIER_RECIPES)];
        let below = recipes.into_iter().filter_map(|(table, recipes)| recipe(&all, table, recipes).transpose());
        let below = below.collect::<Result<Vec<Layer>>>()?;
        let found: Self = assemble(&[below, all].concat(), RENAMED)?;
        Ok(found)
    }

    /// Reads a TOML text. Its `preset` line, or else `preset`, or else `quick`, gives the values that the text does not name.
    ///
    /// # Errors
    /// As [`layered`](Self::layered).
    pub fn from_toml(text: &str, preset: Option<Preset>) -> Result<Self> {
        Self::layered(&[Layer::parse("", text)?], Some(preset.unwrap_or_default()))
    }

    /// With absolute paths in place of relative ones that lead to something, so that the settings mean the same from anywhere.
    #[must_use]
    pub fn absolute(&self) -> Self {
        let mut config = self.clone();
        let (data, inputs) = (&mut config.data, &mut config.inputs);
        let named = [&mut data.path, &mut inputs.real, &mut inputs.holdout, &mut inputs.synthetic];
        let named = named.into_iter().chain([&mut config.gan.from, &mut config.classifier.from]);
        named.flatten().chain(&mut inputs.features).for_each(|text| *text = absolute(text));
        let single = [&mut inputs.split, &mut inputs.strata, &mut inputs.judge, &mut inputs.checkpoint];
        let files = single
            .into_iter()
            .chain([&mut data.table.file])
            .flatten()
            .chain(&mut data.group_csv)
            .chain(&mut inputs.discriminators);
        files.filter(|path| path.exists()).for_each(|path| {
            if let Ok(whole) = std::path::absolute(&*path) {
                *path = whole;
            }
        });
        config
    }

    /// The effective settings as TOML, every value named.
    ///
    /// # Errors
    /// Does not fail for settings that came from TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(cellforge_settings::to_toml(self)?)
    }

    /// Checks every value of a study that can be checked without data.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Setting`] with the name of the first wrong setting.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "")?;
        let check = |good: bool, setting: &'static str, problem: &str| {
            if good { Ok(()) } else { Err(Error::Setting { setting, problem: problem.to_owned() }) }
        };
        check(self.inputs == Inputs::default(), "inputs", "are found by the study itself")?;
        check(self.panel == PanelConfig::default(), "panel", "is of no study: it makes no panel")?;
        check(self.audit == AuditConfig::default(), "audit", "is of no study: it makes no audit")?;
        let data = &self.data;
        Origin::Other.words(data)?;
        check(data.val + data.test < 0.9, "data.test", "val and test together leave too little to train on")?;
        if data.path.is_none() {
            let phantom = &data.phantom;
            check(phantom.images_per_class >= 20, "data.phantom.images_per_class", "must be at least 20 in a study")?;
            check(phantom.patients >= 5, "data.phantom.patients", "must be at least 5 in a study")?;
        }
        check(!self.cnn.runs.is_empty(), "cnn.runs", "must name at least one run")?;
        for (i, run) in self.cnn.runs.iter().enumerate() {
            let again = self.cnn.runs[..i].iter().any(|other| other.recipe == run.recipe);
            check(!again, "cnn.runs", "names the same recipe twice")?;
        }
        let channels = data.most_channels();
        self.classifier.clone().for_images(data.side, channels, 2).validate()?;
        self.gan.clone().for_images(data.side, channels, 2).validate()?;
        for (i, run) in self.beside.iter().enumerate() {
            let again = self.beside[..i].iter().any(|other| other.recipe == run.recipe);
            check(!again, "beside", "names the same recipe twice")?;
        }
        for beside in self.besides()? {
            beside.gan.for_images(data.side, channels, 2).validate()?;
        }
        let plain = GenerateStage::default();
        check(self.generate.format == plain.format, "generate.format", "must be png: a study reads its images again")?;
        check(self.generate.prefix == plain.prefix, "generate.prefix", "must be synthetic_ in a study")?;
        check(!self.generate.scores, "generate.scores", "must be false: a study writes no manifest")?;
        check(self.generate.strips == 0, "generate.strips", "must be 0: a study makes images")?;
        Ok(self.evaluation().validate()?)
    }

    /// The precision that a device computes in by these settings.
    #[must_use]
    pub fn precision_on(&self, device: &Device) -> Precision {
        self.precision.unwrap_or_else(|| Precision::default_on(device)).on(device)
    }

    /// The settings of the evaluation, with the seed of this part and the coverage of the intervals.
    #[must_use]
    pub fn evaluation(&self) -> EvaluationConfig {
        let seed = derive_seed(self.seed, "evaluate");
        EvaluationConfig { seed, level: self.judge.level, ..self.evaluate.clone() }
    }
}

/// The text at a key, of the last layer that has one.
fn named<'a>(layers: &'a [Layer], key: &[&str]) -> Option<&'a str> {
    let at = |layer: &'a Layer| {
        let (last, tables) = key.split_last()?;
        let table = tables.iter().try_fold(&layer.table, |table, name| table.get(*name)?.as_table())?;
        table.get(*last)?.as_str()
    };
    layers.iter().rev().find_map(at)
}

/// The layer of the recipe that is named for `table`. The default recipe has none.
fn recipe(layers: &[Layer], table: &str, recipes: &'static [Recipe]) -> Result<Option<Layer>> {
    let Some(name) = named(layers, &[table, "recipe"]) else { return Ok(None) };
    // A word that is no recipe is an error of the layer that has it.
    let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) else { return Ok(None) };
    let layer = recipe.layer()?;
    Ok(Some(Layer { table: Table::from_iter([(table.to_owned(), Value::Table(layer.table))]), ..layer }))
}

/// An absolute path for one that is there; also behind a kind of images or features, as in `resnet:runs/quick`.
fn absolute(text: &str) -> String {
    let whole = |path: &str| -> Option<String> {
        let path = std::path::Path::new(path);
        path.exists().then(|| std::path::absolute(path).ok())??.into_os_string().into_string().ok()
    };
    let after_kind = || {
        let (kind, path) = text.split_once(':')?;
        Some(format!("{kind}:{}", whole(path)?))
    };
    whole(text).or_else(after_kind).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_somewhere_become_absolute() {
        let mut config = StudyConfig::default();
        config.data.path = Some("src".to_owned());
        config.inputs.features = ["pixels", "resnet:src", "resnet:nowhere"].map(str::to_owned).to_vec();
        config.inputs.judge = Some("src".into());
        config.data.table.file = Some("src".into());
        let here = std::path::absolute("src").unwrap();
        let found = config.absolute();
        assert_eq!(found.data.path.as_deref(), here.to_str());
        assert_eq!(found.inputs.judge.as_deref(), Some(here.as_path()));
        assert_eq!(found.data.table.file.as_deref(), Some(here.as_path()));
        let features = ["pixels".to_owned(), format!("resnet:{}", here.display()), "resnet:nowhere".to_owned()];
        assert_eq!((&found.inputs.features[..], found.absolute()), (&features[..], found.clone()));
    }
    use cellforge_settings::assignment;

    fn set(texts: &[&str], preset: Option<Preset>) -> Result<StudyConfig> {
        let layers: Vec<Layer> = texts.iter().map(|text| Layer::new("--set", assignment(text).unwrap())).collect();
        StudyConfig::layered(&layers, preset)
    }

    #[test]
    fn presets_are_valid_and_survive_toml() {
        for preset in Preset::ALL {
            let config = StudyConfig::preset(preset);
            config.validate().unwrap();
            assert_eq!(config.preset, preset);
            assert_eq!(StudyConfig::from_toml(&config.to_toml().unwrap(), None).unwrap(), config);
            assert!(preset.summary().ends_with('.'), "{preset}");
        }
    }

    #[test]
    fn a_file_overlays_the_preset_it_names() {
        let config = StudyConfig::from_toml("preset = \"smoke\"\n[gan]\niterations = 3\n", None).unwrap();
        let smoke = StudyConfig::preset(Preset::Smoke);
        assert_eq!(config.gan.iterations, 3);
        assert_eq!(config.gan.model.width, smoke.gan.model.width);
        let quick = set(&["preset=quick"], Some(Preset::Smoke)).unwrap();
        assert_eq!(quick, StudyConfig::preset(Preset::Quick));
        assert_eq!(StudyConfig::from_toml("", None).unwrap(), quick);
        assert!(set(&["preset=quik"], None).unwrap_err().to_string().contains("smoke, quick, paper, best"));
    }

    #[test]
    fn a_recipe_lies_below_everything_that_is_given() {
        let best = set(&["gan.recipe=best"], None).unwrap().gan;
        assert_eq!(best, GanTrainConfig::recipe("best").unwrap());
        let own = set(&["gan.recipe=best", "gan.r1=0"], None).unwrap().gan;
        assert_eq!(own, GanTrainConfig { r1: 0.0, ..best.clone() });
        // The preset's rate stands.
        let quick = set(&["gan.recipe=best"], Some(Preset::Quick)).unwrap().gan;
        assert_eq!((quick.lr, quick.batch, quick.r1), (4e-4, 16, best.r1));
        let cnn = set(&["classifier.recipe=cnn-1", "classifier.model.width=0.5"], None).unwrap().classifier;
        assert_eq!(cnn, ClassifierTrainConfig::recipe("cnn-1").unwrap().with_width(0.5));
        assert!(set(&["gan.recipe=bset"], None).unwrap_err().to_string().contains("study, best"));
    }

    #[test]
    fn every_setting_of_a_gan_can_be_set_in_a_study() {
        let text = "[gan]\nr1 = 1.0\njoint_update = true\nmodel.discriminator = 'residual'\nguard.limit = 7.0\naugment.translation = 0.25\n";
        let config = StudyConfig::from_toml(text, Some(Preset::Smoke)).unwrap();
        config.validate().unwrap();
        assert_eq!((config.gan.r1, config.gan.guard.limit, config.gan.augment.translation), (1.0, 7.0, 0.25));
    }

    #[test]
    fn unknown_and_old_settings_and_bad_values_are_refused() {
        let error = StudyConfig::from_toml("[gan]\nitterations = 3\n", None).unwrap_err().to_string();
        assert!(error.contains("gan.itterations") && error.contains("did you mean gan.iterations?"), "{error}");
        for (old, new) in
            [("[resnet]\nwidth = 0.5", "classifier.model.width"), ("[gan]\naverage = 0.9", "gan.ema_decay")]
        {
            let error = StudyConfig::from_toml(old, None).unwrap_err().to_string();
            assert!(error.contains(&format!("is of an earlier version: write {new}")), "{error}");
        }
        let flat = StudyConfig::from_toml("iterations = 100", None).unwrap_err().to_string();
        assert!(flat.contains("write gan.iterations"), "{flat}");
        let mut config = StudyConfig::default();
        config.data.side = 50.into();
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
    fn new_names_are_settings() {
        let keys: Vec<String> =
            cellforge_settings::list::<StudyConfig>().into_iter().map(|setting| setting.key).collect();
        for (old, new) in RENAMED {
            assert!(!keys.contains(&(*old).to_owned()), "{old} is a setting");
            assert!(new.contains(' ') || keys.contains(&(*new).to_owned()), "{old} became {new}, which is no setting");
        }
    }

    #[test]
    fn paper_is_the_study() {
        let mut paper = StudyConfig::preset(Preset::Paper);
        // A study measures it all, and its phantom is as large as the NIH set.
        paper.evaluate.measure = EvaluationConfig::default().measure;
        paper.data.phantom = PhantomStage::default();
        assert_eq!(paper, StudyConfig::default());
        assert_eq!((paper.gan.iterations, paper.classifier.epochs, paper.data.side), (15_000, 4, 64.into()));
    }
}
