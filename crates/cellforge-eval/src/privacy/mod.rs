//! Privacy: do synthetic images give away whose images a generator was trained on?
//!
//! Three sets are compared: the images a generator was trained on, held-out images of other patients, and synthetic images.
//!
//! ```
//! use cellforge_eval::{Features, privacy::{Labels, PrivacyInput, PrivacyOptions, Space, privacy}};
//!
//! // Twelve training patients and twelve held-out ones with two images each, on a line; the "generator" gives away training images.
//! let train: Vec<f32> = (0..24).map(|i| (20 * (i / 2) + i % 2) as f32).collect();
//! let holdout: Vec<f32> = train.iter().map(|image| image + 10.0).collect();
//! let patients = |of: &str| (0..24).map(|i| format!("{of}{}", i / 2)).collect::<Vec<_>>();
//! let (a, b, labels) = (patients("A"), patients("B"), [0; 24]);
//! let input = PrivacyInput {
//!     spaces: vec![Space {
//!         name: "line".to_owned(),
//!         train: Features::new(&train, 1)?,
//!         holdout: vec![Features::new(&holdout, 1)?],
//!         synthetic: vec![Features::new(&train, 1)?],
//!     }],
//!     labels: Labels { train: &labels, holdout: &labels },
//!     train_groups: Some(&a),
//!     holdout_groups: Some(&b),
//!     discriminator: None,
//! };
//! let found = privacy(&input, &PrivacyOptions::default())?;
//! assert_eq!(found.spaces["line"].nearer_to_train.rate, 1.0);
//! assert!(found.findings().iter().all(|finding| finding.leaks));
//! # Ok::<(), cellforge_eval::Error>(())
//! ```
//!
//! # The figures
//!
//! - [`SpacePrivacy::dcr`], [`SpacePrivacy::nndr`]: the distance of each synthetic image to the closest training record, and its ratio to
//!   the distance of the second closest. Held-out images are the baseline: distances below theirs are closer than new patients come
//!   (Zhao et al. 2021, CTAB-GAN).
//! - [`SpacePrivacy::nearer_to_train`]: the share of synthetic images whose nearest real image is a training image, evened out for the sizes
//!   of both sides. The binomial interval is Clopper and Pearson's (1934).
//! - [`SpacePrivacy::closest_nearer_to_train`]: the same share of the few synthetic images that come closest to real ones, where copies
//!   are if there are any. [`SpacePrivacy::identical`] counts those that are exactly a training image.
//! - [`SpacePrivacy::copying`]: in each region of the space, the distances of synthetic images to training are ranked against those of
//!   held-out images, and the regions' z-values are averaged. The three-sample test of Meehan, Chaudhuri and Dasgupta (2020).
//! - [`SpacePrivacy::authenticity`]: the share of synthetic images that are further from the nearest training image than that image is from
//!   its own nearest neighbour. From Alaa et al. (2022); the difference to held-out images is added.
//! - [`SpacePrivacy::gan_leaks`], [`SpacePrivacy::gan_leaks_calibrated`]: an attacker takes an image for a training image if a synthetic one
//!   is near, for the calibrated attack nearer than real images of other patients are. From Chen et al. (2020), GAN-Leaks; the reference
//!   there is a second generator, here it is the real images.
//! - [`Privacy::logan`]: an attacker takes an image for a training image if the discriminator finds it real. From Hayes et al. (2019), LOGAN.
//! - [`SpacePrivacy::closest`]: the closest pairs of a synthetic and a training image, to be looked at.
//!
//! Membership is attacked for single images and for patients, by the mean score of their images.
//!
//! # The verdict
//!
//! Images of one patient resemble each other, and some patients are near to everything. So the share nearer to training is not binomial:
//! images of third patients, who have nothing to do with either side, are nearer to one of them by chance. And several figures depend on
//! how good synthetic images are: blurred ones are near to all real images, training images among them, without having copied any.
//! No interval around these figures, compared with their ideal, has the error that it states.
//!
//! What can be known is who was in training. If the synthetic set does not depend on that, every way of sharing out the same patients
//! between training and holdout is as likely as the true one. So every figure is computed again for many such ways (a permutation test
//! by patients, within strata of patients with images of the same classes), and [`Chance`] holds where it lies. A leak is found where the
//! true figure is more extreme than chance allows, over all tests together ([`Privacy::findings`]). Images identical to training images
//! need no statistics: one of them is a leak. The rest needs four things:
//!
//! - Patients were shared out at random, or as if at random.
//! - What computes the features has not seen more of one side than of the other. A classifier that was trained on the training images has:
//!   they lie otherwise in its features than images it never saw, and a synthetic image that is new lies as those do, so that a leak may be
//!   missed. Pixels, and networks trained on other images, have seen neither.
//! - The images of a patient were chosen in the same way on both sides: do not thin out one side alone.
//! - Patients are known. Without them single images are exchanged, and images of a patient that belong together make innocents look
//!   guilty; see [`Privacy::by_patient`].
//!
//! No leak found is no proof that nothing leaks: [`Controls`] show what these patients and features suffice to find.
//! Near-copies of a few patients would not have been seen by these tests.
//!
//! # Speed and memory
//!
//! Distances are computed once, through blocked matrix products. For each image the nearest image of each patient is kept, of the 64 nearest
//! patients: 16 bytes each, 1 KiB an image. A labelling or a resample reads these lists and computes no distance.

