//! What a training takes of memory, reckoned from its settings before it starts.
//!
//! The formula is ours, in numbers: of 4 bytes for weights, and of what passes between operations in the precision of the network (2 bytes in
//! `bf16`) for the rest. A network of `P` parameters, of which one image's way leaves `A` numbers for the way back and
//! whose largest layer has `L`, takes of a batch of `b`:
//!
//! - weights: `8 P` in a GAN and `6 P` in a classifier (weights, gradients, two moments of Adam or one of SGD, the average of a generator, and
//!   what a checkpoint copies);
//! - a classifier: `b A`, or what judging 64 images at once takes (fewer of more than 128x128 pixels), `3 L` of each, where that is more;
//! - the study's iteration of a GAN: `b (A_generator + A_discriminator)`, of a part of the batch where it is accumulated;
//! - the joint iteration: `b A_generator`, whose way is kept from one update to the next, and `4 A_discriminator` of a part: of real and of generated
//!   images, and of the two passes of a penalty (`2 A_discriminator` where there is none);
//! - `3 L` of a part for gradients on their way, `5 L` in the joint iteration;
//! - an encoder whose weights were supplied and are there already: `3 L` of the images that it takes at once;
//! - [`PROGRAM`] bytes for the program itself.
//!
//! `A` counts the outputs of convolutions, dense layers, normalisation, leaky ReLUs, pooling and padding, and the scaled input of the first styled
//! convolution. Of a residual discriminator it counts what a convolution leaves once: its activation is taken in the same pass, or with the mean that
//! follows. Decoded images are not in it: those of a training lie in a file that is mapped into memory.

use candle_core::Device;
use cellforge_gan::DiscriminatorKind;
use cellforge_nn::Precision;
use cellforge_nn::summary::ModelSummary;

use crate::features::ENCODER_BATCH;
use crate::predict::at_once;
use crate::{ClassifierTrainConfig, GanTrainConfig};

/// Bytes of a program that has yet to begin.
const PROGRAM: u64 = 64 << 20;
/// Bytes of a number of the weights.
const NUMBER: u64 = 4;

/// Bytes of a number that layers leave.
fn left(precision: Precision) -> u64 {
    precision.bytes_in_memory(&Device::Cpu) as u64
}

/// What a run takes of memory, in bytes. Measured peaks are 0.67 to 1.0 of the sum (`benches/README.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights, their gradients and averages, and what the optimizer keeps.
    pub weights: u64,
    /// Numbers that layers leave for the way back, and gradients on their way.
    pub activations: u64,
    /// Images, features and what is made of them.
    pub images: u64,
    /// The program itself.
    pub program: u64,
}

impl MemoryNeed {
    /// That of taking features by a network that is loaded, [`inception_features`](crate::inception_features) or
    /// [`dinov2_features`](crate::dinov2_features), whose largest layer has so many numbers for an image
    /// ([`INCEPTION_LARGEST`](cellforge_classify::INCEPTION_LARGEST), [`DinoV2Config::largest`](cellforge_classify::DinoV2Config::largest)).
    #[must_use]
    pub fn of_encoder(largest: usize) -> Self {
        let activations = NUMBER * 3 * (ENCODER_BATCH as u64).saturating_mul(largest as u64);
        Self { activations, program: PROGRAM, ..Self::default() }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.weights, self.activations, self.images, self.program].into_iter().fold(0, u64::saturating_add)
    }

    /// That of the networks of both, one after the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            weights: self.weights.max(other.weights),
            activations: self.activations.max(other.activations),
            images: self.images.max(other.images),
            program: self.program.max(other.program),
        }
    }

    /// With so many more bytes of images.
    #[must_use]
    pub fn with_images(self, bytes: u64) -> Self {
        Self { images: self.images.saturating_add(bytes), ..self }
    }
}

/// What a network leaves of one image.
struct Kept {
    /// Numbers for the way back.
    all: u64,
    /// The most that a layer has.
    largest: u64,
    parameters: u64,
}

