//! Ranks leave the bytes of one process that accumulates gradients, stop together, go back together and fail together. Here they are threads;
//! `tests/mpi/check` of the program does the same with processes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cellforge_classify::{ClassifierConfig, ResNetConfig};
use cellforge_data::{Augment, View};
use cellforge_gan::GeneratorKind;
use cellforge_train::{
    Balance, ClassifierOutcome, ClassifierStep, ClassifierTrainConfig, Control, Dihedral, Error, Event, GanOutcome,
    GanTrainConfig, GuardConfig, Judge, Mode, MonitorConfig, Observer, Phase, Result, RunDir, Slot, Step, run_ranks,
    train_classifier, train_judged_gan,
};

use crate::common::{assert_same, cnn, everything, files, fresh, gan, gan_of_two, images, resumed, split};

/// What each of `n` ranks makes of a GAN's training.
fn gan_over(n: usize, config: &GanTrainConfig, judge: Option<&Judge>, dir: &RunDir) -> Vec<Result<GanOutcome>> {
    let train = split().train;
    let images = if config.model.classes > 1 { train } else { train.class(0) };
    run_ranks(n, |ranks| {
        let control = Control { ranks: ranks.clone(), ..Control::default() };
        ranks.conclude(train_judged_gan(config, &images, judge, dir, &control, &mut []))
    })
}

fn classifier_over(
    n: usize,
    config: &ClassifierTrainConfig,
    [train, val]: [&View; 2],
    dir: &RunDir,
) -> Vec<Result<ClassifierOutcome>> {
    run_ranks(n, |ranks| {
        let control = Control { ranks: ranks.clone(), ..Control::default() };
        ranks.conclude(train_classifier(config, train, val, dir, &control, &mut []))
    })
}

fn all_well<T>(ended: Vec<Result<T>>) {
    ended.into_iter().for_each(|ended| drop(ended.unwrap()));
}

/// The same over 1, 2 and 4 ranks.
fn assert_gan_same(config: &GanTrainConfig, judge: Option<&Judge>) {
    let folder = tempfile::tempdir().unwrap();
    let out = |n: usize| folder.path().join(n.to_string());
    for n in [1, 2, 4] {
        all_well(gan_over(n, config, judge, &fresh(&out(n))));
    }
    assert_same(&out(1), &out(2));
    assert_same(&out(1), &out(4));
}

#[test]
fn the_study_gan_has_the_bytes_of_one_process() {
    let config = GanTrainConfig { batch: 8, accumulation_steps: 4, ..gan(4) };
    assert_gan_same(&config, None);
    // Batch statistics are of the parts: it is another training than that of whole batches.
    let folder = tempfile::tempdir().unwrap();
    let [parts, whole] = ["parts", "whole"].map(|name| folder.path().join(name));
    all_well(gan_over(2, &config, None, &fresh(&parts)));
    all_well(gan_over(1, &GanTrainConfig { accumulation_steps: 1, ..config }, None, &fresh(&whole)));
    assert_ne!(files(&parts)["last/weights.safetensors"], files(&whole)["last/weights.safetensors"]);
}

#[test]
fn every_option_of_gans_has_the_bytes_of_one_process() {
    for generator in [GeneratorKind::Style, GeneratorKind::Residual] {
        let mut config = everything(5, generator);
        (config.batch, config.accumulation_steps) = (8, 4);
        assert_gan_same(&config, None);
    }
}

#[test]
fn the_recipe_best_with_its_judge_has_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, parts) = (folder.path().join("judge"), split());
    train_classifier(&cnn(2), &parts.train, &parts.val, &fresh(&dir), &Control::default(), &mut []).unwrap();
    let judge = Judge::load(&dir, &parts.val, &Control::default()).unwrap();
    let config = GanTrainConfig {
        batch: 8,
        accumulation_steps: 4,
        // Every image of a class is one of at most four orientations: it is asked for, and too few images to tell.
        dihedral: Dihedral::Auto,
        monitor: MonitorConfig { every: 2, images: 20, k: 2 },
        ..gan_of_two(5)
    };
    assert_gan_same(&config, Some(&judge));
}

