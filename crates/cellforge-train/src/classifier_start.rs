//! Starting a classifier from one that was trained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use cellforge_classify::ClassifierConfig;
use cellforge_data::read_bounded;
use cellforge_nn::ParamStore;

use crate::checkpoint::{Checkpoint, hex};
use crate::classifier::KIND;
use crate::supplied::{MAX_WEIGHTS, read_weights};
use crate::{ClassifierState, ClassifierTrainConfig, Error, Result, RunDir, SeenImages, StartedFrom};

/// The SHA-256 of the weights that a classifier which `config.from` names starts with.
///
/// # Errors
/// [`Error::NoCheckpoint`], [`Error::Damaged`] or [`Error::Io`].
pub fn classifier_start_sha256(from: &str) -> Result<String> {
    let path = Path::new(from);
    if path.is_file() {
        return Ok(hex(&read_bounded(path, MAX_WEIGHTS).map_err(Error::io(path))?));
    }
    let folder = RunDir::new(path).classifier();
    let state: ClassifierState = Checkpoint::find(&folder)?.state(KIND)?;
    Ok(state.as_start().weights)
}

/// A trained classifier to start from.
pub(crate) struct ClassifierStart {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    record: StartedFrom,
    seen: Option<SeenImages>,
}

impl ClassifierStart {
    /// The classifier that `config.from` names, if it names one: the folder of a run, a checkpoint or a study, or a file of weights.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`], [`Error::Damaged`] or [`Error::Io`]; [`Error::Supplied`] for a file without weights.
    pub(crate) fn of(config: &ClassifierTrainConfig, device: &Device) -> Result<Option<Self>> {
        config.from.as_ref().map(|from| Self::read(Path::new(from), device)).transpose()
    }

    fn read(path: &Path, device: &Device) -> Result<Self> {
        if path.is_file() {
            let tensors = read_weights(path)?.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"));
            let weights = hex(&read_bounded(path, MAX_WEIGHTS).map_err(Error::io(path))?);
            let record = StartedFrom { weights, data: String::new(), classes: Vec::new() };
            return Ok(Self { path: path.to_path_buf(), tensors: tensors.collect(), record, seen: None });
        }
        let folder = RunDir::new(path).classifier();
        let (_, state, tensors): (_, ClassifierState, _) = Checkpoint::load(&folder, KIND, device)?;
        let record = state.as_start();
        Ok(Self { path: path.to_path_buf(), tensors, record, seen: state.seen })
    }

    /// Whether the weights are of this network, but for its last layer.
    fn check(&self, store: &ParamStore, model: &ClassifierConfig) -> Result<()> {
        let own: BTreeMap<String, Vec<usize>> =
            store.all().into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect();
        let last = format!("{}.", model.last_layer());
        let misfit = own.iter().filter(|(name, _)| !name.starts_with(&last)).find_map(|(name, dims)| {
            match self.tensors.get(name) {
                None => Some(format!("there is no {name}, which {} has", model.name())),
                Some(there) if there.dims() != dims => {
                    Some(format!("{name} has shape {:?} there and {dims:?} in {}", there.dims(), model.name()))
                }
                Some(_) => None,
            }
        });
        let unknown = || {
            let unknown = self.tensors.keys().find(|name| !own.contains_key(*name) && !name.starts_with(&last))?;
            Some(format!("{unknown} is nothing that {} has", model.name()))
        };
        match misfit.or_else(unknown) {
            None => Ok(()),
            Some(reason) => {
                let reason =
                    format!("not weights to start this network from: {reason}; they seem to be {}", self.kind());
                Err(Error::Supplied { path: self.path.clone(), reason })
            }
        }
    }

    /// What the weights seem to be, by their names and shapes.
    fn kind(&self) -> String {
        let has = |name: &str| self.tensors.contains_key(name);
        let blocks = |stage: &str| (0..).take_while(|block| has(&format!("{stage}.{block}.conv1.weight"))).count();
        if has("layer1.0.conv1.weight") {
            let depth = match (has("layer1.0.conv3.weight"), blocks("layer3")) {
                (false, 2) => "ResNet-18",
                (false, 6) => "ResNet-34",
                (true, 6) => "ResNet-50",
                (true, 23) => "ResNet-101",
                (true, 36) => "ResNet-152",
                _ => "a ResNet",
            };
            let channels = self.tensors.get("conv1.weight").and_then(|weight| weight.dims().get(1).copied());
            let of = channels.map_or_else(String::new, |channels| format!(" of {channels} channels"));
            format!("{depth} with torchvision's names{of}")
        } else if has("stem.weight") && has("bn0.weight") {
            let channels = self.tensors["stem.weight"].dims().get(1).copied().unwrap_or_default();
            format!("this program's resnet for {channels} channels")
        } else if has("0.weight") {
            "this program's cnn".to_owned()
        } else if has("Conv2d_1a_3x3.conv.weight") {
            "Inception-v3".to_owned()
        } else if has("cls_token") || has("embeddings.cls_token") {
            "a vision transformer".to_owned()
        } else {
            let first = self.tensors.keys().next().map_or("nothing", String::as_str);
            format!("of another network, whose first tensor is {first}")
        }
    }

    /// What a run that starts here records of it.
    pub(crate) fn record(&self) -> StartedFrom {
        self.record.clone()
    }

    /// The images that it was trained on, where that is known: whoever starts from it has seen them too.
    pub(crate) fn seen(&self) -> Option<&SeenImages> {
        self.seen.as_ref()
    }

    /// Gives the network its weights: all its tensors must be there in their shapes, and no others. The last layer keeps its own where the
    /// classes are others, and that is said.
    ///
    /// # Errors
    /// [`Error::Supplied`] naming the first tensor that does not fit, and what the weights seem to be.
    pub(crate) fn give(&self, store: &ParamStore, model: &ClassifierConfig, classes: &[String]) -> Result<()> {
        self.check(store, model)?;
        let last = format!("{}.", model.last_layer());
        let other_classes = !self.record.classes.is_empty() && self.record.classes != classes;
        let mut anew = Vec::new();
        let mut own = store.tensors();
        let is_anew = |own: &BTreeMap<String, Tensor>| {
            let of_last = own.iter().filter(|(name, _)| name.starts_with(&last));
            let mut misfits = of_last.map(|(name, own)| self.tensors.get(name).is_none_or(|t| t.dims() != own.dims()));
            other_classes || misfits.any(|misfit| misfit)
        };
        let last_anew = is_anew(&own);
        for (name, value) in &mut own {
            match self.tensors.get(name) {
                Some(there) if !(last_anew && name.starts_with(&last)) => *value = there.clone(),
                _ => anew.push(name.as_str()),
            }
        }
        let anew =
            if anew.is_empty() { String::new() } else { format!("; anew, for other classes: {}", anew.join(", ")) };
        tracing::info!("starting from {}{anew}", self.path.display());
        Ok(store.set(&own)?)
    }
}
