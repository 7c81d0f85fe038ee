//! Whether a classifier is as sure as it is right.

use serde::{Deserialize, Serialize};

use crate::Estimate;

/// Bins of the expected calibration error, all equally wide.
pub const CALIBRATION_BINS: usize = 15;

/// How far the rows of a classifier may be from probabilities: their sum from 1.
const TOLERANCE: f32 = 1e-3;

/// How well the probabilities of a classifier agree with how often it is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error of the predicted class (Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599):
    /// `Σ_b n_b / n · |accuracy_b − confidence_b|` over [`CALIBRATION_BINS`] bins of equal width of the highest probability. From 0, where
    /// it is as sure as it is right, to 1. Few images make it larger than it is for many, which its interval takes back.
    pub ece: Estimate,
    /// Brier score of all classes (Brier 1950): the mean over images of `Σ_k (p_k − y_k)²`, with `y_k` 1 for the true class and else 0. From
    /// 0, where it is always sure and right, to 2. It is lower for a classifier that is better calibrated, and for one that is more often
    /// right.
    pub brier: Estimate,
    /// The bins, from the lowest probability.
    pub bins: Vec<CalibrationBin>,
    /// The temperature that the probabilities were scaled by; none where they were not, and in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<TemperatureScaling>,
}

/// That probabilities were scaled by a temperature, and what the calibration was before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureScaling {
    /// What the logits were divided by: above 1 where the classifier was too sure on validation images, below 1 where it was not sure enough.
    pub temperature: f64,
    /// Expected calibration error of the same images without it.
    pub unscaled_ece: f64,
    /// Brier score of the same images without it.
    pub unscaled_brier: f64,
}

/// Images whose predicted class has a probability above `low` and of at most `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Lower end, which is not in it.
    pub low: f64,
    /// Upper end, which is in it.
    pub high: f64,
    /// Images in it.
    pub images: u64,
    /// Their mean probability of the predicted class; 0 where there are none.
    pub confidence: f64,
    /// Share of them that are of the predicted class; 0 where there are none.
    pub accuracy: f64,
}

/// What the calibration of each image rests on.
pub(crate) struct Sureness {
    /// Of each image its bin, the probability of the predicted class, and whether that is its class.
    predicted: Vec<(usize, f64, bool)>,
    /// Of each image, its squared distance from the truth.
    squared: Vec<f64>,
}

impl Sureness {
    /// `None` where the rows are scores and not probabilities.
    pub(crate) fn new(truth: &[u32], probabilities: &[Vec<f32>], predicted: &[u32]) -> Option<Self> {
        let is_probability = |row: &Vec<f32>| {
            row.iter().all(|p| (0.0..=1.0 + TOLERANCE).contains(p))
                && (row.iter().sum::<f32>() - 1.0).abs() <= TOLERANCE
        };
        if !probabilities.iter().all(is_probability) {
            return None;
        }
        let one = |(row, (&class, &label)): (&Vec<f32>, (&u32, &u32))| {
            let confidence = f64::from(row[class as usize]).min(1.0);
            let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            (bin.clamp(1, CALIBRATION_BINS) - 1, confidence, class == label)
        };
        let squared = |(row, &label): (&Vec<f32>, &u32)| {
            let of = |(class, &p): (usize, &f32)| (f64::from(p) - f64::from(u8::from(class == label as usize))).powi(2);
            row.iter().enumerate().map(of).sum()
        };
        Some(Self {
            predicted: probabilities.iter().zip(predicted.iter().zip(truth)).map(one).collect(),
            squared: probabilities.iter().zip(truth).map(squared).collect(),
        })
    }

    /// Of each bin the number of images, the sum of their probabilities, and those that are right.
    fn sums(&self, weights: Option<&[u32]>) -> [(f64, f64, f64); CALIBRATION_BINS] {
        let mut sums = [(0.0, 0.0, 0.0); CALIBRATION_BINS];
        for (i, &(bin, confidence, right)) in self.predicted.iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| f64::from(weights[i]));
            let sum = &mut sums[bin];
            sum.0 += weight;
            sum.1 += weight * confidence;
            sum.2 += if right { weight } else { 0.0 };
        }
        sums
    }

    /// The expected calibration error and the Brier score, with each image counted as often as its weight says.
    pub(crate) fn figures(&self, weights: Option<&[u32]>) -> [f64; 2] {
        let sums = self.sums(weights);
        let total: f64 = sums.iter().map(|sum| sum.0).sum();
        let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[i]));
        let brier: f64 = self.squared.iter().enumerate().map(|(i, squared)| weight(i) * squared).sum();
        [sums.iter().map(|(_, confidence, right)| (right - confidence).abs()).sum::<f64>() / total, brier / total]
    }

    pub(crate) fn bins(&self) -> Vec<CalibrationBin> {
        let end = |bin: usize| bin as f64 / CALIBRATION_BINS as f64;
        let one = |(bin, (images, confidence, right)): (usize, (f64, f64, f64))| CalibrationBin {
            low: end(bin),
            high: end(bin + 1),
            images: images as u64,
            confidence: if images > 0.0 { confidence / images } else { 0.0 },
            accuracy: if images > 0.0 { right / images } else { 0.0 },
        };
        self.sums(None).into_iter().enumerate().map(one).collect()
    }
}
