//! What every verb shares: global flags, settings files, the device, Ctrl-C, and how errors are shown.

use std::{
    fmt,
    io::Write,
    path::{Component, Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use cellforge::kernels::{Precision, set_precision};
use cellforge::study;
use serde::{Serialize, de::DeserializeOwned};

/// The highest `--threads`.
const MAX_THREADS: u16 = 1024;

/// Flags that every verb takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Globals {
    /// Seed of everything random; the same seed gives the same files [default: 1]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub seed: Option<u64>,
    /// Where to compute: cpu, cuda, cuda:N, metal or auto [default: auto]
    #[arg(long, global = true, value_name = "DEVICE", help_heading = "Global options")]
    pub device: Option<DeviceChoice>,
    /// What convolutions multiply: f32; bf16, which is faster on GPUs and on processors with AVX-512 BF16; tf32, on NVIDIA GPUs; or
    /// bf16-emulated, the same as bf16 on any processor, slowly, for comparisons [default: f32, on NVIDIA GPUs tf32]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub precision: Option<Precision>,
    /// Threads to use; results do not depend on it [default: one per core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_THREADS)), help_heading = "Global options")]
    pub threads: Option<u16>,
    /// A TOML file with any of this verb's flags as `name = value` lines; flags on the command line win
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print at the end how long each layer took in each pass, and what it achieved (on the CPU)
    #[arg(long, global = true, help_heading = "Global options")]
    pub profile: bool,
    /// Say nothing but errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The value of `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda(usize),
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected cpu, cuda, cuda:N, metal or auto".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    fn open(self, asked: bool) -> Result<Device> {
        let (cuda, metal) = (cfg!(feature = "cuda"), cfg!(feature = "metal"));
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda => {
                bail!(
                    "this cellforge was built without CUDA; build one that has it with: cargo build --release --features cuda"
                )
            }
            Self::Metal if !metal => {
                bail!(
                    "this cellforge was built without Metal; build one that has it with: cargo build --release --features metal"
                )
            }
            Self::Cuda(n) => open_cuda(n).with_context(|| format!("cannot open CUDA device {n}")),
            Self::Metal => Device::new_metal(0).context("cannot open the Metal device"),
            Self::Auto => {
                let opened = if cuda {
                    open_cuda(0)
                } else if metal {
                    Device::new_metal(0)
                } else {
                    if asked {
                        tracing::info!("device: the CPU, for this build has no accelerator support");
                    }
                    return Ok(Device::Cpu);
                };
                Ok(opened.unwrap_or_else(|error| {
                    let reason = error.to_string();
                    tracing::info!(
                        "device: the CPU, for no accelerator can be opened ({})",
                        reason.lines().next().unwrap_or("")
                    );
                    Device::Cpu
                }))
            }
        }
    }
}

/// An NVIDIA GPU, as the kernels want it opened.
pub(crate) fn open_cuda(ordinal: usize) -> candle_core::Result<Device> {
    #[cfg(feature = "cuda")]
    return cellforge::kernels::cuda_device(ordinal);
    #[cfg(not(feature = "cuda"))]
    Device::new_cuda(ordinal)
}

/// What a verb computes with, once flags and files are merged.
pub struct Session {
    pub seed: u64,
    pub device: Device,
    pub stop: Arc<AtomicBool>,
    pub progress: bool,
}

impl Globals {
    /// Sets up threads, the device and Ctrl-C, for a verb that looks at [`Session::stop`] and ends well when it is set.
    pub fn open_stoppable(&self) -> Result<Session> {
        let session = self.open()?;
        stop_on_ctrl_c(&session.stop)?;
        Ok(session)
    }

    /// Sets up threads, the device and the precision. Ctrl-C ends the program at once.
    pub fn open(&self) -> Result<Session> {
        // The main thread is one of the pool: handing every operation of a step to another thread and waiting for it costs
        // more than many of the operations. With a single thread, though, the ones that fetch batches ahead would wait for ever.
        let from_environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|n| *n > 0);
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map(usize::from).or_else(from_environment).unwrap_or_else(all);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        // It fails only if the pool is already running, and nothing has used it before this point.
        if threads > 1 { pool.use_current_thread() } else { pool }
            .build_global()
            .context("cannot start the threads")?;
        let device = self.device.unwrap_or(DeviceChoice::Auto).open(self.device.is_some())?;
        self.set_precision(&device);
        Ok(Session { seed: self.seed.unwrap_or(1), device, stop: Arc::default(), progress: !self.quiet })
    }
}

