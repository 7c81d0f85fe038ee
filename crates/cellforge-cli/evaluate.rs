//! `cellforge evaluate`: what synthetic images are worth.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{
        self, Evaluation, EvaluationConfig,
        evaluation::{Answer, EvaluationInputs, FeatureSource, FidelityScope, Part, Provenance},
        utility::{UtilityClassifier, UtilityConfig},
    },
    data::{View, derive_seed},
    eval::{BootstrapOptions, Estimate},
    study,
    train::{self, RunDir, TrainedClassifier},
};
use serde::{Deserialize, Serialize};

use crate::{
    common::{Globals, Interrupted, check_outside, check_settings, effective, is_false, is_of, layered, save, say},
    images::ImageArgs,
};

/// Arguments of `evaluate`.
#[derive(clap::Args, Clone, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  cellforge evaluate --real train.zip --holdout test.zip --synthetic synthetic.zip --features resnet:runs/quick --out evaluation
  cellforge evaluate --real train.zip --synthetic synthetic.zip --features pixels --utility none
  cellforge evaluate --real train --holdout test --synthetic made --features inception:pt_inception.safetensors --out fid
  cellforge evaluate --resume --out evaluation

--real are the images that the generators learned from, --holdout images of other patients that they never saw. Without --holdout there
is no test for leaks. OUT gets evaluation.json, report.html and datasheet.md; without --out the summary alone is printed.
For research and teaching. Not a diagnostic device.")]
pub struct Args {
    /// Folder or zip of the real images that the generators learned from, one folder per class
    #[arg(long, value_name = "PATH")]
    real: Option<String>,
    /// Folder or zip of real images of other patients, which the generators never saw
    #[arg(long, value_name = "PATH")]
    holdout: Option<String>,
    /// Folder or zip of the synthetic images, with the same class folders
    #[arg(long, value_name = "PATH")]
    synthetic: Option<String>,
    /// What images are compared by: resnet:DIR (a trained classifier's folder or a study's), pixels, inception:FILE (its weights), or
    /// safetensors:FILE (features that another program computed: real, synthetic, holdout) [default: pixels]
    #[arg(long, value_name = "SOURCE")]
    features: Option<String>,
    /// Folder of a trained GAN, for the test of membership by its discriminator; give one per class
    #[arg(long, value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    discriminator: Vec<PathBuf>,
    /// Train classifiers on real and synthetic images: none, cnn or resnet [default: none]
    #[arg(long, value_name = "NAME", value_parser = ["none", "cnn", "resnet"])]
    utility: Option<String>,
    /// Updates of each of these classifiers [default: 500]
    #[arg(long, value_name = "N")]
    utility_steps: Option<u64>,
    /// Trainings of each kind [default: 5]
    #[arg(long, value_name = "N")]
    utility_seeds: Option<usize>,
    /// Width of these classifiers; 1 is the study's [default: 1]
    #[arg(long, value_name = "X")]
    utility_width: Option<f64>,
    /// Which nearest neighbour counts as near, for precision, recall, density and coverage [default: 5]
    #[arg(long, value_name = "N")]
    k: Option<usize>,
    /// Bootstrap resamples per interval [default: 1000]
    #[arg(long, value_name = "N")]
    resamples: Option<usize>,
    /// At most so many images of each set and class, as whole patients; 0 takes all [default: 0]
    #[arg(long, value_name = "N")]
    max_images: Option<usize>,
    /// Side to which images are resized, where the features do not say: 32, 64 or 128 [default: 64]
    #[arg(long, value_name = "PIXELS")]
    side: Option<usize>,
    /// 3 for colour, 1 for grey, where the features do not say [default: 3]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Where a real image's patient comes from: auto, nih (file names) or none [default: auto]
    #[arg(long, value_name = "RULE", value_parser = ["auto", "nih", "none"])]
    groups: Option<String>,
    /// A CSV file that names the patient of each file; may be repeated
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    group_csv: Vec<PathBuf>,
    /// Leave out images that cannot be read, and list them
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    skip_bad: bool,
    /// Leave out the tests for leaks
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    no_privacy: bool,
    /// Leave the pictures of real images out of the report
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    no_pairs: bool,
    /// Folder for the figures, the report and the data sheet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the evaluation in OUT; flags not given are those it was started with
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_false")]
    resume: bool,
    /// Throw away the evaluation in OUT and start anew
    #[arg(long, conflicts_with = "resume")]
    #[serde(default, skip)]
    overwrite: bool,
}

