//! The GAN that is built in, as [`pack_gan`](crate::pack_gan) left it.

use crate::packed::Packed;

/// The GAN. Its weights are in `f16`. The discriminator was trained against the finished generator.
pub(crate) const BUILTIN: Packed<'static> = Packed {
    weights: include_bytes!("../builtin/weights.safetensors"),
    discriminator: Some(include_bytes!("../builtin/discriminator.safetensors")),
    state: include_bytes!("../builtin/state.json"),
};

/// What the built-in generator was trained on, what its images are worth and what they must not be used for, in Markdown.
pub const DATASHEET: &str = include_str!("../builtin/DATASHEET.md");