impl Kept {
    /// `convolutions_activate` where a convolution's leaky ReLU is taken with it, and its own result is not kept beside.
    fn of(summary: &ModelSummary, convolutions_activate: bool) -> Self {
        let mut kept = Self { all: 0, largest: 0, parameters: summary.params() as u64 };
        // The output of the layer before, on the way of the image, and what kind of layer it is.
        let (mut before, mut kind_before) = (0, "");
        let mut is_scaled = false;
        for layer in &summary.layers {
            let values = layer.output.iter().product::<usize>() as u64;
            if layer.name.ends_with(".style") {
                // Later ones are scaled as they are made.
                kept.all += if is_scaled { 0 } else { before };
                is_scaled = true;
                continue;
            }
            let kind = layer.kind.split(' ').next().unwrap_or_default();
            let of_convolution = convolutions_activate && kind_before == "Conv2D";
            kind_before = kind;
            match kind {
                "LeakyReLU" if of_convolution => {}
                "Conv2D" | "BatchNormalization" | "LeakyReLU" | "MaxPooling2D" | "AveragePooling2D"
                | "ZeroPadding2D" | "Concatenate" | "Dense" => {
                    kept.all += values;
                    kept.largest = kept.largest.max(values);
                }
                "Embedding" | "SpectralNormalization" => continue,
                _ => {}
            }
            if !layer.name.ends_with("skip") && !layer.name.ends_with("shortcut") {
                before = values;
            }
        }
        kept
    }
}

impl GanTrainConfig {
    /// What a training with these settings takes of memory. The configuration is to be valid.
    #[must_use]
    pub fn memory(&self) -> MemoryNeed {
        let generator = Kept::of(&self.model.generator_summary(), false);
        let is_residual = self.model.discriminator == DiscriminatorKind::Residual;
        let discriminator = Kept::of(&self.model.discriminator_summary(), is_residual);
        let batch = self.batch as u64;
        let part = batch.div_ceil(self.accumulation_steps.max(1));
        let kept = match self.joint_update {
            true => {
                let passes = if self.r1 > 0.0 || self.r2 > 0.0 { 4 } else { 2 };
                batch.saturating_mul(generator.all) + part.saturating_mul(passes * discriminator.all)
            }
            false => part.saturating_mul(generator.all + discriminator.all),
        };
        let largest = generator.largest.max(discriminator.largest);
        let on_their_way = if self.joint_update { 5 } else { 3 };
        MemoryNeed {
            weights: 8 * NUMBER * (generator.parameters + discriminator.parameters),
            activations: left(self.model.precision) * kept.saturating_add(part.saturating_mul(on_their_way * largest)),
            program: PROGRAM,
            ..MemoryNeed::default()
        }
    }
}

