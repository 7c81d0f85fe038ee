//! Tests the trained networks on real test images and on synthetic ones.

use std::{collections::BTreeMap, path::Path};

use cellforge_data::{derive_seed, read_class};
use cellforge_eval::{BootstrapOptions, ClassifierReport, classifier_report, predictions, wilson_at};
use cellforge_train::{
    ClassifierTrainConfig, LogEvent, OptimizerConfig, RunDir, Schedule, Slot, Stage, TrainedClassifier, figures,
    losses, read_log,
};
use serde::{Deserialize, Serialize};

use crate::{
    Control, Error, Result, StudyConfig,
    results::{CnnResult, CnnResults, EpochPoint, Recognition, ResnetResult},
    stages::{Cells, Trained},
};

/// The figures of the judge stage.
#[derive(Serialize, Deserialize)]
pub(crate) struct Judgement {
    pub(crate) cnn: CnnResults,
    pub(crate) resnet: ResnetResult,
    pub(crate) recognition: BTreeMap<String, Recognition>,
    pub(crate) recognition_real: BTreeMap<String, Recognition>,
}

/// Tests every classifier on the test images, and judges the synthetic images with the residual network. Weights are those after the last
/// epoch, as in the study; the best small network is the one with the highest validation accuracy.
pub(crate) fn judge(
    config: &StudyConfig,
    cells: &Cells,
    cnn: &[Trained],
    resnet: &Trained,
    control: &Control,
) -> Result<Judgement> {
    let mut models = BTreeMap::new();
    let mut best: Option<(f64, &str)> = None;
    for run in cnn {
        if control.stopped() {
            return Err(control.interrupted("judge"));
        }
        let tested = TestFigures::new(config, cells, run, control)?;
        let val_accuracy = tested.val_accuracy;
        if best.is_none_or(|(value, _)| val_accuracy > value) {
            best = Some((val_accuracy, &run.name));
        }
        let result = CnnResult {
            title: run.title.clone(),
            epochs: run.config.epochs as usize,
            optimizer: describe(&run.config),
            params: run.config.model.summary().params(),
            val_accuracy,
            test: tested.test,
            history: tested.history,
        };
        models.insert(run.name.clone(), result);
    }
    let best = best.map(|(_, name)| name.to_owned()).unwrap_or_default();

    let tested = TestFigures::new(config, cells, resnet, control)?;
    let classes = cells.all.classes().iter().zip(&tested.test.per_class);
    // The recall of the class, whose interval knows of the patients.
    let recognition_real = classes.map(|(class, figures)| (class.clone(), figures.recall.into())).collect();
    let synthetic = RunDir::new(&control.out).stage(Stage::Synthetic);
    let recognition = recognition(config, cells, resnet, synthetic.path(), control)?;
    let resnet = ResnetResult {
        params: resnet.config.model.summary().params(),
        epochs: resnet.config.epochs as usize,
        optimizer: describe(&resnet.config),
        val_accuracy: tested.val_accuracy,
        test: tested.test,
        history: tested.history,
    };
    Ok(Judgement { cnn: CnnResults { best, models }, resnet, recognition, recognition_real })
}

/// The synthetic images of each class, in its folder of `synthetic`, that the residual network takes for that class.
pub(crate) fn recognition(
    config: &StudyConfig,
    cells: &Cells,
    resnet: &Trained,
    synthetic: &Path,
    control: &Control,
) -> Result<BTreeMap<String, Recognition>> {
    let classifier = load(config, resnet, control)?;
    let classes = cells.all.classes();
    let judge = |(index, class): (usize, &String)| {
        if control.stopped() {
            return Err(control.interrupted("judge"));
        }
        let images = read_class(&synthetic.join(&cells.folders[index]), cells.all.size(), cells.all.channels())?;
        let taken_for = predictions(&classifier.predict(&images)?, classes.len())?;
        let recognised = taken_for.iter().filter(|&&predicted| predicted as usize == index).count() as u64;
        let rate = wilson_at(recognised, taken_for.len() as u64, config.judge.level)?;
        Ok((class.clone(), rate.into()))
    };
    classes.iter().enumerate().map(judge).collect()
}

/// One classifier on the test images.
struct TestFigures {
    val_accuracy: f64,
    test: ClassifierReport,
    history: Vec<EpochPoint>,
}

impl TestFigures {
    fn new(config: &StudyConfig, cells: &Cells, run: &Trained, control: &Control) -> Result<Self> {
        let classifier = load(config, run, control)?;
        let probabilities = classifier.predict(&cells.test)?;
        let (truth, groups) = (cells.test.labels(), cells.test.groups());
        let seed = derive_seed(config.seed, &format!("bootstrap/{}", run.name));
        let options = BootstrapOptions { resamples: config.judge.resamples, seed, level: config.judge.level };
        let test = classifier_report(&truth, &probabilities, cells.all.classes(), groups.as_deref(), &options)?;
        let test = test.scaled_by(classifier.temperature(), &truth, &probabilities);
        let log = RunDir::new(&run.folder).log();
        let history = history(&log)?;
        let last = history.last().and_then(|point| point.val_accuracy);
        let val_accuracy = last.ok_or_else(|| Error::NoValidation(log))?;
        Ok(Self { val_accuracy, test, history })
    }
}

/// A network as it is after its last epoch.
fn load(config: &StudyConfig, run: &Trained, control: &Control) -> Result<TrainedClassifier> {
    let last = RunDir::new(&run.folder).slot(Slot::Last);
    Ok(TrainedClassifier::load_in(last, &control.device, config.precision_on(&control.device))?)
}

fn history(log: &Path) -> Result<Vec<EpochPoint>> {
    let value = |line: &cellforge_train::LogLine, name: &str| line.values.get(name).map(|x| f64::from(*x));
    let lines = read_log(log)?;
    let epochs = lines.iter().filter(|line| line.event == LogEvent::Epoch);
    Ok(epochs
        .map(|line| EpochPoint {
            epoch: line.epoch as usize,
            loss: value(line, losses::LOSS),
            train_accuracy: value(line, losses::ACCURACY),
            val_accuracy: value(line, figures::VAL_ACCURACY),
        })
        .collect())
}

/// Optimiser and schedule in words.
fn describe(config: &ClassifierTrainConfig) -> String {
    let mut words = match config.optimizer {
        OptimizerConfig::Sgd { lr, momentum, nesterov } => {
            format!("SGD {lr:?}, momentum {momentum}{}", if nesterov { ", Nesterov" } else { "" })
        }
        OptimizerConfig::Adam { lr } => format!("Adam {lr:?}"),
    };
    match config.schedule {
        Schedule::Constant => {}
        Schedule::Linear => words.push_str(", linear decay to 0"),
        Schedule::KerasDecay { decay } => words.push_str(&format!(", decay {decay:?}")),
    }
    if config.augment.is_on() {
        words.push_str(", augmentation");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optimisers_in_words() {
        let paper = ClassifierTrainConfig::recipe("cnn-paper-1").unwrap();
        assert_eq!(describe(&paper), "SGD 1e-6, momentum 0.9, Nesterov, decay 1e-6");
    }
}
