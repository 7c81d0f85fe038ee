//! A run that was stopped, or killed, and resumed ends with the bytes of one that never stopped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{assert_same, cnn, fresh, gan, images, lengthen, resumed, split};
use candle_core::Device;
use cellforge_train::{
    Control, Error, Event, GanState, GanStep, GanTrainConfig, Mode, Observer, Phase, Result, RunDir, Slot, Step,
    read_log, train_classifier, train_gan,
};

/// Copies a folder and all in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn run_gan(config: &GanTrainConfig, dir: &RunDir) -> Result<cellforge_train::GanOutcome> {
    let images = images();
    train_gan(config, &images.class(0), dir, &Control::default(), &mut [])
}

#[test]
fn gan_killed_and_resumed_equals_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let outcome = run_gan(&gan(4), &fresh(&whole)).unwrap();
    assert_eq!((outcome.iterations, outcome.interrupted, outcome.grids.len()), (4, false, 2));

    // A run killed after iteration 3 has the checkpoint of iteration 2, later lines in its log, and leftovers. The
    // checkpoint of 2 comes from a run of 2, whose configuration is put right.
    run_gan(&gan(2), &fresh(&broken)).unwrap();
    lengthen(&broken, 2, 4);
    std::fs::copy(whole.join("log.jsonl"), broken.join("log.jsonl")).unwrap();
    std::fs::create_dir(broken.join("last.tmp")).unwrap();
    run_gan(&gan(4), &resumed(&broken)).unwrap();
    assert!(!broken.join("last.tmp").exists() && !broken.join("last.old").exists());
    assert_same(&whole, &broken);

    // Resuming what is complete changes nothing.
    run_gan(&gan(4), &resumed(&broken)).unwrap();
    assert_same(&whole, &broken);
}

/// Panics after an iteration, in a phase.
struct Panics(Phase, u64);

impl Observer<GanStep> for Panics {
    fn phase(&self) -> Phase {
        self.0
    }

    fn wants(&self, iteration: u64, _total: u64) -> bool {
        iteration == self.1
    }

    fn on_step(&mut self, _step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        assert!(!self.wants(event.position.iteration, event.total), "the observer is broken");
        Ok(())
    }
}

#[test]
fn a_panic_reaches_the_caller_and_leaves_the_folder_good() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run_gan(&gan(6), &fresh(&whole)).unwrap();
    // Before and after the checkpoint of the same iteration is written, and where there is none.
    for (at, (phase, iteration)) in
        [(Phase::Measure, 4), (Phase::Record, 4), (Phase::Show, 4), (Phase::Show, 5), (Phase::Show, 1)]
            .into_iter()
            .enumerate()
    {
        let out = folder.path().join(at.to_string());
        let panic = std::panic::catch_unwind(|| {
            let mut broken = Panics(phase, iteration);
            train_gan(&gan(6), &images().class(0), &fresh(&out), &Control::default(), &mut [&mut broken])
        });
        let said = panic.unwrap_err();
        assert_eq!(said.downcast_ref::<&str>(), Some(&"the observer is broken"));
        run_gan(&gan(6), &resumed(&out)).unwrap();
        assert_same(&whole, &out);
    }
}

#[test]
fn classifier_stopped_inside_an_epoch_equals_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let (split, config) = (split(), cnn(3));
    train_classifier(&config, &split.train, &split.val, &fresh(&whole), &Control::default(), &mut []).unwrap();

    // 14 images in batches of 4: epochs of 4 updates. The stop flag is up before each start, so that nothing but the
    // first checkpoint is written; then a thread raises it at some moment of the run.
    let stop = Arc::new(AtomicBool::new(true));
    let control = Control { stop: stop.clone(), ..Control::default() };
    let outcome = train_classifier(&config, &split.train, &split.val, &resumed(&broken), &control, &mut []).unwrap();
    assert_eq!((outcome.iterations, outcome.interrupted), (0, true));
    let mut stops = 0;
    loop {
        stop.store(false, Ordering::Relaxed);
        let log = broken.join("log.jsonl");
        let seen = read_log(&log).unwrap().len();
        let outcome = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                train_classifier(&config, &split.train, &split.val, &resumed(&broken), &control, &mut []).unwrap()
            });
            while read_log(&log).unwrap().len() <= seen && !run.is_finished() {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap()
        });
        if !outcome.interrupted {
            assert_eq!(outcome.epochs, 3);
            break;
        }
        stops += 1;
    }
    assert!(stops >= 1, "the run was never stopped");
    assert_same(&whole, &broken);
}

