//! What the images are compared by, with what was computed kept on disk until the evaluation is finished.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use cellforge_classify::{DinoV2, INCEPTION_LARGEST, Inception};
use cellforge_data::{ImageSize, View, ViewParts};
use cellforge_train::{
    Checkpoint, ClassifierTrainConfig, FeatureMatrix, MemoryNeed, Orientation, RunDir, TrainedClassifier, checkpoint,
    dinov2_features, inception_features, load_dinov2, load_inception, oriented, pixel_features, read_feature_file,
};

use super::{
    EvaluationConfig, FeatureFamily, FeatureInfo, FeatureSource,
    self_supervised::{self, SelfSupervised},
    sets::SetImages,
};
use crate::{
    Control, Error, Result,
    files::{hash_file, hash_texts, write_atomic},
};

/// Rises with any change of the features of the same images.
const FORMAT: &str = "1";

/// Images between two looks at whether to stop.
const CHUNK: usize = 1024;

/// The same for Inception-v3 and DINOv2, which take a second for ten images or so.
const ENCODER_CHUNK: usize = 64;

/// The side to which pixels are averaged at most as features of a set: intervals of a Fréchet distance between rows of thousands of numbers
/// would take an hour.
const FIDELITY_SIDE: usize = 12;

/// What names the sources of features.
pub(super) const SETTING: &str = "inputs.features";

/// What makes features of images.
pub(super) struct Extractor {
    kind: Kind,
    /// What decides the features beside the images.
    id: String,
    pub(super) info: FeatureInfo,
}

enum Kind {
    Classifier(Box<TrainedClassifier>),
    Pixels(ImageSize),
    SelfSupervised(Box<SelfSupervised>),
    Inception(Box<Inception>),
    DinoV2(Box<DinoV2>),
    File(BTreeMap<String, FeatureMatrix>, PathBuf),
}

impl Extractor {
    /// Loads what `source` names, for images of the size of `images`.
    pub(super) fn new(
        source: &FeatureSource,
        images: &View,
        config: &EvaluationConfig,
        control: &Control,
    ) -> Result<Self> {
        let info = |family, name: String, dims, source| {
            let metric = format!("fd_{name}");
            FeatureInfo { family, metric, name, dims, source, seen: None }
        };
        Ok(match source {
            FeatureSource::Pixels => Self::pixels(images, config.pixel_side.min(FIDELITY_SIDE)),
            FeatureSource::SelfSupervised => {
                let encoder = SelfSupervised::new(config.encoder, images, config.seed)?;
                let source = format!(
                    "features of a network that learned in this run, without classes, to know {} of the real images again",
                    encoder.images()
                );
                let name = format!("self_supervised{}", self_supervised::DIMS);
                Self {
                    id: encoder.id(),
                    info: info(FeatureFamily::SelfSupervised, name, self_supervised::DIMS, source),
                    kind: Kind::SelfSupervised(Box::new(encoder)),
                }
            }
            FeatureSource::Classifier(dir) => {
                let dir = RunDir::new(dir).classifier();
                let classifier = TrainedClassifier::load_in(&dir, &control.device, control.precision)?;
                let kind = classifier.state().config.model.name();
                let (size, channels) = (classifier.image_size(), classifier.channels());
                if (size, channels) != (images.size(), images.channels()) {
                    let problem = format!(
                        "the classifier in {} takes images of {size:#} pixels and {channels} channels, and these have {:#} and {}",
                        dir.display(),
                        images.size(),
                        images.channels()
                    );
                    return Err(Error::Setting { setting: SETTING, problem });
                }
                let pixels = vec![0; size.area() * channels];
                let blank = View::new(ViewParts { size, channels, pixels, ..ViewParts::default() })?;
                let dims = classifier.features(&blank)?.dims;
                let (_, weights) = hash_file(&Checkpoint::find(&dir)?.file(checkpoint::WEIGHTS))?;
                let title = if kind == "cnn" { "small network" } else { "residual network" };
                let source = format!("features of the last layer of a {title} trained on real images");
                Self {
                    kind: Kind::Classifier(Box::new(classifier)),
                    id: hash_texts([weights.as_str()]),
                    info: info(FeatureFamily::Classifier, format!("{kind}{dims}"), dims, source),
                }
            }
            FeatureSource::Inception(path) => {
                let network = load_inception(path, &control.device, control.precision)?;
                let source = "features of Inception-v3 with weights that were given".to_owned();
                Self {
                    kind: Kind::Inception(Box::new(network)),
                    id: hash_file(path)?.1,
                    info: FeatureInfo {
                        family: FeatureFamily::Inception,
                        name: "inception".into(),
                        metric: "fid".into(),
                        dims: 2048,
                        source,
                        seen: None,
                    },
                }
            }
            FeatureSource::DinoV2(path) => {
                let network = load_dinov2(path, &control.device)?;
                let size = network.config().name();
                let name = size.map_or_else(|| "dinov2".to_owned(), |size| format!("dinov2_{size}"));
                let dims = network.config().hidden;
                let source = "features of DINOv2 with weights that were given".to_owned();
                Self {
                    kind: Kind::DinoV2(Box::new(network)),
                    id: hash_file(path)?.1,
                    info: info(FeatureFamily::DinoV2, name, dims, source),
                }
            }
            FeatureSource::File(path) => {
                let sets = read_feature_file(path)?;
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let dims = sets.get("real").map_or(0, |real| real.dims);
                let source = "features that another program computed".to_owned();
                let info = info(FeatureFamily::Supplied, stem, dims, source);
                Self { kind: Kind::File(sets, path.clone()), id: hash_file(path)?.1, info }
            }
        })
    }

