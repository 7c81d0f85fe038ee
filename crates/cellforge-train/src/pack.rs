//! A GAN without what it takes to go on, in half precision: what is given away or built into a program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cellforge_data::write_shared;
use cellforge_gan::{Discriminator, Generator};
use cellforge_nn::Precision;

use crate::checkpoint::{self, Checkpoint, DISCRIMINATOR, FORMAT_VERSION, WEIGHTS};
use crate::gan::KIND;
use crate::trained_gan::network;
use crate::{Error, GanState, Position, Result, RunDir};

/// What may lie in a packed GAN's folder.
const PACKED: [&str; 2] = [WEIGHTS, DISCRIMINATOR];

/// Packs the GAN of the checkpoint folder, or run's folder, `dir` into the folder `out`, and returns what its `state.json` says.
///
/// `out` gets `weights.safetensors` with the generator's weights in `f16`, half the size, and `state.json` with the configuration, classes,
/// seed, iterations, fingerprint of the training images and the SHA-256 of the weights. With `discriminator` it gets
/// `discriminator.safetensors` too, so that images can be chosen by its score and other GANs can start from both networks. It has seen the
/// training images themselves, and tells more of them than the generator does. The sums of the log and the optimizer stay behind.
///
/// `f16` keeps 11 binary digits of a weight: images differ from those of the checkpoint by a grey level or a few. The files are the same bytes
/// whenever the same checkpoint is packed. Which images it was trained on is not in them, and of a start on another disk only the last name. Other files in `out` are left alone, and a GAN that was packed there before is replaced.
///
/// # Errors
/// As [`TrainedGan::load`](crate::TrainedGan::load); [`Error::Unsuitable`] if a weight is not finite or beyond the range of `f16`, 65504, or
/// if there is no discriminator; [`Error::Occupied`] if `out` holds a run or a checkpoint that is more than a packed GAN.
pub fn pack_gan(dir: &Path, out: &Path, discriminator: bool) -> Result<GanState> {
    let found = Checkpoint::find(dir)?;
    let state: GanState = found.state(KIND)?;
    let read = |stem| found.tensors(stem, &Device::Cpu);
    let weights = read(WEIGHTS)?;
    network(&state, Precision::F32, weights.clone(), &Device::Cpu, Generator::new)?;
    let mut packed = BTreeMap::from([(WEIGHTS, halves(&found, weights)?)]);
    if discriminator {
        if !state.may_have(DISCRIMINATOR) {
            let reason = "it has no discriminator to pack: it was packed without".to_owned();
            return Err(Error::Unsuitable { path: found.path().to_path_buf(), reason });
        }
        let weights = read(DISCRIMINATOR)?;
        network(&state, Precision::F32, weights.clone(), &Device::Cpu, Discriminator::new)?;
        packed.insert(DISCRIMINATOR, halves(&found, weights)?);
    }

    check_free(out)?;
    let position = Position { epoch_sums: BTreeMap::new(), ..state.position.clone() };
    let files = packed.iter().map(|(stem, bytes)| (checkpoint::file_name(stem), checkpoint::hex(bytes))).collect();
    let mut state = GanState { format_version: FORMAT_VERSION, position, best: None, files, seen: None, ..state };
    // Where a folder lay on a machine is nobody's business.
    let name =
        |from: &String| Path::new(from).file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    state.config.from = state.config.from.as_ref().map(name);
    let json = checkpoint::state_json(out, &state)?;
    fs::create_dir_all(out).map_err(Error::io(out))?;
    // A crash between the files leaves a state whose sums are not those of the weights, which is an error when they are loaded.
    for (stem, bytes) in &packed {
        write_shared(&out.join(checkpoint::file_name(stem)), bytes)?;
    }
    write_shared(&checkpoint::state_path(out), &json)?;
    if !discriminator {
        checkpoint::remove(&out.join(checkpoint::file_name(DISCRIMINATOR)))?;
    }
    Ok(state)
}

/// The bytes of a file of these weights in `f16`.
fn halves(found: &Checkpoint, weights: BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut halves = BTreeMap::new();
    // PyTorch counts batches in its running statistics, and nothing here needs the count.
    for (name, weights) in weights.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
        let half = half(&weights)?.map_err(|value| {
            let reason = format!("{name} holds {value}, and packed weights are finite numbers from -65504 to 65504");
            Error::Unsuitable { path: found.path().to_path_buf(), reason }
        })?;
        halves.insert(name, half);
    }
    Ok(safetensors::serialize(&halves, None).map_err(candle_core::Error::from)?)
}

/// The weights in `f16`, or the first that `f16` cannot hold.
fn half(weights: &Tensor) -> Result<std::result::Result<Tensor, f32>> {
    let half = weights.to_dtype(DType::F16)?;
    let back = half.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(match back.iter().position(|value| !value.is_finite()) {
        None => Ok(half),
        Some(at) => Err(weights.flatten_all()?.to_vec1::<f32>()?[at]),
    })
}

/// Fails if there is anything in `out` that packing would spoil.
fn check_free(out: &Path) -> Result<()> {
    let holds_more = || match checkpoint::read_state::<serde_json::Value>(out, KIND) {
        Ok(state) => state.files.keys().any(|file| PACKED.iter().all(|stem| *file != checkpoint::file_name(stem))),
        Err(Error::NoCheckpoint(_)) => false,
        Err(_) => true,
    };
    if RunDir::new(out).holds_run() || holds_more() { Err(Error::Occupied(out.to_path_buf())) } else { Ok(()) }
}
