//! `cellforge panel` through the binary, on small phantoms.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{cellforge, folder};
use predicates::{prelude::*, str::contains};
use serde_json::Value;

/// A folder with phantom images of a seed.
fn phantom(root: &Path, name: &str, seed: &str) -> PathBuf {
    let out = root.join(name);
    let mut command = cellforge();
    command.args(["-q", "data", "phantom", "--images-per-class", "30", "--patients", "8", "--seed", seed, "--out"]);
    command.arg(&out).assert().success();
    out
}

fn make(root: &Path, out: &Path) -> assert_cmd::Command {
    let mut command = cellforge();
    command.args(["-q", "panel", "make", "--side", "32", "--images", "20", "--real"]).arg(root.join("real"));
    command.arg("--synthetic").arg(root.join("synthetic")).arg("--out").arg(out);
    command
}

fn sets(name: &str) -> PathBuf {
    let root = folder(name);
    phantom(&root, "real", "1");
    phantom(&root, "synthetic", "2");
    root
}

/// The lines of the key, without their header, as columns; the phantom's names have no commas.
fn key(out: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(out.join("key.csv")).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// What the script of the page knows.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("type=\"application/json\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The bytes of base64.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|&b| b != b'=').map(|b| ALPHABET.iter().position(|&a| a == b).unwrap() as u32);
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        (held, bits) = (held << 6 | digit, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    bytes
}

/// The names of the chunks of a PNG file.
fn chunks(png: &[u8]) -> Vec<String> {
    let (mut at, mut names) = (8, Vec::new());
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        names.push(String::from_utf8(png[at + 4..at + 8].to_vec()).unwrap());
        at += 12 + length;
    }
    names
}

#[test]
fn the_page_holds_nothing_of_the_key() {
    let root = sets("panel-blind");
    let out = root.join("panel");
    make(&root, &out).assert().success().stdout(contains("key.csv").and(contains("4 shown twice")));
    let page = fs::read_to_string(out.join("panel.html")).unwrap();
    let (rows, data) = (key(&out), data(&page));
    assert_eq!(rows.len(), 40);

    // The pictures are looked at below: three letters of a patient can turn up in base64 by chance.
    let images = data["images"].as_object().unwrap();
    let mut words = page.clone();
    for image in images.values() {
        words = words.replace(image.as_str().unwrap(), "");
    }
    let mut secrets = BTreeSet::new();
    for row in &rows {
        let file = row[5].rsplit('/').next().unwrap();
        secrets.extend([row[3].as_str(), row[4].as_str(), row[5].as_str(), file, file.trim_end_matches(".png")]);
    }
    secrets.extend([root.to_str().unwrap(), "phantom", "key.csv"]);
    secrets.remove("");
    assert!(secrets.len() > 60, "{}", secrets.len());
    for secret in secrets {
        assert!(!words.contains(secret), "{secret}");
    }
    // Nothing but the columns that it needs, and nothing from elsewhere.
    let fields: BTreeSet<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["panel", "columns", "width", "height", "order", "images"]));
    assert!(!words.contains("http:") && !words.contains("https:") && words.contains("default-src 'none'"));

    // Ids are listed in their own order, and pictures are alike in all but their pixels.
    let ids: Vec<&String> = images.keys().collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 13 && id.starts_with('i')));
    let lengths: BTreeSet<usize> = images.values().map(|image| image.as_str().unwrap().len()).collect();
    assert_eq!(lengths.len(), 1);
    for row in &rows {
        let png = decode(images[&row[1]].as_str().unwrap());
        let mut names = chunks(&png);
        names.dedup();
        assert_eq!(names, ["IHDR", "IDAT", "IEND"]);
        let shown = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), (32, 32));
        // It is the image that the key says it is.
        let original = image::open(root.join(&row[2]).join(&row[5])).unwrap().into_rgb8();
        let mean = |image: &image::RgbImage| {
            image.as_raw().iter().map(|&v| f64::from(v)).sum::<f64>() / image.as_raw().len() as f64
        };
        assert!((mean(&shown) - mean(&original)).abs() < 3.0, "{row:?}");
    }
    // Phantom images show no patient, and the page says so.
    assert!(words.contains("drawn by a program") && !words.contains("real images of patients"));
}

