//! `cellforge evaluate` through the binary, on small phantoms.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::common::cellforge;
use assert_cmd::Command;
use predicates::{prelude::*, str::contains};
use serde_json::Value;

/// Real, held-out and synthetic images, made once: patients of one phantom shared out, and images of another.
struct Sets {
    root: PathBuf,
    real: PathBuf,
    holdout: PathBuf,
    synthetic: PathBuf,
}

fn sets() -> &'static Sets {
    static MADE: OnceLock<Sets> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluate");
        let _ = fs::remove_dir_all(&root);
        let phantom = |name: &str, seed: &str| {
            let out = root.join(name);
            let mut command = cellforge();
            command.args([
                "-q",
                "data",
                "phantom",
                "--images-per-class",
                "120",
                "--patients",
                "24",
                "--seed",
                seed,
                "--out",
            ]);
            command.arg(&out).assert().success();
            out
        };
        let (all, synthetic) = (phantom("all", "1"), phantom("synthetic", "2"));
        let (real, holdout) = (root.join("real"), root.join("holdout"));
        for class in ["Parasitized", "Uninfected"] {
            for entry in fs::read_dir(all.join(class)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                // File names begin with the patient, as the NIH's do.
                let patient: usize =
                    name.chars().skip(1).take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
                let to = if patient.is_multiple_of(2) { &real } else { &holdout }.join(class);
                fs::create_dir_all(&to).unwrap();
                fs::copy(&path, to.join(&name)).unwrap();
            }
        }
        Sets { root, real, holdout, synthetic }
    })
}

/// A small network that was trained on the real images, made once.
fn net() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let (sets, net) = (sets(), sets().root.join("net"));
        let mut command = cellforge();
        command.args(["-q", "train", "classifier", "--side", "32", "--width", "0.1", "--epochs", "1", "--data"]);
        command.arg(&sets.real).arg("--out").arg(&net).assert().success();
        net
    })
}

/// An evaluation of these synthetic images by pixels that takes a second, to be told the real ones.
fn quick(synthetic: &Path) -> Command {
    let mut command = cellforge();
    command
        .args(["-q", "evaluate", "--side", "32", "--set", "evaluate.fidelity.k=3", "--resamples", "50"])
        .args(["--set", "evaluate.two_sample.updates=0", "--set", "evaluate.two_sample.halvings=50"])
        .args(["--set", "evaluate.two_sample.planted=false", "--set", "evaluate.copies.planted=0"])
        .args(["--set", "evaluate.reidentification.updates=0", "--synthetic"])
        .arg(synthetic);
    command
}

fn evaluate(real: &Path, holdout: Option<&Path>, synthetic: &Path) -> Command {
    let mut command = quick(synthetic);
    command.arg("--real").arg(real);
    if let Some(holdout) = holdout {
        command.arg("--holdout").arg(holdout);
    }
    command
}

fn read(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("evaluation.json")).unwrap()).unwrap()
}

/// The figures without the times.
fn timeless(out: &Path) -> Value {
    let mut found = read(out);
    found.as_object_mut().unwrap().remove("seconds");
    found
}

fn answer<'a>(found: &'a Value, about: &str) -> &'a str {
    let verdicts = found["verdicts"].as_array().unwrap();
    verdicts.iter().find(|v| v["about"] == about).unwrap()["answer"].as_str().unwrap()
}

/// A line of the printed table: a figure of the synthetic images, then that of real ones.
fn printed(title: &str, scope: &Value, pair: [&str; 2], figure: &str) -> String {
    let show = |e: &Value| {
        let [value, low, high] = ["value", "low", "high"].map(|field| e[field].as_f64().unwrap());
        format!("{value:.4} ({low:.4} to {high:.4})")
    };
    let [synthetic, real] = pair.map(|comparison| show(&scope[comparison][figure]));
    format!("{title:<11}{synthetic:<28}  {real:<28}")
}

const HELD_OUT: [&str; 2] = ["against_holdout", "real_against_holdout"];
const SEEN: [&str; 2] = ["against_real", "floor"];

