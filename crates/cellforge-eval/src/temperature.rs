//! Temperature scaling: one number that makes a classifier as sure as it is right.

use crate::{
    ClassifierReport, Error, Result, TemperatureScaling, calibration::Sureness, confusion::check_labels, predictions,
};

/// The temperatures that are looked for, from the least to the greatest.
const TEMPERATURES: [f64; 2] = [0.01, 100.0];

/// Steps of the search, each of which halves what is left at worst.
const STEPS: usize = 60;

/// The temperature `t` for which the probabilities `softmax(logits / t)` make the labels likeliest (Guo et al. 2017, On calibration of modern
/// neural networks, arXiv:1706.04599): above 1 where the classifier is too sure, below 1 where it is not sure enough. `logits[i]` has a number
/// for each class, `truth[i]` is the label of image `i`. Which class has the highest probability does not change.
///
/// The mean of `-log softmax(β z)` is convex in `β = 1/t`, and its derivative is the mean of `Σ_k p_k z_k - z_y`, whose zero is searched for.
/// `None` where no temperature from 0.01 to 100 is best: where every image is classified rightly, the labels are the likelier the lower it
/// is, and where the logits say nothing of the labels, the higher.
///
/// # Errors
/// [`Error`] if the arrays are empty, differ in length, or hold a label that names no class or a number that is not finite.
///
/// ```
/// // Logits that differ by 3 say 95%; of four images three are right. The odds of 3 to 1 are those of a difference of ln 3.
/// let logits = vec![vec![3.0, 0.0]; 4];
/// let temperature = cellforge_eval::fit_temperature(&logits, &[0, 0, 0, 1])?.unwrap();
/// assert!((temperature - 3.0 / 3f64.ln()).abs() < 1e-9);
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn fit_temperature(logits: &[Vec<f32>], truth: &[u32]) -> Result<Option<f64>> {
    let classes = logits.first().map_or(0, Vec::len);
    if logits.len() != truth.len() {
        return Err(Error::Length { what: "the array of logits", found: logits.len(), expected: truth.len() });
    }
    check_labels(truth, classes)?;
    predictions(logits, classes)?;
    // In logarithms of β the two ends are as far from 1.
    let [mut low, mut high] = TEMPERATURES.map(|t| (1.0 / t).ln());
    std::mem::swap(&mut low, &mut high);
    if slope(logits, truth, low.exp()) >= 0.0 || slope(logits, truth, high.exp()) <= 0.0 {
        return Ok(None);
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if slope(logits, truth, middle.exp()) < 0.0 { low = middle } else { high = middle }
    }
    Ok(Some((-(low + high) / 2.0).exp()))
}

/// The derivative of the sum of `-log softmax(beta z)[y]` by `beta`.
fn slope(logits: &[Vec<f32>], truth: &[u32], beta: f64) -> f64 {
    let one = |(row, &label): (&Vec<f32>, &u32)| {
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let (mut sum, mut weighted) = (0.0, 0.0);
        for &z in row {
            let above = f64::from(z) - f64::from(largest);
            let exp = (beta * above).exp();
            sum += exp;
            weighted += exp * above;
        }
        weighted / sum - (f64::from(row[label as usize]) - f64::from(largest))
    };
    logits.iter().zip(truth).map(one).sum()
}

impl ClassifierReport {
    /// The same report, which says that its probabilities were scaled by a temperature, and what the calibration was without. `truth` and
    /// `probabilities` are those that it was made from. Without a temperature, or where the scores are no probabilities, nothing changes.
    #[must_use]
    pub fn scaled_by(mut self, temperature: Option<f64>, truth: &[u32], probabilities: &[Vec<f32>]) -> Self {
        if let (Some(temperature), Some(calibration)) = (temperature, &mut self.calibration) {
            let unscaled: Vec<Vec<f32>> = probabilities.iter().map(|row| unscaled(row, temperature)).collect();
            let predicted = predictions(&unscaled, self.per_class.len()).unwrap_or_default();
            let figures = Sureness::new(truth, &unscaled, &predicted).map(|sureness| sureness.figures(None));
            calibration.scaling = figures.map(|[unscaled_ece, unscaled_brier]| TemperatureScaling {
                temperature,
                unscaled_ece,
                unscaled_brier,
            });
        }
        self
    }
}

/// What a row of probabilities was before it was scaled: `p^t`, to a sum of 1.
fn unscaled(row: &[f32], temperature: f64) -> Vec<f32> {
    // As shares of the largest, so that not all of them vanish.
    let largest = row.iter().fold(0f32, |a, &b| a.max(b)).max(f32::MIN_POSITIVE);
    let powers: Vec<f64> = row.iter().map(|&p| (f64::from(p) / f64::from(largest)).powf(temperature)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}
