//! Who is in and who is out of each training.

use std::collections::BTreeMap;

use cellforge_data::{View, derive_seed};

use super::AuditConfig;
use crate::{Error, Result, evaluation::Words};

/// Fewer patients would say nothing, and might all be on one side.
const LEAST_UNITS: usize = 10;

/// The coins of all trainings.
pub(super) struct Coins {
    /// Patients, or images where a patient is not known, in the order of their names.
    pub(super) units: Vec<String>,
    /// Whether these are patients.
    pub(super) by_patient: bool,
    /// The unit of each image.
    pub(super) unit_of: Vec<usize>,
    /// The target's first, then those of the references.
    pub(super) halves: Vec<Half>,
}

/// The coins of one training.
pub(super) struct Half {
    /// What it is called; its folder, too.
    pub(super) name: String,
    /// Seed of the training.
    pub(super) seed: u64,
    /// Whether each unit is in.
    members: Vec<bool>,
}

impl Coins {
    /// Throws a coin for each unit, by the seed and the unit's name: for the target, and for each pair of references.
    ///
    /// # Errors
    /// [`Error::AuditImages`] for too few units, or where a training would have no image of a class.
    pub(super) fn new(config: &AuditConfig, images: &View, words: &Words) -> Result<Self> {
        let groups = images.groups();
        let by_patient = groups.is_some();
        let of_image = groups.unwrap_or_else(|| images.names().map(str::to_owned).collect());
        let mut numbers: BTreeMap<&str, usize> = of_image.iter().map(|unit| (unit.as_str(), 0)).collect();
        numbers.values_mut().enumerate().for_each(|(number, slot)| *slot = number);
        let unit_of: Vec<usize> = of_image.iter().map(|unit| numbers[unit.as_str()]).collect();
        let units: Vec<String> = numbers.into_keys().map(str::to_owned).collect();
        let what = if by_patient { "patients" } else { words.many.as_str() };
        if units.len() < LEAST_UNITS {
            let problem = format!("{} {what} are too few: an audit takes at least {LEAST_UNITS}", units.len());
            return Err(Error::AuditImages(problem));
        }
        let thrown = |of: &str| -> Vec<bool> {
            units.iter().map(|unit| derive_seed(config.seed, &format!("audit/{of}/{unit}")) & 1 == 1).collect()
        };
        let half =
            |name: String, members| Half { seed: derive_seed(config.seed, &format!("audit/{name}")), name, members };
        let mut halves = vec![half("target".to_owned(), thrown("target"))];
        for reference in 0..config.references {
            // The second of a pair has the patients that the first has not.
            let (pair, second) = (reference / 2, reference % 2 == 1);
            let members = thrown(&format!("pair-{pair}")).into_iter().map(|member| member != second).collect();
            halves.push(half(format!("reference-{}", reference + 1), members));
        }
        let coins = Self { units, by_patient, unit_of, halves };
        for half in &coins.halves {
            let counts = coins.part(images, half).class_counts();
            if let Some(class) = counts.iter().position(|&count| count == 0) {
                let class = &images.classes()[class];
                let problem = format!(
                    "the coins of {} leave it no {} of class {class}: audit classes of more {what}, or take another seed",
                    half.name, words.one
                );
                return Err(Error::AuditImages(problem));
            }
        }
        Ok(coins)
    }

    /// Whether each image is in a training.
    pub(super) fn members(&self, half: &Half) -> Vec<bool> {
        self.unit_of.iter().map(|&unit| half.members[unit]).collect()
    }

    /// The images of a training.
    pub(super) fn part(&self, images: &View, half: &Half) -> View {
        let members = self.members(half);
        images.part(&(0..images.len()).filter(|&image| members[image]).collect::<Vec<_>>())
    }

    /// Whether each unit was in the target's training.
    pub(super) fn target(&self) -> &[bool] {
        &self.halves[0].members
    }
}
