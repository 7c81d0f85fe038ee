//! `cellforge classify`: what a trained classifier says of any images.

mod tables;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::report::classifier::{self, ClassifierPage},
    data::{self, View, counted, shown_path},
    eval::{self, BootstrapOptions, ClassifierReport, GroupFigures},
    study::{self, StudyConfig},
    train::{RunDir, Seen, Slot, Stage, TrainedClassifier},
};
use serde::Serialize;

use crate::{
    common::{Given, Globals, Shorthands, check_free, memory, save, say, settings, with_reading},
    images::{self, bootstrap, table},
};

/// Arguments of `classify`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge classify --checkpoint runs/quick --data images.zip
  cellforge classify --checkpoint resnet --data some-folder --csv each.csv --json figures.json --report page.html
  cellforge classify --checkpoint runs/quick --model cnn --data images.zip
  cellforge classify --checkpoint resnet --data images.zip --split resnet/split.csv
  cellforge classify --checkpoint resnet --data images.zip --split resnet/split.csv --part val

  cellforge classify --checkpoint resnet --data images --patient-csv patients.csv --strata sites.csv --strata-column site

With --split only the images of one part are classified. What is printed says how many of the images the network was trained on.

If the class folders of the data have the names of the classifier's classes, figures are printed with 95% intervals. Otherwise, as for a
folder of loose images, only predictions are. The CSV has one line per image, that of --patient-csv one per patient. With --strata, images are
also judged by site, scanner or whatever else a column says of each image, or of its patient.

Probabilities are scaled by the temperature that the checkpoint has, fitted on the validation images of its training.

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
    /// Write a page with the figures to this file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write each image's probabilities to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write each patient's figures to this file
    #[arg(long, value_name = "FILE")]
    patient_csv: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// The shorthands of `classify`.
pub struct ClassifyShorthands;

