//! The classifier stages: the small networks and the residual one.

use std::path::PathBuf;

use cellforge_classify::ClassifierConfig;
use cellforge_data::derive_seed;
use cellforge_train::{ClassifierTrainConfig, OptimizerConfig, presets, presets::classifier_config, train_classifier};

use super::data::Cells;
use crate::{
    Result, StudyConfig,
    config::{CnnRun, Recipe},
    runner::{Makes, Runner, run_dir},
    stamp::Stamp,
};

/// A trained classifier of the study.
pub(crate) struct Trained {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) config: ClassifierTrainConfig,
    /// The folder of its run.
    pub(crate) folder: PathBuf,
}

pub(crate) fn run_cnn(
    config: &StudyConfig,
    cells: &Cells,
    data: &Stamp,
    runner: &mut Runner<'_>,
) -> Result<(Vec<Trained>, Stamp)> {
    let runs: Vec<Trained> = config.cnn.runs.iter().map(|run| cnn(config, cells, run, runner)).collect();
    let inputs: Vec<_> = runs.iter().map(|run| (&run.name, &run.config)).collect();
    let control = runner.control;
    let stamp = runner.stage("cnn", &inputs, &[data], Makes::Folder("cnn"), |resume| {
        runs.iter().try_for_each(|run| train(run, cells, control, resume, "cnn"))
    })?;
    Ok((runs, stamp))
}

pub(crate) fn run_resnet(
    config: &StudyConfig,
    cells: &Cells,
    data: &Stamp,
    runner: &mut Runner<'_>,
) -> Result<(Trained, Stamp)> {
    let mut train_config = presets::resnet_study();
    train_config.model = fitted(train_config.model, config.resnet.width, cells);
    train_config.epochs = config.resnet.epochs as u64;
    train_config.batch = config.resnet.batch;
    train_config.seed = derive_seed(config.seed, "resnet");
    if let OptimizerConfig::Sgd { lr, .. } = &mut train_config.optimizer {
        *lr = config.resnet.lr;
    }
    let run = Trained {
        name: "resnet".to_owned(),
        title: "ResNet Model".to_owned(),
        config: train_config,
        folder: runner.path("resnet"),
    };
    let control = runner.control;
    let stamp = runner.stage("resnet", &run.config, &[data], Makes::Folder("resnet"), |resume| {
        train(&run, cells, control, resume, "resnet")
    })?;
    Ok((run, stamp))
}

fn cnn(config: &StudyConfig, cells: &Cells, run: &CnnRun, runner: &Runner<'_>) -> Trained {
    let (mut train_config, how) = match run.recipe {
        Recipe::Paper => (presets::cnn_paper(run.model), "as published"),
        Recipe::Tuned => (presets::cnn_tuned(run.model), "sane learning rate"),
    };
    let name = run.name();
    train_config.model = fitted(train_config.model, config.cnn.width, cells);
    train_config.epochs = run.epochs as u64;
    train_config.seed = derive_seed(config.seed, &format!("cnn/{name}"));
    let title = format!("CNN Model {}, {how}", run.model);
    Trained { folder: runner.path("cnn").join(&name), name, title, config: train_config }
}

fn fitted(model: ClassifierConfig, width: f64, cells: &Cells) -> ClassifierConfig {
    let all = &cells.all;
    classifier_config(model, Some(all.side()), Some(all.channels()), Some(all.classes().len()), Some(width))
}

fn train(run: &Trained, cells: &Cells, control: &crate::Control, resume: bool, stage: &str) -> Result<()> {
    tracing::debug!("training {} in {}", run.name, run.folder.display());
    let dir = run_dir(&run.folder, resume);
    let outcome = train_classifier(&run.config, &cells.train, &cells.val, &dir, &control.training(), &mut [])?;
    if outcome.interrupted { Err(control.interrupted(stage)) } else { Ok(()) }
}
