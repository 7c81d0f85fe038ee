//! Copies of training images among synthetic ones: what is looked for before anything else.
//!
//! Identical images are counted first, also mirrored and turned by right angles. Then every synthetic image is laid on the training
//! images that it may be a copy of, moved, turned, stretched, recoloured and blurred as well as it fits. What is left of the difference is compared
//! with what is left to the nearest image of any other patient ([`cellforge_eval::copies`]). How small that ratio gets by chance is known
//! from real images, each against those of other patients. Distances between features are compared in the same way ([`Space`]). Copies that
//! are made on purpose tell which leaks would have been found.

mod coarse;
mod exact;
mod planted;
mod prepare;
mod register;
mod search;
mod space;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use cellforge_data::{View, derive_seed};
use cellforge_eval::copies::{Calibration, FalseAlarms, Power, power};
use cellforge_train::FeatureMatrix;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use exact::AllKeys;
pub use exact::{Identical, Shared};
pub(crate) use prepare::SIDE;
pub use space::{MakeFeatures, Space};

use crate::{
    Control, Error, Result,
    evaluation::Words,
    files::{hash_texts, read_json, write_json},
    numeric::median,
};
use exact::identical;
use planted::{Kind, in_turn, plant};
use search::{Near, Searcher};

/// Rises with any change of what a search finds.
const FORMAT: &str = "4";
/// Most images by which the search is calibrated.
const CALIBRATED: usize = 2000;
/// Leaks that are looked at: patients whose images are copied, and the share of the synthetic images that are copies.
const PATIENTS: [usize; 3] = [1, 5, 20];
const SHARES: [f64; 5] = [0.005, 0.01, 0.02, 0.05, 0.1];

/// How copies are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CopyConfig {
    /// Near copies: look for training images that were moved, turned, stretched, recoloured, blurred or noised. Identical ones are always looked for.
    pub near: bool,
    /// Copies of each kind that are made on purpose, to tell how small a leak would have been found. 0 makes none.
    #[schemars(range(min = 0, max = 100_000))]
    pub planted: usize,
}

impl Default for CopyConfig {
    fn default() -> Self {
        Self { near: true, planted: 120 }
    }
}

/// Real images of one set, and their patients where all are known.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The images.
    pub view: &'a View,
    /// The patient of each; none where they are not all known.
    pub patients: Option<&'a [String]>,
}

/// What was found of copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiesPart {
    /// Identical images, within the sets and between them.
    pub identical: Identical,
    /// The synthetic images that are copies of training images, the most certain first.
    pub found: Vec<Copied>,
    /// The search for near copies, where it was made.
    pub near: Option<NearSearch>,
    /// Why it was not.
    pub not_searched: Option<String>,
}

/// A synthetic image that is a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// Its place among the synthetic images.
    pub index: usize,
    /// Its name.
    pub synthetic: String,
    /// Place among the training images of the one that it is a copy of.
    pub training_index: usize,
    /// Name of that one.
    pub training: String,
    /// Patient of that one, where known.
    pub patient: Option<String>,
    /// Whether the two are identical, perhaps mirrored or turned by a right angle.
    pub identical: bool,
    /// By what it comes nearest: `pixels`, or the name of features.
    pub space: String,
    /// By pixels, what is left of the difference when the two are laid on each other, over the spread of the image; by features, their
    /// distance. 0 where the two are identical.
    pub distance: f64,
    /// The same for the nearest real image of any other patient; 0 where that was not looked for.
    pub usual: f64,
    /// The first over the second; 0 where the two are identical.
    pub ratio: f64,
    /// The chance that any of so many images which are no copies comes as near. 0 where they are identical.
    pub p: f64,
}

