//! The smoke study through the binary: run once, then looked at from several sides.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::common::{cellforge, files};
use predicates::{prelude::*, str::contains};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("study")
}

/// The folder of a finished smoke study.
fn smoke() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let out = root().join("smoke");
        let _ = fs::remove_dir_all(&out);
        run(&out).success().stderr(contains("phantom")).stdout(contains("report.html"));
        out
    })
}

fn run(out: &Path) -> assert_cmd::assert::Assert {
    cellforge().args(["reproduce", "--preset", "smoke", "--out"]).arg(out).assert()
}

fn results(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap()
}

#[test]
fn the_results_are_complete() {
    let results = results(smoke());
    assert_eq!(results["schema_version"], 3);
    assert_eq!(results["data"]["is_phantom"], true);
    assert_eq!(results["data"]["split_by"], "group");
    for class in ["Parasitized", "Uninfected"] {
        for kind in ["recognition", "recognition_real"] {
            let r = &results[kind][class];
            let (rate, low, high) =
                (r["rate"].as_f64().unwrap(), r["low"].as_f64().unwrap(), r["high"].as_f64().unwrap());
            assert!(low <= rate && rate <= high, "{kind} {class}: {r}");
            assert!(r["recognised"].as_u64().unwrap() <= r["total"].as_u64().unwrap());
        }
        assert!(results["durations"][format!("gan/{class}")].as_f64().unwrap() > 0.0);
        assert_eq!(results["gan"][class]["grids"].as_array().unwrap().len(), 4);
        let samples = smoke().join("synthetic").join(class);
        assert_eq!(
            fs::read_dir(samples).unwrap().count() as u64,
            results["recognition"][class]["total"].as_u64().unwrap()
        );
    }
    assert!(results["resnet"]["test"]["accuracy"].is_number());
    assert!(results["cnn"]["models"][results["cnn"]["best"].as_str().unwrap()]["test"]["accuracy"].is_number());
    for stage in ["data", "cnn", "resnet", "generate", "judge", "evaluate"] {
        assert!(results["durations"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert_eq!(results["published"]["recognition"]["Parasitized"]["recognised"], 300);
}

#[test]
fn the_report_stands_alone_and_names_the_phantom() {
    let html = fs::read_to_string(smoke().join("report.html")).unwrap();
    assert!(html.contains("phantom"));
    assert!(html.contains("data:image/png;base64,"));
    assert!(!html.contains("src=\"http") && !html.contains("<script src"), "the report needs no other file");
    for file in ["config.toml", "resnet/last/weights.safetensors", "gan/Uninfected/tensorboard", "data/split.csv"] {
        assert!(smoke().join(file).exists(), "{file}");
    }
}

#[test]
fn a_second_run_skips_everything_and_mends_what_is_damaged() {
    // A copy, so that the other tests do not see it damaged.
    let out = root().join("copy");
    copy(smoke(), &out);
    let before = fs::read(out.join("results.json")).unwrap();
    run(&out).success().stderr(contains("resnet: done before").and(contains("running").not()));
    assert_eq!(fs::read(out.join("results.json")).unwrap(), before);

    let lost = out.join("synthetic/Parasitized/synthetic_000003.png");
    let image = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    run(&out).success().stderr(contains("generate: running").and(contains("resnet: done before")));
    assert_eq!(fs::read(&lost).unwrap(), image);

    // Another seed changes the inputs of every stage, and what is there is replaced only on request.
    let config = few(&out);
    let other_seed = || {
        let mut command = cellforge();
        command.args(["reproduce", "--preset", "smoke", "--seed", "2", "--out"]).arg(&out).arg("--config").arg(&config);
        command
    };
    let before = fs::read(out.join("config.toml")).unwrap();
    other_seed().assert().code(1).stderr(contains("other settings").and(contains("--overwrite")));
    assert_eq!(fs::read(out.join("config.toml")).unwrap(), before);
    other_seed().arg("--overwrite").assert().success().stderr(contains("done before").not());
    assert_ne!(results(&out)["data"]["fingerprint"], results(smoke())["data"]["fingerprint"]);
}

#[test]
fn a_start_is_known_by_its_weights() {
    let (start, out) = (root().join("start"), root().join("started"));
    copy(&smoke().join("resnet"), &start);
    let _ = fs::remove_dir_all(&out);
    let from = format!("classifier.from={}", start.display());
    let run = || {
        let mut command = cellforge();
        command
            .args(["reproduce", "--preset", "smoke", "--set", &from, "--set", "evaluate.measure=[]", "--out"])
            .arg(&out);
        command.arg("--config").arg(few(&root().join("settings"))).assert()
    };
    run().success();
    run().success().stderr(contains("resnet: done before"));
    // Other weights at the same place.
    copy(&out.join("resnet"), &start);
    run().code(1).stderr(contains("other settings").and(contains("--overwrite")));
}

#[test]
fn another_precision_replaces_nothing_unless_asked_to() {
    let out = root().join("precision");
    copy(smoke(), &out);
    let before = files(&out);
    cellforge()
        .args(["reproduce", "--preset", "smoke", "--precision", "bf16-emulated", "--out"])
        .arg(&out)
        .assert()
        .code(1)
        .stderr(contains("precision").and(contains("bf16-emulated")).and(contains("--overwrite")));
    assert!(files(&out) == before, "a study that was refused has changed what is there");
}

#[test]
fn folders_that_no_study_made_are_left_alone() {
    let out = crate::common::folder("study/taken");
    let mine = out.join("data/mine.txt");
    fs::create_dir(out.join("data")).unwrap();
    fs::write(&mine, "mine").unwrap();
    for extra in [&[] as &[&str], &["--overwrite"]] {
        let mut command = cellforge();
        command.args(["reproduce", "--preset", "smoke", "--out"]).arg(&out).args(extra);
        let data = out.join("data").display().to_string();
        command.assert().code(1).stderr(contains(data).and(contains("no study")).and(contains("--out")));
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
    }

    // Nor are settings of something else.
    let out = crate::common::folder("study/settings");
    let settings = out.join("config.toml");
    fs::write(&settings, "[server]\nport = 80\n").unwrap();
    for extra in [&[] as &[&str], &["--overwrite"]] {
        let mut command = cellforge();
        command.args(["reproduce", "--preset", "smoke", "--out"]).arg(&out).args(extra);
        command.assert().code(1).stderr(contains("config.toml").and(contains("--out")));
        assert_eq!(fs::read(&settings).unwrap(), b"[server]\nport = 80\n");
    }
}

#[test]
fn its_networks_can_be_used_by_the_other_verbs() {
    let cells = root().join("made.zip");
    let _ = fs::remove_file(&cells);
    cellforge()
        .args(["generate", "--count", "12", "--checkpoint"])
        .arg(smoke())
        .arg("--out")
        .arg(&cells)
        .assert()
        .success();
    let (csv, json) = (root().join("each.csv"), root().join("figures.json"));
    for path in [&csv, &json] {
        let _ = fs::remove_file(path);
    }
    cellforge()
        .args(["classify", "--checkpoint"])
        .arg(smoke())
        .arg("--data")
        .arg(&cells)
        .arg("--csv")
        .arg(&csv)
        .arg("--json")
        .arg(&json)
        .assert()
        .success()
        .stdout(contains("24 images").and(contains("accuracy")));
    let text = fs::read_to_string(csv).unwrap();
    assert_eq!(text.lines().count(), 25);
    assert!(text.starts_with("name,folder,predicted,p_Parasitized,p_Uninfected\n"), "{text}");
    let figures: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(figures["report"]["total"], 24);

    // Loose images, and class folders the classifier does not know: predictions alone.
    cellforge()
        .args(["classify", "--model", "cnn", "--checkpoint"])
        .arg(smoke())
        .arg("--data")
        .arg(smoke().join("synthetic/Uninfected"))
        .assert()
        .success()
        .stdout(contains("no figures"));
}

#[test]
fn any_number_of_classes_with_any_names() {
    let data = root().join("three");
    let zip = root().join("three-source");
    cellforge().args(["data", "phantom", "--images-per-class", "40", "--out"]).arg(&zip).assert().success();
    for (from, to) in [("Parasitized", "ring form"), ("Uninfected", "Größe ü"), ("Parasitized", "c")] {
        copy(&zip.join(from), &data.join(to));
    }
    let out = root().join("three-out");
    let _ = fs::remove_dir_all(&out);
    cellforge()
        .args(["reproduce", "--preset", "smoke", "--split-by", "image", "--out"])
        .arg(&out)
        .arg("--data")
        .arg(&data)
        .arg("--config")
        .arg(few(&root()))
        .assert()
        .success();
    let results = results(&out);
    assert_eq!(results["data"]["classes"], serde_json::json!(["Größe ü", "c", "ring form"]));
    assert_eq!(results["recognition"].as_object().unwrap().len(), 3);
    assert_eq!(results["data"]["split_by"], "image");
}

/// The best recipe: one GAN makes the cells of both classes, and the ResNet judges it as it trains. It goes when GANs of single
/// classes take its place.
#[test]
fn one_gan_can_make_all_classes() {
    let out = root().join("best");
    let _ = fs::remove_dir_all(&out);
    let config = root().join("best.toml");
    fs::create_dir_all(root()).unwrap();
    fs::write(&config, "preset = \"smoke\"\n[gan]\nrecipe = \"best\"\n[generate]\nper_class = 0\n").unwrap();
    let study = || {
        let mut command = cellforge();
        command.args(["reproduce", "--config"]).arg(&config).arg("--out").arg(&out);
        command
    };
    study().assert().success();
    let results = results(&out);
    let (one, other) = (&results["gan"]["Parasitized"], &results["gan"]["Uninfected"]);
    assert_eq!(one, other);
    assert!(one["losses"]["fd_Parasitized"].as_array().is_some_and(|points| !points.is_empty()), "{}", one["losses"]);
    assert!(results["durations"]["gan/_all"].is_number());
    for file in ["gan/_all/best/weights.safetensors", "gan/_all/last/generator.safetensors"] {
        assert!(out.join(file).exists(), "{file}");
    }
    let train = &results["data"]["parts"][0];
    assert_eq!(train["name"], "train");
    for class in ["Parasitized", "Uninfected"] {
        assert_eq!(results["recognition"][class]["total"], train["images_per_class"][class]);
    }
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("synthetic cells per class <b>as many as real ones</b> instead of 1,000"));
    assert!(html.contains("One GAN of all classes") && html.contains("Fréchet distance to validation cells"));
    study().assert().success().stderr(contains("gan/_all: done before"));

    let config = few(&root().join("replaced"));
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str("[evaluate]\nmeasure = []\n");
    fs::write(&config, text).unwrap();
    cellforge()
        .args(["reproduce", "--preset", "smoke", "--overwrite", "--config"])
        .arg(&config)
        .arg("--out")
        .arg(&out)
        .assert()
        .success()
        .stderr(contains("gan/_all: removed"));
    assert!(!out.join("gan/_all").exists() && !out.join("stamps/gan-_all.json").exists());
    let cells = root().join("replaced/cells");
    let _ = fs::remove_dir_all(&cells);
    let mut generate = cellforge();
    generate.args(["generate", "--count", "1", "--checkpoint"]).arg(&out).arg("--out").arg(&cells);
    generate.assert().success();
    for class in ["Parasitized", "Uninfected"] {
        assert_eq!(fs::read_dir(cells.join(class)).unwrap().count(), 1);
    }
}

/// GANs of another recipe are trained on the same images, judged by the same network, and shown beside the study's own.
#[test]
fn recipes_stand_side_by_side() {
    let out = root().join("beside");
    let _ = fs::remove_dir_all(&out);
    let config = few(&root().join("beside-settings"));
    let text = fs::read_to_string(&config).unwrap().replace("per_class = 4", "per_class = 40");
    let text = text + "[evaluate]\nmeasure = [\"fidelity\"]\n";
    let study = |beside: &str, flags: &[&str]| {
        fs::write(&config, format!("beside = [{beside}]\n{text}")).unwrap();
        let mut command = cellforge();
        command
            .args(["reproduce", "--preset", "smoke"])
            .args(flags)
            .arg("--config")
            .arg(&config)
            .arg("--out")
            .arg(&out);
        command.assert()
    };
    let best = "{recipe = \"best\", iterations = 2, batch = 4, width = 0.1}, {recipe = \"study\", iterations = 9, batch = 4, width = 1.0}";
    study(best, &[]).success();
    let found = results(&out);
    // The study's own recipe is no second one.
    assert_eq!(found["beside"].as_array().unwrap().len(), 1);
    let beside = &found["beside"][0];
    assert_eq!(beside["recipe"], "best");
    assert_eq!(beside["gan"]["Parasitized"]["iterations"], 2);
    assert_eq!(beside["recognition"]["Uninfected"]["total"], 40);
    assert!(beside["evaluation"]["fidelity"].is_object() && beside["evaluation"]["privacy"].is_null());
    assert_eq!(found["resnet"]["epochs"], 1);
    for stage in ["gan/_all", "synthetic", "judge", "evaluation"] {
        assert!(found["durations"][format!("beside/best/{stage}")].is_number(), "{stage}: {}", found["durations"]);
    }
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("Recipes side by side") && html.contains("Recipe best: Parasitized, Uninfected"));
    study(best, &[]).success().stderr(contains("beside/best/gan/_all: done before").and(contains("running").not()));

    // Drawn again it is the same.
    fs::remove_file(out.join("report.html")).unwrap();
    cellforge().arg("report").arg(&out).assert().success();
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), html);

    // Without it, what it left goes, on request.
    study("", &[]).code(1).stderr(contains("beside").and(contains("--overwrite")));
    assert!(out.join("beside/best/gan").is_dir());
    study("", &["--overwrite"]).success().stderr(contains("resnet: done before"));
    assert!(!out.join("beside").exists());
    assert!(results(&out).get("beside").is_none());
    assert!(!fs::read_to_string(out.join("report.html")).unwrap().contains("Recipes side by side"));

    // Twice the same, and no recipe.
    study(&format!("{best}, {best}"), &[]).code(1).stderr(contains("beside"));
    study("{recipe = \"bset\", iterations = 2, batch = 4, width = 0.1}", &[])
        .code(1)
        .stderr(contains("bset").and(contains("best")));
}

/// A settings file that makes the smoke study smaller still.
fn few(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join("few.toml");
    let text = "[gan]\niterations = 2\ngrid_at = [1, 2]\n[generate]\nper_class = 4\n[classifier]\nepochs = 1\n[cnn]\nruns = [{recipe=\"cnn-1\", epochs=1}]\n";
    fs::write(&path, text).unwrap();
    path
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
