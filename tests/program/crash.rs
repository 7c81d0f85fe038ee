//! Training through a layer that kills it, cuts the power or fails its writes at a chosen operation on a file (`tests/faults/faults.c`).
//! Whatever the moment: no checkpoint is unreadable, and a resumed run ends with the same bytes as one that never stopped.
//!
//! `CELLFORGE_CRASHES` sets how many moments of each kind of run are tried, 40 if it is not set. Two hundred of each:
//!
//! ```sh
//! CELLFORGE_CRASHES=200 cargo test --release --test program crash -- --nocapture
//! ```
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::common::{cellforge_command as cellforge, files, folder, iteration, phantom, wait_for};

/// The layer, compiled once.
fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let library = folder("crash/layer").join("faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/faults.c");
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
        assert!(made.expect("a C compiler, cc").success());
        library
    })
}

/// A run that is tried: its verb and settings. It must be deterministic and short.
struct Kind {
    name: &'static str,
    args: Vec<String>,
}

impl Kind {
    fn command(&self, out: &Path, extra: &[&str]) -> Command {
        let mut command = cellforge(&[]);
        command.args(&self.args).args(extra).arg("--out").arg(out).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// With the layer doing `action` at operation `at`.
    fn faulty(&self, out: &Path, extra: &[&str], at: u64, action: &str) -> Command {
        let mut command = self.command(out, extra);
        command.env("LD_PRELOAD", layer()).env("FAULTS_UNDER", out);
        command.env("FAULTS_AT", at.to_string()).env("FAULTS_DO", action);
        command
    }

    /// Goes on with the run in `out`, or starts it if it died before it had begun.
    fn go_on(&self, out: &Path) -> Output {
        let resumed = self.command(out, &["--resume"]).output().unwrap();
        if !resumed.status.success() && said(&resumed).contains("no run to resume") {
            assert!(!out.join("last").exists(), "{}: {}", self.name, said(&resumed));
            return self.command(out, &[]).output().unwrap();
        }
        resumed
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_same(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>, case: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{case}");
    for (name, bytes) in found {
        assert!(*bytes == expected[name], "{case}: {} differs", name.display());
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A classifier; a GAN of one class; and one of both, judged by the classifier while it trains, which keeps the best of its checkpoints.
fn kinds(dir: &Path) -> [Kind; 3] {
    let data = phantom(dir);
    let tiny = format!("-q --data {data} --side 32 --width 0.05 --batch 4");
    let gan = format!("train gan --iterations 9 --set gan.grid_at=[1,5,9] --checkpoint-every 2 {tiny}");
    let judge = dir.join("judge");
    let classifier = Kind {
        name: "classifier",
        args: words(&format!("train classifier --epochs 3 --val 0.25 --set classifier.checkpoint_every=2 {tiny}")),
    };
    assert!(classifier.command(&judge, &[]).status().unwrap().success());
    // How images lie is given: to find it out at each of some hundred starts would take most of the time.
    let best = "--recipe best --set gan.dihedral=on --set gan.monitor.every=3";
    let judged = format!("{gan} {best} --judge {0} --split {0}/split.csv", judge.display());
    let gan = Kind { name: "gan", args: words(&format!("{gan} --class Parasitized")) };
    [classifier, gan, Kind { name: "judged", args: words(&judged) }]
}

/// Where a run is struck down.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// In place of its nth operation on a file.
    Operation(u64, &'static str),
    /// After this share of the time it takes.
    Time(f64),
}

/// `count` moments spread over a run of `operations`, a quarter of each sort.
fn moments(count: u64, operations: u64) -> impl Iterator<Item = Moment> {
    (0..count).map(move |i| {
        // Each moment lies anywhere in its own part of the run: a step of the golden ratio is as good as chance, and repeatable.
        let share = (i as f64 + (i as f64 * 0.618_033_988_749_895).fract()) / count as f64;
        let operation = (1 + (share * operations as f64) as u64).min(operations);
        match i % 4 {
            0 => Moment::Operation(operation, "kill"),
            1 => Moment::Operation(operation, "half"),
            2 => Moment::Operation(operation, "power"),
            _ => Moment::Time(share),
        }
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for docs/reliability.md")]
fn killed_at_any_moment() {
    let count: u64 = std::env::var("CELLFORGE_CRASHES").map_or(40, |text| text.parse().expect("a number"));
    let dir = folder("crash/killed");
    for kind in kinds(&dir) {
        let whole = dir.join(format!("{}-whole", kind.name));
        let counted = dir.join("operations");
        let clock = Instant::now();
        let mut run = kind.faulty(&whole, &[], 0, "");
        assert!(run.env("FAULTS_COUNT", &counted).status().unwrap().success());
        let took = clock.elapsed();
        let operations: u64 = fs::read_to_string(&counted).unwrap().trim().parse().unwrap();
        assert!(operations > 40, "{}: only {operations} operations were seen", kind.name);
        let expected = files(&whole);

        let mut struck = 0;
        for (i, moment) in moments(count, operations).enumerate() {
            let out = dir.join(format!("{}-{i}", kind.name));
            let by_signal = match moment {
                Moment::Operation(at, action) => kind.faulty(&out, &[], at, action).output().unwrap().status.signal(),
                Moment::Time(share) => {
                    let mut child = kind.command(&out, &[]).stderr(Stdio::null()).spawn().unwrap();
                    thread::sleep(took.mul_f64(share));
                    child.kill().unwrap();
                    child.wait().unwrap().signal()
                }
            };
            // By time, a run on a machine that has become faster may be over before.
            assert!(
                by_signal == Some(9) || matches!(moment, Moment::Time(_)),
                "{} {moment:?}: {by_signal:?}",
                kind.name
            );
            struck += u64::from(by_signal == Some(9));
            let ended = kind.go_on(&out);
            assert!(ended.status.success(), "{} {moment:?}: {}", kind.name, said(&ended));
            assert_same(&files(&out), &expected, &format!("{} {moment:?}", kind.name));
            fs::remove_dir_all(&out).unwrap();
        }
        println!("{}: {struck} of {count} struck down, over {operations} operations; all ended the same", kind.name);
    }
}

/// The disk is full, or may only be read, from some operation on.
#[test]
fn writes_that_fail() {
    const NO_SPACE: &str = "28";
    const READ_ONLY: &str = "30";
    let dir = folder("crash/writes");
    for kind in kinds(&dir) {
        let whole = dir.join(format!("{}-whole", kind.name));
        let counted = dir.join("operations");
        assert!(kind.faulty(&whole, &[], 0, "").env("FAULTS_COUNT", &counted).status().unwrap().success());
        let operations: u64 = fs::read_to_string(&counted).unwrap().trim().parse().unwrap();
        let expected = files(&whole);
        for (share, action, reason) in [
            (0.0, READ_ONLY, "Read-only file system"),
            (0.0, NO_SPACE, "No space left on device"),
            (0.3, NO_SPACE, "No space left on device"),
            (0.5, READ_ONLY, "Read-only file system"),
            (0.7, NO_SPACE, "No space left on device"),
            (0.95, NO_SPACE, "No space left on device"),
        ] {
            let case = format!("{} at {share}, {reason}", kind.name);
            let out = dir.join(format!("{}-{share}-{action}", kind.name));
            let at = 1 + (share * operations as f64) as u64;
            let failed = kind.faulty(&out, &[], at, action).output().unwrap();
            let said_then = said(&failed);
            assert_eq!(failed.status.code(), Some(1), "{case}: {said_then}");
            assert!(said_then.contains(reason) && said_then.contains(out.to_str().unwrap()), "{case}: {said_then}");
            assert!(!said_then.contains("panicked"), "{case}: {said_then}");
            if out.join("last").exists() {
                let verb = kind.args[1].as_str();
                let way = format!("go on with: cellforge train {verb} --resume --out {}", out.display());
                assert!(said_then.contains(&way), "{case}: {said_then}");
            }
            let ended = kind.go_on(&out);
            assert!(ended.status.success(), "{case}: {}", said(&ended));
            assert_same(&files(&out), &expected, &case);
        }
    }
}

/// Somebody removes the output folder, or the images, while the run goes on.
#[test]
fn folders_that_vanish() {
    let dir = folder("crash/vanish");
    let data = phantom(&dir);
    let args = format!(
        "train gan --class Parasitized --iterations 100000 -q --data {data} --side 32 --width 0.05 --batch 4 --checkpoint-every 2"
    );
    let kind = Kind { name: "gan", args: words(&args) };

    let out = dir.join("removed");
    let mut child = kind.command(&out, &[]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut child, &out.join("last/state.json"));
    // The run may be writing into the folder at that moment.
    while fs::remove_dir_all(&out).is_err() {}
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains(out.to_str().unwrap()), "{}", said(&ended));
    assert!(!out.exists(), "a run whose folder was removed has made it again");

    // Images that are in memory are not missed; a run that needs them again says what is missing, and harms nothing.
    let out = dir.join("no-images");
    let mut child = kind.command(&out, &[]).spawn().unwrap();
    wait_for(&mut child, &out.join("last/state.json"));
    fs::remove_file(&data).unwrap();
    let before = iteration(&out);
    let clock = Instant::now();
    while iteration(&out) < before + 10 {
        assert!(child.try_wait().unwrap().is_none() && clock.elapsed() < Duration::from_secs(120));
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = kind.command(&out, &["--resume"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(1), "{}", said(&resumed));
    assert!(said(&resumed).contains(&data), "{}", said(&resumed));
    assert!(iteration(&out) >= before + 10);
}
