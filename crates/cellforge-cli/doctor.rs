//! `cellforge doctor`: what this machine has, what is missing, and what a training run will need.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use cellforge::kernels::{Conv2dConfig, Padding, Precision, SimdLevel, conv2d, profile};
use cellforge::nn::Key;
use cellforge::{
    data::ImageSize,
    train::{CLASSIFIER_RECIPES, ClassifierTrainConfig, GAN_RECIPES, GanTrainConfig, MemoryNeed},
};
use clap::builder::PossibleValuesParser;
use sysinfo::{CpuRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

use crate::common::{DeviceChoice, Given, Globals, Shorthands, memory, memory::gib, open_cuda, say, settings};

/// Arguments of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge doctor
  cellforge doctor --dir /data/runs
  cellforge doctor --side 256 --channels 1 --batch 16 --recipe best
  cellforge doctor --side 320x240 --memory 4

It fails only if this program was built for an accelerator and can open none.")]
pub struct Args {
    /// Folder for runs; its free disk space is shown
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    given: Given<DoctorShorthands>,
    /// Batch size of the trainings whose memory is told [default: that of each recipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    /// Recipe of the training whose memory is told [default: each]
    #[arg(long, value_name = "NAME", value_parser = recipes())]
    recipe: Option<String>,
}

/// The shorthands of `doctor`.
pub struct DoctorShorthands;

impl Shorthands for DoctorShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = &[("side", "data.side"), ("channels", "data.channels")];
}

/// The names of all recipes.
fn recipes() -> PossibleValuesParser {
    GAN_RECIPES.iter().chain(CLASSIFIER_RECIPES).map(|recipe| recipe.name).collect::<Vec<_>>().into()
}

/// Multiplications and additions that one step of the study's GAN takes in our kernels, and the share of the peak that it reaches
/// (`crates/cellforge-kernels/README.md`).
const GAN_STEP: (f64, f64) = (98.4e9, 0.58);

/// Iterations of the study's GANs, of one class.
const STUDY: f64 = 15_000.0;

/// A library that a build with CUDA loads, the names that its versions have, and what brings it along.
const LIBRARIES: [(&str, &[&str], &str); 5] = [
    ("driver", &["libcuda.so.1"], "install NVIDIA's driver for this card"),
    ("cuBLAS", &["libcublas.so.13", "libcublas.so.12"], "pip install nvidia-cublas, or the CUDA toolkit"),
    ("cuDNN", &["libcudnn.so.9"], "pip install nvidia-cudnn-cu13 (or -cu12), or NVIDIA's package"),
    ("cuRAND", &["libcurand.so.10"], "pip install nvidia-curand, or the CUDA toolkit"),
    ("NVRTC", &["libnvrtc.so.13", "libnvrtc.so.12"], "pip install nvidia-cuda-nvrtc, or the CUDA toolkit"),
];

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    // The threads, as any other verb would have them; the device is looked for below.
    Globals { device: Some(DeviceChoice::Cpu), ..globals.clone() }.open(None)?;
    let config = settings(&globals, Vec::new(), args.given.layers()?, None)?;
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let threads = rayon::current_num_threads();
    let peak = profile::peak();
    let processor = system.cpus().first().map_or("unknown", |cpu| cpu.brand().trim());
    line("processor", format!("{processor}, {} cores, {threads} threads in use", system.cpus().len()));
    let bf16 = if Precision::Bf16.is_supported() { "with" } else { "without" };
    line("instructions", format!("{}, {bf16} products of bf16 (--precision bf16)", SimdLevel::current().name()));
    line("peak", format!("{:.0} GFLOP/s in f32, measured just now", peak / 1e9));
    let free = memory::free(&globals);
    line("memory", format!("{} of {} free", gib(free), gib(system.total_memory())));
    line("disk", disk(&args.dir));
    let accelerator = accelerators();
    for need in needs(args, config.data.side, config.data.most_channels(), free)? {
        line("needs", need);
    }
    let (flop, share) = GAN_STEP;
    let seconds = flop / (share * peak);
    let hours = STUDY * seconds / 3600.0;
    line(
        "needs",
        format!(
            "the study's GAN: about {seconds:.1} s an iteration, {hours:.1} hours for 15,000 (estimated from the peak)"
        ),
    );
    accelerator
}