pub fn run(mut globals: Globals, flags: &Args) -> Result<()> {
    crate::train::remember(&mut globals, flags.resume, flags.out.as_ref())?;
    let mut args: Args = layered(&mut globals, flags)?;
    args.overwrite = flags.overwrite;
    let real = args.real.clone().context("--real is missing: name a folder or zip of real images")?;
    let synthetic =
        args.synthetic.clone().context("--synthetic is missing: name a folder or zip of synthetic images")?;
    let features = feature_source(args.features.get_or_insert_with(|| "pixels".to_owned()))?;
    let session = globals.open_stoppable()?;
    let config = config(&mut args, session.seed);
    config.validate()?;
    let temporary;
    let out = match &args.out {
        Some(out) => {
            check_outside(out, [Some(&real), args.holdout.as_ref(), Some(&synthetic)].into_iter().flatten())?;
            out.clone()
        }
        None => {
            temporary = tempfile::tempdir().context("cannot make a folder for what is computed on the way")?;
            temporary.path().to_path_buf()
        }
    };
    let _lock = RunDir::new(&out).lock()?;
    let settings = effective("evaluate", session.seed, &args)?;
    check_folder(&out, &args)?;

    let size = match &features {
        FeatureSource::Classifier(dir) => {
            let classifier = TrainedClassifier::load(assess::evaluation::classifier_folder(dir))?;
            (classifier.side(), classifier.channels())
        }
        _ => (args.side.unwrap_or(64), args.channels.unwrap_or(3)),
    };
    let open = |path: &str, groups: Option<&str>| -> Result<View> {
        let images = ImageArgs {
            data: Some(path.to_owned()),
            side: Some(size.0),
            channels: Some(size.1),
            groups: groups.map(str::to_owned),
            group_csv: if groups == Some("none") { Vec::new() } else { args.group_csv.clone() },
            skip_bad: args.skip_bad,
        };
        images.open(&images.options(None, session.progress), session.seed)
    };
    let groups = args.groups.as_deref();
    let real_set = open(&real, groups)?;
    let holdout_set = args.holdout.as_ref().map(|path| open(path, groups)).transpose()?;
    let synthetic_set = open(&synthetic, Some("none"))?;
    let control =
        train::Control { device: session.device.clone(), stop: session.stop.clone(), progress: session.progress };
    let inputs = EvaluationInputs {
        real: Part::new(real_set.clone(), shown(&real)),
        holdout: holdout_set.zip(args.holdout.as_ref()).map(|(images, path)| Part::new(images, shown(path))),
        synthetic: Part::new(synthetic_set, shown(&synthetic)),
        features,
        discriminators: args.discriminator.clone(),
        provenance: Provenance {
            generator: None,
            seed: None,
            command: "cellforge evaluate --config config.toml --out AGAIN".to_owned(),
            is_phantom: study::is_phantom(&real_set),
            is_nih: study::is_nih(&real_set),
        },
    };
    // Only now: a mistake in the data must not leave the settings of an evaluation that never began.
    prepare(&out, &args, &settings)?;
    let found = assess::evaluate(&config, &inputs, &out, &control).map_err(|error| match (error, &args.out) {
        (assess::Error::Interrupted, Some(out)) => {
            let out = study::shell_word(&out.display().to_string());
            Interrupted(format!("stopped; go on with: cellforge evaluate --resume --out {out}")).into()
        }
        (assess::Error::Interrupted, None) => Interrupted("stopped".to_owned()).into(),
        (error, _) => anyhow::Error::from(error),
    })?;
    say(summary(&found));
    if args.out.is_some() {
        save(&out.join("report.html"), &assess::report::render(&found, &out)?)?;
        save(&out.join("datasheet.md"), &assess::evaluation::datasheet(&found))?;
        say(format!("\nreport: {}", out.join("report.html").display()));
        say(format!("figures: {}", out.join("evaluation.json").display()));
        if !found.pairs.is_empty() && !found.provenance.is_phantom {
            say("the report holds pictures of real images: do not pass it on (--no-pairs leaves them out)");
        }
    }
    Ok(())
}

/// The last part of a path: where a folder lies on this machine is nobody's business.
fn shown(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.to_owned())
}

/// Folders that an evaluation makes in its own. They hold files alone.
const FOLDERS: [&str; 3] = ["features", "runs", "pairs"];

/// Refuses a folder that holds an evaluation, unless the flags say what to do with it, and one that holds anything else of these names.
fn check_folder(out: &Path, args: &Args) -> Result<()> {
    if RunDir::new(out).holds_run() || out.join("results.json").exists() {
        bail!("{} is the folder of a trained network or of a study; name another for the evaluation", out.display());
    }
    check_settings(out, "evaluate")?;
    let own = is_of(out, "evaluate");
    if own && !args.resume && !args.overwrite {
        bail!(
            "{} holds an evaluation: go on with --resume, start anew with --overwrite, or name another folder",
            out.display()
        );
    }
    // An evaluation in the current folder has the `runs` in which studies land by default.
    let holds_folders = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()))
    };
    let foreign = |folder: &PathBuf| folder.is_dir() && (!own || holds_folders(folder));
    if !args.resume
        && let Some(folder) = FOLDERS.map(|name| out.join(name)).into_iter().find(foreign)
    {
        bail!("{} is of no evaluation, which would empty it: move it away, or name another --out", folder.display());
    }
    Ok(())
}

/// Makes the folder of an evaluation ready.
fn prepare(out: &Path, args: &Args, settings: &str) -> Result<()> {
    if !args.resume {
        for folder in FOLDERS.map(|name| out.join(name)) {
            if folder.is_dir() {
                std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            }
        }
    }
    save(&RunDir::new(out).settings(), settings)
}

