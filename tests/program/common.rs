//! What several of the test files need.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// The program, to be given arguments and held to what it does.
pub fn cellforge() -> assert_cmd::Command {
    assert_cmd::cargo::cargo_bin_cmd!("cellforge")
}

/// The program with these arguments, to be spawned or stopped.
pub fn cellforge_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellforge"));
    command.args(args);
    command
}

/// An empty folder for a test's files.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A zip in `dir` with a phantom of 40 images per class.
pub fn phantom(dir: &Path) -> String {
    let zip = dir.join("images.zip").to_str().unwrap().to_owned();
    let args = ["data", "phantom", "--images-per-class", "40", "--patients", "8", "--out", &zip];
    let made = cellforge_command(&args).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    zip
}

/// A zip in `dir` with a phantom of 20 images per class.
pub fn small_phantom(dir: &Path) -> PathBuf {
    let zip = dir.join("phantom.zip");
    cellforge().args(["data", "phantom", "--images-per-class", "20", "--out"]).arg(&zip).assert().success();
    zip
}

/// Trains a tiny GAN of these images, or one for each class, in the folder `out`.
pub fn tiny_gan(images: &Path, iterations: u64, flags: &[&str], out: &Path) {
    let mut command = cellforge();
    command.args(["train", "gan", "--side", "32", "--width", "0.05", "--batch", "4", "-q", "--iterations"]);
    command.arg(iterations.to_string()).args(flags).arg("--data").arg(images).arg("--out").arg(out);
    command.assert().success();
}

/// Every file under a folder with its bytes, except TensorBoard's, which hold the time of writing, and the cache's, which are not
/// part of a run.
pub fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            } else if !path.ends_with("tensorboard") && !path.ends_with("cache") {
                folders.push(path);
            }
        }
    }
    found
}

/// Waits until the run has written a checkpoint, whose state this is, and is some way past it.
pub fn wait_for(child: &mut Child, state: &Path) {
    let clock = Instant::now();
    while !state.is_file() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be stopped");
        assert!(clock.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(60));
}

/// The iteration of the last whole checkpoint of the run in `out`, which may be writing the next one.
pub fn iteration(out: &Path) -> u64 {
    for _ in 0..1000 {
        let read = ["last/state.json", "last.old/state.json"].iter().find_map(|name| fs::read(out.join(name)).ok());
        if let Some(json) = read {
            let state: serde_json::Value = serde_json::from_slice(&json).unwrap();
            return state["iteration"].as_u64().unwrap();
        }
        // Between the two looks the checkpoint may have moved on.
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no checkpoint in {}", out.display());
}