/// What the training of each recipe takes of memory, and the largest batch that fits.
fn needs(args: &Args, size: ImageSize, channels: usize, free: u64) -> Result<Vec<String>> {
    let told = |name: &str, batch: usize, need: &dyn Fn(usize) -> MemoryNeed| {
        let fits = match memory::batch_within(batch, free, need) {
            Some(fitting) if fitting == batch => "which fits".to_owned(),
            Some(fitting) => format!("which does not fit; batch {fitting} does, with {}", gib(need(fitting).total())),
            None => "which does not fit in any batch".to_owned(),
        };
        let size = format!("{size:#} pixels in {channels} {}", if channels == 1 { "channel" } else { "channels" });
        format!("recipe {name}, {size}, batch {batch}: {} of memory, {fits}", gib(need(batch).total()))
    };
    let wanted = |name: &str| args.recipe.as_deref().is_none_or(|recipe| recipe == name);
    let batch = |own: usize| args.batch.map_or(own, usize::from);
    let mut lines = Vec::new();
    for recipe in GAN_RECIPES.iter().filter(|recipe| wanted(recipe.name)) {
        let config = GanTrainConfig::recipe(recipe.name)?;
        let classes = if config.conditional { 2 } else { 1 };
        let config = config.for_images(size, channels, classes);
        config.validate()?;
        let need = |batch| GanTrainConfig { batch, ..config.clone() }.memory();
        lines.push(told(recipe.name, batch(config.batch), &need));
    }
    for recipe in CLASSIFIER_RECIPES.iter().filter(|recipe| wanted(recipe.name)) {
        let config = ClassifierTrainConfig::recipe(recipe.name)?.for_images(size, channels, 2);
        config.validate()?;
        let need = |batch| ClassifierTrainConfig { batch, ..config.clone() }.memory();
        lines.push(told(recipe.name, batch(config.batch), &need));
    }
    Ok(lines)
}

fn line(what: &str, text: impl std::fmt::Display) {
    say(format_args!("{what:<13} {text}"));
}

/// The free space of the disk that `dir` is on, or will be.
fn disk(dir: &Path) -> String {
    let full = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let there = full.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or(full);
    let disks = Disks::new_with_refreshed_list();
    let of = disks.iter().filter(|disk| there.starts_with(disk.mount_point()));
    match of.max_by_key(|disk| disk.mount_point().components().count()) {
        Some(disk) => format!("{} free for {}", gib(disk.available_space()), there.display()),
        None => format!("unknown for {}", there.display()),
    }
}

/// Tells of GPUs, what they need and whether they can be opened.
fn accelerators() -> Result<()> {
    let (cuda, metal) = (cfg!(feature = "cuda"), cfg!(feature = "metal"));
    let cards = nvidia_cards();
    for card in &cards {
        line("NVIDIA", card);
    }
    if !cuda && !metal {
        let way = match (cards.is_empty(), cfg!(target_os = "macos")) {
            (_, true) => "; for the GPU: cargo build --release --features metal",
            (false, _) => "; for the GPU: cargo build --release --features cuda",
            (true, _) => "; no NVIDIA driver answers here",
        };
        if !cards.is_empty() {
            libraries();
        }
        line("devices", format!("cpu; this cellforge was built without an accelerator{way}"));
        return Ok(());
    }
    if cuda {
        libraries();
    }
    let (name, opened) = if cuda { ("cuda", open_cuda(0)) } else { ("metal", Device::new_metal(0)) };
    match opened {
        Ok(device) => {
            line("devices", format!("cpu, {name}"));
            if cuda { convolves(&device) } else { Ok(()) }
        }
        Err(error) => {
            let reason = error.to_string();
            line("devices", "cpu");
            bail!("no {name} device can be opened: {}", reason.lines().next().unwrap_or("no reason was given"))
        }
    }
}

