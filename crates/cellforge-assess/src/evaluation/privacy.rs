//! The privacy tests in pixels and in features, in all orientations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellforge_data::folder_name;
use cellforge_eval::{
    Features,
    privacy::{Discriminator, Labels, PrivacyInput, Space, privacy},
};
use cellforge_train::{FeatureMatrix, Orientation, TrainedGan};

use super::{EvaluationConfig, PrivacyPart, features::Extractor, sets::SetImages};
use crate::{
    Control, Error, Result,
    reidentification::{self, KnownImages, Linked},
};

/// The three sets of images.
#[derive(Clone, Copy)]
pub(super) struct Trio<'a> {
    pub(super) real: &'a SetImages,
    pub(super) holdout: &'a SetImages,
    pub(super) synthetic: &'a SetImages,
}

/// The features of three sets in one space.
struct Measured {
    name: String,
    real: FeatureMatrix,
    holdout: Vec<FeatureMatrix>,
    synthetic: Vec<FeatureMatrix>,
}

pub(super) fn measure(
    config: &EvaluationConfig,
    extractors: &[&Extractor],
    sets: Trio<'_>,
    networks: &[Network],
    linked: Option<Linked>,
    folder: &Path,
    control: &Control,
) -> Result<PrivacyPart> {
    let mut spaces = Vec::new();
    for extractor in extractors {
        let size = sets.real.view.size();
        let rows = |set, images, turn| extractor.rows(set, images, turn, folder, control);
        let turned = |set, images| -> Result<Vec<FeatureMatrix>> {
            extractor.orientations(size).iter().map(|&turn| rows(set, images, turn)).collect()
        };
        spaces.push(Measured {
            name: extractor.info.name.clone(),
            real: rows("real", sets.real, Orientation::Identity)?,
            holdout: turned("holdout", sets.holdout)?,
            synthetic: turned("synthetic", sets.synthetic)?,
        });
    }
    if control.stopped() {
        return Err(Error::Interrupted);
    }
    let scores =
        if networks.is_empty() { None } else { Some((score(networks, sets.real)?, score(networks, sets.holdout)?)) };
    let as_features = |matrix| features(matrix);
    let input = PrivacyInput {
        spaces: spaces
            .iter()
            .map(|space| {
                Ok(Space {
                    name: space.name.clone(),
                    train: as_features(&space.real)?,
                    holdout: space.holdout.iter().map(as_features).collect::<Result<_>>()?,
                    synthetic: space.synthetic.iter().map(as_features).collect::<Result<_>>()?,
                })
            })
            .collect::<Result<_>>()?,
        labels: Labels { train: &sets.real.view.labels(), holdout: &sets.holdout.view.labels() },
        train_groups: sets.real.groups(),
        holdout_groups: sets.holdout.groups(),
        discriminator: scores.as_ref().map(|(train, holdout)| Discriminator { train, holdout }),
    };
    let mut figures = privacy(&input, &config.privacy_options())?;
    let reidentification = linked.map(|linked| {
        figures.reidentification = linked.membership;
        linked.found
    });
    Ok(PrivacyPart { findings: figures.findings(), figures, reidentification })
}

/// Whether synthetic images are linked to training patients, or why that is not measured.
pub(super) fn reidentify(
    config: &EvaluationConfig,
    sets: Trio<'_>,
    control: &Control,
) -> Result<std::result::Result<Linked, String>> {
    let settings = config.reidentification_config();
    if settings.updates == 0 {
        return Ok(Err("it was not asked for".to_owned()));
    }
    let (Some(real), Some(holdout)) = (sets.real.groups(), sets.holdout.groups()) else {
        let which = if sets.real.groups().is_some() { "held-out" } else { "training" };
        return Ok(Err(format!("it needs known patients, and those of the {which} images are not")));
    };
    reidentification::reidentify(
        &settings,
        KnownImages { images: &sets.real.view, patients: real },
        KnownImages { images: &sets.holdout.view, patients: holdout },
        &sets.synthetic.view,
        &config.privacy_options(),
        control,
    )
}

fn features(matrix: &FeatureMatrix) -> Result<Features<'_>> {
    Ok(matrix.checked()?)
}

/// What judges the images of a class.
pub(super) struct Network {
    gan: Arc<TrainedGan>,
    /// The class as the GAN names it.
    class: String,
}

/// One for each class that is compared, in the order of the classes. `known` are all classes of the real images.
pub(super) fn load(folders: &[PathBuf], real: &SetImages, known: &[String], control: &Control) -> Result<Vec<Network>> {
    let classes = real.view.classes();
    let mut found: Vec<Option<Network>> = Vec::new();
    found.resize_with(classes.len(), || None);
    for folder in folders {
        let gan = Arc::new(TrainedGan::load_in(folder, &control.device, control.precision)?);
        gan.discriminator()?;
        let fail = |problem: String| Error::Discriminator { path: folder.clone(), problem };
        for class in gan.classes() {
            let is_it = |name: &String| name == class || folder_name(name) == *class;
            let Some(at) = classes.iter().position(is_it) else {
                if known.iter().any(is_it) {
                    continue;
                }
                return Err(fail(format!("it was trained on class {class:?}, which the images have not")));
            };
            if found[at].is_some() {
                return Err(fail(format!("another one was given for class {class:?}")));
            }
            found[at] = Some(Network { gan: Arc::clone(&gan), class: class.clone() });
        }
    }
    let missing = found.iter().position(Option::is_none);
    if let (Some(at), Some(folder)) = (missing, folders.first()) {
        let problem = format!("there is none for class {:?}: give one per class", classes[at]);
        return Err(Error::Discriminator { path: folder.clone(), problem });
    }
    Ok(found.into_iter().flatten().collect())
}

/// The score that the discriminator of each image's class gives it.
fn score(networks: &[Network], images: &SetImages) -> Result<Vec<f64>> {
    let mut scores = vec![0.0; images.view.len()];
    for (class, network) in networks.iter().enumerate() {
        let rows = images.view.class_indices(class as u32);
        let view = images.view.part(&rows).resized(network.gan.image_size(), network.gan.channels())?;
        let found = network.gan.scores(&network.class, &view)?;
        rows.into_iter().zip(found).for_each(|(row, value)| scores[row] = value);
    }
    Ok(scores)
}
