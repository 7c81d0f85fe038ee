//! Small images and settings that train in a second.

use std::collections::BTreeMap;
use std::path::Path;

use cellforge_classify::ClassifierConfig;
use cellforge_data::Augment;
use cellforge_data::View;
use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_gan::loss::GanLoss;
use cellforge_gan::{AugmentConfig, DiscriminatorKind, GeneratorKind};
use cellforge_train::{ClassifierTrainConfig, GanTrainConfig, Mode, OptimizerConfig, RunDir, Schedule};
use sha2::{Digest, Sha256};

pub fn images() -> View {
    phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 12, patients: 4, ..PhantomConfig::default() })
        .unwrap()
}

/// A folder for a new run.
pub fn fresh(out: &Path) -> RunDir {
    RunDir::new(out)
}

/// A folder whose run goes on.
pub fn resumed(out: &Path) -> RunDir {
    RunDir::new(out).mode(Mode::Resume)
}

/// The images in three parts.
pub struct Parts {
    pub train: View,
    pub val: View,
    pub test: View,
}

pub fn split() -> Parts {
    // The phantom lists its classes one after the other: 12 images each.
    let images = images();
    let pick = |from: usize, to: usize| images.part(&(from..to).chain(12 + from..12 + to).collect::<Vec<_>>());
    Parts { train: pick(0, 7), val: pick(7, 10), test: pick(10, 12) }
}

pub fn gan(iterations: u64) -> GanTrainConfig {
    let mut config = GanTrainConfig {
        iterations,
        batch: 4,
        class: "Parasitized".into(),
        seed: 5,
        grid_at: vec![1, 3],
        grid_images: 4,
        checkpoint_every: 2,
        log_every: 1,
        ..GanTrainConfig::default()
    };
    (config.model.image_size, config.model.width, config.model.latent) = (32.into(), 0.03, 8);
    config
}

/// A GAN of both classes with every option on. One part of a batch of 4 has an image of each class.
pub fn everything(iterations: u64, generator: GeneratorKind) -> GanTrainConfig {
    let mut config = gan(iterations);
    config.model.generator = generator;
    config.model.discriminator = DiscriminatorKind::Residual;
    (config.model.classes, config.model.spectral_norm) = (2, true);
    GanTrainConfig {
        class: String::new(),
        discriminator_lr: Some(3e-4),
        // None of few iterations: a run that is lengthened has had the rates of the longer one.
        lr_decay: 0.1,
        loss: GanLoss::Relativistic,
        joint_update: true,
        r1: 0.5,
        r2: 0.25,
        penalty_every: 2,
        augment: AugmentConfig {
            flips: true,
            translation: 0.125,
            cutout: 0.3,
            colour: 0.1,
            p: 0.9,
            ada_target: Some(0.01),
            ada_speed: 10,
        },
        ema_decay: 0.9,
        accumulation_steps: 2,
        ..config
    }
}

/// A GAN of both classes.
pub fn gan_of_two(iterations: u64) -> GanTrainConfig {
    let mut config = GanTrainConfig {
        iterations,
        batch: 4,
        seed: 5,
        grid_at: vec![],
        ..GanTrainConfig::recipe("best").unwrap().for_images(64, 3, 2)
    };
    (config.model.image_size, config.model.width, config.model.latent) = (32.into(), 0.05, 8);
    config
}

pub fn cnn(epochs: u64) -> ClassifierTrainConfig {
    let mut config = ClassifierTrainConfig {
        epochs,
        batch: 4,
        optimizer: OptimizerConfig::Sgd { lr: 0.02, momentum: 0.9, nesterov: true },
        schedule: Schedule::Linear,
        augment: Augment::default(),
        log_every: 1,
        checkpoint_every: 3,
        ..ClassifierTrainConfig::recipe("cnn-1").unwrap()
    };
    if let ClassifierConfig::Cnn(model) = &mut config.model {
        (model.image_size, model.width) = (32.into(), 0.25);
    }
    config
}

/// Every file under `dir` that must be the same in equal runs, by path: all but TensorBoard's, which hold times.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", "last", "best", "grids"] {
        let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert!(a.contains_key("last/weights.safetensors") && a.contains_key("log.jsonl"));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name} differs");
    }
}

/// Has the checkpoints in `out`, of a run of `from` iterations, say that they are of one of `to`, as if it had been killed there.
pub fn lengthen(out: &Path, from: u64, to: u64) {
    for name in ["last", "best"] {
        let path = out.join(name).join("state.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let text = text.replace(&format!("\"iterations\": {from}"), &format!("\"iterations\": {to}"));
            std::fs::write(&path, sealed(&text)).unwrap();
        }
    }
}

/// A changed `state.json` with the sum that it now has.
pub fn sealed(text: &str) -> String {
    // The sum of the text without its digits, which come before what ends it.
    let at = text.len() - "\"\n}\n".len();
    let (before, end) = (&text[..at - 64], &text[at..]);
    let sum: String = Sha256::digest(format!("{before}{end}")).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{before}{sum}{end}")
}
