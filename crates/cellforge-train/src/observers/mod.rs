//! What can watch a run. Give evaluations and sample grids before the logs that record them, and checkpoints last.

mod checkpoints;
mod early_stop;
mod evaluate;
mod grids;
mod jsonl;
mod monitor;
mod progress;
mod tensorboard;
mod tfrecord;

pub(crate) use checkpoints::check_finite;
pub use checkpoints::{Checkpoints, Criterion};
pub use early_stop::EarlyStop;
pub use evaluate::Evaluate;
pub use grids::SampleGrids;
pub use grids::file_name as grid_file_name;
pub use jsonl::{JsonlLog, LogLine, read_log};
pub use monitor::{Judge, Monitor, MonitorConfig};
pub use progress::Progress;
pub use tensorboard::TensorBoard;
