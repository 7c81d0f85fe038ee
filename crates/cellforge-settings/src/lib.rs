#![doc = include_str!("../README.md")]
//!
//! # How a struct becomes settings
//!
//! - The struct derives `Serialize`, `Deserialize` and [`JsonSchema`], has `#[serde(default, deny_unknown_fields)]`, and implements `Default`. Structs inside it are tables: the key of a field in them is dotted, as in `gan.augment.p`.
//! - The doc comment of a field is its meaning. The first paragraph is what a list shows.
//! - Ranges are `#[schemars(range(min = .., max = ..))]`, and `#[schemars(extend("exclusiveMinimum" = ..))]` or `exclusiveMaximum` for open ends.
//! - The range of the numbers in a list is `#[schemars(inner(range(..)))]`. A few numbers to choose from are `#[schemars(extend("enum" = [..]))]`.
//! - A whole number has both ends: one of the size of a typing error would otherwise be asked of memory.
//! - A field of the type [`ImageSize`] is a size for which networks are built.
//! - A field with `#[schemars(skip)]` is no setting but a fact of a run, such as the side of the images: files may not name it.

mod check;
mod error;
mod image_size;
mod layers;
mod list;

pub use check::check;
pub use error::Error;
pub use image_size::{CHANNELS, ImageSize, check_image};
pub use layers::{Layer, assemble, assignment, overlay, to_toml};
pub use list::{Kind, Range, Setting, list, markdown};
pub use schemars::{self, JsonSchema};

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A struct whose fields are settings: any that can be written, read and described, and has defaults.
pub trait Settings: serde::Serialize + serde::de::DeserializeOwned + Default + JsonSchema {}

impl<T: serde::Serialize + serde::de::DeserializeOwned + Default + JsonSchema> Settings for T {}

/// What settings used to be called, dotted, with what they are called now. The new name may be a sentence where there is no such setting any more.
/// A value of earlier versions is `KEY = VALUE`, as TOML has it, and its new name is a sentence. A key in the tables of a list has no number.
pub type Renamed = [(&'static str, &'static str)];
