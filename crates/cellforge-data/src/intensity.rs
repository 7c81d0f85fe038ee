//! The one rule by which a set's intensities beyond 8 bits become grey levels.

use serde::{Deserialize, Serialize};

use crate::formats::{Depth, Samples};

/// The most intensities that percentiles are reckoned from, over all images of a set.
const SAMPLED: usize = 4 << 20;
/// The percentiles, in percent, between which measured intensities are spread by default.
pub const PERCENTILES: (f64, f64) = (0.5, 99.5);
/// Intensities that lie within less than this share of the range by which they are scaled use a small part of it.
const SMALL_PART: f64 = 0.25;

/// How intensities beyond 8 bits became grey levels: `low` and below are black, `high` and above white, and what is between is spread evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intensities {
    /// The intensity that is black.
    pub low: f64,
    /// The intensity that is white.
    pub high: f64,
    /// Where the two come from.
    pub rule: IntensityRule,
    /// How many images they are of; others of the set have 8 bits.
    pub images: usize,
    /// The middle 99% of the intensities, from the first of these to the second.
    pub middle: (f64, f64),
}

/// Where the ends of a range of intensities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntensityRule {
    /// They were asked for.
    Given,
    /// The least and the greatest of the set, for whole numbers.
    Range,
    /// [`PERCENTILES`] of the set, for measured ones.
    Percentiles,
}

impl Intensities {
    /// Whether 99% of the intensities lie within less than a quarter of the range by which they are scaled.
    #[must_use]
    pub fn use_small_part(&self) -> bool {
        (self.middle.1 - self.middle.0) < SMALL_PART * (self.high - self.low)
    }

    /// The intensities of black and of white, where both are whole numbers of 16 bits: what a grey PNG file of 16 bits can hold.
    #[must_use]
    pub fn in_16_bits(&self) -> Option<(u16, u16)> {
        let whole = |value: f64| (value.fract() == 0.0 && (0.0..=65535.0).contains(&value)).then_some(value as u16);
        Some((whole(self.low)?, whole(self.high)?)).filter(|_| self.rule != IntensityRule::Percentiles)
    }

    /// The grey level of an intensity.
    pub(crate) fn level(&self, value: f32) -> u8 {
        let share = (f64::from(value) - self.low) / (self.high - self.low);
        (share * 255.0).round().clamp(0.0, 255.0) as u8
    }
}

impl std::fmt::Display for Intensities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whence = match self.rule {
            IntensityRule::Given => "as given",
            IntensityRule::Range => "the least and the greatest of the set",
            IntensityRule::Percentiles => "percentiles 0.5 and 99.5 of the set",
        };
        write!(f, "{} to {} ({whence})", short(self.low), short(self.high))
    }
}

/// A number with four digits at most after the point.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the deep images of a set have in common, gathered image by image.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    images: usize,
    measured: bool,
    least: f32,
    greatest: f32,
    /// The widest type of whole numbers.
    depth: Option<(f32, f32)>,
    sampled: Vec<f32>,
}

impl Gathered {
    /// Of one image, with at most `share` of its intensities kept for percentiles. None where it has 8 bits.
    pub(crate) fn of(samples: &Samples, share: usize) -> Option<Self> {
        let Samples::Deep(values, depth) = samples else { return None };
        let step = values.len().div_ceil(share.max(1)).max(1);
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        Some(Self {
            images: 1,
            measured: *depth == Depth::Measured,
            least: finite().fold(f32::INFINITY, f32::min),
            greatest: finite().fold(f32::NEG_INFINITY, f32::max),
            depth: if let Depth::Whole { low, high } = depth { Some((*low, *high)) } else { None },
            sampled: values.iter().copied().step_by(step).filter(|value| value.is_finite()).collect(),
        })
    }

    /// How many intensities to keep of each of so many images.
    pub(crate) fn share(images: usize) -> usize {
        (SAMPLED / images.max(1)).clamp(16, 1 << 16)
    }

    pub(crate) fn add(&mut self, other: Self) {
        if self.images == 0 {
            *self = other;
            return;
        }
        self.images += other.images;
        self.measured |= other.measured;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        let wider = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
        self.depth = self.depth.zip(other.depth).map(|(a, b)| wider(a, b)).or(self.depth).or(other.depth);
        self.sampled.extend(other.sampled);
    }

