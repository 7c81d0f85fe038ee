//! The report, drawn from made-up results: every number is there, nothing hostile gets through, nothing is fetched.

use std::{collections::BTreeMap, path::Path};

use cellforge_assess::{Versions, evaluation::Words};
use cellforge_eval::{BootstrapOptions, ClassifierReport, classifier_report, wilson};
use cellforge_study::{
    report,
    results::{
        Beside, CnnResult, CnnResults, DataSummary, EpochPoint, GanResult, GridImage, PartSummary, Published,
        Recognition, ResnetResult, Results, SCHEMA_VERSION, Settings, SingleClassGroups, SkippedImage, differences,
        thin,
    },
};
use serde_json::json;

/// `wrong` of 400 cells of 20 patients are misjudged.
fn judged(classes: &[String], wrong: usize) -> ClassifierReport {
    let truth: Vec<u32> = (0..400).map(|i| i % 2).collect();
    let probabilities: Vec<Vec<f32>> = (0..400_usize)
        .map(|i| {
            let right = if (i * 7) % 400 < wrong { 0.3 } else { 0.6 + (i % 40) as f32 / 100.0 };
            if i % 2 == 0 { vec![right, 1.0 - right] } else { vec![1.0 - right, right] }
        })
        .collect();
    let patients: Vec<String> = (0..400).map(|i| format!("P{}", (i / 3) % 20)).collect();
    let options = BootstrapOptions { resamples: 100, ..Default::default() };
    let report = classifier_report(&truth, &probabilities, classes, Some(&patients), &options).unwrap();
    report.scaled_by(Some(1.5), &truth, &probabilities)
}

fn history(epochs: usize, last: f64) -> Vec<EpochPoint> {
    let at = |epoch: usize| last - 0.3 * (1.0 - epoch as f64 / epochs as f64);
    (1..=epochs)
        .map(|epoch| EpochPoint {
            epoch,
            loss: Some(1.0 / epoch as f64),
            train_accuracy: Some(at(epoch) - 0.02),
            val_accuracy: Some(at(epoch)),
        })
        .collect()
}

/// A grid of coloured discs, as a PNG file.
fn draw_grid(path: &Path, shade: u8) {
    let disc = |x: u32, y: u32| (x % 34).abs_diff(16).pow(2) + (y % 34).abs_diff(16).pow(2) < 170;
    let grid = image::RgbImage::from_fn(134, 134, |x, y| {
        if disc(x, y) { image::Rgb([200, 120_u8.saturating_add(shade), 160]) } else { image::Rgb([0; 3]) }
    });
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    grid.save(path).unwrap();
}

