//! The loop itself: what observers are told, and when losses are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use cellforge_data::{Batch, Scale};
use cellforge_gan::AugmentConfig;
use cellforge_train::observers::JsonlLog;
use cellforge_train::{
    Error, Event, FitPlan, GanStep, GanTrainConfig, Losses, Observer, Outcome, Phase, Position, Ranks, Result,
    Snapshot, Step, fit,
};

use crate::common::{gan, images};

/// A step whose loss is what the batch says. Counts updates and how often losses are read.
#[derive(Default)]
struct Echo {
    unread: Vec<Losses>,
    updates: u64,
    reads: usize,
}

impl Step for Echo {
    type Batch = f32;
    fn update(&mut self, batch: &f32, _iteration: u64) -> Result<()> {
        self.updates += 1;
        self.unread.push(vec![("loss", *batch)]);
        Ok(())
    }
    fn losses(&mut self) -> Result<Vec<Losses>> {
        self.reads += 1;
        Ok(std::mem::take(&mut self.unread))
    }
    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }
    fn restore(&mut self, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }
}

/// Wants the steps `at`, or none, and keeps what it is told.
#[derive(Default)]
struct Record {
    at: Vec<u64>,
    steps: Vec<(u64, f32)>,
    epochs: Vec<(u64, f32)>,
    /// For each step, how many updates had been done when it was told.
    updates: Vec<u64>,
}

impl Observer<Echo> for Record {
    fn phase(&self) -> Phase {
        Phase::Record
    }
    fn wants(&self, iteration: u64, _total: u64) -> bool {
        self.at.contains(&iteration)
    }
    fn on_step(&mut self, step: &mut Echo, event: &mut Event<'_>) -> Result<()> {
        self.steps.push((event.position.iteration, event.losses[0].1));
        self.updates.push(step.updates);
        Ok(())
    }
    fn on_epoch(&mut self, step: &mut Echo, event: &mut Event<'_>) -> Result<()> {
        assert_eq!(step.updates, event.position.iteration);
        self.epochs.push((event.position.epoch, event.losses[0].1));
        Ok(())
    }
}

fn plan(total: u64, epoch_len: Option<u64>, read_every: u64, stop: &AtomicBool) -> FitPlan<'_> {
    FitPlan { start: Position::default(), total, epoch_len, prefetch: 2, read_every, stop, ranks: Ranks::alone() }
}

fn echo(at: &[u64], plan: FitPlan<'_>) -> (Echo, Record, Outcome) {
    let (mut step, mut record) = (Echo::default(), Record { at: at.to_vec(), ..Record::default() });
    let outcome = fit(&mut step, |iteration| Ok(iteration as f32), plan, &mut [&mut record]).unwrap();
    (step, record, outcome)
}

#[test]
fn the_loop_counts_from_one_and_averages_epochs() {
    let stop = AtomicBool::new(false);
    // An epoch's end is told at once, however seldom losses are read.
    for (read_every, reads) in [(1, 4), (10, 2)] {
        let (step, record, outcome) = echo(&[], plan(4, Some(2), read_every, &stop));
        assert_eq!(record.steps, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        assert_eq!(record.epochs, [(1, 1.5), (2, 3.5)]);
        assert_eq!((outcome.position.iteration, outcome.position.epoch, outcome.interrupted), (4, 2, false));
        assert_eq!(step.reads, reads);
    }
}

#[test]
fn losses_are_read_together_until_an_observer_wants_a_step() {
    let stop = AtomicBool::new(false);
    let (step, record, _) = echo(&[4], plan(9, None, 3, &stop));
    assert_eq!(record.steps, (1..=9).map(|i| (i, i as f32)).collect::<Vec<_>>());
    // After 3, for the observer after 4, after 7, and at the end.
    assert_eq!((step.reads, record.updates), (4, vec![3, 3, 3, 4, 7, 7, 7, 9, 9]));
}

#[test]
fn a_loss_that_is_not_finite_stops_before_it_is_observed() {
    let stop = AtomicBool::new(false);
    for read_every in [1, 10] {
        let mut record = Record::default();
        let make = |iteration| Ok(if iteration == 3 { f32::NAN } else { 1.0 });
        let error = fit(&mut Echo::default(), make, plan(4, None, read_every, &stop), &mut [&mut record]).unwrap_err();
        assert!(matches!(error, Error::Diverged { iteration: 3, .. }), "{error}");
        assert_eq!(record.steps.len(), 2);
    }
}

/// Nothing that was done is left untold.
#[test]
fn a_run_that_is_stopped_reads_what_it_has() {
    struct Stopper<'a>(&'a AtomicBool);
    impl Observer<Echo> for Stopper<'_> {
        fn phase(&self) -> Phase {
            Phase::Save
        }
        fn wants(&self, iteration: u64, _total: u64) -> bool {
            // Asked after the step, as a signal would come.
            self.0.fetch_or(iteration == 5, Ordering::Relaxed);
            false
        }
    }
    let stop = AtomicBool::new(false);
    let (mut step, mut record) = (Echo::default(), Record::default());
    let make = |iteration| Ok(iteration as f32);
    let observers: &mut [&mut dyn Observer<Echo>] = &mut [&mut record, &mut Stopper(&stop)];
    let outcome = fit(&mut step, make, plan(100, None, 4, &stop), observers).unwrap();
    assert!(outcome.interrupted);
    // The flag rises as step 5 is over; step 6 is under way, or not begun.
    assert!((5..=6).contains(&outcome.position.iteration), "{}", outcome.position.iteration);
    assert_eq!((step.updates, record.steps.len() as u64), (outcome.position.iteration, outcome.position.iteration));
}

