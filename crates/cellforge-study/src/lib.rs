#![doc = include_str!("../README.md")]

mod bar;
mod charts;
pub mod config;
mod error;
pub mod evaluation;
mod files;
mod judge;
mod plots;
pub mod presets;
pub mod report;
pub mod results;
mod runner;
mod samples;
mod source;
mod stages;
mod stamp;
pub mod utility;

pub use config::StudyConfig;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, EvaluationConfig, evaluate};
pub use files::{derive_seed, folder_name, shell_word};
pub use presets::Preset;
pub use results::{Results, differences};
pub use runner::Control;
pub use samples::{SampleWriter, read_samples, save_grid};
pub use source::{SourceOptions, is_nih, is_phantom, open_cells, open_unlabelled, resized};
pub use stages::{classifier_config, run, split_by, split_cells};
