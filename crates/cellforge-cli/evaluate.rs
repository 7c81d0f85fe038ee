//! `cellforge evaluate`: fidelity, utility and privacy of synthetic images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{
        self, Evaluation, EvaluationConfig,
        evaluation::{EvaluationInputs, FeatureSource, FidelityScope, Measure, Part, Prepared, Provenance},
    },
    data::{self, Source, SplitPart, View, counted, shown_path},
    eval::Estimate,
    study::{Origin, StudyConfig, config::DataConfig},
    train::{RunDir, TrainedClassifier, TrainedGan},
};

use crate::{
    common::{
        Given, Globals, Interrupted, Shorthands, check_outside, check_settings, check_unchanged, effective, is_of,
        made_by, memory, remove_if_there, resumed, save, say, settings, shell_word, with_reading,
    },
    generate::generator_folders,
    images,
    train::control,
};

/// Arguments of `evaluate`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge evaluate --real train.zip --holdout test.zip --synthetic synthetic.zip --features resnet:runs/quick --out evaluation
  cellforge evaluate --real train.zip --synthetic synthetic.zip --features pixels --measure fidelity
  cellforge evaluate --real train --holdout test --synthetic made --features inception:pt_inception-2015-12-05-6726825d.pth --out fid
  cellforge evaluate --real train --holdout test --synthetic made --features resnet:runs/quick --features dinov2:model.safetensors --out two
  cellforge evaluate --real train --synthetic made --measure fidelity,utility --set evaluate.utility.classifier=resnet --out worth
  cellforge evaluate --data images.zip --split split.csv --synthetic made --features resnet:resnet --out of-split
  cellforge evaluate --real train --holdout test --synthetic made --out checked --drop-copies made-without-copies
  cellforge evaluate --resume --out evaluation

--real takes the images that the generator learned from, --holdout images of other patients that it never saw. Without --holdout, copies of
training images are looked for, and no other leak.

With --split FILE (of `cellforge data split`, or the split.csv of a training) the real images are the training part of --data, and the held-out
ones its test part.

OUT gets evaluation.json, report.html and datasheet.md. Without --out only a summary is printed. The report shows real images, unless
--pairs is 0: do not pass it on where they may not be shared.

For research and teaching. Not a diagnostic device.")]
pub struct Args {
    #[command(flatten)]
    given: Given<EvaluateShorthands>,
    /// Folder for the figures, the report and the data sheet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume the evaluation in OUT, with the settings it was started with
    #[arg(long)]
    resume: bool,
    /// Replace the evaluation in OUT
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Write the synthetic images that are no copies of training images into this new folder
    #[arg(long, value_name = "DIR")]
    drop_copies: Option<PathBuf>,
}

/// The shorthands of `evaluate`.
pub struct EvaluateShorthands;

impl Shorthands for EvaluateShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("data", "data.path"),
        ("split", "inputs.split"),
        ("real", "inputs.real"),
        ("holdout", "inputs.holdout"),
        ("synthetic", "inputs.synthetic"),
        ("features", "inputs.features"),
        ("discriminator", "inputs.discriminators"),
        ("measure", "evaluate.measure"),
        ("max-images", "evaluate.max_images"),
        ("resamples", "evaluate.resamples"),
        ("pairs", "evaluate.privacy.pairs"),
        ("side", "data.side"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
    ];
}