impl Globals {
    /// Takes up the precision asked for, or says why not.
    fn set_precision(&self, device: &Device) {
        let asked = self.precision.unwrap_or(if device.is_cuda() { Precision::Tf32 } else { Precision::F32 });
        let used = match asked {
            Precision::EmulatedBf16 if device.is_cuda() => Precision::Bf16,
            asked if device.is_cuda() || asked == Precision::F32 => asked,
            asked if device.is_cpu() && asked.is_supported() => asked,
            asked => {
                let why = match asked {
                    Precision::Tf32 => "it is for NVIDIA GPUs",
                    _ if device.is_cpu() => "AVX-512 BF16 instructions are not available here",
                    _ => "this device has no kernels for it",
                };
                tracing::warn!("--precision {}: {why}; computing in f32", asked.name());
                Precision::F32
            }
        };
        set_precision(used);
    }
}

/// The first Ctrl-C (or SIGTERM) asks the work to stop at the next safe point; the second ends the program at once. A hang-up
/// is left as it is, so that `nohup` works.
fn stop_on_ctrl_c(stop: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::{consts, flag};
    for signal in [consts::SIGINT, consts::SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(stop)).context("cannot watch for Ctrl-C")?;
        flag::register(signal, Arc::clone(stop)).context("cannot watch for Ctrl-C")?;
    }
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = writeln!(std::io::stderr(), "\nstopping after this step; press Ctrl-C again to stop at once");
    });
    Ok(())
}

/// Work that was stopped on request; the message says how to go on.
#[derive(Debug)]
pub struct Interrupted(pub String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Prints an error with its causes and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    let stopped = error.chain().any(|cause| {
        cause.is::<Interrupted>() || matches!(cause.downcast_ref(), Some(study::Error::Interrupted { .. }))
    });
    if stopped {
        let _ = writeln!(stderr, "{error}");
        return ExitCode::from(130);
    }
    let plain = |text: String| {
        text.lines().filter(|line| !is_backtrace(line)).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    };
    let mut shown = plain(error.to_string());
    let _ = writeln!(stderr, "error: {shown}");
    for cause in error.chain().skip(1) {
        // Many messages already quote their cause; saying it twice helps nobody.
        let text = plain(cause.to_string());
        if !text.is_empty() && !shown.contains(&text) {
            let _ = writeln!(stderr, "  because: {text}");
            shown = text;
        }
    }
    ExitCode::from(1)
}

/// Candle appends a backtrace to its messages when one is enabled.
fn is_backtrace(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("at ")
        || line.split_once(": ").is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Starts the log on the error stream: progress at the normal level, warnings only with `--quiet`.
pub fn start_log(globals: &Globals) {
    use tracing_subscriber::{EnvFilter, fmt};
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,cellforge=info,cellforge_data=info,cellforge_train=info,cellforge_study=info",
        (false, 1) => "info,cellforge=debug,cellforge_data=debug,cellforge_train=debug,cellforge_study=debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::new(level);
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().with_ansi(false);
    // An error stream that is gone must not end the work.
    let lines = lines.log_internal_errors(false);
    let started =
        if globals.verbose == 0 { lines.with_level(false).with_target(false).try_init() } else { lines.try_init() };
    drop(started);
}

/// The first failure of the output stream.
static OUTPUT: OnceLock<std::io::Error> = OnceLock::new();

/// Writes a line to the output stream. If it fails, work goes on without saying more, and [`output_failed`] tells at the end.
pub fn say(text: impl fmt::Display) {
    if OUTPUT.get().is_none()
        && let Err(error) = writeln!(std::io::stdout(), "{text}")
    {
        let _ = OUTPUT.set(error);
    }
}

/// Says so if something could not be written to the output stream. A reader that went away (`| head`) is no failure.
pub fn output_failed() -> Result<()> {
    match OUTPUT.get() {
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            bail!("cannot write to the output stream: {error}")
        }
        _ => Ok(()),
    }
}

