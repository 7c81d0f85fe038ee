//! Two-sample test: can synthetic images be told from real ones by a network that was trained to do so, or by a statistic that a person can
//! read?
//!
//! [`two_sample`] halves the real patients, several times. A narrow network learns to tell one half from the synthetic images, and another,
//! in the same way, to tell it from the other half (Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests, arXiv:1610.06545).
//! The second is what chance can do: images of other patients differ, too, and the synthetic images may be those of a few.
//!
//! # What makes the comparison fair
//!
//! - Both sides have as many images of each class, in both comparisons. The network learns classes and sides at once and is asked for the side
//!   given the class, so that neither the shares of classes nor wrong labels stay hidden behind each other.
//! - Every image is scored by a network that has not seen it, nor an image of the same patient of the first half (cross-fitting over folds). The
//!   other half is dealt out image by image, as the synthetic images are: nobody knows whom a generator draws on.
//! - Only scores of one network and one class are compared. Intervals are over patients, and over the synthetic images.
//! - The images are told apart by the network where the area under its ROC curve, or the share of images found at 1% false alarms, has an
//!   interval above those of all real halves ([`cellforge_eval::two_sample::above`]).
//! - Beside it stand statistics of single images, each tested by random halves of as many real patients, with p-values for all of them together
//!   ([`cellforge_eval::two_sample::StatisticsByChance`]). One at or below half of the error that the level leaves tells the images apart, too.
//!
//! # How weak a difference it sees
//!
//! The same test looks at the other half of the real images with differences of graded strength planted in it. The weakest of each kind that it
//! finds stand in the result. Where it finds none of them it is too weak, and says nothing.
//!
//! # What interruptions cost
//!
//! The scores of a network go into a file of their own as soon as it is trained. A test that was stopped goes on with those that are missing.

mod config;
mod draws;
mod outcome;
mod planted;
mod runs;
mod statistics;
mod telling;

use std::path::{Path, PathBuf};

use cellforge_data::{View, derive_seed};
use cellforge_eval::{
    BootstrapOptions, Features,
    two_sample::{Scored, Separation, StatisticFinding, StatisticRows, StatisticsByChance, separation},
};
use cellforge_train::{FeatureMatrix, RunDir};

pub use config::TwoSampleConfig;
pub use outcome::{NetworkTest, PlantedResult, StatisticTest, TellingImage, ToldApart, TwoSample};
pub use planted::{Difference, plant};
pub use runs::Learner;
pub use statistics::image_statistics;

use crate::{Control, Error, Result, progress::ProgressBar};
use draws::Draws;
use runs::{Map, Pair, Told, Trainer};

/// The images of a two-sample test, of one size and with the same classes in one order.
#[derive(Clone, Debug)]
pub struct TwoSampleData {
    /// Real images, best of patients that no generator saw.
    pub real: View,
    /// More real images, of other patients: with them it is known better how much patients differ. They are not compared with anything.
    pub also: Option<View>,
    /// The synthetic images.
    pub synthetic: View,
    /// Which real images they are, in words: "the held-out images".
    pub judged_on: String,
}

/// Trains the networks, compares the statistics and plants differences. The folder `out` is made if need be; it keeps the scores of each
/// network in `runs/` and pictures of synthetic images in `telling/`. Keep other processes out of it meanwhile.
///
/// Where there are too few images or patients the result says so, and nothing else.
///
/// # Errors
/// [`Error::Settings`] for a setting; [`Error::EvaluationImages`] where the two sets differ in size or classes; [`Error::TwoSampleRun`]
/// naming a training that failed; [`Error::Interrupted`] when `control.stop` was raised.
pub fn two_sample(config: &TwoSampleConfig, data: &TwoSampleData, out: &Path, control: &Control) -> Result<TwoSample> {
    config.validate()?;
    let of = |view: &View| (view.size(), view.channels(), view.classes().to_vec());
    for (part, view) in [("synthetic", Some(&data.synthetic)), ("real", data.also.as_ref())] {
        if view.is_some_and(|view| of(view) != of(&data.real)) {
            let problem =
                "their size, channels or classes are not those of the real images they are compared with".to_owned();
            return Err(Error::EvaluationImages { part, problem });
        }
    }
    let pictures = telling::save(&[], &data.synthetic, out)?;
    let draws = match Draws::new(config, data) {
        Ok(draws) => draws,
        Err(reason) => return Ok(TwoSample::too_few(config, data, reason)),
    };
    let folder = RunDir::new(out).predictions();
    cellforge_data::make_private_folder(&folder).map_err(Error::io("create the folder", &folder))?;
    let trained = if config.updates == 0 { 0 } else { 2 * config.seeds * config.folds };
    let bar = ProgressBar::new(control.progress, "two-sample test", config.updates * trained as u64);
    let trainer = Trainer { config, folder, learner: None, control, bar };
    let mut test = Test { config, data, draws, trainer };

    test.trainer.bar.name("statistics of the images".to_owned());
    let real = Real::new(config, data, &test.draws)?;
    let found = test.compare(&real, &real.even, &data.synthetic, config.bootstrap.resamples)?;
    let mut result = TwoSample::new(config, data, &test.draws);
    result.statistics = outcome::named(&found, data.real.channels(), data.real.classes());
    if config.updates > 0 {
        match test.network()? {
            Ok((network, maps)) => {
                result.network = Some(network);
                result.pictures = pictures;
                if result.told_by_network() {
                    result.pictures = telling::save(&maps, &data.synthetic, out)?;
                }
            }
            Err(reason) => return Ok(TwoSample::too_few(config, data, reason)),
        }
    }
    if config.planted {
        result.planted = test.planted(&real, result.network.as_ref())?;
    }
    test.trainer.bar.finish();
    Ok(result)
}