fn assert_estimate(value: &Value, name: &str) {
    let [v, low, high] =
        ["value", "low", "high"].map(|field| value[field].as_f64().unwrap_or_else(|| panic!("{name}.{field}")));
    assert!(low <= v && v <= high, "{name}: {value}");
}

#[test]
fn figures_are_complete_and_do_not_depend_on_threads() {
    let sets = sets();
    let run = |name: &str, threads: &str| {
        let out = sets.root.join(name);
        let mut command = evaluate(&sets.real, Some(&sets.holdout), &sets.synthetic);
        command.args(["--measure", "fidelity,two_sample,privacy,utility", "--set", "evaluate.utility.updates=3"]);
        command.args(["--set", "evaluate.utility.seeds=2", "--set", "evaluate.utility.width=0.1"]);
        command.args(["--set", "evaluate.reidentification.updates=3", "--set", "evaluate.reidentification.width=0.25"]);
        command.args(["--threads", threads, "--out"]).arg(&out);
        let done = command.assert().success().stdout(contains("Do they leak a patient?").and(contains("fd_pixels")));
        (out, String::from_utf8(done.get_output().stdout.clone()).unwrap())
    };
    let ((one, text), (two, _)) = (run("one", "1"), run("two", "2"));
    assert_eq!(timeless(&one), timeless(&two));

    let found = read(&one);
    assert_eq!(found["schema_version"], 4);
    assert_eq!(found["features"]["metric"], "fd_pixels");
    assert_eq!(found["sets"]["shared_patients"], 0);
    let fidelity = &found["fidelity"];
    for scope in [&fidelity["pooled"], &fidelity["per_class"]["Parasitized"], &fidelity["per_class"]["Uninfected"]] {
        for comparison in ["against_real", "floor", "against_holdout", "real_against_holdout"] {
            for figure in ["frechet", "kid", "precision", "recall", "density", "coverage", "alpha_precision", "vendi"] {
                assert_estimate(&scope[comparison][figure], &format!("{comparison}.{figure}"));
            }
            assert_eq!(scope[comparison]["reference"], scope["images"]);
            assert_eq!(scope[comparison]["compared"], scope["images"]);
        }
        assert_estimate(&scope["fld"], "fld");
        assert_eq!(scope["floors"].as_array().unwrap().len(), 20);
        // What is printed is the pair that the verdict rests on.
        for figure in ["kid", "precision", "recall"] {
            let name = if figure == "kid" { "KID" } else { figure };
            assert!(text.contains(&printed(name, scope, HELD_OUT, figure)), "{figure}: {text}");
        }
        assert!(!text.contains(&printed("recall", scope, SEEN, "recall")), "{text}");
    }
    assert!(text.contains("synthetic against held-out  ") && text.contains("real against held-out  "), "{text}");
    assert!(found["privacy"]["figures"]["spaces"]["pixels"]["dcr"].is_object());
    assert!(found["privacy"]["findings"].as_array().unwrap().iter().all(|f| f["p_adjusted"].is_number()));
    for score in ["tstr", "trts", "trtr"] {
        assert_estimate(&found["utility"]["figures"][score]["accuracy"], score);
    }
    assert_eq!(found["verdicts"].as_array().unwrap().len(), 4);
    let privacy = found["verdicts"][3]["sentence"].as_str().unwrap();
    let open = "No copy of a training cell was found; how small a leak would have been found was not looked at.";
    let linked = &found["privacy"]["reidentification"];
    assert_estimate(&linked["real_pairs"], "real_pairs");
    // A network that tells no patients is no test.
    let tests = if linked["can_tell"].as_bool().unwrap() { 12 } else { 11 };
    assert!(
        privacy.starts_with(&format!("No leak was found by any of {tests} tests")) && privacy.contains(open),
        "{privacy}"
    );
    assert_eq!(found["not_measured"].as_object().unwrap().keys().collect::<Vec<_>>(), ["discriminator"]);
    assert_eq!(found["pairs"].as_array().unwrap().len(), 10);

    let html = fs::read_to_string(one.join("report.html")).unwrap();
    assert!(html.contains("Phantom data, not patients") && !html.contains("<script") && !html.contains("NaN"));
    assert_eq!(html.matches("data:image/png;base64,").count(), 10);
    let sheet = fs::read_to_string(one.join("datasheet.md")).unwrap();
    assert!(sheet.contains("must not be used for") && sheet.contains("Phantom"), "{sheet}");
    // Every test for leaks stands in the data sheet, with its p-value and the adjusted one.
    for finding in found["privacy"]["findings"].as_array().unwrap().iter().filter(|f| f["chance"].is_object()) {
        let [p, adjusted] = [&finding["chance"]["p"], &finding["p_adjusted"]].map(|p| p.as_f64().unwrap());
        assert!(sheet.contains(&format!("| {p:.4} | {adjusted:.4} | ")), "{finding}: {sheet}");
    }
    let rows = sheet.lines().filter(|line| line.contains("| pixels | ")).count();
    // Re-identification has no space of features.
    let findings = found["privacy"]["findings"].as_array().unwrap().iter();
    assert_eq!(rows, findings.filter(|finding| finding["space"] == "pixels").count());

    // What was computed on the way is used again: nothing but the trainings that are missing is done, with the same outcome.
    fs::remove_file(two.join("evaluation.json")).unwrap();
    let run = fs::read_dir(two.join("runs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(run).unwrap();
    cellforge().args(["-q", "evaluate", "--resume", "--out"]).arg(&two).assert().success();
    assert_eq!(timeless(&one), timeless(&two));

    let again = || {
        let mut command = evaluate(&sets.real, None, &sets.synthetic);
        command.arg("--out").arg(&two);
        command
    };
    again().assert().code(1).stderr(contains("--overwrite").and(contains("--resume")));
    let done =
        again().arg("--overwrite").assert().success().stdout(contains("it needs held-out cells of other patients"));
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    let found = read(&two);
    assert!(found["privacy"].is_null());
    assert!(text.contains("synthetic against real  ") && text.contains("real against real  "), "{text}");
    assert!(text.contains(&printed("recall", &found["fidelity"]["pooled"], SEEN, "recall")), "{text}");
    let sheet = fs::read_to_string(two.join("datasheet.md")).unwrap();
    assert!(sheet.contains("| Synthetic against real | Real against real |"), "{sheet}");
}

#[test]
fn a_copy_of_the_training_images_is_caught() {
    let sets = sets();
    let out = sets.root.join("copy");
    evaluate(&sets.real, Some(&sets.holdout), &sets.real).args(["--pairs", "0", "--out"]).arg(&out).assert().success();
    let found = read(&out);
    assert_eq!(answer(&found, "privacy"), "bad", "{}", found["verdicts"]);
    assert_eq!(found["privacy"]["figures"]["spaces"]["pixels"]["nearer_to_train"]["rate"], 1.0);
    assert!(found["pairs"].as_array().unwrap().is_empty() && !out.join("pairs").exists());
}

#[test]
fn copies_head_everything_and_can_be_dropped() {
    let sets = sets();
    let (made, out, rest) = (sets.root.join("with-copies"), sets.root.join("copies"), sets.root.join("no-copies"));
    copy(&sets.synthetic, &made);
    let class = Path::new("Parasitized");
    let first = |folder: &Path| first(&folder.join(class));
    for number in 0..3 {
        fs::copy(first(&sets.real), made.join(class).join(format!("new-{number}.png"))).unwrap();
    }
    let count = |folder: &Path| fs::read_dir(folder.join(class)).unwrap().count();
    // No holdout is needed for it.
    let mut command = evaluate(&sets.real, None, &made);
    command.args(["--measure", "privacy,fidelity", "--drop-copies"]).arg(&rest).arg("--out").arg(&out);
    command.assert().success().stdout(contains("3 of 243 are copies of training").and(contains("without copies")));
    let found = read(&out);
    assert_eq!(answer(&found, "privacy"), "bad", "{}", found["verdicts"]);
    assert_eq!(found["copies"]["identical"]["of_training"]["images"], 3);
    assert_eq!(found["copies"]["identical"]["among_synthetic"]["images"], 2);
    assert_eq!((count(&rest), count(&made)), (count(&made) - 3, 123));
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("Leak. ") && report.contains("pixel by pixel"));

    // A folder that is there is not written into, and an image that was held out is no synthetic one.
    let mut again = evaluate(&sets.real, None, &made);
    again.arg("--drop-copies").arg(&rest).assert().code(1).stderr(contains("is there already"));
    let leaked = first(&sets.holdout);
    fs::copy(&leaked, made.join(class).join("held-out.png")).unwrap();
    let refused = sets.root.join("refused");
    let mut command = evaluate(&sets.real, Some(&sets.holdout), &made);
    let name = leaked.file_name().unwrap().to_str().unwrap();
    command.arg("--out").arg(&refused).assert().code(1).stderr(contains("held-out.png").and(contains(name)));
    assert!(!refused.join("config.toml").exists());
}

#[test]
fn features_of_a_trained_network() {
    let sets = sets();
    let (net, out) = (net(), sets.root.join("by-net"));
    evaluate(&sets.real, Some(&sets.holdout), &sets.synthetic)
        .arg("--features")
        .arg(format!("resnet:{}", net.display()))
        .args(["--features", "pixels", "--out"])
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("fd_resnet").and(contains("fd_pixels")));
    let found = read(&out);
    assert_eq!(found["features"]["family"], "classifier");
    let [other] = found["other_features"].as_array().unwrap().as_slice() else { panic!("{}", found["other_features"]) };
    assert_eq!((&other["features"]["family"], &other["features"]["metric"]), (&"pixels".into(), &"fd_pixels".into()));
    assert_estimate(&other["fidelity"]["pooled"]["against_holdout"]["frechet"], "other features");
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("By other features: pixels"));
    // The data sheet has the pair that the verdict rests on, of the other features too.
    let sheet = fs::read_to_string(out.join("datasheet.md")).unwrap();
    for (fidelity, metric) in
        [(&found["fidelity"], &found["features"]["metric"]), (&other["fidelity"], &"fd_pixels".into())]
    {
        for (name, scope) in
            fidelity["per_class"].as_object().unwrap().iter().chain([(&"All classes".into(), &fidelity["pooled"])])
        {
            let n = &scope["images"];
            let heading =
                format!("| {name} ({n} cells on each side) | Synthetic against held-out | Real against held-out |");
            let row = |pair: [&str; 2]| {
                let measured = pair.map(|side| digits(scope[side]["frechet_measured"].as_f64().unwrap()));
                format!("| {} as measured | {} | {} |", metric.as_str().unwrap(), measured[0], measured[1])
            };
            assert!(sheet.contains(&heading) && sheet.contains(&row(HELD_OUT)), "{heading} {} {sheet}", row(HELD_OUT));
            assert!(!sheet.contains(&row(SEEN)), "{} {sheet}", row(SEEN));
        }
    }
    let dims = found["features"]["dims"].as_u64().unwrap();
    assert_eq!(found["features"]["metric"], format!("fd_resnet{dims}"));
    assert_eq!(found["privacy"]["figures"]["spaces"].as_object().unwrap().len(), 2);
    assert!(!out.join("features").exists(), "features are removed at the end");
}

