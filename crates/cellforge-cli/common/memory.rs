//! Memory: what this program may take, and whether a run would fit.

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::Device;
use cellforge::{
    data::ImageSize,
    gan::GanConfig,
    train::{ClassifierTrainConfig, GanTrainConfig, MemoryNeed},
};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::{Globals, Session};

/// Bytes of memory that a run may take: what `--memory` says, or what is free on this machine and within the limits of the control groups that
/// this process is in.
pub fn free(globals: &Globals) -> u64 {
    if let Some(gib) = globals.memory {
        return (gib * f64::from(1 << 30)) as u64;
    }
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_limit(&groups, Path::new("/sys/fs/cgroup")).map_or(u64::MAX, |free| free).min(system.available_memory())
}

/// What is free within the limits of all control groups of a process, of which `/proc/self/cgroup` lists the last; none where there are none.
/// Pages of files that nobody uses are free.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let within = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        // The second version has one tree; the first has one of memory among others.
        let (tree, names) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.current"]),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"])
            }
            _ => return None,
        };
        let folders = tree.join(path);
        let levels = folders.ancestors().take_while(|folder| folder.starts_with(&tree)).map(Path::to_path_buf);
        levels.filter_map(|folder| free_in(&folder, names)).min()
    });
    within.min()
}

/// What is free in one control group.
fn free_in(folder: &Path, [limit, used]: [&str; 2]) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok()).unwrap_or(0);
    Some(number(limit)?.saturating_sub(number(used).unwrap_or(0).saturating_sub(idle)))
}

/// Bytes in words.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30))
}