/// What another learner than the network finds, by the same halves, folds and rule; for simulations that would take too many trainings. None
/// where there are too few images or patients, with the reason.
///
/// # Errors
/// Those of the learner, and [`Error::Settings`].
pub fn two_sample_by(
    config: &TwoSampleConfig,
    data: &TwoSampleData,
    learner: &mut Learner<'_>,
) -> Result<std::result::Result<NetworkTest, String>> {
    config.validate()?;
    let draws = match Draws::new(config, data) {
        Ok(draws) => draws,
        Err(reason) => return Ok(Err(reason)),
    };
    let control = Control::default();
    let bar = ProgressBar::new(false, "", 0);
    let trainer = Trainer { config, folder: PathBuf::new(), learner: Some(learner), control: &control, bar };
    let mut test = Test { config, data, draws, trainer };
    Ok(test.network()?.map(|(network, _)| network))
}

struct Test<'a> {
    config: &'a TwoSampleConfig,
    data: &'a TwoSampleData,
    draws: Draws,
    trainer: Trainer<'a>,
}

/// Statistics of the real images, and what differs between them by chance.
struct Real {
    rows: FeatureMatrix,
    /// Those that are compared with the synthetic images.
    even: Vec<usize>,
    chance: StatisticsByChance,
}

impl Real {
    fn new(config: &TwoSampleConfig, data: &TwoSampleData, draws: &Draws) -> Result<Self> {
        let classes = data.real.classes().len();
        let rows = image_statistics(&data.real);
        let even = draws::even(&data.real, config.seed);
        let part = |rows: &FeatureMatrix, of: &[usize]| -> Vec<f32> {
            of.iter().flat_map(|&row| rows.row(row).iter().copied()).collect()
        };
        let mut values = part(&rows, &even);
        let mut labels = data.real.part(&even).labels();
        let mut units: Vec<usize> = even.iter().map(|&row| draws.units[row]).collect();
        let mut different = units.clone();
        different.sort_unstable();
        different.dedup();
        // Patients on one side and single images on the other have nothing in common.
        if let Some(also) = data.also.as_ref().filter(|also| also.has_groups() == data.real.has_groups()) {
            let even = draws::even(also, config.seed);
            let from = draws.units.iter().max().map_or(0, |most| most + 1);
            let others = also.units();
            values.extend(part(&image_statistics(also), &even));
            labels.extend(also.part(&even).labels());
            units.extend(even.iter().map(|&row| from + others[row]));
        }
        let population = StatisticRows { values: Features::new(&values, rows.dims)?, labels: &labels, units: &units };
        let seed = derive_seed(config.seed, "two_sample/statistics");
        let chance = StatisticsByChance::new(&population, different.len(), classes, config.halvings, seed)?;
        Ok(Self { rows, even, chance })
    }
}

