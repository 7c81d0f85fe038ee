//! A checkpoint whose files are in memory.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::checkpoint::{self, DISCRIMINATOR, WEIGHTS};
use crate::gan::KIND;
use crate::{GanState, Result};

/// The bytes of a packed GAN's files.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// `weights.safetensors`
    pub(crate) weights: &'a [u8],
    /// `discriminator.safetensors`, where it was packed too.
    pub(crate) discriminator: Option<&'a [u8]>,
    /// `state.json`
    pub(crate) state: &'a [u8],
}

/// What errors call where they lie.
const PLACE: &str = "in memory";

/// What they hold: the state, the generator's tensors and the discriminator's.
pub(crate) type Unpacked = (GanState, BTreeMap<String, Tensor>, Option<BTreeMap<String, Tensor>>);

impl Packed<'_> {
    /// Reads the state alone.
    pub(crate) fn state(&self) -> Result<GanState> {
        checkpoint::parse_state(Path::new(PLACE), KIND, self.state)
    }

    /// Reads them, and checks that they belong together.
    pub(crate) fn read(&self, device: &Device) -> Result<Unpacked> {
        let (path, state) = (Path::new(PLACE), self.state()?);
        let tensors = |stem: &str, bytes: &[u8]| {
            let file = checkpoint::file_name(stem);
            if state.files.get(&file).is_some_and(|sum| checkpoint::hex(bytes) != *sum) {
                return Err(checkpoint::damaged(path, format!("the SHA-256 of {file} is not the one in its state")));
            }
            checkpoint::parse_tensors(path, &file, bytes, device)
        };
        let weights = tensors(WEIGHTS, self.weights)?;
        let discriminator = self.discriminator.map(|bytes| tensors(DISCRIMINATOR, bytes)).transpose()?;
        Ok((state, weights, discriminator))
    }
}
