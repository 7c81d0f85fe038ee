//! Made-up patients: each has a place of their own in feature space, and images around it. Infected patients have images of two classes.

use cellforge_eval::{
    BootstrapOptions, Features,
    privacy::{Labels, Privacy, PrivacyInput, PrivacyOptions, Space, privacy},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

/// Dimensions of the features.
pub const DIMS: usize = 12;

/// Images of some patients.
pub struct Images {
    pub values: Vec<f32>,
    pub patients: Vec<String>,
    pub labels: Vec<u32>,
}

impl Images {
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * DIMS..][..DIMS]
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Where patients come from.
pub struct Population {
    rng: ChaCha12Rng,
    /// Spread of the patients' places; that of the images of one patient is 1.
    spread: f64,
    /// Patients so far.
    patients: usize,
}

impl Population {
    pub fn new(seed: u64, spread: f64) -> Self {
        Self { rng: ChaCha12Rng::seed_from_u64(seed), spread, patients: 0 }
    }

    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.rng)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    /// Patients with 4 to 82 images, about 17 on average.
    pub fn patients(&mut self, count: usize) -> Images {
        let mut images = Images { values: Vec::new(), patients: Vec::new(), labels: Vec::new() };
        for _ in 0..count {
            self.patients += 1;
            let infected = self.rng.random_bool(0.75);
            let place: Vec<f64> = (0..DIMS).map(|_| self.spread * self.normal()).collect();
            let number = (2.0 + 8.0 * self.normal().exp()).min(80.0) as usize + 2;
            for i in 0..number {
                let label = u32::from(infected && i % 2 == 0);
                for (d, place) in place.iter().enumerate() {
                    let class = if d == 0 { 1.5 * f64::from(label) } else { 0.0 };
                    let value = place + class + self.normal();
                    images.values.push(value as f32);
                }
                images.patients.push(format!("P{}", self.patients));
                images.labels.push(label);
            }
        }
        images
    }

    /// What a perfect generator makes: an image each of new patients.
    pub fn new_images(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::new();
        for _ in 0..count {
            let images = self.patients(1);
            let i = self.below(images.len());
            values.extend_from_slice(images.row(i));
        }
        values
    }

    /// As `new_images`, but a share of them is copied from `train`, off by noise of the given size.
    pub fn copies(&mut self, train: &Images, count: usize, share: f64, noise: f64) -> Vec<f32> {
        let mut values = self.new_images(count);
        for image in values.chunks_mut(DIMS) {
            if self.rng.random_bool(share) {
                let copied = self.below(train.len());
                for (value, &copied) in image.iter_mut().zip(train.row(copied)) {
                    *value = copied + (noise * self.normal()) as f32;
                }
            }
        }
        values
    }

    /// Images around one point, `spread` wide.
    pub fn around(&mut self, point: f64, spread: f64, count: usize) -> Vec<f32> {
        (0..count * DIMS).map(|_| (point + spread * self.normal()) as f32).collect()
    }
}

pub fn features(values: &[f32]) -> Features<'_> {
    Features::new(values, DIMS).unwrap()
}

/// Training, holdout and synthetic images in one space.
pub fn input<'a>(train: &'a Images, holdout: &'a Images, synthetic: &'a [f32]) -> PrivacyInput<'a> {
    PrivacyInput {
        spaces: vec![Space {
            name: "features".to_owned(),
            train: features(&train.values),
            holdout: vec![features(&holdout.values)],
            synthetic: vec![features(synthetic)],
        }],
        labels: Labels { train: &train.labels, holdout: &holdout.labels },
        train_groups: Some(&train.patients),
        holdout_groups: Some(&holdout.patients),
        discriminator: None,
    }
}

/// Fewer draws than usual, and no controls.
pub fn quick(seed: u64) -> PrivacyOptions {
    let bootstrap = BootstrapOptions { resamples: 200, ..BootstrapOptions::default() };
    PrivacyOptions { bootstrap, relabellings: 1000, seed, controls: false, ..PrivacyOptions::default() }
}

pub fn judge(train: &Images, holdout: &Images, synthetic: &[f32], seed: u64) -> Privacy {
    privacy(&input(train, holdout, synthetic), &quick(seed)).unwrap()
}
