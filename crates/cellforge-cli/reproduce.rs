//! `cellforge reproduce`: the whole study.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    data::{counted, shown_path},
    kernels::Precision,
    study::{self, Preset, Results, StudyConfig},
    train::RunDir,
};

use crate::common::{
    Given, Globals, Interrupted, Shorthands, changes, check_outside, memory, read_settings, say, settings, shell_word,
    with_reading,
};

/// Arguments of `reproduce`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge reproduce
  cellforge reproduce --data images.zip
  cellforge reproduce --data images.zip --preset paper --out study
  cellforge reproduce --config study/config.toml --out again
  cellforge reproduce --data cifar10:DIR --preset quick

Without --data it uses the phantom: images that a program renders. They say nothing about any disease.

Run again with the same --out, it skips finished stages and resumes the one that was stopped. It refuses other settings, images,
precisions and versions of the program, unless --overwrite allows it to replace what they change. It never replaces folders that no study
made.

The flags are the settings that are changed most. `cellforge config show` lists all; --set KEY=VALUE sets one, --config FILE many. The
config.toml in OUT is such a file.")]
pub struct Args {
    #[command(flatten)]
    given: Given<StudyShorthands>,
    /// Folder of the study [default: runs/PRESET, or runs/PRESET-NAME for --data NAME.zip]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what other settings, images, precision or version change in OUT
    #[arg(long)]
    overwrite: bool,
}

/// The shorthands of `reproduce`.
pub struct StudyShorthands;

impl Shorthands for StudyShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("data", "data.path"),
        ("preset", "preset"),
        ("side", "data.side"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
        ("split-by", "data.split_by"),
        ("recipe", "gan.recipe"),
        ("iterations", "gan.iterations"),
        ("per-class", "generate.per_class"),
    ];

    fn defaults() -> StudyConfig {
        StudyConfig::preset(Preset::default())
    }
}

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    let config = settings(&globals, Vec::new(), args.given.layers()?, Some(Preset::default()))?;
    config.validate()?;
    let session = globals.open_stoppable(config.precision)?;
    let (size, channels) = (config.data.side, config.data.most_channels());
    let besides = config.besides()?;
    for gan in besides.iter().map(|beside| &beside.gan).chain([&config.gan]) {
        memory::check_gan(&globals, &session, &gan.clone().for_images(size, channels, 2))?;
    }
    memory::check_classifier(&globals, &session, &config.classifier.clone().for_images(size, channels, 2))?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&config));
    check_outside(&out, config.data.path.as_ref())?;
    if !args.overwrite {
        // What is saved means the same from any folder.
        check_same(&config.absolute(), &out)?;
    } else if !RunDir::new(&out).stamps().is_dir() {
        // Even then, what no study wrote stays.
        saved(&out)?;
    }
    let control = study::Control {
        stop: session.stop.clone(),
        progress: session.progress,
        overwrite: args.overwrite,
        command: command(&config, session.precision),
        ..study::Control::new(&out, session.device.clone())
    };
    if config.data.path.is_none() && !session.progress {
        // Even a quiet run says that its images are not real.
        tracing::error!("note: no --data was given, so the images are the phantom's, rendered by a program");
    }
    let results = study::run(&config, &control).map_err(|error| match error {
        study::Error::Interrupted { stage, .. } => {
            Interrupted(format!("stopped in stage {stage}; go on with: {}", again(args, &globals, &out))).into()
        }
        error => match advice(&error) {
            Some(advice) => anyhow::anyhow!("{error}; {advice}"),
            None => anyhow::Error::from(error),
        },
    })?;
    say(summary(&results, &out));
    Ok(())
}

/// What a flag can do about an error.
fn advice(error: &study::Error) -> Option<&'static str> {
    match error {
        study::Error::InTheWay { .. } => Some("name another --out, or move it away"),
        study::Error::Changed { .. } => Some("name another --out, or replace it with --overwrite"),
        _ => None,
    }
}

/// The command that repeats the study: flags where they say it all, the saved settings otherwise.
fn command(config: &StudyConfig, precision: Precision) -> String {
    let mut plain = StudyConfig::preset(config.preset);
    plain.seed = config.seed;
    plain.precision = config.precision;
    plain.data.path.clone_from(&config.data.path);
    plain.data.skip_bad = config.data.skip_bad;
    let mut words = if plain == *config {
        format!("cellforge reproduce --preset {} --seed {}", config.preset, config.seed)
    } else {
        "cellforge reproduce --config config.toml --out AGAIN".to_owned()
    };
    if let Some(path) = config.data.path.as_ref().filter(|_| plain == *config) {
        words.push_str(&format!(" --data {}", shell_word(&shown_path(path))));
    }
    if config.data.skip_bad && plain == *config {
        words.push_str(" --skip-bad");
    }
    if precision != Precision::F32 {
        words.push_str(&format!(" --precision {}", precision.name()));
    }
    words
}

/// The settings of the study in `out`, if there is one.
fn saved(out: &Path) -> Result<Option<StudyConfig>> {
    let path = RunDir::new(out).settings();
    if !path.is_file() {
        return Ok(None);
    }
    let read =
        || -> Result<StudyConfig> { Ok(StudyConfig::layered(&[read_settings(&path)?], Some(Preset::default()))?) };
    let saved =
        read().with_context(|| format!("{} is not the settings of a study; name another --out", path.display()))?;
    Ok(Some(saved))
}