    /// The pixels, averaged to at most `pixel_side` along the longer side.
    pub(super) fn pixels(images: &View, pixel_side: usize) -> Self {
        let to = images.size().within(pixel_side);
        let info = FeatureInfo {
            family: FeatureFamily::Pixels,
            name: "pixels".to_owned(),
            metric: "fd_pixels".to_owned(),
            dims: to.area() * images.channels(),
            source: format!("the pixels, averaged to {} x {}", to.width, to.height),
            seen: None,
        };
        Self { kind: Kind::Pixels(to), id: format!("pixels {to}"), info }
    }

    /// What computing its features takes of memory beside the features.
    pub(super) fn memory(&self) -> MemoryNeed {
        match &self.kind {
            Kind::Classifier(classifier) => {
                ClassifierTrainConfig { batch: 1, ..classifier.state().config.clone() }.memory()
            }
            Kind::SelfSupervised(encoder) => encoder.training().memory(),
            Kind::Inception(_) => MemoryNeed::of_encoder(INCEPTION_LARGEST),
            Kind::DinoV2(network) => MemoryNeed::of_encoder(network.config().largest()),
            Kind::Pixels(_) | Kind::File(..) => MemoryNeed::default(),
        }
    }

    pub(super) fn is_pixels(&self) -> bool {
        matches!(self.kind, Kind::Pixels(_))
    }

    /// The orientations in which nearest neighbours of images of this size are searched: all that keep their shape, where the features are computed here and cheap enough.
    pub(super) fn orientations(&self, size: ImageSize) -> &'static [Orientation] {
        match self.kind {
            Kind::Classifier(_) | Kind::Pixels(_) | Kind::SelfSupervised(_) => Orientation::of(size),
            Kind::Inception(_) | Kind::DinoV2(_) | Kind::File(..) => &[Orientation::Identity],
        }
    }

    /// Notes how many images of each set a classifier was trained on, where its checkpoint says.
    pub(super) fn note_seen(&mut self, sets: &[(&str, &SetImages)]) {
        if let Kind::Classifier(classifier) = &self.kind {
            let one = |(set, images): &(&str, &SetImages)| Some(((*set).to_owned(), classifier.seen(&images.view)?));
            self.info.seen = sets.iter().map(one).collect();
        }
    }

    /// Fails if a file has not the features of these images. `set` is as in [`rows`](Self::rows).
    pub(super) fn check(&self, set: &'static str, images: &SetImages) -> Result<()> {
        match &self.kind {
            Kind::File(sets, path) => from_file(sets, path, set, images).map(drop),
            _ => Ok(()),
        }
    }

    /// The features of the images in one orientation. `set` is `real`, `holdout` or `synthetic`.
    pub(super) fn rows(
        &self,
        set: &'static str,
        images: &SetImages,
        orientation: Orientation,
        folder: &Path,
        control: &Control,
    ) -> Result<FeatureMatrix> {
        if let Kind::File(sets, path) = &self.kind {
            return from_file(sets, path, set, images);
        }
        let turn = format!("{orientation:?}");
        let precision = control.used_precision().name();
        let key = hash_texts([FORMAT, precision, self.id.as_str(), images.info.fingerprint.as_str(), turn.as_str()]);
        let path = folder.join(format!("{}.f32", &key[..32]));
        if let Some(found) = read(&path, images.view.len()) {
            return Ok(found);
        }
        let turned = match orientation {
            Orientation::Identity => images.view.clone(),
            _ => oriented(&images.view, orientation)?,
        };
        let Some(matrix) = self.of(&turned, control)? else { unreachable!("features of a file were read above") };
        // Averaging pixels costs less than reading them back.
        if !self.is_pixels() {
            write(&path, &matrix)?;
        }
        Ok(matrix)
    }
}

