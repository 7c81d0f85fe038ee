#![doc = include_str!("../README.md")]

mod bar;
mod charts;
mod error;
pub mod evaluation;
pub mod files;
pub mod plots;
pub mod report;
pub mod utility;
mod versions;

pub use bar::Bar;
pub use cellforge_train::Control;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, EvaluationConfig, evaluate};
pub use versions::{Versions, device_name};
