//! What an audit found: `audit.json`.

use std::collections::BTreeMap;

use cellforge_data::View;
use cellforge_eval::{
    Interval,
    attacks::{EpsilonBound, Guesses, Reference, likelihood_ratios},
    clopper_pearson,
    privacy::{Attack, Membership, Targets, membership},
};
use cellforge_train::GanTrainConfig;
use serde::{Deserialize, Serialize};

use super::{AuditConfig, Statistics, coins::Coins};
use crate::{Control, Result, Versions, device_name, evaluation::Words};

/// Version of `audit.json`, raised with any change of meaning.
pub const AUDIT_SCHEMA: u32 = 1;

/// The name of the attack by the images that a GAN draws.
const DRAWS: &str = "draws";
/// The name of the attack by the discriminator.
const DISCRIMINATOR: &str = "discriminator";

/// The outcome of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// [`AUDIT_SCHEMA`].
    pub schema_version: u32,
    /// Whether coins were thrown for patients; else for single images, since a patient is not known. Images of one patient are then on
    /// both sides, and the bound of epsilon is for an image.
    pub by_patient: bool,
    /// Patients, or images.
    pub units: usize,
    /// Of these, those in the target's training.
    pub members: usize,
    /// Real images.
    pub images: usize,
    /// Of these, those in the target's training.
    pub member_images: usize,
    /// The classes.
    pub classes: Vec<String>,
    /// The attacks: `draws`, and `discriminator` where there is one.
    pub attacks: BTreeMap<String, AuditAttack>,
    /// Every unit with its scores, in the order of the names.
    pub scores: Vec<AuditUnit>,
    /// What images are called.
    pub words: Words,
    /// Settings of the audit.
    pub settings: AuditConfig,
    /// Settings of the trainings, the recipe that was audited; none for a generator of another kind.
    pub gan: Option<GanTrainConfig>,
    /// What it was computed with.
    pub versions: Versions,
}

/// What one attack found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditAttack {
    /// How well members are told from others, by image and by patient.
    pub membership: Membership,
    /// How much higher references have the statistic of what they were trained on, in standard deviations, by class.
    pub shift: BTreeMap<String, f64>,
    /// The guesses about the units with the highest and the lowest scores.
    pub guesses: Guesses,
    /// Clopper and Pearson's interval of the share of right guesses.
    pub accuracy: Interval,
    /// The lower bound of epsilon.
    pub epsilon: EpsilonBound,
}

/// One patient, or image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditUnit {
    /// Its name.
    pub name: String,
    /// Whether the target was trained on it.
    pub member: bool,
    /// Its images.
    pub images: usize,
    /// Its score in each attack: the mean over its images, higher for members.
    pub scores: BTreeMap<String, f64>,
}

impl AuditAttack {
    /// The attack on the units: patients where they are known, else images.
    #[must_use]
    pub fn of_units(&self) -> &Attack {
        self.membership.patient.as_ref().unwrap_or(&self.membership.image)
    }
}

impl Audit {
    /// What was found, in sentences, first what anyone can do who has images.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let (one, many) = self.units_in_words();
        let (level, chosen) = (100.0 * self.settings.level, self.settings.references);
        let mut sentences = vec![format!(
            "{} of {} {many} were put into training by fair coins; {chosen} GANs of the same recipe on other halves are the references.",
            self.members, self.units
        )];
        if !self.by_patient {
            sentences.push(format!("The patients are not known: what is found is about single {many}."));
        }
        for name in [DRAWS, DISCRIMINATOR] {
            let Some(found) = self.attacks.get(name) else { continue };
            let by = match name {
                DRAWS => format!("By {} drawn {} of each class", self.settings.draws, self.words.many),
                _ => "By the discriminator".to_owned(),
            };
            let attack = found.of_units();
            let (auc, chance, rate) = (attack.auc, attack.auc_chance, attack.tpr_at_fpr);
            sentences.push(format!(
                "{by}, a {one} of training is told from another in {:.1}% of pairs ({level:.0}% interval {:.1}% to {:.1}%; by chance {:.1}% to \
                 {:.1}%; p = {:.4}).",
                100.0 * auc.value,
                100.0 * auc.low,
                100.0 * auc.high,
                100.0 * chance.low,
                100.0 * chance.high,
                chance.p,
            ));
            sentences.push(format!(
                "While {:.1}% of the other {many} are taken for {many} of training, {:.1}% of those of training are found ({:.1}% to {:.1}%).",
                100.0 * attack.fpr,
                100.0 * rate.value,
                100.0 * rate.low,
                100.0 * rate.high,
            ));
            let (guesses, epsilon) = (found.guesses, found.epsilon);
            let bound = if epsilon.lower > 0.0 {
                format!("with {level:.0}% confidence epsilon is at least {:.2}", epsilon.lower)
            } else {
                "that is no evidence that epsilon is above 0".to_owned()
            };
            sentences.push(format!(
                "{} of {} guesses about the {many} with the highest and the lowest scores were right ({:.0}% to {:.0}%): {bound}.",
                guesses.correct,
                guesses.guesses,
                100.0 * found.accuracy.low,
                100.0 * found.accuracy.high,
            ));
        }
        sentences.push(
            "No audit shows that a recipe keeps its patients private: another attack may guess better.".to_owned(),
        );
        sentences
    }

    fn units_in_words(&self) -> (&str, &str) {
        if self.by_patient { ("patient", "patients") } else { (self.words.one.as_str(), self.words.many.as_str()) }
    }
}

