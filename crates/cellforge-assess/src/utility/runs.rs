//! Trains the networks of a utility study one by one and keeps their predictions.

use std::path::Path;

use cellforge_data::View;
use cellforge_train::{ClassifierStep, Event, Observer, Phase, RunDir, train_for_steps};
use serde::{Deserialize, Serialize};

use super::{
    UtilityConfig,
    images::{Pool, TestImages},
    trainings::{Run, Trainings},
};
use crate::{
    Control, Error, Result,
    files::{hash_texts, read_json, write_atomic},
    progress::ProgressBar,
};

/// Rises with any change of what a training makes of the same images and settings.
const FORMAT: &str = "1";

/// The predictions of a trained network: the file that a run leaves.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Predictions {
    /// Hash of everything that decides the rest.
    inputs: String,
    /// The predicted class of each real test image.
    pub(super) test: Vec<u32>,
    /// The predicted class of each synthetic image, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) synthetic: Option<Vec<u32>>,
}

/// The predictions of every run's network, in their order. A run whose file is in `out` is not done again.
pub(super) fn run_all(
    config: &UtilityConfig,
    pool: &Pool,
    trainings: &Trainings,
    out: &Path,
    control: &Control,
) -> Result<Vec<Predictions>> {
    let folder = RunDir::new(out).predictions();
    cellforge_data::make_private_folder(&folder).map_err(Error::io("create the folder", &folder))?;
    let mut bar = ProgressBar::new(control.progress, "utility", config.updates * trainings.runs.len() as u64);
    let mut predicted = Vec::with_capacity(trainings.runs.len());
    for (number, run) in trainings.runs.iter().enumerate() {
        let path = folder.join(format!("{}.json", run.name));
        let inputs = inputs(config, pool, run, &path, control)?;
        // A file that is cut short, damaged or of other inputs counts as none.
        let found = read_json::<Predictions>(&path).ok().filter(|found| found.fits(&inputs, run, pool));
        let found = match found {
            Some(found) => {
                bar.skip(config.updates);
                found
            }
            None => {
                bar.name(format!("run {} of {}, {}", number + 1, trainings.runs.len(), run.name));
                let found = train(config, pool, run, inputs, &mut bar, control)?;
                let text = serde_json::to_string(&found).map_err(Error::json(&path))?;
                write_atomic(&path, text.as_bytes())?;
                found
            }
        };
        predicted.push(found);
    }
    bar.finish();
    Ok(predicted)
}

/// Everything that decides the predictions of a run's network.
fn inputs(config: &UtilityConfig, pool: &Pool, run: &Run, path: &Path, control: &Control) -> Result<String> {
    let json = |text: serde_json::Result<String>| text.map_err(Error::json(path));
    let training = json(serde_json::to_string(&config.training(&pool.view, run.seed)?))?;
    let rest = json(serde_json::to_string(&(config.updates, &run.images, run.on_synthetic)))?;
    let (version, precision) = (env!("CARGO_PKG_VERSION"), control.used_precision().name());
    Ok(hash_texts([FORMAT, version, precision, pool.fingerprint.as_str(), &training, &rest]))
}

impl Predictions {
    fn fits(&self, inputs: &str, run: &Run, pool: &Pool) -> bool {
        let classes = pool.view.classes().len();
        let whole = |labels: &Vec<u32>, of: &TestImages| {
            labels.len() == of.truth.len() && labels.iter().all(|&label| (label as usize) < classes)
        };
        self.inputs == inputs
            && whole(&self.test, &pool.test)
            && self.synthetic.is_some() == run.on_synthetic
            && self.synthetic.as_ref().is_none_or(|labels| whole(labels, &pool.synthetic))
    }
}

fn train(
    config: &UtilityConfig,
    pool: &Pool,
    run: &Run,
    inputs: String,
    bar: &mut ProgressBar,
    control: &Control,
) -> Result<Predictions> {
    let failed = |source| Error::UtilityRun { run: run.name.clone(), source: Box::new(source) };
    let training = config.training(&pool.view, run.seed)?;
    let trained = train_for_steps(&training, config.updates, &pool.view.part(&run.images), control, &mut [bar]);
    let classifier = trained.map_err(failed)?.ok_or_else(|| Error::Interrupted)?;
    let classes = pool.view.classes().len();
    let predicted = |images: &View| -> Result<Vec<u32>> {
        let rows = classifier.predict(images).map_err(failed)?;
        Ok(cellforge_eval::predictions(&rows, classes)?)
    };
    let test = predicted(&pool.test.images)?;
    let synthetic = run.on_synthetic.then(|| predicted(&pool.synthetic.images)).transpose()?;
    Ok(Predictions { inputs, test, synthetic })
}

impl Observer<ClassifierStep> for ProgressBar {
    fn phase(&self) -> Phase {
        Phase::Show
    }

    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_step(&mut self, _step: &mut ClassifierStep, _event: &mut Event<'_>) -> cellforge_train::Result<()> {
        self.advance(1);
        Ok(())
    }
}
