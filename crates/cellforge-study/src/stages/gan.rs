//! The GAN stages, one per class, and the synthetic cells.

use std::path::PathBuf;

use cellforge_gan::GanConfig;
use cellforge_train::{GanTrainConfig, GenerateOptions, load_generator, train_gan};

use super::data::Cells;
use crate::{
    Result, SampleWriter, StudyConfig, derive_seed,
    runner::{Makes, Runner},
    stamp::Stamp,
};

/// A trained GAN of the study.
pub(crate) struct TrainedGan {
    pub(crate) class: String,
    pub(crate) config: GanTrainConfig,
    /// The folder of its run, below the study's.
    pub(crate) folder: String,
}

/// Trains one GAN per class, on the training cells alone: no cell that the classifiers are tested on has been seen by a generator.
pub(crate) fn train(
    config: &StudyConfig,
    cells: &Cells,
    data: &Stamp,
    runner: &mut Runner<'_>,
) -> Result<(Vec<TrainedGan>, Vec<Stamp>)> {
    let (mut runs, mut stamps) = (Vec::new(), Vec::new());
    for (index, class) in cells.set.classes.iter().enumerate() {
        let gan = &config.gan;
        let train_config = GanTrainConfig {
            model: GanConfig {
                image_size: cells.set.side(),
                channels: cells.set.channels(),
                latent: gan.latent,
                width: gan.width,
                ..GanConfig::default()
            },
            iterations: gan.iterations,
            batch: gan.batch,
            lr: gan.lr,
            beta1: gan.beta1,
            seed: derive_seed(config.seed, "gan"),
            class: class.clone(),
            grid_at: gan.grid_at.iter().copied().filter(|&at| at <= gan.iterations).collect(),
            checkpoint_every: gan.checkpoint_every,
            log_every: gan.log_every,
            ..GanTrainConfig::default()
        };
        let folder = format!("gan/{}", cells.folders[index]);
        let (out, control) = (runner.path(&folder), runner.control);
        let reals = cells.of_class(&cells.split.train, index);
        let stamp = runner.stage(&folder, &train_config, &[data], Makes::Folder(&folder), |resume| {
            let outcome = train_gan(&train_config, &cells.set, &reals, &out, &control.training(resume))?;
            if outcome.interrupted { Err(control.interrupted(&folder)) } else { Ok(()) }
        })?;
        runs.push(TrainedGan { class: class.clone(), config: train_config, folder });
        stamps.push(stamp);
    }
    Ok((runs, stamps))
}

/// Makes the synthetic cells of every class.
pub(crate) fn generate(config: &StudyConfig, cells: &Cells, gans: &[Stamp], runner: &mut Runner<'_>) -> Result<Stamp> {
    let upstream: Vec<&Stamp> = gans.iter().collect();
    let control = runner.control;
    let sources: Vec<PathBuf> = cells.folders.iter().map(|folder| runner.path("gan").join(folder)).collect();
    let out = runner.path("synthetic");
    runner.stage("generate", &(&config.generate, config.seed), &upstream, Makes::Folder("synthetic"), |_| {
        let mut writer = SampleWriter::create(&out)?;
        for (class, source) in cells.set.classes.iter().zip(&sources) {
            if control.stopped() {
                return Err(control.interrupted("generate"));
            }
            let (generator, state) = load_generator(source, &control.device)?;
            let options = GenerateOptions {
                seed: derive_seed(config.seed, "generate"),
                class: class.clone(),
                label: state.label(class)?,
                latent: state.config.model.latent,
                first: 0,
                count: config.generate.per_class,
                truncation: config.generate.truncation,
            };
            writer.write(class, &cellforge_train::generate(&generator, &options, &control.device)?)?;
        }
        writer.finish()
    })
}
