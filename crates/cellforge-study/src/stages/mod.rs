//! The study: which stages there are, and what each needs of the others.

mod beside;
mod classifiers;
mod data;
mod evaluate;
mod gan;
mod line;
mod outcome;

use cellforge_assess::{
    evaluation::datasheet,
    files::{self, write_atomic},
};

use cellforge_train::Stage;
use serde::Serialize;

use crate::{
    Control, Result, Results, StudyConfig, judge, report,
    runner::{Makes, Runner},
    stamp::Stamp,
};

pub(crate) use classifiers::Trained;
pub(crate) use data::Cells;
use line::Line;

/// What decides what a network becomes, beside the images.
#[derive(Serialize)]
struct TrainingInputs<'a, C> {
    #[serde(flatten)]
    config: &'a C,
    /// The SHA-256 of the weights that it starts from, by which they are known wherever they lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'a str>,
}

/// Runs the study into `control.out`: data, the small networks, the residual network, GANs, synthetic cells, their
/// judgement, their evaluation, the same of the GANs beside them, and the report.
///
/// A stage whose outputs are whole and whose inputs have not changed is skipped; one that was cut short goes on from its last
/// checkpoint. The folder then holds `results.json`, `report.html`, `config.toml`, and one folder per stage.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted) when `control.stop` was raised, that of
/// [`RunDir::lock`](cellforge_train::RunDir::lock) when another process works in the folder, and everything that reading cells, training and
/// writing can fail with.
pub fn run(config: &StudyConfig, control: &Control) -> Result<Results> {
    config.validate()?;
    let mut runner = Runner::new(control, config.precision_on(&control.device))?;
    let (cells, data) = data::run(config, &mut runner)?;
    // Only now: a mistake in the data must not leave the settings of one study beside the results of another.
    let dir = runner.dir();
    // They mean the same from any folder.
    write_atomic(&dir.settings(), config.absolute().to_toml()?.as_bytes())?;
    let (cnn_runs, cnn) = classifiers::run_cnn(config, &cells, &data, &mut runner)?;
    let (resnet_run, resnet) = classifiers::run_resnet(config, &cells, &data, &mut runner)?;
    let others = Line::besides(config)?;
    runner.keep_only(Stage::Beside.folder(), |stage| others.iter().any(|line| line.has(stage)))?;
    let own = Line::own(config);
    let (gan_runs, gans) = gan::train(&own, &cells, &data, &resnet, &mut runner)?;
    let synthetic = gan::generate(&own, &gan_runs, &gans, &mut runner)?;

    let upstream: Vec<&Stamp> = [&data, &cnn, &resnet, &synthetic].into();
    let path = dir.judgement();
    runner.stage("judge", &(&config.judge, config.seed), &upstream, Makes::Folder(Stage::Judge.folder()), |_| {
        let judgement = judge::judge(config, &cells, &cnn_runs, &resnet_run, control)?;
        Ok(files::write_json(&path, &judgement)?)
    })?;
    let judgement = files::read_json(&path)?;

    let upstream: Vec<&Stamp> = [&data, &resnet, &synthetic].into_iter().chain(&gans).collect();
    let evaluation = evaluate::run(&own, &cells, &gan_runs, &upstream, &mut runner)?;
    let beside = beside::run(&others, &cells, (&resnet_run, &data, &resnet), &mut runner)?;

    let results = outcome::collect(config, &cells, judgement, evaluation, beside, &gan_runs, &runner)?;
    let mut outputs = vec![dir.results(), dir.report()];
    if results.evaluation.is_some() {
        outputs.extend([dir.evaluation(), dir.datasheet()]);
    }
    runner.stage("report", &results, &[], Makes::Files(&outputs), |_| {
        files::write_json(&dir.results(), &results)?;
        if let Some(evaluation) = &results.evaluation {
            files::write_json(&dir.evaluation(), evaluation)?;
            write_atomic(&dir.datasheet(), datasheet(evaluation).as_bytes())?;
        }
        write_atomic(&dir.report(), report::render(&results, &control.out)?.as_bytes())?;
        Ok(())
    })?;
    Ok(results)
}