#[test]
fn a_split_says_what_is_real_what_held_out_and_what_was_learned() {
    let sets = sets();
    let root = crate::common::folder("evaluate-split");
    let (all, csv, net, out) = (sets.root.join("all"), root.join("split.csv"), root.join("net"), root.join("out"));
    let run = |args: &[&str], data: &Path| {
        let mut command = cellforge();
        command.args(args).arg("--split").arg(&csv).arg("--data").arg(data);
        command
    };
    let mut split = cellforge();
    split.args(["-q", "data", "split", "--val", "0.2", "--test", "0.3"]).arg(&all).arg("--out").arg(&csv);
    split.assert().success();
    let small = ["-q", "train", "classifier", "--side", "32", "--width", "0.1", "--epochs", "1"];
    run(&small, &all).arg("--out").arg(&net).assert().success();
    let lines = fs::read_to_string(&csv).unwrap();
    let [train, val, test] = ["train", "val", "test"].map(|part| lines.lines().filter(|l| l.ends_with(part)).count());
    assert!(val > 0 && train + val + test == 240, "{train} {val} {test}");

    let mut command = quick(&sets.synthetic);
    command.arg("--data").arg(&all).arg("--split").arg(&csv).arg("--features");
    let caveat = format!("The network of these features was trained on {train} of the {train} real cells.");
    command
        .arg(format!("resnet:{}", net.display()))
        .arg("--out")
        .arg(&out)
        .assert()
        .success()
        .stdout(contains(&caveat));
    let found = read(&out);
    for (set, images, seen) in [("real", train, train), ("holdout", test, 0)] {
        assert_eq!(found["sets"][set]["images"], images);
        let expected = serde_json::json!({"images": images, "train": seen, "val": 0});
        assert_eq!(found["features"]["seen"][set], expected, "{set}");
    }
    assert_eq!(found["features"]["seen"]["synthetic"]["train"], 0);
    assert_eq!(found["sets"]["shared_patients"], 0);
    assert_eq!(found["sets"]["holdout"]["source"], "the test part of all by split.csv");
    assert!(found["privacy"].is_object(), "{}", found["not_measured"]);
    for file in ["datasheet.md", "report.html"] {
        assert!(fs::read_to_string(out.join(file)).unwrap().contains(&caveat), "{file}");
    }

    let json = root.join("figures.json");
    let classify = |flags: &[&str]| {
        let mut command = run(&["-q", "classify", "--overwrite"], &all);
        command.arg("--json").arg(&json).arg("--checkpoint").arg(&net).args(flags);
        let done = command.assert().success();
        let found: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        (found, String::from_utf8(done.get_output().stdout.clone()).unwrap())
    };
    for (flags, part, learned, chosen, words) in [
        (&[][..], test, 0, 0, "it was trained on none of them".to_owned()),
        (&["--part", "val"], val, 0, val, format!("0 of these {val} images, and its best epoch was chosen on {val}")),
        (&["--part", "train"], train, train, 0, format!("warning: it was trained on {train} of these {train} images")),
    ] {
        let (found, text) = classify(flags);
        assert_eq!((&found["images"], &found["report"]["total"]), (&part.into(), &part.into()));
        assert_eq!(found["seen"], serde_json::json!({"images": part, "train": learned, "val": chosen}));
        assert!(text.contains(&words), "{text}");
    }
    // By patient, and by a column of the user's own.
    let (sites, patients) = (root.join("sites.csv"), root.join("patients.csv"));
    let of_test: std::collections::BTreeMap<&str, usize> =
        lines.lines().filter(|line| line.ends_with(",test")).fold(Default::default(), |mut counts, line| {
            *counts.entry(line.split(',').nth(2).unwrap()).or_default() += 1;
            counts
        });
    let site = |at: usize| if at.is_multiple_of(2) { "north" } else { "south" };
    let rows = of_test.keys().enumerate().map(|(at, patient)| format!("{patient},f,{}\n", site(at)));
    fs::write(&sites, format!("patient,sex,site\n{}", rows.collect::<String>())).unwrap();
    let [sites, per_patient] = [&sites, &patients].map(|path| path.to_str().unwrap());
    let (found, text) = classify(&["--patient-csv", per_patient, "--strata", sites, "--strata-column", "site"]);
    let table = fs::read_to_string(&patients).unwrap();
    assert_eq!(table.lines().count(), 1 + of_test.len());
    for (line, (patient, images)) in table.lines().skip(1).zip(&of_test) {
        assert!(line.starts_with(&format!("{patient},{images},")), "{line}");
    }
    assert_eq!(found["patients"].as_array().unwrap().len(), of_test.len());
    let sums = ["north", "south"].map(|site| found["strata"][site]["total"].as_u64().unwrap());
    let north: usize = of_test.values().step_by(2).sum();
    assert_eq!(sums, [north as u64, (test - north) as u64]);
    assert!(
        text.contains("accuracy of single patients") && text.contains("\nnorth ") && text.contains("\nsouth "),
        "{text}"
    );
    assert!(text.contains("calibration error") && text.contains("at specificity 0.99"), "{text}");
    assert!(found["report"]["calibration"]["ece"]["value"].is_number(), "{}", found["report"]);
    let mut unnamed = run(&["classify", "--checkpoint", net.to_str().unwrap(), "--strata", sites], &all);
    unnamed.assert().code(1).stderr(contains("name the column to go by: sex, site"));

    // A split of other images is told by name.
    let other = run(&["classify", "--checkpoint", net.to_str().unwrap()], &sets.real).assert().code(1);
    other.stderr(contains("split.csv").and(contains("is not among the images")));
}

