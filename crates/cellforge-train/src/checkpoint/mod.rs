//! Checkpoints: a folder with `weights.safetensors`, `optimiser.safetensors` and `state.json`.
//!
//! A checkpoint is written under a temporary name, synced and renamed, and the one before it is removed only after
//! that: at any moment of a crash either `NAME` or `NAME.old` is whole.

mod files;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use cellforge_data::{MAX_TEXT_BYTES, private_folder, read_bounded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::files::{beside, sync_around, sync_folder, write_synced};
use self::state::parse_header;
use crate::{Error, Result, RunDir, Slot, Snapshot};

pub(crate) use self::files::{hex, remove};
pub use self::state::{Best, StartedFrom, State};
pub(crate) use self::state::{parse_state, read_state, state_json};

/// Version of the folder's layout and of `state.json`. Versions from 1 on are read; since 2, `state.json` holds its own sum.
pub const FORMAT_VERSION: u32 = 3;

/// The most bytes of a file of tensors, 16 GiB.
const MAX_TENSORS: u64 = 16 << 30;
/// The file of everything but the tensors.
const STATE: &str = "state.json";
/// The stem of the file of a network's weights; a GAN's are its generator's.
pub const WEIGHTS: &str = "weights";
/// The stem of the file of a GAN's discriminator.
pub const DISCRIMINATOR: &str = "discriminator";
/// The stem of the file of the generator's weights as they are trained, where [`WEIGHTS`] holds their average.
pub(crate) const TRAINED: &str = "generator";
/// The stem of the file of the optimizers' state. The spelling is part of the format.
pub const OPTIMIZER: &str = "optimiser";

/// A checkpoint on disk that was found whole: every file has the SHA-256 that `state.json` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// The checkpoint meant by `path`: in a run's folder the best one, else the last; else `path` itself, or the one before it if a
    /// crash left that. Changes nothing on disk.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] or [`Error::Damaged`].
    pub fn find(path: &Path) -> Result<Self> {
        let run = RunDir::new(path);
        for slot in [Slot::Best, Slot::Last] {
            if let Some(found) = Self::locate(&run.slot(slot))? {
                return Ok(found);
            }
        }
        let has_state = path.join(STATE).is_file();
        let found = if path.file_name().is_none() {
            if has_state && verify(path)? { Some(Self { path: path.to_path_buf() }) } else { None }
        } else if has_state || !path.exists() {
            // A folder that is there without a state is no checkpoint, and not a damaged one either.
            Self::locate(path)?
        } else {
            None
        };
        found.ok_or_else(|| Error::NoCheckpoint(path.to_path_buf()))
    }

    /// The checkpoint at `target`: `NAME` if it is whole, else `NAME.old` if that is; `None` if there is neither. Changes nothing on disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is something but nothing whole.
    pub fn locate(target: &Path) -> Result<Option<Self>> {
        let verdict = verify(target);
        if matches!(verdict, Ok(true)) {
            return Ok(Some(Self { path: target.to_path_buf() }));
        }
        let old = beside(target, "old");
        if matches!(verify(&old), Ok(true)) {
            return Ok(Some(Self { path: old }));
        }
        verdict.map(|_| None)
    }

