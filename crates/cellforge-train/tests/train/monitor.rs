//! A GAN that is judged as it trains, and one whose training goes wrong.

use std::path::Path;

use crate::common::{assert_same, cnn, files, fresh, gan, images, lengthen, resumed, split};
use candle_core::Device;
use cellforge_data::{View, ViewParts};
use cellforge_eval::{frechet_distance, mean_distance, prdc};
use cellforge_nn::{Key, one_hot};
use cellforge_train::{
    Best, Control, Error, GanOutcome, GanState, GanTrainConfig, GuardConfig, GuardState, Judge, LogEvent, LogLine,
    Mode, MonitorConfig, Result, RunDir, Slot, TrainedGan, read_log, train_classifier, train_gan, train_judged_gan,
};

/// The recipe for both classes, in small, judged every other iteration.
fn both(iterations: u64) -> GanTrainConfig {
    let small = gan(iterations);
    let mut config = GanTrainConfig {
        iterations,
        batch: 4,
        seed: 5,
        grid_at: small.grid_at,
        grid_images: 4,
        checkpoint_every: 2,
        log_every: 100,
        monitor: MonitorConfig { every: 2, images: 40, k: 2 },
        // A run that is lengthened has had the rates of the longer one.
        lr_decay: 0.0,
        ..GanTrainConfig::recipe("best").unwrap().for_images(64, 3, 2)
    };
    (config.model.image_size, config.model.width, config.model.latent) = (32.into(), 0.1, 8);
    config
}

/// The study's GAN in small, judged at every iteration, at a rate that is too high.
fn wild(iterations: u64) -> GanTrainConfig {
    GanTrainConfig {
        monitor: MonitorConfig { every: 1, images: 20, k: 2 },
        checkpoint_every: 4,
        lr: 0.05,
        ..gan(iterations)
    }
}

fn judge(dir: &Path) -> Judge {
    let parts = split();
    train_classifier(&cnn(2), &parts.train, &parts.val, &fresh(dir), &Control::default(), &mut []).unwrap();
    Judge::load(dir, &parts.val, &Control::default()).unwrap()
}

fn train(config: &GanTrainConfig, judge: Option<&Judge>, dir: &RunDir) -> Result<GanOutcome> {
    let train = split().train;
    let images = if config.model.classes > 1 { train } else { train.class(0) };
    train_judged_gan(config, &images, judge, dir, &Control::default(), &mut [])
}

fn last(out: &Path) -> GanState {
    fresh(out).checkpoint(Slot::Last).unwrap().unwrap().state("gan").unwrap()
}

#[test]
fn figures_are_those_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let (judge, out, device) = (judge(&folder.path().join("judge")), folder.path().join("gan"), Device::Cpu);
    train(&both(3), Some(&judge), &fresh(&out)).unwrap();
    let log = read_log(&out.join("log.jsonl")).unwrap();
    let judged: Vec<&LogLine> = log.iter().filter(|line| line.values.contains_key("fd")).collect();
    // Every other iteration and the last, though the log is to have every hundredth.
    assert_eq!(judged.iter().map(|line| line.iteration).collect::<Vec<_>>(), [2, 3]);
    assert!(judged[0].values.contains_key("g"), "the losses stand beside the figures");

    let gan = TrainedGan::load(out.join("last")).unwrap();
    let val = split().val;
    let mut sums = [0f64; 6];
    for (label, class) in ["Parasitized", "Uninfected"].into_iter().enumerate() {
        let key = Key::new(5).with("gan").with("").with("monitor").with(class);
        let mut pixels = Vec::new();
        for batch in 0..2 {
            let noise = key.at(batch).normal((32, 8), &device).unwrap();
            let rows = one_hot(&[label as u32; 32], 2, &device).unwrap();
            let images = gan.generator().forward_class_t(&noise, Some(&rows), false).unwrap();
            let values = images.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            pixels.extend(values.iter().map(|x| ((x + 1.0) * 127.5).round() as u8));
        }
        pixels.truncate(40 * 32 * 32 * 3);
        let images = View::new(ViewParts { size: 32.into(), channels: 3, pixels, ..ViewParts::default() }).unwrap();
        let reals = val.class(label as u32);
        let [fakes, reals] = [&images, &reals].map(|images| judge.classifier.features(images).unwrap());
        let [fakes, reals] = [&fakes, &reals].map(|found| found.checked().unwrap());
        let near = prdc(reals, fakes, 2).unwrap();
        let rows = judge.classifier.predict(&images).unwrap();
        let recognised = rows.iter().filter(|row| row[label] >= row[1 - label]).count() as f64 / 40.0;
        let diversity = mean_distance(fakes).unwrap() / mean_distance(reals).unwrap();
        let expected = [
            ("fd", frechet_distance(reals, fakes).unwrap()),
            ("precision", near.precision),
            ("recall", near.recall),
            ("coverage", near.coverage),
            ("recognised", recognised),
            ("diversity", diversity),
        ];
        for ((name, value), sum) in expected.into_iter().zip(&mut sums) {
            assert_eq!(judged[1].values[&format!("{name}_{class}")], value as f32, "{name} of {class}");
            *sum += value;
        }
    }
    for (name, sum) in ["fd", "precision", "recall", "coverage", "recognised", "diversity"].into_iter().zip(sums) {
        assert_eq!(judged[1].values[name], (sum / 2.0) as f32, "{name}");
    }
}