/// Attacks the first of the GANs with the others as references.
pub(super) fn conclude(
    config: &AuditConfig,
    gan: Option<&GanTrainConfig>,
    images: &View,
    coins: &Coins,
    found: &[Statistics],
    words: &Words,
    control: &Control,
) -> Result<Audit> {
    let members = coins.members(&coins.halves[0]);
    let counts = images_of_units(coins);
    let mut scores: Vec<AuditUnit> = coins
        .units
        .iter()
        .enumerate()
        .map(|(unit, name)| {
            let (member, images) = (coins.target()[unit], counts[unit]);
            AuditUnit { name: name.clone(), member, images, scores: BTreeMap::new() }
        })
        .collect();
    let mut attacks = BTreeMap::new();
    let by_draws: Vec<&[f64]> = found.iter().map(|one| one.draws.as_slice()).collect();
    let by_discriminator: Option<Vec<&[f64]>> = found.iter().map(|one| one.discriminator.as_deref()).collect();
    for (name, statistics) in [(DRAWS, Some(by_draws)), (DISCRIMINATOR, by_discriminator)] {
        let Some(statistics) = statistics else { continue };
        let (attack, of_units) = attack(config, images, coins, &members, &statistics)?;
        scores.iter_mut().zip(of_units).for_each(|(unit, score)| {
            unit.scores.insert(name.to_owned(), score);
        });
        attacks.insert(name.to_owned(), attack);
    }
    let count = |sides: &[bool]| sides.iter().filter(|&&member| member).count();
    Ok(Audit {
        schema_version: AUDIT_SCHEMA,
        by_patient: coins.by_patient,
        units: coins.units.len(),
        members: count(coins.target()),
        images: images.len(),
        member_images: count(&members),
        classes: images.classes().to_vec(),
        attacks,
        scores,
        words: words.clone(),
        settings: config.clone(),
        gan: gan.cloned(),
        versions: Versions::here(device_name(&control.device, control.precision)),
    })
}

fn images_of_units(coins: &Coins) -> Vec<usize> {
    let mut counts = vec![0; coins.units.len()];
    coins.unit_of.iter().for_each(|&unit| counts[unit] += 1);
    counts
}

/// The attack by one statistic, and the score of each unit. Statistics are compared within a class.
fn attack(
    config: &AuditConfig,
    images: &View,
    coins: &Coins,
    members: &[bool],
    statistics: &[&[f64]],
) -> Result<(AuditAttack, Vec<f64>)> {
    let (mut scores, mut shift) = (vec![0.0; images.len()], BTreeMap::new());
    for (label, class) in images.classes().iter().enumerate() {
        let rows = images.class_indices(label as u32);
        let of = |all: &[f64]| -> Vec<f64> { rows.iter().map(|&row| all[row]).collect() };
        let known: Vec<(Vec<f64>, Vec<bool>)> = coins.halves[1..]
            .iter()
            .zip(&statistics[1..])
            .map(|(half, statistics)| {
                let members = coins.members(half);
                (of(statistics), rows.iter().map(|&row| members[row]).collect())
            })
            .collect();
        let references: Vec<Reference<'_>> =
            known.iter().map(|(statistics, members)| Reference { statistics, members }).collect();
        let found = likelihood_ratios(&of(statistics[0]), &references)?;
        super::place(&mut scores, &rows, &found.scores);
        shift.insert(class.clone(), if found.deviation > 0.0 { found.shift / found.deviation } else { 0.0 });
    }

    let (labels, groups) = (images.labels(), images.groups());
    let targets = Targets { scores: &scores, labels: &labels, groups: groups.as_deref() };
    let membership = membership(&targets, members, &config.privacy_options())?;

    let counts = images_of_units(coins);
    let mut of_units = vec![0.0; coins.units.len()];
    coins.unit_of.iter().zip(&scores).for_each(|(&unit, score)| of_units[unit] += score / counts[unit] as f64);
    let guesses = Guesses::most_confident(&of_units, coins.target(), config.guesses)?;
    let accuracy = clopper_pearson(guesses.correct as f64, guesses.guesses as usize, config.level)?;
    let epsilon = guesses.epsilon_bound(config.delta, config.level)?;
    Ok((AuditAttack { membership, shift, guesses, accuracy, epsilon }, of_units))
}