#[test]
fn classifiers_have_the_bytes_of_one_process() {
    let (all, parts) = (images(), split());
    let uneven = all.part(&(0..15).collect::<Vec<_>>());
    let mut narrow =
        ClassifierTrainConfig { batch: 8, accumulation_steps: Some(4), ..ClassifierTrainConfig::default() };
    narrow.model =
        ClassifierConfig::Resnet(ResNetConfig { image_size: 32.into(), width: 0.1, ..ResNetConfig::default() });
    // 14 images: the last batch of an epoch has 6 for 4 parts, or 2, so that ranks have nothing to do.
    let cases = [
        (ClassifierTrainConfig { epochs: 2, log_every: 1, ..narrow }, &parts.train),
        (ClassifierTrainConfig { accumulation_steps: Some(4), augment: Augment::FLIPS, ..cnn(2) }, &parts.train),
        (ClassifierTrainConfig { accumulation_steps: Some(4), balance: Balance::Weights, ..cnn(2) }, &uneven),
        (
            ClassifierTrainConfig {
                accumulation_steps: Some(4),
                balance: Balance::Batches,
                patience: Some(1),
                ..cnn(3)
            },
            &uneven,
        ),
    ];
    for (config, train) in cases {
        let folder = tempfile::tempdir().unwrap();
        let out = |n: usize| folder.path().join(n.to_string());
        for n in [1, 2, 4] {
            all_well(classifier_over(n, &config, [train, &parts.val], &fresh(&out(n))));
        }
        assert_same(&out(1), &out(2));
        assert_same(&out(1), &out(4));
    }
}

/// Raises the flag of whatever rank it is given, after a step of its own thread.
struct Raises(u64, Arc<AtomicBool>);

impl<S: Step> Observer<S> for Raises {
    fn phase(&self) -> Phase {
        Phase::Show
    }

    fn on_step(&mut self, _: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.1.fetch_or(event.position.iteration == self.0, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn ranks_stop_together_and_go_on_over_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let config = GanTrainConfig { batch: 8, accumulation_steps: 4, ..gan(6) };
    all_well(gan_over(1, &config, None, &fresh(&whole)));
    let images = split().train.class(0);
    // The signal comes to rank 2 alone.
    let stop = Arc::new(AtomicBool::new(false));
    let ended = run_ranks(4, |ranks| {
        let own = if ranks.rank() == 2 { stop.clone() } else { Arc::default() };
        let control = Control { stop: own, ranks: ranks.clone(), ..Control::default() };
        let mut raises = Raises(3, stop.clone());
        ranks.conclude(train_judged_gan(&config, &images, None, &fresh(&broken), &control, &mut [&mut raises]))
    });
    let ended: Vec<(u64, bool)> = ended
        .into_iter()
        .map(|ended| ended.unwrap())
        .map(|outcome| (outcome.iterations, outcome.interrupted))
        .collect();
    assert!(ended[0].1 && (3..6).contains(&ended[0].0), "{ended:?}");
    assert_eq!(ended, [ended[0]; 4]);
    let ended = gan_over(2, &config, None, &resumed(&broken));
    assert!(ended.into_iter().all(|ended| ended.unwrap().iterations == 6));
    assert_same(&whole, &broken);
    // What is complete is complete for all.
    all_well(gan_over(4, &config, None, &resumed(&broken)));
    assert_same(&whole, &broken);
}

#[test]
fn an_observer_of_rank_0_ends_the_run_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let parts = split();
    let config = ClassifierTrainConfig { accumulation_steps: Some(2), ..cnn(5) };
    let ended = run_ranks(2, |ranks| {
        let control = Control { ranks: ranks.clone(), ..Control::default() };
        let dir = fresh(folder.path());
        ranks.conclude(train_classifier(&config, &parts.train, &parts.val, &dir, &control, &mut [&mut Ends(6)]))
    });
    let ended = ended.into_iter().map(|ended| ended.unwrap()).map(|outcome| (outcome.iterations, outcome.interrupted));
    assert_eq!(ended.collect::<Vec<_>>(), [(6, false); 2]);
}

/// Ends the run as complete after a step.
struct Ends(u64);

impl<S: Step> Observer<S> for Ends {
    fn phase(&self) -> Phase {
        Phase::Save
    }

    fn on_step(&mut self, _: &mut S, event: &mut Event<'_>) -> Result<()> {
        event.end |= event.position.iteration == self.0;
        Ok(())
    }
}

/// What the ranks said in the end.
fn said<T>(ended: Vec<Result<T>>) -> Vec<String> {
    ended.into_iter().map(|ended| ended.map_or_else(|error| error.to_string(), |_| String::new())).collect()
}

struct Breaks(u64);

impl<S: Step> Observer<S> for Breaks {
    fn phase(&self) -> Phase {
        Phase::Save
    }

