//! Checkpoints: a folder with `weights.safetensors`, `optimiser.safetensors` and `state.json`.
//!
//! A checkpoint is written under a temporary name, synced and renamed, and the one before it is removed only after
//! that: at any moment of a crash either `NAME` or `NAME.old` is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, GuardState, Position, Result, Snapshot};

/// Version of the folder's layout and of `state.json`. Versions from 1 on are read; since 2, `state.json` holds its own sum.
pub const FORMAT_VERSION: u32 = 2;

pub(crate) const STATE: &str = "state.json";

/// `state.json`: everything about a run but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State<C> {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// `gan` or `classifier`.
    pub kind: String,
    /// The seed everything random in the run comes from.
    pub seed: u64,
    /// Updates and epochs done.
    #[serde(flatten)]
    pub position: Position,
    /// The best figure so far, and when it was reached: a classifier's highest validation accuracy, a monitored GAN's lowest `fd`.
    pub best: Option<Best>,
    /// Class names in label order; for a GAN the one class it was trained on.
    pub classes: Vec<String>,
    /// Fingerprint of the images that are trained on and of their choice.
    pub data: String,
    /// Fingerprint of the classifier and the validation images that a GAN is judged by while it trains, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// What a GAN's guard remembers.
    #[serde(default, skip_serializing_if = "GuardState::is_new")]
    pub guard: GuardState,
    /// The run's whole configuration.
    pub config: C,
    /// SHA-256 of each safetensors file, by file name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The best moment so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The figure by which moments are compared.
    pub value: f32,
    /// Whole epochs done then; 0 where a run has no epochs.
    pub epoch: u64,
    /// Updates done then; 0 in checkpoints that were written before this was recorded.
    #[serde(default)]
    pub iteration: u64,
}

/// Writes `parent/name` so that a crash at any moment leaves this or the previous checkpoint whole.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write<C: Serialize + Clone>(parent: &Path, name: &str, snapshot: &Snapshot, state: &State<C>) -> Result<()> {
    let [target, old, temporary] = names(parent, name);
    remove(&temporary)?;
    // A folder that is gone is not made again: the run in it is gone too, and whoever removed it is to hear of it.
    fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
    let mut state = state.clone();
    state.files.clear();
    for (stem, tensors) in &snapshot.files {
        let file = format!("{stem}.safetensors");
        let bytes = safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?;
        write_synced(&temporary.join(&file), &bytes)?;
        state.files.insert(file, hex(&bytes));
    }
    write_synced(&temporary.join(STATE), &state_json(&temporary, &state)?)?;
    sync_folder(&temporary);

    if target.exists() {
        remove(&old)?;
        fs::rename(&target, &old).map_err(Error::io(&target))?;
    }
    fs::rename(&temporary, &target).map_err(Error::io(&target))?;
    sync_folder(parent);
    remove(&old)
}

/// The folder of checkpoint `name` under `parent`: `NAME` if it is whole, else `NAME.old` if that is; `None` if there
/// is neither. Changes nothing on disk.
///
/// # Errors
/// [`Error::Damaged`] if there is something but nothing whole.
pub fn locate(parent: &Path, name: &str) -> Result<Option<PathBuf>> {
    let [target, old, _] = names(parent, name);
    let verdict = verify(&target);
    if matches!(verdict, Ok(true)) {
        return Ok(Some(target));
    }
    if matches!(verify(&old), Ok(true)) {
        return Ok(Some(old));
    }
    verdict.map(|_| None)
}

/// Makes `NAME` the whole checkpoint, after a crash in the middle of [`write()`], and removes what the crash left.
/// Returns whether there is a checkpoint.
///
/// # Errors
/// As [`locate`], and [`Error::Io`].
pub fn settle(parent: &Path, name: &str) -> Result<bool> {
    let [target, old, temporary] = names(parent, name);
    let found = locate(parent, name)?;
    if found.as_ref() == Some(&old) {
        remove(&target)?;
        fs::rename(&old, &target).map_err(Error::io(&old))?;
        sync_folder(parent);
    }
    remove(&old)?;
    remove(&temporary)?;
    Ok(found.is_some())
}

