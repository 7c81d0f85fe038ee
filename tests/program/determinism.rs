//! The same seed gives the same bytes at any number of threads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;

/// The number of threads comes by the flag, except that 3 comes by the environment: the flag wins where both are there.
fn cellforge(threads: &str) -> Command {
    let mut command: Command = assert_cmd::cargo::cargo_bin_cmd!("cellforge");
    command.arg("-q");
    match threads {
        "3" => command.env("RAYON_NUM_THREADS", threads),
        _ => command.args(["--threads", threads]),
    };
    command
}

/// The settings are left out: they name the data by its path, which differs between the runs.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = crate::common::files(root);
    found.retain(|path, _| !path.ends_with("config.toml"));
    found
}

#[test]
fn phantom_training_and_generation_do_not_depend_on_the_threads() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("determinism");
    let _ = fs::remove_dir_all(&root);
    for threads in ["1", "2", "3"] {
        let dir = root.join(threads);
        let data = dir.join("images.zip");
        cellforge(threads)
            .args(["data", "phantom", "--images-per-class", "30", "--patients", "6", "--out"])
            .arg(&data)
            .assert()
            .success();
        cellforge(threads)
            .args(["train", "gan", "--side", "32", "--width", "0.1", "--iterations", "6", "--batch", "8", "--data"])
            .arg(&data)
            .arg("--out")
            .arg(dir.join("gan"))
            .assert()
            .success();
        for recipe in ["resnet", "cnn-1"] {
            cellforge(threads)
                .args([
                    "train",
                    "classifier",
                    "--side",
                    "32",
                    "--width",
                    "0.25",
                    "--epochs",
                    "2",
                    "--recipe",
                    recipe,
                    "--data",
                ])
                .arg(&data)
                .arg("--out")
                .arg(dir.join(recipe))
                .assert()
                .success();
        }
        cellforge(threads)
            .args(["generate", "--count", "5", "--checkpoint"])
            .arg(dir.join("gan"))
            .arg("--out")
            .arg(dir.join("made"))
            .assert()
            .success();
    }
    let one = files(&root.join("1"));
    assert!(one.len() > 30, "{:?}", one.keys());
    for other in ["2", "3"] {
        let other = files(&root.join(other));
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        let differing: Vec<_> =
            one.iter().filter(|(name, bytes)| other[*name] != **bytes).map(|(name, _)| name).collect();
        assert!(differing.is_empty(), "{differing:?}");
    }
}
