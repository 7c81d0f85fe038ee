//! `state.json`: everything about a run but its tensors, sealed by a sum of its own.

use std::collections::BTreeMap;
use std::path::Path;

use cellforge_data::{Fit, Intensities, MAX_TEXT_BYTES, read_bounded};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::hex;
use super::{FORMAT_VERSION, STATE, WEIGHTS, damaged, file_name};
use crate::{Error, GuardState, Position, Result, SeenImages, UprightCheck};

/// The first version whose configuration lies under its name in a settings file, with today's names.
const NESTED: u32 = 3;

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
    /// The images of `data` one by one, of a classifier; none in checkpoints that were written before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenImages>,
    /// How intensities of more than 8 bits became the grey levels that were trained on; none where no image has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intensities: Option<Intensities>,
    /// What the networks were before the first update, if they were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<StartedFrom>,
    /// Whether the images were found to have an up and a down, where the settings left it to be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upright: Option<UprightCheck>,
    /// What a classifier's logits are divided by before they become probabilities, fitted on the validation images
    /// ([`fit_temperature`](cellforge_eval::fit_temperature)); none between epochs, and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// How images of another shape became ones of the network's size; `stretch` in checkpoints that were written before this was recorded.
    #[serde(default = "stretch", skip_serializing_if = "is_stretch")]
    pub fit: Fit,
    /// What a GAN's guard remembers.
    #[serde(default, skip_serializing_if = "GuardState::is_new")]
    pub guard: GuardState,
    /// The run's whole configuration. In the file it lies under the kind of the run, as in a settings file: `config.gan.r1`.
    pub config: C,
    /// SHA-256 of each safetensors file, by file name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a network was before its first update, if it was not chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedFrom {
    /// SHA-256 of the weights that it started from: of a checkpoint's, or of the file.
    pub weights: String,
    /// Fingerprint of the images that those were trained on; empty for a file, which says nothing of them.
    pub data: String,
    /// The classes of those images; empty for a file.
    pub classes: Vec<String>,
}

fn stretch() -> Fit {
    Fit::Stretch
}

fn is_stretch(fit: &Fit) -> bool {
    *fit == Fit::Stretch
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
            seen: None,
            intensities: None,
            started_from: None,
            upright: None,
            temperature: None,
            fit: Fit::Stretch,
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
            seen: self.seen.clone(),
            intensities: self.intensities.clone(),
            started_from: self.started_from.clone(),
            upright: self.upright,
            temperature: self.temperature,
            fit: self.fit,
            guard: self.guard.clone(),
            config,
            files: self.files.clone(),
        }
    }

    /// What a run that starts from these weights records of them.
    pub(crate) fn as_start(&self) -> StartedFrom {
        StartedFrom {
            weights: self.weights_sha256().unwrap_or_default().to_owned(),
            data: self.data.clone(),
            classes: self.classes.clone(),
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

/// Reads `state.json` of a folder, which need not be whole.
pub(crate) fn read_state<C: DeserializeOwned>(dir: &Path, kind: &str) -> Result<State<C>> {
    let json = read_bounded(&dir.join(STATE), MAX_TEXT_BYTES).map_err(|_| Error::NoCheckpoint(dir.to_path_buf()))?;
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
pub(super) fn parse_header(dir: &Path, json: &[u8]) -> Result<Header> {
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

/// What is read of a `state.json` before the rest.
#[derive(Deserialize)]
pub(super) struct Header {
    format_version: u32,
    kind: String,
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
}
