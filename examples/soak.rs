//! Trains a GAN and generates from it for a given time, and watches the process: memory, open files and speed must stay as they are.
//!
//! ```sh
//! cargo run --release --example soak -- 120          # two hours, on Linux
//! cargo run --release --example soak -- 120 best     # with the best recipe in place of the study's GAN
//! cargo run --release --example soak -- 108 watch 4711 runs/gan/log.jsonl     # a training under way: its process and its log
//! cargo run --release --example soak -- 12 generate runs/gan     # images from a checkpoint alone
//! ```
//!
//! Nine tenths of the time go to training at 64x64 on the phantom, with a checkpoint every 20 iterations and sample grids; the rest to generating
//! 64 images at a time from the last checkpoint, which is loaded anew for each time. Prints a Markdown table, and fails if memory grew by more
//! than a twentieth, or a file stayed open, from a twelfth of the time (10 minutes of two hours) to its end, or if in the second half of the
//! time more than a ninth more processor time went into each piece of work than in the first. Processor time is judged, because a machine that has other
//! work too is slower by the clock; the table has both. A training that is watched must be under way for the whole time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cellforge::data::phantom::{self, PhantomConfig};
use cellforge::train::{Control, GanTrainConfig, Mode, RunDir, TrainedGan, read_log, train_gan};

const OUT: &str = "runs/examples/soak";
const BATCH: usize = 64;
const OURSELVES: &str = "/proc/self";
/// How often a training is looked at.
const READINGS: u32 = 48;

/// The process at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    minutes: f64,
    /// Resident memory in MiB.
    memory: f64,
    files: usize,
    /// Minutes of processor time taken so far, by all threads.
    processor: f64,
    /// Iterations or batches of images done.
    done: u64,
}

fn main() -> Result<()> {
    cellforge::kernels::keep_freed_memory();
    let mut args = std::env::args().skip(1);
    let minutes: f64 = args.next().context("for how many minutes?")?.parse()?;
    let (began, whole) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let settled = minutes / 12.0;
    let what = args.next().unwrap_or_default();
    match what.as_str() {
        "" | "best" => {
            let trained = training(what == "best", began, whole.mul_f64(0.9))?;
            let generated = generation(Path::new(OUT), began, whole)?;
            tell("iterations", &trained);
            tell("batches of images", &generated);
            judge("training", &trained, settled)?;
            judge("generation", &generated, generated[0].minutes)
        }
        "watch" => {
            let (process, log) = args.next().zip(args.next()).context("name the process and the log to watch")?;
            let (process, never) = (format!("/proc/{process}"), AtomicBool::new(false));
            let done = || Ok(read_log(Path::new(&log))?.last().map_or(0, |line| line.iteration));
            let trained = readings(&process, began, whole, whole / READINGS, &never, done)?;
            tell("iterations", &trained);
            judge("training", &trained, settled)
        }
        "generate" => {
            let checkpoint = args.next().context("name the folder of a GAN")?;
            let generated = generation(Path::new(&checkpoint), began, whole)?;
            tell("batches of images", &generated);
            judge("generation", &generated, settled)
        }
        other => bail!("{other:?} is not best, watch or generate"),
    }
}

/// Trains on the phantom into [`OUT`] until `until` after `began`, a GAN of one class or, if `best`, the best recipe's of both.
fn training(best: bool, began: Instant, until: Duration) -> Result<Vec<Reading>> {
    let set = phantom::render(&PhantomConfig { images_per_class: 300, ..PhantomConfig::default() })?;
    let recipe = if best {
        GanTrainConfig::recipe("best")?.for_images(64, 3, set.classes().len())
    } else {
        GanTrainConfig::default()
    };
    let class = if best { String::new() } else { set.classes()[0].clone() };
    let images = if best { set } else { set.class(0) };
    let (iterations, grid_at) = (u64::from(u32::MAX), (1..1_000).map(|n| n * 100).collect());
    let mut config = GanTrainConfig { iterations, grid_at, class, log_every: 1, checkpoint_every: 20, ..recipe };
    config.monitor.every = 0;
    config.guard.enabled = false;

    let (control, dir) = (Control::default(), RunDir::new(OUT).mode(Mode::Overwrite));
    let stop = control.stop.clone();
    let log = dir.log();
    let watch =
        std::thread::spawn(move || readings(OURSELVES, began, until, until / READINGS, &stop, || log_length(&log)));
    train_gan(&config, &images, &dir, &control, &mut [])?;
    watch.join().expect("the watch does not panic")
}

