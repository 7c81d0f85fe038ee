//! Trains the networks of a two-sample test one by one and keeps their scores.

use std::path::PathBuf;

use cellforge_data::{ImageSize, SplitRule, View, ViewParts, derive_seed};
use cellforge_eval::two_sample::Scored;
use cellforge_train::{TrainedClassifier, train_for_steps};
use serde::{Deserialize, Serialize};

use super::{TwoSampleConfig, draws, telling};
use crate::{
    Control, Error, Result,
    files::{hash_texts, read_json, write_atomic},
    progress::ProgressBar,
};

/// Rises with any change of what a training makes of the same images and settings.
const FORMAT: &str = "2";

/// Keeps the logarithm of a probability finite.
const LEAST: f32 = 1e-9;

/// Learns to tell the images of the first view apart, whose labels below the middle are the classes of the first set and the others those of
/// the second, and scores those of the second view: higher for the second set. Labels of the second view say the class; which set they say must
/// not be used.
pub type Learner<'a> = dyn FnMut(&View, &View) -> Result<Vec<f32>> + 'a;

/// Trains where need be.
pub(super) struct Trainer<'a> {
    pub(super) config: &'a TwoSampleConfig,
    /// Where scores are kept; what another learner than the network finds is not.
    pub(super) folder: PathBuf,
    /// In place of the network.
    pub(super) learner: Option<&'a mut Learner<'a>>,
    pub(super) control: &'a Control,
    pub(super) bar: ProgressBar,
}

/// One set to be told from another.
pub(super) struct Pair<'a> {
    /// Says what it is, and names its files.
    pub(super) name: String,
    pub(super) first: View,
    /// A number for the patient of each image of the first set.
    pub(super) first_units: Vec<usize>,
    pub(super) second: View,
    pub(super) second_units: Vec<usize>,
    /// Whether patients of the first set stay in one fold.
    pub(super) by: SplitRule,
    /// Which of the second set's images are looked into, if any: how many of each class.
    pub(super) maps: usize,
    /// Numbers the networks: those of different pairs must not be compared.
    pub(super) number: usize,
    pub(super) words: &'a str,
}

/// What a trained network leaves.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    /// Hash of everything that decides the rest.
    inputs: String,
    /// The score of each test image: those of the first set, then those of the second.
    scores: Vec<f32>,
    /// What the network saw.
    maps: Vec<Map>,
}

/// Where a network sees that an image is of the second set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Map {
    /// Its position in the second set.
    pub(super) image: usize,
    /// Its score.
    pub(super) score: f32,
    /// Places across and down.
    pub(super) places: usize,
    /// How far the score falls where a place is covered, row by row.
    pub(super) falls: Vec<f32>,
}

/// Scores of both sets of a pair, and maps of what tells; or why there are none.
pub(super) type Told = std::result::Result<(Vec<Scored>, Vec<Map>), String>;

impl Trainer<'_> {
    /// Scores of all images of a pair, each by a network that has not seen it or another image of the same patient of the first set.
    /// None where the folds cannot be made, with the reason.
    pub(super) fn scores(&mut self, pair: &Pair<'_>) -> Result<Told> {
        let config = self.config;
        let seed = derive_seed(config.seed, &format!("two_sample/folds/{}", pair.name));
        let folds = |view: &View, by| draws::folds(view, by, config.folds, seed);
        let (first, second) = match (folds(&pair.first, pair.by), folds(&pair.second, SplitRule::Image)) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        let joined = joined(&pair.first, &pair.second)?;
        let fold_of = [first, second].concat();
        let n = pair.first.len();
        let (mut scored, mut maps) = (Vec::with_capacity(fold_of.len()), Vec::new());
        for fold in 0..config.folds {
            let part =
                |test: bool| -> Vec<usize> { (0..fold_of.len()).filter(|&i| (fold_of[i] == fold) == test).collect() };
            let (train, test) = (part(false), part(true));
            let found = self.run(pair, &joined, fold, &train, &test)?;
            for (&i, score) in test.iter().zip(&found.scores) {
                let (second, view, at, units) = if i < n {
                    (false, &pair.first, i, &pair.first_units)
                } else {
                    (true, &pair.second, i - n, &pair.second_units)
                };
                scored.push(Scored {
                    score: f64::from(*score),
                    second,
                    class: view.label(at) as usize,
                    network: pair.number * config.folds + fold,
                    unit: units[at],
                });
            }
            maps.extend(found.maps);
        }
        Ok(Ok((scored, maps)))
    }

    fn run(&mut self, pair: &Pair<'_>, joined: &View, fold: usize, train: &[usize], test: &[usize]) -> Result<Run> {
        if let Some(learner) = &mut self.learner {
            let scores = learner(&joined.part(train), &joined.part(test))?;
            return Ok(Run { inputs: String::new(), scores, maps: Vec::new() });
        }
        let config = self.config;
        let name = format!("two-sample-{}-fold-{fold}", pair.name);
        let path = self.folder.join(format!("{name}.json"));
        let training = config.training(joined.size(), joined.channels(), joined.classes().len(), &name);
        let json = |text: serde_json::Result<String>| text.map_err(Error::json(&path));
        let settings = json(serde_json::to_string(&training))?;
        let rest = json(serde_json::to_string(&(config.updates, pair.maps, train, test)))?;
        let (version, precision) = (env!("CARGO_PKG_VERSION"), self.control.used_precision().name());
        let inputs = hash_texts([FORMAT, version, precision, joined.fingerprint().as_str(), &settings, &rest]);
        // A file that is cut short, damaged or of other inputs counts as none.
        let fits = |run: &Run| run.inputs == inputs && run.scores.len() == test.len();
        if let Some(found) = read_json::<Run>(&path).ok().filter(fits) {
            self.bar.skip(config.updates);
            return Ok(found);
        }
        self.bar.name(format!("{}, fold {} of {}", pair.words, fold + 1, config.folds));
        let failed = |source| Error::TwoSampleRun { run: name.clone(), source: Box::new(source) };
        let trained =
            train_for_steps(&training, config.updates, &joined.part(train), self.control, &mut [&mut self.bar]);
        let network = trained.map_err(failed)?.ok_or(Error::Interrupted)?;
        let images = joined.part(test);
        let scores = scores(&network, &images).map_err(failed)?;
        let maps = if fold == 0 && pair.maps > 0 {
            let from = pair.first.len();
            telling::maps(&network, &images, &scores, pair.maps)
                .map_err(failed)?
                .into_iter()
                .map(|map| Map { image: test[map.image] - from, ..map })
                .collect()
        } else {
            Vec::new()
        };
        if self.control.stopped() {
            return Err(Error::Interrupted);
        }
        let run = Run { inputs, scores, maps };
        write_atomic(&path, json(serde_json::to_string(&run))?.as_bytes())?;
        Ok(run)
    }
}

