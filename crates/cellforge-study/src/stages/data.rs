//! The data stage: the cells, their split, and a look at them.

use std::{collections::BTreeMap, time::Instant};

use cellforge_assess::{
    evaluation::Words,
    files::{hash_file, hash_texts},
};
use cellforge_data::{
    Progress, Readers, Split, SplitOptions, SplitPart, SplitRule, View, derive_seed, folder_names, phantom, save_grid,
    split,
};
use cellforge_train::{RunDir, Stage};

use crate::{
    Origin, Result, StudyConfig,
    config::{DataConfig, PhantomStage, TableConfig},
    runner::{Makes, Runner},
    stamp::Stamp,
};

/// The cells of a study, ready for use.
pub(crate) struct Cells {
    pub(crate) all: View,
    /// The parts of the split as used, after any limits.
    pub(crate) train: View,
    pub(crate) val: View,
    pub(crate) test: View,
    /// What the split kept whole: images or groups.
    pub(crate) split_by: SplitRule,
    /// Folder name of each class.
    pub(crate) folders: Vec<String>,
    /// Whose images they are.
    pub(crate) origin: Origin,
    /// What they are called.
    pub(crate) words: Words,
}

pub(crate) fn run(config: &StudyConfig, runner: &mut Runner<'_>) -> Result<(Cells, Stamp)> {
    let (dir, made) = (runner.dir(), Makes::Folder(Stage::Data.folder()));
    let rendered = dir.phantom();
    let mut options = config.data.open_options()?;
    options.cache_dir = Some(dir.cache());
    options.progress = runner.control.progress.then(Progress::images_bar);
    // Where the images and the names of their patients lie, and what they are called, is no input of this stage: only what they are.
    let noun = DataConfig::default().noun;
    let (path, group_csv, table) = (None, Vec::new(), TableConfig::default());
    let settings = DataConfig { noun, path, group_csv, table, ..config.data.clone() };
    let mut loaded = None;
    let stamp = match &config.data.path {
        Some(path) => {
            let clock = Instant::now();
            let cells = prepare(View::open(path, &options)?, config)?;
            runner.carry = clock.elapsed().as_secs_f64();
            let settings = DataConfig { phantom: PhantomStage::default(), ..settings };
            let inputs = (settings, config.seed, fingerprint(&cells.all));
            let stamp = runner.stage("data", &inputs, &[], made, |_| write(&dir, &cells))?;
            loaded = Some(cells);
            stamp
        }
        None => {
            tracing::info!(
                "no images were given: using the phantom, cells that a program renders and that come from no patient"
            );
            let phantom = phantom::PhantomConfig {
                // No smaller than a microscope's crop, so that a small side is resized as real cells are.
                size: phantom::crop_size(config.data.side),
                images_per_class: config.data.phantom.images_per_class,
                patients: config.data.phantom.patients,
                seed: derive_seed(config.seed, "phantom"),
            };
            let groups: Vec<String> =
                config.data.group_csv.iter().map(|path| Ok(hash_file(path)?.1)).collect::<Result<_>>()?;
            let inputs = (settings, config.seed, "phantom", groups);
            runner.stage("data", &inputs, &[], made, |_| {
                phantom::write_zip(&phantom, &rendered)?;
                let cells = prepare(View::open(&rendered, &options)?, config)?;
                write(&dir, &cells)?;
                loaded = Some(cells);
                Ok(())
            })?
        }
    };
    let cells = match loaded {
        Some(cells) => cells,
        None => prepare(View::open(&rendered, &options)?, config)?,
    };
    Ok((cells, stamp))
}

/// Writes the split and a look at each class.
fn write(dir: &RunDir, cells: &Cells) -> Result<()> {
    let [train, val, test] = [&cells.train, &cells.val, &cells.test].map(View::rows);
    cellforge_data::write_manifest(&dir.stage(Stage::Data).split(), &cells.all, &Split { train, val, test })?;
    for (class, name) in cells.folders.iter().enumerate() {
        save_grid(&dir.real_grid(name), &cells.train.class(class as u32).first(16), 4, Readers::Owner)?;
    }
    Ok(())
}

/// What the images are, and the parts of a split that their source puts them into where it does.
fn fingerprint(all: &View) -> String {
    if !all.has_given_parts() {
        return all.fingerprint();
    }
    let parts = (0..all.len()).map(|i| all.given_part(i).map_or("none", SplitPart::name));
    hash_texts(std::iter::once(all.fingerprint().as_str()).chain(parts))
}

fn prepare(all: View, config: &StudyConfig) -> Result<Cells> {
    let folders = folder_names(all.classes())?;
    let data = &config.data;
    // A phantom that was written to disk and given as data is still a phantom.
    let origin = if data.path.is_none() { Origin::Phantom } else { Origin::of(&all) };
    let words = origin.words(data)?;
    let seed = derive_seed(config.seed, "split");
    let split_by = settled(data.split_by, &all, &words);
    let options = SplitOptions { by: split_by, val: data.val, test: data.test, seed, duplicates: data.duplicates };
    let split = split(&all, &options)?;
    let limited = |positions: &[usize], limit| limit_per_class(&all.part(positions), limit, config.seed);
    Ok(Cells {
        train: limited(&split.train, data.train_limit),
        val: limited(&split.val, data.test_limit),
        test: limited(&split.test, data.test_limit),
        all,
        split_by,
        folders,
        origin,
        words,
    })
}

/// What a rule means for these images, with a line in the log.
fn settled(rule: SplitRule, cells: &View, words: &Words) -> SplitRule {
    let one = &words.one;
    let by = rule.settled(cells);
    let patients = cells.group_names().len();
    match by {
        SplitRule::Given => tracing::info!("split as the source splits its images"),
        SplitRule::Group => tracing::info!("split by patient: each of {patients} is on one side"),
        _ if patients > 1 => {
            tracing::info!("split by {one}: each of {patients} patients may be on several sides");
        }
        _ => tracing::info!("split by {one}: the patients are not known"),
    }
    by
}

/// At most `limit` cells of each class, chosen by a hash of seed and name, in their old order. 0 keeps all.
fn limit_per_class(cells: &View, limit: usize, seed: u64) -> View {
    if limit == 0 {
        return cells.clone();
    }
    let mut by_class: BTreeMap<u32, Vec<(String, usize)>> = BTreeMap::new();
    for i in 0..cells.len() {
        let rank = hash_texts([seed.to_string().as_str(), cells.name(i)]);
        by_class.entry(cells.label(i)).or_default().push((rank, i));
    }
    let mut kept: Vec<usize> = by_class
        .into_values()
        .flat_map(|mut ranked| {
            ranked.sort();
            ranked.into_iter().take(limit).map(|(_, i)| i)
        })
        .collect();
    kept.sort_unstable();
    cells.part(&kept)
}