/// What a step tells and what it did are one to one.
#[test]
fn losses_that_are_too_few_or_too_many_are_an_error() {
    let stop = AtomicBool::new(false);
    let mut step = Echo::default();
    step.update(&1.0, 0).unwrap();
    let error = fit(&mut step, |_| Ok(1.0), plan(4, None, 2, &stop), &mut []).unwrap_err();
    assert!(error.to_string().contains("the losses of 3 updates, not of 2"), "{error}");
}

fn adaptive() -> GanTrainConfig {
    let augment = AugmentConfig { flips: true, ada_target: Some(0.01), ada_speed: 40, ..AugmentConfig::default() };
    GanTrainConfig { augment, ..gan(11) }
}

fn batch(iteration: u64) -> Batch {
    let first = iteration as usize % 4;
    Batch::gather(&images(), &[first, first + 1, first + 2, first + 3], Scale::SignedUnit, None, &Device::Cpu).unwrap()
}

/// Every number a checkpoint would hold, bit for bit, by file and name.
type Bits = BTreeMap<(String, String), Vec<u64>>;

fn bits(step: &GanStep) -> Bits {
    let numbers = |tensor: &Tensor| -> Vec<u64> {
        let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values.into_iter().map(f64::to_bits).collect()
    };
    let files = step.snapshot().unwrap().files;
    let of = |(stem, tensors): (&String, &BTreeMap<String, Tensor>)| -> Vec<_> {
        tensors.iter().map(|(name, tensor)| ((stem.clone(), name.clone()), numbers(tensor))).collect()
    };
    files.iter().flat_map(of).collect()
}

/// Keeps what a checkpoint after some steps would hold.
struct Keep {
    at: Vec<u64>,
    kept: Vec<Bits>,
}

impl Observer<GanStep> for Keep {
    fn phase(&self) -> Phase {
        Phase::Save
    }
    fn wants(&self, iteration: u64, _total: u64) -> bool {
        self.at.contains(&iteration)
    }
    fn on_step(&mut self, step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        if self.wants(event.position.iteration, event.total) {
            self.kept.push(bits(step));
        }
        Ok(())
    }
}

#[test]
fn how_often_losses_are_read_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let run = |read_every: u64| {
        let mut step = GanStep::new(&adaptive(), &Device::Cpu).unwrap();
        let log = folder.path().join(format!("{read_every}.jsonl"));
        let (mut jsonl, mut keep) = (JsonlLog::new(&log, 1, 0), Keep { at: vec![3, 6], kept: vec![] });
        fit(&mut step, |i| Ok(batch(i)), plan(11, None, read_every, &stop), &mut [&mut jsonl, &mut keep]).unwrap();
        assert_eq!(keep.kept.len(), 2);
        (bits(&step), keep.kept, std::fs::read_to_string(log).unwrap())
    };
    let plain = run(1);
    assert_eq!(plain.2.lines().count(), 11);
    for read_every in [2, 5, 100] {
        assert!(run(read_every) == plain, "losses read every {read_every} steps");
    }
}

/// As in StyleGAN2-ADA, the chance of augmentations moves every fourth iteration, by the images since; a checkpoint in between knows
/// what was counted so far.
#[test]
fn the_chance_of_augmentations_moves_every_fourth_iteration() {
    let config = adaptive();
    let mut step = GanStep::new(&config, &Device::Cpu).unwrap();
    let chance = |losses: &Losses| losses.iter().find(|(name, _)| *name == "augment").unwrap().1;
    let (mut chances, mut kept) = (Vec::new(), None);
    for iteration in 1..=9 {
        chances.push(chance(&step.step(&batch(iteration), iteration).unwrap()));
        if iteration == 6 {
            kept = Some(step.snapshot().unwrap());
        }
    }
    let moved = 4.0 * 4.0 / config.augment.ada_speed as f32;
    assert_eq!(chances[..4], [0.0; 4]);
    assert!(chances[4] == 0.0 || chances[4] == moved, "{chances:?}");
    assert_eq!(chances[5..8], [chances[4]; 3]);
    assert!(((chances[8] - chances[4]).abs() - moved).abs() < 1e-6 || chances[8] == 0.0, "{chances:?}");
    assert!(chances.iter().any(|&chance| chance > 0.0), "it never moved: {chances:?}");

    let whole = bits(&step);
    let mut resumed = GanStep::new(&config, &Device::Cpu).unwrap();
    resumed.restore(&kept.unwrap()).unwrap();
    for iteration in 7..=9 {
        resumed.step(&batch(iteration), iteration).unwrap();
    }
    assert!(bits(&resumed) == whole);
}
