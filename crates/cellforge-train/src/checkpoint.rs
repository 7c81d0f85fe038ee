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
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, GuardState, Position, Result, RunDir, Slot, Snapshot};

/// Version of the folder's layout and of `state.json`. Versions from 1 on are read; since 2, `state.json` holds its own sum.
pub const FORMAT_VERSION: u32 = 3;

/// The first version whose configuration lies under its name in a settings file, with today's names.
const NESTED: u32 = 3;
/// The file of everything but the tensors.
const STATE: &str = "state.json";
/// The stem of the file of a network's weights; a GAN's are its generator's.
pub const WEIGHTS: &str = "weights";
/// The stem of the file of a GAN's discriminator.
pub const DISCRIMINATOR: &str = "discriminator";
/// The stem of the file of the optimizers' state. The spelling is part of the format.
pub const OPTIMIZER: &str = "optimiser";

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
    /// The run's whole configuration. In the file it lies under the kind of the run, as in a settings file: `config.gan.r1`.
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

impl<C> State<C> {
    /// The state of a run that has done nothing yet. `kind` says what is trained (`gan`, `classifier`, or a word of your own): a checkpoint
    /// of another kind is not taken for this one. `data` tells the run's images from others: a run is resumed with no others.
    pub fn new(kind: &str, seed: u64, classes: Vec<String>, data: String, config: C) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            kind: kind.to_owned(),
            seed,
            position: Position::default(),
            best: None,
            classes,
            data,
            judge: None,
            guard: GuardState::default(),
            config,
            files: BTreeMap::new(),
        }
    }

    /// The same state with another configuration.
    fn with_config<D>(&self, config: D) -> State<D> {
        State {
            format_version: self.format_version,
            kind: self.kind.clone(),
            seed: self.seed,
            position: self.position.clone(),
            best: self.best,
            classes: self.classes.clone(),
            data: self.data.clone(),
            judge: self.judge.clone(),
            guard: self.guard.clone(),
            config,
            files: self.files.clone(),
        }
    }

    /// Whether the checkpoint has the file `stem`. Those of the oldest programs do not list theirs.
    pub(crate) fn may_have(&self, stem: &str) -> bool {
        self.files.is_empty() || self.files.contains_key(&file_name(stem))
    }

    /// The SHA-256 of the weights, as 64 hexadecimal digits, by which a trained network is told from others.
    #[must_use]
    pub fn weights_sha256(&self) -> Option<&str> {
        self.files.get(&file_name(WEIGHTS)).map(String::as_str)
    }
}

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
        fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
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
        let bytes = fs::read(self.file(stem)).map_err(|e| damaged(&self.path, format!("{file}: {e}")))?;
        parse_tensors(&self.path, &file, &bytes, device)
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

/// Reads `state.json` of a folder, which need not be whole.
pub(crate) fn read_state<C: DeserializeOwned>(dir: &Path, kind: &str) -> Result<State<C>> {
    let json = fs::read(dir.join(STATE)).map_err(|_| Error::NoCheckpoint(dir.to_path_buf()))?;
    parse_state(dir, kind, &json)
}

/// Where a folder's `state.json` lies.
pub(crate) fn state_path(dir: &Path) -> PathBuf {
    dir.join(STATE)
}

/// The name of the file of the tensors `stem`.
pub(crate) fn file_name(stem: &str) -> String {
    format!("{stem}.safetensors")
}

/// As [`read_state`], of the bytes of a `state.json`; errors name `dir`.
pub(crate) fn parse_state<C: DeserializeOwned>(dir: &Path, kind: &str, json: &[u8]) -> Result<State<C>> {
    // The header alone is read first, because another version or kind need not have our fields.
    let header = parse_header(dir, json)?;
    let unsuitable = |reason| Error::Unsuitable { path: dir.to_path_buf(), reason };
    if !(1..=FORMAT_VERSION).contains(&header.format_version) {
        let version = header.format_version;
        return Err(unsuitable(format!(
            "it has format version {version}, and this program reads versions 1 to {FORMAT_VERSION}"
        )));
    }
    if header.kind != kind {
        return Err(unsuitable(format!("it is of a {}, expected one of a {kind}", header.kind)));
    }
    let unreadable = |e: serde_json::Error| damaged(dir, format!("{STATE}: {e}"));
    if header.format_version < NESTED {
        let mut state: Value = serde_json::from_slice(json).map_err(unreadable)?;
        if let Some(config) = state.get_mut("config") {
            crate::config::migrate(kind, config);
        }
        return serde_json::from_value(state).map_err(unreadable);
    }
    let mut state: State<BTreeMap<String, C>> = serde_json::from_slice(json).map_err(unreadable)?;
    let config =
        state.config.remove(kind).ok_or_else(|| damaged(dir, format!("{STATE} has no settings of a {kind}")))?;
    Ok(state.with_config(config))
}