/// The first file of a folder, by name.
fn first(folder: &Path) -> PathBuf {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.remove(0)
}

#[test]
fn one_class_alone_can_be_evaluated() {
    let sets = sets();
    let folder = |name: &str| sets.root.join("one-class").join(name);
    let only = |from: &Path, to: &str| {
        let (from, to) = (from.join("Parasitized"), folder(to).join("Parasitized"));
        fs::create_dir_all(&to).unwrap();
        for image in fs::read_dir(&from).unwrap() {
            let path = image.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    only(&sets.real, "real");
    only(&sets.holdout, "holdout");
    only(&sets.synthetic, "synthetic");
    // A copy of a training image of the class that is left out.
    fs::copy(first(&sets.real.join("Uninfected")), folder("synthetic").join("Parasitized/copied.png")).unwrap();
    let uninfected = |set: &Path| fs::read_dir(set.join("Uninfected")).unwrap().count();

    // Real images of two classes: the class that both have is compared.
    let out = folder("out");
    let mut command = evaluate(&sets.real, Some(&sets.holdout), &folder("synthetic"));
    command.args(["--measure", "fidelity,two_sample,privacy,utility"]);
    command.arg("--features").arg(format!("resnet:{}", net().display())).args(["--features", "pixels", "--out"]);
    let no_utility = "they are of class \"Parasitized\" alone: a classifier tells two classes or more";
    let left_out = format!(
        "ot compared: {} Uninfected of the real cells and {} Uninfected of the held-out cells",
        uninfected(&sets.real),
        uninfected(&sets.holdout)
    );
    command.arg(&out).assert().success().stdout(contains(no_utility).and(contains(left_out.as_str())));
    let found = read(&out);
    assert_eq!(found["classes"], serde_json::json!(["Parasitized"]));
    assert_eq!(found["sets"]["real"]["left_out"], serde_json::json!({"Uninfected": uninfected(&sets.real)}));
    assert!(found["not_measured"]["utility"].as_str().unwrap().contains(no_utility));
    for part in ["fidelity", "two_sample", "privacy"] {
        assert!(found[part].is_object(), "{part}: {}", found["not_measured"]);
    }
    assert_eq!(found["other_features"].as_array().unwrap().len(), 1);
    assert_eq!(found["fidelity"]["pooled"], found["fidelity"]["per_class"]["Parasitized"]);
    assert_eq!(answer(&found, "privacy"), "bad", "{}", found["verdicts"]);
    assert_eq!(found["copies"]["identical"]["of_training"]["images"], 1);
    assert!(found["pairs"][0]["real"].as_str().unwrap().contains("Uninfected"), "{}", found["pairs"][0]);
    let sheet = fs::read_to_string(out.join("datasheet.md")).unwrap();
    assert!(sheet.contains("| Parasitized (") && !sheet.contains("All classes"), "{sheet}");
    for text in [sheet, fs::read_to_string(out.join("report.html")).unwrap()] {
        assert!(text.contains(&left_out), "{text}");
    }

    // All sets of one class.
    let alone = |measure: &str| {
        let mut command = evaluate(&folder("real"), None, &folder("synthetic"));
        command.args(["--measure", measure]);
        command
    };
    alone("fidelity,two_sample,utility").assert().success().stdout(contains(no_utility).and(contains("recall")));
    alone("two_sample,utility").assert().success().stdout(contains(no_utility));
    alone("utility").assert().code(1).stderr(contains(no_utility));
    // A class that is to be compared must be held out too.
    let mut lacking = evaluate(&sets.real, Some(&folder("holdout")), &sets.synthetic);
    lacking.assert().code(1).stderr(contains("holdout images: there is none of class \"Uninfected\""));
}

/// Three digits, as reports write them.
fn digits(x: f64) -> String {
    match x.abs() {
        size if size >= 100.0 => format!("{x:.0}"),
        size if size >= 10.0 => format!("{x:.1}"),
        size if size >= 1.0 => format!("{x:.2}"),
        size if size >= 0.001 || size == 0.0 => format!("{x:.3}"),
        _ => format!("{x:.1e}"),
    }
}

/// Whatever is refused leaves the folder as it was.
#[test]
fn an_evaluation_goes_on_as_it_was_started_or_not_at_all() {
    let sets = sets();
    let (real, out) = (sets.root.join("resumed-real"), sets.root.join("resumed"));
    copy(&sets.real, &real);
    let start = |flags: &[&str]| {
        let mut command = evaluate(&real, None, &sets.synthetic);
        command.args(flags).arg("--out").arg(&out).assert()
    };
    // Inputs that cannot be evaluated: nothing is saved, and the right ones are taken without more ado.
    start(&["--set", "evaluate.fidelity.k=100"]).code(1).stderr(contains("k = 100"));
    start(&["--features", "safetensors:none.safetensors"]).code(1).stderr(contains("none.safetensors"));
    assert!(!out.join("config.toml").exists());
    start(&[]).success();

    let before = crate::common::files(&out);
    let unchanged = || assert_eq!(crate::common::files(&out), before);
    start(&["--overwrite", "--set", "evaluate.fidelity.k=100"]).code(1).stderr(contains("k = 100"));
    unchanged();
    let resume = |flags: &[&str]| {
        let mut command = cellforge();
        command.args(["-q", "evaluate", "--resume", "--out"]).arg(&out).args(flags).assert()
    };
    for (flags, key) in [
        (["--resamples", "60"], "evaluate.resamples was 50 and is 60"),
        (["--seed", "5"], "seed was 1 and is 5"),
        (["--holdout", sets.holdout.to_str().unwrap()], "inputs.holdout was none and is"),
        (["--set", "judge.level=0.9"], "judge.level was 0.95 and is 0.9"),
    ] {
        resume(&flags).code(1).stderr(contains(key).and(contains("--overwrite")));
        unchanged();
    }
    // Other images at the same path.
    let image = fs::read_dir(real.join("Uninfected")).unwrap().next().unwrap().unwrap().path();
    let kept = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    resume(&[]).code(1).stderr(contains("is of other images than now (real)").and(contains("--overwrite")));
    unchanged();
    fs::write(&image, kept).unwrap();
    resume(&["--resamples", "50"]).success();
    start(&["--overwrite", "--set", "judge.level=0.9"]).success();
}

/// Copies a folder of class folders.
fn copy(from: &Path, to: &Path) {
    for class in fs::read_dir(from).unwrap() {
        let class = class.unwrap();
        let folder = to.join(class.file_name());
        fs::create_dir_all(&folder).unwrap();
        for image in fs::read_dir(class.path()).unwrap() {
            let image = image.unwrap();
            fs::copy(image.path(), folder.join(image.file_name())).unwrap();
        }
    }
}

#[test]
fn what_is_of_no_evaluation_stays() {
    let sets = sets();
    let out = sets.root.join("others");
    let study = out.join("runs/quick/results.json");
    fs::create_dir_all(study.parent().unwrap()).unwrap();
    fs::write(&study, "{}").unwrap();
    let refused = |words: &str| {
        for flags in [&["--overwrite"][..], &[]] {
            let mut command = evaluate(&sets.real, None, &sets.synthetic);
            command.args(flags).arg("--out").arg(&out).assert().code(1).stderr(contains(words));
            assert!(study.exists());
        }
    };
    refused("would empty it");
    fs::write(out.join("config.toml"), "preset = \"quick\"\n").unwrap();
    refused("config.toml is not of `cellforge evaluate`");
    // A study that has landed in the `runs` of an evaluation.
    fs::write(out.join("config.toml"), "# cellforge evaluate --config THIS_FILE\n").unwrap();
    let mut command = evaluate(&sets.real, None, &sets.synthetic);
    command.args(["--overwrite", "--out"]).arg(&out).assert().code(1).stderr(contains("would empty it"));
    assert!(study.exists());

    // An evaluation among the images would be taken for images.
    for inside in [sets.real.join("a/b"), sets.holdout.clone(), sets.synthetic.join("a")] {
        let mut command = evaluate(&sets.real, Some(&sets.holdout), &sets.synthetic);
        command.arg("--out").arg(&inside).assert().code(1).stderr(contains("lies inside"));
        assert!(!inside.join(".lock").exists());
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let sets = sets();
    let refused = |mut command: Command, words: &str| {
        command.assert().code(1).stderr(contains("error:").and(contains(words)).and(contains("panicked").not()));
    };
    let plain = || evaluate(&sets.real, None, &sets.synthetic);
    refused(evaluate(&sets.root.join("nowhere"), None, &sets.synthetic), "nowhere");

    let empty = sets.root.join("empty");
    fs::create_dir_all(&empty).unwrap();
    refused(evaluate(&sets.real, None, &empty), "empty");

    let other = sets.root.join("other");
    for (from, to) in [("Parasitized", "cat"), ("Uninfected", "dog")] {
        fs::create_dir_all(other.join(to)).unwrap();
        for entry in fs::read_dir(sets.synthetic.join(from)).unwrap().take(6) {
            let path = entry.unwrap().path();
            fs::copy(&path, other.join(to).join(path.file_name().unwrap())).unwrap();
        }
    }
    refused(evaluate(&sets.real, None, &other), "cat, dog");

    // A flag is given once; of settings the last counts.
    plain().args(["--resamples", "100"]).assert().code(2);
    let mut few = plain();
    few.args(["--set", "evaluate.fidelity.k=100"]);
    refused(few, "k = 100");

    let with = |features: &str| {
        let mut command = plain();
        command.args(["--features", features]);
        command
    };
    refused(with("vgg:x"), "inception:FILE");
    refused(with("resnet:no/such/net"), "no/such/net");
    refused(with("inception:none.safetensors"), "none.safetensors");
    refused(with("dinov2:none.pth"), "none.pth");
    let mut twice = with("pixels");
    twice.args(["--features", "pixels"]);
    refused(twice, "two sources of features called pixels");
    let mut unused = with("pixels");
    unused.args(["--features", "pixels", "--measure", "utility"]);
    refused(unused, "only fidelity and the search for copies use more than the first");
    refused(with("safetensors:none.safetensors"), "none.safetensors");
    let text = sets.root.join("text.safetensors");
    fs::write(&text, "no tensors").unwrap();
    refused(with(&format!("safetensors:{}", text.display())), "text.safetensors");
    let mut gan = evaluate(&sets.real, Some(&sets.holdout), &sets.synthetic);
    gan.arg("--discriminator").arg(sets.root.join("no-gan"));
    refused(gan, "no-gan");
    let mut nothing = cellforge();
    nothing.args(["evaluate", "--synthetic", "x"]);
    refused(nothing, "--real is missing");
    cellforge().args(["evaluate", "--measure", "vgg"]).assert().code(2).stderr(contains("utility"));
    let vgg = ["evaluate", "--set", "evaluate.utility.classifier=vgg"];
    cellforge().args(vgg).assert().code(2).stderr(contains("cnn, resnet"));
}