#[test]
fn images_of_patients_are_announced_in_the_first_line() {
    let root = sets("panel-patients");
    // The names alone tell a phantom.
    for set in ["real", "synthetic"] {
        for class in ["Parasitized", "Uninfected"] {
            for entry in fs::read_dir(root.join(set).join(class)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().replace("phantom", "other");
                fs::rename(&path, path.with_file_name(name)).unwrap();
            }
        }
    }
    let out = root.join("panel");
    make(&root, &out).assert().success().stdout(contains("may not go where those may not"));
    let page = fs::read_to_string(out.join("panel.html")).unwrap();
    let body = page.split_once("<body>").unwrap().1;
    assert!(
        body.starts_with("<p id=\"notice\"><strong>This page contains real images of patients. It may not leave"),
        "{}",
        &body[..200]
    );
}

#[test]
fn the_same_seed_gives_the_same_panel_and_none_is_replaced_unasked() {
    let root = sets("panel-seed");
    let (one, two, other) = (root.join("one"), root.join("two"), root.join("other"));
    make(&root, &one).args(["--threads", "1"]).assert().success();
    make(&root, &two).args(["--threads", "2"]).assert().success();
    make(&root, &other).args(["--seed", "2"]).assert().success();
    let read = |out: &Path, name: &str| fs::read(out.join(name)).unwrap();
    for name in ["panel.html", "key.csv"] {
        assert_eq!(read(&one, name), read(&two, name));
        assert_ne!(read(&one, name), read(&other, name));
    }
    // Real and synthetic images of each class are as many.
    let count = |source: &str, class: &str| key(&one).iter().filter(|row| row[2] == source && row[3] == class).count();
    for class in ["Parasitized", "Uninfected"] {
        assert_eq!((count("real", class), count("synthetic", class)), (10, 10));
    }

    make(&root, &one).assert().failure().code(1).stderr(contains("--overwrite"));
    make(&root, &one).args(["--overwrite", "--seed", "2"]).assert().success();
    assert_eq!(read(&one, "key.csv"), read(&other, "key.csv"));
    // A key of something else is not replaced even so.
    let foreign = root.join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("key.csv"), "mine").unwrap();
    make(&root, &foreign).arg("--overwrite").assert().failure().stderr(contains("is of no panel"));
    assert_eq!(fs::read_to_string(foreign.join("key.csv")).unwrap(), "mine");
}

/// Answers as a page writes them: `level` says what is answered for a row of the key.
pub fn answer(out: &Path, rater: &str, level: impl Fn(&[String], usize) -> Option<u8>) -> PathBuf {
    let mut shown: Vec<(usize, String)> = Vec::new();
    for row in key(out) {
        for (showing, position) in row[6..].iter().filter(|position| !position.is_empty()).enumerate() {
            if let Some(level) = level(&row, showing) {
                let line = format!("{},{rater},{},{position},{level},1.5", row[0], row[1]);
                shown.push((position.parse().unwrap(), line));
            }
        }
    }
    shown.sort();
    let lines: Vec<String> = shown.into_iter().map(|(_, line)| line).collect();
    let path = out.join(format!("panel-{rater}.csv"));
    fs::write(&path, format!("panel,rater,id,position,answer,seconds\n{}\n", lines.join("\n"))).unwrap();
    path
}

