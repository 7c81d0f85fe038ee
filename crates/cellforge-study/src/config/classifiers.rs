//! The settings of the study's small networks.

use cellforge_train::{CLASSIFIER_RECIPES, ClassifierTrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The small convolutional networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CnnStage {
    /// Width: factor on every filter count. 1 is the study's network.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Small networks to train, each a recipe and a number of epochs.
    ///
    /// The one of the best validation accuracy is the study's "best CNN".
    pub runs: Vec<CnnRun>,
}

impl Default for CnnStage {
    fn default() -> Self {
        let run = |recipe: &str, epochs| CnnRun { recipe: recipe.to_owned(), epochs };
        Self {
            width: 1.0,
            runs: vec![run("cnn-paper-1", 30), run("cnn-paper-2", 100), run("cnn-paper-3", 50), run("cnn-1", 30)],
        }
    }
}

/// One training of a small network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CnnRun {
    /// A recipe of small networks: `cnn-paper-1` to `-3` as published, `cnn-1` to `-3` with a learning rate that learns.
    #[schemars(extend("enum" = small()))]
    pub recipe: String,
    /// Epochs: passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u64,
}

/// The recipes of small networks.
fn small() -> Vec<&'static str> {
    CLASSIFIER_RECIPES.iter().map(|recipe| recipe.name).filter(|name| name.starts_with("cnn-")).collect()
}

impl CnnRun {
    /// The name of the run and of its folder, for example `paper-1`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.recipe.trim_start_matches("cnn-");
        if name.starts_with(|c: char| c.is_ascii_digit()) { format!("tuned-{name}") } else { name.to_owned() }
    }

    /// Its title for people.
    #[must_use]
    pub fn title(&self) -> String {
        let number = self.recipe.rsplit('-').next().unwrap_or_default();
        let how = if self.recipe.starts_with("cnn-paper-") { "as published" } else { "sane learning rate" };
        format!("CNN Model {number}, {how}")
    }

    /// How it is trained, at this width.
    ///
    /// # Errors
    /// If there is no such recipe.
    pub fn config(&self, width: f64) -> Result<ClassifierTrainConfig> {
        let recipe = ClassifierTrainConfig::recipe(&self.recipe)?;
        Ok(ClassifierTrainConfig { epochs: self.epochs, ..recipe }.with_width(width))
    }
}
