//! How ranks begin alike.

use candle_core::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Ranks;
use crate::{Error, Result, Snapshot, Step};

/// Gives every rank the weights and the optimizer of rank 0, and what it says of its run (`own`, which only rank 0 has to have). So no other
/// rank has to see the folder of the run.
pub(crate) fn begin_together<S: Step, T: Serialize + DeserializeOwned>(
    ranks: &Ranks,
    step: &mut S,
    own: T,
    device: &Device,
) -> Result<T> {
    if ranks.is_alone() {
        return Ok(own);
    }
    let unreadable = |error: serde_json::Error| Error::Collective(format!("what rank 0 said cannot be read: {error}"));
    let snapshot = if ranks.is_root() { step.snapshot()? } else { Snapshot::default() };
    let said = (own, snapshot.files.keys().collect::<Vec<_>>());
    let said = ranks.share(serde_json::to_vec(&said).map_err(unreadable)?)?;
    let (own, stems): (T, Vec<String>) = serde_json::from_slice(&said).map_err(unreadable)?;
    let mut shared = Snapshot::default();
    for stem in stems {
        let bytes = match snapshot.files.get(&stem) {
            Some(tensors) => safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?,
            None => Vec::new(),
        };
        let bytes = ranks.share(bytes)?;
        shared.files.insert(stem, candle_core::safetensors::load_buffer(&bytes, device)?.into_iter().collect());
    }
    if !ranks.is_root() {
        step.restore(&shared)?;
    }
    Ok(own)
}
