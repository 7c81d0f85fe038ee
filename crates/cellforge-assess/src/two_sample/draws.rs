//! Which images are told from which: halves of the real patients, and synthetic images in as large a number.

use cellforge_data::{Duplicates, SplitOptions, SplitRule, View, derive_seed, epoch_order, k_fold, split};
use cellforge_eval::effective_groups;

use super::{TwoSampleConfig, TwoSampleData};
use crate::even::evened;

/// Fewer images of a class on a side say nothing.
const LEAST_IMAGES: usize = 30;

/// Fewer effective patients of a class on a side say nothing about how patients differ.
const LEAST_PATIENTS: f64 = 4.0;

/// All images, and for each seed two halves of the real ones and as many synthetic ones.
pub(super) struct Draws {
    pub(super) draws: Vec<Draw>,
    /// Images of each class on each side.
    pub(super) per_side: Vec<usize>,
    /// Kish's effective number of patients of each class in the smaller half, over all draws.
    pub(super) effective_patients: Vec<f64>,
    /// The unit of each real image: its patient, or itself.
    pub(super) units: Vec<usize>,
}

/// Positions in the views of the data.
pub(super) struct Draw {
    /// Half of the real patients, for both comparisons.
    pub(super) first: Vec<usize>,
    /// The other half, told from the first.
    pub(super) other: Vec<usize>,
    /// Synthetic images.
    pub(super) synthetic: Vec<usize>,
}

impl Draws {
    /// The draws, or why there is too little to judge by.
    pub(super) fn new(config: &TwoSampleConfig, data: &TwoSampleData) -> Result<Self, String> {
        let (real, synthetic) = (&data.real, &data.synthetic);
        let by = rule(real);
        let units = real.units();
        let mut halvings = Vec::with_capacity(config.seeds);
        for number in 0..config.seeds {
            let seed = derive_seed(config.seed, &format!("two_sample/halves/{number}"));
            let options = SplitOptions { by, val: 0.0, test: 0.5, seed, duplicates: Duplicates::Keep };
            let parts = split(real, &options).map_err(|error| error.to_string())?;
            halvings.push([parts.train, parts.test]);
        }
        let classes = real.classes();
        let of_class = |view: &View, rows: &[usize], class: usize| -> Vec<usize> {
            rows.iter().copied().filter(|&row| view.label(row) as usize == class).collect()
        };
        let all: Vec<usize> = (0..synthetic.len()).collect();
        let (mut per_side, mut effective_patients) = (Vec::new(), Vec::new());
        for (class, name) in classes.iter().enumerate() {
            // A few patients with many images would stand for a whole half.
            let halves: Vec<Vec<usize>> =
                halvings.iter().flatten().map(|half| evened(real, &of_class(real, half, class), config.seed)).collect();
            let real_images = halves.iter().map(Vec::len).min().unwrap_or(0);
            let made = of_class(synthetic, &all, class).len();
            if made < LEAST_IMAGES || real_images < LEAST_IMAGES {
                let which = match by {
                    _ if made < real_images => "synthetic ones",
                    SplitRule::Group => "real ones in half of the patients",
                    _ => "real ones in half of them",
                };
                let n = made.min(real_images);
                return Err(format!("of class {name} there are {n} {which}, and at least {LEAST_IMAGES} are needed"));
            }
            let of_units = |rows: &Vec<usize>| rows.iter().map(|&row| units[row]).collect::<Vec<_>>();
            let patients = halves.iter().map(|rows| effective_groups(&of_units(rows))).fold(f64::INFINITY, f64::min);
            if patients < LEAST_PATIENTS {
                return Err(format!(
                    "half of the real images of class {name} have {patients:.1} effective patients, and at least \
                     {LEAST_PATIENTS} are needed"
                ));
            }
            per_side.push(made.min(real_images).min(config.images));
            effective_patients.push(patients);
        }
        let draws = halvings
            .into_iter()
            .enumerate()
            .map(|(number, [first, other])| {
                let seed = derive_seed(config.seed, &format!("two_sample/images/{number}"));
                let pick = |view: &View, rows: &[usize], even: bool| {
                    let mut kept: Vec<usize> = (0..classes.len())
                        .flat_map(|class| {
                            let of_class = of_class(view, rows, class);
                            let kept = if even { evened(view, &of_class, config.seed) } else { of_class };
                            let order = epoch_order(&kept, seed, class as u64);
                            order[..per_side[class]].to_vec()
                        })
                        .collect();
                    kept.sort_unstable();
                    kept
                };
                Draw {
                    first: pick(real, &first, true),
                    other: pick(real, &other, true),
                    synthetic: pick(synthetic, &all, false),
                }
            })
            .collect();
        Ok(Self { draws, per_side, effective_patients, units })
    }
}

