//! What every verb shares: global flags, settings files, the device, Ctrl-C, and how errors are shown.

mod device;
pub mod memory;
mod outputs;
pub mod ranks;
mod settings;
mod shorthand;
mod terminal;

use std::{
    io::Write,
    path::PathBuf,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use cellforge::{kernels::Precision, train::Ranks};

pub use device::DeviceChoice;
pub(crate) use device::open_cuda;
pub use outputs::{beside, check_free, check_outside, csv_field, remove_if_there, save, save_shared, shell_word};
pub use ranks::{Told, is_silent};
pub use settings::{
    changes, check_settings, check_unchanged, effective, is_of, made_by, read_settings, resumed, save_beside,
    save_effective, settings, settings_beside,
};
pub(crate) use shorthand::with_reading;
pub use shorthand::{Given, SETTINGS, Shorthands, nested};
pub use terminal::{ARGUMENT, Interrupted, output_failed, report, say, start_log};

/// The highest `--threads`.
const MAX_THREADS: u16 = 1024;

/// Flags that every verb takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Globals {
    /// Shorthands of settings.
    #[command(flatten)]
    pub given: Given<General>,
    /// Where to compute: cpu, cuda, cuda:N, metal or auto [default: auto]
    #[arg(long, global = true, value_name = "DEVICE", help_heading = "Global options")]
    pub device: Option<DeviceChoice>,
    /// Threads; results do not depend on their number [default: one per core, shared among the ranks of a machine]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_THREADS)), help_heading = "Global options")]
    pub threads: Option<u16>,
    /// Memory that a run may take, in GiB; one that would take more is refused before it starts [default: what is free]
    #[arg(long, global = true, value_name = "GIB", value_parser = gibibytes, help_heading = "Global options")]
    pub memory: Option<f64>,
    /// Settings file (TOML); flags and --set win over it
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Set any setting, such as gan.r1=1; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Global options")]
    pub set: Vec<String>,
    /// Print time, GFLOP/s and GB/s of each layer and pass at the end (CPU only)
    #[arg(long, global = true, help_heading = "Global options")]
    pub profile: bool,
    /// Print errors and results only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Print more; -vv prints everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The shorthands that every verb takes.
#[derive(Clone, Debug)]
pub struct General;

impl Shorthands for General {
    const FLAGS: &'static [(&'static str, &'static str)] = &[("seed", "seed"), ("precision", "precision")];
    const GLOBAL: bool = true;
}

/// The most threads for each that the machine runs at once.
const MOST_THREADS: usize = 16;

/// A number of GiB above 0.
fn gibibytes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(gib) if gib.is_finite() && gib > 0.0 => Ok(gib),
        _ => Err("give a number of GiB above 0".to_owned()),
    }
}

/// What a verb computes with.
pub struct Session {
    pub device: Device,
    pub stop: Arc<AtomicBool>,
    pub progress: bool,
    pub precision: Precision,
    /// The ranks that train together.
    pub ranks: Ranks,
}

impl Globals {
    /// Whether `--set` names this setting.
    pub fn sets(&self, key: &str) -> bool {
        self.set.iter().any(|text| text.split_once('=').is_some_and(|(name, _)| name.trim() == key))
    }

    /// Sets up threads, the device and Ctrl-C, for a verb that looks at [`Session::stop`] and ends well when it is set.
    pub fn open_stoppable(&self, precision: Option<Precision>) -> Result<Session> {
        let session = self.open(precision)?;
        stop_on_ctrl_c(&session.stop)?;
        Ok(session)
    }

    /// Sets up threads, the device and the precision. Ctrl-C ends the program at once.
    pub fn open(&self, precision: Option<Precision>) -> Result<Session> {
        // The main thread is one of the pool: handing every operation of a step to another thread and waiting for it costs
        // more than many of the operations. With a single thread, though, the ones that fetch batches ahead would wait for ever.
        let from_environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|n| *n > 0);
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let own = || (all() / ranks::on_this_machine()).max(1);
        let threads = self.threads.map(usize::from).or_else(from_environment).unwrap_or_else(own);
        if threads > MOST_THREADS * all() {
            bail!(
                "--threads {threads}: this machine runs {} at once, and more than {} of each only wait for each other",
                all(),
                MOST_THREADS
            );
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        // It fails only if the pool is already running, and nothing has used it before this point.
        if threads > 1 { pool.use_current_thread() } else { pool }
            .build_global()
            .context("cannot start the threads")?;
        let device = self.device.unwrap_or(DeviceChoice::Auto).open(self.device.is_some())?;
        let precision = supported(precision, &device);
        let progress = !self.quiet && !is_silent();
        Ok(Session { device, stop: Arc::default(), progress, precision, ranks: Ranks::alone() })
    }
}

/// The precision to compute in when this one is asked for. Says so where it is not supported.
fn supported(asked: Option<Precision>, device: &Device) -> Precision {
    let asked = asked.unwrap_or_else(|| Precision::default_on(device));
    let used = asked.on(device);
    if used.is_f32() && !asked.is_f32() {
        let why = match asked {
            Precision::Tf32 => "it is for NVIDIA GPUs",
            _ if device.is_cpu() => "AVX-512 BF16 instructions are not available here",
            _ => "this device has no kernels for it",
        };
        tracing::warn!("--precision {}: {why}; computing in f32", asked.name());
    }
    used
}

/// Whether this process was started with hang-ups not ignored, by the signals that Linux says are: a mask whose first bit is theirs. False where
/// that cannot be read, so that a hang-up does what the system does.
#[cfg(unix)]
fn hang_up_is_heeded() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 0)
}

/// The first Ctrl-C asks the work to stop at the next safe point, where it leaves a checkpoint; the second ends the program at once. So do the
/// signals of those who stop programs: TERM, and HUP and USR1, of which a batch system sends one some time before it kills.
fn stop_on_ctrl_c(stop: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::{consts, flag};
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut signals = vec![consts::SIGINT, consts::SIGTERM];
    #[cfg(unix)]
    {
        signals.push(consts::SIGUSR1);
        // `nohup` has it ignored, so that the work outlives the terminal.
        if hang_up_is_heeded() {
            signals.push(consts::SIGHUP);
        }
    }
    for signal in signals {
        // Ranks may hear of one Ctrl-C twice, from the terminal and from who started them, who also ends those that do not end themselves.
        if !ranks::is_launched() {
            flag::register_conditional_shutdown(signal, 130, Arc::clone(stop)).context("cannot watch for Ctrl-C")?;
        }
        flag::register(signal, Arc::clone(stop)).context("cannot watch for Ctrl-C")?;
    }
    if is_silent() {
        return Ok(());
    }
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let again = if ranks::is_launched() { "" } else { "; press Ctrl-C again to stop at once" };
        let _ = writeln!(std::io::stderr(), "\nstopping after this step{again}");
    });
    Ok(())
}
