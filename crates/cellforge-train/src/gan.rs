//! Training a GAN on the cells of one class.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_nn::VarBuilder;
use cellforge_data::{Batch, CellSet, Scale, replacement_draw};
use cellforge_gan::{Discriminator, GanConfig, Generator};
use cellforge_nn::{Key, ParamStore};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, FORMAT_VERSION, State};
use crate::gan_step::GanStep;
use crate::observers::{Checkpoints, JsonlLog, Progress, SampleGrids, TensorBoard, grid_file_name};
use crate::run::{self, Control};
use crate::{Error, FitPlan, Observer, Position, Result, fit};

/// A GAN's `state.json`.
pub type GanState = State<GanTrainConfig>;

/// Everything that decides what a GAN becomes. The default is the study's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanTrainConfig {
    /// The networks.
    pub model: GanConfig,
    /// Updates of each network (the discriminator's two count as one). The study calls them epochs.
    pub iterations: u64,
    /// Real images, and fake ones, in an update.
    pub batch: usize,
    /// Adam's learning rate, for both networks.
    pub lr: f64,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Everything random is drawn from this and the class.
    pub seed: u64,
    /// Name of the class; separates the noise of GANs that share a seed.
    pub class: String,
    /// Iterations after which a sample grid is drawn.
    pub grid_at: Vec<u64>,
    /// Images in a sample grid.
    pub grid_images: usize,
    /// Iterations between checkpoints; 0 for one at the end only.
    pub checkpoint_every: u64,
    /// Iterations between lines of the log.
    pub log_every: u64,
}

impl Default for GanTrainConfig {
    fn default() -> Self {
        Self {
            model: GanConfig::default(),
            iterations: 15_000,
            batch: 32,
            lr: 1.5e-4,
            beta1: 0.5,
            beta2: 0.999,
            seed: 0,
            class: String::new(),
            grid_at: vec![1, 5_000, 10_000, 15_000],
            grid_images: 16,
            checkpoint_every: 500,
            log_every: 10,
        }
    }
}

impl GanTrainConfig {
    /// The key all of the run's randomness is derived from.
    pub(crate) fn key(&self) -> Key {
        Key::new(self.seed).with("gan").with(&self.class)
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting, or the model's own error.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        let at_least_one = [
            ("iterations", self.iterations),
            ("batch", self.batch as u64),
            ("grid_images", self.grid_images as u64),
            ("log_every", self.log_every),
        ];
        run::check_counts(&at_least_one)?;
        run::check_rate("lr", self.lr)?;
        for (field, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::Invalid { field, reason: format!("{beta} is out of range: from 0 to below 1") });
            }
        }
        Ok(())
    }
}

/// What [`train_gan`] leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct GanOutcome {
    /// Iterations done in all, those before a resume included.
    pub iterations: u64,
    /// True if the stop flag ended the run early; resume to go on.
    pub interrupted: bool,
    /// The checkpoint folder.
    pub checkpoint: PathBuf,
    /// Sample grids on disk: iteration and PNG file.
    pub grids: Vec<(u64, PathBuf)>,
    /// The log; read it with [`crate::read_log`].
    pub log: PathBuf,
}

