//! The command line: help, exit codes, settings files, and the small verbs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::common::{cellforge, files};
use predicates::{prelude::*, str::contains};

/// An empty folder of this test file.
fn folder(name: &str) -> PathBuf {
    crate::common::folder(&format!("cli/{name}"))
}

/// A phantom of 60 images in a folder.
fn small_phantom(dir: &Path) -> PathBuf {
    let zip = dir.join("images.zip");
    cellforge()
        .args(["data", "phantom", "--images-per-class", "30", "--patients", "8", "--out"])
        .arg(&zip)
        .assert()
        .success()
        .stdout(contains("come from no patient"));
    zip
}

/// Two GANs after two iterations, made once.
fn gans() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = folder("gans");
        crate::common::tiny_gan(&crate::common::small_phantom(&root), 2, &[], &root.join("out"));
        root.join("out")
    })
}

#[test]
fn help_of_every_verb_has_examples() {
    let verbs: &[&[&str]] = &[
        &[],
        &["inspect"],
        &["data", "info"],
        &["data", "phantom"],
        &["data", "fetch"],
        &["data", "split"],
        &["train", "gan"],
        &["train", "classifier"],
        &["generate"],
        &["pack"],
        &["classify"],
        &["evaluate"],
        &["reproduce"],
        &["audit"],
        &["panel", "make"],
        &["panel", "score"],
        &["completions"],
        &["man"],
    ];
    for verb in verbs {
        cellforge()
            .args(*verb)
            .arg("--help")
            .assert()
            .success()
            .stdout(contains("Examples:").and(contains("cellforge ")));
    }
    cellforge().arg("--help").assert().stdout(contains("Exit codes:").and(contains("130")));
    cellforge().arg("--version").assert().success().stdout(contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    cellforge().arg("frobnicate").assert().code(2);
    cellforge().args(["inspect", "generator", "--device", "abacus"]).assert().code(2).stderr(contains("cuda:N"));
    cellforge().args(["reproduce", "--preset", "huge"]).assert().code(2).stderr(contains("smoke, quick, paper, best"));
    cellforge().args(["generate", "--count", "5"]).assert().code(1).stderr(contains("--out"));
}

#[test]
fn inspect_prints_the_counts_of_the_study() {
    for (network, count) in
        [("generator", "2,043,011"), ("discriminator", "1,613,889"), ("cnn", "176,290"), ("resnet", "2,164,174")]
    {
        cellforge().args(["inspect", network]).assert().success().stdout(contains(count));
    }
    cellforge().args(["inspect", "resnet"]).assert().stdout(contains("2,150,472"));
    cellforge().args(["inspect", "cnn", "--classes", "1"]).assert().code(1).stderr(contains("classes"));
    let json = cellforge().args(["inspect", "cnn", "--side", "32", "--json"]).output().unwrap().stdout;
    let summary: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(summary["input"], serde_json::json!([3, 32, 32]));
}

#[test]
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn a_missing_accelerator_is_explained() {
    let dir = folder("device");
    let run = |device: &str| {
        let mut command = cellforge();
        command
            .args(["data", "phantom", "--images-per-class", "2", "--device", device, "--out"])
            .arg(dir.join("p.zip"));
        command
    };
    run("cuda").assert().code(1).stderr(contains("cargo build --release --features cuda"));
    run("cuda:1").assert().code(1);
    run("metal").assert().code(1).stderr(contains("--features metal"));
    run("auto").assert().success().stderr(contains("the CPU"));
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        cellforge()
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(contains("cellforge").and(contains("reproduce")));
    }
}

