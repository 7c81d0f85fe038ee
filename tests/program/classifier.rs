//! Classifiers of few images: balance, folds, splits as folders, starts, and what is said of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::common::{cellforge, files};
use predicates::{prelude::*, str::contains};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    crate::common::folder(&format!("classifier/{name}"))
}

/// Small settings of a training.
const SMALL: [&str; 10] = ["--side", "32", "--width", "0.1", "--epochs", "1", "--batch", "8", "--recipe", "cnn-1"];

fn train(data: &Path, out: &Path, flags: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = cellforge();
    command.args(["train", "classifier"]).args(SMALL).args(flags);
    command.arg("--data").arg(data).arg("--out").arg(out).assert()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn folds_judge_each_image_once_and_go_on_where_they_stopped() {
    let dir = folder("folds");
    let data = PathBuf::from(crate::common::phantom(&dir));
    let out = dir.join("out");
    train(&data, &out, &["--folds", "3"])
        .success()
        .stdout(contains("all 3 folds").and(contains("over the folds")).and(contains("balanced accuracy")))
        .stderr(contains("few training images, below 100 a class"));
    let found = json(&out.join("folds.json"));
    assert_eq!((found["pooled"]["total"].as_u64(), found["folds"].as_array().unwrap().len()), (Some(80), 3));
    assert_eq!(found["pooled"]["groups"], 8);
    let totals: u64 = found["folds"].as_array().unwrap().iter().map(|fold| fold["total"].as_u64().unwrap()).sum();
    assert_eq!(totals, 80);
    // The pooled accuracy is that of the folds by their images.
    let correct: u64 = found["folds"].as_array().unwrap().iter().map(|fold| fold["correct"].as_u64().unwrap()).sum();
    assert_eq!(found["pooled"]["correct"], correct);
    // No patient is in the test of two folds, nor in the test and the training of one.
    let mut tested = BTreeSet::new();
    for fold in 1..=3 {
        let csv = fs::read_to_string(out.join(format!("fold-{fold}/split.csv"))).unwrap();
        let of = |part: &str| -> BTreeSet<String> {
            let fields = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
            fields.filter(|fields| fields[3] == part).map(|fields| fields[2].to_owned()).collect()
        };
        let (test, learned) = (of("test"), &of("train") | &of("val"));
        assert!(test.is_disjoint(&learned) && !of("val").is_empty());
        assert!(test.iter().all(|patient| tested.insert(patient.clone())));
    }
    assert_eq!(tested.len(), 8);

    // A fold that is finished is not trained again: its files stay, byte for byte; the one that is missing comes back as it was.
    let before = files(&out);
    fs::remove_dir_all(out.join("fold-2")).unwrap();
    fs::remove_file(out.join("folds.json")).unwrap();
    let written = fs::metadata(out.join("fold-1/best/weights.safetensors")).unwrap().modified().unwrap();
    let mut resume = cellforge();
    resume.args(["train", "classifier", "--resume", "--out"]).arg(&out).assert().success();
    let after = files(&out);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in &before {
        assert!(after[name] == *bytes, "{} differs", name.display());
    }
    assert_eq!(fs::metadata(out.join("fold-1/best/weights.safetensors")).unwrap().modified().unwrap(), written);

    // Folds and a single training do not mix, and each says what it is.
    train(&data, &out, &["--overwrite"]).code(1).stderr(contains("holds a cross-validation"));
    let single = dir.join("single");
    train(&data, &single, &[]).success();
    train(&data, &single, &["--folds", "3", "--overwrite"]).code(1).stderr(contains("holds a single training"));
    train(&data, &dir.join("x"), &["--folds", "3", "--test", "0.3"]).code(1).stderr(contains("of a single split"));
    train(&data, &dir.join("x"), &["--folds", "1"]).code(2);
    let mut classify = cellforge();
    classify.args(["classify", "--data"]).arg(&data).arg("--checkpoint").arg(&out);
    classify.assert().code(1).stderr(contains("fold-1"));
    // A network of a fold has seen all images but its test's.
    let mut classify = cellforge();
    classify.args(["classify", "--data"]).arg(&data).arg("--checkpoint").arg(out.join("fold-1"));
    classify.assert().success().stdout(contains("warning: it was trained on"));
}

#[test]
fn uneven_classes_are_balanced_and_reported() {
    let dir = folder("balance");
    let data = dir.join("images");
    cellforge().args(["data", "phantom", "--images-per-class", "80", "--out"]).arg(&data).assert().success();
    // 80 of the one, 20 of the other.
    let many = data.join("Uninfected");
    let mut names: Vec<PathBuf> = fs::read_dir(&many).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names[20..].iter().for_each(|path| fs::remove_file(path).unwrap());
    let plain = dir.join("plain");
    train(&data, &plain, &["--split-by", "image", "--val", "0.4", "--test", "0.3"])
        .success()
        .stdout(contains("scaled by a temperature of"))
        .stderr(contains("--balance weights or --balance batches"));
    for balance in ["weights", "batches"] {
        let out = dir.join(balance);
        let flags = ["--split-by", "image", "--val", "0.4", "--test", "0.3", "--balance", balance];
        train(&data, &out, &flags)
            .success()
            .stdout(
                contains("balanced accuracy").and(contains("average precision (AUC-PR)")).and(contains("few images")),
            )
            .stderr(contains("--balance weights or").not());
        let report = json(&out.join("test.json"));
        assert!(report["balanced_accuracy"]["low"].is_number() && report["calibration"]["ece"]["value"].is_number());
        assert!(report["per_class"][1]["average_precision"]["value"].is_number());
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        for words in
            ["Balanced accuracy", "Average precision (AUC-PR)", "Reliability", "<svg", "Few cells", "test.json"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("<script") && !page.contains("http-equiv"));
    }
    let read = |name: &str| fs::read(dir.join(name).join("last/weights.safetensors")).unwrap();
    assert!(read("plain") != read("weights") && read("weights") != read("batches"));

    // `classify` has the same, as text, as JSON and as a page.
    let (json_file, page) = (dir.join("figures.json"), dir.join("page.html"));
    let mut classify = cellforge();
    classify.args(["classify", "--checkpoint"]).arg(&plain).arg("--data").arg(&data).arg("--json").arg(&json_file);
    classify.arg("--report").arg(&page).assert().success().stdout(contains("balanced accuracy"));
    let state = json(&plain.join("best/state.json"));
    let temperature = json(&json_file)["temperature"].as_f64();
    assert!(temperature.is_some());
    assert_eq!(temperature.map(|t| t as f32), state["temperature"].as_f64().map(|t| t as f32));
    assert!(fs::read_to_string(&page).unwrap().contains("warning: it was trained on"));
    let mut again = cellforge();
    again.args(["classify", "--checkpoint"]).arg(&plain).arg("--data").arg(&data).arg("--report").arg(&page);
    again.assert().code(1).stderr(contains("is there already"));
}

/// `cases/split_csv_not_taken_by_evaluate`: a split as folders.
#[test]
fn a_split_is_laid_out_as_folders() {
    let dir = folder("folders");
    let zip = PathBuf::from(crate::common::phantom(&dir));
    let (parts, csv) = (dir.join("parts"), dir.join("split.csv"));
    let split = |extra: &[&str]| {
        let mut command = cellforge();
        command.args(["data", "split"]).arg(&zip).arg("--folders").arg(&parts).args(extra);
        command.assert()
    };
    split(&["--out", csv.to_str().unwrap()]).success().stdout(contains("for training").and(contains("images.csv")));
    // Every image is there once, under its part and its class, with the bytes that it had.
    let table = fs::read_to_string(parts.join("images.csv")).unwrap();
    let mut rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.remove(0), ["name", "class", "group", "split", "original"]);
    let manifest = fs::read_to_string(&csv).unwrap();
    let wanted: BTreeSet<(&str, &str, &str, &str)> = manifest
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|fields| (fields[0], fields[1], fields[2], fields[3]))
        .collect();
    let found: BTreeSet<_> = rows.iter().map(|row| (row[4], row[1], row[2], row[3])).collect();
    assert_eq!((found.len(), &found), (80, &wanted));
    let mut archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    for row in &rows {
        assert!(row[0].starts_with(&format!("{}/{}/", row[3], row[1])), "{row:?}");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name(row[4]).unwrap(), &mut bytes).unwrap();
        assert_eq!(fs::read(parts.join(row[0])).unwrap(), bytes, "{row:?}");
    }
    // It is read back as it was split, with its patients.
    let mut info = cellforge();
    info.args(["data", "info"]).arg(&parts).args(["--name", "name", "--label", "class", "--group", "group"]);
    info.args(["--side-column", "split", "--table"]).arg(parts.join("images.csv"));
    info.assert().success().stdout(contains("80").and(contains("8 patients").or(contains("patients"))));

    // What is there is not replaced, unless this verb made it and is told to; and never anything else.
    split(&[]).code(1).stderr(contains("is not empty").and(contains("--overwrite")));
    fs::write(parts.join("train/mine.txt"), "x").unwrap();
    split(&["--overwrite", "--test", "0.4"]).success();
    let other = dir.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "years of work").unwrap();
    let mut command = cellforge();
    command.args(["data", "split", "--overwrite"]).arg(&zip).arg("--folders").arg(&other);
    command.assert().code(1).stderr(contains("is not empty"));
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    let mut folds = cellforge();
    folds.args(["data", "split", "--folds", "3"]).arg(&zip).arg("--folders").arg(dir.join("f")).assert().code(2);
}

