//! A generator alone, in half precision: what is given away or built into a program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cellforge_data::write_atomic;
use cellforge_gan::Generator;
use cellforge_nn::Precision;

use crate::checkpoint::{self, Checkpoint, FORMAT_VERSION, WEIGHTS};
use crate::gan::KIND;
use crate::trained_gan::network;
use crate::{Error, GanState, Position, Result, RunDir};

/// Packs the generator of the checkpoint folder, or run's folder, `dir` into the folder `out`, and returns what its `state.json` says.
///
/// `out` gets `weights.safetensors` with the weights in `f16`, half the size, and `state.json` with the configuration, classes, seed,
/// iterations, fingerprint of the training images and the SHA-256 of the weights. The sums of the log, the discriminator and the optimizer stay
/// behind, so that it can be generated from ([`TrainedGan`](crate::TrainedGan)) but not trained on.
/// `f16` keeps 11 binary digits of a weight: images differ from those of the checkpoint by a grey level or a few. The files are the same bytes
/// whenever the same checkpoint is packed. Other files in `out` are left alone, and a generator that was packed there before is replaced.
///
/// # Errors
/// As [`TrainedGan::load`](crate::TrainedGan::load); [`Error::Unsuitable`] if a weight is not finite or beyond the range of `f16`, 65504;
/// [`Error::Occupied`] if `out` holds a run or a checkpoint that is more than a packed generator.
pub fn pack_generator(dir: &Path, out: &Path) -> Result<GanState> {
    let found = Checkpoint::find(dir)?;
    let state: GanState = found.state(KIND)?;
    let all = found.tensors(WEIGHTS, &Device::Cpu)?;
    network(&state, Precision::F32, all.clone(), &Device::Cpu, Generator::new)?;
    let mut halves = BTreeMap::new();
    // PyTorch counts batches in its running statistics, and nothing here needs the count.
    for (name, weights) in all.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
        let half = half(&weights)?.map_err(|value| {
            let reason = format!("{name} holds {value}, and packed weights are finite numbers from -65504 to 65504");
            Error::Unsuitable { path: found.path().to_path_buf(), reason }
        })?;
        halves.insert(name, half);
    }
    let weights = safetensors::serialize(&halves, None).map_err(candle_core::Error::from)?;

    check_free(out)?;
    let position = Position { epoch_sums: BTreeMap::new(), ..state.position.clone() };
    let file = checkpoint::file_name(WEIGHTS);
    let files = BTreeMap::from([(file.clone(), checkpoint::hex(&weights))]);
    let state = GanState { format_version: FORMAT_VERSION, position, best: None, files, ..state };
    let json = checkpoint::state_json(out, &state)?;
    fs::create_dir_all(out).map_err(Error::io(out))?;
    // A crash between the two leaves a state whose sum is not that of the weights, which is an error when they are loaded.
    write_atomic(&out.join(file), &weights)?;
    write_atomic(&checkpoint::state_path(out), &json)?;
    Ok(state)
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
        Ok(state) => state.files.keys().any(|file| *file != checkpoint::file_name(WEIGHTS)),
        Err(Error::NoCheckpoint(_)) => false,
        Err(_) => true,
    };
    if RunDir::new(out).holds_run() || holds_more() { Err(Error::Occupied(out.to_path_buf())) } else { Ok(()) }
}
