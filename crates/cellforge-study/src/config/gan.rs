//! The settings of the GANs and of the cells that they make.

use serde::{Deserialize, Serialize};

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

/// The synthetic cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateStage {
    /// Synthetic cells per class; 0 makes as many as the class has real cells to train on.
    pub per_class: usize,
    /// Redraw noise components beyond so many standard deviations, at least 0.01; none by default, as in the study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f64>,
}

impl Default for GenerateStage {
    fn default() -> Self {
        Self { per_class: 1_000, truncation: None }
    }
}
