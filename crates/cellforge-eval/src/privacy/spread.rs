//! Distances to the closest training records, and the closest pairs.

use serde::{Deserialize, Serialize};

use crate::{
    BootstrapOptions, Estimate, Resampler, Result,
    bootstrap::{percentiles, resamples},
};

use super::{
    near::{Table, Two},
    units::{Purpose, seed_of},
};

/// Bars of a histogram.
const BARS: usize = 40;

/// A figure of synthetic images, and of held-out images as the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Of synthetic images.
    pub synthetic: Distances,
    /// Of held-out images, treated in the same way. None where the holdout is not there in all orientations.
    pub holdout: Option<Distances>,
    /// Edges of the bars of both histograms, rising, one more than there are bars.
    pub edges: Vec<f64>,
}

/// How distances, or ratios of distances, are spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// The 5% quantile.
    pub q05: Estimate,
    /// The 25% quantile.
    pub q25: Estimate,
    /// The median.
    pub median: Estimate,
    /// Images in each bar of the histogram; a bar holds its lower edge, the last one both edges.
    pub counts: Vec<u64>,
}

/// A synthetic image and the training image nearest to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Number of the synthetic image.
    pub synthetic: usize,
    /// Orientation of the synthetic image in which the two are nearest.
    pub orientation: usize,
    /// Number of the training image.
    pub train: usize,
    /// Distance of the two.
    pub distance: f64,
    /// Distance of the synthetic image to the nearest held-out image, in whichever orientation is nearest.
    pub holdout_distance: f64,
}

/// What is compared of the nearest training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The distance to the nearest one.
    Nearest,
    /// The distance to the nearest one over that to the second nearest; 0 where both are 0, 1 where there is one training image.
    Ratio,
}

impl Of {
    fn of(self, two: &Two) -> f64 {
        let distance = |i: usize| two.get(i).map(|close| close.distance);
        let nearest = distance(0).unwrap_or(0.0);
        match (self, distance(1)) {
            (Self::Nearest, _) => nearest,
            (Self::Ratio, None) => 1.0,
            (Self::Ratio, Some(_)) if nearest == 0.0 => 0.0,
            (Self::Ratio, Some(second)) => nearest / second,
        }
    }
}

/// Compares synthetic and held-out images. `synthetic_groups` and `holdout_groups` are what is drawn together in a resample.
pub(crate) fn compared(
    of: Of,
    synthetic: &[Two],
    holdout: Option<&[Two]>,
    synthetic_groups: &[usize],
    holdout_groups: &[usize],
    bootstrap: &BootstrapOptions,
) -> Result<Compared> {
    let values = |images: &[Two]| images.iter().map(|two| of.of(two)).collect::<Vec<f64>>();
    let (synthetic, holdout) = (values(synthetic), holdout.map(values));
    let largest = synthetic.iter().chain(holdout.iter().flatten()).copied().fold(0.0, f64::max);
    let end = if of == Of::Ratio || largest == 0.0 { 1.0 } else { largest };
    let edges: Vec<f64> = (0..=BARS).map(|bar| end * bar as f64 / BARS as f64).collect();
    let by = |purpose| BootstrapOptions { seed: seed_of(bootstrap.seed, purpose), ..*bootstrap };
    Ok(Compared {
        synthetic: spread(&synthetic, &edges, &Resampler::groups(synthetic_groups)?, &by(Purpose::Synthetic))?,
        holdout: holdout
            .map(|holdout| spread(&holdout, &edges, &Resampler::groups(holdout_groups)?, &by(Purpose::Patients)))
            .transpose()?,
        edges,
    })
}

