//! Each kind of bad input gives a clear error that names the file, and no panic.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::common::cellforge;
use predicates::{prelude::*, str::contains};
use zip::{ZipWriter, write::SimpleFileOptions};

/// A folder with a phantom of six images per class.
fn images(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad").join(name);
    let _ = fs::remove_dir_all(&dir);
    cellforge().args(["-q", "data", "phantom", "--images-per-class", "6", "--out"]).arg(&dir).assert().success();
    dir
}

/// One of the images.
fn any_image(dir: &Path) -> Vec<u8> {
    let path = fs::read_dir(dir.join("Uninfected")).unwrap().next().unwrap().unwrap().path();
    fs::read(path).unwrap()
}

/// `data info` fails with exit code 1, names what is at fault, and says it as an error.
fn refused(path: &Path, names: &str) {
    cellforge()
        .args(["data", "info"])
        .arg(path)
        .assert()
        .code(1)
        .stderr(contains("error:").and(contains(names)).and(contains("panicked").not()));
}

/// With `--skip-bad` the rest is read, and what was left out is named.
fn skipped(path: &Path, names: &str, left: usize) {
    cellforge()
        .args(["data", "info", "--skip-bad"])
        .arg(path)
        .assert()
        .success()
        .stdout(contains(format!("{left} images")))
        .stderr(contains(names));
}

#[test]
fn images_that_are_none() {
    let whole = any_image(&images("whole"));
    let bad: [(&str, &str, Vec<u8>); 4] = [
        ("truncated", "cut.png", whole[..whole.len() / 2].to_vec()),
        ("text", "words.png", b"these are words".to_vec()),
        ("empty-file", "nothing.png", Vec::new()),
        ("tiny", "tiny.png", tiny_png()),
    ];
    for (case, file, bytes) in bad {
        let dir = images(case);
        fs::write(dir.join("Uninfected").join(file), bytes).unwrap();
        refused(&dir, file);
        skipped(&dir, file, 12);
    }
}

/// A 1x1 image.
fn tiny_png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn folders_that_do_not_fit() {
    refused(Path::new("there/is/no/such/folder"), "there/is/no/such/folder");

    let dir = images("empty-class");
    fs::create_dir(dir.join("Empty")).unwrap();
    refused(&dir, "Empty");

    let dir = images("one-class");
    fs::remove_dir_all(dir.join("Uninfected")).unwrap();
    for verb in [&["reproduce", "--preset", "smoke"][..], &["train", "classifier"]] {
        cellforge()
            .args(verb)
            .arg("--data")
            .arg(&dir)
            .arg("--out")
            .arg(dir.with_extension("out"))
            .assert()
            .code(1)
            .stderr(contains("Parasitized").and(contains("one class")));
    }

    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad/nothing");
    fs::create_dir_all(&dir).unwrap();
    refused(&dir, "nothing");
}

#[test]
fn names_in_any_script() {
    let dir = images("names");
    fs::rename(dir.join("Uninfected"), dir.join("未感染 ß")).unwrap();
    let first = fs::read_dir(dir.join("未感染 ß")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&first, first.with_file_name("zelle-ä-🩸.png")).unwrap();
    cellforge().args(["data", "info"]).arg(&dir).assert().success().stdout(contains("未感染 ß: 6"));
    fs::write(dir.join("未感染 ß/kaputt-ö.png"), "x").unwrap();
    refused(&dir, "kaputt-ö.png");
}

#[test]
fn zips_that_are_cut_short_or_hostile() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad/zips");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let whole = dir.join("whole.zip");
    cellforge().args(["-q", "data", "phantom", "--images-per-class", "6", "--out"]).arg(&whole).assert().success();
    let bytes = fs::read(&whole).unwrap();
    let cut = dir.join("cut.zip");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(&cut, "cut.zip");

    let climbing = dir.join("climbing.zip");
    write_zip(&climbing, &[("a/1.png", &tiny_png()), ("../../b/2.png", &tiny_png())]);
    refused(&climbing, "../../b/2.png");

    // 300 MB of zeros called an image, in a few hundred kilobytes.
    let bomb = dir.join("bomb.zip");
    let zeros = vec![0; 300 << 20];
    let mut good = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([x as u8, y as u8, 9]))
        .write_to(&mut good, image::ImageFormat::Png)
        .unwrap();
    write_zip(&bomb, &[("a/1.png", good.get_ref()), ("b/huge.png", &zeros)]);
    assert!(fs::metadata(&bomb).unwrap().len() < 2 << 20);
    refused(&bomb, "huge.png");
}

fn write_zip(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_study_with_skipped_images_lists_them() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad/study");
    let _ = fs::remove_dir_all(&dir);
    let data = dir.join("images");
    cellforge().args(["-q", "data", "phantom", "--images-per-class", "40", "--out"]).arg(&data).assert().success();
    fs::write(data.join("Uninfected/words.png"), "words").unwrap();
    let config = dir.join("few.toml");
    let text = "[gan]\niterations = 1\ngrid_at = [1]\n[generate]\nper_class = 2\n[classifier]\nepochs = 1\n\
                [cnn]\nruns = [{recipe = \"cnn-1\", epochs = 1}]\n";
    fs::write(&config, text).unwrap();
    let run = |extra: &[&str]| {
        let mut command = cellforge();
        command.args(["reproduce", "--preset", "smoke", "--data"]).arg(&data).arg("--out").arg(dir.join("out"));
        command.arg("--config").arg(&config).args(extra);
        command
    };
    run(&[]).assert().code(1).stderr(contains("words.png").and(contains("--skip-bad")));
    // Two synthetic images of a class are too few to compare, and the rest of the study is done all the same.
    run(&["--skip-bad"]).assert().success().stderr(contains("at least 4 are needed"));
    let results: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("out/results.json")).unwrap()).unwrap();
    assert!(results["evaluation"]["fidelity"].is_null() && results["evaluation"]["utility"].is_object());
    assert!(results["evaluation"]["not_measured"]["fidelity"].as_str().unwrap().contains("synthetic"));
    assert!(results["data"]["skipped"][0]["name"].as_str().unwrap().ends_with("words.png"));
    // A report says how many, and names none: a name may be a patient's.
    let report = fs::read_to_string(dir.join("out/report.html")).unwrap();
    assert!(report.contains("1 image was left out as unreadable") && !report.contains("words.png"));
}

#[test]
fn checkpoints_that_are_damaged_or_of_another_kind() {
    let dir = images("checkpoint");
    let (gan, classifier) = (dir.with_extension("gan"), dir.with_extension("net"));
    for path in [&gan, &classifier] {
        let _ = fs::remove_dir_all(path);
    }
    let small = ["--side", "32", "--width", "0.05", "--batch", "4"];
    cellforge()
        .args(["-q", "train", "gan", "--class", "Uninfected", "--iterations", "1", "--data"])
        .arg(&dir)
        .args(small)
        .arg("--out")
        .arg(&gan)
        .assert()
        .success();
    cellforge()
        .args(["classify", "--data"])
        .arg(&dir)
        .arg("--checkpoint")
        .arg(&gan)
        .assert()
        .code(1)
        .stderr(contains("gan").and(contains("classifier")));
    let weights = gan.join("last/weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    cellforge()
        .args(["generate", "--count", "1", "--checkpoint"])
        .arg(&gan)
        .arg("--out")
        .arg(dir.with_extension("made"))
        .assert()
        .code(1)
        .stderr(contains("weights.safetensors").and(contains("panicked").not()));
}
