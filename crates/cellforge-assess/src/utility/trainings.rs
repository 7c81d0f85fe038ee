//! Which trainings a utility study consists of.

use std::collections::BTreeMap;

use super::{
    UtilityConfig,
    images::Pool,
    subsets::{Subset, class_counts, companions, nested},
};
use cellforge_data::derive_seed;

/// One training: a seed and the images it learns from.
pub(super) struct Run {
    /// Says what it is, and names its file.
    pub(super) name: String,
    /// Which of the seeds, from 0.
    pub(super) seed: usize,
    /// Images of the pool, ascending.
    pub(super) images: Vec<usize>,
    /// Whether it is tested on the synthetic images too.
    pub(super) on_synthetic: bool,
}

/// One training of the augmentation study.
pub(super) struct Entry {
    /// Its place among the runs.
    pub(super) run: usize,
    pub(super) real: Subset,
    pub(super) synthetic_images: usize,
    pub(super) short: bool,
}

/// All trainings, each once, and what they are for.
pub(super) struct Trainings {
    pub(super) runs: Vec<Run>,
    /// On all real images, by seed.
    pub(super) real: Vec<usize>,
    /// On all synthetic images, by seed.
    pub(super) synthetic: Vec<usize>,
    /// By fraction, ratio and seed, in the order of the settings.
    pub(super) augmentation: Vec<Vec<Vec<Entry>>>,
}

impl Trainings {
    pub(super) fn new(config: &UtilityConfig, pool: &Pool) -> Self {
        let classes = pool.view.classes().len();
        let (real_labels, synthetic_labels) = (pool.real_labels(), pool.synthetic_labels());
        let mut listed = Listed::default();
        let seeds = 0..config.seeds;
        let real = seeds.clone().map(|seed| listed.add(format!("real-seed-{seed}"), seed, (0..pool.real).collect()));
        let real: Vec<usize> = real.collect();
        let all = || (pool.real..pool.view.len()).collect();
        let synthetic: Vec<usize> =
            seeds.clone().map(|seed| listed.add(format!("synthetic-seed-{seed}"), seed, all())).collect();
        for &run in &real {
            listed.runs[run].on_synthetic = true;
        }
        let of_seed = |seed| {
            let derived = derive_seed(config.seed, &format!("utility/{seed}/real"));
            nested(&real_labels, pool.patients.as_deref(), classes, &config.fractions, derived)
        };
        let subsets: Vec<Vec<Subset>> = seeds.map(of_seed).collect();
        let mut augmentation = Vec::new();
        for (f, fraction) in config.fractions.iter().enumerate() {
            let mut ratios = Vec::new();
            for &ratio in &config.ratios {
                let entry = |(seed, subsets): (usize, &Vec<Subset>)| {
                    let real = subsets[f].clone();
                    let counts = class_counts(real.images.iter().map(|&image| real_labels[image]), classes);
                    let derived = derive_seed(config.seed, &format!("utility/{seed}/synthetic"));
                    let (added, short) = companions(synthetic_labels, &counts, ratio, derived);
                    let images =
                        real.images.iter().copied().chain(added.iter().map(|image| pool.real + image)).collect();
                    let name = format!("real-{fraction}-synthetic-{ratio}-seed-{seed}");
                    Entry { run: listed.add(name, seed, images), real, synthetic_images: added.len(), short }
                };
                ratios.push(subsets.iter().enumerate().map(entry).collect());
            }
            augmentation.push(ratios);
        }
        Self { runs: listed.runs, real, synthetic, augmentation }
    }
}

/// Runs so far: the same images from the same seed are trained on once, whatever they are for.
#[derive(Default)]
struct Listed {
    runs: Vec<Run>,
    known: BTreeMap<(usize, Vec<usize>), usize>,
}

impl Listed {
    fn add(&mut self, name: String, seed: usize, images: Vec<usize>) -> usize {
        *self.known.entry((seed, images)).or_insert_with_key(|(seed, images)| {
            self.runs.push(Run { name, seed: *seed, images: images.clone(), on_synthetic: false });
            self.runs.len() - 1
        })
    }
}
