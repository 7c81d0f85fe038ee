//! What the program's files give away: to others on the machine, and to whom a report is passed on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{cellforge, folder, phantom, tiny_gan};
use predicates::{prelude::*, str::contains};
use serde_json::Value;

/// Two folders of images with a class whose name is markup, and synthetic ones of which two are copies.
struct Sets {
    root: PathBuf,
    real: PathBuf,
    holdout: PathBuf,
    synthetic: PathBuf,
}

/// A name that no page may take for anything but a name.
const CLASS: &str = "<b>a_|_*b*";

fn sets(name: &str) -> Sets {
    let root = folder(name);
    let make = |name: &str, seed: &str| {
        let out = root.join(name);
        let mut command = cellforge();
        command.args(["-q", "data", "phantom", "--images-per-class", "40", "--patients", "8", "--seed", seed, "--out"]);
        command.arg(&out).assert().success();
        fs::rename(out.join("Parasitized"), out.join(CLASS)).unwrap();
        out
    };
    let (real, holdout, synthetic) = (make("real", "1"), make("holdout", "2"), make("synthetic", "3"));
    let mut names: Vec<_> = fs::read_dir(real.join(CLASS)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    // Phantoms of all seeds have the same names; no synthetic image is to have a real one's.
    for class in [CLASS, "Uninfected"] {
        for (number, entry) in fs::read_dir(synthetic.join(class)).unwrap().collect::<Vec<_>>().into_iter().enumerate()
        {
            fs::rename(entry.unwrap().path(), synthetic.join(class).join(format!("made-{number}.png"))).unwrap();
        }
    }
    for (number, name) in names.iter().take(2).enumerate() {
        fs::copy(name, synthetic.join(CLASS).join(format!("new-{number}.png"))).unwrap();
    }
    Sets { root, real, holdout, synthetic }
}

/// A small evaluation with pictures of pairs, in a folder of this name.
fn evaluated(sets: &Sets) -> PathBuf {
    let out = sets.root.join("evaluation");
    let mut command = cellforge();
    command
        .args(["-q", "evaluate", "--side", "32", "--set", "evaluate.fidelity.k=3", "--resamples", "50"])
        .args(["--set", "evaluate.two_sample.updates=0", "--set", "evaluate.two_sample.halvings=50"])
        .args(["--set", "evaluate.two_sample.planted=false", "--set", "evaluate.copies.planted=0"])
        .args([
            "--set",
            "evaluate.reidentification.updates=0",
            "--measure",
            "fidelity,privacy",
            "--set",
            "data.noun=sca|n",
        ])
        .args(["--real".as_ref(), sets.real.as_os_str(), "--holdout".as_ref(), sets.holdout.as_os_str()])
        .args(["--synthetic".as_ref(), sets.synthetic.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    command.assert().success();
    out
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_report_names_no_patient_and_takes_no_name_for_markup() {
    let sets = sets("private-names");
    let out = evaluated(&sets);
    let (report, sheet) = (read(&out.join("report.html")), read(&out.join("datasheet.md")));
    let found: Value = serde_json::from_str(&read(&out.join("evaluation.json"))).unwrap();
    let copies = found["copies"]["found"].as_array().unwrap();
    assert!(copies.len() >= 2, "{}", found["copies"]);
    for copy in copies {
        let [training, patient] = ["training", "patient"].map(|name| copy[name].as_str().unwrap());
        assert!(training.contains(patient), "{training} {patient}");
        let file = training.rsplit('/').next().unwrap();
        for text in [&report, &sheet] {
            let has_patient = text.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == patient);
            assert!(!text.contains(file) && !has_patient, "{file} of {patient}");
        }
    }
    assert!(report.contains("pseudonyms"));

    assert!(report.contains("&lt;b&gt;a_|_*b*") && !report.contains("<b>a_"));
    assert!(sheet.contains(r"\<b\>a\_\|\_\*b\*") && !sheet.contains("<b>a_"));
    assert!(sheet.contains(r"sca\|ns"));
    // A row has the cells of its table, whatever the class is called.
    let cells = |line: &str| line.replace(r"\|", "").matches('|').count();
    let rows: Vec<&str> =
        sheet.lines().filter(|line| line.starts_with("| ") && line.contains("on each side")).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| cells(row) == 4), "{rows:?}");
}

#[test]
fn what_holds_real_pixels_is_listed_and_removed() {
    let sets = sets("private-clean");
    let out = evaluated(&sets);
    let (json, report) = (out.join("evaluation.json"), out.join("report.html"));
    let (before, page) = (read(&json), read(&report));
    let pictures: Vec<_> = fs::read_dir(out.join("pairs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!pictures.is_empty() && page.contains("beside the nearest"));

    // A classifier of these images, in the same folder around both, has a cache.
    let net = sets.root.join("net");
    let mut command = cellforge();
    command.args(["-q", "train", "classifier", "--side", "32", "--width", "0.1", "--epochs", "1", "--data"]);
    command.arg(&sets.real).arg("--out").arg(&net).assert().success();
    let cached = |folder: &Path| fs::read_dir(folder.join("cache")).map_or(0, Iterator::count);
    assert!(cached(&net) > 0);

    let clean = |arguments: &[&str]| {
        let mut command = cellforge();
        command.arg("clean").arg(&sets.root).args(arguments);
        command.assert().success()
    };
    let name = pictures[0].file_name().unwrap().to_str().unwrap();
    clean(&["--dry-run"]).stdout(contains(name).and(contains(".images")).and(contains("would be removed")));
    assert!(pictures.iter().all(|picture| picture.is_file()) && cached(&net) > 0 && read(&json) == before);

    clean(&[]).stdout(contains(name).and(contains(" removed")));
    assert!(!out.join("pairs").exists() && !net.join("cache").exists());
    let redrawn = read(&report);
    assert!(!redrawn.contains("beside the nearest") && redrawn.contains("Do they leak a patient?"));
    let [mut was, mut is]: [Value; 2] = [&before, &read(&json)].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(is["pairs"], Value::Array(Vec::new()));
    for found in [&mut was, &mut is] {
        found.as_object_mut().unwrap().remove("pairs");
    }
    assert_eq!(was, is, "nothing else has changed");

    // The images themselves and the network are there, and there is nothing left to remove.
    assert!(sets.real.join(CLASS).is_dir() && net.join("last").is_dir());
    clean(&[]).stdout(contains("nothing in it is known to hold pixels"));
    cellforge().arg("clean").arg(sets.root.join("nowhere")).assert().code(1).stderr(contains("is no folder"));
}

#[test]
fn a_synthetic_image_with_a_real_name_is_not_called_by_it() {
    let sets = sets("private-bearers");
    let real = fs::read_dir(sets.real.join("Uninfected")).unwrap().next().unwrap().unwrap().path();
    let name = real.file_name().unwrap().to_str().unwrap().to_owned();
    fs::copy(&real, sets.synthetic.join("Uninfected").join(&name)).unwrap();
    let out = evaluated(&sets);
    let found: Value = serde_json::from_str(&read(&out.join("evaluation.json"))).unwrap();
    assert_eq!(found["sets"]["own_names"], false);
    let stem = name.trim_end_matches(".png");
    for file in ["report.html", "datasheet.md"] {
        let text = read(&out.join(file));
        assert!(!text.contains(stem), "{file} has {stem}");
        // The key is in the record alone.
        assert!(!text.contains(found["sets"]["pseudonym_key"].as_str().unwrap()));
    }
}

/// Every file and folder below one, with its bytes or where it leads.
fn state(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (std::collections::BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let what = match fs::read_link(&path) {
                Ok(link) => link.to_str().unwrap().as_bytes().to_vec(),
                Err(_) if path.is_dir() => {
                    folders.push(path.clone());
                    b"folder".to_vec()
                }
                Err(_) => fs::read(&path).unwrap(),
            };
            found.insert(path, what);
        }
    }
    found
}

#[test]
fn clean_leaves_alone_what_is_not_its_own() {
    let root = folder("private-others");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // Names of this program, with what is none of its files.
    write("mine/.lock", "precious");
    write("mine/.writing-it", "precious");
    write("mine/evaluation.json", "{\"my\": \"own\"}");
    write("mine/report.html", "<p>mine, beside the nearest</p>");
    write("mine/pairs/pixels-01.png", "mine");
    write("mine/features/0123456789abcdef0123456789abcdef.f32", "mine");
    write("mine/cache/0123456789abcdef0123456789abcdef.images", "mine");
    write("mine/cache/0123456789abcdef0123456789abcdef.lock", "mine");
    write("study/results.json", "{\"a\": 1}");
    write("study/data/real-estate.png", "mine");
    write("config/config.toml", "# mine\n");
    fs::create_dir(root.join("folder")).unwrap();
    fs::create_dir(root.join("folder/.lock")).unwrap();
    let before = state(&root);
    let clean = || {
        let mut command = cellforge();
        command.arg("clean").arg(&root);
        command.assert().success()
    };
    clean().stdout(contains("nothing in it is known to hold pixels"));
    assert_eq!(before, state(&root));
}

#[test]
fn what_a_study_has_is_found_also_of_one_that_was_stopped() {
    let root = folder("private-study");
    let images = phantom(&root);
    let out = root.join("study");
    let mut command = cellforge();
    command.args(["-q", "reproduce", "--preset", "smoke", "--data", &images, "--out"]).arg(&out).assert().success();
    let clean = |folder: &Path| {
        let mut command = cellforge();
        command.arg("clean").arg(folder);
        command.assert().success()
    };
    let stopped = root.join("stopped");
    fs::create_dir(&stopped).unwrap();
    // One that was stopped before it was told what came out.
    for (path, bytes) in state(&out) {
        let to = stopped.join(path.strip_prefix(&out).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if path.is_dir() {
            fs::create_dir_all(&to).unwrap();
        } else if !["results.json", "evaluation.json", "report.html"]
            .contains(&path.file_name().unwrap().to_str().unwrap())
        {
            fs::write(to, bytes).unwrap();
        }
    }
    for folder in [&out, &stopped] {
        let said = contains("real-Parasitized.png").and(contains("pairs")).and(contains(".images"));
        clean(folder).stdout(said);
        assert!(!folder.join("evaluation/pairs").exists() && !folder.join("data/real-Parasitized.png").exists());
        clean(folder).stdout(contains("nothing in it is known"));
    }
    let report = read(&out.join("report.html"));
    assert!(!report.contains("beside the nearest") && report.contains("What the generators learned to draw"));
}

#[cfg(unix)]
#[test]
fn clean_follows_no_link_and_finds_what_is_left_over() {
    let sets = sets("private-links");
    let out = evaluated(&sets);
    let outside = sets.root.join("outside");
    fs::create_dir(&outside).unwrap();
    for file in ["pixels-01.png", "notes.txt", "page.html"] {
        fs::write(outside.join(file), "mine").unwrap();
    }
    let link = |to: &str, from: &str| std::os::unix::fs::symlink(outside.join(to), out.join(from)).unwrap();
    link("", "elsewhere");
    fs::write(out.join("pairs/notes.txt"), "mine").unwrap();
    let before = state(&outside);
    let clean = |folder: &Path| {
        let mut command = cellforge();
        command.arg("clean").arg(folder);
        command.assert().success()
    };
    fs::remove_file(out.join(".lock")).unwrap();
    link("notes.txt", ".lock");
    clean(&out).stderr(contains("elsewhere is not looked into")).stdout(contains("removed"));
    assert_eq!(before, state(&outside));
    assert_eq!(read(&out.join("pairs/notes.txt")), "mine");
    assert!(!read(&out.join("report.html")).contains("beside the nearest"));

    // A folder of pictures that is a link is somebody else's, and a report that lost its figures goes.
    let again = sets.root.join("again");
    fs::rename(&out, &again).unwrap();
    let out = evaluated(&sets);
    let page = read(&out.join("report.html"));
    fs::remove_dir_all(out.join("pairs")).unwrap();
    std::os::unix::fs::symlink(&outside, out.join("pairs")).unwrap();
    fs::remove_file(out.join("evaluation.json")).unwrap();
    assert!(page.contains("beside the nearest"));
    clean(&out).stdout(contains("report.html (is removed)"));
    assert!(!out.join("report.html").exists() && out.join("datasheet.md").exists());
    assert_eq!(before, state(&outside));

    // What a dead writer of a cache has left has pixels; a run around a folder holds it.
    let cache = sets.root.join("dead/cache");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join(".writing-1-2-3"), "pixels").unwrap();
    fs::write(cache.join("0123456789abcdef0123456789abcdef.lock"), "").unwrap();
    let lock = fs::File::create(sets.root.join("dead/.lock")).unwrap();
    lock.lock().unwrap();
    cellforge().arg("clean").arg(&cache).assert().code(1).stderr(contains("another run"));
    drop(lock);
    clean(&cache).stdout(contains(".writing-1-2-3"));
    assert!(!cache.exists());
}

#[cfg(unix)]
mod modes {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// Everything under a folder, and itself.
    fn all(folder: &Path) -> Vec<PathBuf> {
        let mut found = vec![folder.to_path_buf()];
        let mut at = 0;
        while at < found.len() {
            if found[at].is_dir() {
                found.extend(fs::read_dir(&found[at]).unwrap().map(|entry| entry.unwrap().path()));
            }
            at += 1;
        }
        found
    }

    #[test]
    fn only_what_is_to_be_given_away_can_be_read_by_others() {
        let root = folder("private-modes");
        let images = phantom(&root);
        let path = |name: &str| root.join(name);
        let run = |arguments: &[&str], out: &Path| {
            let mut command = cellforge();
            command.arg("-q").args(arguments).arg(out).assert().success();
        };
        tiny_gan(Path::new(&images), 2, &["--recipe", "best"], &path("gan"));
        let net =
            ["train", "classifier", "--side", "32", "--width", "0.1", "--epochs", "1", "--data", &images, "--out"];
        run(&net, &path("net"));
        run(&["data", "split", &images, "--out"], &path("split.csv"));
        run(&["data", "split", &images, "--folders"], &path("parts"));
        run(&["data", "info", &images, "--grid"], &path("look.png"));
        let made = path("made");
        run(&["generate", "--count", "20", "--out"], &made);
        run(
            &[
                "panel",
                "make",
                "--side",
                "32",
                "--images",
                "10",
                "--real",
                &images,
                "--synthetic",
                made.to_str().unwrap(),
                "--out",
            ],
            &path("panel"),
        );
        let net = path("net");
        run(&["classify", "--checkpoint", net.to_str().unwrap(), "--data", &images, "--csv"], &path("said.csv"));
        let study = path("study");
        run(&["reproduce", "--preset", "smoke", "--data", &images, "--out"], &study);
        fs::remove_dir_all(study.join("synthetic")).unwrap();
        let evaluation = evaluated(&sets("private-modes-of-evaluation"));
        fs::rename(evaluation, path("evaluation")).unwrap();
        for name in ["gan", "net", "split.csv", "parts", "look.png", "panel", "said.csv", "study", "evaluation"] {
            for path in all(&path(name)) {
                let expected = if path.is_dir() { 0o700 } else { 0o600 };
                assert_eq!(mode(&path), expected, "{}", path.display());
            }
        }

        let plain = path("plain");
        fs::write(&plain, "").unwrap();
        run(&["pack", "--checkpoint", path("gan").to_str().unwrap(), "--out"], &path("packed"));
        run(&["generate", "--count", "2", "--grid", path("grid.png").to_str().unwrap(), "--out"], &path("made.zip"));
        for name in [
            "images.zip",
            "images.zip.settings.toml",
            "made",
            "packed",
            "made.zip",
            "made.zip.manifest.csv",
            "made.zip.settings.toml",
            "grid.png",
        ] {
            for path in all(&path(name)).iter().filter(|path| path.is_file()) {
                assert_eq!(mode(path), mode(&plain), "{}", path.display());
            }
        }
    }
}