/// True if anything of checkpoint `name` is under `parent`, whole or not; an unfinished first one does not count.
pub(crate) fn exists(parent: &Path, name: &str) -> bool {
    let [target, old, _] = names(parent, name);
    target.exists() || old.exists()
}

/// Removes checkpoint `name` and whatever a crash left of it.
pub(crate) fn delete(parent: &Path, name: &str) -> Result<()> {
    names(parent, name).iter().try_for_each(|path| remove(path))
}

/// Reads `state.json` of the checkpoint folder `dir`.
///
/// # Errors
/// [`Error::NoCheckpoint`], [`Error::Damaged`], or [`Error::Unsuitable`] for another kind or format version.
pub fn read_state<C: DeserializeOwned>(dir: &Path, kind: &str) -> Result<State<C>> {
    let json = fs::read(dir.join(STATE)).map_err(|_| Error::NoCheckpoint(dir.to_path_buf()))?;
    parse_state(dir, kind, &json)
}

/// As [`read_state`], of the bytes of a `state.json`; errors name `dir`.
pub(crate) fn parse_state<C: DeserializeOwned>(dir: &Path, kind: &str, json: &[u8]) -> Result<State<C>> {
    // The header alone is read first, because another version or kind need not have our fields.
    let header = parse_header(dir, json)?;
    let unsuitable = |reason| Error::Unsuitable { path: dir.to_path_buf(), reason };
    if !(1..=FORMAT_VERSION).contains(&header.format_version) {
        let version = header.format_version;
        return Err(unsuitable(format!(
            "it has format version {version}, and this program reads versions 1 to {FORMAT_VERSION}: use the program that wrote it, \
             or a newer one"
        )));
    }
    if header.kind != kind {
        return Err(unsuitable(format!("it is of a {}, expected one of a {kind}", header.kind)));
    }
    serde_json::from_slice(json).map_err(|e| damaged(dir, e))
}

/// The bytes of `state.json`. Its last field, `sha256`, is the sum of the text without these 64 digits.
pub(crate) fn state_json<C: Serialize>(dir: &Path, state: &State<C>) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Sealed<'a, C> {
        #[serde(flatten)]
        state: &'a State<C>,
        sha256: &'static str,
    }
    let mut json = serde_json::to_vec_pretty(&Sealed { state, sha256: "" }).map_err(|e| damaged(dir, e))?;
    json.push(b'\n');
    let (at, sum) = (json.len() - SEAL_END.len(), hex(&json));
    json.splice(at..at, sum.bytes());
    Ok(json)
}

/// What follows the digits of the sum in `state.json`.
const SEAL_END: &str = "\"\n}\n";

/// Whether `json` is as [`state_json`] wrote it.
fn is_sealed(json: &[u8]) -> bool {
    let Some(at) = json.len().checked_sub(SEAL_END.len() + 64) else { return false };
    let (sum, end) = json[at..].split_at(64);
    end == SEAL_END.as_bytes() && sum == hex(&[&json[..at], end].concat()).as_bytes()
}

/// The header of a `state.json`, whose sum is checked if it is of a version of ours that has one.
fn parse_header(dir: &Path, json: &[u8]) -> Result<Header> {
    let header: Header = serde_json::from_slice(json).map_err(|e| damaged(dir, format!("{STATE}: {e}")))?;
    if (2..=FORMAT_VERSION).contains(&header.format_version) && !is_sealed(json) {
        return Err(damaged(dir, format!("{STATE} is not the file that was written: its SHA-256 differs")));
    }
    // Nothing outside the folder is read because a state says so.
    match header.files.keys().find(|file| Path::new(file).file_name() != Some(file.as_ref())) {
        Some(file) => Err(damaged(dir, format!("{STATE} lists {file:?}, which is no name of a file"))),
        None => Ok(header),
    }
}

/// Reads one safetensors file (`stem` as in [`Snapshot::files`]) of the checkpoint folder `dir`.
///
/// # Errors
/// [`Error::Damaged`] naming the file, also where a tensor holds a NaN or an infinity.
pub fn read_tensors(dir: &Path, stem: &str, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let file = format!("{stem}.safetensors");
    let bytes = fs::read(dir.join(&file)).map_err(|e| damaged(dir, format!("{file}: {e}")))?;
    parse_tensors(dir, &file, &bytes, device)
}