#[test]
fn a_finished_run_whose_best_is_lost_has_its_last() {
    let folder = tempfile::tempdir().unwrap();
    let (out, split) = (folder.path().join("run"), split());
    let run =
        |dir: &RunDir| train_classifier(&cnn(1), &split.train, &split.val, dir, &Control::default(), &mut []).unwrap();
    assert!(run(&fresh(&out)).best.is_some());
    std::fs::write(out.join("best/weights.safetensors"), "cut short").unwrap();
    let outcome = run(&resumed(&out));
    assert!(outcome.best.is_none() && outcome.checkpoint == out.join("last") && !out.join("best").exists());
}

#[test]
fn threads_do_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: usize| {
        let out = folder.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            run_gan(&gan(3), &fresh(&out.join("gan"))).unwrap();
            let dir = fresh(&out.join("cnn"));
            train_classifier(&cnn(1), &split().train, &split().val, &dir, &Control::default(), &mut []).unwrap();
        });
        out
    };
    let (one, three) = (run(1), run(3));
    assert_same(&one.join("gan"), &three.join("gan"));
    assert_same(&one.join("cnn"), &three.join("cnn"));
}

#[test]
fn a_folder_in_use_and_other_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    run_gan(&gan(1), &fresh(&out)).unwrap();
    assert!(matches!(run_gan(&gan(1), &fresh(&out)), Err(Error::Occupied(_))));

    let mut other = gan(1);
    other.model.dropout = 0.5;
    let error = run_gan(&other, &resumed(&out)).unwrap_err().to_string();
    assert!(error.contains("model.dropout is 0.5") && error.contains("0.25"), "{error}");
    let images = images();
    let error = train_gan(&gan(1), &images.part(&[0, 1]), &resumed(&out), &Control::default(), &mut [])
        .unwrap_err()
        .to_string();
    assert!(error.contains("images"), "{error}");

    // A run that is refused leaves the folder's settings alone; one that is not writes them.
    let note = fresh(&out).settings();
    assert!(run_gan(&gan(1), &fresh(&out).save_settings("settings")).is_err());
    assert!(run_gan(&other, &resumed(&out).save_settings("settings")).is_err());
    assert!(!note.exists());
    run_gan(&gan(1), &resumed(&out).save_settings("settings")).unwrap();
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "settings");
    std::fs::remove_file(&note).unwrap();

    let second = folder.path().join("second");
    copy(&out, &second);
    run_gan(&gan(1), &fresh(&second).mode(Mode::Overwrite)).unwrap();
    assert_same(&out, &second);
    let state: GanState = fresh(&out).checkpoint(Slot::Last).unwrap().unwrap().state("gan").unwrap();
    assert_eq!((state.position.iteration, state.config), (1, gan(1)));
}

#[test]
fn a_snapshot_brings_a_gan_back() {
    let device = Device::Cpu;
    let config = gan(1);
    let images = images();
    let batch = cellforge_data::Batch::gather(&images, &[0, 1, 2, 3], cellforge_data::Scale::SignedUnit, None, &device)
        .unwrap();
    let mut step = GanStep::new(&config, &device).unwrap();
    step.step(&batch, 1).unwrap();
    let snapshot = step.snapshot().unwrap();
    let first = step.step(&batch, 2).unwrap();
    let later = step.step(&batch, 3).unwrap();
    assert_ne!(first, later);
    step.restore(&snapshot).unwrap();
    assert_eq!(step.step(&batch, 2).unwrap(), first);
}