/// How near copies were looked for, and which ones would have been found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearSearch {
    /// Real images that told how near an image comes which is no copy: each of them against those of other patients.
    pub calibration_images: usize,
    /// Whether patients are known; else each image counts as a patient of its own.
    pub by_patient: bool,
    /// The chance at which any image is taken for a copy by mistake.
    pub alpha: f64,
    /// By what copies are looked for, and where the limit lies: pixels first.
    pub spaces: Vec<SpaceLimit>,
    /// Why features are not among them, where features are known.
    pub pixels_alone: Option<String>,
    /// Patients of the calibration who would have been accused, each judged by the others.
    pub false_alarms: FalseAlarms,
    /// Copies that were made on purpose, by kind.
    pub power: Vec<Power>,
}

/// How near copies come in pixels or in features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpaceLimit {
    /// `pixels`, or the name of features.
    pub name: String,
    /// Ratio below which a synthetic image is a copy.
    pub threshold: f64,
    /// Median ratio of the synthetic images, and of those of the calibration.
    pub median: [f64; 2],
}

/// The name of pixels among the spaces.
const PIXELS: &str = "pixels";

/// How copies are looked for, and how that is run.
pub struct Search<'a> {
    /// The settings.
    pub config: &'a CopyConfig,
    /// The chance at which any image is taken for a copy by mistake.
    pub alpha: f64,
    /// Seed of the copies that are made on purpose, and of the choice of images to calibrate by.
    pub seed: u64,
    /// Features in which copies are looked for beside pixels, or why there are none.
    pub spaces: std::result::Result<&'a [Space<'a>], String>,
    /// Where what was searched is kept: it is not searched again.
    pub folder: &'a Path,
    /// Device, progress and the request to stop.
    pub control: &'a Control,
}

