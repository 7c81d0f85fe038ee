//! The evaluation stage: fidelity, utility and privacy of the synthetic images.

use std::collections::BTreeSet;

use cellforge_assess::{
    Evaluation, evaluate,
    evaluation::{EvaluationInputs, FeatureSource, Part, Provenance},
    files::read_json,
};
use cellforge_data::{Groups, OpenOptions, View, derive_seed};
use cellforge_train::{RunDir, Slot, Stage, TrainedGan};

use super::{Line, data::Cells, gan::GanRun};
use crate::{
    Error, Result, StudyConfig,
    runner::{Makes, Runner},
    stamp::Stamp,
};

/// Evaluates the synthetic images against the training images, with the test images as the holdout and the features of the residual
/// network. `upstream` are the stages whose outputs are used. None where the settings leave all of it out, and, with a warning, where there
/// are too few images: the rest of the study stands without it.
pub(crate) fn run(
    line: &Line,
    cells: &Cells,
    gans: &[GanRun],
    upstream: &[&Stamp],
    runner: &mut Runner<'_>,
) -> Result<Option<Evaluation>> {
    let (config, control) = (&line.config, runner.control);
    if config.evaluate.measure.is_empty() {
        return Ok(None);
    }
    let settings = config.evaluation();
    let (folder, name) = (line.folder(Stage::Evaluation), line.name(Stage::Evaluation, "evaluate"));
    let (out, synthetic) = (line.path(Stage::Evaluation, control), line.path(Stage::Synthetic, control));
    let provenance = provenance(config, cells, gans, runner)?;
    let discriminators = folders(gans).into_iter().map(|folder| runner.path(folder)).collect();
    let resnet = runner.dir().stage(Stage::Resnet).slot(Slot::Last);
    let made_from = (&settings, &provenance, &cells.words);
    let done = runner.stage(&name, &made_from, upstream, Makes::Folder(&folder), |_| {
        let mut options = OpenOptions::new(cells.all.size(), cells.all.channels());
        options.groups = Groups::None;
        let made = View::open(&synthetic, &options)?;
        let real = Part::new(cells.train.clone(), "the training part of the study");
        let synthetic = Part::new(made, "the study's generators");
        let mut inputs = EvaluationInputs {
            holdout: Some(Part::new(cells.test.clone(), "the test part of the study")),
            discriminators,
            words: cells.words.clone(),
            provenance: provenance.clone(),
            ..EvaluationInputs::new(real, synthetic, FeatureSource::Classifier(resnet))
        };
        // Other families than the ResNet's, which has seen the task.
        inputs.features.extend([FeatureSource::SelfSupervised, FeatureSource::Pixels]);
        match evaluate(&settings, &inputs, &out, &control.training(config)) {
            Err(cellforge_assess::Error::Interrupted) => Err(control.interrupted(&name)),
            found => Ok(found.map(drop)?),
        }
    });
    match done {
        Err(Error::Assess(error @ cellforge_assess::Error::EvaluationImages { .. })) => {
            tracing::warn!("the evaluation is left out of this study: {error}");
            return Ok(None);
        }
        done => done?,
    };
    let mut found: Evaluation = read_json(&RunDir::new(&out).evaluation())?;
    // Paths are relative to the file that names them, and the results lie further up.
    found.pairs.iter_mut().for_each(|pair| pair.path = line.inside(Stage::Evaluation, &pair.path));
    if let Some(two_sample) = &mut found.two_sample {
        let pictures = two_sample.pictures.iter_mut();
        pictures.for_each(|picture| picture.path = line.inside(Stage::Evaluation, &picture.path));
    }
    // The command is no input of the stage: one that names another device repeats the same study.
    found.provenance.command.clone_from(&control.command);
    Ok(Some(found))
}

/// The folders of the GANs, each once: classes may share one.
fn folders(gans: &[GanRun]) -> BTreeSet<&str> {
    gans.iter().map(|run| run.folder.as_str()).collect()
}

fn provenance(config: &StudyConfig, cells: &Cells, gans: &[GanRun], runner: &Runner<'_>) -> Result<Provenance> {
    let gan = &config.gan;
    let together = gans.iter().any(|run| run.config.model.classes > 1);
    let (mut used, mut holdout_seen) = (BTreeSet::new(), Some(0));
    for folder in folders(gans) {
        let gan = TrainedGan::load(runner.path(folder))?;
        used.insert(gan.state().position.iteration);
        // None by the split; but it may have started from another.
        holdout_seen = holdout_seen.zip(gan.seen(&cells.test)).map(|(all, seen)| all + seen.train);
    }
    let used = if used.iter().eq([&gan.iterations]) {
        String::new()
    } else {
        let used: Vec<String> = used.iter().map(u64::to_string).collect();
        format!(" (the weights are those after {})", used.join(" and "))
    };
    let generator = format!(
        "{} ({}), width {}, {} iterations{used} with {} {} each{}",
        if together { "one GAN of all classes" } else { "one GAN per class" },
        gans.iter().map(|run| run.class.as_str()).collect::<Vec<_>>().join(", "),
        gan.model.width,
        gan.iterations,
        gan.batch,
        cells.words.many,
        config.generate.truncation.map_or(String::new(), |t| format!(", noise truncated at {t}")),
    );
    Ok(Provenance {
        generator: Some(generator),
        seed: Some(derive_seed(config.seed, "generate")),
        holdout_seen,
        ..cells.origin.provenance("")
    })
}