/// The images of a set without those that would give a patient more than twice as many of a class as patients have in the mean.
pub(super) fn even(images: &View, seed: u64) -> Vec<usize> {
    let classes = 0..images.classes().len() as u32;
    let mut kept: Vec<usize> = classes.flat_map(|class| evened(images, &images.class_indices(class), seed)).collect();
    kept.sort_unstable();
    kept
}

/// Patients stay whole where several are known.
pub(super) fn rule(real: &View) -> SplitRule {
    if real.has_groups() { SplitRule::Group } else { SplitRule::Image }
}

/// The fold of each image: whole patients for the first set, single images for the second, since nobody knows whom a generator draws on.
pub(super) fn folds(view: &View, by: SplitRule, folds: usize, seed: u64) -> Result<Vec<usize>, String> {
    let mut fold_of = vec![0; view.len()];
    for (fold, part) in k_fold(view, folds, by, seed).map_err(|error| error.to_string())?.iter().enumerate() {
        part.test.iter().for_each(|&i| fold_of[i] = fold);
    }
    Ok(fold_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;
    use std::collections::BTreeSet;

    fn set(n: usize, patients: Option<usize>) -> View {
        View::new(ViewParts {
            classes: vec!["a".to_owned(), "b".to_owned()],
            labels: (0..n).map(|i| (i % 2) as u32).collect(),
            groups: (0..n).map(|i| patients.map(|m| format!("P{}", i / 2 % m))).collect(),
            size: 1.into(),
            channels: 1,
            pixels: vec![0; n],
            ..ViewParts::default()
        })
        .unwrap()
    }

    fn draws(real: View, synthetic: usize) -> Result<Draws, String> {
        let data = TwoSampleData { real, also: None, synthetic: set(synthetic, None), judged_on: String::new() };
        Draws::new(&TwoSampleConfig::default(), &data)
    }

    #[test]
    fn sides_are_of_one_size_and_share_no_patient() {
        let real = set(400, Some(20));
        let found = draws(real.clone(), 140).unwrap();
        assert_eq!((found.draws.len(), &found.per_side), (3, &vec![70, 70]));
        // Ten patients of equal size in each half.
        assert_eq!(found.effective_patients, [10.0, 10.0]);
        for draw in &found.draws {
            assert_eq!([&draw.first, &draw.other, &draw.synthetic].map(Vec::len), [140; 3]);
            let patients = |rows: &[usize]| rows.iter().map(|&row| real.group(row)).collect::<BTreeSet<_>>();
            assert!(patients(&draw.first).is_disjoint(&patients(&draw.other)));
            assert_eq!(real.part(&draw.first).class_counts(), [70, 70]);
        }
        assert_ne!(found.draws[0].first, found.draws[1].first);
        let first = real.part(&found.draws[0].first);
        let fold_of = folds(&first, SplitRule::Group, 2, 1).unwrap();
        let patients =
            |fold| (0..first.len()).filter(|&i| fold_of[i] == fold).map(|i| first.group(i)).collect::<BTreeSet<_>>();
        assert!(patients(0).is_disjoint(&patients(1)));
    }

    #[test]
    fn too_little_is_said() {
        let reason = |real, synthetic| draws(real, synthetic).err().unwrap();
        assert!(reason(set(400, Some(20)), 40).contains("20 synthetic ones"));
        assert!(reason(set(100, Some(20)), 400).contains("real ones in half of the patients"));
        assert!(reason(set(400, Some(6)), 400).contains("3.0 effective patients"));
        // Without patients every image stands for itself.
        assert!(draws(set(400, None), 400).is_ok());
    }
}
