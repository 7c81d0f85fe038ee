//! `cellforge classify`: what a trained classifier says of any images.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cellforge::{
    data::{View, counted},
    eval::{self, ClassifierReport},
    study,
    train::{RunDir, Slot, Stage, TrainedClassifier},
};
use serde::Serialize;

use crate::{
    common::{Given, Globals, Shorthands, check_free, save, say, settings},
    images::{self, bootstrap, list_skipped, table},
};

/// Arguments of `classify`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge classify --checkpoint runs/quick --data images.zip
  cellforge classify --checkpoint resnet --data some-folder --csv each.csv --json figures.json
  cellforge classify --checkpoint runs/quick --model cnn --data images.zip

If the class folders of the data have the names of the classifier's classes, figures are printed with 95% intervals. Otherwise, as for a
folder of loose images, only predictions are. The CSV has one line per image.

For research and teaching. Not a diagnostic device.")]
pub struct Args {
    #[command(flatten)]
    given: Given<ClassifyShorthands>,
    /// Which classifier of a study: resnet, or cnn for the best small network [default: resnet]
    #[arg(long, value_name = "NAME", value_parser = ["resnet", "cnn"])]
    model: Option<String>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write each image's probabilities to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// The shorthands of `classify`.
pub struct ClassifyShorthands;

impl Shorthands for ClassifyShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = &[
        ("checkpoint", "inputs.checkpoint"),
        ("data", "data.path"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
    ];
}

/// What `--json` writes.
#[derive(Serialize)]
struct Findings<'a> {
    checkpoint: &'a Path,
    data: &'a str,
    seed: u64,
    classes: &'a [String],
    images: usize,
    /// Images taken for each class.
    predicted: BTreeMap<&'a str, usize>,
    /// The figures, where the class folders have names the classifier knows.
    report: Option<ClassifierReport>,
    skipped: Vec<BTreeMap<&'static str, &'a str>>,
}

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    if args.json.is_some() && args.json == args.csv {
        bail!("--json and --csv name the same file");
    }
    check_free(args.json.iter().chain(&args.csv), args.overwrite)?;
    let config = settings(&globals, Vec::new(), args.given.layers()?, None)?;
    let session = globals.open(config.precision)?;
    let checkpoint =
        config.inputs.checkpoint.as_deref().context("--checkpoint is missing: name a trained classifier's folder")?;
    let data = config.data.path.as_deref().context("--data is missing: name a folder or zip of images")?;
    let classifier = TrainedClassifier::load_in(
        classifier_folder(checkpoint, args.model.as_deref())?,
        &session.device,
        session.precision,
    )?;
    let classes = classifier.classes();

    let mut options = images::options(&config.data, config.data.groups, None, session.progress);
    (options.side, options.channels) = (classifier.side(), classifier.channels());
    let set = View::open_unlabelled(data, &options)?;
    list_skipped(&set);
    let probabilities = classifier.predict(&set)?;
    let predicted = eval::predictions(&probabilities, classes.len())?;

    let report = match truth(&set, classes) {
        Some(truth) => {
            let options = bootstrap(&config);
            Some(eval::classifier_report(&truth, &probabilities, classes, set.groups().as_deref(), &options)?)
        }
        None => None,
    };
    let mut counts: BTreeMap<&str, usize> = classes.iter().map(|class| (class.as_str(), 0)).collect();
    for &class in &predicted {
        *counts.entry(&classes[class as usize]).or_default() += 1;
    }
    if let Some(path) = &args.csv {
        save(path, &csv(&set, classes, &probabilities, &predicted))?;
    }
    if let Some(path) = &args.json {
        let skipped =
            set.skipped().iter().map(|s| BTreeMap::from([("name", s.name.as_str()), ("reason", s.reason.as_str())]));
        let findings = Findings {
            checkpoint,
            data,
            seed: config.seed,
            classes,
            images: set.len(),
            predicted: counts.clone(),
            report: report.clone(),
            skipped: skipped.collect(),
        };
        save(path, &(serde_json::to_string_pretty(&findings)? + "\n"))?;
    }
    let found: Vec<String> = counts.iter().map(|(class, n)| format!("{n} {class}")).collect();
    say(format!("{}: {}", counted(set.len(), "image", "images"), found.join(", ")));
    match report {
        Some(report) => say(table(&report)),
        None => say(format!(
            "no figures: the data's class folders are not the classifier's classes ({})",
            classes.join(", ")
        )),
    }
    Ok(())
}

/// The folder to load from: `dir` itself, or the classifier of the study in `dir` (after its last epoch, as the study judged it).
fn classifier_folder(dir: &Path, model: Option<&str>) -> Result<PathBuf> {
    if !dir.is_dir() {
        bail!("{} is not a folder; --checkpoint takes the folder of a trained classifier or of a study", dir.display());
    }
    let of_study = RunDir::new(dir);
    if !of_study.stage(Stage::Resnet).path().is_dir() {
        if model.is_some() {
            bail!("{} holds a single classifier, and --model chooses one of a study: leave it out", dir.display());
        }
        return Ok(dir.to_path_buf());
    }
    if model != Some(Stage::Cnn.folder()) {
        return Ok(of_study.classifier());
    }
    let path = of_study.results();
    let text =
        std::fs::read(&path).with_context(|| format!("cannot read {}; is the study finished?", path.display()))?;
    let results: study::Results =
        serde_json::from_slice(&text).with_context(|| format!("{} is not a study's results", path.display()))?;
    Ok(of_study.run_of(Stage::Cnn, &results.cnn.best).slot(Slot::Last))
}

/// The classifier's label of each image, if every class folder has the name of a class, as it is or made safe for a folder.
fn truth(set: &View, classes: &[String]) -> Option<Vec<u32>> {
    set.relabelled(classes).ok().map(|set| set.labels())
}

fn csv(set: &View, classes: &[String], probabilities: &[Vec<f32>], predicted: &[u32]) -> String {
    let mut text = String::from("name,folder,predicted");
    for class in classes {
        text.push(',');
        text.push_str(&quoted(&format!("p_{class}")));
    }
    text.push('\n');
    for (i, row) in probabilities.iter().enumerate() {
        let fields = [set.name(i), set.class_of(i), &classes[predicted[i] as usize]];
        text.push_str(&fields.map(quoted).join(","));
        for p in row {
            text.push_str(&format!(",{p:.6}"));
        }
        text.push('\n');
    }
    text
}

/// A CSV field (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(super::quoted("a"), "a");
        assert_eq!(super::quoted("a,b"), "\"a,b\"");
        assert_eq!(super::quoted("a\"b"), "\"a\"\"b\"");
    }
}
