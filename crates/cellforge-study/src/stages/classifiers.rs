//! The classifier stages: the small networks and the residual one.

use std::path::PathBuf;

use cellforge_data::derive_seed;
use cellforge_train::{ClassifierTrainConfig, Stage, train_classifier};

use super::{TrainingInputs, data::Cells};
use crate::{
    Result, StudyConfig,
    config::CnnRun,
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
    let runs = config.cnn.runs.iter().map(|run| cnn(config, cells, run, runner)).collect::<Result<Vec<Trained>>>()?;
    let inputs: Vec<_> = runs.iter().map(|run| (&run.name, &run.config)).collect();
    let control = runner.control;
    let stamp = runner.stage("cnn", &inputs, &[data], Makes::Folder(Stage::Cnn.folder()), |resume| {
        runs.iter().try_for_each(|run| train(config, run, cells, control, resume, "cnn"))
    })?;
    Ok((runs, stamp))
}

pub(crate) fn run_resnet(
    config: &StudyConfig,
    cells: &Cells,
    data: &Stamp,
    runner: &mut Runner<'_>,
) -> Result<(Trained, Stamp)> {
    let all = &cells.all;
    let mut train_config = config.classifier.clone().for_images(all.size(), all.channels(), all.classes().len());
    train_config.seed = derive_seed(config.seed, "resnet");
    let run = Trained {
        name: "resnet".to_owned(),
        title: "ResNet Model".to_owned(),
        config: train_config,
        folder: runner.folder(Stage::Resnet),
    };
    let control = runner.control;
    let start = run.config.from.as_deref().map(cellforge_train::classifier_start_sha256).transpose()?;
    let inputs = TrainingInputs { config: &run.config, start: start.as_deref() };
    let stamp = runner.stage("resnet", &inputs, &[data], Makes::Folder(Stage::Resnet.folder()), |resume| {
        train(config, &run, cells, control, resume, "resnet")
    })?;
    Ok((run, stamp))
}

fn cnn(config: &StudyConfig, cells: &Cells, run: &CnnRun, runner: &Runner<'_>) -> Result<Trained> {
    let (name, all) = (run.name(), &cells.all);
    let mut train_config = run.config(config.cnn.width)?.for_images(all.size(), all.channels(), all.classes().len());
    train_config.seed = derive_seed(config.seed, &format!("cnn/{name}"));
    let folder = runner.dir().run_of(Stage::Cnn, &name).path().to_path_buf();
    Ok(Trained { folder, name, title: run.title(), config: train_config })
}

fn train(
    config: &StudyConfig,
    run: &Trained,
    cells: &Cells,
    control: &crate::Control,
    resume: bool,
    stage: &str,
) -> Result<()> {
    tracing::debug!("training {} in {}", run.name, run.folder.display());
    let dir = run_dir(&run.folder, resume);
    let outcome = train_classifier(&run.config, &cells.train, &cells.val, &dir, &control.training(config), &mut [])?;
    if outcome.interrupted { Err(control.interrupted(stage)) } else { Ok(()) }
}