/// The logarithm of the odds that each image is of the second set, given its class: the network tells classes and sets at once, and what
/// it says of other classes is left out.
pub(super) fn scores(network: &TrainedClassifier, images: &View) -> cellforge_train::Result<Vec<f32>> {
    let classes = images.classes().len() / 2;
    let of = |(row, label): (Vec<f32>, u32)| {
        let class = label as usize % classes;
        (row[classes + class] + LEAST).ln() - (row[class] + LEAST).ln()
    };
    Ok(network.predict(images)?.into_iter().zip(images.labels()).map(of).collect())
}

/// Both sets as one, with a class for each class of each set: those of the first set come first. Images are as large as a network takes:
/// smaller ones have a black frame, larger ones lose their edges; no pixel is computed anew.
fn joined(first: &View, second: &View) -> Result<View> {
    let classes = first.classes();
    let (from, channels) = (first.size(), first.channels());
    let size = from.enclosing();
    let named = |which: &str| classes.iter().map(|class| format!("{which} {class}")).collect::<Vec<_>>();
    let mut parts =
        ViewParts { classes: [named("first"), named("second")].concat(), size, channels, ..ViewParts::default() };
    for (offset, view) in [(0, first), (classes.len() as u32, second)] {
        for i in 0..view.len() {
            parts.labels.push(view.label(i) + offset);
            parts.pixels.extend(framed(view.image(i), from, channels, size));
        }
    }
    Ok(View::new(parts)?)
}

/// The middle of an image, in a black frame where it is smaller than `to`.
pub(super) fn framed(image: &[u8], size: ImageSize, channels: usize, to: ImageSize) -> Vec<u8> {
    if size == to {
        return image.to_vec();
    }
    // Pixels that are kept of a side, and how many are left out or put before them.
    let part = |side: usize, to: usize| (side.min(to), side.saturating_sub(to) / 2, to.saturating_sub(side) / 2);
    let (rows, skip_y, margin_y) = part(size.height, to.height);
    let (columns, skip_x, margin_x) = part(size.width, to.width);
    let mut pixels = vec![0; to.area() * channels];
    for y in 0..rows {
        let source = ((skip_y + y) * size.width + skip_x) * channels;
        let target = ((margin_y + y) * to.width + margin_x) * channels;
        pixels[target..target + columns * channels].copy_from_slice(&image[source..source + columns * channels]);
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_edges() {
        assert_eq!(framed(&[1, 2, 3, 4], 2.into(), 1, 4.into()), [0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0]);
        assert_eq!(framed(&(0..16).collect::<Vec<u8>>(), 4.into(), 1, 2.into()), [5, 6, 9, 10]);
        assert_eq!(framed(&[1, 2, 3], 1.into(), 3, 1.into()), [1, 2, 3]);
        // One side loses its edges and the other has a frame.
        let wide = framed(&[1, 2, 3, 4, 5, 6], ImageSize::new(2, 3), 1, ImageSize::new(4, 1));
        assert_eq!(wide, [0, 2, 5, 0]);
    }

    #[test]
    fn sets_become_classes() {
        let view = |pixel: u8| {
            let (classes, labels) = (vec!["a".to_owned(), "b".to_owned()], vec![0, 1]);
            View::new(ViewParts {
                classes,
                labels,
                size: 32.into(),
                channels: 1,
                pixels: vec![pixel; 2048],
                ..ViewParts::default()
            })
            .unwrap()
        };
        let both = joined(&view(1), &view(2)).unwrap();
        assert_eq!((both.labels(), both.classes().len(), both.image(3)[0]), (vec![0, 1, 2, 3], 4, 2));
    }
}