#[test]
fn the_best_generator_is_the_one_of_the_lowest_distance() {
    let folder = tempfile::tempdir().unwrap();
    let (judge, out) = (judge(&folder.path().join("judge")), folder.path().join("gan"));
    let outcome = train(&wild(8), Some(&judge), &fresh(&out)).unwrap();
    let log = read_log(&outcome.log).unwrap();
    let lowest = log.iter().min_by(|a, b| a.values["fd"].total_cmp(&b.values["fd"])).unwrap();
    assert_ne!(lowest.iteration, 8, "the last is not a case to tell best from last by");
    let best = outcome.best.unwrap();
    assert_eq!((best.iteration, best.value), (lowest.iteration, lowest.values["fd"]));
    // One class has no figures beside the means.
    assert!(log[0].values.keys().all(|name| !name.contains("Parasitized")));

    let state = TrainedGan::load(&out).unwrap().state().clone();
    assert_eq!((state.position.iteration, outcome.checkpoint), (best.iteration, out.join("best")));
    assert_eq!((last(&out).position.iteration, last(&out).best), (8, Some(best)));
    // Resuming what is complete goes on from the last, and changes nothing.
    let before = files(&out);
    train(&wild(8), Some(&judge), &resumed(&out)).unwrap();
    assert!(files(&out) == before);
    // Without a judge there is no best one.
    let other = folder.path().join("other");
    let outcome = train(&wild(2), None, &fresh(&other)).unwrap();
    assert!(outcome.best.is_none() && outcome.checkpoint == other.join("last") && !other.join("best").exists());
}

#[test]
fn a_judged_run_that_was_killed_equals_one_that_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let judge = judge(&folder.path().join("judge"));
    train(&both(6), Some(&judge), &fresh(&whole)).unwrap();
    train(&both(4), Some(&judge), &fresh(&broken)).unwrap();
    lengthen(&broken, 4, 6);
    std::fs::copy(whole.join("log.jsonl"), broken.join("log.jsonl")).unwrap();

    // Another judge, or none, would choose another best one.
    for other in [None, Some(Judge { id: "another".into(), ..judge.clone() })] {
        let error = train(&both(6), other.as_ref(), &resumed(&broken)).unwrap_err();
        assert!(matches!(&error, Error::Mismatch { field, .. } if field.contains("judge")), "{error}");
    }
    train(&both(6), Some(&judge), &resumed(&broken)).unwrap();
    assert_same(&whole, &broken);
}

#[test]
fn a_best_that_is_lost_is_found_anew() {
    let folder = tempfile::tempdir().unwrap();
    let judge = judge(&folder.path().join("judge"));
    for name in ["damaged", "gone"] {
        let out = folder.path().join(name);
        train(&wild(2), Some(&judge), &fresh(&out)).unwrap();
        lengthen(&out, 2, 3);
        match name {
            "gone" => std::fs::remove_dir_all(out.join("best")).unwrap(),
            _ => std::fs::write(out.join("best/weights.safetensors"), "cut short").unwrap(),
        }
        let outcome = train(&wild(3), Some(&judge), &resumed(&out)).unwrap();
        // The one point since.
        assert_eq!((outcome.iterations, outcome.best.map(|best| best.iteration)), (3, Some(3)), "{name}");
        assert_eq!(TrainedGan::load(&out).unwrap().state().position.iteration, 3, "{name}");
    }
}

