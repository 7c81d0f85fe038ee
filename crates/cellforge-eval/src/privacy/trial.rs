//! All tests of one space, on the true labelling and on those that are drawn.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::Result;

use super::{
    Privacy, PrivacyOptions, SpacePrivacy, authenticity,
    chance::{Chance, Leak},
    closest::ClosestTest,
    copying::{CopyingTest, nearest_training_units},
    family::{self, family},
    membership::{Attacker, Figures, Membership},
    near::Table,
    share,
    spread::{Of, closest_pairs, compared},
    units::{Purpose, Side, Units, random},
};

/// What the tests need of one space: computed once, before any labelling is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) table: Table,
    closest: ClosestTest,
    copying: CopyingTest,
    plain: Attacker,
    calibrated: Attacker,
}

/// Figures of one labelling.
struct Drawn {
    nearer: f64,
    closest: f64,
    c_t: f64,
    authenticity: f64,
    plain: Figures,
    calibrated: Figures,
}

impl Trial {
    /// `synthetic_regions` and `real_regions` are the clusters of the images.
    pub(crate) fn new(
        table: Table,
        synthetic_regions: Vec<usize>,
        real_regions: Vec<usize>,
        units: &Units,
        options: &PrivacyOptions,
    ) -> Result<Self> {
        let fpr = options.fpr;
        let closest = ClosestTest::new(&table, units, options.seed);
        let copying = CopyingTest::new(synthetic_regions, real_regions);
        let plain = Attacker::gan_leaks(&table, units, fpr)?;
        let calibrated = Attacker::gan_leaks_calibrated(&table, units, fpr)?;
        Ok(Self { table, closest, copying, plain, calibrated })
    }

    /// Region of each real image.
    pub(crate) fn real_regions(&self) -> &[usize] {
        self.copying.real_regions()
    }

    fn figures(&self, units: &Units, sides: &[Side]) -> Drawn {
        Drawn {
            nearer: share::rate(&self.table.turned, &units.exchangeable(sides)),
            closest: self.closest.statistic(&self.table, units, sides),
            c_t: self.copying.statistic(&self.table, units, sides),
            authenticity: authenticity::statistic(&self.table, units, sides),
            plain: self.plain.figures(units, sides),
            calibrated: self.calibrated.figures(units, sides),
        }
    }

    /// The figures, and what they are on every labelling, in the order of the findings.
    fn judge(&self, units: &Units, options: &PrivacyOptions) -> Result<(SpacePrivacy, Vec<family::Drawn>)> {
        let level = options.bootstrap.level;
        let truth = self.figures(units, &units.sides());
        let drawn = labellings(units, options, |sides| self.figures(units, sides));
        let chance =
            |value, of: fn(&Drawn) -> f64, leak| Chance::new(value, drawn.iter().map(of).collect(), leak, level);
        let membership = |attacker: &Attacker, of: fn(&Drawn) -> Figures| -> Result<Membership> {
            attacker.finish(units, &options.bootstrap, &drawn.iter().map(of).collect::<Vec<_>>())
        };

        let test = |of: fn(&Drawn) -> f64, leak| family::Drawn {
            truth: of(&truth),
            drawn: drawn.iter().map(of).collect(),
            leak,
        };
        let mut tests = vec![
            test(|drawn| drawn.nearer, Leak::High),
            test(|drawn| drawn.closest, Leak::High),
            test(|drawn| drawn.c_t, Leak::Low),
            test(|drawn| drawn.authenticity, Leak::Low),
        ];
        for of in [|drawn: &Drawn| drawn.plain, |drawn: &Drawn| drawn.calibrated] {
            tests.extend(attacks(of(&truth), &drawn.iter().map(of).collect::<Vec<_>>(), units));
        }

        let table = &self.table;
        let (bootstrap, groups) = (&options.bootstrap, nearest_training_units(table, units, &units.sides()));
        let spread = |of, turned: bool| {
            let (synthetic, holdout) = match turned {
                false => (&table.synthetic_two, Some(&table.holdout_two)),
                true => (&table.turned_two, table.holdout_turned_two.as_ref()),
            };
            let holdout = holdout.map(Vec::as_slice);
            compared(of, synthetic, holdout, &groups, &units.of[units.train_images..], bootstrap)
        };
        let turned = |of| (table.orientations > 1).then(|| spread(of, true)).transpose();
        let figures = SpacePrivacy {
            dcr: spread(Of::Nearest, false)?,
            nndr: spread(Of::Ratio, false)?,
            dcr_turned: turned(Of::Nearest)?,
            nndr_turned: turned(Of::Ratio)?,
            nearer_to_train: share::share(
                &table.turned,
                units,
                bootstrap,
                chance(truth.nearer, |drawn| drawn.nearer, Leak::High),
            )?,
            closest_nearer_to_train: self.closest.finish(
                table,
                units,
                chance(truth.closest, |drawn| drawn.closest, Leak::High),
            ),
            identical: identical(table),
            copying: self.copying.finish(table, units, bootstrap, chance(truth.c_t, |drawn| drawn.c_t, Leak::Low))?,
            authenticity: authenticity::authenticity(
                table,
                units,
                bootstrap,
                chance(truth.authenticity, |drawn| drawn.authenticity, Leak::Low),
            )?,
            gan_leaks: membership(&self.plain, |drawn| drawn.plain)?,
            gan_leaks_calibrated: membership(&self.calibrated, |drawn| drawn.calibrated)?,
            closest: closest_pairs(table, options.pairs),
        };
        Ok((figures, tests))
    }
}