    /// The rule for these images; none where no image is deep.
    pub(crate) fn rule(mut self, given: Option<(f64, f64)>) -> Option<Intensities> {
        if self.images == 0 {
            return None;
        }
        self.sampled.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: f64| {
            let at = (percent / 100.0 * (self.sampled.len().max(1) - 1) as f64).round() as usize;
            self.sampled.get(at).copied().map_or(0.0, f64::from)
        };
        let middle = (percentile(PERCENTILES.0), percentile(PERCENTILES.1));
        let range = (f64::from(self.least), f64::from(self.greatest));
        let (mut ends, rule) = match given {
            Some(ends) => (ends, IntensityRule::Given),
            None if self.measured => (middle, IntensityRule::Percentiles),
            None => (range, IntensityRule::Range),
        };
        // All of one intensity, or nearly: the whole range, then that of the type, and at last one that leaves them black.
        let type_range = self.depth.map_or((0.0, 1.0), |(low, high)| (f64::from(low), f64::from(high)));
        for wider in [range, type_range, (range.0, range.0 + 1.0)] {
            let is_range = ends.0.is_finite() && ends.1.is_finite() && ends.0 < ends.1;
            if !is_range {
                ends = wider;
            }
        }
        Some(Intensities { low: ends.0, high: ends.1, rule, images: self.images, middle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(images: &[(&[f32], Depth)], given: Option<(f64, f64)>) -> Intensities {
        let mut all = Gathered::default();
        for (values, depth) in images {
            all.add(Gathered::of(&Samples::Deep(values.to_vec(), *depth), 1000).unwrap());
        }
        all.rule(given).unwrap()
    }

    const SIXTEEN: Depth = Depth::Whole { low: 0.0, high: 65535.0 };

    #[test]
    fn whole_numbers_have_the_range_of_the_set() {
        let found = rule(&[(&[0.0, 80.0], SIXTEEN), (&[40.0, 4080.0], SIXTEEN)], None);
        assert_eq!((found.low, found.high, found.rule, found.images), (0.0, 4080.0, IntensityRule::Range, 2));
        assert_eq!([0.0, 16.0, 4080.0, 9999.0].map(|value| found.level(value)), [0, 1, 255, 255]);
        // The whole range of 16 bits gives what the upper 8 of them would, rounded.
        let whole = rule(&[(&[0.0, 65535.0], SIXTEEN)], None);
        assert!((0..=65535u32).all(|v| u32::from(whole.level(v as f32)) == (v + 128) / 257));
    }

    #[test]
    fn measured_numbers_have_percentiles() {
        let mut values: Vec<f32> = (0..1000).map(|v| v as f32).collect();
        values[999] = 1e9;
        let found = rule(&[(&values, Depth::Measured)], None);
        assert_eq!((found.low, found.high, found.rule), (5.0, 994.0, IntensityRule::Percentiles));
        assert_eq!(found.to_string(), "5 to 994 (percentiles 0.5 and 99.5 of the set)");
        let given = rule(&[(&values, Depth::Measured)], Some((-160.0, 240.0)));
        assert_eq!(
            (given.level(-160.0), given.level(40.0), given.level(240.0), given.rule),
            (0, 128, 255, IntensityRule::Given)
        );
    }

    #[test]
    fn few_intensities_that_are_far_out_are_told_of() {
        let mut values = vec![100.0; 1000];
        values.extend((0..1000).map(|v| v as f32));
        assert!(!rule(&[(&values, SIXTEEN)], None).use_small_part());
        values.push(65535.0);
        assert!(rule(&[(&values, SIXTEEN)], None).use_small_part());
    }

    #[test]
    fn one_intensity_alone_is_scaled_by_its_type() {
        assert_eq!(rule(&[(&[771.0; 4], SIXTEEN)], None).level(771.0), 3);
        let found = rule(&[(&[0.25; 4], Depth::Measured)], None);
        assert!(found.low < found.high);
        let found = rule(&[(&[f32::NAN; 4], Depth::Measured)], None);
        assert!(found.low < found.high);
    }
}
