//! The generator that is built in, as [`pack_generator`](crate::pack_generator) left it.

/// Its weights, in `f16`.
pub(crate) const WEIGHTS: &[u8] = include_bytes!("../builtin/weights.safetensors");
/// Everything else about it.
pub(crate) const STATE: &[u8] = include_bytes!("../builtin/state.json");

/// What the built-in generator was trained on, what its images are worth and what they must not be used for, in Markdown.
pub const DATASHEET: &str = include_str!("../builtin/DATASHEET.md");
