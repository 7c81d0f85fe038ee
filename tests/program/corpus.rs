//! The seeds of the fuzz targets, and what fuzzing has found, go through the functions that are fuzzed: none may panic.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{fs, path::Path};

use cellforge::{
    study::{Results, StudyConfig},
    train::{TrainedClassifier, TrainedGan},
};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("zip_index", targets::zip_index),
    ("image", targets::image),
    ("stack", targets::stack),
    ("csv", targets::csv),
    ("toml", targets::toml),
    ("checkpoint", targets::checkpoint),
    ("results", targets::results),
    ("weights", targets::weights),
];

/// Each seed as it is, cut short at several places, and with single bytes changed.
#[test]
#[expect(clippy::print_stderr, reason = "the last seed before a panic is the one to blame")]
fn seeds_and_what_is_near_them() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 2, "{} has no seeds", folder.display());
        for path in paths {
            let seed = fs::read(&path).unwrap();
            assert!(seed.len() < 150_000, "{} is no small seed", path.display());
            eprintln!("{name}: {}", path.display());
            run(&seed);
            for i in 0..24 {
                // Places all over the file, most of them at its two ends, where headers and directories are.
                let at = match i % 3 {
                    0 => i.min(seed.len()),
                    1 => seed.len().saturating_sub(3 * i),
                    _ => i * seed.len() / 24,
                };
                run(&seed[..at]);
                let mut changed = seed.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << (i % 8);
                    run(&changed);
                }
            }
        }
    }
}

/// What is read no further than its first line tries nothing.
#[test]
fn seeds_are_of_today() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for name in ["smoke.json", "no-evaluation.json"] {
        serde_json::from_slice::<Results>(&fs::read(seeds.join("results").join(name)).unwrap()).unwrap();
    }
    for name in ["best.toml", "effective.toml", "empty.toml"] {
        let text = fs::read_to_string(seeds.join("toml").join(name)).unwrap();
        StudyConfig::from_toml(&text, None).unwrap().validate().unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["classifier", "gan", "residual"] {
        let bytes = fs::read(seeds.join("checkpoint").join(name)).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        fs::write(folder.path().join("state.json"), &bytes[2..2 + length]).unwrap();
        fs::write(folder.path().join("weights.safetensors"), &bytes[2 + length..]).unwrap();
        let (gan, classifier) =
            (TrainedGan::load(folder.path()).is_ok(), TrainedClassifier::load(folder.path()).is_ok());
        assert!(gan || classifier, "{name}");
    }
}