/// Files of one name in several folders of patients keep apart, and a file of several images goes nowhere in parts.
#[test]
fn names_of_a_split_stay_unique() {
    let dir = folder("names");
    let data = dir.join("images");
    let mut shade = 0;
    for class in ["ill", "well"] {
        for patient in ["p1", "p2", "p3", "p4", "p5", "p6"] {
            let to = data.join(class).join(patient);
            fs::create_dir_all(&to).unwrap();
            for name in ["scan.png", "SCAN.png"] {
                shade += 5;
                image::GrayImage::from_pixel(32, 32, image::Luma([shade])).save(to.join(name)).unwrap();
            }
        }
    }
    let parts = dir.join("parts");
    let mut split = cellforge();
    split.args(["data", "split", "--by", "image"]).arg(&data).arg("--folders").arg(&parts).assert().success();
    let copied: Vec<String> = files(&parts).into_keys().map(|path| path.to_str().unwrap().to_lowercase()).collect();
    let pictures = || copied.iter().filter(|name| name.ends_with(".png"));
    assert_eq!(pictures().count(), 24);
    assert_eq!(pictures().collect::<BTreeSet<_>>().len(), 24);
    assert!(pictures().any(|name| name.ends_with("ill_p1_scan.png")), "{copied:?}");
}

#[test]
fn starts_are_taken_and_leaks_are_told() {
    let dir = folder("from");
    let data = PathBuf::from(crate::common::phantom(&dir));
    let (first, second) = (dir.join("first"), dir.join("second"));
    train(&data, &first, &["--seed", "1"]).success();
    // Another split: some of its test images were seen by the network that it starts from.
    train(&data, &second, &["--seed", "2", "--split-by", "image", "--from", first.to_str().unwrap()])
        .success()
        .stderr(contains("starting from").and(contains("the network was trained on")));
    assert!(fs::read_to_string(second.join("report.html")).unwrap().contains("the network was trained on"));
    let saved = fs::read_to_string(second.join("config.toml")).unwrap();
    assert!(saved.contains(&format!("from = \"{}\"", first.display())), "{saved}");
    assert!(json(&second.join("last/state.json"))["started_from"]["weights"].as_str().unwrap().len() == 64);
    train(&data, &dir.join("x"), &["--from", dir.join("nothing").to_str().unwrap()]).code(1);
    train(&data, &dir.join("x"), &["--from", data.to_str().unwrap()]).code(1).stderr(contains("not one of torch.save"));
    assert!(!dir.join("x").join("last").exists());
}