/// Tells of the libraries without which a build with CUDA does not even start.
fn libraries() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let known = known_libraries();
    for (name, files, way) in LIBRARIES {
        match files.iter().find_map(|file| find_library(file, &known)) {
            Some(path) => line("library", format!("{name}: {path}")),
            None => {
                line("missing", format!("{name} ({}): {way}, and its folder in LD_LIBRARY_PATH", files.join(" or ")));
            }
        }
    }
}

/// Measures how fast a GPU convolves.
///
/// # Errors
/// A GPU that cannot, or whose result is not that of the CPU.
fn convolves(gpu: &Device) -> Result<()> {
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    let operands = |device: &Device, shapes: [(usize, usize, usize, usize); 2]| -> Result<[Tensor; 2]> {
        let [xs, weight] = shapes;
        Ok([Key::new(1).normal(xs, device)?, Key::new(2).normal(weight, device)?])
    };
    let small = [(2, 8, 6, 6), (4, 8, 3, 3)];
    let result = |device: &Device| -> Result<Vec<f32>> {
        let [xs, weight] = operands(device, small)?;
        Ok(conv2d(&xs, &weight, None, &cfg)?.flatten_all()?.to_vec1()?)
    };
    let (got, want) = (result(gpu)?, result(&Device::Cpu)?);
    if got.iter().zip(&want).any(|(got, want)| (got - want).abs() > 1e-3) {
        bail!("a convolution on the GPU is not what it is on the CPU: something is wrong with cuDNN or the driver");
    }
    const TIMES: usize = 10;
    let (b, c, side) = (32, 128, 32);
    let [xs, weight] = operands(gpu, [(b, c, side, side), (c, c, 3, 3)])?;
    let flop = (2 * b * side * side * c * c * 9 * TIMES) as f64;
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let cfg = cfg.in_precision(precision);
        let run = || -> Result<()> {
            (0..TIMES).try_for_each(|_| conv2d(&xs, &weight, None, &cfg).map(drop))?;
            Ok(gpu.synchronize()?)
        };
        // The first convolutions choose an algorithm and ask for memory.
        run()?;
        let start = std::time::Instant::now();
        run()?;
        let rate = flop / start.elapsed().as_secs_f64() / 1e12;
        line(
            "peak",
            format!("{rate:.1} TFLOP/s in {} (a convolution of 128 channels, measured just now)", precision.name()),
        );
    }
    Ok(())
}

/// Name, driver and memory of each card, as NVIDIA's own tool tells them; none where it is not there or does not answer.
fn nvidia_cards() -> Vec<String> {
    let query = ["--query-gpu=name,driver_version,memory.free,memory.total", "--format=csv,noheader"];
    let Ok(told) = Command::new("nvidia-smi").args(query).output() else { return Vec::new() };
    if !told.status.success() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&told.stdout);
    let card = |line: &str| match line.split(", ").collect::<Vec<_>>()[..] {
        [name, driver, free, total] => format!("{name}, driver {driver}, {free} of {total} free"),
        _ => line.to_owned(),
    };
    text.lines().map(card).collect()
}

/// What the loader knows, a line for each library.
fn known_libraries() -> String {
    let listed =
        Command::new("ldconfig").arg("-p").output().or_else(|_| Command::new("/sbin/ldconfig").arg("-p").output());
    listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Where the loader would find a library: in the folders of `LD_LIBRARY_PATH`, or by its own list.
fn find_library(file: &str, known: &str) -> Option<String> {
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let in_folders = std::env::split_paths(&folders).map(|folder| folder.join(file)).find(|path| path.is_file());
    if let Some(path) = in_folders {
        return Some(path.display().to_string());
    }
    let line = known.lines().find(|line| line.trim_start().starts_with(&format!("{file} ")))?;
    line.split_once("=> ").map(|(_, path)| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_read() {
        let known =
            "3 libs found\n\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/libcuda.so.1\n\tlibcudart.so.12 (libc6) => /x\n";
        assert_eq!(find_library("libcuda.so.1", known).as_deref(), Some("/usr/lib/libcuda.so.1"));
        assert_eq!(find_library("libcuda.so", known), None);
    }

    #[test]
    fn a_disk_is_found_for_a_folder_that_is_not_there_yet() {
        assert!(disk(Path::new("no/such/folder")).contains("GiB free") || disk(Path::new(".")).contains("unknown"));
    }
}
