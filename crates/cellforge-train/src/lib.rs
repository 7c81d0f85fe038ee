#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]
//!
//! # How it is put together
//!
//! [`fit`] is the one training loop. It drives a [`Step`] ([`GanStep`], [`ClassifierStep`], or yours) and tells [`Observer`]s
//! ([`observers`]) what happened, phase by phase; it knows neither networks nor files. A [`RunDir`] knows the files of a run, and a
//! [`Checkpoint`] is the part of them to go on from. [`train_gan`] and [`train_classifier`] put a step, its batches and the usual
//! observers together; [`train_for_steps`] trains a classifier for a number of updates and leaves no files. [`train_judged_gan`] lets a
//! [`Judge`] look at the generator from time to time and keeps the best; with [`GuardConfig`] a GAN's training that went wrong goes back to
//! a good checkpoint. What a run left is loaded as a [`TrainedGan`] or a [`TrainedClassifier`].
//!
//! [`Ranks`] train one network together, each on its parts of every batch: processes that MPI has started (`MpiWorld`, with the feature `mpi`),
//! or threads ([`run_ranks`]). They leave the bytes that one process leaves with as many `accumulation_steps`.
//!
//! Whatever is random is a function of the seed and of the iteration, epoch or image it is for. Nothing depends on the
//! number of threads, and a run that was stopped and resumed ends with the same bytes as one that never stopped.

mod balance;
#[cfg(feature = "builtin")]
mod builtin;
pub mod checkpoint;
mod classifier;
mod classifier_start;
mod classifier_step;
mod config;
mod error;
mod features;
mod fit;
mod fixed_steps;
mod gan;
mod gan_start;
mod gan_step;
mod generate;
mod guard;
mod history;
mod interpolate;
mod loaders;
mod memory;
mod names;
pub mod observers;
mod orientation;
mod pack;
mod packed;
mod predict;
mod ranks;
mod rejection;
mod run;
mod run_dir;
mod schedule;
mod seen;
mod supplied;
mod torch_file;
mod trained_classifier;
mod trained_gan;
mod upright;

pub use balance::{Balance, class_weights};
#[cfg(feature = "builtin")]
pub use builtin::DATASHEET as BUILTIN_DATASHEET;
pub use checkpoint::{Best, Checkpoint, StartedFrom, State};
pub(crate) use classifier::check_classes;
pub use classifier::{ClassifierOutcome, ClassifierState, train_classifier};
pub use classifier_start::classifier_start_sha256;
pub use classifier_step::{ClassifierStep, LossKind, OptimizerConfig};
pub use config::{CLASSIFIER_RECIPES, ClassifierTrainConfig, Dihedral, GAN_RECIPES, GanTrainConfig, Recipe};
pub use error::{Error, Result};
pub use features::{FeatureMatrix, dinov2_features, inception_features, pixel_features};
pub use fit::{Event, FitPlan, Losses, Observer, Outcome, Phase, Position, Snapshot, Step, fit};
pub use fixed_steps::train_for_steps;
pub use gan::{GanOutcome, GanState, train_gan, train_judged_gan};
pub use gan_start::{BUILT_IN, gan_start_sha256};
pub use gan_step::GanStep;
pub use generate::{LOWEST_TRUNCATION, SampleOptions};
pub use guard::{GuardConfig, GuardState, Rollback};
pub use history::History;
pub use memory::MemoryNeed;
pub use names::{figures, losses};
pub use observers::{
    Criterion, EarlyStop, Judge, LogEvent, LogLine, Monitor, MonitorConfig, Patience, Progress, read_log,
};
pub use orientation::{Orientation, oriented};
pub use pack::pack_gan;
pub use predict::Score;
#[cfg(feature = "mpi")]
pub use ranks::MpiWorld;
pub use ranks::{Collective, Ranks, ThreadWorld, run_ranks};
pub use run::Control;
pub use run_dir::{Mode, Run, RunDir, RunLock, Slot, Stage};
pub use schedule::Schedule;
pub use seen::{PixelHashes, Seen, SeenImages};
pub use supplied::{load_dinov2, load_inception, read_feature_file};
pub use trained_classifier::TrainedClassifier;
pub use trained_gan::TrainedGan;
pub use upright::{UprightCheck, check_upright};
