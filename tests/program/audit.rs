//! The audit of a training recipe, as a user runs it.
#![cfg(unix)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{cellforge, cellforge_command, files, wait_for};
use predicates::{prelude::*, str::contains};

/// A folder with a phantom, whose class has images of 15 patients.
fn folder(name: &str) -> (PathBuf, String) {
    let dir = crate::common::folder(&format!("audit/{name}"));
    let zip = dir.join("images.zip").to_str().unwrap().to_owned();
    let made = ["data", "phantom", "--images-per-class", "40", "--patients", "20", "--out", &zip];
    cellforge().args(made).assert().success();
    (dir, zip)
}

/// The smallest audit there is.
fn small(data: &str, out: &Path, iterations: &str) -> Vec<String> {
    let words = ["audit", "--data", data, "--class", "Uninfected", "--side", "32", "--width", "0.05", "--batch", "4"];
    let more =
        ["--references", "2", "--draws", "20", "--set", "audit.relabellings=50", "--set", "gan.checkpoint_every=2"];
    let all = words.into_iter().chain(more).chain(["--iterations", iterations, "--out", out.to_str().unwrap()]);
    all.map(str::to_owned).collect()
}

#[test]
fn a_recipe_is_audited() {
    let (dir, data) = folder("recipe");
    let out = dir.join("out");
    let start = |more: &[&str]| cellforge().args(small(&data, &out, "2")).arg("-q").args(more).assert();
    let said = contains("of 15 patients were put into training").and(contains("By the discriminator"));
    start(&[]).success().stdout(said.and(contains("No audit shows that a recipe keeps its patients private")));
    let text = fs::read(out.join("audit.json")).unwrap();
    let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&found["units"], &found["gan"]["iterations"]), (&15.into(), &2.into()));
    assert_eq!(found["scores"].as_array().unwrap().len(), 15);
    for gan in ["target", "reference-1", "reference-2"] {
        assert!(out.join("gans").join(gan).join("last/state.json").is_file(), "{gan}");
    }

    // It is not replaced by accident, nor gone on with by other settings.
    start(&[]).code(1).stderr(contains("holds an audit"));
    start(&["--resume", "--set", "audit.k=3"]).code(1).stderr(contains("audit.k was 5 and is 3"));
    start(&["--resume"]).success();
    assert_eq!(fs::read(out.join("audit.json")).unwrap(), text);
    start(&["--overwrite", "--seed", "2"]).success();
    assert_ne!(fs::read(out.join("audit.json")).unwrap(), text);

    // What does not do leaves nothing behind.
    let other = dir.join("other");
    let wrong = |more: &[&str]| cellforge().args(small(&data, &other, "2")).args(more).assert();
    wrong(&["--set", "inputs.class=Red"]).code(1).stderr(contains("Red").and(contains("Uninfected")));
    wrong(&["--set", "audit.guesses=0"]).code(2).stderr(contains("audit.guesses"));
    assert!(!other.join("audit.json").exists() && !other.join("config.toml").exists());
}

#[test]
fn an_audit_that_was_stopped_goes_on() {
    let (dir, data) = folder("stopped");
    let whole = dir.join("whole");
    cellforge().args(small(&data, &whole, "40")).arg("-q").assert().success();

    let out = dir.join("stopped");
    let mut command = cellforge_command(&[]);
    command.args(small(&data, &out, "40")).arg("-q").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for(&mut child, &out.join("gans/target/last/state.json"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("cellforge audit --resume --out"), "{said}");
    assert!(!out.join("audit.json").exists());
    cellforge().args(["audit", "-q", "--resume", "--out"]).arg(&out).assert().success();
    assert_eq!(files(&whole), files(&out));
}