/// Lays the flags over the file of `--config`. In the file a setting has its flag's name, with `-` or `_`, and its value is held
/// against what the flag takes; `seed`, `device`, `precision` and `threads` may stand there too.
pub fn layered<T>(globals: &mut Globals, flags: &T) -> Result<T>
where
    T: clap::Args + Serialize + DeserializeOwned,
{
    let above = toml::Table::try_from(flags).context("cannot represent the flags as TOML")?;
    let Some(path) = globals.config.clone() else {
        return above.try_into().context("cannot read the flags back");
    };
    let command = T::augment_args(clap::Command::new("settings")).no_binary_name(true);
    let (mut below, mut words) = (toml::Table::new(), Vec::new());
    for (key, value) in read_table(&path)? {
        let key = key.replace('-', "_");
        if take_global(globals, &key, &value, &path)? {
            continue;
        }
        words.extend(as_flag(&command, &key, &value).with_context(|| format!("cannot use {}", path.display()))?);
        below.insert(key, value);
    }
    // The file need not name what the command line has to.
    let checked = command.mut_args(|arg| arg.required(false)).try_get_matches_from(words);
    checked.map_err(|error| anyhow::anyhow!("{}: {}", path.display(), first_lines(&error)))?;
    below.extend(above);
    below.try_into().with_context(|| format!("{}: a setting has a value of the wrong type", path.display()))
}

/// Flags that say what to do with a folder, not what to compute.
const NOT_SETTINGS: [&str; 2] = ["resume", "overwrite"];

/// A line of a settings file as the words of a command line.
fn as_flag(command: &clap::Command, key: &str, value: &toml::Value) -> Result<Vec<String>> {
    let settings = || command.get_arguments().filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str()));
    let Some(arg) = settings().find(|arg| arg.get_id() == key) else {
        let known: Vec<&str> = settings().map(|arg| arg.get_id().as_str()).collect();
        bail!("there is no setting {key:?} here; there are {}", known.join(", "));
    };
    let flag = arg.get_long().map(|name| format!("--{name}"));
    if matches!(arg.get_action(), clap::ArgAction::SetTrue) {
        let on = value.as_bool().with_context(|| format!("{key} is true or false, not {value}"))?;
        return Ok(if on { flag.into_iter().collect() } else { Vec::new() });
    }
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("{key} cannot be {value}"),
    };
    let values = match value {
        toml::Value::Array(values) => values.iter().map(one).collect::<Result<Vec<String>>>()?,
        value => vec![one(value)?],
    };
    // With `=`, so that a value may begin with a dash.
    Ok(values.into_iter().map(|value| flag.as_ref().map_or(value.clone(), |flag| format!("{flag}={value}"))).collect())
}

/// What clap says of a value, without its advice on the command line.
fn first_lines(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(|line| line.trim().trim_start_matches("error: "));
    lines.collect::<Vec<_>>().join(" ")
}

/// Reads a TOML file.
pub fn read_table(path: &Path) -> Result<toml::Table> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the settings file {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
}

