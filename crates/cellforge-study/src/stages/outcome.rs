//! Gathers what the stages left into the results.

use std::{collections::BTreeMap, path::Path};

use cellforge_assess::{Evaluation, Versions};
use cellforge_data::{SplitRule, View, shown_path};
use cellforge_train::{LogEvent, RunDir, read_log};
use serde_json::Value;

use super::{data::Cells, gan::GanRun};
use crate::{
    Origin, Preset, Result, StudyConfig,
    judge::Judgement,
    results::{
        self, Beside, DataSummary, GanResult, GridImage, PartSummary, Published, Results, SCHEMA_VERSION, Settings,
        SingleClassGroups, SkippedImage,
    },
    runner::Runner,
};

pub(crate) fn collect(
    config: &StudyConfig,
    cells: &Cells,
    judgement: Judgement,
    evaluation: Option<Evaluation>,
    beside: Vec<Beside>,
    gans: &[GanRun],
    runner: &Runner<'_>,
) -> Result<Results> {
    Ok(Results {
        schema_version: SCHEMA_VERSION,
        settings: settings(config, &runner.control.command)?,
        versions: Versions::here(runner.devices.iter().cloned().collect::<Vec<_>>().join(", ")),
        data: summary(config, cells),
        cnn: judgement.cnn,
        resnet: judgement.resnet,
        gan: gan_results(gans, runner)?,
        recognition: judgement.recognition,
        recognition_real: judgement.recognition_real,
        evaluation,
        beside,
        published: cells.origin.is_of_study().then(Published::study),
        durations: runner.durations.iter().cloned().collect(),
    })
}

fn settings(config: &StudyConfig, command: &str) -> Result<Settings> {
    let json = |config: &StudyConfig| -> Result<Value> {
        Ok(serde_json::to_value(config).map_err(cellforge_assess::Error::json(Path::new("the settings")))?)
    };
    // Where the images lie, what they are called and the seed are choices of the run, not departures from the study.
    let mut paper = StudyConfig::preset(Preset::Paper);
    paper.preset = config.preset;
    paper.seed = config.seed;
    paper.precision = config.precision;
    paper.data.path.clone_from(&config.data.path);
    paper.data.noun.clone_from(&config.data.noun);
    paper.data.group_csv.clone_from(&config.data.group_csv);
    if config.data.path.is_some() {
        // The phantom is not used.
        paper.data.phantom.clone_from(&config.data.phantom);
    }
    let (here, preset) = (json(config)?, json(&StudyConfig::preset(config.preset))?);
    // The preset's reason is that of its own value, not of one that was given instead.
    let why = |name: &str| {
        let place = format!("/{}", name.replace('.', "/"));
        config.preset.why(name).filter(|_| here.pointer(&place) == preset.pointer(&place))
    };
    Ok(Settings {
        preset: config.preset.name().to_owned(),
        seed: config.seed,
        command: command.to_owned(),
        narrowed: results::differences(&here, &json(&paper)?, why),
        config: here,
    })
}

fn summary(config: &StudyConfig, cells: &Cells) -> DataSummary {
    let all = &cells.all;
    let source = match &config.data.path {
        None => "the phantom: cells rendered by this program, from no patient".to_owned(),
        Some(path) if cells.origin == Origin::Phantom => {
            format!("{} (the phantom: rendered cells, from no patient)", shown_path(path))
        }
        Some(path) => shown_path(path),
    };
    let part = |name: &str, part: &View| PartSummary {
        name: name.to_owned(),
        images_per_class: per_class(part),
        groups: group_count(part),
    };
    let parts = vec![part("train", &cells.train), part("val", &cells.val), part("test", &cells.test)];
    DataSummary {
        source,
        words: cells.words.clone(),
        is_phantom: cells.origin == Origin::Phantom,
        is_nih: cells.origin == Origin::Nih,
        side: all.size(),
        channels: all.channels(),
        classes: all.classes().to_vec(),
        images_per_class: per_class(all),
        groups: group_count(all),
        single_class_groups: single_class_groups(all),
        split_by: match cells.split_by {
            SplitRule::Given => "given",
            SplitRule::Group => "group",
            _ => "image",
        }
        .to_owned(),
        parts,
        not_read: all.facts().told().map(ToString::to_string).collect(),
        intensities: all.facts().intensities.as_ref().map(ToString::to_string),
        skipped: all
            .skipped()
            .iter()
            .map(|s| SkippedImage { name: s.name.clone(), reason: s.reason.clone() })
            .collect(),
        fingerprint: all.fingerprint(),
    }
}

fn per_class(cells: &View) -> BTreeMap<String, usize> {
    cells.classes().iter().cloned().zip(cells.class_counts()).collect()
}

fn group_count(cells: &View) -> Option<usize> {
    Some(cells.group_names().len()).filter(|&groups| groups > 0)
}

/// Empty where no group is known.
fn single_class_groups(cells: &View) -> BTreeMap<String, SingleClassGroups> {
    if cells.group_names().is_empty() {
        return BTreeMap::new();
    }
    let found =
        cells.single_class_groups().into_iter().map(|of| SingleClassGroups { groups: of.groups, images: of.images });
    cells.classes().iter().cloned().zip(found).collect()
}

/// The GAN of each class, by the name of that.
pub(super) fn gan_results(gans: &[GanRun], runner: &Runner<'_>) -> Result<BTreeMap<String, GanResult>> {
    gans.iter().map(|run| Ok((run.class.clone(), gan_result(run, runner)?))).collect()
}

fn gan_result(run: &GanRun, runner: &Runner<'_>) -> Result<GanResult> {
    let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for line in read_log(&RunDir::new(runner.path(&run.folder)).log())? {
        if line.event == LogEvent::Step {
            for (name, value) in line.values {
                curves.entry(name).or_default().push((line.iteration, f64::from(value)));
            }
        }
    }
    let mut grids = Vec::new();
    for iteration in run.config.grids() {
        let grid = RunDir::new(&run.folder).grid(iteration);
        let parts: Vec<_> = grid.iter().map(|part| part.to_string_lossy()).collect();
        grids.push(GridImage { iteration, path: parts.join("/") });
    }
    Ok(GanResult {
        iterations: run.config.iterations,
        params_g: run.config.model.generator_summary().params(),
        params_d: run.config.model.discriminator_summary().params(),
        losses: curves.into_iter().map(|(name, curve)| (name, results::thin(curve))).collect(),
        grids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_of_the_preset() {
        let mut config = StudyConfig::preset(Preset::Quick);
        config.gan.iterations = 5;
        let narrowed = settings(&config, "").unwrap().narrowed;
        let why = |name: &str| narrowed.iter().find(|change| change.setting == name).unwrap().why.clone();
        assert_eq!(why("gan.iterations"), None);
        assert!(why("gan.model.width").is_some());
    }
}
