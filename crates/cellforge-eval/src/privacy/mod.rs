//! Privacy

mod authenticity;
mod chance;
mod copying;
mod findings;
mod kmeans;
mod membership;
mod near;
mod roc;
mod share;
mod spread;
mod trial;
mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BootstrapOptions, Features, Result};

pub use authenticity::Authenticity;
pub use chance::Chance;
pub use copying::{Copying, Region};
pub use findings::Finding;
pub use membership::{Attack, Membership};
pub use share::{Share, clopper_pearson};
pub use spread::{Compared, Distances, Pair};

use membership::Attacker;
use near::Table;
use trial::Trial;
use units::{Purpose, Units, random};

/// One space in which distances are measured.
#[derive(Clone, Debug)]
pub struct Space<'a> {
    /// Name.
    pub name: String,
    /// Training cells.
    pub train: Features<'a>,
    /// Held-out cells: as they are, and where wanted in all orientations of `synthetic`.
    pub holdout: Vec<Features<'a>>,
    /// Synthetic cells, once per orientation.
    pub synthetic: Vec<Features<'a>>,
}

/// Labels.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Training.
    pub train: &'a [u32],
    /// Holdout.
    pub holdout: &'a [u32],
    /// Synthetic.
    pub synthetic: &'a [u32],
}

/// Scores of the discriminator.
#[derive(Clone, Copy, Debug)]
pub struct Discriminator<'a> {
    /// Training.
    pub train: &'a [f64],
    /// Holdout.
    pub holdout: &'a [f64],
}

/// Input.
#[derive(Clone, Debug)]
pub struct PrivacyInput<'a> {
    /// Spaces.
    pub spaces: Vec<Space<'a>>,
    /// Labels.
    pub labels: Labels<'a>,
    /// Patients of training cells.
    pub train_groups: Option<&'a [String]>,
    /// Patients of held-out cells.
    pub holdout_groups: Option<&'a [String]>,
    /// Discriminator.
    pub discriminator: Option<Discriminator<'a>>,
}

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivacyOptions {
    /// Bootstrap.
    pub bootstrap: BootstrapOptions,
    /// Relabellings.
    pub relabellings: usize,
    /// Clusters.
    pub clusters: usize,
    /// FPR.
    pub fpr: f64,
    /// Pairs.
    pub pairs: usize,
    /// Seed.
    pub seed: u64,
    /// Controls.
    pub controls: bool,
}

impl Default for PrivacyOptions {
    fn default() -> Self {
        Self {
            bootstrap: BootstrapOptions::default(),
            relabellings: 2000,
            clusters: 10,
            fpr: 0.01,
            pairs: 10,
            seed: 0,
            controls: true,
        }
    }
}

/// Result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Privacy {
    /// Spaces.
    pub spaces: BTreeMap<String, SpacePrivacy>,
    /// LOGAN.
    pub logan: Option<Membership>,
    /// By patient.
    pub by_patient: bool,
    /// Units.
    pub train_units: usize,
    /// Units.
    pub holdout_units: usize,
    /// Relabellings.
    pub relabellings: usize,
    /// Smallest p.
    pub smallest_p: f64,
    /// Level.
    pub level: f64,
    /// Controls.
    pub controls: Option<()>,
}

/// One space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpacePrivacy {
    /// DCR.
    pub dcr: Compared,
    /// NNDR.
    pub nndr: Compared,
    /// DCR.
    pub dcr_turned: Option<Compared>,
    /// NNDR.
    pub nndr_turned: Option<Compared>,
    /// Share.
    pub nearer_to_train: Share,
    /// Copying.
    pub copying: Copying,
    /// Authenticity.
    pub authenticity: Authenticity,
    /// GAN-Leaks.
    pub gan_leaks: Membership,
    /// Calibrated.
    pub gan_leaks_calibrated: Membership,
    /// Pairs.
    pub closest: Vec<Pair>,
}

/// All.
pub fn privacy(input: &PrivacyInput, options: &PrivacyOptions) -> Result<Privacy> {
    options.bootstrap.check()?;
    let labels = input.labels;
    let units = Units::new(labels.train, labels.holdout, input.train_groups, input.holdout_groups)?;
    let mut trials = BTreeMap::new();
    for space in &input.spaces {
        let table = Table::new(space, &units)?;
        let real = [space.train, space.holdout[0]];
        let centres = kmeans::centres(&real, options.clusters, &mut random(options.seed, Purpose::Means, 0))?;
        let regions = (kmeans::assign(&space.synthetic[..1], &centres)?, kmeans::assign(&real, &centres)?);
        trials.insert(space.name.clone(), Trial::new(table, regions.0, regions.1, &units, options.fpr)?);
    }
    let logan = input
        .discriminator
        .map(|scores| {
            Attacker::logan(
                &[scores.train, scores.holdout].concat(),
                &[labels.train, labels.holdout].concat(),
                &units,
                options.fpr,
            )
        })
        .transpose()?;
    trial::judge(&trials, logan.as_ref(), &units, options)
}