impl Shorthands for ClassifyShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("checkpoint", "inputs.checkpoint"),
        ("data", "data.path"),
        ("split", "inputs.split"),
        ("part", "inputs.part"),
        ("strata", "inputs.strata"),
        ("strata-column", "inputs.strata_column"),
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
    /// Those that the classifier was trained on, and that its best epoch was chosen by; null where its checkpoint does not say.
    seen: Option<Seen>,
    /// What logits were divided by; null where nothing was fitted.
    temperature: Option<f64>,
    /// Images taken for each class.
    predicted: BTreeMap<&'a str, usize>,
    /// The figures, where the class folders have names the classifier knows.
    report: Option<ClassifierReport>,
    /// Each patient by itself, where all are known.
    patients: &'a [GroupFigures],
    /// The figures of the images of each stratum.
    strata: &'a BTreeMap<String, ClassifierReport>,
    skipped: Vec<BTreeMap<&'static str, &'a str>>,
}

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    let files = [
        ("--json", &args.json),
        ("--csv", &args.csv),
        ("--patient-csv", &args.patient_csv),
        ("--report", &args.report),
    ];
    for (at, (flag, file)) in files.iter().enumerate() {
        if let Some((other, _)) = files[..at].iter().find(|(_, other)| file.is_some() && other == file) {
            bail!("{other} and {flag} name the same file");
        }
    }
    check_free(files.iter().filter_map(|(_, file)| file.as_ref()), args.overwrite)?;
    let config = settings(&globals, Vec::new(), args.given.layers()?, None)?;
    if config.inputs.part.is_some() && config.inputs.split.is_none() {
        bail!("--part is a part of a split: name its file with --split");
    }
    let session = globals.open(config.precision)?;
    let checkpoint =
        config.inputs.checkpoint.as_deref().context("--checkpoint is missing: name a trained classifier's folder")?;
    let path = config.data.path.as_deref().context("--data is missing: name a folder or zip of images")?;
    let classifier = TrainedClassifier::load_in(
        classifier_folder(checkpoint, args.model.as_deref())?,
        &session.device,
        session.precision,
    )?;
    let classes = classifier.classes();

    let mut options = images::options(&config.data, None, session.progress)?;
    let takes = classifier.channels();
    if let Some(asked) = options.channels.filter(|asked| *asked != takes) {
        bail!("--channels is {asked}, but this classifier takes images of {takes}: leave it out");
    }
    (options.size, options.channels) = (classifier.image_size(), Some(takes));
    let state = classifier.state();
    images::read_alike(&mut options, state.fit, state.intensities.as_ref());
    options.memory = Some(memory::free(&globals));
    let all = images::open_unlabelled_at(path, &options)?;
    let set = match images::named_split(&config, &all)? {
        Some(split) => {
            let part = config.inputs.part.unwrap_or_default();
            if split.part(part).is_empty() {
                bail!("the split has no {} images: name another --part", part.name());
            }
            all.part(split.part(part))
        }
        None => all,
    };
    let seen = classifier.seen(&set);
    let known = Known::new(&set, classes, &config)?;
    if args.patient_csv.is_some() && (known.truth.is_none() || known.patients.is_none()) {
        bail!("--patient-csv needs class folders with the classifier's names, and patients: see --group-csv");
    }
    let probabilities = classifier.predict(&set)?;
    let predicted = eval::predictions(&probabilities, classes.len())?;
    let Figures { report, patients, strata } =
        known.figures(classes, &probabilities, &predicted, &bootstrap(&config))?;
    let truth = known.truth.unwrap_or_default();
    let report = report.map(|report| report.scaled_by(classifier.temperature(), &truth, &probabilities));
    if args.report.is_some() && report.is_none() {
        bail!("--report needs class folders with the classifier's names: {}", classes.join(", "));
    }
    let mut counts: BTreeMap<&str, usize> = classes.iter().map(|class| (class.as_str(), 0)).collect();
    for &class in &predicted {
        *counts.entry(&classes[class as usize]).or_default() += 1;
    }
    if let Some(file) = &args.csv {
        save(file, &tables::csv(&set, classes, &probabilities, &predicted))?;
    }
    if let Some(file) = &args.patient_csv {
        save(file, &tables::patient_csv(&patients, classes))?;
    }
    if let (Some(file), Some(found)) = (&args.report, &report) {
        let lead =
            [format!("{} of {}: {}.", counted(set.len(), "image", "images"), shown_path(path), seen_in_words(seen))];
        let text = images::page_text("A classifier, applied", &config, &set, lead.to_vec())?;
        let source = args.json.as_ref().and_then(|json| json.file_name()).unwrap_or("cellforge classify".as_ref());
        let source = &source.to_string_lossy();
        save(file, &classifier::render(&ClassifierPage { text: &text, found, folds: None, history: None, source }))?;
    }
    if let Some(file) = &args.json {
        let skipped =
            set.skipped().iter().map(|s| BTreeMap::from([("name", s.name.as_str()), ("reason", s.reason.as_str())]));
        let findings = Findings {
            checkpoint,
            data: path,
            seed: config.seed,
            classes,
            images: set.len(),
            seen,
            temperature: classifier.temperature(),
            predicted: counts.clone(),
            report: report.clone(),
            patients: &patients,
            strata: &strata,
            skipped: skipped.collect(),
        };
        save(file, &(serde_json::to_string_pretty(&findings)? + "\n"))?;
    }
    let found: Vec<String> = counts.iter().map(|(class, n)| format!("{n} {class}")).collect();
    say(format!("{}: {}", counted(set.len(), "image", "images"), found.join(", ")));
    say(seen_in_words(seen));
    match report {
        Some(report) => {
            say(table(&report));
            if !patients.is_empty() {
                say(format!("\n{}", tables::spread(&patients)));
            }
            if !strata.is_empty() {
                say(format!("\n{}", tables::strata(&strata, classes)));
            }
        }
        None => say(format!(
            "{}no figures: the data's class folders are not the classifier's classes ({})",
            temperature_in_words(classifier.temperature()),
            classes.join(", ")
        )),
    }
    Ok(())
}

/// What is known of the images beside their pixels.
struct Known {
    truth: Option<Vec<u32>>,
    patients: Option<Vec<String>>,
    strata: Option<Vec<String>>,
}

