//! Audit of a training recipe: what does a generator that is trained by it give away of whom it was trained on?
//!
//! [`audit`] trains GANs as `settings` say, and attacks one of them. It takes real images and the recipe alone; no generator that was trained
//! before is judged, since nobody could have thrown its coins.
//!
//! # What is done
//!
//! - Each patient is put in or out of training by a fair coin. The target is trained on those who are in. (Where a patient is not known, coins
//!   are thrown for single images, and the result says so.)
//! - References are trained in the same way on other halves. They come in pairs: what one of a pair is trained on the other is not. Their coins
//!   have nothing to do with the target's.
//! - Two attackers give every image a statistic under each of these GANs: the density of the images it draws, by
//!   [`log_density`] between pixels, which anyone can compute who gets images or a generator; and the score of the
//!   discriminator, which takes the whole checkpoint.
//! - [`likelihood_ratios`](cellforge_eval::attacks::likelihood_ratios) compares the target's statistic with those of the references (LiRA,
//!   Carlini et al. 2022). A patient's score is the mean over the patient's images.
//! - Members are told from others by that score ([`membership`](cellforge_eval::privacy::membership())). About the patients with the highest and
//!   the lowest scores, of a share fixed beforehand, it is guessed that they were in and out: right guesses bound the epsilon of differential privacy from
//!   below ([`Guesses`](cellforge_eval::attacks::Guesses), Steinke et al. 2023).
//!
//! The bound holds for the recipe with these settings, with a patient as the unit, whatever the attack. It says nothing from above.
//!
//! # Classes and interruptions
//!
//! There is a GAN for each class, as in a study, or one for all with `conditional`; the coin of a patient holds for all classes. Each training is a
//! run in a folder of its own, so that an audit that was stopped goes on where it was.

mod coins;
mod config;
mod outcome;
mod trainings;

use std::path::Path;

use cellforge_data::View;
use cellforge_eval::attacks::log_density;
use cellforge_train::{GanTrainConfig, RunDir, pixel_features};

pub use config::AuditConfig;
pub use outcome::{AUDIT_SCHEMA, Audit, AuditAttack, AuditUnit};

use crate::{Control, Error, Result, evaluation::Words, files::write_json};
use coins::Coins;

/// What all attacks say of all images under one generator: a statistic for each image, in the order of the view.
struct Statistics {
    draws: Vec<f64>,
    discriminator: Option<Vec<f64>>,
}

/// Trains the target and the references, attacks, and writes `audit.json` into the folder `out`, which is made if need be. A training that is
/// there is gone on with, or used if it is finished. Keep other processes out of the folder meanwhile (see [`RunDir::lock`]).
///
/// Of `settings` the seed and the class are not looked at, and nothing judges the GANs as they train.
///
/// # Errors
/// [`Error::Settings`] or [`Error::Setting`]; [`Error::AuditImages`] for too few images; [`Error::Train`] for a training that failed, or that was begun
/// with other settings; [`Error::Interrupted`] when `control.stop` was raised.
pub fn audit(
    config: &AuditConfig,
    settings: &GanTrainConfig,
    images: &View,
    words: &Words,
    out: &Path,
    control: &Control,
) -> Result<Audit> {
    config.validate()?;
    let coins = Coins::new(config, images, words)?;
    let dir = RunDir::new(out);
    let found = trainings::statistics(config, settings, images, &coins, &dir, control)?;
    let audit = outcome::conclude(config, Some(settings), images, &coins, &found, words, control)?;
    write_json(&dir.audit(), &audit)?;
    Ok(audit)
}

/// As [`audit`], for a generator of another kind: `train` is given a name, the images to learn from and a number, and answers with at least as many
/// images of each class. There is no discriminator, and no file is written.
///
/// # Errors
/// As [`audit`], and those of `train`; [`Error::AuditImages`] for images of other classes or another size, or too few.
pub fn audit_by(
    config: &AuditConfig,
    images: &View,
    words: &Words,
    train: &mut dyn FnMut(&str, &View, usize) -> Result<View>,
) -> Result<Audit> {
    config.validate()?;
    let coins = Coins::new(config, images, words)?;
    let mut found = Vec::new();
    for half in &coins.halves {
        let made = train(&half.name, &coins.part(images, half), config.draws)?;
        let made = made.relabelled(images.classes())?;
        if (made.size(), made.channels()) != (images.size(), images.channels()) {
            return Err(Error::AuditImages(format!(
                "those that {} made have another size than the real ones",
                half.name
            )));
        }
        let mut draws = vec![0.0; images.len()];
        for class in 0..images.classes().len() as u32 {
            let made = made.class(class).first(config.draws);
            if made.len() < config.draws {
                let (few, class) = (made.len(), &images.classes()[class as usize]);
                let problem = format!("{} made {few} of class {class}, and not {}", half.name, config.draws);
                return Err(Error::AuditImages(problem));
            }
            let rows = images.class_indices(class);
            let made = pixel_features(&made, config.size(images))?;
            place(&mut draws, &rows, &densities(config, &images.part(&rows), &made.values)?);
        }
        found.push(Statistics { draws, discriminator: None });
    }
    outcome::conclude(config, None, images, &coins, &found, words, &Control::default())
}

/// The log density of draws, given as rows of pixels, at each target.
fn densities(config: &AuditConfig, targets: &View, draws: &[f32]) -> Result<Vec<f64>> {
    let rows = pixel_features(targets, config.size(targets))?;
    Ok(log_density(rows.checked()?, cellforge_eval::Features::new(draws, rows.dims)?, config.k)?)
}

/// Puts the values of some rows in their places.
fn place(all: &mut [f64], rows: &[usize], values: &[f64]) {
    rows.iter().zip(values).for_each(|(&row, &value)| all[row] = value);
}

#[cfg(test)]
mod tests;
