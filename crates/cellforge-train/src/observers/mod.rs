//! What can watch a run. Each observer says in which [`Phase`](crate::Phase) of a step it is asked, so that they can be given in any order.

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
pub use early_stop::{EarlyStop, Patience};
pub use evaluate::Evaluate;
pub use grids::SampleGrids;
pub use jsonl::{JsonlLog, LogEvent, LogLine, read_log};
pub use monitor::{Judge, Monitor, MonitorConfig};
pub use progress::Progress;
pub use tensorboard::TensorBoard;
