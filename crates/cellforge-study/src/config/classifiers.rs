//! The settings of the networks that tell the classes apart.

use serde::{Deserialize, Serialize};

/// The small convolutional networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnStage {
    /// Multiplies every filter count; 1 is the study's network.
    pub width: f64,
    /// The networks to train; the best by validation accuracy is the study's "best CNN".
    pub runs: Vec<CnnRun>,
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

impl Default for ResnetStage {
    fn default() -> Self {
        Self { width: 1.0, epochs: 4, batch: 32, lr: 0.1 }
    }
}
