//! The phantom as its users meet it: written, read back, grouped by patient, and neither trivial nor blurred.

use std::collections::BTreeSet;

use cellforge_data::phantom::{self, PhantomConfig};
use cellforge_data::{GroupPattern, Groups, OpenOptions, View};
use proptest::prelude::*;

/// How the names of the NIH set tell the patient.
fn patients() -> GroupPattern {
    GroupPattern::new("^(C[0-9]+)").unwrap()
}

fn config() -> PhantomConfig {
    PhantomConfig { size: 64.into(), images_per_class: 400, patients: 40, seed: 11 }
}

#[test]
fn a_zip_reads_back_with_the_same_cells_patients_and_classes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("phantom.zip");
    let config = PhantomConfig { size: 32.into(), images_per_class: 30, patients: 8, seed: 2 };
    phantom::write_zip(&config, &file).unwrap();
    let mut options = OpenOptions::new(32, 3);
    options.groups = Groups::Names(patients());
    let read = View::open(&file, &options).unwrap();
    let drawn = phantom::render(&config).unwrap();
    assert_eq!(read.classes(), drawn.classes());
    assert_eq!(read.labels(), drawn.labels());
    assert_eq!(read.groups(), drawn.groups());
    for i in 0..drawn.len() {
        assert!(read.name(i).ends_with(drawn.name(i)), "{} and {}", read.name(i), drawn.name(i));
        assert_eq!(read.image(i), drawn.image(i), "{}", drawn.name(i));
    }
}

#[test]
fn names_are_those_of_the_nih_set_with_patients_of_their_own() {
    let set = phantom::render(&config()).unwrap();
    for (i, name) in set.names().enumerate() {
        let group = set.group(i);
        let file = name.rsplit('/').next().unwrap();
        assert_eq!(patients().group(file), group, "{name}");
        // The NIH set's patients end far below 1000.
        let number: usize = group.unwrap()[1..].parse().unwrap();
        assert!((1001..=1040).contains(&number), "{name}");
        assert!(file.contains("_phantom_"), "{name}");
    }
    let unique: BTreeSet<&str> = set.names().collect();
    assert_eq!(unique.len(), set.len());
}

/// How much more purple than the cell's median the most purple pixels are: the mean of red and blue less green, which
/// stained chromatin raises and mere darkness (the blended rim) does not.
fn purplest(image: &[u8]) -> i32 {
    let inside = image.chunks(3).filter(|p| p.iter().any(|c| *c > 40));
    let mut purple: Vec<i32> = inside.map(|p| (i32::from(p[0]) + i32::from(p[2])) / 2 - i32::from(p[1])).collect();
    purple.sort_unstable();
    purple[purple.len() - 1 - purple.len() / 400] - purple[purple.len() / 2]
}

#[test]
fn a_speck_of_purple_hints_at_the_class_but_does_not_settle_it() {
    let set = phantom::render(&config()).unwrap();
    let scored: Vec<(i32, u32)> = (0..set.len()).map(|i| (purplest(set.image(i)), set.label(i))).collect();
    // The best that any threshold on this one number does.
    let right = |threshold: i32| scored.iter().filter(|(purple, label)| (*purple > threshold) == (*label == 0)).count();
    let best = (0..255).map(right).max().unwrap() as f64 / set.len() as f64;
    assert!((0.80..0.985).contains(&best), "a threshold alone is right about {best}");
}

#[test]
fn patients_differ_more_than_cells_of_one_patient() {
    let set = phantom::render(&config()).unwrap();
    let mean = |i: &usize| {
        let inside: Vec<f64> = set
            .image(*i)
            .chunks(3)
            .filter(|p| p.iter().any(|c| *c > 60))
            .map(|p| f64::from(p[2]) - f64::from(p[0]))
            .collect();
        inside.iter().sum::<f64>() / inside.len() as f64
    };
    let spread = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let all: Vec<usize> = set.class_indices(1);
    let within: Vec<f64> = set
        .group_names()
        .iter()
        .map(|group| all.iter().filter(|i| set.group(**i) == Some(group)).map(mean).collect::<Vec<_>>())
        .filter(|tints| tints.len() > 4)
        .map(|tints| spread(&tints))
        .collect();
    let between = spread(&all.iter().map(mean).collect::<Vec<_>>());
    let within = within.iter().sum::<f64>() / within.len() as f64;
    assert!(between > 2.0 * within, "{between} between patients, {within} within one");
}

#[test]
fn masks_lie_on_what_makes_a_cell_parasitized() {
    let config = config();
    let mut areas = Vec::new();
    for index in 0..60 {
        let cell = phantom::render_cell(&config, 0, index % 30, index);
        let marked: Vec<bool> = cell.mask.iter().map(|m| *m == 255).collect();
        assert!(cell.mask.iter().all(|m| matches!(m, 0 | 255)));
        let mean_green = |which: bool| {
            let greens: Vec<f64> = (cell.rgb.chunks(3).zip(&marked))
                .filter(|(p, m)| **m == which && p.iter().all(|c| *c > 20))
                .map(|(p, _)| f64::from(p[1]))
                .collect();
            greens.iter().sum::<f64>() / greens.len() as f64
        };
        areas.push((mean_green(false) - mean_green(true), marked.iter().filter(|m| **m).count()));
    }
    // Rings are pale inside, so single masks may be as bright as the cell; most are darker.
    let darker = areas.iter().filter(|(gap, _)| *gap > 5.0).count();
    assert!(darker > 50, "{darker} of 60 masks are darker than their cells");
    assert!(areas.iter().all(|(_, pixels)| (8..1800).contains(pixels)), "{areas:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_cell_is_a_function_of_its_arguments(seed: u64, class in 0u32..2, patient in 0usize..50, index in 0usize..1000) {
        let config = PhantomConfig { size: 32.into(), seed, ..PhantomConfig::default() };
        let cell = phantom::render_cell(&config, class, patient, index);
        prop_assert_eq!(&cell, &phantom::render_cell(&config, class, patient, index));
        prop_assert_ne!(&cell.rgb, &phantom::render_cell(&config, class, patient, index + 1).rgb);
        // More cells or patients around it change nothing.
        let larger = PhantomConfig { images_per_class: 9999, patients: 999, ..config };
        prop_assert_eq!(&cell, &phantom::render_cell(&larger, class, patient, index));
        prop_assert_eq!(cell.mask.contains(&255), class == 0);
    }
}