impl ClassifierTrainConfig {
    /// What a training with these settings takes of memory. The configuration is to be valid.
    #[must_use]
    pub fn memory(&self) -> MemoryNeed {
        let kept = Kept::of(&self.model.summary(), false);
        let batch = self.batch as u64;
        let trained = batch.div_ceil(self.parts().max(1)).saturating_mul(kept.all + 3 * kept.largest);
        let judged = at_once(self.model.image_size()) as u64;
        MemoryNeed {
            weights: 6 * NUMBER * kept.parameters,
            activations: left(self.model.precision()) * trained.max(judged * 3 * kept.largest),
            program: PROGRAM,
            ..MemoryNeed::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_classify::{ClassifierConfig, CnnConfig};
    use cellforge_gan::GanConfig;

    #[test]
    fn a_small_network_by_hand() {
        // 24 pixels a side: a convolution leaves 8 maps of 22x22, pooling 8 of 11x11, the dense layers 8 and 2 numbers. Parameters are
        // 8 * (9 + 1) and (8 * 121 + 1) * 8 and (8 + 1) * 2.
        let model =
            CnnConfig { image_size: 24.into(), channels: 1, filters: vec![8], dense: 8, ..CnnConfig::default() };
        let config = ClassifierTrainConfig {
            model: ClassifierConfig::Cnn(model),
            batch: 100,
            ..ClassifierTrainConfig::default()
        };
        let (largest, parameters) = (8 * 22 * 22, 80 + 969 * 8 + 18);
        let need = config.memory();
        assert_eq!(need.weights, 6 * 4 * parameters);
        assert_eq!(need.activations, 4 * 100 * (largest + 8 * 121 + 10 + 3 * largest));
        assert_eq!(need.total(), need.weights + need.activations + (64 << 20));
        // A small batch takes no less than judging does.
        assert_eq!(ClassifierTrainConfig { batch: 1, ..config }.memory().activations, 4 * 64 * 3 * largest);
    }

    #[test]
    fn parts_of_a_batch_save_what_the_discriminator_keeps() {
        let best = GanTrainConfig { batch: 32, ..GanTrainConfig::recipe("best").unwrap().for_images(128, 3, 2) };
        let parts = GanTrainConfig { accumulation_steps: 4, ..best.clone() };
        let (whole, saved) = (best.memory(), parts.memory());
        let discriminator = Kept::of(&best.model.discriminator_summary(), true);
        let generator = Kept::of(&best.model.generator_summary(), false);
        let largest = discriminator.largest.max(generator.largest);
        assert_eq!(whole.activations - saved.activations, 4 * 24 * (4 * discriminator.all + 5 * largest));
        assert_eq!(whole.weights, saved.weights);
    }

    #[test]
    fn numbers_of_bf16_take_half() {
        let gan = GanTrainConfig::default();
        let model = GanConfig { precision: Precision::EmulatedBf16, ..gan.model.clone() };
        let (single, lower) = (gan.memory(), GanTrainConfig { model, ..gan }.memory());
        assert!(lower.activations * 2 == single.activations && lower.weights == single.weights);
        let classifier = ClassifierTrainConfig::default();
        let model = classifier.model.clone().in_precision(Precision::EmulatedBf16);
        let (single, lower) = (classifier.memory(), ClassifierTrainConfig { model, ..classifier }.memory());
        assert!(lower.activations * 2 == single.activations && lower.weights == single.weights);
    }

    #[test]
    fn estimates_are_near_measured_peaks() {
        // Peaks in MiB of `/usr/bin/time -v cellforge train gan|classifier --recipe .. --side .. --batch ..` of the phantom.
        let gan = |recipe: &str, side: usize, batch, parts, classes| {
            let channels = if side == 256 { 1 } else { 3 };
            let config = GanTrainConfig::recipe(recipe).unwrap().for_images(side, channels, classes);
            GanTrainConfig { batch, accumulation_steps: parts, ..config }.memory()
        };
        let classifier = |recipe: &str, side: usize, batch| {
            let config = ClassifierTrainConfig::recipe(recipe).unwrap().for_images(side, 3, 2);
            ClassifierTrainConfig { batch, ..config }.memory()
        };
        for (need, measured) in [
            (gan("best", 32, 16, 1, 2), 216.2),
            (gan("best", 64, 16, 1, 2), 330.0),
            (gan("best", 64, 64, 1, 2), 1008.3),
            (gan("best", 128, 16, 1, 2), 578.4),
            (gan("best", 128, 32, 1, 2), 1048.9),
            (gan("best", 128, 32, 4, 2), 571.9),
            (gan("best", 256, 16, 1, 2), 1491.9),
            (gan("study", 64, 32, 1, 1), 465.2),
            (gan("study", 128, 16, 1, 1), 519.1),
            (gan("study", 128, 64, 1, 1), 1817.8),
            (classifier("resnet", 64, 32), 517.0),
            (classifier("resnet", 128, 16), 996.8),
            (classifier("cnn-1", 128, 64), 555.5),
        ] {
            let ratio = measured / (need.total() as f64 / f64::from(1 << 20));
            assert!((0.72..=1.0).contains(&ratio), "{measured} MiB are {ratio} of {need:?}");
        }
        // The same with `--precision bf16`, on a processor with AMX.
        let gan = |recipe: &str, side: usize, batch, classes| {
            let config = GanTrainConfig::recipe(recipe).unwrap().for_images(side, 3, classes);
            let model = GanConfig { precision: Precision::EmulatedBf16, ..config.model.clone() };
            GanTrainConfig { batch, model, ..config }.memory()
        };
        let classifier = |recipe: &str, side: usize, batch| {
            let config = ClassifierTrainConfig::recipe(recipe).unwrap().for_images(side, 3, 2);
            let model = config.model.clone().in_precision(Precision::EmulatedBf16);
            ClassifierTrainConfig { batch, model, ..config }.memory()
        };
        for (need, measured) in [
            (gan("best", 64, 16, 2), 224.1),
            (gan("best", 64, 64, 2), 573.0),
            (gan("best", 128, 32, 2), 612.6),
            (gan("study", 64, 32, 1), 260.2),
            (gan("study", 128, 16, 1), 322.5),
            (classifier("resnet", 64, 32), 296.0),
            (classifier("resnet", 128, 16), 551.0),
            (classifier("cnn-1", 128, 64), 292.0),
        ] {
            let ratio = measured / (need.total() as f64 / f64::from(1 << 20));
            assert!((0.66..=1.0).contains(&ratio), "in bf16, {measured} MiB are {ratio} of {need:?}");
        }
    }
}
