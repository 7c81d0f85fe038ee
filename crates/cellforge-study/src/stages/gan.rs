//! The GAN stages, one per class or one for all, and the synthetic cells.

use std::path::PathBuf;

use cellforge_assess::ProgressBar;
use cellforge_data::{ImageWriter, View, WriteOptions, derive_seed};
use cellforge_train::{GanTrainConfig, Judge, SampleOptions, Stage, TrainedGan, train_judged_gan};

use super::{Line, TrainingInputs, data::Cells};
use crate::{
    Result, StudyConfig,
    runner::{Makes, Runner, run_dir},
    stamp::Stamp,
};

/// The name of the run of a GAN of all classes, which stands in place of those of single classes.
const TOGETHER: &str = "_all";

/// Images that are made before it is looked whether to stop.
const PART: usize = 256;

/// What made the cells of a class.
pub(crate) struct GanRun {
    pub(crate) class: String,
    pub(crate) config: GanTrainConfig,
    /// The folder of its run, below the study's. Classes of one GAN have one folder.
    pub(crate) folder: String,
    /// Cells of the class that it learned from.
    pub(crate) learned: usize,
}

/// Trains the GANs on the training part of the split, so that no cell the classifiers are tested on has been seen by a generator. Where
/// the recipe has them judged as they train, it is by the residual network, on the validation part.
pub(crate) fn train(
    line: &Line,
    cells: &Cells,
    data: &Stamp,
    resnet: &Stamp,
    runner: &mut Runner<'_>,
) -> Result<(Vec<GanRun>, Vec<Stamp>)> {
    let (config, classes) = (&line.config, cells.all.classes());
    let together = config.gan.conditional && classes.len() > 1;
    let folders: Vec<String> = if together {
        vec![line.inside(Stage::Gan, TOGETHER)]
    } else {
        cells.folders.iter().map(|name| line.inside(Stage::Gan, name)).collect()
    };
    // Whoever looks for the study's generators takes all that are there.
    runner.keep_only(&line.folder(Stage::Gan), |stage| folders.iter().any(|folder| folder == stage))?;
    let judges = can_judge(config, cells);
    let start = config.gan.from.as_deref().map(cellforge_train::gan_start_sha256).transpose()?;
    let (mut runs, mut stamps) = (Vec::new(), Vec::new());
    let mut train = |train_config: &GanTrainConfig, folder: &str, reals: &View| {
        let (out, control) = (runner.path(folder), runner.control);
        let judged = train_config.monitor.every > 0 && judges;
        let upstream: &[&Stamp] = if judged { &[data, resnet] } else { &[data] };
        let network = runner.folder(Stage::Resnet);
        let inputs = TrainingInputs { config: train_config, start: start.as_deref() };
        runner.stage(folder, &inputs, upstream, Makes::Folder(folder), |resume| {
            let (dir, how) = (run_dir(&out, resume), control.training(config));
            let judge = if judged { Some(Judge::load(&network, &cells.val, &how)?) } else { None };
            let outcome = train_judged_gan(train_config, reals, judge.as_ref(), &dir, &how, &mut [])?;
            if outcome.interrupted { Err(control.interrupted(folder)) } else { Ok(()) }
        })
    };
    if together {
        let train_config = train_config(&line.config, cells, None);
        let folder = &folders[0];
        stamps.push(train(&train_config, folder, &cells.train)?);
        let run = |(index, class): (usize, &String)| GanRun {
            class: class.clone(),
            config: train_config.clone(),
            folder: folder.clone(),
            learned: cells.train.class_counts()[index],
        };
        runs.extend(classes.iter().enumerate().map(run));
        return Ok((runs, stamps));
    }
    for (index, (class, folder)) in classes.iter().zip(folders).enumerate() {
        let train_config = train_config(&line.config, cells, Some(class));
        let reals = cells.train.class(index as u32);
        stamps.push(train(&train_config, &folder, &reals)?);
        runs.push(GanRun { class: class.clone(), config: train_config, folder, learned: reals.len() });
    }
    Ok((runs, stamps))
}

/// Whether there are enough validation images of each class for a judge to compare with. Else GANs train without one.
fn can_judge(config: &StudyConfig, cells: &Cells) -> bool {
    let (needed, val) = (config.gan.monitor.k + 1, &cells.val);
    let least = val.class_counts().into_iter().zip(val.classes()).min();
    let Some((found, class)) = least.filter(|(found, _)| *found < needed) else { return true };
    if config.gan.monitor.every > 0 {
        tracing::warn!(
            "the GANs are not judged while they train, and are taken as they end: of {class} there are {found} validation {}, and a judge needs {needed}",
            cells.words.many
        );
    }
    false
}

/// The settings of the GAN of one class, or of all.
fn train_config(config: &StudyConfig, cells: &Cells, class: Option<&String>) -> GanTrainConfig {
    let classes = if class.is_some() { 1 } else { cells.all.classes().len() };
    GanTrainConfig {
        seed: derive_seed(config.seed, "gan"),
        class: class.cloned().unwrap_or_default(),
        ..config.gan.clone().for_images(cells.all.size(), cells.all.channels(), classes)
    }
}

/// Makes the synthetic cells of every class.
pub(crate) fn generate(line: &Line, gans: &[GanRun], stamps: &[Stamp], runner: &mut Runner<'_>) -> Result<Stamp> {
    let upstream: Vec<&Stamp> = stamps.iter().collect();
    let (config, control) = (&line.config, runner.control);
    let count = |gan: &GanRun| match config.generate.per_class {
        0 => gan.learned,
        count => count,
    };
    let (out, name) = (line.path(Stage::Synthetic, control), line.name(Stage::Synthetic, "generate"));
    let sources: Vec<(&GanRun, PathBuf)> = gans.iter().map(|gan| (gan, runner.path(&gan.folder))).collect();
    let folder = line.folder(Stage::Synthetic);
    runner.stage(&name, &(&config.generate, config.seed), &upstream, Makes::Folder(&folder), |_| {
        let mut writer = ImageWriter::create(&out, &WriteOptions::default())?;
        let bar = ProgressBar::new(control.progress, "generate", gans.iter().map(|gan| count(gan) as u64).sum());
        for (gan, source) in &sources {
            let trained = TrainedGan::load_in(source, &control.device, config.precision_on(&control.device))?;
            let options = SampleOptions {
                seed: derive_seed(config.seed, "generate"),
                truncation: config.generate.truncation,
                keep: None,
            };
            bar.name(format!("{} of {}", count(gan), gan.class));
            for first in (0..count(gan)).step_by(PART) {
                if control.stopped() {
                    return Err(control.interrupted(&name));
                }
                let last = count(gan).min(first + PART);
                let images = trained.sample_with(&options, &gan.class, first..last)?;
                writer.write(&images)?;
                bar.advance(images.len() as u64);
            }
        }
        bar.finish();
        Ok(writer.finish()?)
    })
}
