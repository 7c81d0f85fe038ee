#![doc = include_str!("../README.md")]

pub mod config;
mod error;
mod judge;
pub mod nih;
mod origin;
pub mod presets;
pub mod report;
pub mod results;
mod runner;
mod stages;
mod stamp;

pub use config::StudyConfig;
pub use error::{Error, Result};
pub use nih::{DOWNLOAD_NAME, download, is_nih, is_phantom, open_options};
pub use origin::Origin;
pub use presets::Preset;
pub use results::{Results, differences};
pub use runner::Control;
pub use stages::run;
pub use stamp::is_study;
