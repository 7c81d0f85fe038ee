//! The data stage: the cells, their split, and a look at them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use cellforge_assess::{
    files::{hash_file, hash_texts},
    save_grid,
};
use cellforge_data::{CellSet, Split, SplitBy, SplitOptions, derive_seed, folder_names, phantom};
use cellforge_train::{Images, RunDir};

use crate::{
    Result, SourceOptions, StudyConfig,
    config::{DataConfig, PhantomStage, SplitRule},
    open_cells,
    runner::{Makes, Runner},
    source::open_path,
    stamp::Stamp,
};

/// The cells of a study, ready for use.
pub(crate) struct Cells {
    pub(crate) set: CellSet,
    /// The split as used, after any limits.
    pub(crate) split: Split,
    pub(crate) split_by: SplitBy,
    /// Folder name of each class.
    pub(crate) folders: Vec<String>,
}

impl Cells {
    /// Those of `indices` that are of one class.
    pub(crate) fn of_class(&self, indices: &[usize], class: usize) -> Vec<usize> {
        indices.iter().copied().filter(|&i| self.set.labels[i] as usize == class).collect()
    }
}

pub(crate) fn run(config: &StudyConfig, runner: &mut Runner<'_>) -> Result<(Cells, Stamp)> {
    let rendered = runner.path("data/phantom.zip");
    let options = source_options(&config.data, RunDir::new(&runner.control.out).cache(), runner.control.progress);
    // Where the cells and the names of their patients are is no input of the study, only what they are.
    let settings = DataConfig { path: None, group_csv: Vec::new(), ..config.data.clone() };
    let mut loaded = None;
    let stamp = match &config.data.path {
        Some(path) => {
            let clock = Instant::now();
            let cells = prepare(open_cells(path, &options)?, config)?;
            runner.carry = clock.elapsed().as_secs_f64();
            let settings = DataConfig { phantom: PhantomStage::default(), ..settings };
            let inputs = (settings, config.seed, cells.set.fingerprint());
            let folder = runner.path("data");
            let stamp = runner.stage("data", &inputs, &[], Makes::Folder("data"), |_| write(&folder, &cells))?;
            loaded = Some(cells);
            stamp
        }
        None => {
            tracing::info!(
                "no --data was given: using the phantom, cells that a program renders and that come from no patient"
            );
            let phantom = phantom::PhantomConfig {
                // No smaller than a microscope's crop, so that a small side is resized as real cells are.
                side: config.data.side.max(64),
                cells_per_class: config.data.phantom.images_per_class,
                patients: config.data.phantom.patients,
                seed: derive_seed(config.seed, "phantom"),
            };
            let groups: Vec<String> =
                config.data.group_csv.iter().map(|path| Ok(hash_file(path)?.1)).collect::<Result<_>>()?;
            let inputs = (settings, config.seed, "phantom", groups);
            let folder = runner.path("data");
            runner.stage("data", &inputs, &[], Makes::Folder("data"), |_| {
                phantom::write_zip(&phantom, &rendered)?;
                let cells = prepare(open_path(&rendered, &options)?, config)?;
                write(&folder, &cells)?;
                loaded = Some(cells);
                Ok(())
            })?
        }
    };
    let cells = match loaded {
        Some(cells) => cells,
        None => prepare(open_path(&rendered, &options)?, config)?,
    };
    Ok((cells, stamp))
}

/// Writes the split and a look at each class.
fn write(folder: &Path, cells: &Cells) -> Result<()> {
    cellforge_data::write_manifest(&RunDir::new(folder).split(), &cells.set, &cells.split)?;
    for (class, name) in cells.folders.iter().enumerate() {
        let shown: Vec<usize> = cells.of_class(&cells.split.train, class).into_iter().take(16).collect();
        save_grid(&folder.join(format!("real-{name}.png")), &images(&cells.set, &shown), 4)?;
    }
    Ok(())
}

/// Some cells of a set as images.
pub(crate) fn images(set: &CellSet, indices: &[usize]) -> Images {
    let pixels = indices.iter().flat_map(|&i| set.image(i).iter().copied()).collect();
    Images { side: set.side(), channels: set.channels(), pixels }
}

fn source_options(data: &DataConfig, cache_dir: PathBuf, progress: bool) -> SourceOptions {
    SourceOptions {
        side: data.side,
        channels: data.channels,
        groups: data.groups,
        group_csv: data.group_csv.clone(),
        skip_bad: data.skip_bad,
        cache_dir: Some(cache_dir),
        progress,
        ..SourceOptions::default()
    }
}

fn prepare(set: CellSet, config: &StudyConfig) -> Result<Cells> {
    let folders = folder_names(&set.classes)?;
    let data = &config.data;
    let (split, split_by) = split_cells(&set, data.split_by, data.val, data.test, derive_seed(config.seed, "split"))?;
    let limited = |indices: &[usize], limit| limit_per_class(&set, indices, limit, config.seed);
    let split = Split {
        train: limited(&split.train, data.train_limit),
        val: limited(&split.val, data.test_limit),
        test: limited(&split.test, data.test_limit),
    };
    Ok(Cells { set, split, split_by, folders })
}

/// Splits a set by the rule; `auto` keeps groups whole where every cell has one.
///
/// # Errors
/// Those of the split, for example when there are too few groups.
pub fn split_cells(set: &CellSet, rule: SplitRule, val: f64, test: f64, seed: u64) -> Result<(Split, SplitBy)> {
    let by = split_by(set, rule);
    let split = cellforge_data::split(set, &SplitOptions { by, val, test, seed })?;
    Ok((split, by))
}

/// What a rule means for a set. It is told in the log.
#[must_use]
pub fn split_by(set: &CellSet, rule: SplitRule) -> SplitBy {
    let by = match rule {
        SplitRule::Image => SplitBy::Image,
        SplitRule::Group => SplitBy::Group,
        SplitRule::Auto if set.has_groups() => SplitBy::Group,
        SplitRule::Auto => SplitBy::Image,
    };
    let patients = set.group_names().len();
    match by {
        SplitBy::Group => tracing::info!("split by patient: each of {patients} is on one side"),
        SplitBy::Image if patients > 1 => {
            tracing::info!("split by cell: each of {patients} patients may be on several sides");
        }
        SplitBy::Image => tracing::info!("split by cell: the patients are not known"),
    }
    by
}

/// At most `limit` cells of each class, chosen by a hash of seed and name, in their old order. 0 keeps all.
fn limit_per_class(set: &CellSet, indices: &[usize], limit: usize, seed: u64) -> Vec<usize> {
    if limit == 0 {
        return indices.to_vec();
    }
    let mut by_class: BTreeMap<u32, Vec<(String, usize)>> = BTreeMap::new();
    for &i in indices {
        let rank = hash_texts([seed.to_string().as_str(), set.names[i].as_str()]);
        by_class.entry(set.labels[i]).or_default().push((rank, i));
    }
    let mut kept: Vec<usize> = by_class
        .into_values()
        .flat_map(|mut ranked| {
            ranked.sort();
            ranked.into_iter().take(limit).map(|(_, i)| i)
        })
        .collect();
    kept.sort_unstable();
    kept
}