/// The long flags that a text names.
fn long_flags(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

/// The verbs that help lists.
fn verbs_in(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with(' '));
    // A text that is longer than a line goes on further to the right.
    let names =
        lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split(' ').next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn a_page_for_each_verb_has_what_its_help_has() {
    let dir = folder("man");
    cellforge().args(["man", "--out"]).arg(dir.join("man1")).assert().success().stdout(contains("pages in"));
    let mut pages: BTreeSet<_> = files(&dir).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    let mut verbs = vec![Vec::<String>::new()];
    while let Some(verb) = verbs.pop() {
        let output = cellforge().args(&verb).arg("--help").output().unwrap().stdout;
        let help = String::from_utf8(output).unwrap();
        let name = [&["cellforge".to_owned()], verb.as_slice()].concat().join("-") + ".1";
        assert!(pages.remove(Path::new(&name).as_os_str()), "there is no {name}");
        // A hyphen is written so that nobody makes a dash of it, and words change their font.
        let page = fs::read_to_string(dir.join("man1").join(&name)).unwrap();
        let page = ["\\fB", "\\fI", "\\fR"].iter().fold(page.replace("\\-", "-"), |page, font| page.replace(font, ""));
        let (shown, written) = (long_flags(&help), long_flags(&page));
        assert!(shown.contains("--help") && shown.is_subset(&written), "{name}: {shown:?}, {written:?}");
        assert_eq!(help.contains("\nExamples:\n"), page.contains("\n.SH EXAMPLES\n"), "{name}");
        assert_eq!(verb.is_empty(), !page.contains("\n.SH \"SEE ALSO\"\n"), "{name}");
        for below in verbs_in(&help) {
            assert!(page.contains(&format!("-{below}(1)")), "{name} does not name {below}");
            verbs.push([verb.as_slice(), &[below]].concat());
        }
    }
    assert!(pages.is_empty(), "pages of no verb: {pages:?}");

    let file = dir.join("file");
    fs::write(&file, "").unwrap();
    cellforge().args(["man", "--out"]).arg(&file).assert().code(1).stderr(contains("cannot make the folder"));
    cellforge().arg("man").assert().code(2).stderr(contains("--out"));
}

#[test]
fn a_settings_file_stands_in_for_flags_and_flags_win() {
    let dir = folder("settings");
    let (config, out) = (dir.join("phantom.toml"), dir.join("images"));
    fs::write(&config, "seed = 9\n[data.phantom]\nimages_per_class = 3\npatients = 2\n").unwrap();
    let run = || {
        let mut command = cellforge();
        command.args(["data", "phantom", "--config"]).arg(&config).arg("--out").arg(&out);
        command
    };
    run().assert().success();
    assert_eq!(files(&out.join("Parasitized")).len(), 3);
    let saved = fs::read_to_string(dir.join("images.settings.toml")).unwrap();
    assert!(
        saved.contains("images_per_class = 3") && saved.contains("seed = 9") && saved.contains("side = 64"),
        "{saved}"
    );
    fs::remove_dir_all(&out).unwrap();
    run().args(["--images-per-class", "2"]).assert().success();
    assert_eq!(files(&out.join("Parasitized")).len(), 2);

    fs::write(&config, "image_per_class = 3\n").unwrap();
    let near = "there is no setting image_per_class; did you mean data.phantom.images_per_class?";
    run().assert().code(1).stderr(contains("phantom.toml").and(contains(near)));
    // Files of earlier versions had no tables.
    for old in ["cells_per_class = 3\n", "[data.phantom]\ncells_per_class = 3\n"] {
        fs::write(&config, old).unwrap();
        let now = "cells_per_class is of an earlier version: write data.phantom.images_per_class";
        run().assert().code(1).stderr(contains("phantom.toml").and(contains(now)));
    }
    fs::write(&config, "data.phantom.images_per_class = \"many\"\n").unwrap();
    run().assert().code(1).stderr(contains("phantom.toml").and(contains("it takes whole number, from 1 to 100000")));
    fs::write(&config, "data.phantom.images_per_class = = 3\n").unwrap();
    run().assert().code(1).stderr(contains("not valid TOML"));
    cellforge().args(["reproduce", "--config", "nowhere.toml"]).assert().code(1).stderr(contains("nowhere.toml"));
}

#[test]
fn a_settings_file_is_held_to_what_the_flags_take() {
    let dir = folder("settings-values");
    let config = dir.join("train.toml");
    for (line, part) in [
        ("classifier.augment.vertical_flip = \"flip\"", "true or false"),
        ("classifier.recipe = \"vgg\"", "resnet, resnet-flips"),
        ("classifier.model.kind = \"vgg\"", "cnn, resnet"),
        ("classifier.model = { kind = \"cnn\", dense = 0 }", "it must be from 1 to 4096"),
        ("data.split_by = \"patient\"", "group"),
        ("threads = 2000", "no setting threads"),
        ("data.skip_bad = 1", "true or false"),
        ("overwrite = true", "no setting overwrite"),
        // What files of earlier versions had outside all tables.
        ("augment = \"flips\"", "classifier.augment"),
        ("model = \"cnn\"", "classifier.recipe"),
        ("variant = 1", "classifier.recipe"),
        ("split_by = \"group\"", "write data.split_by"),
        ("skip_bad = true", "write data.skip_bad"),
    ] {
        fs::write(&config, line).unwrap();
        let mut command = cellforge();
        command.args(["train", "classifier", "--config"]).arg(&config).arg("--out").arg(dir.join("run"));
        command.assert().code(1).stderr(contains("train.toml").and(contains(part)));
    }
    assert!(!dir.join("run").exists());
}

#[test]
fn precision_changes_the_images_and_is_kept_with_them() {
    let dir = folder("precision");
    let images = |name: &str, options: &[&str]| {
        let out = dir.join(name);
        let mut command = cellforge();
        command.args(["generate", "--count", "2", "--checkpoint"]).arg(gans()).arg("--out").arg(&out).args(options);
        let stderr = String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap();
        let mut made = files(&out);
        let settings = made.remove(Path::new("config.toml")).expect("the settings lie beside the images");
        assert!(made.len() >= 4, "two images of two classes");
        (made, String::from_utf8(settings).unwrap(), stderr)
    };
    let plain = images("plain", &[]);
    let in_f32 = |settings: &str| settings.contains("precision = \"f32\"");
    assert!(in_f32(&plain.1), "{}", plain.1);
    let lower = images("lower", &["--precision", "bf16-emulated"]);
    assert!(lower.1.contains("precision = \"bf16-emulated\""), "{}", lower.1);
    assert!(lower.0.keys().eq(plain.0.keys()) && lower.0 != plain.0);

    // With the processor's own instructions the same numbers come out; without them it says so and computes in f32.
    let own = images("own", &["--precision", "bf16"]);
    if own.2.contains("AVX-512 BF16") {
        assert!(own.0 == plain.0 && in_f32(&own.1), "{}", own.1);
    } else {
        assert!(own.0 == lower.0 && own.1.contains("precision = \"bf16\""), "{}", own.1);
    }
    let again = dir.join("lower").join("config.toml");
    assert!(images("again", &["--config", again.to_str().unwrap()]).0 == lower.0);

    cellforge().args(["reproduce", "--precision", "fp8"]).assert().code(2).stderr(contains("bf16-emulated"));
    fs::write(dir.join("bad.toml"), "precision = \"fp8\"").unwrap();
    cellforge()
        .args(["reproduce", "--config"])
        .arg(dir.join("bad.toml"))
        .assert()
        .code(1)
        .stderr(contains("bf16-emulated"));

    // A run is not half of one precision and half of another.
    let half = || {
        let mut command = cellforge();
        command
            .args(["train", "gan", "--resume", "--iterations", "3", "--out"])
            .arg(gans())
            .args(["--precision", "bf16-emulated"]);
        command
    };
    half().assert().code(1).stderr(contains("computes in f32").and(contains("bf16-emulated")));
}

#[test]
fn a_judge_needs_images_of_its_own() {
    let out = folder("judge").join("run");
    let mut command = cellforge();
    command.args(["train", "gan", "--judge", "resnet", "--out"]).arg(&out);
    command.assert().code(1).stderr(contains("--split"));
    assert!(!out.exists());
    // Recipes say how often a judge looks. Where there is none, that is told.
    let mut command = cellforge();
    command.args(["train", "gan", "--side", "32", "--width", "0.05", "--iterations", "1", "--class", "Uninfected"]);
    command.args(["--set", "gan.monitor.every=1", "--set", "data.phantom.images_per_class=40", "--out"]).arg(&out);
    command.assert().success().stderr(contains("no judge was named"));
}

#[test]
fn a_run_replaces_no_settings_of_others_and_lies_outside_the_images() {
    let dir = folder("others");
    let (study, images) = (dir.join("study"), dir.join("images"));
    fs::create_dir_all(&study).unwrap();
    fs::create_dir_all(images.join("Uninfected")).unwrap();
    let settings = "preset = \"quick\"\n";
    fs::write(study.join("config.toml"), settings).unwrap();
    for what in ["gan", "classifier"] {
        let run = |out: &Path, flags: &[&str]| {
            let mut command = cellforge();
            command.args(["train", what, "--data"]).arg(&images).arg("--out").arg(out).args(flags);
            command.assert().code(1)
        };
        for flags in [&["--overwrite"][..], &[]] {
            run(&study, flags).stderr(contains(format!("config.toml is not of `cellforge train {what}`")));
        }
        for out in [images.clone(), images.join("a/b"), dir.join("none/../images/a")] {
            run(&out, &[]).stderr(contains("lies inside the images' folder"));
        }
    }
    assert_eq!(files(&dir).into_values().collect::<Vec<_>>(), [settings.as_bytes()]);
    assert!(fs::read_dir(&images).unwrap().count() == 1 && !dir.join("none").exists());
}

#[test]
fn gans_in_one_folder_are_of_one_process() {
    let dir = folder("claimed");
    let (data, out) = (small_phantom(&dir), dir.join("gans"));
    let held = cellforge::train::RunDir::new(&out).lock().unwrap();
    let mut command = cellforge();
    command.args(["train", "gan", "--side", "32", "--width", "0.05", "--iterations", "1", "-q", "--data"]);
    command.arg(&data).arg("--out").arg(&out).assert().code(1).stderr(contains("another run"));
    drop(held);
    assert!(!out.join("config.toml").exists() && !out.join("Parasitized").exists());
}

#[test]
fn nothing_is_resumed_where_there_is_nothing() {
    let dir = folder("no-run");
    for what in ["gan", "classifier"] {
        cellforge()
            .args(["train", what, "--resume", "--out"])
            .arg(dir.join("mistyped"))
            .assert()
            .code(1)
            .stderr(contains("no run to resume").and(contains("mistyped")));
    }
    assert!(!dir.join("mistyped").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_goes_away_does_not_cut_the_work_short() {
    let dir = folder("pipe");
    let zip = small_phantom(&dir);
    let folds = |out: &str| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("cellforge"));
        command.args(["data", "split", "--folds", "3", "--out"]).arg(dir.join(out)).arg(&zip);
        command
    };
    // A pipe whose other end is closed at once.
    let mut child = folds("piped.csv").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(dir.join("piped-3.csv").is_file());
    // A full disk is told at the end, when the work is done.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(folds("full.csv").stdout(full).status().unwrap().code(), Some(1));
    assert!(dir.join("full-3.csv").is_file());
    // An error stream that is gone is no reason to stop either.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(folds("silent.csv").stderr(full).status().unwrap().code(), Some(0));
}

#[test]
fn info_and_split_of_a_phantom() {
    let dir = folder("split");
    let zip = small_phantom(&dir);
    cellforge()
        .args(["data", "info"])
        .arg(&zip)
        .assert()
        .success()
        .stdout(contains("60 images").and(contains("patients")));
    let json = cellforge().args(["data", "info", "--json"]).arg(&zip).output().unwrap().stdout;
    let info: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(info["classes"]["Parasitized"], 30);

    let manifest = dir.join("split.csv");
    cellforge().args(["data", "split"]).arg(&zip).arg("--out").arg(&manifest).assert().success();
    // No patient is on two sides.
    let text = fs::read_to_string(&manifest).unwrap();
    let mut sides = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (group, part) = (fields[2].to_owned(), fields[3].to_owned());
        assert_eq!(sides.entry(group).or_insert_with(|| part.clone()), &part, "{line}");
    }
    cellforge()
        .args(["data", "split", "--folds", "3", "--by", "image"])
        .arg(&zip)
        .arg("--out")
        .arg(&manifest)
        .assert()
        .success();
    assert!(dir.join("split-3.csv").is_file());
}

