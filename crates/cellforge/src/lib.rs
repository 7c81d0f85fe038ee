//! # Cellforge
//!
//! Cellforge learns to make synthetic medical cell images and proves what they are worth. It repeats, from one command, a study of
//! generative networks on malaria cells: one GAN per class is trained on thin-smear cells, small convolutional networks and a
//! residual network are trained on the same cells, and the residual network then judges the synthetic ones.
//!
//! It is for research and teaching, not a diagnostic device.
//!
//! ```
//! use cellforge::{candle::Device, data::phantom, nn::{Key, ParamStore}, gan::{GanConfig, Generator}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Cells that a program renders, so that everything runs with no download.
//! let cells = phantom::render(&phantom::PhantomConfig { images_per_class: 4, ..Default::default() })?;
//! assert_eq!(cells.classes(), ["Parasitized", "Uninfected"]);
//!
//! // An untrained generator, an eighth as wide as the study's, and four images from it.
//! let config = GanConfig { image_size: 32, width: 0.125, ..GanConfig::default() };
//! let store = ParamStore::new(Key::new(1), &Device::Cpu);
//! let generator = Generator::new(&config, store.vb())?;
//! let noise = Key::new(2).normal((4, config.latent), &Device::Cpu)?;
//! assert_eq!(generator.forward_t(&noise, false)?.dims(), [4, 3, 32, 32]);
//! # Ok(())
//! # }
//! ```
//!
//! # The command line
//!
//! ```sh
//! cellforge reproduce                               # the whole study on the phantom, about 5 minutes
//! cellforge reproduce --data cell_images.zip        # the same on real cells
//! cellforge inspect generator                       # layers, shapes, parameters, multiply-adds
//! cellforge data info cell_images.zip               # what is in a set of cells
//! cellforge train gan --data cell_images.zip --class Parasitized --out gan
//! cellforge generate --count 100 --out some         # cells of the built-in generator
//! cellforge generate --checkpoint runs/quick --count 100 --out cells.zip
//! cellforge classify --checkpoint runs/quick --data cells.zip --csv each.csv
//! cellforge evaluate --real train.zip --holdout test.zip --synthetic cells.zip --features resnet:runs/quick --out evaluation
//! ```
//!
//! Every verb takes `--seed`, `--device`, `--threads`, `-q`, `-v` and `--config FILE`, a TOML file with any of its flags; flags on
//! the command line win, and the effective settings are saved as `config.toml` with every run. Exit codes: 0 done, 1 failed, 2 a wrong
//! command line, 130 stopped by Ctrl-C.
//!
//! # The library
//!
//! Each crate of the workspace is a module here, and can be used alone:
//!
//! | module | what it does |
//! |---|---|
//! | [`data`] | folders and zips of cells: index, decode, split, augment, batch; the phantom; the download |
//! | [`kernels`] | forward and backward passes that are right and fast, as Candle custom ops |
//! | [`nn`] | layers with an explicit `train` flag, seeded initialisation, optimisers whose state can be saved |
//! | [`gan`] | generators, discriminators and their losses |
//! | [`classify`] | the small networks and the residual one |
//! | [`train`] | one training loop, checkpoints, observers |
//! | [`eval`] | figures with intervals, from arrays alone |
//! | [`assess`] | judging any set of synthetic images: figures, verdicts, report, data sheet |
//! | [`settings`] | settings with one definition each: listed, laid over each other, checked |
//! | [`study`] | the stages of the study, its presets, its results and its report |
//! | [`shipped`] | the data sheet of the built-in generator ([`TrainedGan::builtin`](train::TrainedGan::builtin)) |
//!
//! # What can be relied on
//!
//! - The same seed gives the same bytes on one machine, whatever the number of threads.
//! - A run that was stopped, or killed, and resumed ends with the same bytes as one that never stopped.
//! - Checkpoints are safetensors with PyTorch's names: `safetensors.torch.load_file` and `Module.load_state_dict` take them.
//! - In a study, a generator never sees a cell that the classifiers are tested on, and where patients are known, none of theirs.
//!   `train gan` does the same when it is given the classifier's `--split`.
//! - Figures on the phantom say nothing about malaria, and every report that uses it says so.

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
