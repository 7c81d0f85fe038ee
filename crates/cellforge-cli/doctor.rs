//! `cellforge doctor`: what this machine has, what is missing, and what a training run will need.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use cellforge::kernels::{Conv2dConfig, Padding, Precision, SimdLevel, conv2d, profile};
use cellforge::nn::Key;
use sysinfo::{CpuRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

use crate::common::{DeviceChoice, Globals, open_cuda, say};

/// Arguments of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge doctor
  cellforge doctor --dir /data/runs

It fails only if this program was built for an accelerator and can open none.")]
pub struct Args {
    /// Folder for runs; its free disk space is shown
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Memory of one training or of generating at batch 32 and 64x64 on the CPU, as `benches/README.md` has it.
const NEEDS: [(&str, &str); 4] = [
    ("the study's GAN", "0.45 GiB"),
    ("the study's ResNet", "0.49 GiB"),
    ("the study's small CNN", "0.09 GiB"),
    ("generating", "0.22 GiB"),
];

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
    Globals { device: Some(DeviceChoice::Cpu), ..globals }.open(None)?;
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
    line("memory", format!("{} of {} free", gib(system.available_memory()), gib(system.total_memory())));
    line("disk", disk(&args.dir));
    let accelerator = accelerators();
    for (work, memory) in NEEDS {
        line("needs", format!("{work}: {memory} at 64x64 and batch 32"));
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

fn line(what: &str, text: impl std::fmt::Display) {
    say(format_args!("{what:<13} {text}"));
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30))
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