#[test]
fn the_same_seed_gives_the_same_images() {
    let dir = folder("generate");
    let run = |out: &str, extra: &[&str]| {
        cellforge()
            .args(["generate", "--count", "3", "-q"])
            .args(extra)
            .arg("--checkpoint")
            .arg(gans())
            .arg("--out")
            .arg(dir.join(out))
            .assert()
            .success();
    };
    run("a", &["--seed", "5"]);
    run("b", &["--seed", "5", "--threads", "1"]);
    run("c", &["--seed", "6"]);
    assert_eq!(files(&dir.join("a")), files(&dir.join("b")));
    assert_ne!(files(&dir.join("a/Parasitized")), files(&dir.join("c/Parasitized")));
    assert_eq!(files(&dir.join("a/Uninfected")).len(), 3);

    let grid = dir.join("grid.png");
    run("a.zip", &["--seed", "5", "--grid", grid.to_str().unwrap()]);
    run("b.zip", &["--seed", "5"]);
    assert_eq!(fs::read(dir.join("a.zip")).unwrap(), fs::read(dir.join("b.zip")).unwrap());
    assert!(image::open(&grid).unwrap().width() > 8 * 32);
    let mut zip = zip::ZipArchive::new(fs::File::open(dir.join("a.zip")).unwrap()).unwrap();
    let mut inside = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_name("Parasitized/synthetic_000002.png").unwrap(), &mut inside).unwrap();
    assert_eq!(inside, fs::read(dir.join("a/Parasitized/synthetic_000002.png")).unwrap());

    run("one", &["--class", "Uninfected", "--truncation", "0.5"]);
    assert!(!dir.join("one/Parasitized").exists());
    let told = |args: &[&str], code: i32, reason: &str| {
        let mut command = cellforge();
        command.args(["generate", "--out"]).arg(dir.join("no")).args(args).assert().code(code).stderr(contains(reason));
    };
    let refused = |args: &[&str], reason: &str| told(args, 1, reason);
    let checkpoint = gans().to_str().unwrap();
    refused(&["--checkpoint", checkpoint, "--class", "Martian"], "Martian");
    // A flag's value that is out of range is a wrong command line.
    told(&["--checkpoint", checkpoint, "--truncation", "0"], 2, "generate.truncation is 0");
    refused(&["--checkpoint", checkpoint, "--count", "0"], "only a study knows");
    refused(&["--checkpoint", "nowhere"], "nowhere");
    refused(&["--checkpoint", dir.to_str().unwrap()], "no trained GAN");
}