/// Takes `seed`, `device`, `precision` or `threads` from a settings file where no flag has set it; says whether the key was one of them.
pub fn take_global(globals: &mut Globals, key: &str, value: &toml::Value, path: &Path) -> Result<bool> {
    let wrong = || format!("{}: {key} has a value that is not allowed", path.display());
    match key {
        "seed" => {
            let seed = value.as_integer().and_then(|n| u64::try_from(n).ok()).with_context(wrong)?;
            globals.seed.get_or_insert(seed);
        }
        "device" => {
            let device = value.as_str().and_then(|text| text.parse().ok()).with_context(wrong)?;
            globals.device.get_or_insert(device);
        }
        "precision" => {
            let parsed = value.as_str().with_context(wrong)?.parse().map_err(anyhow::Error::msg);
            let precision = parsed.with_context(wrong)?;
            globals.precision.get_or_insert(precision);
        }
        "threads" => {
            let allowed = |n: &u16| (1..=MAX_THREADS).contains(n);
            let threads = value.as_integer().and_then(|n| u16::try_from(n).ok()).filter(allowed).with_context(wrong)?;
            globals.threads.get_or_insert(threads);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The effective settings of a verb as TOML, ready to be passed to `--config`. The output path is left out: it is no setting of
/// the result.
pub fn effective<T: Serialize>(verb: &str, seed: u64, settings: &T) -> Result<String> {
    let mut table = toml::Table::try_from(settings).context("cannot represent the settings as TOML")?;
    table.remove("out");
    table.remove("resume");
    table.insert("seed".into(), toml::Value::try_from(seed).context("the seed is too large for a settings file")?);
    if Precision::current() != Precision::F32 {
        table.insert("precision".into(), Precision::current().name().into());
    }
    Ok(format!("{}THIS_FILE\n{table}", heading(verb)))
}

/// How the effective settings of a verb begin.
fn heading(verb: &str) -> String {
    format!("# cellforge {verb} --config ")
}

/// Whether a folder's `config.toml` is one that `verb` saved, by its first line.
pub fn is_of(folder: &Path, verb: &str) -> bool {
    std::fs::read(folder.join("config.toml")).is_ok_and(|text| text.starts_with(heading(verb).as_bytes()))
}

/// Refuses a folder whose `config.toml` is of a study or of another verb than `verb`, which would replace it.
pub fn check_settings(folder: &Path, verb: &str) -> Result<()> {
    let path = folder.join("config.toml");
    if path.exists() && !is_of(folder, verb) {
        bail!(
            "{} is not of `cellforge {verb}`, which would replace it: name another --out, or move it away",
            path.display()
        );
    }
    Ok(())
}

/// Refuses an output inside a folder of cells, or that folder itself: what lies there is taken for cells. `sources` are PATHs as the
/// flags for cells take them; of these only folders count.
pub fn check_outside<'a>(out: &Path, sources: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let Some(leads_to) = resolved(out) else { return Ok(()) };
    for source in sources {
        let folder = match source.split_once(':') {
            Some(("cifar10" | "mnist", folder)) => folder,
            _ => source.as_str(),
        };
        let Ok(folder) = Path::new(folder).canonicalize() else { continue };
        if folder.is_dir() && leads_to.starts_with(&folder) {
            bail!("--out {} lies inside the cells' folder {source}: choose another", out.display());
        }
    }
    Ok(())
}

/// Where a path leads, with links followed as far as it exists.
fn resolved(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let (there, mut found) = absolute.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)))?;
    for part in absolute.strip_prefix(there).ok()?.components() {
        if part == Component::ParentDir {
            found.pop();
        } else {
            found.push(part);
        }
    }
    Some(found)
}

/// Saves the effective settings in the folder of a run.
pub fn save_effective<T: Serialize>(folder: &Path, verb: &str, seed: u64, settings: &T) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    save(&folder.join("config.toml"), &effective(verb, seed, settings)?)
}

/// Saves the effective settings beside an output: those of `cells.zip` as `cells.zip.settings.toml`.
pub fn save_beside<T: Serialize>(out: &Path, verb: &str, seed: u64, settings: &T) -> Result<()> {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".settings.toml");
    save(&out.with_file_name(name), &effective(verb, seed, settings)?)
}

/// Writes a text file whole or not at all.
pub fn save(path: &Path, text: &str) -> Result<()> {
    cellforge::data::write_atomic(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// A progress bar over images, on the error stream when that is a terminal.
pub struct Bar(indicatif::ProgressBar);

impl Bar {
    pub fn new(total: u64, name: &str, shown: bool) -> Self {
        if !shown {
            return Self(indicatif::ProgressBar::hidden());
        }
        let style = indicatif::ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {per_sec} {eta} left");
        let bar = indicatif::ProgressBar::new(total).with_message(name.to_owned());
        Self(bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())))
    }

    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// `bool::not` by reference, for `skip_serializing_if`: a flag that was not given must not hide the file's.
pub fn is_false(flag: &bool) -> bool {
    !*flag
}
