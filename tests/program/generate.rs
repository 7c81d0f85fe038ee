//! `cellforge generate` and `cellforge pack`: the built-in generator, strips, what the discriminator chooses, packed generators.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::common::{cellforge, files};
use predicates::{prelude::*, str::contains};

/// An empty folder of this test file.
fn folder(name: &str) -> PathBuf {
    crate::common::folder(&format!("generate/{name}"))
}

/// GANs after three iterations, made once: `both` of two classes, `study` of one class each.
fn gans() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = folder("gans");
        let phantom = crate::common::small_phantom(&root);
        for (name, recipe) in [("both", "best"), ("study", "study")] {
            crate::common::tiny_gan(&phantom, 3, &["--recipe", recipe], &root.join(name));
        }
        root
    })
}

fn both() -> PathBuf {
    gans().join("both")
}

/// Runs `generate` with these flags into `out`, and returns what it says on the error stream.
fn generate(out: &Path, checkpoint: Option<&Path>, flags: &[&str]) -> String {
    let mut command = cellforge();
    command.arg("generate").args(flags).arg("--out").arg(out);
    if let Some(checkpoint) = checkpoint {
        command.arg("--checkpoint").arg(checkpoint);
    }
    String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
}

/// The PNG files under a folder, without the settings and the manifest, which strips have none of.
fn pictures(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(root);
    found.remove(Path::new("config.toml")).expect("the settings lie beside the pictures");
    found.remove(Path::new("manifest.csv"));
    found
}

fn refused(flags: &[&str], reason: &str) {
    let out = folder("refused").join("no");
    let mut command = cellforge();
    command.arg("generate").args(flags).arg("--out").arg(&out);
    command.assert().code(1).stderr(contains(reason).and(contains("panicked").not()));
    assert!(!out.exists(), "{flags:?}");
}

