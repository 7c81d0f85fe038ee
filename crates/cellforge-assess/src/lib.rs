#![doc = include_str!("../README.md")]

pub mod audit;
mod charts;
pub mod copies;
mod error;
pub mod evaluation;
mod even;
pub mod files;
mod markdown;
mod network;
mod numeric;
pub mod panel;
pub mod plots;
mod progress;
pub mod reidentification;
pub mod report;
pub mod two_sample;
pub mod utility;
mod versions;

pub use audit::{Audit, AuditConfig};
pub use cellforge_train::Control;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, EvaluationConfig, evaluate};
pub use progress::ProgressBar;
pub use versions::{Versions, device_name};