/// What a user names is replaced only where that was asked for.
#[test]
fn files_that_are_there_stay() {
    let dir = folder("files");
    let data = small_phantom(&dir);
    let net = dir.join("net");
    let small = ["--side", "32", "--width", "0.05", "--epochs", "1", "-q"];
    let mut train = cellforge();
    train.args(["train", "classifier", "--data"]).arg(&data).args(small).arg("--out").arg(&net).assert().success();
    let [data, net] = [&data, &net].map(|path| path.to_str().unwrap());
    let gan = gans().to_str().unwrap();
    let classify = ["classify", "--checkpoint", net, "--data", data];
    let generate = ["generate", "--checkpoint", gan, "--count", "1"];
    let cases: [(Vec<&str>, &str, &str); 7] = [
        (vec!["data", "split", data], "--out", "split.csv"),
        (vec!["data", "split", data, "--folds", "2", "--by", "image"], "--out", "fold.csv"),
        (vec!["data", "phantom", "--images-per-class", "2"], "--out", "made.zip"),
        (classify.to_vec(), "--csv", "each.csv"),
        (classify.to_vec(), "--json", "figures.json"),
        (generate.to_vec(), "--out", "made-by-gan.zip"),
        ([&generate[..], &["--out", "images"]].concat(), "--grid", "grid.png"),
    ];
    for (verb, flag, name) in cases {
        let there = dir.join(if name == "fold.csv" { "fold-2.csv" } else { name });
        fs::write(&there, "years of work").unwrap();
        let run = |extra: &[&str]| {
            let mut command = cellforge();
            command.args(&verb).args([flag, name]).args(extra).current_dir(&dir).assert()
        };
        let is_there = there.file_name().unwrap().to_str().unwrap().to_owned();
        run(&[]).code(1).stderr(contains(format!("{is_there} is there already")).and(contains("--overwrite")));
        assert_eq!(fs::read(&there).unwrap(), b"years of work", "{verb:?}");
        run(&["--overwrite"]).success();
        assert_ne!(fs::read(&there).unwrap(), b"years of work", "{verb:?}");
    }
}