/// Synthetic images that equal a training image in some orientation, and no held-out one.
fn identical(table: &Table) -> usize {
    let nearest = table.turned_two.iter().zip(&table.to_holdout);
    nearest.filter(|(two, held_out)| two.first().is_some_and(|close| close.distance == 0.0) && **held_out > 0.0).count()
}

/// What `figures` says of every labelling that is drawn.
pub(crate) fn labellings<T: Send>(
    units: &Units,
    options: &PrivacyOptions,
    figures: impl Fn(&[Side]) -> T + Sync,
) -> Vec<T> {
    let run = |labelling| figures(&units.relabelled(&mut random(options.seed, Purpose::Relabelling, labelling)));
    (0..options.relabellings as u64).into_par_iter().map(run).collect()
}

/// The figures of an attack that findings are made of: areas and rate over images, and the area over patients.
fn attacks(truth: Figures, drawn: &[Figures], units: &Units) -> impl Iterator<Item = family::Drawn> {
    let figures = if units.patients { 3 } else { 2 };
    (0..figures).map(move |figure| family::Drawn {
        truth: truth[figure],
        drawn: drawn.iter().map(|drawn| drawn[figure]).collect(),
        leak: Leak::High,
    })
}

/// All figures of all spaces, and of the discriminator.
pub(crate) fn judge(
    trials: &BTreeMap<String, Trial>,
    logan: Option<&Attacker>,
    units: &Units,
    options: &PrivacyOptions,
) -> Result<Privacy> {
    let (mut spaces, mut tests) = (BTreeMap::new(), Vec::new());
    for (name, trial) in trials {
        let (figures, of_space) = trial.judge(units, options)?;
        spaces.insert(name.clone(), figures);
        tests.extend(of_space);
    }
    let mut membership = None;
    if let Some(attacker) = logan {
        let (found, drawn) = attacker.judge(units, options)?;
        tests.extend(attacks(attacker.figures(units, &units.sides()), &drawn, units));
        membership = Some(found);
    }
    let smallest_p = 1.0 / units.labellings((options.relabellings + 1) as f64);
    let all = family(&tests, smallest_p);
    Ok(Privacy {
        spaces,
        logan: membership,
        reidentification: None,
        by_patient: units.patients,
        train_units: units.train,
        holdout_units: units.holdout,
        relabellings: options.relabellings,
        smallest_p,
        adjusted: all.adjusted,
        smallest_adjusted: all.smallest,
        level: options.bootstrap.level,
        controls: None,
    })
}