    /// Whether `path` looks like a checkpoint's folder: it has a `state.json`, whole or not.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.join(STATE).is_file()
    }

    /// Writes a checkpoint to the folder `target`, so that a crash at any moment leaves this or the previous one whole. The folder around
    /// it must be there.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write<C: Serialize + Clone>(target: &Path, snapshot: &Snapshot, state: &State<C>) -> Result<Self> {
        let (old, temporary) = (beside(target, "old"), beside(target, "tmp"));
        remove(&temporary)?;
        // A folder that is gone is not made again: the run in it is gone too, and whoever removed it is to hear of it.
        private_folder().create(&temporary).map_err(Error::io(&temporary))?;
        let mut state = state.clone();
        state.files.clear();
        for (stem, tensors) in &snapshot.files {
            let file = file_name(stem);
            let bytes = safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?;
            write_synced(&temporary.join(&file), &bytes)?;
            state.files.insert(file, hex(&bytes));
        }
        write_synced(&temporary.join(STATE), &state_json(&temporary, &state)?)?;
        sync_folder(&temporary);

        if target.exists() {
            remove(&old)?;
            fs::rename(target, &old).map_err(Error::io(target))?;
        }
        fs::rename(&temporary, target).map_err(Error::io(target))?;
        sync_around(target);
        remove(&old)?;
        Ok(Self { path: target.to_path_buf() })
    }

    /// Makes `target` the whole checkpoint, after a crash in the middle of [`Checkpoint::write`], and removes what the crash left.
    /// Returns the checkpoint, if there is one.
    ///
    /// # Errors
    /// As [`Checkpoint::locate`], and [`Error::Io`].
    pub fn settle(target: &Path) -> Result<Option<Self>> {
        let (old, temporary) = (beside(target, "old"), beside(target, "tmp"));
        let found = Self::locate(target)?;
        if found.as_ref().is_some_and(|found| found.path == old) {
            remove(target)?;
            fs::rename(&old, target).map_err(Error::io(&old))?;
            sync_around(target);
        }
        remove(&old)?;
        remove(&temporary)?;
        Ok(found.map(|_| Self { path: target.to_path_buf() }))
    }

    /// True if anything of the checkpoint `target` is there, whole or not; an unfinished first one does not count.
    pub(crate) fn exists(target: &Path) -> bool {
        target.exists() || beside(target, "old").exists()
    }

    /// Removes the checkpoint `target` and whatever a crash left of it.
    pub(crate) fn delete(target: &Path) -> Result<()> {
        remove(target)?;
        remove(&beside(target, "old"))?;
        remove(&beside(target, "tmp"))
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its safetensors file `stem`, such as [`WEIGHTS`].
    #[must_use]
    pub fn file(&self, stem: &str) -> PathBuf {
        self.path.join(file_name(stem))
    }

    /// Reads `state.json`, of a checkpoint of this `kind`.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`], [`Error::Damaged`], or [`Error::Unsuitable`] for another kind or format version.
    pub fn state<C: DeserializeOwned>(&self, kind: &str) -> Result<State<C>> {
        read_state(&self.path, kind)
    }

    /// Reads one safetensors file (`stem` as in [`Snapshot::files`]), by tensor name.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the file, also where a tensor holds a NaN or an infinity.
    pub fn tensors(&self, stem: &str, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let file = file_name(stem);
        let bytes =
            read_bounded(&self.file(stem), MAX_TENSORS).map_err(|e| damaged(&self.path, format!("{file}: {e}")))?;
        parse_tensors(&self.path, &file, &bytes, device)
    }

    /// The checkpoint of a trained network that `path` means ([`Checkpoint::find`]), its state and its weights.
    pub(crate) fn load<C: DeserializeOwned>(
        path: &Path,
        kind: &str,
        device: &Device,
    ) -> Result<(Self, State<C>, BTreeMap<String, Tensor>)> {
        let found = Self::find(path)?;
        let state = found.state(kind)?;
        let weights = found.tensors(WEIGHTS, device)?;
        Ok((found, state, weights))
    }

    /// Reads every tensor file that `state` lists.
    ///
    /// # Errors
    /// As [`Checkpoint::tensors`].
    pub fn snapshot<C>(&self, state: &State<C>, device: &Device) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for file in state.files.keys() {
            let stem = file.trim_end_matches(".safetensors");
            snapshot.files.insert(stem.to_owned(), self.tensors(stem, device)?);
        }
        Ok(snapshot)
    }
}

/// Where a folder's `state.json` lies.
pub(crate) fn state_path(dir: &Path) -> PathBuf {
    dir.join(STATE)
}

/// The name of the file of the tensors `stem`.
pub(crate) fn file_name(stem: &str) -> String {
    format!("{stem}.safetensors")
}

/// `Ok(false)` if `dir` is not there, an error if it is there and not whole.
fn verify(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    let json = read_bounded(&dir.join(STATE), MAX_TEXT_BYTES).map_err(|e| damaged(dir, format!("{STATE}: {e}")))?;
    let header = parse_header(dir, &json)?;
    for (file, sum) in &header.files {
        let bytes = read_bounded(&dir.join(file), MAX_TENSORS).map_err(|e| damaged(dir, format!("{file}: {e}")))?;
        if hex(&bytes) != *sum {
            return Err(damaged(dir, format!("{file} is not the file that was written: its SHA-256 differs")));
        }
    }
    Ok(true)
}

/// The tensors in the bytes of a safetensors file; errors name `dir` and `file`.
pub(crate) fn parse_tensors(dir: &Path, file: &str, bytes: &[u8], device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let bad = |e: candle_core::Error| damaged(dir, format!("{file}: {e}"));
    let tensors = candle_core::safetensors::load_buffer(bytes, device).map_err(bad)?;
    for (name, tensor) in &tensors {
        if let Some(value) = not_finite(tensor).map_err(bad)? {
            return Err(damaged(dir, format!("{file}: {name} holds {value}, and a network's numbers are finite")));
        }
    }
    Ok(tensors.into_iter().collect())
}

/// The first number of a tensor that is not finite.
pub(crate) fn not_finite(tensor: &Tensor) -> candle_core::Result<Option<f64>> {
    let tensor = tensor.to_dtype(DType::F64)?;
    if tensor.sum_all()?.to_scalar::<f64>()?.is_finite() {
        return Ok(None);
    }
    Ok(tensor.flatten_all()?.to_vec1()?.into_iter().find(|value: &f64| !value.is_finite()))
}

pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
}