/// The tables of settings that the verb uses.
const TABLES: [&str; 4] = ["data", "inputs", "evaluate", "judge"];

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    let below = match &args.out {
        Some(out) if args.resume => resumed(&globals, out, "evaluation")?,
        _ => Vec::new(),
    };
    let config = settings(&globals, below, args.given.layers()?, None)?;
    if let Some(out) = args.out.as_ref().filter(|_| args.resume) {
        check_unchanged(out, "evaluation", &config, &TABLES)?;
    }
    let inputs = &config.inputs;
    let reals = reals(&config, args.given.has("data"))?;
    let synthetic =
        inputs.synthetic.clone().context("--synthetic is missing: name a folder or zip of synthetic images")?;
    let features = feature_sources(&inputs.features)?;
    if let Some(into) = &args.drop_copies {
        check_outside(into, reals.paths().chain([&synthetic]))?;
        if into.exists() {
            bail!("--drop-copies {} is there already: name a new folder", into.display());
        }
        if config.evaluate.max_images > 0 {
            bail!("--drop-copies needs all synthetic images looked at: leave out --max-images");
        }
        if !config.evaluate.copies.near || !config.evaluate.measures(Measure::Privacy) {
            bail!(
                "--drop-copies needs near copies looked for: let --measure have privacy, and leave evaluate.copies.near true"
            );
        }
    }
    let session = globals.open_stoppable(config.precision)?;
    let measured = EvaluationConfig { seed: config.seed, level: config.judge.level, ..config.evaluate.clone() };
    measured.validate()?;
    let temporary;
    let out = match &args.out {
        Some(out) => {
            check_outside(out, reals.paths().chain([&synthetic]))?;
            out.clone()
        }
        None => {
            temporary = tempfile::tempdir().context("cannot make a folder for what is computed on the way")?;
            temporary.path().to_path_buf()
        }
    };
    let _lock = RunDir::new(&out).lock()?;
    let text = effective("evaluate", &config, session.precision, &TABLES)?;
    check_folder(&out, args)?;

    let classifier = features.iter().find_map(|source| match source {
        FeatureSource::Classifier(dir) => Some(RunDir::new(dir).classifier()),
        _ => None,
    });
    let (size, channels, fit) = match classifier {
        Some(dir) => {
            let classifier = TrainedClassifier::load(dir)?;
            (classifier.image_size(), Some(classifier.channels()), classifier.state().fit)
        }
        None => (config.data.side, config.data.channels, config.data.fit),
    };
    // All sets are read alike: as the classifier's images were, or as suits the real ones, which are opened first.
    let open = |path: &str, data: &DataConfig, real: Option<&View>| -> Result<View> {
        let mut options = images::options(data, None, session.progress)?;
        (options.size, options.channels) = (size, channels.or(real.map(View::channels)));
        options.memory = Some(memory::free(&globals));
        let fit = real.map_or(fit, |real| real.facts().used_fit());
        images::read_alike(&mut options, fit, real.and_then(|real| real.facts().intensities.as_ref()));
        options.allow_one_class = true;
        images::open_at(path, &options)
    };
    let real_data = &config.data;
    let (real_part, holdout_part) = match &reals {
        Reals::Sets { real, holdout } => {
            let part = |path: &String, like| anyhow::Ok(Part::new(open(path, real_data, like)?, shown_path(path)));
            let real = part(real, None)?;
            let holdout = holdout.as_ref().map(|path| part(path, Some(&real.images))).transpose()?;
            (real, holdout)
        }
        Reals::Split { data, file } => {
            let all = open(data, real_data, None)?;
            let split = data::read_manifest(file, &all)?;
            let part = |part: SplitPart| {
                let (images, name) = (split.part(part), part.name());
                if images.is_empty() {
                    bail!("{} has no {name} images: make a split that has some", file.display());
                }
                let source =
                    format!("the {name} part of {} by {}", shown_path(data), shown_path(&file.to_string_lossy()));
                Ok(Part::new(all.part(images), source))
            };
            (part(SplitPart::Train)?, Some(part(SplitPart::Test)?))
        }
    };
    let synthetic_set = open(&synthetic, &config.data.of_folders(), Some(&real_part.images))?;
    let names: Vec<String> = synthetic_set.names().map(str::to_owned).collect();
    let control = control(&session);
    let origin = Origin::of(&real_part.images);
    let made = made_by(Path::new(&synthetic), "generate");
    let holdout_seen = made.as_ref().zip(holdout_part.as_ref()).and_then(|(made, part)| trained_on(made, &part.images));
    if let (Some(seen @ 1..), Some(part)) = (holdout_seen, &holdout_part) {
        tracing::warn!(
            "the generator was trained on {seen} of the {}: they are not held out, and no figure tells how it does on others",
            counted(part.images.len(), "held-out image", "held-out images")
        );
    }
    let known = origin.provenance("cellforge evaluate --config config.toml --out AGAIN");
    let known = match &made {
        Some(made) => recorded(made, known),
        None => known,
    };
    let judged = EvaluationInputs {
        holdout: holdout_part,
        discriminators: inputs.discriminators.clone(),
        words: origin.words(&config.data)?,
        provenance: Provenance { holdout_seen, ..known },
        features,
        ..EvaluationInputs::new(real_part, Part::new(synthetic_set, shown_path(&synthetic)), FeatureSource::Pixels)
    };
    let ready = Prepared::new(&measured, &judged, &control)?;
    let need = ready.memory();
    memory::check(&globals, &session.device, "the evaluation", need, |free| {
        let rest = need.total() - need.images;
        let each = ready.max_images_within(free.saturating_sub(rest));
        let fewer = (each > 0).then(|| format!("--max-images {each}"));
        fewer.into_iter().chain(["a smaller --side".to_owned()]).collect()
    })?;
    if args.resume {
        check_images(&ready, &out)?;
    }
    // Only now: a mistake in the data must not leave the settings of an evaluation that never began.
    begin(&out, args, &text)?;
    let found = ready.run(&out).map_err(|error| match (error, &args.out) {
        (assess::Error::Interrupted, Some(out)) => {
            let word = |path: &Path| shell_word(&path.display().to_string());
            let drop =
                args.drop_copies.as_ref().map(|into| format!(" --drop-copies {}", word(into))).unwrap_or_default();
            let out = word(out);
            Interrupted(format!("stopped; go on with: cellforge evaluate --resume --out {out}{drop}")).into()
        }
        (assess::Error::Interrupted, None) => Interrupted("stopped".to_owned()).into(),
        (error, _) => anyhow::Error::from(error),
    })?;
    say(summary(&found));
    if !found.copies.found.is_empty() {
        let named =
            if args.out.is_some() { "evaluation.json names the copies" } else { "give --out to have the copies named" };
        say(named);
    }
    if let Some(into) = &args.drop_copies {
        let others: Vec<&str> = found.copies.others(names.len()).into_iter().map(|i| names[i].as_str()).collect();
        Source::open(Path::new(&synthetic))?.copy(others.iter().copied(), into)?;
        let which = match &found.copies.not_searched {
            None => "without copies".to_owned(),
            Some(reason) => format!("without identical copies alone (near ones were not looked for: {reason})"),
        };
        say(format!("{} {which}: {} of {}", into.display(), others.len(), names.len()));
    }
    if args.out.is_some() {
        let dir = RunDir::new(&out);
        save(&dir.report(), &assess::report::render(&found, &out)?)?;
        save(&dir.datasheet(), &assess::evaluation::datasheet(&found))?;
        say(format!("\nreport: {}", dir.report().display()));
        say(format!("figures: {}", dir.evaluation().display()));
        if !found.pairs.is_empty() && !found.provenance.drawn_by_program {
            let many = &found.words.many;
            say(format!("the report holds pictures of real {many}: do not pass it on (--pairs 0 leaves them out)"));
        }
    }
    Ok(())
}

