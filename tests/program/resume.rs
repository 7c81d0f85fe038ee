//! A run that was killed or stopped, and then resumed, ends with the same bytes as one that never stopped.
#![cfg(unix)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::{cellforge_command as cellforge, files, iteration, phantom, wait_for};

fn folder(name: &str) -> PathBuf {
    crate::common::folder(&format!("resume/{name}"))
}

#[test]
fn a_gan_that_was_killed() {
    let dir = folder("gan");
    let data = phantom(&dir);
    let small = ["--side", "32", "--width", "0.1", "--batch", "8", "--iterations", "150", "--checkpoint-every", "10"];
    let run = |out: &str| {
        let mut command = cellforge(&["train", "gan", "--class", "Parasitized", "-q", "--data", &data, "--out"]);
        command.arg(dir.join(out)).args(small).stderr(Stdio::null()).stdout(Stdio::null());
        command
    };
    assert!(run("whole").status().unwrap().success());

    let mut child = run("killed").spawn().unwrap();
    let state = dir.join("killed/last/state.json");
    wait_for(&mut child, &state);
    child.kill().unwrap();
    child.wait().unwrap();
    let out = dir.join("killed");
    assert!(iteration(&out) < 150, "the run was over before it was killed");
    assert!(cellforge(&["train", "gan", "-q", "--resume", "--out"]).arg(&out).status().unwrap().success());
    assert_eq!(files(&dir.join("whole")), files(&out));
}

#[test]
fn a_classifier_that_was_stopped_by_ctrl_c() {
    let dir = folder("classifier");
    let data = phantom(&dir);
    let small = [
        "--side",
        "32",
        "--width",
        "0.125",
        "--batch",
        "8",
        "--epochs",
        "12",
        "--set",
        "classifier.checkpoint_every=2",
    ];
    let run = |out: &str| {
        let mut command = cellforge(&["train", "classifier", "-q", "--data", &data, "--out"]);
        command.arg(dir.join(out)).args(small).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    assert!(run("whole").status().unwrap().success());

    let mut child = run("stopped").spawn().unwrap();
    wait_for(&mut child, &dir.join("stopped/last/state.json"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("train classifier --resume --out"), "{said}");

    let out = dir.join("stopped");
    assert!(cellforge(&["train", "classifier", "-q", "--resume", "--out"]).arg(&out).status().unwrap().success());
    assert_eq!(files(&dir.join("whole")), files(&out));

    // A run is not overwritten by accident, nor resumed with other settings.
    let again = run("whole").output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let other = run("whole").args(["--resume", "--lr", "0.5"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("lr"), "{}", String::from_utf8_lossy(&other.stderr));
}

#[test]
fn a_study_that_was_killed() {
    let dir = folder("study");
    let config = dir.join("few.toml");
    let text = "[gan]\niterations = 60\ngrid_at = [1, 60]\ncheckpoint_every = 5\n[generate]\nper_class = 20\n\
                [classifier]\nepochs = 1\n[cnn]\nruns = [{recipe = \"cnn-1\", epochs = 1}]\n";
    fs::write(&config, text).unwrap();
    let run = |out: &str| {
        let mut command = cellforge(&["reproduce", "--preset", "smoke", "--out"]);
        command.arg(dir.join(out)).arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let whole = run("whole").output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));

    let mut child = run("killed").stderr(Stdio::null()).spawn().unwrap();
    wait_for(&mut child, &dir.join("killed/gan/Parasitized/last/state.json"));
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = run("killed").output().unwrap();
    let said = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{said}");
    assert!(said.contains("resnet: done before"), "{said}");

    for part in ["gan", "synthetic", "resnet", "cnn", "data"] {
        assert_eq!(files(&dir.join("whole").join(part)), files(&dir.join("killed").join(part)), "{part}");
    }
    let figures = |out: &str| {
        let mut results: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join(out).join("results.json")).unwrap()).unwrap();
        results["durations"].take();
        results["evaluation"]["seconds"].take();
        results
    };
    assert_eq!(figures("whole"), figures("killed"));
}