/// Made-up results for two classes, with their grids under `dir`. No figure in it was measured.
fn sample(dir: &Path, classes: [&str; 2], is_phantom: bool) -> Results {
    let classes = classes.map(String::from).to_vec();
    let counts = |n: usize| -> BTreeMap<String, usize> { classes.iter().map(|class| (class.clone(), n)).collect() };
    let cnn = |title: &str, epochs, wrong, accuracy: f64| CnnResult {
        title: title.to_owned(),
        epochs,
        optimizer: "SGD 1e-6, momentum 0.9, Nesterov, decay 1e-6".to_owned(),
        params: 176_290,
        val_accuracy: accuracy,
        test: judged(&classes, wrong),
        history: history(epochs, accuracy),
    };
    let mut gan = BTreeMap::new();
    for (k, class) in classes.iter().enumerate() {
        let mut grids = Vec::new();
        for (i, iteration) in [1, 250, 500, 800].into_iter().enumerate() {
            let path = format!("gan/{k}/grid-{iteration:08}.png");
            draw_grid(&dir.join(&path), 30 * i as u8);
            grids.push(GridImage { iteration, path });
        }
        let wave = |phase: f64, height: f64| {
            thin(
                (1..=800)
                    .map(move |i| (i, height * (1.2 + (i as f64 / 9.0 + phase).sin() * (1.0 + 200.0 / i as f64).ln()))),
            )
        };
        let losses = [
            ("d_real", wave(0.0, 0.4)),
            ("d_fake", wave(1.0, 0.5)),
            ("g", wave(2.0, 1.1)),
            ("d_accuracy", wave(0.0, 0.1)),
        ];
        let losses = losses.map(|(name, curve)| (name.to_owned(), curve)).into();
        gan.insert(
            class.clone(),
            GanResult { iterations: 800, params_g: 2_043_011, params_d: 1_613_889, losses, grids },
        );
    }
    let rates = |n: [u64; 2]| -> BTreeMap<String, Recognition> {
        classes.iter().zip(n).map(|(class, n)| (class.clone(), wilson(n, 1000).unwrap().into())).collect()
    };
    let here = json!({"data": {"side": 32, "train_limit": 1500}, "gan": {"width": 0.5, "iterations": 800, "grid_at": [1, 250, 500, 800]}});
    let paper = json!({"data": {"side": 64, "train_limit": 0}, "gan": {"width": 1.0, "iterations": 15_000, "grid_at": [1, 5000, 10_000, 15_000]}});
    let why = |name: &str| name.starts_with("gan").then(|| "what the time allows".to_owned());
    Results {
        schema_version: SCHEMA_VERSION,
        settings: Settings {
            preset: "quick".to_owned(),
            seed: 17,
            command: "cellforge reproduce --preset quick --seed 17".to_owned(),
            narrowed: differences(&here, &paper, why),
            config: here,
        },
        versions: Versions {
            cellforge: "0.1.0".to_owned(),
            candle: "0.11.1".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            device: "cpu".to_owned(),
        },
        data: DataSummary {
            source: if is_phantom { "the phantom" } else { "cells.zip" }.to_owned(),
            words: Words { one: "cell".to_owned(), many: "cells".to_owned() },
            is_phantom,
            is_nih: !is_phantom,
            side: 32.into(),
            channels: 3,
            classes: classes.clone(),
            images_per_class: counts(13_779),
            groups: Some(200),
            single_class_groups: BTreeMap::from([(classes[1].clone(), SingleClassGroups { groups: 50, images: 3415 })]),
            split_by: "group".to_owned(),
            parts: [("train", 9645), ("val", 1378), ("test", 2756)]
                .map(|(name, n)| PartSummary {
                    name: name.to_owned(),
                    images_per_class: counts(n),
                    groups: Some(n / 68),
                })
                .to_vec(),
            not_read: vec!["1 .toml: not a format of images that is read".to_owned()],
            intensities: None,
            skipped: vec![SkippedImage { name: "a/<b>.png".to_owned(), reason: "cut short".to_owned() }],
            fingerprint: "0123456789abcdef".repeat(4),
        },
        cnn: CnnResults {
            best: "tuned-1".to_owned(),
            models: BTreeMap::from([
                ("paper-1".to_owned(), cnn("CNN Model 1, as published", 2, 190, 0.5221)),
                ("paper-2".to_owned(), cnn("CNN Model 2, as published", 3, 200, 0.5331)),
                ("paper-3".to_owned(), cnn("CNN Model 3, as published", 2, 193, 0.5213)),
                ("tuned-1".to_owned(), cnn("CNN Model 1, tuned", 8, 30, 0.9377)),
            ]),
        },
        resnet: ResnetResult {
            params: 2_164_174,
            epochs: 4,
            optimizer: "SGD 0.1, momentum 0.9, linear decay to 0, augmentation".to_owned(),
            val_accuracy: 0.9591,
            test: judged(&classes, 18),
            history: history(4, 0.9591),
        },
        gan,
        recognition: rates([612, 973]),
        recognition_real: rates([941, 968]),
        evaluation: None,
        beside: Vec::new(),
        published: Some(Published::study()),
        durations: [("data", 2.5), ("cnn", 41.0), ("resnet", 88.0), ("gan/a", 70.0), ("judge", 5.0)]
            .map(|(stage, seconds)| (stage.to_owned(), seconds))
            .into(),
    }
}

fn rendered(classes: [&str; 2], is_phantom: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let results = sample(dir.path(), classes, is_phantom);
    // The report is drawn from what can be read back from the file.
    let text = serde_json::to_string_pretty(&results).unwrap();
    let html = report::render(&serde_json::from_str(&text).unwrap(), dir.path()).unwrap();
    // To look at the page: CELLFORGE_REPORT_DIR=FOLDER cargo test -p cellforge-study --test report
    if let Some(folder) = std::env::var_os("CELLFORGE_REPORT_DIR").filter(|_| classes[0] == "Parasitized") {
        let name = if is_phantom { "phantom.html" } else { "real.html" };
        std::fs::write(Path::new(&folder).join(name), &html).unwrap();
    }
    html
}

