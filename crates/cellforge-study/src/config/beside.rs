//! The settings of GANs that are trained beside those of a study.

use cellforge_assess::evaluation::Measure;
use cellforge_train::{GAN_RECIPES, GanTrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StudyConfig;
use crate::Result;

/// GANs of another recipe, which a study trains, judges and shows beside its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BesideRun {
    /// A recipe of GANs.
    #[schemars(extend("enum" = GAN_RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>()))]
    pub recipe: String,
    /// Iterations of each GAN.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub iterations: u64,
    /// Batch size.
    #[schemars(range(min = 1, max = 4096))]
    pub batch: usize,
    /// Width: factor on every filter count.
    #[schemars(range(max = 16.0), extend("exclusiveMinimum" = 0.0))]
    pub width: f64,
    /// Learning rate of Adam. Without it, the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: Option<f64>,
}

impl BesideRun {
    /// How its GANs are trained.
    ///
    /// # Errors
    /// If there is no such recipe.
    pub fn config(&self) -> Result<GanTrainConfig> {
        let mut config = GanTrainConfig::recipe(&self.recipe)?;
        config.iterations = self.iterations;
        config.batch = self.batch;
        config.model.width = self.width;
        config.lr = self.lr.unwrap_or(config.lr);
        Ok(config)
    }
}

impl StudyConfig {
    /// The settings by which each of `beside` is trained and judged: those of this study with other GANs, whose images are measured for
    /// fidelity alone, without pictures. One with the recipe of `gan` is left out: the study's own GANs have it.
    ///
    /// # Errors
    /// If a recipe is none.
    pub fn besides(&self) -> Result<Vec<Self>> {
        let others = self.beside.iter().filter(|run| run.recipe != self.gan.recipe);
        others
            .map(|run| {
                let mut config = Self { gan: run.config()?, beside: Vec::new(), ..self.clone() };
                config.evaluate.measure.retain(|measure| *measure == Measure::Fidelity);
                // Pictures of real images are of the study's own GANs alone.
                config.evaluate.copies.near = false;
                config.evaluate.privacy.pairs = 0;
                Ok(config)
            })
            .collect()
    }
}
