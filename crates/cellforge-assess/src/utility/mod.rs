//! Utility: can a classifier be trained on the synthetic images, and do they help one that is trained on real images?
//!
//! [`utility`] trains the same network many times and tests all of them on the same real images:
//!
//! - **TSTR**, trained on synthetic and tested on real images, against **TRTR**, trained and tested on real ones, the ceiling; and **TRTS**,
//!   trained on real and tested on synthetic (Esteban, Hyland and Rätsch 2017, Real-valued (medical) time series generation with
//!   recurrent conditional GANs, arXiv:1706.02633).
//! - **The augmentation study**: a fraction of the real patients, alone and with so many synthetic images for each real one.
//!
//! # What makes the comparison fair
//!
//! - Every training has the same number of updates of the same number of images ([`train_for_steps`](cellforge_train::train_for_steps)),
//!   whatever there is to learn from: more images never mean more training. The weights after the last update are tested; no test image
//!   decides which.
//! - All trainings have one recipe. Flips are the only augmentation, and the learning rate falls linearly to 0 over the updates. The small
//!   network has the recipe `cnn-3`, with Adam from 1e-3: within 500 updates it learns what SGD from 0.01 does not (0.93 against 0.84 of the
//!   test images right, on micrographs of 64 pixels). The residual network has the default recipe, with SGD from 0.1 (at 32 pixels and 0.375
//!   of the width 0.94 right, from 0.03 0.93).
//! - Trainings number `s` share the first weights and the choice of real patients, so that differences are paired. Larger fractions hold
//!   the smaller ones. A choice is the same whatever is added to it.
//! - Added images have the classes of the real ones in the same proportions. Where there are too few, all that keep the proportions are
//!   used, none of them twice, and the figures mark it.
//! - Intervals cover both the variation of patients and that of trainings, see [`paired_difference`](cellforge_eval::paired_difference);
//!   p-values of the augmentation study are adjusted by Holm's method.
//!
//! Look at TRTR first: where the budget of updates is too small for the network to learn all real images, or where few patients have
//! mostly images of one class, networks predict one class for everything, and no difference means much.
//!
//! # What interruptions cost
//!
//! The predictions of a network go into a file of their own as soon as it is trained. Trainings that were stopped, or killed, and
//! started again into the same folder go on with those that are missing and find the same figures as if they had never stopped.

mod config;
mod images;
mod outcome;
mod runs;
mod subsets;
mod trainings;

use std::path::Path;

use cellforge_data::View;

pub use config::{UtilityClassifier, UtilityConfig, UtilityTraining};
pub use outcome::{Utility, UtilityImages, UtilityPoint, UtilityScore, UtilitySeed};

use crate::{Control, Result};

/// The images of a utility study. Classes are matched by name; all sets have every class of the real images and no other, and one size.
#[derive(Clone, Debug)]
pub struct UtilityData {
    /// Real images to train on: those that the generators learned from.
    pub real: View,
    /// Real images of other patients, to test on.
    pub test: View,
    /// The synthetic images. They need have no patients.
    pub synthetic: View,
}

/// Trains and tests every network, and compares them. The folder `out` is made if need be and keeps the predictions of
/// each training in `runs/`; those that are there from the same images and settings are used. Keep other processes out of it meanwhile
/// (see [`RunDir::lock`](cellforge_train::RunDir::lock)).
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting); [`Error::UtilityImages`](crate::Error::UtilityImages) for images that do not fit together;
/// [`Error::UtilityRun`](crate::Error::UtilityRun) naming a training that failed; [`Error::Interrupted`](crate::Error::Interrupted)
/// when `control.stop` was raised.
pub fn utility(config: &UtilityConfig, data: &UtilityData, out: &Path, control: &Control) -> Result<Utility> {
    config.validate()?;
    let pool = images::Pool::new(data)?;
    let trainings = trainings::Trainings::new(config, &pool);
    let predicted = runs::run_all(config, &pool, &trainings, out, control)?;
    outcome::collect(config, &pool, &trainings, &predicted)
}

/// Fails if the images do not fit together.
pub(crate) fn check(data: &UtilityData) -> Result<()> {
    images::Pool::new(data).map(drop)
}