impl Extractor {
    /// What decides the features of an image.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The features of any images of the size of these sets; `None` where they come from a file.
    pub(super) fn of(&self, images: &View, control: &Control) -> Result<Option<FeatureMatrix>> {
        let mut matrix = FeatureMatrix { values: Vec::new(), dims: 0 };
        let all: Vec<usize> = (0..images.len()).collect();
        let chunk = if matches!(self.kind, Kind::Inception(_) | Kind::DinoV2(_)) { ENCODER_CHUNK } else { CHUNK };
        for chunk in all.chunks(chunk) {
            if control.stopped() {
                return Err(Error::Interrupted);
            }
            let images = images.part(chunk);
            let part = match &self.kind {
                Kind::Classifier(classifier) => classifier.features(&images)?,
                Kind::Pixels(size) => pixel_features(&images, *size)?,
                Kind::SelfSupervised(encoder) => encoder.features(&images, control)?,
                Kind::Inception(network) => inception_features(network, &images, &control.device)?,
                Kind::DinoV2(network) => dinov2_features(network, &images, &control.device)?,
                Kind::File(..) => return Ok(None),
            };
            matrix.dims = part.dims;
            matrix.values.extend(part.values);
        }
        Ok(Some(matrix))
    }
}

/// The features of images by one source, as an evaluation computes them of each of its sets: a row an image, in their order.
///
/// # Errors
/// [`Error::Setting`] for a source that makes none of these images alone (a file has those of the sets that it was made of, and the encoder that
/// learns in the run learns from real images), and for a classifier of images of another size or number of channels; [`Error::Train`] where there
/// are no images, or the network cannot be read; [`Error::Interrupted`].
pub fn image_features(
    source: &FeatureSource,
    images: &View,
    config: &EvaluationConfig,
    control: &Control,
) -> Result<FeatureMatrix> {
    let problem = match source {
        FeatureSource::File(_) => "features of a file are of the sets that it was made of, and of no other images",
        FeatureSource::SelfSupervised => "the self-supervised encoder learns from the real images of an evaluation",
        _ => "",
    };
    if !problem.is_empty() {
        return Err(Error::Setting { setting: SETTING, problem: problem.to_owned() });
    }
    if images.is_empty() {
        let reason = "there are none to take features of".to_owned();
        return Err(cellforge_train::Error::Invalid { field: "images", reason }.into());
    }
    let Some(matrix) = Extractor::new(source, images, config, control)?.of(images, control)? else {
        unreachable!("files were refused above")
    };
    Ok(matrix)
}

/// The rows of a feature file for the images that are used.
fn from_file(
    sets: &BTreeMap<String, FeatureMatrix>,
    path: &Path,
    set: &'static str,
    images: &SetImages,
) -> Result<FeatureMatrix> {
    let fail = |problem: String| Error::EvaluationImages { part: set, problem };
    let Some(matrix) = sets.get(set) else {
        return Err(fail(format!("{} has no tensor of that name", path.display())));
    };
    if matrix.len() != images.available {
        let (rows, images) = (matrix.len(), images.available);
        return Err(fail(format!(
            "{} has {rows} rows for {images} images: expected one row per image",
            path.display()
        )));
    }
    let values = images.rows.iter().flat_map(|&row| matrix.row(row).iter().copied()).collect();
    Ok(FeatureMatrix { values, dims: matrix.dims })
}

/// A matrix on disk: the numbers in a row, then the values, little-endian.
fn write(path: &Path, matrix: &FeatureMatrix) -> Result<()> {
    let mut bytes = Vec::with_capacity(8 + 4 * matrix.values.len());
    bytes.extend((matrix.dims as u64).to_le_bytes());
    bytes.extend(matrix.values.iter().flat_map(|value| value.to_le_bytes()));
    write_atomic(path, &bytes)
}

/// A matrix of `rows` rows, if there is one.
fn read(path: &Path, rows: usize) -> Option<FeatureMatrix> {
    let bytes = std::fs::read(path).ok()?;
    let (dims, values) = bytes.split_first_chunk::<8>()?;
    let dims = usize::try_from(u64::from_le_bytes(*dims)).ok()?;
    let (values, rest) = values.as_chunks::<4>();
    let whole = dims > 0 && rest.is_empty() && values.len() == rows * dims;
    whole.then(|| FeatureMatrix { values: values.iter().map(|value| f32::from_le_bytes(*value)).collect(), dims })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_survive_and_torn_ones_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.f32");
        let matrix = FeatureMatrix { values: vec![1.0, -2.5, 3.0, f32::MIN_POSITIVE, 0.1, 7.0], dims: 3 };
        write(&path, &matrix).unwrap();
        assert_eq!(read(&path, 2), Some(matrix));
        assert_eq!(read(&path, 3), None);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
        assert_eq!(read(&path, 2), None);
        assert_eq!(read(&dir.path().join("b.f32"), 2), None);
    }
}