    fn on_step(&mut self, _: &mut S, event: &mut Event<'_>) -> Result<()> {
        if event.position.iteration == self.0 { Err(Error::caller("the disk is full")) } else { Ok(()) }
    }
}

#[test]
fn an_error_of_rank_0_reaches_all_and_leaves_a_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let parts = split();
    let config = ClassifierTrainConfig { accumulation_steps: Some(4), ..cnn(3) };
    all_well(classifier_over(1, &config, [&parts.train, &parts.val], &fresh(&whole)));
    let ended = run_ranks(4, |ranks| {
        let control = Control { ranks: ranks.clone(), ..Control::default() };
        let (dir, mut breaks) = (fresh(&broken), Breaks(7));
        let observers: &mut [&mut dyn Observer<ClassifierStep>] = &mut [&mut breaks];
        ranks.conclude(train_classifier(&config, &parts.train, &parts.val, &dir, &control, observers))
    });
    assert_eq!(
        said(ended),
        ["the disk is full", "rank 0: the disk is full", "rank 0: the disk is full", "rank 0: the disk is full"]
    );
    all_well(classifier_over(2, &config, [&parts.train, &parts.val], &resumed(&broken)));
    assert_same(&whole, &broken);
}

#[test]
fn an_error_of_another_rank_reaches_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = GanTrainConfig { accumulation_steps: 2, ..gan(3) };
    let images = split().train.class(0);
    let none = images.first(0);
    let ended = run_ranks(2, |ranks| {
        let control = Control { ranks: ranks.clone(), ..Control::default() };
        let own = if ranks.is_root() { &images } else { &none };
        ranks.conclude(train_judged_gan(&config, own, None, &fresh(&out), &control, &mut []))
    });
    assert_eq!(said(ended), ["rank 1: images: none to train on", "images: none to train on"]);

    // A folder that is refused.
    all_well(gan_over(2, &config, None, &fresh(&out)));
    let ended = said(gan_over(2, &config, None, &fresh(&out).mode(Mode::New)));
    assert!(ended[0].ends_with("already holds a run") && ended[1] == format!("rank 0: {}", ended[0]), "{ended:?}");
}

#[test]
fn parts_must_be_shared_evenly() {
    let folder = tempfile::tempdir().unwrap();
    let config = GanTrainConfig { accumulation_steps: 2, ..gan(3) };
    let ended = said(gan_over(4, &config, None, &fresh(&folder.path().join("gan"))));
    let expected =
        "gan.accumulation_steps: 2 parts of a batch cannot be shared among 4 ranks: it must be a multiple of 4";
    assert!(ended[0] == expected && ended.iter().all(|said| said.ends_with(expected)), "{ended:?}");
    assert!(!folder.path().join("gan").exists());
}

/// A GAN at a rate that leads to losses that are not finite.
fn absurd(guard: GuardConfig) -> GanTrainConfig {
    GanTrainConfig { lr: 1e30, batch: 8, accumulation_steps: 4, guard, ..gan(4) }
}

#[test]
fn a_divergence_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let ended = said(gan_over(4, &absurd(GuardConfig::default()), None, &fresh(&folder.path().join("gan"))));
    assert!(ended[0].contains("training has diverged"), "{ended:?}");
    assert!(ended.iter().all(|said| said.ends_with(&ended[0])), "{ended:?}");
}

#[test]
fn the_guard_takes_all_back() {
    // Found by rank 0 alone (a limit of losses), and by every rank (numbers that are not finite).
    let limits = GanTrainConfig {
        lr: 0.05,
        batch: 8,
        accumulation_steps: 4,
        guard: GuardConfig { enabled: true, limit: 0.9, factor: 0.01, rollbacks: 2, ..GuardConfig::default() },
        ..gan(8)
    };
    let not_finite = absurd(GuardConfig { enabled: true, factor: 1e-34, ..GuardConfig::default() });
    for (config, name) in [(limits, "limit"), (not_finite, "finite")] {
        let folder = tempfile::tempdir().unwrap();
        let out = |n: usize| folder.path().join(n.to_string());
        let alone = said(gan_over(1, &config, None, &fresh(&out(1))));
        for n in [2, 4] {
            let ended = said(gan_over(n, &config, None, &fresh(&out(n))));
            // Where it gives up in the end, the message names its own folder.
            let of_alone = alone[0].replace(&out(1).display().to_string(), &out(n).display().to_string());
            assert_eq!(ended[0], of_alone, "{name}");
            assert_same_or_both_empty(&out(1), &out(n));
        }
        let state = |n| -> cellforge_train::GanState {
            fresh(&out(n)).checkpoint(Slot::Last).unwrap().unwrap().state("gan").unwrap()
        };
        assert!(!state(4).guard.rollbacks.is_empty(), "{name}: the guard had nothing to do");
    }
}

fn assert_same_or_both_empty(a: &Path, b: &Path) {
    if files(a).contains_key("last/weights.safetensors") {
        assert_same(a, b);
    }
    assert_eq!(files(a).keys().collect::<Vec<_>>(), files(b).keys().collect::<Vec<_>>());
}
