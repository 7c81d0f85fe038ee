//! Authenticity: synthetic images that are no nearer to a training image than its own neighbours are.

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Estimate, Resampler, Result,
    bootstrap::{percentiles, resamples},
    proportion::wilson_interval,
};

use super::{
    chance::Chance,
    copying::nearest_training_units,
    near::{List, Table, distance_to, first_on},
    units::{Purpose, Side, Units, seed_of},
};

/// The share of authentic images. An image is authentic when it is further from the training image nearest to it than that image is from the
/// nearest other training image; equally far counts half.
///
/// Alaa, A. M., van Breugel, B., Saveliev, E. and van der Schaar, M. (2022), How faithful is your synthetic data? Sample-level metrics
/// for evaluating and auditing generative models, ICML. The comparison with held-out images is added: new images of the same kind are
/// not all authentic either.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authenticity {
    /// Share of synthetic images that are authentic, with Wilson's interval, which takes images for independent.
    pub synthetic: Estimate,
    /// The same of held-out images.
    pub holdout: Estimate,
    /// Share of synthetic less share of held-out images, with the interval by patients where they are known. Below 0 where synthetic
    /// images keep closer to training images than new patients' images do.
    pub difference: Estimate,
    /// The difference when membership is anyone's guess.
    pub chance: Chance,
    /// Synthetic images.
    pub synthetic_images: usize,
    /// Held-out images.
    pub holdout_images: usize,
}

/// 1 if the image with this list is authentic, 0 if not, 0.5 if it is as far as can be told neither.
fn authentic(list: &List, table: &Table, sides: &[Side]) -> f64 {
    let Some(nearest) = first_on(list, sides, Side::Train) else { return 0.5 };
    let others = distance_to(&table.real[nearest.image as usize], sides, Side::Train);
    match nearest.distance.total_cmp(&others) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

fn of_synthetic(table: &Table, sides: &[Side]) -> Vec<f64> {
    table.synthetic.iter().map(|list| authentic(list, table, sides)).collect()
}

/// Of each held-out image, with its number among the real images.
fn of_holdout(table: &Table, units: &Units, sides: &[Side]) -> Vec<(usize, f64)> {
    let held_out = table.real.iter().enumerate().filter(|&(i, _)| sides[units.of[i]] == Side::Holdout);
    held_out.map(|(i, list)| (i, authentic(list, table, sides))).collect()
}

/// The difference of the shares of synthetic and held-out images in a labelling.
pub(crate) fn statistic(table: &Table, units: &Units, sides: &[Side]) -> f64 {
    let (synthetic, holdout) = (of_synthetic(table, sides), of_holdout(table, units, sides));
    let of_holdout = holdout.iter().map(|(_, authentic)| authentic).sum::<f64>() / holdout.len() as f64;
    synthetic.iter().sum::<f64>() / synthetic.len() as f64 - of_holdout
}

/// The shares of the true labelling. What is authentic stays as it is; held-out patients are drawn again, and synthetic images in groups
/// that are near to the same training patient.
pub(crate) fn authenticity(
    table: &Table,
    units: &Units,
    bootstrap: &BootstrapOptions,
    chance: Chance,
) -> Result<Authenticity> {
    let sides = units.sides();
    let (synthetic, holdout) = (of_synthetic(table, &sides), of_holdout(table, units, &sides));
    let groups = Resampler::groups(&nearest_training_units(table, units, &sides))?;
    let options = BootstrapOptions { seed: seed_of(bootstrap.seed, Purpose::Synthetic), ..*bootstrap };
    let drawn = resamples(&options, |number| {
        let (weights, patients) = (groups.weights(options.seed, number), units.resample(bootstrap.seed, number));
        let of_synthetic = mean(synthetic.iter().copied().zip(weights));
        of_synthetic - mean(holdout.iter().map(|&(i, authentic)| (authentic, patients[units.of[i]])))
    })?;

    let share = |sum: f64, n: usize| -> Result<Estimate> {
        let value = sum / n as f64;
        let found = wilson_interval(value, n as f64, bootstrap.level)?;
        Ok(Estimate { value, low: found.low, high: found.high })
    };
    let a = share(synthetic.iter().sum(), synthetic.len())?;
    let b = share(holdout.iter().map(|(_, authentic)| authentic).sum(), holdout.len())?;
    let value = a.value - b.value;
    let difference = match percentiles(drawn, bootstrap.level) {
        Some(found) if units.train > 1 && units.holdout > 1 => {
            Estimate { value, low: found.low.min(value), high: found.high.max(value) }
        }
        // Of one patient on a side nothing is known of how patients vary.
        _ => Estimate { value, low: -1.0, high: 1.0 },
    };
    Ok(Authenticity {
        synthetic: a,
        holdout: b,
        difference,
        chance,
        synthetic_images: synthetic.len(),
        holdout_images: holdout.len(),
    })
}

/// The weighted mean; 0 where all weights are 0.
fn mean(values: impl Iterator<Item = (f64, u32)>) -> f64 {
    let (sum, weights) = values.fold((0.0, 0.0), |(sum, weights), (value, weight)| {
        (sum + f64::from(weight) * value, weights + f64::from(weight))
    });
    if weights > 0.0 { sum / weights } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{super::Space, *};
    use crate::Features;

    #[test]
    fn authentic_images_by_hand() {
        // Training images on a line at 0, 1 and 10; their nearest others are at distances 1, 1 and 9.
        // Synthetic: 0.5 is 0.5 from 0 (0.5 < 1: no); 2 is 1 from 1 (equal: half); 5 is 4 from 1 (yes); 15 is 5 from 10 (5 < 9: no).
        // Held out: 3 is 2 from 1 (yes); 9 is 1 from 10 (no).
        let features = |values| Features::new(values, 1).unwrap();
        let (train, holdout, synthetic) = ([0.0, 1.0, 10.0], [3.0, 9.0], [0.5, 2.0, 5.0, 15.0]);
        let space = Space {
            name: "line".to_owned(),
            train: features(&train),
            holdout: vec![features(&holdout)],
            synthetic: vec![features(&synthetic)],
        };
        let units = Units::new(&[0; 3], &[0; 2], None, None).unwrap();
        let table = Table::new(&space, &units).unwrap();
        let sides = units.sides();
        assert_eq!(of_synthetic(&table, &sides), [0.0, 0.5, 1.0, 0.0]);
        assert_eq!(of_holdout(&table, &units, &sides), [(3, 1.0), (4, 0.0)]);
        assert_eq!(statistic(&table, &units, &sides), 0.375 - 0.5);
        let chance = Chance { mean: 0.0, low: 0.0, high: 0.0, p: 1.0 };
        let found = authenticity(&table, &units, &BootstrapOptions::default(), chance).unwrap();
        assert_eq!((found.synthetic.value, found.holdout.value, found.difference.value), (0.375, 0.5, -0.125));
        assert!(found.difference.low < -0.125 && found.difference.high > -0.125);
        // With 9 in training and 10 held out, the nearest others of 0, 1 and 9 are at 1, 1 and 8; 15 is 6 from 9 (no), 10 is 1 (no).
        use Side::{Holdout, Train};
        let sides = [Train, Train, Holdout, Holdout, Train];
        assert_eq!(of_synthetic(&table, &sides), [0.0, 0.5, 1.0, 0.0]);
        assert_eq!(of_holdout(&table, &units, &sides), [(2, 0.0), (3, 1.0)]);
    }
}