impl Test<'_> {
    /// Compares the statistics of some real images with those of a second set.
    fn compare(&self, real: &Real, rows: &[usize], images: &View, resamples: usize) -> Result<Vec<StatisticFinding>> {
        let values: Vec<f32> = rows.iter().flat_map(|&row| real.rows.row(row).iter().copied()).collect();
        let units: Vec<usize> = rows.iter().map(|&row| self.draws.units[row]).collect();
        let labels = [self.data.real.part(rows).labels(), images.labels()];
        let second = image_statistics(images);
        let second_units: Vec<usize> = (0..images.len()).collect();
        let seed = derive_seed(self.config.seed, "two_sample/statistics");
        fn of<'r>(values: &'r [f32], dims: usize, units: &'r [usize], labels: &'r [u32]) -> Result<StatisticRows<'r>> {
            Ok(StatisticRows { values: Features::new(values, dims)?, labels, units })
        }
        Ok(real.chance.compare(
            &of(&values, real.rows.dims, &units, &labels[0])?,
            &of(&second.values, second.dims, &second_units, &labels[1])?,
            &BootstrapOptions { resamples, seed, ..self.config.bootstrap },
        )?)
    }

    /// Trains the networks of all draws. None where folds cannot be made, with the reason.
    fn network(&mut self) -> Result<std::result::Result<(NetworkTest, Vec<Map>), String>> {
        let (mut pooled, mut real, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        let seeds = self.config.seeds;
        for number in 0..seeds {
            let draw = &self.draws.draws[number];
            let synthetic = self.data.synthetic.part(&draw.synthetic);
            let pictures = if number == 0 { self.config.pictures } else { 0 };
            let words = format!("synthetic against real, seed {} of {seeds}", number + 1);
            let chosen = draw.synthetic.clone();
            match self.scores(number, format!("synthetic-{number}"), synthetic, chosen.clone(), pictures, &words)? {
                Ok((scored, seen)) => {
                    pooled.extend(scored);
                    maps.extend(seen.into_iter().map(|map| Map { image: chosen[map.image], ..map }));
                }
                Err(reason) => return Ok(Err(reason)),
            }
            let other = self.data.real.part(&self.draws.draws[number].other);
            let units = self.draws.draws[number].other.iter().map(|&row| self.draws.units[row]).collect();
            let words = format!("real against real, seed {} of {seeds}", number + 1);
            match self.scores(number, format!("real-{number}"), other, units, 0, &words)? {
                Ok((scored, _)) => real.push(self.separation(&scored)?),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok((NetworkTest { synthetic: self.separation(&pooled)?, real }, maps)))
    }

    fn separation(&self, scored: &[Scored]) -> Result<Separation> {
        let seed = derive_seed(self.config.seed, "two_sample/bootstrap");
        let options = BootstrapOptions { seed, ..self.config.bootstrap };
        Ok(separation(scored, self.data.real.classes().len(), &options)?)
    }

    /// Scores a second set against the first half of a draw.
    fn scores(
        &mut self,
        draw: usize,
        name: String,
        second: View,
        second_units: Vec<usize>,
        maps: usize,
        words: &str,
    ) -> Result<Told> {
        let first = &self.draws.draws[draw].first;
        let pair = Pair {
            name,
            first: self.data.real.part(first),
            first_units: first.iter().map(|&row| self.draws.units[row]).collect(),
            second,
            second_units,
            by: draws::rule(&self.data.real),
            maps,
            number: draw,
            words,
        };
        self.trainer.scores(&pair)
    }

    /// The weakest difference of each kind that is found, by statistics or, where these do not find it, by a network.
    fn planted(&mut self, real: &Real, network: Option<&NetworkTest>) -> Result<Vec<PlantedResult>> {
        let limit = outcome::limit(self.config);
        let other = self.data.real.part(&self.draws.draws[0].other);
        let first = self.draws.draws[0].first.clone();
        let units: Vec<usize> = self.draws.draws[0].other.iter().map(|&row| self.draws.units[row]).collect();
        let mut results = Vec::new();
        for kind in planted::differences(self.data.real.classes().len()) {
            for difference in kind {
                if self.trainer.control.stopped() {
                    return Err(Error::Interrupted);
                }
                let changed = plant(&other, difference, derive_seed(self.config.seed, "two_sample/planted"))?;
                let found = self.compare(real, &first, &changed, 20)?;
                let p = found.iter().map(|one| one.p).fold(1.0, f64::min);
                let mut result = PlantedResult { difference, statistics_p: p, network: None, found: p <= limit };
                if let (false, Some(network)) = (result.found, network) {
                    let name = format!("planted-{difference}").replace([' ', '%'], "-");
                    let words = format!("{difference}, planted");
                    if let Ok((scored, _)) = self.scores(0, name, changed, units.clone(), 0, &words)? {
                        let separation = self.separation(&scored)?;
                        result.found = outcome::told(&separation, &network.real);
                        result.network = Some(separation);
                    }
                }
                results.push(result);
                if results.last().is_some_and(|last| last.found) {
                    break;
                }
            }
        }
        Ok(results)
    }
}
