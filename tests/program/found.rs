//! What fresh eyes found: runs that started from relative paths, classes with the names of our files, outputs among images, and generators
//! that have seen what was held out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{cellforge, folder};
use predicates::{prelude::*, str::contains};

const TINY: [&str; 8] = ["--side", "32", "--width", "0.1", "--batch", "4", "--iterations", "1"];

/// Phantom images of two classes with these names.
fn images(dir: &Path, classes: [&str; 2], each: usize) -> PathBuf {
    let data = dir.join("images");
    let made = dir.join("phantom");
    let each = each.to_string();
    let args = ["-q", "data", "phantom", "--images-per-class", &each, "--patients", "8", "--out"];
    cellforge().args(args).arg(&made).assert().success();
    fs::create_dir_all(&data).unwrap();
    for (from, to) in ["Parasitized", "Uninfected"].into_iter().zip(classes) {
        fs::rename(made.join(from), data.join(to)).unwrap();
    }
    data
}

#[test]
fn a_run_from_relative_paths_goes_on_from_anywhere() {
    let dir = folder("found/relative");
    let data = images(&dir, ["a", "b"], 12);
    let mut table = "file,finding\n".to_owned();
    for class in ["a", "b"] {
        for entry in fs::read_dir(data.join(class)).unwrap() {
            table.push_str(&format!("{class}/{},{class}\n", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    fs::write(dir.join("table.csv"), table).unwrap();
    let here = |args: &[&str]| {
        let mut command = cellforge();
        command.current_dir(&dir).args(["-q", "train"]).args(args).assert().success();
    };
    let data = ["--data", "images", "--table", "table.csv", "--label", "finding"];
    here(&[&["gan", "--recipe", "best", "--out", "first"][..], &data, &TINY].concat());
    here(&[&["gan", "--recipe", "best", "--from", "first", "--out", "second"][..], &data, &TINY].concat());
    let classifier = ["--side", "32", "--width", "0.125", "--batch", "8", "--epochs", "1"];
    here(&[&["classifier", "--recipe", "cnn-1", "--out", "net"][..], &data, &classifier].concat());
    here(&[&["classifier", "--recipe", "cnn-1", "--from", "net", "--out", "net-2"][..], &data, &classifier].concat());
    let elsewhere = folder("found/elsewhere");
    for (kind, run) in [("gan", "second"), ("classifier", "net-2")] {
        let mut command = cellforge();
        command.current_dir(&elsewhere).args(["-q", "train", kind, "--resume", "--out"]);
        command.arg(dir.join(run)).assert().success();
    }
    // Other weights to start from are others, wherever they are named from.
    let mut command = cellforge();
    command.current_dir(&dir).args(["-q", "train", "gan", "--resume", "--from", "second", "--out", "second"]);
    command.assert().code(1).stderr(contains("cannot resume: from is"));
}

#[test]
fn classes_may_be_called_as_our_files_are() {
    let dir = folder("found/names");
    let data = images(&dir, ["last", "best"], 12);
    let gans = dir.join("gans");
    let mut command = cellforge();
    command.args(["-q", "train", "gan", "--data"]).arg(&data).arg("--out").arg(&gans).args(TINY).assert().success();
    let made = dir.join("made");
    let mut command = cellforge();
    command.args(["-q", "generate", "--count", "2", "--checkpoint"]).arg(&gans).arg("--out").arg(&made);
    command.assert().success();
    cellforge().args(["data", "info"]).arg(&made).assert().success().stdout(contains("last: 2"));
    cellforge().args(["-q", "train", "gan", "--resume", "--out"]).arg(&gans).assert().success();
}

#[test]
fn a_contact_sheet_does_not_become_an_image() {
    let dir = folder("found/sheet");
    let data = images(&dir, ["a", "b"], 12);
    let sheet = data.join("a/sheet.png");
    let mut command = cellforge();
    command.args(["data", "info"]).arg(&data).arg("--grid").arg(&sheet);
    command.assert().code(1).stderr(contains("inside the images' folder"));
    assert!(!sheet.exists());
}

#[test]
fn a_generator_that_saw_the_holdout_is_told() {
    let dir = folder("found/seen");
    let data = images(&dir, ["a", "b"], 60);
    let (split, gan, made) = (dir.join("split.csv"), dir.join("gan"), dir.join("made"));
    cellforge().args(["-q", "data", "split"]).arg(&data).arg("--out").arg(&split).assert().success();
    let train = |out: &Path, more: &[&str]| {
        let mut command = cellforge();
        command.args(["-q", "train", "gan", "--recipe", "best", "--data"]).arg(&data).arg("--out").arg(out);
        command.args(TINY).args(more).assert().success();
    };
    let generate = |gan: &Path| {
        let _ = fs::remove_dir_all(&made);
        let mut command = cellforge();
        command.args(["-q", "generate", "--count", "8", "--checkpoint"]).arg(gan).arg("--out").arg(&made);
        command.assert().success();
    };
    let evaluate = |out: &str| {
        let mut command = cellforge();
        command
            .args(["evaluate", "--side", "32", "--features", "pixels", "--measure", "fidelity", "--data"])
            .arg(&data);
        command.arg("--split").arg(&split).arg("--synthetic").arg(&made).arg("--out").arg(dir.join(out));
        let told = command.assert().success();
        (told, fs::read_to_string(dir.join(out).join("datasheet.md")).unwrap())
    };
    train(&gan, &[]);
    generate(&gan);
    let (told, sheet) = evaluate("of-all");
    told.stderr(contains("the generator was trained on"));
    assert!(sheet.contains("Held out, though the generator was trained on"), "{sheet}");
    let apart = dir.join("apart");
    train(&apart, &["--split", split.to_str().unwrap()]);
    generate(&apart);
    let (told, sheet) = evaluate("of-some");
    told.stderr(contains("the generator was trained on").not());
    assert!(sheet.contains("Held out, none of them seen by the generator"), "{sheet}");
}