/// Where the real images come from.
enum Reals {
    /// Folders or zips of their own.
    Sets { real: String, holdout: Option<String> },
    /// The training and the test part of one.
    Split { data: String, file: PathBuf },
}

impl Reals {
    /// Every folder and zip.
    fn paths(&self) -> impl Iterator<Item = &String> {
        let (first, second) = match self {
            Self::Sets { real, holdout } => (real, holdout.as_ref()),
            Self::Split { data, .. } => (data, None),
        };
        std::iter::once(first).chain(second)
    }
}

/// The real images that the settings name. `asked` where `--data` was given, which does nothing without a split.
fn reals(config: &StudyConfig, asked: bool) -> Result<Reals> {
    let inputs = &config.inputs;
    match &inputs.split {
        Some(_) if inputs.real.is_some() || inputs.holdout.is_some() => bail!(
            "--split takes the real images and the held-out ones from --data: leave it out, or leave out --real and --holdout"
        ),
        Some(file) => {
            let data = config.data.path.clone().context("--data is missing: name the images that --split divides")?;
            Ok(Reals::Split { data, file: file.clone() })
        }
        None if asked => bail!("--data needs --split, which says what of it is real and what held out; or give --real"),
        None => {
            let real = inputs.real.clone().context(
                "--real is missing: name a folder or zip of real images, or --data and the --split that divides it",
            )?;
            Ok(Reals::Sets { real, holdout: inputs.holdout.clone() })
        }
    }
}