#[test]
fn a_longer_run_from_another_folder() {
    let dir = folder("longer");
    let data = phantom(&dir);
    let run = |out: &str, iterations: &str, more: &[&str]| {
        let mut command = cellforge(&["train", "gan", "--class", "Parasitized", "-q", "--side", "32", "--out", out]);
        command.current_dir(&dir).args(["--set", "gan.grid_at=[1]", "--iterations", iterations]).args(more);
        command
    };
    let name = std::path::Path::new(&data).file_name().unwrap().to_str().unwrap();
    let fresh = ["--data", name, "--width", "0.1", "--batch", "8", "--checkpoint-every", "10"];
    assert!(run("whole", "40", &fresh).status().unwrap().success());
    assert!(run("longer", "20", &fresh).status().unwrap().success());
    // The data was named relative to a folder that is another one now.
    let mut resumed = cellforge(&["train", "gan", "-q", "--resume", "--iterations", "40", "--out"]);
    let resumed = resumed.arg(dir.join("longer")).output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(files(&dir.join("whole")), files(&dir.join("longer")));

    let said = |out: &str, iterations: &str| {
        let ended = run(out, iterations, &["--resume"]).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    assert!(said("longer", "30").contains("40 are made already"), "{}", said("longer", "30"));
    // A rate that has begun to fall would have fallen later in a longer run.
    assert!(run("falling", "20", &[&fresh[..], &["--set", "gan.lr_decay=0.5"]].concat()).status().unwrap().success());
    let refused = said("falling", "40");
    assert!(refused.contains("cannot go on to 40 iterations: update 12 was made at a learning rate"), "{refused}");
}

#[test]
#[cfg(target_os = "linux")]
fn signals_of_batch_systems_leave_a_checkpoint() {
    let dir = folder("signals");
    let data = phantom(&dir);
    // Whoever runs the tests with `nohup` has hang-ups ignored, here and in all that is started from here.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap() & 1 == 1;
    for signal in ["-TERM", "-USR1", "-HUP"] {
        let out = dir.join(signal);
        let mut command = cellforge(&["train", "gan", "--class", "Parasitized", "--side", "32", "--width", "0.1"]);
        command.args(["--batch", "8", "--checkpoint-every", "10", "--iterations", "100000", "--data", &data]);
        let mut child = command.arg("--out").arg(&out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&mut child, &out.join("last/state.json"));
        let send = |signal: &str| {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        };
        send(signal);
        if signal == "-HUP" && ignored {
            // The work goes on.
            let before = iteration(&out);
            while iteration(&out) == before {
                std::thread::sleep(Duration::from_millis(20));
            }
            send("-TERM");
        }
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{signal}: {said}");
        assert!(said.contains("train gan --resume --out"), "{signal}: {said}");
    }
}

#[test]
fn two_runs_in_one_folder() {
    let dir = folder("two");
    let data = phantom(&dir);
    let out = dir.join("out");
    let run = |resume: &[&str], iterations: &str| {
        let mut command = cellforge(&["train", "gan", "--class", "Parasitized", "-q", "--data", &data, "--side", "32"]);
        command.args(["--width", "0.1", "--batch", "8", "--checkpoint-every", "10", "--iterations", iterations]);
        command.args(resume).arg("--out").arg(&out).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut first = run(&[], "100000").spawn().unwrap();
    wait_for(&mut first, &out.join("last/state.json"));
    for way in [&["--resume"][..], &["--overwrite"], &[]] {
        let second = run(way, "100000").output().unwrap();
        let said = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("cellforge, process {}", first.id())), "{said}");
    }
    // The first takes no notice. Once it is dead, its lock is nobody's, whatever the file says.
    let before = iteration(&out);
    wait_for(&mut first, &out.join("last/state.json"));
    std::thread::sleep(Duration::from_millis(500));
    first.kill().unwrap();
    first.wait().unwrap();
    let reached = iteration(&out);
    assert!(reached >= before);
    assert!(!fs::read(out.join(".lock")).unwrap().is_empty());
    let again = run(&["--overwrite"], "10").output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}
