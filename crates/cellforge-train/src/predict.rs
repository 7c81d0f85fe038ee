//! What a classifier makes of images.

use candle_core::Device;
use cellforge_classify::Classifier;
use cellforge_data::{Batch, ImageSize, Scale, View};

use crate::Result;
use crate::classifier_step::{LossKind, count_correct};

/// Images judged at once: 64 of up to 128x128 pixels, and of larger ones as many as have as many pixels, but 4. It goes by their size alone, so that
/// the same images in the same order always give the same bytes.
pub(crate) fn at_once(size: ImageSize) -> usize {
    (64 * 128 * 128 / size.area().max(1)).clamp(4, 64)
}

/// Class probabilities of the images, in their order: the softmax of the logits divided by `temperature`.
pub(crate) fn predict(
    classifier: &Classifier,
    images: &View,
    temperature: f32,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::with_capacity(images.len());
    for chunk in positions(images).chunks(at_once(images.size())) {
        let batch = Batch::gather(images, chunk, Scale::Unit, None, device)?;
        let logits = classifier.forward_t(&batch.images, false)?.detach(); // (b, classes)
        rows.extend(logits.to_vec2::<f32>()?.iter().map(|row| softmax(row, temperature)));
    }
    Ok(rows)
}

/// All positions of a view, in order.
pub(crate) fn positions(view: &View) -> Vec<usize> {
    (0..view.len()).collect()
}

fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.iter().map(|exp| exp / sum).collect()
}

/// Loss and accuracy over a set of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean loss over the images.
    pub loss: f32,
    /// Share of images whose most probable class is theirs.
    pub accuracy: f32,
}

/// Judges `classifier` in inference mode on the images, and gives its logits.
pub(crate) fn evaluate(
    classifier: &Classifier,
    images: &View,
    loss: LossKind,
    device: &Device,
) -> Result<(Score, Vec<Vec<f32>>)> {
    let mut rows = Vec::with_capacity(images.len());
    let (mut total, mut correct) = (0f64, 0f64);
    for chunk in positions(images).chunks(at_once(images.size())) {
        let batch = Batch::gather(images, chunk, Scale::Unit, None, device)?;
        let logits = classifier.forward_t(&batch.images, false)?.detach();
        let mean: f32 = loss.of(&logits, &batch.labels)?.to_scalar()?;
        total += f64::from(mean) * chunk.len() as f64;
        correct += f64::from(count_correct(&logits, &batch.labels)?);
        rows.extend(logits.to_vec2::<f32>()?);
    }
    let n = images.len() as f64;
    Ok((Score { loss: (total / n) as f32, accuracy: (correct / n) as f32 }, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_images_are_judged_in_smaller_batches() {
        let sizes = [ImageSize::square(32), ImageSize::square(128), ImageSize::new(240, 320), ImageSize::square(512)];
        // 64 * 128 * 128 / (240 * 320) is 13.65.
        assert_eq!(sizes.map(at_once), [64, 64, 13, 4]);
    }

    #[test]
    fn softmax_by_hand() {
        // e^0 : e^ln3 = 1 : 3, however large the logits are.
        let row = softmax(&[1000.0, 1000.0 + 3f32.ln()], 1.0);
        assert!((row[0] - 0.25).abs() < 1e-4 && (row[1] - 0.75).abs() < 1e-4, "{row:?}");
        // At half the temperature the odds are squared, 1 : 9.
        let row = softmax(&[0.0, 3f32.ln()], 0.5);
        assert!((row[0] - 0.1).abs() < 1e-6 && (row[1] - 0.9).abs() < 1e-6, "{row:?}");
    }
}