/// The bytes of `state.json`. Its last field, `sha256`, is the sum of the text without these 64 digits.
pub(crate) fn state_json<C: Serialize>(dir: &Path, state: &State<C>) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Sealed<'a, C> {
        #[serde(flatten)]
        state: &'a State<C>,
        sha256: &'static str,
    }
    // Under the name that it has in a settings file.
    let state = &state.with_config(BTreeMap::from([(state.kind.as_str(), &state.config)]));
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
fn not_finite(tensor: &Tensor) -> candle_core::Result<Option<f64>> {
    let tensor = tensor.to_dtype(DType::F64)?;
    if tensor.sum_all()?.to_scalar::<f64>()?.is_finite() {
        return Ok(None);
    }
    Ok(tensor.flatten_all()?.to_vec1()?.into_iter().find(|value: &f64| !value.is_finite()))
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

/// The folder beside `target` whose name has this ending.
fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    target.with_file_name(name)
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

/// Makes the rename of `target` durable.
fn sync_around(target: &Path) {
    if let Some(folder) = target.parent() {
        sync_folder(folder);
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
        let position = Position { iteration, epoch: 1, epoch_sums: BTreeMap::from([("loss".into(), 0.1f64 + 0.2)]) };
        State { position, ..State::new("gan", 7, vec!["Uninfected".into()], "x".into(), 3) }
    }

    fn snapshot(value: f32) -> Snapshot {
        let tensors = BTreeMap::from([("a.weight".to_owned(), Tensor::full(value, (2, 2), &Device::Cpu).unwrap())]);
        Snapshot { files: BTreeMap::from([("weights".to_owned(), tensors)]) }
    }

    fn last(folder: &tempfile::TempDir) -> PathBuf {
        RunDir::new(folder.path()).slot(Slot::Last)
    }

    fn iteration(folder: &tempfile::TempDir) -> u64 {
        let found = Checkpoint::locate(&last(folder)).unwrap().unwrap();
        found.state::<u32>("gan").unwrap().position.iteration
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
        let found = Checkpoint::find(folder.path()).unwrap();
        let read = found.state::<u32>("gan").unwrap();
        assert_eq!(read.position, state(5).position);
        let tensors = found.snapshot(&read, &Device::Cpu).unwrap();
        assert_eq!(tensors.files["weights"]["a.weight"].to_vec2::<f32>().unwrap(), vec![vec![0.5; 2]; 2]);
        assert!(matches!(found.state::<u32>("classifier"), Err(Error::Unsuitable { .. })));
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = last(&folder);
        let (old, temporary) = (beside(&target, "old"), beside(&target, "tmp"));
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
        fs::rename(&target, &old).unwrap();
        fs::create_dir(&temporary).unwrap();
        assert_eq!(Checkpoint::find(&target).unwrap().path(), old);
        assert_eq!(iteration(&folder), 5);
        assert!(Checkpoint::settle(&target).unwrap().is_some());
        assert!(target.exists() && !old.exists() && !temporary.exists());
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(6)).unwrap();
        assert_eq!(iteration(&folder), 6);
    }

    #[test]
    fn a_damaged_one_gives_way_to_the_old_one_or_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let target = last(&folder);
        let old = beside(&target, "old");
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
        fs::rename(&target, &old).unwrap();
        Checkpoint::write(&folder.path().join("other"), &snapshot(0.5), &state(6)).unwrap();
        fs::rename(folder.path().join("other"), &target).unwrap();
        let weights = target.join("weights.safetensors");
        fs::write(&weights, &fs::read(&weights).unwrap()[..20]).unwrap();
        assert_eq!(iteration(&folder), 5);
        assert_eq!(Checkpoint::find(&target).unwrap().path(), old);
        assert_eq!(Checkpoint::find(folder.path()).unwrap().path(), old);
        fs::remove_dir_all(&old).unwrap();
        let error = Checkpoint::settle(&target).unwrap_err().to_string();
        assert!(error.contains("weights.safetensors"), "{error}");
    }

    #[test]
    fn any_flipped_bit_is_found_and_its_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
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
            Checkpoint::write(&last(&folder), &snapshot(value), &state(5)).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("weights.safetensors: a.weight holds {value}, and")), "{error}");
        }
    }

    #[test]
    fn other_versions() {
        let folder = tempfile::tempdir().unwrap();
        Checkpoint::write(&last(&folder), &snapshot(0.5), &state(5)).unwrap();
        let path = folder.path().join("last").join(STATE);
        let json = fs::read_to_string(&path).unwrap();
        let version = |version: u32| json.replace("\"format_version\": 3", &format!("\"format_version\": {version}"));
        // The first version had no sum of the state itself.
        let (first, _) = json.split_once(",\n  \"sha256\"").unwrap();
        let flat = |text: String| text.replace("{\n    \"gan\": 3\n  }", "3");
        fs::write(&path, flat(version(1).replace(&json[first.len()..], "\n}\n"))).unwrap();
        read(folder.path()).unwrap();
        fs::write(&path, version(4)).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format version 4, and this program reads versions 1 to 3"), "{error}");
        // A sum alone does not let a state name files elsewhere.
        let mut elsewhere = state(5);
        elsewhere.files.insert("../weights.safetensors".into(), String::new());
        fs::write(&path, state_json(folder.path(), &elsewhere).unwrap()).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("no name of a file"));
    }

    /// As a resumed run or a program that generates does.
    fn read(parent: &Path) -> Result<Snapshot> {
        let found = Checkpoint::find(parent)?;
        let state = found.state::<u32>("gan")?;
        found.snapshot(&state, &Device::Cpu)
    }

    #[test]
    fn an_unfinished_first_checkpoint_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("last.tmp")).unwrap();
        assert!(Checkpoint::settle(&last(&folder)).unwrap().is_none());
        assert!(!folder.path().join("last.tmp").exists());
        assert!(matches!(Checkpoint::find(folder.path()), Err(Error::NoCheckpoint(_))));
    }
}
