//! Folders and zips of cell images: index, decode, cache, split, augment, batch, phantom, fetch.
pub mod augment;
pub mod batch;
mod cache;
pub mod cells;
pub mod decode;
pub mod error;
pub mod fetch;
pub mod groups;
pub mod index;
pub mod phantom;
pub mod prefetch;
mod rng;
pub mod source;
pub mod split;
#[cfg(feature = "candle-datasets")]
pub mod vision;

pub use augment::*;
pub use batch::*;
pub use cells::CellSet;
pub use decode::DecodeOptions;
pub use error::{Error, Result};
pub use groups::Groups;
pub use index::{Entry, Index, IndexOptions, Skipped};
pub use prefetch::*;
pub use source::Source;
pub use split::{Split, SplitBy, SplitOptions, k_fold, read_manifest, split, write_manifest};