fn assert_all(html: &str, texts: &[&str]) {
    for text in texts {
        assert!(html.contains(text), "the report does not say {text:?}");
    }
}

/// A made-up element is closed as often as it is opened.
fn assert_balanced(html: &str) {
    for tag in ["table", "tr", "td", "th", "section", "figure", "div", "p", "ul", "ol", "li", "svg", "span", "details"]
    {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
}

#[test]
fn real_cells_are_reported_in_full() {
    let html = rendered(["Parasitized", "Uninfected"], false);
    assert_balanced(&html);
    // The study's figures beside ours.
    assert_all(
        &html,
        &["612 of 1,000", "58.1–64.2%", "973 of 1,000", "300 of 1,000", "27.2–32.9%", "991 of 1,000", "98.3–99.5%"],
    );
    assert_all(&html, &["52.2%", "53.3%", "52.0%", "55.5%", "94.9%", "95.5%", "382 of 400", "941 of 1,000"]);
    assert_all(
        &html,
        &["2,043,011", "1,613,889", "176,290", "2,164,174", "13,779", "3,415", "9,645", "1,378", "2,756"],
    );
    assert_all(
        &html,
        &["Iteration 1<", "Iteration 250<", "Iteration 500<", "Iteration 800<", "seed 17", "quick", "0.11.1"],
    );
    assert_all(
        &html,
        &["Not the study's settings", "gan.iterations", "15,000", "cellforge reproduce --preset quick --seed 17"],
    );
    assert_all(
        &html,
        &["public-domain", "PeerJ", "6:e4568", "not a diagnostic device", "no patient has cells in two parts"],
    );
    assert!(!html.contains("CC0") && !html.contains("Phantom data"));
    // Four grids a GAN, and the last one once more on the first screen.
    assert_eq!(html.matches("data:image/png;base64,").count(), 10);
    // Curves of losses and accuracies, and the reliability of the ResNet.
    assert_eq!(html.matches("<svg").count(), 5);
    assert_all(
        &html,
        &["Balanced accuracy", "AUC-PR", "Reliability", "a temperature of 1.500", "Without it the calibration"],
    );
    assert_eq!(html.matches("alt=\"").count(), 10);
}

#[test]
fn recipes_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = sample(dir.path(), ["Parasitized", "Uninfected"], false);
    let alone = report::render(&results, dir.path()).unwrap();
    assert!(!alone.contains("side by side"));
    let mut gan = results.gan.clone();
    gan.values_mut().for_each(|gan| gan.iterations = 4_321);
    let rate = |n| Recognition::from(wilson(n, 1000).unwrap());
    let recognition = [("Parasitized", 777), ("Uninfected", 888)].map(|(class, n)| (class.to_owned(), rate(n))).into();
    results.settings.config["gan"]["recipe"] = json!("study");
    results.durations.insert("beside/best/gan/_all".to_owned(), 90.0);
    results.beside = vec![Beside { recipe: "best".to_owned(), gan, recognition, evaluation: None }];
    let html = report::render(&results, dir.path()).unwrap();
    assert_balanced(&html);
    assert_all(
        &html,
        &[
            "Recipes side by side",
            "Recipe study",
            "Recipe best",
            "4,321 iterations",
            "77.7%",
            "88.8%",
            "1.5 min",
            "not measured",
        ],
    );
    // Of each GAN of the other recipe there is the last grid.
    assert_eq!(html.matches("data:image/png;base64,").count(), 12);
}

#[test]
fn a_phantom_is_called_a_phantom() {
    let html = rendered(["Parasitized", "Uninfected"], true);
    assert_all(&html, &["Phantom data, not patients", "held-out phantom cells", "Phantom cells held out"]);
    assert!(!html.contains("PeerJ") && !html.contains("Real cells held out") && !html.contains("real test cells"));
}

#[test]
fn the_page_stands_alone() {
    let html = rendered(["Parasitized", "Uninfected"], false);
    for fetched in ["<script", "<link", "src=\"http", "url(", "@import", "<iframe"] {
        assert!(!html.contains(fetched), "the page contains {fetched:?}");
    }
    // The only address is the name space of SVG, which is never fetched.
    assert_eq!(html.matches("http").count(), html.matches("http://www.w3.org/2000/svg").count());
    assert_all(&html, &["<!DOCTYPE html>", "<html lang=\"en\">", "name=\"viewport\"", "@media print"]);
}