/// Refuses a run that would not fit, before it starts. `smaller` tells what would fit. On a GPU nothing is known of what is free.
///
/// # Errors
/// What it needs, what there is, and what would fit.
pub fn check(
    globals: &Globals,
    device: &Device,
    what: &str,
    need: MemoryNeed,
    smaller: impl FnOnce(u64) -> Vec<String>,
) -> Result<()> {
    let free = free(globals);
    if !device.is_cpu() || need.total() <= free {
        return Ok(());
    }
    let parts = [("weights", need.weights), ("activations", need.activations), ("images", need.images)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {}", gib(*n))).collect();
    let fits = match smaller(free).as_slice() {
        [] => "nothing smaller that was tried fits".to_owned(),
        fits => format!("what would fit: {}", fits.join(", or ")),
    };
    bail!(
        "{what} would take about {} of memory ({}), and {} are free; {fits} (--memory GIB says that there is more)",
        gib(need.total()),
        parts.join(", "),
        gib(free)
    )
}

/// The largest batch, halved from `batch` on, of which a run takes no more than `free`.
pub fn batch_within(batch: usize, free: u64, need: impl Fn(usize) -> MemoryNeed) -> Option<usize> {
    std::iter::successors(Some(batch), |batch| Some(batch / 2).filter(|half| *half > 0))
        .find(|&batch| need(batch).total() <= free)
}

/// The largest size of nearly the same shape, smaller than `size`, of which a run takes no more than `free`.
fn size_within(size: ImageSize, free: u64, need: impl Fn(ImageSize) -> MemoryNeed) -> Option<ImageSize> {
    (24..size.longer()).rev().map(|most| size.within(most)).find(|to| to.check().is_ok() && need(*to).total() <= free)
}

/// Refuses a training of a GAN that would not fit.
///
/// # Errors
/// As [`check`].
pub fn check_gan(globals: &Globals, session: &Session, config: &GanTrainConfig) -> Result<()> {
    let model = GanConfig { precision: session.precision, ..config.model.clone() };
    let config = GanTrainConfig { model, ..config.clone() };
    let with =
        |batch: usize, parts: u64| GanTrainConfig { batch, accumulation_steps: parts, ..config.clone() }.memory();
    let size = config.model.image_size;
    let what = format!("training a GAN on {size:#} pixels in batches of {}", config.batch);
    check(globals, &session.device, &what, config.memory(), |free| {
        let parts = config.accumulation_steps;
        let mut fits = Vec::new();
        if let Some(batch) = batch_within(config.batch, free, |batch| with(batch, parts)) {
            fits.push(format!("--batch {batch} ({})", gib(with(batch, parts).total())));
        }
        let batch = config.batch as u64;
        let mut more = (1..=batch).filter(|parts| batch.is_multiple_of(*parts));
        if let Some(parts) = more.find(|parts| with(config.batch, *parts).total() <= free) {
            let need = gib(with(config.batch, parts).total());
            fits.push(format!("--set gan.accumulation_steps={parts} ({need})"));
        }
        let resized = |size| {
            let model = GanConfig { image_size: size, ..config.model.clone() };
            GanTrainConfig { model, ..config.clone() }
        };
        // Lists of filters are of one size.
        let lists = config.model.generator_filters.is_some() || config.model.discriminator_filters.is_some();
        if !lists && let Some(size) = size_within(size, free, |size| resized(size).memory()) {
            fits.push(format!("--side {size} ({})", gib(resized(size).memory().total())));
        }
        fits
    })
}

/// Refuses a training of a classifier that would not fit.
///
/// # Errors
/// As [`check`].
pub fn check_classifier(globals: &Globals, session: &Session, config: &ClassifierTrainConfig) -> Result<()> {
    let model = config.model.clone().in_precision(session.precision);
    let config = ClassifierTrainConfig { model, ..config.clone() };
    let with = |batch: usize| ClassifierTrainConfig { batch, ..config.clone() }.memory();
    let size = config.model.image_size();
    let what = format!("training a classifier on {size:#} pixels in batches of {}", config.batch);
    check(globals, &session.device, &what, config.memory(), |free| {
        let mut fits = Vec::new();
        if let Some(batch) = batch_within(config.batch, free, with) {
            fits.push(format!("--batch {batch} ({})", gib(with(batch).total())));
        }
        let (channels, classes) = (config.model.channels(), config.model.classes());
        let resized = |size| config.clone().for_images(size, channels, classes);
        let need = |size| match resized(size).validate() {
            Ok(()) => resized(size).memory(),
            Err(_) => MemoryNeed { images: u64::MAX, ..MemoryNeed::default() },
        };
        if let Some(size) = size_within(size, free, need) {
            fits.push(format!("--side {size} ({})", gib(need(size).total())));
        }
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = root.join(path);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(
            root,
            "a",
            &[("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "inactive_file 200\n")],
        );
        group(root, "a/b", &[("memory.max", "max\n"), ("memory.current", "600\n")]);
        // 1000 - (700 - 200).
        assert_eq!(group_limit("0::/a/b\n", root), Some(500));
        group(root, "a/b", &[("memory.max", "650\n"), ("memory.current", "600\n")]);
        assert_eq!(group_limit("0::/a/b\n", root), Some(50));
        assert_eq!(group_limit("0::/\n", root), None);
        group(root, "memory/c", &[("memory.limit_in_bytes", "90\n"), ("memory.usage_in_bytes", "30\n")]);
        assert_eq!(group_limit("5:cpu:/c\n4:memory,misc:/c\n", root), Some(60));
    }

    #[test]
    fn what_fits_is_the_largest_that_does() {
        let need = |batch: usize| MemoryNeed { activations: batch as u64 * 10, ..MemoryNeed::default() };
        assert_eq!(batch_within(16, 100, need), Some(8));
        assert_eq!(batch_within(16, 9, need), None);
        let need = |size: ImageSize| MemoryNeed { activations: size.area() as u64, ..MemoryNeed::default() };
        assert_eq!(size_within(ImageSize::square(256), 100 * 100, need), Some(ImageSize::square(96)));
        // 320x240 keeps its shape: 160x120 is of no use, 120 being no side; 192x144 is.
        assert_eq!(size_within(ImageSize::new(240, 320), 200 * 150, need), Some(ImageSize::new(144, 192)));
    }
}
