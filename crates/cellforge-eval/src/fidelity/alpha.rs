//! Alpha-precision and beta-recall: precision and recall of the typical part of each set, for every size of that part.

use super::{prdc::Inside, units::Blocks};
use crate::{Estimate, Features, bootstrap::quantile};

/// Steps from 0 to 1, as in the authors' code and in synthcity.
const STEPS: usize = 30;

/// Integrated alpha-precision and beta-recall of the compared images, each with its interval.
///
/// Alaa et al. 2022, How faithful is your synthetic data?, arXiv:2102.08921. Of the compared images the share `P(α)` lies within the
/// radius around the reference's mean that holds the share `α` of the reference. Of the reference the share `R(β)` has a compared image
/// no farther than its nearest fellow, which is among the share `β` of those found that lie nearest to the compared images' mean.
/// Integrated, `1 - Σ |P(α) - α| / Σ α` over 30 steps, and so for `R`. As in synthcity, with the mean as centre of the features as they
/// are, and no network that embeds them anew.
pub(super) fn alpha_beta(
    reference: Features,
    compared: Features,
    inside: &Inside,
    blocks: &[Blocks; 2],
    level: f64,
) -> [Estimate; 2] {
    let [r, c] = blocks;
    let (reference_means, compared_means) = (Means::new(reference, r), Means::new(compared, c));
    let alpha = |left_out: [Option<usize>; 2]| {
        let centre = reference_means.without(left_out[0]);
        integrated_precision(
            distances(reference, &centre, kept(r, left_out[0])),
            &distances(compared, &centre, kept(c, left_out[1])),
        )
    };
    let beta = |left_out: [Option<usize>; 2]| {
        let centre = compared_means.without(left_out[1]);
        let found = kept(r, left_out[0]).map(|row| {
            let (near, squared) = inside.reference[row].near.without(left_out[1]);
            (squared <= inside.balls[row].nearest(left_out[0]), distance(compared.row(near), &centre))
        });
        integrated_recall(&found.collect::<Vec<_>>())
    };
    let units = r.effective_units.min(c.effective_units);
    let estimate = |figure: &(dyn Fn([Option<usize>; 2]) -> f64 + Sync)| {
        let spread = r
            .spread(&super::in_order(r.count, |block| figure([Some(block), None])))
            .and(c.spread(&super::in_order(c.count, |block| figure([None, Some(block)]))));
        spread.share(figure([None, None]), units, level)
    };
    [estimate(&alpha), estimate(&beta)]
}

/// The rows that are not in a block.
fn kept(blocks: &Blocks, left_out: Option<usize>) -> impl Iterator<Item = usize> {
    (0..blocks.of.len()).filter(move |&row| left_out != Some(blocks.of[row]))
}

/// Sums of rows, as they are and by block.
struct Means {
    total: (Vec<f64>, f64),
    of_block: Vec<(Vec<f64>, f64)>,
}

impl Means {
    fn new(set: Features, blocks: &Blocks) -> Self {
        let none = || (vec![0.0; set.dims()], 0.0);
        let mut of_block: Vec<(Vec<f64>, f64)> = (0..blocks.count).map(|_| none()).collect();
        for (row, &block) in blocks.of.iter().enumerate() {
            let (sums, rows) = &mut of_block[block];
            sums.iter_mut().zip(set.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
            *rows += 1.0;
        }
        let mut total = none();
        for (sums, rows) in &of_block {
            total.0.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            total.1 += rows;
        }
        Self { total, of_block }
    }

    fn without(&self, block: Option<usize>) -> Vec<f64> {
        let (sums, rows) = &self.total;
        match block.map(|block| &self.of_block[block]) {
            Some((own, own_rows)) => sums.iter().zip(own).map(|(sum, own)| (sum - own) / (rows - own_rows)).collect(),
            None => sums.iter().map(|sum| sum / rows).collect(),
        }
    }
}

fn distance(row: &[f32], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(&value, centre)| (f64::from(value) - centre).powi(2)).sum::<f64>().sqrt()
}

fn distances(set: Features, centre: &[f64], rows: impl Iterator<Item = usize>) -> Vec<f64> {
    rows.map(|row| distance(set.row(row), centre)).collect()
}

/// The steps from 0 to 1.
fn steps() -> impl Iterator<Item = f64> {
    (0..STEPS).map(|step| step as f64 / (STEPS - 1) as f64)
}

/// From the distances of both sets to the reference's mean.
fn integrated_precision(mut reference: Vec<f64>, compared: &[f64]) -> f64 {
    reference.sort_by(f64::total_cmp);
    integrated(|alpha| {
        let radius = quantile(&reference, alpha).unwrap_or(0.0);
        compared.iter().filter(|&&distance| distance <= radius).count() as f64 / compared.len() as f64
    })
}

/// From each image of the reference: whether the nearest compared image is near enough, and how far that one is from the compared
/// images' mean.
fn integrated_recall(found: &[(bool, f64)]) -> f64 {
    let mut sorted: Vec<f64> = found.iter().map(|(_, distance)| *distance).collect();
    sorted.sort_by(f64::total_cmp);
    integrated(|beta| {
        let radius = quantile(&sorted, beta).unwrap_or(0.0);
        found.iter().filter(|(near, distance)| *near && *distance <= radius).count() as f64 / found.len() as f64
    })
}

fn integrated(curve: impl Fn(f64) -> f64) -> f64 {
    1.0 - steps().map(|step| (curve(step) - step).abs()).sum::<f64>() / steps().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_by_hand() {
        // Radii of a reference at 0 to 29 are just the steps' numbers. All compared images at 0 lie within every radius: P is 1, and
        // Σ |1 - α| / Σ α = 15 / 15.
        let reference: Vec<f64> = (0..30).map(f64::from).collect();
        assert!(integrated_precision(reference.clone(), &[0.0, 0.0]).abs() < 1e-12);
        // Half at 0 and half beyond all: P is 1/2, and Σ |1/2 - α| = 2 (0.5 + 13.5 + ... ) / 29: over 30 steps
        // (14.5 + 13.5 + ... + 0.5) · 2 / 29 = 2 · 112.5 / 29.
        let found = integrated_precision(reference.clone(), &[0.0, 99.0]);
        assert!((found - (1.0 - 225.0 / 29.0 / 15.0)).abs() < 1e-12, "{found}");
        // The reference itself: within radius i lie i + 1 of 30. Σ |(i + 1) / 30 - i / 29| = Σ (29 - i) / 870 = 435 / 870.
        let found = integrated_precision(reference.clone(), &reference);
        assert!((found - (1.0 - 0.5 / 15.0)).abs() < 1e-12, "{found}");
        // All near: the same curve. None near: R is 0.
        let all: Vec<(bool, f64)> = reference.iter().map(|&distance| (true, distance)).collect();
        assert!((integrated_recall(&all) - found).abs() < 1e-12);
        assert!(integrated_recall(&[(false, 1.0), (false, 2.0)]).abs() < 1e-12);
    }
}
