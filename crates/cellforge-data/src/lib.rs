//! Folders and zips of images: index, decode, cache, split, augment, batch, write, phantom, fetch.
//!
//! A source is a folder or a zip of images, which folders, a table or the files themselves sort into classes, or one file that holds
//! many. [`View::open`] reads it: see [`formats()`] and [`Layout`]. A [`View`] holds its images decoded to
//! one size and says which of them are meant; [`split`](split()) deals them out with no patient on two sides, and [`Batch`] hands them to
//! a model:
//!
//! ```
//! # #[cfg(feature = "tensor")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use candle_core::Device;
//! use cellforge_data::phantom::{self, PhantomConfig};
//! use cellforge_data::{Batch, GroupPattern, OpenOptions, Scale, SplitOptions, View, epoch_order, split};
//!
//! // Drawn images stand in for real ones here; any folder or zip with one folder of images per class will do.
//! let dir = tempfile::tempdir()?;
//! let zip = dir.path().join("images.zip");
//! phantom::write_zip(&PhantomConfig { size: 32.into(), images_per_class: 20, patients: 8, seed: 1 }, &zip)?;
//!
//! // Their names begin with the patient.
//! let mut options = OpenOptions::new(32, 3);
//! options.patterns = vec![GroupPattern::new("^(C[0-9]+)")?];
//! let all = View::open(&zip, &options)?;
//! assert_eq!(all.class_counts(), [20, 20]);
//! assert!(all.has_groups());
//!
//! let train = all.part(&split(&all, &SplitOptions::default())?.train);
//! let positions: Vec<usize> = (0..train.len()).collect();
//! let order = epoch_order(&positions, 1, 0);
//! let batch = Batch::gather(&train, &order[..4], Scale::SignedUnit, None, &Device::Cpu)?;
//! assert_eq!(batch.images.dims(), [4, 3, 32, 32]);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tensor"))]
//! # fn main() {}
//! ```
//!
//! # What goes wrong, and how it is told
//!
//! Every [`Error`] names the file or value at fault. Files that cannot be used end the work at the first of them in order of name;
//! with [`OpenOptions::skip_bad`] they are left out and listed in [`View::skipped`]. A zip that tries to lead outside itself, or to unpack
//! into far more than it holds, is refused either way: see [`source`] for the limits.
//!
//! # What is not here
//!
//! No models and no gradients: images are `u8` until [`Batch`], at the very edge, makes tensors of them. Without the feature `tensor`
//! there are none, and Candle is not built; without `fetch` there is no download, and without `progress` no bar is drawn.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
pub mod augment;
#[cfg(feature = "tensor")]
pub mod batch;
mod bounded;
mod cache;
pub mod decode;
mod duplicates;
pub mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
mod fit;
mod formats;
pub mod groups;
pub mod images;
pub mod index;
pub mod intensity;
pub mod layout;
mod left_out;
mod masks;
mod names;
pub mod options;
pub mod order;
pub mod phantom;
pub mod prefetch;
mod progress;
mod rng;
pub mod source;
pub mod split;
mod stacks;
mod strata;
mod table;
mod text;
pub mod view;
#[cfg(feature = "candle-datasets")]
pub mod vision;
mod writer;
mod zip_file;

pub use atomic::{
    Readers, is_unfinished, make_private, make_private_folder, private_file, private_folder, remove_unfinished,
    write_atomic, write_shared,
};
pub use augment::Augment;
#[cfg(feature = "tensor")]
pub use batch::{Batch, Scale};
pub use bounded::{MAX_TEXT_BYTES, read_bounded};
pub use cache::cached_images;
pub use cellforge_settings::ImageSize;
pub use duplicates::{Duplicates, TwinCounts};
pub use error::{Error, Result};
pub use fit::{Fit, shape_factor};
pub use formats::{MAX_FRAMES, MAX_STACK_BYTES, formats};
pub use groups::{GroupPattern, Groups};
pub use images::{read_class, sample_grid, save_grid};
pub use index::{Entry, Index, Skipped};
pub use intensity::{Intensities, IntensityRule};
pub use layout::{Layout, Level};
pub use left_out::LeftOut;
pub use masks::Masks;
pub use names::{counted, derive_seed, folder_name, folder_names, same_name, shown_path};
pub use options::OpenOptions;
pub use order::{balanced_draw, epoch_order, replacement_draw};
pub use prefetch::{Prefetch, prefetch};
pub use progress::Progress;
pub use source::Source;
pub use split::{
    Split, SplitOptions, SplitPart, SplitRule, k_fold, read_manifest, remove_folders, split, write_folders,
    write_manifest,
};
pub use stacks::{Slices, Stacks};
pub use strata::read_strata;
pub use table::Table;
pub use view::{Facts, Original, SingleClass, View, ViewParts};
pub use writer::{ImageFormat, ImageWriter, WriteOptions};
