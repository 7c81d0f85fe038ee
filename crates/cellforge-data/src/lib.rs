//! Folders and zips of images: index, decode, cache, split, augment, batch, phantom, fetch.
//!
//! A source is a folder or a zip with one folder of images per class. [`Index`] lists it, [`CellSet`] holds its images decoded to
//! one size, [`split`](split()) deals them out with no patient on two sides, and [`Batch`] hands them to a model:
//!
//! ```
//! use candle_core::Device;
//! use cellforge_data::phantom::{self, PhantomConfig};
//! use cellforge_data::{Batch, CellSet, DecodeOptions, IndexOptions, Scale, SplitBy, SplitOptions, epoch_order, split};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Drawn images stand in for real ones here; any folder or zip with one folder of images per class will do.
//! let dir = tempfile::tempdir()?;
//! let zip = dir.path().join("images.zip");
//! phantom::write_zip(&PhantomConfig { side: 32, cells_per_class: 20, patients: 8, seed: 1 }, &zip)?;
//!
//! let set = CellSet::open(&zip, &IndexOptions::default(), &DecodeOptions { side: 32, ..DecodeOptions::default() })?;
//! assert_eq!(set.classes, ["Parasitized", "Uninfected"]);
//!
//! let split = split(&set, &SplitOptions { by: SplitBy::Group, ..SplitOptions::default() })?;
//! let order = epoch_order(&split.train, 1, 0);
//! let batch = Batch::gather(&set, &order[..4], Scale::SignedUnit, None, &Device::Cpu)?;
//! assert_eq!(batch.images.dims(), [4, 3, 32, 32]);
//! # Ok(())
//! # }
//! ```
//!
//! # What goes wrong, and how it is told
//!
//! Every [`Error`] names the file or value at fault. Files that cannot be used end the work at the first of them in order of name;
//! with `skip_bad` in [`IndexOptions`] and [`DecodeOptions`] they are left out and listed in [`CellSet::skipped`]. A zip that
//! tries to lead outside itself, or to unpack into far more than it holds, is refused either way: see [`source`] for the limits.
//!
//! # What is not here
//!
//! No models and no gradients: images are `u8` until [`Batch`], at the very edge, makes tensors of them.

mod atomic;
pub mod augment;
pub mod batch;
mod cache;
pub mod decode;
pub mod error;
pub mod fetch;
pub mod groups;
pub mod images;
pub mod index;
mod names;
pub mod phantom;
pub mod prefetch;
mod rng;
pub mod source;
pub mod split;
#[cfg(feature = "candle-datasets")]
pub mod vision;

pub use atomic::{remove_unfinished, write_atomic};
pub use augment::Augment;
pub use batch::{Batch, Scale, balanced_draw, epoch_order, replacement_draw};
pub use decode::DecodeOptions;
pub use error::{Error, Result};
pub use groups::Groups;
pub use images::CellSet;
pub use index::{Entry, Index, IndexOptions, Skipped};
pub use names::{derive_seed, folder_name, folder_names};
pub use prefetch::{Prefetch, prefetch};
pub use source::Source;
pub use split::{Split, SplitBy, SplitOptions, k_fold, read_manifest, split, write_manifest};