/// Flags and settings that contradict each other are not passed over in silence.
#[test]
fn what_contradicts_itself_is_refused() {
    let dir = folder("contradictions");
    let data = small_phantom(&dir);
    let data = data.to_str().unwrap();
    for (args, code, words) in [
        (&["inspect", "resnet", "--set", "classifier.model.kind=cnn"][..], 1, "the settings make a cnn of the resnet"),
        (&["inspect", "cnn", "--set", "classifier.recipe=resnet"], 1, "the settings make a resnet of the cnn"),
        (&["inspect", "resnet", "--recipe", "best"], 1, "--recipe is of GANs"),
        (&["inspect", "cnn", "--classes", "100000000000"], 2, "--classes"),
        (
            &["data", "split", data, "--folds", "3", "--test", "0.3", "--out", "x.csv"],
            1,
            "data.test is of a single split",
        ),
        (
            &["data", "split", data, "--folds", "3", "--set", "data.val=0.3", "--out", "x.csv"],
            1,
            "data.val is of a single split",
        ),
        (&["classify", "--checkpoint", ".", "--model", "cnn", "--data", data], 1, "--model chooses one of a study"),
        (&["classify", "--checkpoint", ".", "--data", data, "--part", "val"], 1, "--part is a part of a split"),
        (&["evaluate", "--data", data, "--synthetic", data], 1, "--data needs --split"),
        (&["evaluate", "--split", "x.csv", "--synthetic", data], 1, "--data is missing"),
        (
            &["evaluate", "--data", data, "--split", "x.csv", "--holdout", data, "--synthetic", data],
            1,
            "leave out --real and --holdout",
        ),
        (&["data", "phantom", "--side", "50", "--out", "x.zip"], 2, "data.side is 50"),
    ] {
        cellforge().args(args).current_dir(&dir).assert().code(code).stderr(contains(words));
    }
    cellforge().args(["inspect", "classifier", "--set", "classifier.model.kind=cnn"]).assert().success();
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with("images.zip")), "{left:?}");
}