impl Search<'_> {
    /// Looks for copies of training images among synthetic ones. All images have one size. A holdout is not needed; its patients help to
    /// tell how near an image comes by chance.
    ///
    /// # Errors
    /// [`Error::EvaluationImages`] where a synthetic image is a held-out one; [`Error::Interrupted`]; what reading and writing `folder` fails with.
    pub fn run(&self, training: Known<'_>, holdout: Option<Known<'_>>, synthetic: &View) -> Result<CopiesPart> {
        let keys = AllKeys::new(training.view, holdout.map(|holdout| holdout.view), synthetic)?;
        self.run_by(&keys, training, holdout, synthetic)
    }

    /// As [`run`](Self::run), with the keys of the images, which were made before.
    pub(crate) fn run_by(
        &self,
        keys: &AllKeys,
        training: Known<'_>,
        holdout: Option<Known<'_>>,
        synthetic: &View,
    ) -> Result<CopiesPart> {
        let alpha = self.alpha;
        let same = identical(keys, training.view, holdout.map(|holdout| holdout.view), synthetic);
        let copy = |index: usize, at: usize, near: Option<&Nearest>| Copied {
            index,
            synthetic: synthetic.name(index).to_owned(),
            training_index: at,
            training: training.view.name(at).to_owned(),
            patient: training.patients.map(|patients| patients[at].clone()),
            identical: near.is_none(),
            space: near.map_or(PIXELS, |nearest| &nearest.space).to_owned(),
            distance: near.map_or(0.0, |nearest| nearest.near.distance),
            usual: near.map_or(0.0, |nearest| nearest.near.usual),
            ratio: near.map_or(0.0, |nearest| nearest.near.ratio()),
            p: near.map_or(0.0, |nearest| nearest.p),
        };
        let equal = keys.synthetic.found_in(&keys.training);
        let mut found: Vec<Copied> =
            equal.iter().enumerate().filter_map(|(i, at)| Some(copy(i, (*at)?, None))).collect();
        let mut part = CopiesPart { identical: same, found: Vec::new(), near: None, not_searched: None };
        if !self.config.near {
            part.not_searched = Some("it was not asked for".to_owned());
        } else {
            match self.near(training, holdout, &keys.single(), synthetic) {
                Ok((search, near)) => {
                    let certain = |(index, nearest): &(usize, &Nearest)| equal[*index].is_none() && nearest.p <= alpha;
                    for (index, nearest) in near.iter().enumerate().filter(certain) {
                        found.push(copy(index, nearest.near.training, Some(nearest)));
                    }
                    part.near = Some(search);
                }
                Err(Error::Eval(error @ cellforge_eval::Error::TooFew { .. })) => {
                    part.not_searched = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.p.total_cmp(&b.p).then(a.ratio.total_cmp(&b.ratio)).then(a.index.cmp(&b.index)));
        part.found = found;
        Ok(part)
    }

    /// The search for near copies, and for each synthetic image how near it comes and how likely that is by chance.
    /// `single` has the real images, training images first, that are there once.
    fn near(
        &self,
        training: Known<'_>,
        holdout: Option<Known<'_>>,
        single: &[usize],
        synthetic: &View,
    ) -> Result<(NearSearch, Vec<Nearest>)> {
        let &Self { config, alpha, seed, control, .. } = self;
        let (spaces, pixels_alone) = match &self.spaces {
            Ok(spaces) => (*spaces, None),
            Err(reason) => (&[][..], Some(reason.clone())),
        };
        let (units, by_patient) = units(training, holdout);
        let of_training = &units[..training.view.len()];
        let rows = in_turn(single, &units, CALIBRATED, derive_seed(seed, "calibration"));
        let own: Vec<usize> = rows.iter().map(|&row| units[row]).collect();
        // Before hours of search: are there enough to calibrate it by?
        Calibration::new(&[&vec![1.0; own.len()]], &own)?;
        let searcher = Searcher::new(training.view, holdout.map(|holdout| holdout.view), &units)?;
        let id = [training.view.fingerprint(), holdout.map(|holdout| holdout.view.fingerprint()).unwrap_or_default()];
        let of_own = format!("{own:?}");
        let key = |images: &View, own: bool, space: &str| {
            hash_texts([FORMAT, &id[0], &id[1], &images.fingerprint(), if own { &of_own } else { "" }, space])
        };
        // In pixels, then in each space. `features` are those of the images, where they are known already.
        let searched = |images: &View,
                        features: &[Option<FeatureMatrix>],
                        calibrates: bool,
                        what: &str|
         -> Result<Vec<Vec<Near>>> {
            let own = calibrates.then_some(&own[..]);
            let mut found =
                vec![self.kept(key(images, calibrates, PIXELS), images.len(), || {
                    searcher.search(images, own, what, control)
                })?];
            for (space, features) in spaces.iter().zip(features) {
                // Features that were made once cost a look; what is not made comes near to nothing.
                found.push(self.kept(key(images, calibrates, &space.id), images.len(), || {
                    let made = if features.is_none() { (space.make)(images)? } else { None };
                    match features.as_ref().or(made.as_ref()) {
                        Some(features) => space.search(features, &units, training.view.len(), own, control),
                        None => Ok(vec![Near::NONE; images.len()]),
                    }
                })?);
            }
            Ok(found)
        };
        let ratios = |near: &[Vec<Near>], of_pixels: fn(&Near) -> f64| -> Vec<Vec<f64>> {
            let of = |(space, near): (usize, &Vec<Near>)| {
                near.iter().map(if space == 0 { of_pixels } else { Near::ratio }).collect()
            };
            near.iter().enumerate().map(of).collect()
        };
        let (inside, beyond): (Vec<usize>, Vec<usize>) = rows.iter().partition(|&&row| row < training.view.len());
        let mut real = vec![training.view.part(&inside)];
        if let Some(holdout) = holdout {
            real.push(holdout.view.part(&beyond.iter().map(|row| row - training.view.len()).collect::<Vec<_>>()));
        }
        let of_rows = |space: &Space<'_>| {
            let values = rows.iter().flat_map(|&row| space.real.row(row).iter().copied()).collect();
            Some(FeatureMatrix { values, dims: space.real.dims })
        };
        let of_calibration: Vec<_> = spaces.iter().map(of_rows).collect();
        let innocent = ratios(&searched(&View::joined(&real)?, &of_calibration, true, "calibration")?, Near::ratio);
        let calibration = Calibration::new(&innocent.iter().map(Vec::as_slice).collect::<Vec<_>>(), &own)?;
        let of_synthetic: Vec<_> = spaces.iter().map(|space| Some(space.synthetic.clone())).collect();
        let found = searched(synthetic, &of_synthetic, false, "synthetic images")?;
        let images = synthetic.len();
        let of_image = |ratios: &[Vec<f64>], i: usize| ratios.iter().map(|space| space[i]).collect::<Vec<f64>>();
        let p = |ratios: &[f64]| (images as f64 * calibration.p(ratios)).min(1.0);
        let mut planted = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|_| config.planted > 0) {
            let copies = plant(training.view, of_training, kind, config.planted, derive_seed(seed, "planted"))?;
            let near = ratios(
                &searched(&copies.images, &vec![None; spaces.len()], false, kind.name())?,
                Near::ratio_of_likeness,
            );
            let hit: Vec<bool> = (0..copies.images.len()).map(|i| p(&of_image(&near, i)) <= alpha).collect();
            let of: Vec<usize> = copies.of.iter().map(|&i| of_training[i]).collect();
            planted.push(power(kind.name(), &hit, &of, images, &PATIENTS, &SHARES, derive_seed(seed, "leaks"))?);
        }
        let names: Vec<&str> = std::iter::once(PIXELS).chain(spaces.iter().map(|space| space.name.as_str())).collect();
        let of_synthetic = ratios(&found, Near::ratio_of_likeness);
        let limits =
            calibration.thresholds(images, alpha).into_iter().zip(&names).zip(of_synthetic.iter().zip(innocent));
        let search = NearSearch {
            calibration_images: own.len(),
            by_patient,
            alpha,
            pixels_alone,
            spaces: limits
                .map(|((threshold, name), (found, innocent))| SpaceLimit {
                    name: (*name).to_owned(),
                    threshold,
                    median: [median(found.clone()), median(innocent)],
                })
                .collect(),
            false_alarms: calibration.false_alarms(images, alpha),
            power: planted,
        };
        let nearest = |i: usize| {
            let ratios = of_image(&of_synthetic, i);
            let space = calibration.surest(&ratios);
            Nearest { space: names[space].to_owned(), near: found[space][i], p: p(&ratios) }
        };
        Ok((search, (0..images).map(nearest).collect()))
    }

    /// What was found before under this key, or is found now.
    fn kept(&self, key: String, images: usize, find: impl FnOnce() -> Result<Vec<Near>>) -> Result<Vec<Near>> {
        let path = self.folder.join(format!("copies-{}.json", &key[..32]));
        if let Ok(found) = read_json::<Vec<Near>>(&path)
            && found.len() == images
        {
            return Ok(found);
        }
        let found = find()?;
        write_json(&path, &found)?;
        Ok(found)
    }
}