/// Trains a GAN on the cells `indices` of `set` (those of one class) into the folder `out`: `last/` (the checkpoint),
/// `log.jsonl`, `grids/grid-00005000.png`, ... and `tensorboard/`.
///
/// # Errors
/// [`Error::Busy`] if another process is at work in `out`, [`Error::Occupied`] if `out` already holds a run and `control`
/// says neither to resume nor to overwrite, [`Error::Mismatch`] if the run to resume was started with other settings or
/// cells, [`Error::Invalid`] for settings out of range, [`Error::Diverged`] if a loss is no longer finite.
pub fn train_gan(
    config: &GanTrainConfig,
    set: &CellSet,
    indices: &[usize],
    out: &Path,
    control: &Control,
) -> Result<GanOutcome> {
    config.validate()?;
    run::check_cells(set, indices, config.model.image_size, config.model.channels)?;
    let mut step = GanStep::new(config, &control.device)?;
    let fresh = State {
        format_version: FORMAT_VERSION,
        kind: "gan".to_owned(),
        seed: config.seed,
        position: Position::default(),
        best: None,
        classes: vec![config.class.clone()],
        data: run::data_fingerprint(set, &[indices]),
        config: config.clone(),
        files: BTreeMap::new(),
    };
    let (_claim, state) = run::open(out, control, &mut step, fresh)?;

    let noise = config.key().with("grid").normal((config.grid_images, config.model.latent), &control.device)?;
    let columns = (config.grid_images as f64).sqrt().ceil() as usize;
    let (grid_dir, log) = (out.join("grids"), out.join("log.jsonl"));
    let plan = FitPlan {
        start: state.position.clone(),
        total: config.iterations,
        epoch_len: None,
        prefetch: run::PREFETCH,
        stop: &control.stop,
    };
    let mut grids = SampleGrids::new(&grid_dir, config.grid_at.clone(), noise, columns);
    let mut jsonl = JsonlLog::new(&log, config.log_every, config.checkpoint_every);
    let mut board = TensorBoard::new(out.join("tensorboard"), config.log_every);
    let mut checkpoints = Checkpoints::new(out, config.checkpoint_every, None, state);
    let mut progress = Progress::new(format!("gan {}", config.class));
    let mut observers: Vec<&mut dyn Observer<GanStep>> = vec![&mut grids, &mut jsonl, &mut board, &mut checkpoints];
    if control.progress {
        observers.push(&mut progress);
    }
    let outcome = fit(&mut step, batches(config, set, indices, &control.device), plan, &mut observers)?;

    let grid = |iteration: &u64| (*iteration, grid_dir.join(grid_file_name(*iteration)));
    Ok(GanOutcome {
        iterations: outcome.position.iteration,
        interrupted: outcome.interrupted,
        checkpoint: out.join("last"),
        grids: config.grid_at.iter().map(grid).filter(|(_, path)| path.is_file()).collect(),
        log,
    })
}

/// The batch of each iteration: reals drawn with replacement, scaled to [-1, 1].
fn batches(
    config: &GanTrainConfig,
    set: &CellSet,
    indices: &[usize],
    device: &Device,
) -> impl FnMut(u64) -> Result<Batch> + Send + use<> {
    let (set, indices, device) = (set.clone(), indices.to_vec(), device.clone());
    let (seed, b) = (config.seed, config.batch);
    move |iteration| {
        let drawn = replacement_draw(&indices, seed, iteration, b);
        Ok(Batch::gather(&set, &drawn, Scale::SignedUnit, None, &device)?)
    }
}

/// Loads the generator from a checkpoint folder, or from a run's folder.
///
/// # Errors
/// [`Error::NoCheckpoint`], [`Error::Damaged`] or [`Error::Unsuitable`].
pub fn load_generator(dir: &Path, device: &Device) -> Result<(Generator, GanState)> {
    load(dir, "weights", device, Generator::new)
}

/// Loads the discriminator from a checkpoint folder, or from a run's folder.
///
/// # Errors
/// As [`load_generator`].
pub fn load_discriminator(dir: &Path, device: &Device) -> Result<(Discriminator, GanState)> {
    load(dir, "discriminator", device, Discriminator::new)
}

/// A network with the weights of the checkpoint's file `stem`. It takes no gradients, so that running it keeps nothing for them.
fn load<T>(
    dir: &Path,
    stem: &str,
    device: &Device,
    build: impl FnOnce(&GanConfig, VarBuilder<'static>) -> candle_core::Result<T>,
) -> Result<(T, GanState)> {
    let dir = checkpoint::find(dir, &["last"])?;
    let state: GanState = checkpoint::read_state(&dir, "gan")?;
    let store = ParamStore::new(state.config.key(), device);
    let network = build(&state.config.model, store.frozen_vb())?;
    store.set(&checkpoint::read_tensors(&dir, stem, device)?)?;
    Ok((network, state))
}