#[test]
fn hostile_names_are_escaped() {
    let html = rendered(["<script>alert(1)</script>", "\"><img src=x onerror=y> & Co"], false);
    assert!(!html.contains("<script") && !html.contains("<img src=x"));
    assert_all(&html, &["&lt;script&gt;alert(1)", "&amp; Co", "1 image was left out as unreadable"]);
    // An image that could not be read is not named: its name may be a patient's.
    assert!(!html.contains("b&gt;.png"));
    assert_balanced(&html);
}

#[test]
fn grids_outside_the_study_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = sample(dir.path(), ["a", "b"], true);
    for bad in ["../secret.png", "/etc/hostname", "missing.png", "note.png"] {
        std::fs::write(dir.path().join("note.png"), "not a PNG file, but long enough for a header").unwrap();
        results.gan.get_mut("a").unwrap().grids[0].path = bad.to_owned();
        let error = report::render(&results, dir.path()).unwrap_err().to_string();
        assert!(error.contains(bad.trim_start_matches("../")), "{error}");
    }
}

#[test]
fn little_was_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = sample(dir.path(), ["cat", "dog"], false);
    results.cnn.models.retain(|name, _| name == "tuned-1");
    results.settings.narrowed.clear();
    results.data.is_nih = false;
    results.data.groups = None;
    results.data.single_class_groups.clear();
    results.data.split_by = "image".to_owned();
    results.resnet.history.clear();
    for gan in results.gan.values_mut() {
        gan.losses.clear();
        gan.grids.clear();
    }
    let html = report::render(&results, dir.path()).unwrap();
    assert_all(
        &html,
        &["not run", "not in the study", "All settings are the study's own", "the patients are not known"],
    );
    assert!(!html.contains("PeerJ") && !html.contains("Not the study's settings"));
}

#[test]
fn other_images_have_their_own_words_and_no_published_figures() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = sample(dir.path(), ["fracture", "none"], false);
    (results.data.is_nih, results.published) = (false, None);
    results.data.words = Words::from_noun("radiograph").unwrap();
    let html = report::render(&results, dir.path()).unwrap();
    assert_balanced(&html);
    assert_all(&html, &["Synthetic radiographs, judged", "real held-out radiographs", "Real radiographs held out"]);
    assert_all(&html, &["Radiographs by class and part", "Not the settings of the preset paper", "612 of 1,000"]);
    // The style sheet has names of its own.
    let html = html.split_once("</style>").unwrap().1;
    for absent in ["study", "malaria", "parasite", "blood", "cells ", "NIH", "PeerJ", "94.9%"] {
        let at = html.find(absent).map(|at| html[at.saturating_sub(40)..].chars().take(80).collect::<String>());
        assert_eq!(at, None, "the report says {absent:?}");
    }
}

#[test]
fn the_file_has_the_fields_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let value = serde_json::to_value(sample(dir.path(), ["Parasitized", "Uninfected"], true)).unwrap();
    assert_eq!(value["schema_version"], 3);
    for field in ["recognised", "total", "rate", "low", "high"] {
        assert!(value["recognition"]["Parasitized"][field].is_number(), "recognition.Parasitized.{field}");
        assert!(value["recognition_real"]["Uninfected"][field].is_number(), "recognition_real.Uninfected.{field}");
    }
    assert_eq!(value["recognition"]["Parasitized"]["recognised"], 612);
    assert_eq!(value["resnet"]["test"]["accuracy"], 0.955);
    assert_eq!(value["cnn"]["best"], "tuned-1");
    assert!(value["cnn"]["models"]["paper-1"]["test"]["confusion"]["counts"].is_array());
    assert_eq!(value["published"]["recognition"]["Uninfected"]["recognised"], 991);
    assert_eq!(value["settings"]["seed"], 17);
    assert!(value["durations"]["cnn"].is_number());
    let schema = include_str!("../SCHEMA.md");
    for part in [&value, &value["settings"], &value["data"], &value["cnn"], &value["resnet"], &value["published"]] {
        for field in part.as_object().unwrap().keys() {
            assert!(schema.contains(field.as_str()), "SCHEMA.md does not describe {field}");
        }
    }
}