/// How near a synthetic image comes, by what it comes nearest, and the chance of that.
struct Nearest {
    space: String,
    near: Near,
    p: f64,
}

/// A number for the patient of each image, training images first; for each image, where not all patients are known.
fn units(training: Known<'_>, holdout: Option<Known<'_>>) -> (Vec<usize>, bool) {
    let images = training.view.len() + holdout.map_or(0, |holdout| holdout.view.len());
    let names: Option<Vec<&String>> = match (training.patients, holdout.map(|holdout| holdout.patients)) {
        (Some(training), None) => Some(training.iter().collect()),
        (Some(training), Some(Some(holdout))) => Some(training.iter().chain(holdout).collect()),
        _ => None,
    };
    let Some(names) = names else { return ((0..images).collect(), false) };
    let mut numbers = BTreeMap::new();
    let number = |name| {
        let next = numbers.len();
        *numbers.entry(name).or_insert(next)
    };
    (names.into_iter().map(number).collect(), true)
}

impl CopiesPart {
    /// Places of the synthetic images that are no copies.
    #[must_use]
    pub fn others(&self, images: usize) -> Vec<usize> {
        let mut copied = vec![false; images];
        self.found.iter().for_each(|copy| copied[copy.index] = true);
        (0..images).filter(|&i| !copied[i]).collect()
    }