fn feature_source(text: &str) -> Result<FeatureSource> {
    Ok(match text.split_once(':') {
        None if text == "pixels" => FeatureSource::Pixels,
        Some(("resnet" | "cnn" | "classifier", path)) if !path.is_empty() => FeatureSource::Classifier(path.into()),
        Some(("inception", path)) if !path.is_empty() => FeatureSource::Inception(path.into()),
        Some(("safetensors", path)) if !path.is_empty() => FeatureSource::File(path.into()),
        _ => bail!("--features {text} is none of resnet:DIR, pixels, inception:FILE and safetensors:FILE"),
    })
}

/// The settings of the evaluation; those that were not given are written back into the flags, so that what is saved is complete.
fn config(args: &mut Args, seed: u64) -> EvaluationConfig {
    let default = EvaluationConfig::default();
    let k = *args.k.get_or_insert(default.k);
    let resamples = *args.resamples.get_or_insert(default.resamples);
    let max_images = *args.max_images.get_or_insert(default.max_images);
    let classifier = match args.utility.get_or_insert_with(|| "none".to_owned()).as_str() {
        "cnn" => Some(UtilityClassifier::Cnn),
        "resnet" => Some(UtilityClassifier::Resnet),
        _ => None,
    };
    let utility = classifier.map(|classifier| {
        let usual = UtilityConfig::default();
        UtilityConfig {
            classifier,
            steps: *args.utility_steps.get_or_insert(usual.steps),
            seeds: *args.utility_seeds.get_or_insert(usual.seeds),
            width: *args.utility_width.get_or_insert(usual.width),
            seed: derive_seed(seed, "utility"),
            bootstrap: BootstrapOptions { resamples, seed: derive_seed(seed, "utility"), level: default.level },
            ..usual
        }
    });
    EvaluationConfig {
        privacy: !args.no_privacy,
        utility,
        k,
        resamples,
        max_images,
        pairs: if args.no_pairs { 0 } else { default.pairs },
        seed,
        ..default
    }
}

/// The verdicts and the figures they rest on.
fn summary(found: &Evaluation) -> String {
    let mut lines = Vec::new();
    for verdict in &found.verdicts {
        let word = match verdict.answer {
            Answer::Good => "good",
            Answer::Caution => "with care",
            Answer::Bad => "bad",
            Answer::Unknown => "cannot tell",
        };
        lines.push(format!("{} {}\n  {}", verdict.question, word.to_uppercase(), verdict.sentence));
    }
    if let Some(fidelity) = &found.fidelity {
        let metric = &found.features.metric;
        let width = label_width(&found.classes, metric);
        lines.push(format!("\n{:<width$}  {:<28}  {:<28}  images", "", "synthetic", "real, other patients"));
        let scopes = found.classes.iter().filter_map(|class| Some((class.as_str(), fidelity.per_class.get(class)?)));
        for (name, scope) in std::iter::once(("all classes", &fidelity.pooled)).chain(scopes) {
            lines.push(format!("{name:<width$}"));
            lines.extend(rows(metric, scope).into_iter().map(|(title, synthetic, floor)| {
                format!("  {title:<w$}{synthetic:<28}  {floor:<28}  {}", scope.images, w = width)
            }));
        }
    }
    for (part, reason) in &found.not_measured {
        lines.push(format!("not measured, {part}: {reason}"));
    }
    lines.join("\n")
}

/// Characters of the first column, whose entries are followed by two spaces at least.
fn label_width(classes: &[String], metric: &str) -> usize {
    let classes = classes.iter().map(|class| class.chars().count());
    // Names of figures are set two characters to the right.
    classes.chain([11, metric.chars().count() + 2]).max().unwrap_or(0)
}

fn rows(metric: &str, scope: &FidelityScope) -> Vec<(String, String, String)> {
    let (found, floor) = (&scope.against_real, &scope.floor);
    let show = |e: Estimate| format!("{:.4} ({:.4} to {:.4})", e.value, e.low, e.high);
    [
        (metric, found.frechet, floor.frechet),
        ("KID", found.kid, floor.kid),
        ("precision", found.precision, floor.precision),
        ("recall", found.recall, floor.recall),
        ("density", found.density, floor.density),
        ("coverage", found.coverage, floor.coverage),
    ]
    .map(|(name, found, floor)| (name.to_owned(), show(found), show(floor)))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_holds_its_longest_entry() {
        let classes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(label_width(&classes(&["a", "b"]), "fd_pixels"), 11);
        assert_eq!(label_width(&classes(&["Parasitized", "Uninfected"]), "fd_resnet512"), 14);
        assert_eq!(label_width(&classes(&["a class of a long name"]), "fd_resnet512"), 22);
    }

    #[test]
    fn sources_of_features() {
        assert_eq!(feature_source("pixels").unwrap(), FeatureSource::Pixels);
        assert_eq!(feature_source("resnet:a:b").unwrap(), FeatureSource::Classifier("a:b".into()));
        for bad in ["", "resnet", "resnet:", "vgg:x", "pixels:3"] {
            assert!(feature_source(bad).unwrap_err().to_string().contains("inception:FILE"), "{bad}");
        }
    }
}