fn spread(values: &[f64], edges: &[f64], resampler: &Resampler, options: &BootstrapOptions) -> Result<Distances> {
    let mut counts = vec![0; edges.len() - 1];
    for value in values {
        let bar = edges.partition_point(|edge| edge <= value).clamp(1, counts.len());
        counts[bar - 1] += 1;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    const QUANTILES: [f64; 3] = [0.05, 0.25, 0.5];
    let drawn = resamples(options, |number| {
        let weights = resampler.weights(options.seed, number);
        QUANTILES.map(|q| quantile(values, &order, &weights, q))
    })?;
    let ones = vec![1; values.len()];
    let estimate = |number: usize| {
        let value = quantile(values, &order, &ones, QUANTILES[number]);
        let found = percentiles(drawn.iter().map(|drawn| drawn[number]).collect(), options.level);
        let (low, high) = found.map_or((value, value), |found| (found.low.min(value), found.high.max(value)));
        Estimate { value, low, high }
    };
    Ok(Distances { q05: estimate(0), q25: estimate(1), median: estimate(2), counts })
}

/// The `q` quantile with each value counted as often as its weight says, linear between neighbours. `order` sorts the values; not all
/// weights are 0.
fn quantile(values: &[f64], order: &[usize], weights: &[u32], q: f64) -> f64 {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let position = q * total.saturating_sub(1) as f64;
    let (below, share) = (position.floor() as u64, position.fract());
    let (mut seen, mut low) = (0, None);
    for &i in order {
        seen += u64::from(weights[i]);
        if seen > below {
            let low = *low.get_or_insert(values[i]);
            if seen > below + 1 || share == 0.0 {
                return low + share * (values[i] - low);
            }
        }
    }
    low.unwrap_or(0.0)
}

/// The closest pairs, nearest first, one for a synthetic image.
pub(crate) fn closest_pairs(table: &Table, pairs: usize) -> Vec<Pair> {
    let nearest = table.turned_two.iter().zip(&table.to_holdout).enumerate();
    let mut all: Vec<Pair> = nearest
        .filter_map(|(synthetic, (two, &holdout_distance))| {
            let close = two.first()?;
            let (orientation, train, distance) = (close.orientation, close.image, close.distance);
            Some(Pair { synthetic, orientation, train, distance, holdout_distance })
        })
        .collect();
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.synthetic.cmp(&b.synthetic)));
    all.truncate(pairs);
    all
}

#[cfg(test)]
mod tests {
    use super::{super::near::Close, *};

    fn two(distances: &[f64]) -> Two {
        distances.iter().map(|&distance| Close { image: 0, distance, orientation: 0 }).collect()
    }

    #[test]
    fn distances_and_ratios_by_hand() {
        assert_eq!((Of::Nearest.of(&two(&[3.0, 4.0])), Of::Ratio.of(&two(&[3.0, 4.0]))), (3.0, 0.75));
        assert_eq!((Of::Ratio.of(&two(&[0.0, 0.0])), Of::Ratio.of(&two(&[2.0]))), (0.0, 1.0));
    }

    #[test]
    fn quantiles_by_hand() {
        // Of 10, 20, 30, 40 the quarter lies at position 0.75: 17.5. With 10 twice and 20 left out: 10, 10, 30, 40: 10 + 0 = 10,
        // and the median at position 1.5: 20.
        let (values, order) = ([30.0, 10.0, 40.0, 20.0], [1, 3, 0, 2]);
        assert_eq!(quantile(&values, &order, &[1, 1, 1, 1], 0.25), 17.5);
        assert_eq!(quantile(&values, &order, &[1, 2, 1, 0], 0.25), 10.0);
        assert_eq!(quantile(&values, &order, &[1, 2, 1, 0], 0.5), 20.0);
        assert_eq!(quantile(&values, &order, &[0, 0, 1, 0], 0.5), 40.0);
        assert_eq!(quantile(&values, &order, &[1, 1, 1, 1], 1.0), 40.0);
    }

    #[test]
    fn histograms_count_every_image() {
        let synthetic: Vec<Two> = [0.0, 1.0, 39.0, 40.0].iter().map(|&d| two(&[d, 50.0])).collect();
        let holdout: Vec<Two> = [20.5, 80.0].iter().map(|&d| two(&[d, 100.0])).collect();
        let groups = [0, 1, 2, 3];
        let options = BootstrapOptions::default();
        let found = compared(Of::Nearest, &synthetic, Some(&holdout), &groups, &groups[..2], &options).unwrap();
        // Edges at 0, 2, 4, .. 80.
        assert_eq!((found.edges.len(), found.edges[1], found.edges[40]), (41, 2.0, 80.0));
        assert_eq!((found.synthetic.counts[0], found.synthetic.counts[19], found.synthetic.counts[20]), (2, 1, 1));
        let held = found.holdout.unwrap();
        assert_eq!((held.counts[10], held.counts[39], held.counts.iter().sum::<u64>()), (1, 1, 2));
        // 0, 1, 39, 40: the median is 20, the 5% quantile at position 0.15 is 0.15.
        assert!((found.synthetic.median.value - 20.0).abs() < 1e-12);
        assert!((found.synthetic.q05.value - 0.15).abs() < 1e-12);
        assert!(found.synthetic.median.low < 20.0 && found.synthetic.median.high > 20.0);
    }
}
