//! Reports that are drawn again, and the page of trainings that run.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::common::{cellforge, cellforge_command, folder, small_phantom, tiny_gan};
use predicates::{prelude::*, str::contains};

#[test]
fn the_course_of_a_training_is_a_page() {
    let dir = folder("report/training");
    let images = small_phantom(&dir);
    let out = dir.join("gan");
    tiny_gan(&images, 4, &["--class", "Uninfected"], &out);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for part in
        ["4 of 4 iterations (100%)", "Classes: Uninfected", "GAN losses", "Iteration 4<", "<svg", "data:image/png"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http-equiv=\"refresh\"") && !page.contains("<script"));

    // Drawn again it is the same, and of several trainings there is one page.
    fs::remove_file(out.join("report.html")).unwrap();
    cellforge().arg("report").arg(&out).assert().success().stdout(contains("report.html"));
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), page);
    let both = dir.join("both");
    tiny_gan(&images, 2, &[], &both);
    let page = fs::read_to_string(both.join("report.html")).unwrap();
    assert!(page.contains(">Parasitized</a>") && page.contains(">Uninfected</a>"), "a table of both trainings");
}

#[test]
fn the_page_of_a_classifier_is_drawn_again_from_its_figures() {
    let dir = folder("report/classifier");
    let images = small_phantom(&dir);
    let out = dir.join("network");
    let mut train = cellforge();
    train.args([
        "train",
        "classifier",
        "--recipe",
        "cnn-1",
        "--side",
        "32",
        "--width",
        "0.1",
        "--epochs",
        "2",
        "--data",
    ]);
    train.arg(&images).arg("--out").arg(&out).assert().success();
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("A classifier, tested") && page.contains("Accuracy") && page.contains("Phantom"));
    fs::write(out.join("report.html"), "").unwrap();
    cellforge().arg("report").arg(&out).assert().success();
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), page);

    // Figures of an earlier version have no words for a page.
    let figures = out.join("test.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&figures).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("page").unwrap();
    fs::write(&figures, value.to_string()).unwrap();
    cellforge()
        .arg("report")
        .arg(&out)
        .assert()
        .code(1)
        .stderr(contains("test.json").and(contains("classify --report")));
}

#[test]
fn what_no_report_can_be_drawn_from_is_named() {
    let dir = folder("report/none");
    cellforge().arg("report").arg(dir.join("nowhere")).assert().code(1).stderr(contains("no folder"));
    cellforge().arg("report").arg(&dir).assert().code(1).stderr(contains("holds no study, evaluation or training"));
    for (text, problem) in
        [("{}", "no schema_version"), ("{\"schema_version\": 1}", "is of schema 1"), ("[", "evaluation.json")]
    {
        fs::write(dir.join("evaluation.json"), text).unwrap();
        cellforge().arg("report").arg(&dir).assert().code(1).stderr(contains(problem));
    }
    assert!(!dir.join("report.html").exists());
}

#[test]
fn a_training_is_watched_while_it_runs() {
    let dir = folder("report/watched");
    let images = small_phantom(&dir).display().to_string();
    let out = dir.join("gan").display().to_string();
    fs::create_dir(&out).unwrap();
    let mut watch = cellforge_command(&["watch", &out, "--every", "1"]).spawn().unwrap();
    let page = dir.join("gan/watch.html");
    let shows = |part: &str| {
        let begun = Instant::now();
        while !fs::read_to_string(&page).is_ok_and(|text| text.contains(part)) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the page never says {part:?}");
            sleep(Duration::from_millis(50));
        }
    };
    shows("Nothing is logged yet");
    shows("http-equiv=\"refresh\"");
    let args = [
        "train",
        "gan",
        "--class",
        "Uninfected",
        "--side",
        "32",
        "--width",
        "0.05",
        "--batch",
        "4",
        "-q",
        "--iterations",
        "30",
    ];
    let trained = cellforge_command(&args).args(["--data", &images, "--out", &out]).status().unwrap();
    assert!(trained.success());
    // It ends by itself when the training has.
    assert!(watch.wait().unwrap().success());
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("30 of 30 iterations (100%)") && text.contains("Finished."));
    assert!(!text.contains("http-equiv=\"refresh\""), "a finished page stays as it is");
}