/// Generates from the checkpoint in `folder`, as a batch of its first class after the other, until `until` after `began`.
fn generation(folder: &Path, began: Instant, until: Duration) -> Result<Vec<Reading>> {
    let over = Arc::new(AtomicBool::new(false));
    let batches = Arc::new(AtomicU64::new(0));
    let watch = {
        let (over, batches) = (over.clone(), batches.clone());
        let every = until.saturating_sub(began.elapsed()) / 12;
        std::thread::spawn(move || {
            readings(OURSELVES, began, until, every, &over, || Ok(batches.load(Ordering::Relaxed)))
        })
    };
    while !over.load(Ordering::Relaxed) {
        let gan = TrainedGan::load(folder)?;
        let class = gan.classes().first().context("a generator has a class")?;
        let first = BATCH * batches.load(Ordering::Relaxed) as usize;
        gan.sample(1, class, first..first + BATCH)?;
        batches.fetch_add(1, Ordering::Relaxed);
    }
    watch.join().expect("the watch does not panic")
}

/// Reads memory, files and progress of the process whose folder of `/proc` is named, at once and then every `every`, until `until` after
/// `began`, and sets `stop` then.
fn readings(
    process: &str,
    began: Instant,
    until: Duration,
    every: Duration,
    stop: &AtomicBool,
    done: impl Fn() -> Result<u64>,
) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    loop {
        let memory = std::fs::read_to_string(format!("{process}/statm"))
            .with_context(|| format!("{process} is not a running process of Linux's"))?;
        let pages: f64 = memory.split_whitespace().nth(1).context("statm has a second number")?.parse()?;
        let files = std::fs::read_dir(format!("{process}/fd"))?.count();
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let (memory, processor) = (pages * 4.0 / 1024.0, processor_minutes(process)?);
        readings.push(Reading { minutes, memory, files, processor, done: done()? });
        if began.elapsed() >= until {
            stop.store(true, Ordering::Relaxed);
            return Ok(readings);
        }
        std::thread::sleep(every.min(until.saturating_sub(began.elapsed())));
    }
}

/// The processor time of a process, from the 14th and 15th field of its `stat`: those in the program and in the system, in hundredths of a
/// second. Counted from the end of the second field, the program's name in parentheses, which may hold spaces.
fn processor_minutes(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("stat has a name in parentheses")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0 / 60.0)
}

/// A Markdown table of what was read.
#[allow(clippy::print_stdout)]
fn tell(work: &str, readings: &[Reading]) {
    println!(
        "| minute | memory, MiB | open files | {work} | a minute | a minute of processor time |\n|---|---|---|---|---|---|"
    );
    for pair in readings.windows(2) {
        let (before, Reading { minutes, memory, files, processor, done }) = (pair[0], pair[1]);
        let more = (done - before.done) as f64;
        let (speed, yielded) = (more / (minutes - before.minutes), more / (processor - before.processor));
        println!("| {minutes:.1} | {memory:.1} | {files} | {done} | {speed:.1} | {yielded:.1} |");
    }
}

/// The lines of the log, one for each iteration.
fn log_length(log: &Path) -> Result<u64> {
    Ok(if log.exists() { std::fs::read(log)?.iter().filter(|byte| **byte == b'\n').count() as u64 } else { 0 })
}

/// Compares the readings from minute `from` on.
fn judge(work: &str, readings: &[Reading], from: f64) -> Result<()> {
    let readings: Vec<_> = readings.iter().filter(|reading| reading.minutes >= from).collect();
    let (first, last) = (readings.first().context("no readings")?, readings.last().context("no readings")?);
    ensure!(last.memory <= 1.05 * first.memory, "{work}: memory grew from {} to {} MiB", first.memory, last.memory);
    ensure!(last.files <= first.files, "{work}: open files grew from {} to {}", first.files, last.files);
    let middle = readings[readings.len() / 2];
    let speed = |a: &Reading, b: &Reading| (b.done - a.done) as f64 / (b.processor - a.processor);
    let (before, after) = (speed(first, middle), speed(middle, last));
    ensure!(
        after >= 0.9 * before,
        "{work}: {before:.1} a minute of processor time in the first half, {after:.1} in the second"
    );
    Ok(())
}
