//! # Cellforge
//!
//! Cellforge trains GANs that make synthetic medical images, and measures what those images are worth. Its reference is a published study:
//! one GAN per class, small convolutional networks and a residual network are trained on the same images, and the residual network then
//! judges the synthetic ones.
//!
//! It is for research and teaching, not a diagnostic device.
//!
//! ```
//! use cellforge::{candle::Device, data::phantom, nn::{Key, ParamStore}, gan::{GanConfig, Generator}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Images that a program renders, so that everything runs with no download.
//! let images = phantom::render(&phantom::PhantomConfig { images_per_class: 4, ..Default::default() })?;
//! assert_eq!(images.class_counts(), [4, 4]);
//!
//! // An untrained generator, an eighth as wide as the study's, and four images from it.
//! let config = GanConfig { image_size: 32.into(), width: 0.125, ..GanConfig::default() };
//! let store = ParamStore::new(Key::new(1), &Device::Cpu);
//! let generator = Generator::new(&config, store.vb())?;
//! let noise = Key::new(2).normal((4, config.latent), &Device::Cpu)?;
//! assert_eq!(generator.forward_t(&noise, false)?.dims(), [4, 3, 32, 32]);
//! # Ok(())
//! # }
//! ```
//!
//! # Four nouns
//!
//! - [`View`](data::View): images with labels, groups and names, and which of them are meant.
//! - [`RunDir`](train::RunDir) and [`Checkpoint`](train::Checkpoint): the folder of a run, and the part of it to go on from.
//! - [`TrainedGan`](train::TrainedGan) and [`TrainedClassifier`](train::TrainedClassifier): what one loads.
//! - The configurations ([`GanTrainConfig`](train::GanTrainConfig), [`ClassifierTrainConfig`](train::ClassifierTrainConfig),
//!   [`EvaluationConfig`](assess::EvaluationConfig), and [`StudyConfig`](study::StudyConfig), which holds them all): one definition for each
//!   setting, with the same name in a TOML file, in `state.json` and on the command line.
//!
//! # The library
//!
//! Each crate of the workspace is a module here, and can be used alone:
//!
//! | module | what it does |
//! |---|---|
//! | [`data`] | folders and zips of images: index, decode, split, augment, batch; the phantom; the download |
//! | [`kernels`] | forward and backward passes that are right and fast, as Candle custom ops |
//! | [`nn`] | layers with an explicit `train` flag, seeded initialisation, optimizers whose state can be saved |
//! | [`gan`] | generators, discriminators and their losses |
//! | [`classify`] | the small networks and the residual one |
//! | [`train`] | one training loop, run folders, checkpoints, observers, trained networks |
//! | [`eval`] | figures with intervals, from arrays alone |
//! | [`assess`] | judging any set of synthetic images: figures, verdicts, report, data sheet |
//! | [`settings`] | settings with one definition each: listed, laid over each other, checked |
//! | [`study`] | the published study: its stages, presets, results and report; what is known of its images |
//! | [`shipped`] | the data sheet of the built-in generator ([`TrainedGan::builtin`](train::TrainedGan::builtin)) |
//!
//! # What can be relied on
//!
//! - The same seed gives the same bytes on one machine, whatever the number of threads.
//! - A run that was stopped, or killed, and resumed ends with the same bytes as one that never stopped.
//! - Checkpoints are safetensors with PyTorch's names: `safetensors.torch.load_file` and `Module.load_state_dict` take them.
//! - In a study, a generator never sees an image that the classifiers are tested on, and where patients are known, none of theirs.
//! - Figures on the phantom say nothing about any disease, and every report that uses it says so.
//!
//! # What is not here
//!
//! No command line and nothing that prints: the program `cellforge` is the package `cellforge-cli`.

pub mod shipped;

pub use candle_core as candle;
pub use cellforge_assess as assess;
pub use cellforge_classify as classify;
pub use cellforge_data as data;
pub use cellforge_eval as eval;
pub use cellforge_gan as gan;
pub use cellforge_kernels as kernels;
pub use cellforge_nn as nn;
pub use cellforge_settings as settings;
pub use cellforge_study as study;
pub use cellforge_train as train;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExample;