/// What the predictions come to. Of patients that are not known, and of strata that were not asked for, there are none.
#[derive(Default)]
struct Figures {
    report: Option<ClassifierReport>,
    patients: Vec<GroupFigures>,
    strata: BTreeMap<String, ClassifierReport>,
}

impl Known {
    fn new(set: &View, classes: &[String], config: &StudyConfig) -> Result<Self> {
        let truth = truth(set, classes);
        let strata = match &config.inputs.strata {
            Some(_) if truth.is_none() => {
                bail!("--strata needs class folders with the classifier's names: {}", classes.join(", "))
            }
            Some(file) => Some(data::read_strata(file, config.inputs.strata_column.as_deref(), set)?),
            None => None,
        };
        Ok(Self { truth, patients: set.groups(), strata })
    }

    fn figures(
        &self,
        classes: &[String],
        probabilities: &[Vec<f32>],
        predicted: &[u32],
        options: &BootstrapOptions,
    ) -> Result<Figures> {
        let Some(truth) = &self.truth else { return Ok(Figures::default()) };
        let of = |rows: &[usize]| -> Result<ClassifierReport> {
            let truth: Vec<u32> = rows.iter().map(|&i| truth[i]).collect();
            let probabilities: Vec<Vec<f32>> = rows.iter().map(|&i| probabilities[i].clone()).collect();
            let patients: Option<Vec<String>> =
                self.patients.as_ref().map(|all| rows.iter().map(|&i| all[i].clone()).collect());
            Ok(eval::classifier_report(&truth, &probabilities, classes, patients.as_deref(), options)?)
        };
        let mut rows: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
        for (i, stratum) in self.strata.iter().flatten().enumerate() {
            rows.entry(stratum).or_default().push(i);
        }
        let patients = match &self.patients {
            Some(patients) => eval::by_group(truth, predicted, classes, patients, options.level)?,
            None => Vec::new(),
        };
        Ok(Figures {
            report: Some(eval::classifier_report(truth, probabilities, classes, self.patients.as_deref(), options)?),
            patients,
            strata: rows.into_iter().map(|(name, rows)| Ok((name.clone(), of(&rows)?))).collect::<Result<_>>()?,
        })
    }
}

/// What probabilities were scaled by, as a line.
fn temperature_in_words(temperature: Option<f64>) -> String {
    let line = |t| {
        format!("probabilities are scaled by a temperature of {t:.4}, fitted on the training's validation images\n")
    };
    temperature.map_or_else(String::new, line)
}

/// Whether the classifier has seen the images before.
fn seen_in_words(seen: Option<Seen>) -> String {
    match seen {
        None => "whether it was trained on any of them cannot be known: its checkpoint does not record it".to_owned(),
        Some(Seen { train: 0, val: 0, .. }) => "it was trained on none of them".to_owned(),
        Some(Seen { images, train, val }) => {
            let chosen = if val > 0 { format!(", and its best epoch was chosen on {val}") } else { String::new() };
            format!(
                "warning: it was trained on {train} of these {}{chosen}: figures on them do not tell how it does on new ones",
                counted(images, "image", "images")
            )
        }
    }
}

/// The folder to load from: `dir` itself, or the classifier of the study in `dir` (after its last epoch, as the study judged it).
fn classifier_folder(dir: &Path, model: Option<&str>) -> Result<PathBuf> {
    if !dir.is_dir() {
        bail!("{} is not a folder; --checkpoint takes the folder of a trained classifier or of a study", dir.display());
    }
    let of_study = RunDir::new(dir);
    let fold = of_study.fold(1);
    if fold.path().is_dir() {
        bail!(
            "{} holds a cross-validation: name one of its networks, such as {}",
            dir.display(),
            fold.path().display()
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_has_seen_is_said() {
        let said = |train, val| seen_in_words(Some(Seen { images: 9, train, val }));
        assert_eq!(said(0, 0), "it was trained on none of them");
        assert!(said(4, 0).starts_with("warning: it was trained on 4 of these 9 images: "));
        assert!(said(0, 2).contains("on 0 of these 9 images, and its best epoch was chosen on 2: "));
        assert!(seen_in_words(None).contains("cannot be known"));
    }
}