mod authenticity;
mod chance;
mod closest;
mod controls;
mod copying;
mod family;
mod findings;
mod input;
mod kmeans;
mod membership;
mod near;
pub(crate) mod roc;
mod search;
mod share;
mod spread;
mod trial;
mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Result;

pub use authenticity::Authenticity;
pub use chance::Chance;
pub use closest::{Closest, Cut};
pub use controls::Controls;
pub use copying::{Copying, Region};
pub use findings::Finding;
pub use input::{Discriminator, Labels, PrivacyInput, PrivacyOptions, Space};
pub use membership::{Attack, Membership, Targets, membership};
pub use share::{Share, clopper_pearson};
pub use spread::{Compared, Distances, Pair};

use membership::Attacker;
use near::Table;
use trial::Trial;
use units::{Purpose, Units, random};

/// All figures on what a generator gives away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Privacy {
    /// The figures in each space, by its name.
    pub spaces: BTreeMap<String, SpacePrivacy>,
    /// Membership inference by the discriminator's scores, where there are any.
    pub logan: Option<Membership>,
    /// Whether training patients are told from others by how closely synthetic images are linked to them, where a caller has such scores
    /// ([`membership()`]) and puts them here.
    pub reidentification: Option<Membership>,
    /// Whether patients are known, and are what is exchanged and drawn; else single images are. Where images of a patient resemble each
    /// other, intervals over images are too narrow and p-values too small.
    pub by_patient: bool,
    /// Patients (or images) in training.
    pub train_units: usize,
    /// Patients (or images) in the holdout.
    pub holdout_units: usize,
    /// Labellings that were drawn.
    pub relabellings: usize,
    /// The smallest p-value that a test can have: one over the number of labellings there are, or that were drawn.
    pub smallest_p: f64,
    /// The p-values of the tests that have one, but for re-identification, in the order of [`findings`](Self::findings): adjusted for all of
    /// them by the step-down min-P method of Westfall and Young (1993) over the labellings that were drawn.
    pub adjusted: Vec<f64>,
    /// The smallest that an adjusted p-value can be.
    pub smallest_adjusted: f64,
    /// Level of the intervals. A leak is found at an adjusted p-value of at most `(1 - level) / 2`.
    pub level: f64,
    /// The controls, where they were asked for.
    pub controls: Option<Controls>,
}

/// The figures of one space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpacePrivacy {
    /// Distance to the nearest training image, images as they are.
    pub dcr: Compared,
    /// Distance to the nearest training image over that to the second nearest, images as they are.
    pub nndr: Compared,
    /// As `dcr`, in whichever orientation is nearest. None where there is one orientation.
    pub dcr_turned: Option<Compared>,
    /// As `nndr`, in whichever orientation is nearest. None where there is one orientation.
    pub nndr_turned: Option<Compared>,
    /// Synthetic images nearer to training than to the holdout, in any orientation.
    pub nearer_to_train: Share,
    /// Of the synthetic images that come closest to real ones, those that come close to training, in any orientation.
    pub closest_nearer_to_train: Closest,
    /// Synthetic images that equal a training image in some orientation, and no held-out one.
    pub identical: usize,
    /// The three-sample test of data copying, images as they are.
    pub copying: Copying,
    /// Authenticity, images as they are.
    pub authenticity: Authenticity,
    /// Membership inference by the nearest synthetic image, in any orientation.
    pub gan_leaks: Membership,
    /// The same, calibrated by the nearest real image of other patients.
    pub gan_leaks_calibrated: Membership,
    /// The closest pairs, nearest first.
    pub closest: Vec<Pair>,
}

/// Computes all figures on what a generator gives away. The same seeds give the same figures with any number of threads.
///
/// # Errors
/// See [`PrivacyInput`] for what must fit together. [`Error::Resamples`](crate::Error::Resamples),
/// [`Error::Level`](crate::Error::Level), [`Error::Relabellings`](crate::Error::Relabellings) and [`Error::Fpr`](crate::Error::Fpr)
/// for options that make no sense.
pub fn privacy(input: &PrivacyInput, options: &PrivacyOptions) -> Result<Privacy> {
    input.check(options)?;
    let units = Units::new(input.labels.train, input.labels.holdout, input.train_groups, input.holdout_groups)?;
    let labels = [input.labels.train, input.labels.holdout].concat();
    let mut trials = BTreeMap::new();
    for space in &input.spaces {
        let table = Table::new(space, &units)?;
        let real = [space.train, space.holdout[0]];
        let centres = kmeans::centres(&real, options.clusters, &mut random(options.seed, Purpose::Means, 0))?;
        let regions = (kmeans::assign(&space.synthetic[..1], &centres)?, kmeans::assign(&real, &centres)?);
        trials.insert(space.name.clone(), Trial::new(table, regions.0, regions.1, &units, options)?);
    }
    let logan = input.discriminator.map(|scores| {
        let scores = [scores.train, scores.holdout].concat();
        Attacker::logan(&scores, &labels, &units, options.fpr)
    });
    let logan = logan.transpose()?;
    let mut found = trial::judge(&trials, logan.as_ref(), &units, options)?;
    if options.controls {
        found.controls = Some(controls::controls(&trials, &input.spaces, logan.is_some(), &labels, &units, options)?);
    }
    Ok(found)
}