#[test]
fn a_judge_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, out) = (folder.path().join("judge"), folder.path().join("gan"));
    let judge = judge(&dir);
    let refused = |config: &GanTrainConfig, judge: &Judge, part: &str| {
        let error = train(config, Some(judge), &fresh(&out)).unwrap_err().to_string();
        assert!(error.starts_with("judge: ") && error.contains(part), "{error}");
    };
    refused(&GanTrainConfig { class: "Apple".into(), ..wild(2) }, &judge, "Apple");
    refused(&both(2), &Judge { images: judge.images.first(4), ..judge.clone() }, "1 validation images of class Uninf");
    let turned = Judge { images: judge.images.whole().part(&[0; 3]), ..judge.clone() };
    refused(&wild(2), &turned, "same features");
    assert!(!out.exists());

    let one = |classes: &[&str], side: usize| {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        let pixels = vec![0; side * side * 3];
        View::new(ViewParts { classes, size: side.into(), channels: 3, pixels, ..ViewParts::default() }).unwrap()
    };
    let error = Judge::load(&dir, &one(&["a"], 32), &Control::default()).unwrap_err().to_string();
    assert!(error.contains("Parasitized, Uninfected apart, the images are of a"), "{error}");
    let error =
        Judge::load(&dir, &one(&["Parasitized", "Uninfected"], 16), &Control::default()).unwrap_err().to_string();
    assert!(error.contains("16x16"), "{error}");
}

/// A rate at which the first updates leave nothing, and a factor that makes a sane one of it.
const ABSURD: (f64, f64) = (1e30, 1e-34);

fn absurd(iterations: u64, guard: GuardConfig) -> GanTrainConfig {
    GanTrainConfig { lr: ABSURD.0, guard: GuardConfig { enabled: true, ..guard }, ..gan(iterations) }
}

#[test]
fn a_run_that_diverges_starts_again_at_a_lower_rate() {
    let folder = tempfile::tempdir().unwrap();
    let [guarded, plain, broken] = ["guarded", "plain", "broken"].map(|name| folder.path().join(name));
    let config = |iterations| absurd(iterations, GuardConfig { factor: ABSURD.1, ..GuardConfig::default() });
    let outcome = train(&config(4), None, &fresh(&guarded)).unwrap();
    assert_eq!((outcome.iterations, outcome.rollbacks), (4, 1));
    let state = last(&guarded);
    assert_eq!((state.guard.rollbacks.len(), state.guard.rate()), (1, ABSURD.1));
    assert_eq!(state.guard.rollbacks[0].to, 0);

    // Nothing of the first attempt is left: the weights are those of a run that had the low rate from the start.
    train(&GanTrainConfig { lr: ABSURD.0 * ABSURD.1, ..gan(4) }, None, &fresh(&plain)).unwrap();
    for file in ["weights", "discriminator", "optimiser"] {
        let file = format!("last/{file}.safetensors");
        assert!(files(&guarded)[&file] == files(&plain)[&file], "{file}");
    }
    // And so is the log, after a line that tells.
    let (log, expected) = (read_log(&outcome.log).unwrap(), read_log(&plain.join("log.jsonl")).unwrap());
    assert_eq!((log[0].event, log[0].iteration, log[0].values["rollbacks"]), (LogEvent::Rollback, 0, 1.0));
    assert_eq!((log[0].values["rate"], log[0].values["from"]), (1e-34, state.guard.rollbacks[0].from as f32));
    assert_eq!(log[1..], expected[..]);

    // Killed after the checkpoint of iteration 2, it goes on at the low rate.
    train(&config(2), None, &fresh(&broken)).unwrap();
    lengthen(&broken, 2, 4);
    std::fs::copy(guarded.join("log.jsonl"), broken.join("log.jsonl")).unwrap();
    train(&config(4), None, &resumed(&broken)).unwrap();
    assert_same(&guarded, &broken);
}

#[test]
fn the_guard_gives_up_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let run = |config: &GanTrainConfig, name: &str, mode: Mode| {
        train(config, None, &fresh(&folder.path().join(name)).mode(mode)).unwrap_err()
    };
    let config = absurd(4, GuardConfig { rollbacks: 2, ..GuardConfig::default() });
    let out = folder.path().join("run");
    for mode in [Mode::New, Mode::Resume] {
        let error = run(&config, "run", mode);
        assert!(matches!(error, Error::Unstable { rollbacks: 2, .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("checkpoint is {}", out.join("last").display())), "{error}");
        let rates: Vec<f64> = last(&out).guard.rollbacks.iter().map(|rollback| rollback.rate).collect();
        assert_eq!(rates, [0.5, 0.25]);
    }
    // With no guard it is the divergence itself, and nothing is saved.
    let error = run(&GanTrainConfig { guard: GuardConfig::default(), ..config.clone() }, "plain", Mode::New);
    assert!(matches!(error, Error::Diverged { .. } | Error::Tensor(_)), "{error:?}");
    // Losses that are beyond the limit from the start.
    let guard = GuardConfig { enabled: true, limit: 1e-9, rollbacks: 0, ..GuardConfig::default() };
    let error = run(&GanTrainConfig { guard, ..gan(4) }, "low", Mode::New);
    assert!(error.to_string().contains("no good checkpoint") && error.to_string().contains("limit"), "{error}");
    assert!(fresh(&folder.path().join("low")).checkpoint(Slot::Last).unwrap().is_none());
}