/// Refuses to replace a study of other settings, which may have taken days.
fn check_same(config: &StudyConfig, out: &Path) -> Result<()> {
    let Some(saved) = saved(out)? else { return Ok(()) };
    match changes(&saved, config, |_| true)? {
        None => Ok(()),
        Some(changes) => bail!(
            "{} holds a study with other settings ({changes}): name another --out, or replace what they change with --overwrite",
            out.display()
        ),
    }
}

/// A folder that studies of other presets or data do not use by default.
fn default_out(config: &StudyConfig) -> PathBuf {
    let name = config.data.path.as_deref().and_then(|data| match data.split_once(':') {
        Some((set @ ("cifar10" | "mnist"), _)) => Some(set.to_owned()),
        _ => Some(Path::new(data).file_stem()?.to_string_lossy().into_owned()),
    });
    Path::new("runs").join(name.map_or_else(|| config.preset.to_string(), |name| format!("{}-{name}", config.preset)))
}

/// The command that continues this run.
fn again(args: &Args, globals: &Globals, out: &Path) -> String {
    let mut words = vec!["cellforge reproduce".to_owned()];
    words.extend(args.given.words());
    words.extend(globals.given.words());
    words.extend(globals.set.iter().map(|text| format!("--set {}", shell_word(text))));
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push(format!("--{name} {}", shell_word(&value)));
        }
    };
    flag("device", globals.device.map(|d| d.to_string()));
    flag("threads", globals.threads.map(|n| n.to_string()));
    flag("config", globals.config.as_ref().map(|p| p.display().to_string()));
    flag("out", Some(out.display().to_string()));
    if args.overwrite {
        words.push("--overwrite".to_owned());
    }
    words.join(" ")
}

/// Fewer test patients than this make a bootstrap over them rough.
const FEW_PATIENTS: usize = 10;

fn summary(results: &Results, out: &Path) -> String {
    let percent = |x: f64| format!("{:.1}%", 100.0 * x);
    let many = &results.data.words.many;
    let mut lines = vec![format!("{many}: {}", results.data.source)];
    let accuracy = |report: &cellforge::eval::ClassifierReport| {
        let interval = &report.accuracy_interval;
        format!("{} ({} to {})", percent(report.accuracy), percent(interval.low), percent(interval.high))
    };
    if let Some(best) = results.cnn.models.get(&results.cnn.best) {
        lines.push(format!("best small network ({}): test accuracy {}", results.cnn.best, accuracy(&best.test)));
    }
    lines.push(format!("residual network: test accuracy {}", accuracy(&results.resnet.test)));
    if let Some(patients) = results.resnet.test.groups.filter(|patients| *patients < FEW_PATIENTS) {
        lines.push(format!(
            "the test has {}: too few for intervals that mean much",
            counted(patients, "patient", "patients")
        ));
    }
    for (class, r) in &results.recognition {
        let mut line = format!(
            "synthetic {class}: {} of {} recognised, {} ({} to {})",
            r.recognised,
            r.total,
            percent(r.rate),
            percent(r.low),
            percent(r.high)
        );
        if let Some(real) = results.recognition_real.get(class) {
            line.push_str(&format!("; real test {many} {}", percent(real.rate)));
        }
        if let Some(published) = results.published_recognition(class) {
            line.push_str(&format!("; the study {}", percent(published.rate)));
        }
        lines.push(line);
    }
    lines.push(format!("report: {}", RunDir::new(out).report().display()));
    lines.push(format!("figures: {}", RunDir::new(out).results().display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_comes_with_advice() {
        let stage = || "cnn".to_owned();
        let changed =
            study::Error::Changed { stage: stage(), path: "x".into(), made_on: "cpu".into(), here: "cpu".into() };
        assert!(advice(&changed).is_some_and(|advice| advice.contains("--overwrite")));
        let in_the_way = study::Error::InTheWay { stage: stage(), path: "x".into() };
        assert!(advice(&in_the_way).is_some_and(|advice| advice.contains("--out") && !advice.contains("--overwrite")));
        assert_eq!(advice(&study::Error::Interrupted { stage: stage(), out: "x".into() }), None);
    }

    #[test]
    fn the_command_has_flags_where_they_suffice() {
        let mut config = StudyConfig::preset(Preset::Quick);
        config.data.path = Some("my images.zip".to_owned());
        assert_eq!(
            command(&config, Precision::F32),
            "cellforge reproduce --preset quick --seed 1 --data 'my images.zip'"
        );
        config.gan.iterations = 5;
        assert_eq!(command(&config, Precision::F32), "cellforge reproduce --config config.toml --out AGAIN");
    }

    #[test]
    fn default_folders() {
        let mut config = StudyConfig::default();
        assert_eq!(default_out(&config), Path::new("runs/paper"));
        for (data, out) in [
            ("images/scans.zip", "runs/paper-scans"),
            ("images/", "runs/paper-images"),
            ("mnist:x", "runs/paper-mnist"),
        ] {
            config.data.path = Some(data.to_owned());
            assert_eq!(default_out(&config), Path::new(out));
        }
    }
}