/// As [`read_tensors`], of the bytes of a safetensors file; errors name `dir` and `file`.
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
fn not_finite(tensor: &Tensor) -> candle_core::Result<Option<f64>> {
    let tensor = tensor.to_dtype(DType::F64)?;
    if tensor.sum_all()?.to_scalar::<f64>()?.is_finite() {
        return Ok(None);
    }
    Ok(tensor.flatten_all()?.to_vec1()?.into_iter().find(|value: &f64| !value.is_finite()))
}

/// Reads every tensor file that `state` lists.
///
/// # Errors
/// As [`read_tensors`].
pub fn read_snapshot<C>(dir: &Path, state: &State<C>, device: &Device) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for file in state.files.keys() {
        let stem = file.trim_end_matches(".safetensors");
        snapshot.files.insert(stem.to_owned(), read_tensors(dir, stem, device)?);
    }
    Ok(snapshot)
}

/// The checkpoint folder meant by `path`: the first whole one of `names` in it, if it is a run's folder, else `path`
/// itself, or the one before it if a crash left that.
///
/// # Errors
/// [`Error::NoCheckpoint`] or [`Error::Damaged`].
pub(crate) fn find(path: &Path, names: &[&str]) -> Result<PathBuf> {
    for name in names {
        if let Some(found) = locate(path, name)? {
            return Ok(found);
        }
    }
    let has_state = path.join(STATE).is_file();
    let found = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        // A folder that is there without a state is no checkpoint, and not a damaged one either.
        (Some(parent), Some(name)) if has_state || !path.exists() => locate(parent, name)?,
        _ if has_state => verify(path)?.then(|| path.to_path_buf()),
        _ => None,
    };
    found.ok_or_else(|| Error::NoCheckpoint(path.to_path_buf()))
}

#[derive(Deserialize)]
struct Header {
    format_version: u32,
    kind: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// `Ok(false)` if `dir` is not there, an error if it is there and not whole.
fn verify(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    let json = fs::read(dir.join(STATE)).map_err(|e| damaged(dir, format!("{STATE}: {e}")))?;
    let header = parse_header(dir, &json)?;
    for (file, sum) in &header.files {
        let bytes = fs::read(dir.join(file)).map_err(|e| damaged(dir, format!("{file}: {e}")))?;
        if hex(&bytes) != *sum {
            return Err(damaged(dir, format!("{file} is not the file that was written: its SHA-256 differs")));
        }
    }
    Ok(true)
}

pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
}