#[test]
fn answers_are_scored() {
    let root = sets("panel-score");
    let out = root.join("panel");
    make(&root, &out).assert().success();
    // One rater knows. One calls all of the first class real and all of the second synthetic, and stops without the repeats.
    let all = answer(&out, "ALL", |row, _| Some(if row[2] == "real" { 2 } else { 6 }));
    let half =
        answer(&out, "HALF", |row, showing| (showing == 0).then_some(if row[3] == "Parasitized" { 3 } else { 4 }));
    let score = |answers: &[&Path]| {
        let mut command = cellforge();
        command.args(["-q", "panel", "score", "--resamples", "200", "--key"]).arg(out.join("key.csv"));
        command.args(answers);
        command
    };
    let figures = root.join("figures");
    let mut command = score(&[&all, &half]);
    command.arg("--out").arg(&figures);
    command.assert().success().stdout(contains("44 of 44").and(contains("40 of 44")).and(contains("52.3%")));
    let found: Value = serde_json::from_slice(&fs::read(figures.join("panel.json")).unwrap()).unwrap();
    let [first, second] = [0, 1].map(|i| &found["raters"][i]);
    assert_eq!(first["discrimination"]["auc"]["value"], 1.0);
    assert_eq!(second["discrimination"]["auc"]["value"], 0.5);
    assert_eq!(first["repeated"]["same"]["rate"], 1.0);
    assert_eq!(second["repeated"], Value::Null);
    assert_eq!(found["pooled"]["accuracy"]["rate"], 0.75);
    assert_eq!(found["pooled"]["auc"]["value"], 0.75);
    // They agree on half of the images, as by chance.
    assert_eq!(found["pairs"][0]["agreement"]["kappa"]["value"], 0.0);
    assert_eq!(found["per_class"]["Uninfected"]["sensitivity"]["rate"], 1.0);
    assert!(fs::read_to_string(figures.join("panel.md")).unwrap().contains("ALL and HALF"));
    // Figures are not replaced unasked, and do not depend on threads.
    let before = fs::read(figures.join("panel.json")).unwrap();
    command.assert().failure().stderr(contains("--overwrite"));
    command.args(["--overwrite", "--threads", "1"]).assert().success();
    assert_eq!(fs::read(figures.join("panel.json")).unwrap(), before);

    // Answers to another panel, and a damaged file.
    let other = root.join("other");
    make(&root, &other).args(["--seed", "2"]).assert().success();
    let stray = answer(&other, "CD", |_, _| Some(1));
    let name = stray.to_str().unwrap().to_owned();
    score(&[&all, &stray])
        .assert()
        .failure()
        .code(1)
        .stderr(contains(name).and(contains("line 2: it answers the panel")));
    fs::write(&half, fs::read_to_string(&half).unwrap().replacen(",1.5", "", 1)).unwrap();
    score(&[&half]).assert().failure().stderr(contains("panel-HALF.csv, line 2: it has 5 columns"));
    score(&[&all, &all]).assert().failure().stderr(contains("two files are of the rater \"ALL\""));
}

#[test]
fn what_makes_no_panel_is_named() {
    let root = sets("panel-refused");
    let mut same = cellforge();
    same.args(["-q", "panel", "make", "--side", "32", "--images", "60", "--real"]).arg(root.join("real"));
    same.arg("--synthetic").arg(root.join("real")).arg("--out").arg(root.join("same"));
    same.assert().failure().stderr(contains("are the same image"));
    make(&root, &root.join("real/panel")).assert().failure().stderr(contains("inside the images' folder"));
    make(&root, &root.join("p"))
        .args(["--repeats", "0.9"])
        .assert()
        .failure()
        .code(2)
        .stderr(contains("panel.repeats"));
    assert!(!root.join("p").exists() && !root.join("same").exists());
}

/// The first Chromium on the path.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
}

/// A rater at the keyboard, where there is a Chromium: what the page saves is what the program scores.
#[test]
fn a_rater_answers_by_keys() {
    let Some(chromium) = chromium() else { return };
    let root = sets("panel-keys");
    let out = root.join("panel");
    make(&root, &out).assert().success();
    let page = fs::read_to_string(out.join("panel.html")).unwrap();
    let driven = root.join("driven.html");
    fs::write(&driven, page.replace("</body>", concat!(include_str!("../panel/rater.html"), "</body>"))).unwrap();
    let profile = format!("--user-data-dir={}", root.join("profile").display());
    let ran = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", &profile])
        .arg(format!("file://{}", driven.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = String::from_utf8_lossy(&ran.stderr);
    let (_, seen) = dom.split_once("<pre id=\"seen\">").unwrap_or_else(|| panic!("the script did not end: {said}"));
    let seen = seen.split_once("</pre>").unwrap().0;
    let (seen, csv) = seen.split_at(seen.find("panel,rater").unwrap());
    let expected = [
        "initials are asked for",
        "one answer: 2 of 44",
        "back: 2 of 44, 6 is chosen",
        "arrows: 4 of 44, focus on BODY",
        "another rater: 1 of 44",
        "goes on: 4 of 44",
        "done",
        "panel-AB.csv",
    ];
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    let levels: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').nth(4).unwrap()).collect();
    assert_eq!((levels.len(), &levels[..5]), (44, &["1", "2", "5", "5", "5"][..]));
    let answers = out.join("panel-AB.csv");
    fs::write(&answers, csv).unwrap();
    let mut score = cellforge();
    score.args(["-q", "panel", "score", "--key"]).arg(out.join("key.csv")).arg(&answers);
    score.assert().success().stdout(contains("AB").and(contains("44 of 44")));
}
