//! Steps and observers of the caller's own.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use cellforge_train::checkpoint::WEIGHTS;
use cellforge_train::observers::{Checkpoints, Criterion, EarlyStop, JsonlLog, Patience};
use cellforge_train::{
    Control, Error, Event, FitPlan, GanStep, Losses, Mode, Observer, Outcome, Phase, Position, Ranks, Result, RunDir,
    Slot, Snapshot, State, Step, fit, losses, read_log, train_gan,
};

use crate::common::{fresh, gan, images, resumed};

/// Adds up its batches.
struct Sum {
    sum: f32,
    unread: Vec<Losses>,
}

impl Sum {
    fn new() -> Self {
        Self { sum: 0.0, unread: Vec::new() }
    }
}

impl Step for Sum {
    type Batch = f32;
    fn update(&mut self, batch: &f32, _iteration: u64) -> Result<()> {
        self.sum += batch;
        self.unread.push(vec![(losses::LOSS, self.sum)]);
        Ok(())
    }
    fn losses(&mut self) -> Result<Vec<Losses>> {
        Ok(std::mem::take(&mut self.unread))
    }
    fn snapshot(&self) -> Result<Snapshot> {
        let tensors = [("sum".to_owned(), Tensor::new(self.sum, &Device::Cpu)?)].into();
        Ok(Snapshot { files: [(WEIGHTS.to_owned(), tensors)].into() })
    }
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.sum = snapshot.file(WEIGHTS)?["sum"].to_scalar()?;
        Ok(())
    }
}

/// Adds a figure to every step: 5, 4, 3, 4, 5, 6, ...
struct Measure;

impl<S: Step> Observer<S> for Measure {
    fn phase(&self) -> Phase {
        Phase::Measure
    }
    fn on_step(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        let distance = event.position.iteration.abs_diff(3);
        event.figures.push(("distance".to_owned(), 3.0 + distance as f32));
        Ok(())
    }
}

fn plan<'a>(start: &Position, total: u64, stop: &'a AtomicBool) -> FitPlan<'a> {
    FitPlan { start: start.clone(), total, epoch_len: None, prefetch: 2, read_every: 1, stop, ranks: Ranks::alone() }
}

/// Trains to `total` updates, with a checkpoint every other, and ends it `patience` updates after the lowest distance.
fn run(dir: &RunDir, config: &str, total: u64, patience: u64) -> Result<(Sum, Outcome)> {
    let (mut step, stop) = (Sum::new(), AtomicBool::new(false));
    let state = State::new("sum", 1, vec![], "numbers".to_owned(), config.to_owned());
    let run = dir.open(&mut step, state, &Device::Cpu)?;
    let by = Criterion::lowest("distance");
    let early = EarlyStop::new(by.clone(), Patience::Iterations(patience));
    let start = run.state.position.clone();
    let mut early = match read_log(&dir.log()) {
        Ok(log) => early.since_logged(&log, &start),
        Err(_) => early,
    };
    let (mut log, mut checkpoints) = (JsonlLog::new(dir.log(), 1, 2), Checkpoints::new(run, 2, Some(by)));
    // In no order at all.
    let observers: &mut [&mut dyn Observer<Sum>] = &mut [&mut checkpoints, &mut early, &mut log, &mut Measure];
    let outcome = fit(&mut step, |iteration| Ok(iteration as f32), plan(&start, total, &stop), observers)?;
    Ok((step, outcome))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_step_of_ones_own_has_checkpoints_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let (step, _) = run(&fresh(&whole), "a", 5, 100).unwrap();
    assert_eq!(step.sum, 15.0);
    run(&fresh(&broken), "a", 3, 100).unwrap();
    assert!(matches!(run(&fresh(&broken), "a", 5, 100), Err(Error::Occupied(_))));
    let other = run(&resumed(&broken), "b", 5, 100).map(|_| ()).unwrap_err();
    assert!(matches!(&other, Error::Mismatch { field, .. } if field == "config"), "{other}");
    let (step, outcome) = run(&resumed(&broken), "a", 5, 100).unwrap();
    assert_eq!((step.sum, outcome.position.iteration, outcome.interrupted), (15.0, 5, false));
    assert_eq!(text(&fresh(&broken).log()), text(&fresh(&whole).log()));

    let best = fresh(&broken).checkpoint(Slot::Best).unwrap().unwrap();
    let state: State<String> = best.state("sum").unwrap();
    assert_eq!((state.position.iteration, state.best.unwrap().value), (3, 3.0));
    assert_eq!(best.tensors(WEIGHTS, &Device::Cpu).unwrap()["sum"].to_scalar::<f32>().unwrap(), 6.0);
    assert!(matches!(best.state::<String>("gan"), Err(Error::Unsuitable { .. })));

    let (step, _) = run(&fresh(&broken).mode(Mode::Overwrite), "b", 1, 100).unwrap();
    assert_eq!((step.sum, text(&fresh(&broken).log()).lines().count()), (1.0, 1));
}