#[test]
fn without_a_checkpoint_the_built_in_generator_is_used() {
    let dir = folder("built-in");
    let said = generate(&dir.join("a"), None, &["--count", "3"]);
    assert!(said.contains("built-in generator") && said.contains("cellforge generate --about"), "{said}");
    let made = pictures(&dir.join("a"));
    // A folder for each class, with three images each.
    let classes: Vec<String> = fs::read_dir(dir.join("a"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(!classes.is_empty());
    assert_eq!(made.len(), 3 * classes.len(), "{:?}", made.keys());

    // Again, and from its settings: the same. One class, fewer images: the first of the same.
    generate(&dir.join("b"), None, &["--config", dir.join("a/config.toml").to_str().unwrap()]);
    assert!(made == pictures(&dir.join("b")));
    generate(&dir.join("c"), None, &["--count", "2", "--class", &classes[0]]);
    let few = pictures(&dir.join("c"));
    assert!(few.len() == 2 && few.iter().all(|(name, bytes)| made[name] == *bytes));
    generate(
        &dir.join("d.zip"),
        None,
        &["--count", "2", "--truncation", "0.7", "--grid", dir.join("d.png").to_str().unwrap()],
    );
    assert!(dir.join("d.zip").is_file() && dir.join("d.png").is_file());

    cellforge()
        .args(["generate", "--about"])
        .assert()
        .success()
        .stdout(contains("# ").and(contains("trained")).and(contains("not")));
    refused(&["--class", "Martian"], &classes[0]);
    // Its discriminator chooses among the same images.
    generate(&dir.join("all"), None, &["--count", "4", "--class", &classes[0]]);
    generate(&dir.join("kept"), None, &["--count", "2", "--class", &classes[0], "--keep", "0.5"]);
    let (all, kept) = (pictures(&dir.join("all")), pictures(&dir.join("kept")));
    assert!(kept.len() == 2 && kept.values().all(|kept| all.values().any(|image| image == kept)));
    cellforge().args(["generate", "--count", "2"]).assert().code(1).stderr(contains("--out is missing"));
}

#[test]
fn strips_are_rows_between_images() {
    let dir = folder("strips");
    generate(&dir.join("images"), Some(&both()), &["--count", "4"]);
    generate(&dir.join("strips"), Some(&both()), &["--strips", "2", "--strip-steps", "5"]);
    let open = |path: &str| image::open(dir.join(path)).unwrap().into_rgb8();
    for class in ["Parasitized", "Uninfected"] {
        assert_eq!(files(&dir.join("strips").join(class)).len(), 2);
        let strip = open(&format!("strips/{class}/strip_000002.png"));
        // Five images of 32 pixels with gaps of two.
        assert_eq!(strip.dimensions(), (5 * 34 - 2, 32));
        for (place, number) in [(0, 3), (4, 4)] {
            let end = image::imageops::crop_imm(&strip, place * 34, 0, 32, 32).to_image();
            assert!(end == open(&format!("images/{class}/synthetic_{number:06}.png")), "{class} {number}");
        }
    }
    generate(&dir.join("to"), Some(&both()), &["--strips", "1", "--strip-to", "Uninfected"]);
    assert_eq!(pictures(&dir.join("to")).len(), 1);
    let strip = open("to/Parasitized_to_Uninfected/strip_000001.png");
    assert_eq!(strip.dimensions(), (8 * 34 - 2, 32));
    let start = image::imageops::crop_imm(&strip, 0, 0, 32, 32).to_image();
    assert!(start == open("images/Parasitized/synthetic_000001.png"));
    // The same again, and fewer: the first. More than are wanted, and images beside strips, are refused.
    generate(&dir.join("again"), Some(&both()), &["--config", dir.join("to/config.toml").to_str().unwrap()]);
    assert!(pictures(&dir.join("to")) == pictures(&dir.join("again")));
    let into = |out: &str, flags: &[&str], reason: &str| {
        let mut command = cellforge();
        command.arg("generate").args(flags).arg("--checkpoint").arg(both()).arg("--out").arg(dir.join(out));
        command.assert().code(1).stderr(contains(reason));
    };
    into("strips", &["--strips", "1"], "Parasitized/strip_000002.png, which these images would not replace");
    into("images", &["--strips", "4"], "Parasitized/synthetic_000001.png");
    into("strips", &["--count", "4"], "Parasitized/strip_000001.png");
    // With the built-in generator too.
    generate(&dir.join("built-in"), None, &["--strips", "1", "--strip-steps", "3"]);

    let study = gans().join("study");
    let (both, study) = (both().to_str().unwrap().to_owned(), study.to_str().unwrap());
    refused(&["--strips", "2", "--count", "3"], "--count is of images");
    refused(&["--strips", "2", "--keep", "0.5", "--checkpoint", &both], "--keep is of images");
    refused(&["--strip-steps", "4"], "--strips");
    refused(&["--checkpoint", &both, "--strips", "1", "--strip-to", "Martian"], "Parasitized, Uninfected");
    let same = ["--checkpoint", &both, "--strips", "1", "--class", "Uninfected", "--strip-to", "Uninfected"];
    refused(&same, "name another class");
    refused(
        &["--checkpoint", study, "--class", "Uninfected", "--strips", "1", "--strip-to", "Uninfected"],
        "several classes",
    );
    cellforge().args(["generate", "--strips", "1", "--out", "x.zip"]).assert().code(1).stderr(contains("is a file"));
    cellforge().args(["generate", "--strips", "1", "--strip-steps", "1"]).assert().code(2);
}

#[test]
fn what_others_made_is_neither_replaced_nor_mixed_with() {
    let dir = folder("others");
    let into = |out: &Path, reason: &str| {
        let before = files(out);
        let mut command = cellforge();
        command.args(["generate", "--count", "1", "--checkpoint"]).arg(both()).arg("--out").arg(out);
        command.assert().code(1).stderr(contains(reason));
        assert!(before == files(out), "{}", out.display());
    };
    let study = dir.join("study");
    fs::create_dir_all(&study).unwrap();
    fs::write(study.join("config.toml"), "preset = \"quick\"\n").unwrap();
    into(&study, "config.toml is not of `cellforge generate`");
    into(&gans().join("study"), "config.toml is not of `cellforge generate`");
    // Whatever lies in a folder that it did not make: images, also under names like its own, or a text.
    let images = dir.join("images");
    for name in ["Uninfected/cell_1.png", "Uninfected/synthetic_000001.png", "notes.txt", "manifest.csv"] {
        let file = images.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "somebody's").unwrap();
        into(&images, "is not of `cellforge generate`");
        fs::remove_dir_all(&images).unwrap();
    }
    // Its own are made again, but not beside what they would not replace.
    let own = dir.join("own");
    generate(&own, Some(&both()), &["--count", "1"]);
    let made = files(&own);
    generate(&own, Some(&both()), &["--count", "1"]);
    assert!(made == files(&own));
    for name in [
        "Uninfected/synthetic_1.png",
        "Uninfected/synthetic_000002.png",
        "Uninfected/SYNTHETIC_000001.JPG",
        "notes.txt",
    ] {
        fs::write(own.join(name), "somebody's").unwrap();
        into(&own, &format!("holds {name}, which these images would not replace"));
        fs::remove_file(own.join(name)).unwrap();
    }
    // A class that is not made again would be left of another series.
    let mut command = cellforge();
    command.args(["generate", "--count", "1", "--class", "Uninfected", "--checkpoint"]).arg(both());
    command.arg("--out").arg(&own).assert().code(1).stderr(contains("holds Parasitized"));
}

#[test]
fn names_formats_and_the_manifest() {
    let dir = folder("formats");
    let lines = |path: &Path| -> Vec<String> { fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect() };
    generate(&dir.join("png"), Some(&both()), &["--count", "2", "--seed", "4"]);
    let manifest = lines(&dir.join("png/manifest.csv"));
    assert_eq!(manifest[..2], ["file,class,number,seed", "Parasitized/synthetic_000001.png,Parasitized,1,4"]);
    assert_eq!(manifest.len(), 5);

    // With scores: those of the images in order of how real they look, which rejection goes by.
    let jpg = ["--count", "2", "--seed", "4", "--format", "jpg", "--prefix", "case-", "--scores"];
    generate(&dir.join("jpg.zip"), Some(&both()), &jpg);
    let manifest = lines(&dir.join("jpg.zip.manifest.csv"));
    assert_eq!(manifest[0], "file,class,number,seed,score");
    assert!(manifest[4].starts_with("Uninfected/case-000002.jpg,Uninfected,2,4,"), "{manifest:?}");
    let scores: Vec<f64> = manifest[1..].iter().map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(scores.iter().all(|score| score.is_finite()) && scores[0] != scores[1]);

    // One file of arrays, which is read again with the names of its classes, and is as the PNG files are.
    generate(&dir.join("made.npz"), Some(&both()), &["--count", "2", "--seed", "4", "--format", "npz"]);
    assert_eq!(lines(&dir.join("made.npz.manifest.csv"))[4], "3,Uninfected,2,4");
    let info = |path: &str| {
        let run = cellforge().args(["data", "info", "--side", "32"]).arg(dir.join(path)).assert().success();
        let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
        ["  Parasitized: 2", "  Uninfected: 2"].iter().for_each(|line| assert!(text.contains(line), "{text}"));
    };
    info("made.npz");
    info("png");
    info("jpg.zip");

    refused(&["--count", "1", "--format", "npz"], "does not end in .npz");
    refused(&["--count", "1", "--prefix", "../x"], "cannot begin the names of files");
    refused(&["--strips", "1", "--format", "jpg"], "--format is of images");
    let mut command = cellforge();
    command.args(["generate", "--count", "1", "--out", "x.npz"]);
    command.assert().code(1).stderr(contains("give --format npz"));
}

#[test]
fn a_class_with_two_generators_is_refused() {
    let dir = folder("twice");
    for (from, to) in [("both", "gan/_all"), ("study/Uninfected", "gan/Uninfected")] {
        for (path, bytes) in files(&gans().join(from)) {
            let file = dir.join(to).join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }
    let checkpoint = dir.to_str().unwrap();
    refused(&["--checkpoint", checkpoint, "--count", "1"], "both make Uninfected");
    refused(&["--checkpoint", checkpoint, "--count", "1", "--class", "Uninfected"], "_all");
    generate(&dir.join("made"), Some(&dir), &["--count", "1", "--class", "Parasitized"]);
}

#[test]
fn the_discriminator_chooses() {
    let dir = folder("keep");
    for name in ["both", "study"] {
        let (checkpoint, out) = (gans().join(name), dir.join(name));
        generate(&out.join("all"), Some(&checkpoint), &["--count", "12"]);
        generate(&out.join("kept"), Some(&checkpoint), &["--count", "3", "--keep", "0.25"]);
        generate(&out.join("few"), Some(&checkpoint), &["--count", "2", "--keep", "0.25", "--threads", "1"]);
        let settings = fs::read_to_string(out.join("kept/config.toml")).unwrap();
        assert!(settings.contains("keep = 0.25"), "{settings}");
        let (all, kept, few) = (pictures(&out.join("all")), pictures(&out.join("kept")), pictures(&out.join("few")));
        assert_eq!((kept.len(), few.len()), (6, 4));
        assert!(few.iter().all(|(name, bytes)| kept[name] == *bytes));
        // Each is one of its four candidates.
        for (path, bytes) in &kept {
            let number: usize = path.to_str().unwrap()[path.to_str().unwrap().len() - 10..][..6].parse().unwrap();
            let candidate = |n: usize| &all[&path.with_file_name(format!("synthetic_{n:06}.png"))];
            assert!((4 * number - 3..=4 * number).any(|n| candidate(n) == bytes), "{}", path.display());
        }
    }
    let both = both().to_str().unwrap().to_owned();
    for share in ["0", "-1", "1.5", "NaN"] {
        let out = dir.join("no");
        let mut command = cellforge();
        command.args(["generate", "--checkpoint", &both, "--keep", share, "--out"]).arg(&out);
        command.assert().code(2).stderr(contains("--keep: generate.keep").and(contains("from 0.001 to 1")));
        assert!(!out.exists(), "{share}");
    }
}

#[test]
fn a_packed_generator_is_generated_from() {
    let dir = folder("pack");
    let packed = dir.join("packed");
    let pack = |from: &Path, out: &Path| {
        let mut command = cellforge();
        command.args(["pack", "--checkpoint"]).arg(from).arg("--out").arg(out);
        command.assert()
    };
    pack(&both(), &packed).success().stdout(contains("Parasitized and Uninfected at 32x32").and(contains("KiB")));
    let first = files(&packed);
    pack(&both(), &packed).success();
    assert!(first == files(&packed) && first.len() == 2);

    generate(&dir.join("exact"), Some(&both()), &["--count", "3", "--seed", "4"]);
    generate(&dir.join("made"), Some(&packed), &["--count", "3", "--seed", "4"]);
    let (exact, made) = (pictures(&dir.join("exact")), pictures(&dir.join("made")));
    assert!(exact.keys().eq(made.keys()) && exact.len() == 6);
    for (name, bytes) in &exact {
        let [a, b] = [bytes, &made[name]].map(|png| image::load_from_memory(png).unwrap().into_rgb8().into_raw());
        let far = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= 3, "{} is {far} grey levels off", name.display());
    }

    refused(&["--checkpoint", packed.to_str().unwrap(), "--keep", "0.5"], "holds a generator alone");
    refused(&["--checkpoint", packed.to_str().unwrap(), "--scores"], "holds a generator alone");
    pack(&packed, &both()).code(1).stderr(contains("already holds"));
    pack(&gans().join("study"), &dir.join("no")).code(1).stderr(contains("no checkpoint"));
    cellforge().args(["pack", "--out", "x"]).assert().code(2).stderr(contains("--checkpoint"));
    cellforge().args(["pack", "--checkpoint", "x"]).assert().code(2).stderr(contains("--out"));
    let weights = packed.join("weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    refused(&["--checkpoint", packed.to_str().unwrap()], "weights.safetensors");
}
