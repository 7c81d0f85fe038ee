//! Images that are no squares of 32, 64 or 128 pixels, from data to judgement; and runs that do not fit into memory.

use std::path::Path;

use crate::common::{cellforge, folder};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_rectangle_goes_all_the_way() {
    let dir = folder("sizes");
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let run = |words: &str| {
        let assert = cellforge().args(words.split(' ')).current_dir(&dir).assert().success();
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    run("data phantom --side 40x28 --images-per-class 40 --patients 8 --out images.zip");
    let size = |path: &Path| image::image_dimensions(path).unwrap();
    let told = run("data info images.zip --side 40x28");
    assert!(!told.contains("another shape"), "{told}");

    // Without a word about it, they are stretched; the settings, the checkpoint and the images are of this size.
    run("train gan -q --recipe best --side 40x28 --width 0.05 --batch 4 --iterations 3 --data images.zip --out gan");
    let saved = std::fs::read_to_string(at("gan/config.toml")).unwrap();
    assert!(saved.contains("side = \"40x28\"") && saved.contains("fit = \"auto\""), "{saved}");
    assert_eq!(json(&dir.join("gan/last/state.json"))["config"]["gan"]["model"]["image_size"], "40x28");
    run("generate --checkpoint gan --count 12 --out made --grid grid.png");
    let one = std::fs::read_dir(dir.join("made/Uninfected")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(size(&one), (40, 28));

    run("train classifier -q --recipe cnn-1 --side 40x28 --width 0.1 --epochs 1 --data images.zip --out net");
    run("classify -q --checkpoint net --data made --json judged.json");
    assert_eq!(json(&dir.join("judged.json"))["images"], 24);
    run("data split images.zip --out split.csv");
    run("evaluate -q --side 40x28 --data images.zip --split split.csv --synthetic made --out found --resamples 50 \
         --measure fidelity,privacy --features pixels --set evaluate.fidelity.k=3 --set evaluate.copies.planted=10 \
         --set evaluate.reidentification.updates=0");
    let found = json(&dir.join("found/evaluation.json"));
    assert_eq!(found["sets"]["side"], "40x28");
    let page = std::fs::read_to_string(at("found/report.html")).unwrap();
    assert!(page.contains("40 × 28 pixels"));
}

#[test]
fn how_images_are_fitted_is_said_and_kept() {
    let dir = folder("sizes-fit");
    let run = |words: &str| {
        let assert = cellforge().args(words.split(' ')).current_dir(&dir).assert().success();
        let output = assert.get_output();
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
    };
    run("data phantom --side 96x48 --images-per-class 12 --patients 6 --out images.zip");
    let told = run("data info images.zip --side 32");
    assert!(told.contains("24 images of another shape than 32x32 pixels"), "{told}");
    assert!(
        told.contains("padded with the colour of their border") && told.contains("--fit stretch or crop"),
        "{told}"
    );
    let told = run("data info images.zip --side 32 --fit crop");
    assert!(told.contains("cropped"), "{told}");
    // The classifier's way is that of what it judges.
    run("train classifier -q --recipe cnn-1 --side 32 --width 0.1 --epochs 1 --data images.zip --out net");
    let state = dir.join("net/last/state.json");
    assert_eq!(json(&state)["fit"], "pad");
    let told = run("classify --checkpoint net --data images.zip");
    assert!(told.contains("padded"), "{told}");
}

#[test]
fn a_run_that_does_not_fit_says_what_would() {
    let dir = folder("sizes-memory");
    let refused = |words: &str| {
        let assert = cellforge().args(words.split(' ')).current_dir(&dir).assert().code(1);
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    let told = refused("train gan --recipe best --side 256 --batch 64 --memory 3.5 --out gan");
    for part in ["training a GAN on 256x256 pixels in batches of 64", "3.5 GiB are free", "--batch 32 (", "--side "] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let told = refused("train classifier --recipe resnet --side 512 --batch 64 --memory 2 --out net");
    assert!(told.contains("training a classifier on 512x512 pixels") && told.contains("--batch "), "{told}");
    refused("reproduce --preset smoke --side 512 --memory 0.2 --out study");
    assert!(["gan", "net", "study"].iter().all(|name| !dir.join(name).join("last").exists()));
    cellforge()
        .args(["doctor", "--side", "320x240", "--channels", "1", "--batch", "16", "--memory", "0.5"])
        .assert()
        .stdout(
            contains("recipe best, 320x240 pixels in 1 channel, batch 16").and(contains("which does not fit; batch")),
        );
    let one = cellforge().args(["doctor", "--recipe", "resnet"]).assert();
    let told = String::from_utf8_lossy(&one.get_output().stdout).into_owned();
    assert!(
        told.contains("recipe resnet, 64x64 pixels in 3 channels, batch") && !told.contains("recipe best"),
        "{told}"
    );
    cellforge().args(["doctor", "--memory", "0"]).assert().code(2).stderr(contains("a number of GiB above 0"));
}