#[test]
fn a_run_ends_when_patience_does_also_after_it_was_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let (_, outcome) = run(&fresh(&whole), "a", 100, 4).unwrap();
    assert_eq!((outcome.position.iteration, outcome.interrupted), (7, false));
    for (total, reached) in [(5, 5), (100, 7), (100, 7)] {
        let (_, outcome) = run(&resumed(&broken), "a", total, 4).unwrap();
        assert_eq!((outcome.position.iteration, outcome.interrupted), (reached, false));
    }
    assert_eq!(text(&fresh(&broken).log()), text(&fresh(&whole).log()));
}

/// Notes when it was asked.
struct Asked(Phase, Rc<RefCell<Vec<Phase>>>);

impl Observer<Sum> for Asked {
    fn phase(&self) -> Phase {
        self.0
    }
    fn on_step(&mut self, _step: &mut Sum, _event: &mut Event<'_>) -> Result<()> {
        self.1.borrow_mut().push(self.0);
        Ok(())
    }
}

#[test]
fn observers_are_asked_phase_by_phase() {
    let (asked, stop) = (Rc::default(), AtomicBool::new(false));
    let phases = [Phase::Show, Phase::Save, Phase::Measure, Phase::Record];
    let [mut a, mut b, mut c, mut d] = phases.map(|phase| Asked(phase, Rc::clone(&asked)));
    let observers: &mut [&mut dyn Observer<Sum>] = &mut [&mut a, &mut b, &mut c, &mut d];
    fit(&mut Sum::new(), |_| Ok(1.0), plan(&Position::default(), 1, &stop), observers).unwrap();
    assert_eq!(*asked.borrow(), [Phase::Measure, Phase::Record, Phase::Save, Phase::Show]);
}

/// Fails at a step.
struct Refuse(u64);

impl Observer<GanStep> for Refuse {
    fn phase(&self) -> Phase {
        Phase::Save
    }
    fn on_step(&mut self, _step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        if event.position.iteration == self.0 {
            return Err(Error::caller("enough"));
        }
        Ok(())
    }
}

#[test]
fn a_gan_is_watched_by_observers_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (images, dir) = (images(), fresh(folder.path()));
    let control = Control::default();
    let images = images.class(0);
    let error = train_gan(&gan(4), &images, &dir, &control, &mut [&mut Refuse(3), &mut Measure]).unwrap_err();
    assert!(matches!(&error, Error::Caller(_)) && error.to_string() == "enough", "{error}");
    let log = read_log(&dir.log()).unwrap();
    assert_eq!(log.iter().map(|line| line.values["distance"]).collect::<Vec<_>>(), [5.0, 4.0, 3.0]);
    // The checkpoint of iteration 2 is there to go on from.
    train_gan(&gan(4), &images, &resumed(folder.path()), &control, &mut [&mut Measure]).unwrap();
    assert_eq!(read_log(&dir.log()).unwrap().len(), 4);
}