#[test]
fn losses_beyond_the_limit_go_back_to_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (free, guarded) = (folder.path().join("free"), folder.path().join("guarded"));
    let outcome = train(&wild(16), None, &fresh(&free)).unwrap();
    let largest = |line: &LogLine| line.values.values().fold(0f32, |most, value| most.max(value.abs()));
    let sizes: Vec<f32> = read_log(&outcome.log).unwrap().iter().map(largest).collect();
    // The first iteration after a checkpoint whose losses are larger than all before.
    let before = |at: usize| sizes[..at].iter().copied().fold(0f32, f32::max);
    let at = (4..16).find(|&at| sizes[at] > before(at)).expect("losses that grow");
    let limit = f64::from(before(at));
    let guard = GuardConfig { enabled: true, limit, factor: 0.01, ..GuardConfig::default() };
    // Whether the lower rate is enough is not the question here.
    let _ = train(&GanTrainConfig { guard, ..wild(16) }, None, &fresh(&guarded));
    let first = &last(&guarded).guard.rollbacks[0];
    assert_eq!((first.from, first.to, first.rate), (at as u64 + 1, at as u64 / 4 * 4, 0.01));
    assert!(first.reason.contains("beyond the limit"), "{}", first.reason);
}

#[test]
fn a_collapse_goes_back_to_the_best_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (free, guarded) = (folder.path().join("free"), folder.path().join("guarded"));
    let judge = judge(&folder.path().join("judge"));
    let outcome = train(&wild(16), Some(&judge), &fresh(&free)).unwrap();
    let log = read_log(&outcome.log).unwrap();
    let fds: Vec<f32> = log.iter().map(|line| line.values["fd"]).collect();
    // A bound for diversity that the unguarded run falls below for two points.
    let guard =
        |diversity| GuardConfig { diversity, recall: 0.0, rollbacks: 1, factor: 0.01, ..GuardConfig::default() };
    let collapse = |config: &GuardConfig| {
        let mut state = GuardState::default();
        log.iter().position(|line| {
            let [fd, diversity, recall] = ["fd", "diversity", "recall"].map(|name| line.values[name]);
            state.see(config, fd, diversity, recall).is_some()
        })
    };
    let diversities: Vec<f32> = log.iter().map(|line| line.values["diversity"]).collect();
    let found = diversities.iter().map(|&bound| guard(f64::from(bound)));
    let found = found.into_iter().find_map(|config| Some((collapse(&config)?, config)));
    let (at, config) =
        found.unwrap_or_else(|| panic!("no two points of less diversity than before: {diversities:?}, {fds:?}"));
    let best = log[..at].iter().min_by(|a, b| a.values["fd"].total_cmp(&b.values["fd"])).unwrap().iteration;

    let guarded_config = GanTrainConfig { guard: GuardConfig { enabled: true, ..config.clone() }, ..wild(16) };
    let ended = train(&guarded_config, Some(&judge), &fresh(&guarded));
    let state = last(&guarded);
    let first = &state.guard.rollbacks[0];
    assert_eq!((first.from, first.to), (at as u64 + 1, best), "{}", first.reason);
    assert!(first.reason.contains("diversity"), "{}", first.reason);
    // The log is cut back to the best one, and says so; up to there it is that of the unguarded run.
    let cut = read_log(&guarded.join("log.jsonl")).unwrap();
    let turn = cut.iter().position(|line| line.event == LogEvent::Rollback).unwrap();
    assert_eq!((cut[turn].iteration, turn as u64), (best, best));
    assert_eq!(cut[..turn], log[..turn]);
    assert!(state.best.unwrap().value <= log[best as usize - 1].values["fd"]);
    if ended.is_ok() {
        assert_eq!(cut.last().unwrap().iteration, 16);
    }
}

#[test]
fn every_setting_is_saved_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let images = images();
    train_gan(&gan(1), &images.class(0), &fresh(folder.path()), &Control::default(), &mut []).unwrap();
    let state = std::fs::read_to_string(folder.path().join("last/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state.get("guard").is_none() && state.get("judge").is_none(), "{state}");
    assert_eq!(state["config"]["gan"]["guard"]["enabled"], false);
    assert_eq!(state["config"]["gan"]["monitor"]["every"], 0);

    // A checkpoint from before the best's iteration was recorded.
    let old = r#"{"value": 0.5, "epoch": 3}"#;
    let best: Best = serde_json::from_str(old).unwrap();
    assert_eq!((best.epoch, best.iteration), (3, 0));
}