    /// How many synthetic images are there more than once, in a sentence. None where none is.
    #[must_use]
    pub fn twice_in_words(&self, words: &Words, images: usize) -> Option<String> {
        let twice = self.identical.among_synthetic.images;
        let (one, are) = (&words.one, if twice == 1 { "is" } else { "are" });
        (twice > 0)
            .then(|| format!("{twice} of {images} synthetic {} {are} equal to a synthetic {one} before.", words.many))
    }

    /// The copies in words: how many, and how many patients they are of. No image and no patient is named. None where there is none.
    #[must_use]
    pub fn in_words(&self, words: &Words, images: usize) -> Option<String> {
        self.found.first()?;
        let identical = self.found.iter().filter(|copy| copy.identical).count();
        let patients: std::collections::BTreeSet<_> =
            self.found.iter().filter_map(|copy| copy.patient.as_ref()).collect();
        let of = match patients.len() {
            0 => String::new(),
            1 => ", all of one patient".to_owned(),
            n => format!(", of {n} patients"),
        };
        let count = self.found.len();
        let are = if count == 1 {
            format!("is a copy of a training {}", words.one)
        } else {
            format!("are copies of training {}", words.many)
        };
        let exact = if identical > 0 { format!(" ({identical} of them pixel by pixel)") } else { String::new() };
        Some(format!("{count} of {images} {are}{exact}{of}."))
    }
}

impl NearSearch {
    /// The smallest share of the images that could have been copies of one patient, five or twenty, of each kind, and been found with a
    /// probability of 0.95; by kind, none where a tenth of the images is too few.
    #[must_use]
    pub fn smallest(&self) -> Vec<(&str, Option<f64>)> {
        let of = |power: &Power| {
            let mut sizes: Vec<usize> = power.chances.iter().map(|chance| chance.images).collect();
            sizes.sort_unstable();
            sizes.dedup();
            let all = |size: &usize| {
                let mut of_size = power.chances.iter().filter(|chance| chance.images == *size);
                of_size.all(|chance| chance.probability >= cellforge_eval::copies::WANTED)
            };
            let at = sizes.iter().position(all)?;
            SHARES.get(at + SHARES.len() - sizes.len()).copied()
        };
        self.power.iter().map(|power| (power.kind.as_str(), of(power))).collect()
    }

    /// Whether copies of each kind, of one patient too, would have been found if they were a tenth of the images or fewer.
    #[must_use]
    pub fn sees_every_kind(&self) -> bool {
        !self.power.is_empty() && self.smallest().iter().all(|(_, share)| share.is_some())
    }

    /// What the search would have found, in a sentence or two. None where no copies were made on purpose.
    #[must_use]
    pub fn in_words(&self, words: &Words) -> Option<String> {
        let mut by_share: Vec<(f64, Vec<&str>)> = Vec::new();
        let mut missed: Vec<&str> = Vec::new();
        for (kind, share) in self.smallest() {
            match (share, by_share.iter_mut().find(|(other, _)| Some(*other) == share)) {
                (None, _) => missed.push(kind),
                (Some(_), Some((_, kinds))) => kinds.push(kind),
                (Some(share), None) => by_share.push((share, vec![kind])),
            }
        }
        by_share.sort_by(|a, b| a.0.total_cmp(&b.0));
        let part = |(share, kinds): &(f64, Vec<&str>)| {
            format!("{}% of the {} if they are {}", 100.0 * share, words.many, kinds.join(" or "))
        };
        let mut sentences = Vec::new();
        if !by_share.is_empty() {
            sentences.push(format!(
                "Copies would have been found with a probability of 0.95, even of one patient alone, from {} on.",
                by_share.iter().map(part).collect::<Vec<_>>().join(", ")
            ));
        }
        if !missed.is_empty() {
            let kinds = missed.join(" or ");
            sentences.push(format!(
                "Copies of one patient that are {kinds} may be missed even where they are a tenth of the {}.",
                words.many
            ));
        }
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}