fn names(parent: &Path, name: &str) -> [PathBuf; 3] {
    [parent.join(name), parent.join(format!("{name}.old")), parent.join(format!("{name}.tmp"))]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

/// Makes renames in `dir` durable. Not every system can sync a folder; there the file's own sync must do.
fn sync_folder(dir: &Path) {
    if let Ok(folder) = File::open(dir) {
        let _ = folder.sync_all();
    }
}

/// Removes a file or a folder; it is no error if there is none.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(iteration: u64) -> State<u32> {
        State {
            format_version: FORMAT_VERSION,
            kind: "gan".into(),
            seed: 7,
            position: Position { iteration, epoch: 1, epoch_sums: BTreeMap::from([("loss".into(), 0.1f64 + 0.2)]) },
            best: None,
            classes: vec!["Parasitized".into()],
            data: "x".into(),
            judge: None,
            guard: GuardState::default(),
            config: 3,
            files: BTreeMap::new(),
        }
    }

    fn snapshot(value: f32) -> Snapshot {
        let tensors = BTreeMap::from([("a.weight".to_owned(), Tensor::full(value, (2, 2), &Device::Cpu).unwrap())]);
        Snapshot { files: BTreeMap::from([("weights".to_owned(), tensors)]) }
    }

    fn iteration(parent: &Path) -> u64 {
        let dir = locate(parent, "last").unwrap().unwrap();
        read_state::<u32>(&dir, "gan").unwrap().position.iteration
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "last", &snapshot(0.5), &state(5)).unwrap();
        let dir = find(folder.path(), &["best", "last"]).unwrap();
        let read = read_state::<u32>(&dir, "gan").unwrap();
        assert_eq!(read.position, state(5).position);
        let tensors = read_snapshot(&dir, &read, &Device::Cpu).unwrap();
        assert_eq!(tensors.files["weights"]["a.weight"].to_vec2::<f32>().unwrap(), vec![vec![0.5; 2]; 2]);
        assert!(matches!(read_state::<u32>(&dir, "classifier"), Err(Error::Unsuitable { .. })));
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let [target, old, temporary] = names(folder.path(), "last");
        write(folder.path(), "last", &snapshot(0.5), &state(5)).unwrap();
        fs::rename(&target, &old).unwrap();
        fs::create_dir(&temporary).unwrap();
        assert_eq!(find(&target, &["last"]).unwrap(), old);
        assert_eq!(iteration(folder.path()), 5);
        assert!(settle(folder.path(), "last").unwrap());
        assert!(target.exists() && !old.exists() && !temporary.exists());
        write(folder.path(), "last", &snapshot(0.5), &state(6)).unwrap();
        assert_eq!(iteration(folder.path()), 6);
    }

    #[test]
    fn a_damaged_one_gives_way_to_the_old_one_or_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let [target, old, _] = names(folder.path(), "last");
        write(folder.path(), "last", &snapshot(0.5), &state(5)).unwrap();
        fs::rename(&target, &old).unwrap();
        write(folder.path(), "other", &snapshot(0.5), &state(6)).unwrap();
        fs::rename(folder.path().join("other"), &target).unwrap();
        let weights = target.join("weights.safetensors");
        fs::write(&weights, &fs::read(&weights).unwrap()[..20]).unwrap();
        assert_eq!(iteration(folder.path()), 5);
        assert_eq!(find(&target, &["last"]).unwrap(), old);
        assert_eq!(find(folder.path(), &["last"]).unwrap(), old);
        fs::remove_dir_all(&old).unwrap();
        let error = settle(folder.path(), "last").unwrap_err().to_string();
        assert!(error.contains("weights.safetensors"), "{error}");
    }

    #[test]
    fn any_flipped_bit_is_found_and_its_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "last", &snapshot(0.5), &state(5)).unwrap();
        for file in ["state.json", "weights.safetensors"] {
            let path = folder.path().join("last").join(file);
            let whole = fs::read(&path).unwrap();
            for bit in 0..8 * whole.len() {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                let error = read(folder.path()).unwrap_err().to_string();
                // One of these flips makes the version a newer one, and no sum is known of that.
                let newer = error.contains("format version");
                assert!(error.contains(file) || (newer && file == STATE), "bit {bit} of {file}: {error}");
            }
            fs::write(&path, &whole).unwrap();
            read(folder.path()).unwrap();
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_found() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), "last", &snapshot(value), &state(5)).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("weights.safetensors: a.weight holds {value}, and")), "{error}");
        }
    }

    #[test]
    fn other_versions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "last", &snapshot(0.5), &state(5)).unwrap();
        let path = folder.path().join("last").join(STATE);
        let json = fs::read_to_string(&path).unwrap();
        let version = |version: u32| json.replace("\"format_version\": 2", &format!("\"format_version\": {version}"));
        // The first version had no sum of the state itself.
        let (first, _) = json.split_once(",\n  \"sha256\"").unwrap();
        fs::write(&path, version(1).replace(&json[first.len()..], "\n}\n")).unwrap();
        read(folder.path()).unwrap();
        fs::write(&path, version(3)).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format version 3, and this program reads versions 1 to 2"), "{error}");
        // A sum alone does not let a state name files elsewhere.
        let mut elsewhere = state(5);
        elsewhere.files.insert("../weights.safetensors".into(), String::new());
        fs::write(&path, state_json(folder.path(), &elsewhere).unwrap()).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("no name of a file"));
    }

    /// As a resumed run or a program that generates does.
    fn read(parent: &Path) -> Result<Snapshot> {
        let dir = find(parent, &["last"])?;
        let state = read_state::<u32>(&dir, "gan")?;
        read_snapshot(&dir, &state, &Device::Cpu)
    }

    #[test]
    fn an_unfinished_first_checkpoint_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("last.tmp")).unwrap();
        assert!(!settle(folder.path(), "last").unwrap());
        assert!(!folder.path().join("last.tmp").exists());
        assert!(matches!(find(folder.path(), &["last"]), Err(Error::NoCheckpoint(_))));
    }
}