/// How many of these images the generators were trained on that `generate` took by these settings, where they are still there.
fn trained_on(made: &StudyConfig, images: &View) -> Option<usize> {
    let folders = generator_folders(made.inputs.checkpoint.as_deref()?).ok()?;
    folders.iter().map(|folder| Some(TrainedGan::load(folder).ok()?.seen(images)?.train)).sum()
}

/// With what is known of how the synthetic images were made, by the settings that `generate` left.
fn recorded(made: &StudyConfig, provenance: Provenance) -> Provenance {
    let from = made.inputs.checkpoint.as_deref().map(|dir| shown_path(&dir.to_string_lossy()));
    let mut generator = format!("cellforge generate from {}", from.as_deref().unwrap_or("the built-in generator"));
    if let Some(truncation) = made.generate.truncation {
        generator.push_str(&format!(", noise truncated at {truncation}"));
    }
    if made.generate.keep < 1.0 {
        generator.push_str(&format!(", of which the discriminator chose the share {}", made.generate.keep));
    }
    Provenance { generator: Some(generator), seed: Some(made.seed), ..provenance }
}

/// Refuses a folder that holds an evaluation, unless the flags say what to do with it, and one that holds anything else of these names.
fn check_folder(out: &Path, args: &Args) -> Result<()> {
    if RunDir::new(out).holds_run() || RunDir::new(out).results().exists() {
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
    // Those that an evaluation makes hold files alone.
    let foreign = |folder: &PathBuf| folder.is_dir() && (!own || holds_folders(folder));
    if !args.resume
        && let Some(folder) = RunDir::new(out).evaluation_folders().into_iter().find(foreign)
    {
        bail!("{} is of no evaluation, which would empty it: move it away, or name another --out", folder.display());
    }
    Ok(())
}

/// Refuses to replace the finished evaluation in a folder by one of other images.
fn check_images(ready: &Prepared<'_>, out: &Path) -> Result<()> {
    let path = RunDir::new(out).evaluation();
    if !path.exists() {
        return Ok(());
    }
    let anew = "start it anew with --overwrite";
    let found: Evaluation = assess::files::read_json(&path)
        .with_context(|| format!("{} is not what this version writes: {anew}", path.display()))?;
    let changed = ready.changed(&found);
    if !changed.is_empty() {
        bail!(
            "the evaluation in {} is of other images than now ({}): name another --out, or {anew}",
            out.display(),
            changed.join(", ")
        );
    }
    Ok(())
}

/// Makes the folder of an evaluation ready.
fn begin(out: &Path, args: &Args, settings: &str) -> Result<()> {
    if !args.resume {
        let dir = RunDir::new(out);
        // First what shows or names what is in the folders: if this is stopped, no report is left with pictures of nothing.
        for file in [dir.report(), dir.datasheet(), dir.evaluation()] {
            remove_if_there(&file)?;
        }
        for folder in dir.evaluation_folders() {
            if folder.is_dir() {
                std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            }
        }
    }
    save(&RunDir::new(out).settings(), settings)
}

/// The features that were named, or pixels where none were.
fn feature_sources(texts: &[String]) -> Result<Vec<FeatureSource>> {
    match texts {
        [] => Ok(vec![FeatureSource::Pixels]),
        texts => texts.iter().map(|text| feature_source(text)).collect(),
    }
}

fn feature_source(text: &str) -> Result<FeatureSource> {
    text.parse().or_else(|_| bail!("--features {text} is none of {}", FeatureSource::FORMS))
}

/// The verdicts and the figures they rest on.
fn summary(found: &Evaluation) -> String {
    let mut lines = Vec::new();
    for verdict in &found.verdicts {
        lines.push(format!("{} {}\n  {}", verdict.question, verdict.answer.word().to_uppercase(), verdict.sentence));
    }
    if let Some(two_sample) = &found.two_sample {
        lines.push(format!(
            "\nCan they be told from real {}?\n  {}",
            found.words.many,
            two_sample.in_words(&found.words)
        ));
        lines.extend(
            two_sample
                .telling_statistics()
                .take(8)
                .map(|statistic| format!("  {:<14} {}  p {:.3}", statistic.class, statistic.in_words(), statistic.p)),
        );
    }
    let others = found.other_features.iter().map(|other| (&other.features, &other.fidelity));
    for (features, fidelity) in found.fidelity.iter().map(|fidelity| (&found.features, fidelity)).chain(others) {
        let metric = &features.metric;
        let width = label_width(&found.classes, metric);
        let [synthetic, real] =
            ["synthetic", "real"].map(|which| format!("{which} {}", fidelity.pooled.judged_against()));
        lines.push(format!("\n{:<width$}  {synthetic:<28}  {real:<28}  {}", "", found.words.many));
        for (name, scope) in fidelity.scopes(&found.classes) {
            lines.push(format!("{name:<width$}"));
            lines.extend(rows(metric, scope).into_iter().map(|(title, synthetic, real)| {
                format!("  {title:<width$}{synthetic:<28}  {real:<28}  {}", scope.images)
            }));
        }
    }
    let all = std::iter::once(&found.features).chain(found.other_features.iter().map(|other| &other.features));
    for (name, sentence) in all.filter_map(|features| Some((&features.name, features.seen_in_words(&found.words)?))) {
        lines.push(format!("\n{name}: {sentence}"));
    }
    if let Some(left_out) = found.left_out() {
        lines.push(format!("not compared: {left_out}"));
    }
    if let Some(twice) = found.copies.twice_in_words(&found.words, found.sets.synthetic.images) {
        lines.push(twice);
    }
    if let Some(reason) = found.copies.not_searched.as_ref().filter(|_| found.settings.copies.near) {
        lines.push(format!("near copies were not looked for: {reason}"));
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

/// The figures that the verdict rests on: their names, those of the synthetic images, and those of real ones.
fn rows(metric: &str, scope: &FidelityScope) -> Vec<(String, String, String)> {
    let [found, real] = scope.judged();
    let show = |e: Estimate| format!("{:.4} ({:.4} to {:.4})", e.value, e.low, e.high);
    [
        (metric, found.frechet, real.frechet),
        ("KID", found.kid, real.kid),
        ("precision", found.precision, real.precision),
        ("recall", found.recall, real.recall),
        ("density", found.density, real.density),
        ("coverage", found.coverage, real.coverage),
    ]
    .map(|(name, found, real)| (name.to_owned(), show(found), show(real)))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_holds_its_longest_entry() {
        let classes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(label_width(&classes(&["a", "b"]), "fd_pixels"), 11);
        assert_eq!(label_width(&classes(&["abnormal", "normal"]), "fd_resnet512"), 14);
        assert_eq!(label_width(&classes(&["a class of a long name"]), "fd_resnet512"), 22);
    }

    #[test]
    fn sources_of_features() {
        assert_eq!(feature_source("pixels").unwrap(), FeatureSource::Pixels);
        assert_eq!(feature_source("self-supervised").unwrap(), FeatureSource::SelfSupervised);
        assert_eq!(feature_source("resnet:a:b").unwrap(), FeatureSource::Classifier("a:b".into()));
        assert_eq!(feature_source("dinov2:a").unwrap(), FeatureSource::DinoV2("a".into()));
        assert_eq!(feature_sources(&[]).unwrap(), [FeatureSource::Pixels]);
        let two = ["inception:a", "pixels"].map(str::to_owned);
        assert_eq!(feature_sources(&two).unwrap(), [FeatureSource::Inception("a".into()), FeatureSource::Pixels]);
        for bad in ["", "resnet", "resnet:", "vgg:x", "pixels:3"] {
            assert!(feature_source(bad).unwrap_err().to_string().contains("inception:FILE"), "{bad}");
        }
    }
}