#[test]
fn one_of_a_kind_is_counted_as_one() {
    let dir = folder("one").join("images");
    cellforge().args(["-q", "data", "phantom", "--images-per-class", "1", "--out"]).arg(&dir).assert().success();
    fs::remove_dir_all(dir.join("Uninfected")).unwrap();
    cellforge().args(["data", "info"]).arg(&dir).assert().success().stdout(contains(": 1 image in 1 class\n"));
}

#[test]
fn fetch_says_that_there_is_no_network() {
    let dir = folder("fetch");
    // Nothing listens on port 1, so this is what an offline machine sees, without waiting for a network.
    for (out, file) in [(dir.join("images.zip"), dir.join("images.zip")), (dir.clone(), dir.join("cell_images.zip"))] {
        cellforge()
            .args(["data", "fetch", "--url", "http://127.0.0.1:1/images.zip", "--out"])
            .arg(out)
            .timeout(std::time::Duration::from_secs(60))
            .assert()
            .code(1)
            .stderr(contains("127.0.0.1:1").and(contains("error:")).and(contains(file.to_str().unwrap())));
        assert!(!file.exists());
    }
}

#[test]
fn doctor_tells_what_the_machine_has() {
    let told = cellforge().args(["doctor", "--dir", "no/such/folder", "--threads", "2"]).assert();
    // A build with an accelerator fails where none can be opened, after it has told the rest.
    let told = if cfg!(any(feature = "cuda", feature = "metal")) { told } else { told.success() };
    let out = String::from_utf8_lossy(&told.get_output().stdout).into_owned();
    for part in ["processor", "2 threads in use", "GFLOP/s in f32", "GiB free", "devices", "recipe best, 64x64 pixels"]
    {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
}

#[test]
fn verbs_that_do_not_run_over_ranks_say_so() {
    let started_by_mpi = |size: &str| {
        let mut program = cellforge();
        program.env("OMPI_COMM_WORLD_RANK", "0").env("OMPI_COMM_WORLD_SIZE", size);
        program
    };
    let dir = folder("ranks");
    let out = dir.join("images.zip");
    let phantom =
        |size| started_by_mpi(size).args(["data", "phantom", "--images-per-class", "2", "--out"]).arg(&out).assert();
    phantom("4").code(1).stderr(contains("MPI has started this 4 times").and(contains("start it alone")));
    assert!(!out.exists());
    // One is none too many.
    phantom("1").success();
    if cfg!(not(feature = "mpi")) {
        let train = ["train", "gan", "--data", "images.zip", "--out"];
        let refused = started_by_mpi("4").args(train).arg(dir.join("gan")).assert().code(1);
        refused.stderr(contains("was built without MPI").and(contains("--features mpi")));
    }
}
