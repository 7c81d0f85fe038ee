//! `cellforge reproduce`: the whole study.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    data::SplitRule,
    study::{self, Preset, Results, StudyConfig},
    train::RunDir,
};

use crate::common::{Globals, Interrupted, check_outside, read_table, say, take_global};

/// Arguments of `reproduce`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge reproduce
  cellforge reproduce --data cell_images.zip
  cellforge reproduce --data cell_images.zip --preset paper --out study
  cellforge reproduce --config study/config.toml --out again
  cellforge reproduce --data cifar10:DIR --preset quick

Run again with the same --out, it skips what is done and goes on with what was begun. With other settings, images or precision, or
by another version of this program, it refuses, unless --overwrite says that what they change may be replaced. Folders in OUT
that no study made are never replaced.
The --config file holds the study's own settings; OUT/config.toml of any run is one.
Without --data it uses the phantom: images that a program renders, which say nothing about malaria.")]
pub struct Args {
    /// Folder or zip with one folder of images per class; or cifar10:DIR, or mnist:DIR [default: the phantom]
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// smoke (under a minute), quick (about 5 minutes) or paper (the study's own settings) [default: quick]
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Folder for everything the study makes [default: runs/PRESET, or runs/PRESET-NAME for --data NAME.zip]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the split keeps whole: auto (patients where known), image or group [default: auto]
    #[arg(long, value_name = "RULE", value_parser = ["auto", "image", "group"])]
    split_by: Option<String>,
    /// Leave out images that cannot be read, and list them in the report
    #[arg(long)]
    skip_bad: bool,
    /// Bring the study in OUT up to date with other settings, images, precision or version, replacing what they change
    #[arg(long)]
    overwrite: bool,
}

pub fn run(mut globals: Globals, args: &Args) -> Result<()> {
    let config = settings(&mut globals, args)?;
    let session = globals.open_stoppable()?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&config));
    check_outside(&out, config.data.path.as_ref())?;
    if !args.overwrite {
        check_same(&config, &out)?;
    } else if !out.join("stamps").is_dir() {
        // Even then, what no study wrote stays.
        saved(&out)?;
    }
    let control = study::Control {
        out: out.clone(),
        device: session.device.clone(),
        stop: session.stop.clone(),
        progress: session.progress,
        overwrite: args.overwrite,
    };
    if config.data.path.is_none() && !session.progress {
        // Even a quiet run says that its images are not real.
        tracing::error!("note: no --data was given, so the images are the phantom's, rendered by a program");
    }
    let results = study::run(&config, &control).map_err(|error| match error {
        study::Error::Interrupted { stage, .. } => {
            Interrupted(format!("stopped in stage {stage}; go on with: {}", again(args, &globals, &out))).into()
        }
        error => anyhow::Error::from(error),
    })?;
    say(summary(&results, &out));
    Ok(())
}

fn settings(globals: &mut Globals, args: &Args) -> Result<StudyConfig> {
    let mut table = toml::Table::new();
    if let Some(path) = globals.config.clone() {
        for (key, value) in read_table(&path)? {
            // The seed is one of the study's own settings.
            if key == "seed" || !take_global(globals, &key, &value, &path)? {
                table.insert(key, value);
            }
        }
    }
    let name = globals.config.as_deref().unwrap_or(Path::new("the settings")).display().to_string();
    let mut config = StudyConfig::from_table(&table, args.preset).with_context(|| format!("cannot use {name}"))?;
    if let Some(seed) = globals.seed {
        config.seed = seed;
    }
    if let Some(data) = &args.data {
        config.data.path = Some(data.clone());
    }
    config.data.skip_bad |= args.skip_bad;
    config.data.split_by = match args.split_by.as_deref() {
        None => config.data.split_by,
        Some("image") => SplitRule::Image,
        Some("group") => SplitRule::Group,
        Some(_) => SplitRule::Auto,
    };
    if i64::try_from(config.seed).is_err() {
        bail!("--seed {} is too large: at most {}", config.seed, i64::MAX);
    }
    config.validate()?;
    Ok(config)
}

/// The settings of the study in `out`, if there is one.
fn saved(out: &Path) -> Result<Option<StudyConfig>> {
    let path = RunDir::new(out).settings();
    if !path.is_file() {
        return Ok(None);
    }
    let saved = StudyConfig::from_table(&read_table(&path)?, None)
        .with_context(|| format!("{} is not the settings of a study; name another --out", path.display()))?;
    Ok(Some(saved))
}

/// Refuses to replace a study of other settings, which may have taken days.
fn check_same(config: &StudyConfig, out: &Path) -> Result<()> {
    let Some(saved) = saved(out)?.filter(|saved| saved != config) else { return Ok(()) };
    let value = |config: &StudyConfig| serde_json::to_value(config).context("cannot represent the settings as JSON");
    let changes = study::differences(&value(config)?, &value(&saved)?, |_| None);
    let named: Vec<String> =
        changes.iter().take(3).map(|c| format!("{} was {} and is {}", c.setting, c.paper, c.here)).collect();
    let more =
        if changes.len() > named.len() { format!(" and {} more", changes.len() - named.len()) } else { String::new() };
    bail!(
        "{} holds a study with other settings ({}{more}): name another --out, or replace what they change with --overwrite",
        out.display(),
        named.join(", ")
    )
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
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push(format!("--{name} {}", study::shell_word(&value)));
        }
    };
    flag("data", args.data.clone());
    flag("preset", args.preset.map(|p| p.to_string()));
    flag("split-by", args.split_by.clone());
    flag("seed", globals.seed.map(|n| n.to_string()));
    flag("device", globals.device.map(|d| d.to_string()));
    flag("precision", globals.precision.map(|p| p.name().to_owned()));
    flag("threads", globals.threads.map(|n| n.to_string()));
    flag("config", globals.config.as_ref().map(|p| p.display().to_string()));
    flag("out", Some(out.display().to_string()));
    for (name, given) in [("--skip-bad", args.skip_bad), ("--overwrite", args.overwrite)] {
        if given {
            words.push(name.to_owned());
        }
    }
    words.join(" ")
}

/// Fewer test patients than this make a bootstrap over them rough.
const FEW_PATIENTS: usize = 10;

fn summary(results: &Results, out: &Path) -> String {
    let percent = |x: f64| format!("{:.1}%", 100.0 * x);
    let mut lines = vec![format!("images: {}", results.data.source)];
    let accuracy = |report: &cellforge::eval::ClassifierReport| {
        let interval = &report.accuracy_interval;
        format!("{} ({} to {})", percent(report.accuracy), percent(interval.low), percent(interval.high))
    };
    if let Some(best) = results.cnn.models.get(&results.cnn.best) {
        lines.push(format!("best small network ({}): test accuracy {}", results.cnn.best, accuracy(&best.test)));
    }
    lines.push(format!("residual network: test accuracy {}", accuracy(&results.resnet.test)));
    if let Some(patients) = results.resnet.test.groups.filter(|patients| *patients < FEW_PATIENTS) {
        lines.push(format!("the test has {patients} patients: too few for intervals that mean much"));
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
            line.push_str(&format!("; real test images {}", percent(real.rate)));
        }
        if let Some(published) = results.published.recognition.get(class) {
            line.push_str(&format!("; the study {}", percent(published.rate)));
        }
        lines.push(line);
    }
    lines.push(format!("report: {}", out.join("report.html").display()));
    lines.push(format!("figures: {}", out.join("results.json").display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_folders() {
        let mut config = StudyConfig::default();
        assert_eq!(default_out(&config), Path::new("runs/paper"));
        for (data, out) in
            [("images/nih.zip", "runs/paper-nih"), ("images/", "runs/paper-images"), ("mnist:x", "runs/paper-mnist")]
        {
            config.data.path = Some(data.to_owned());
            assert_eq!(default_out(&config), Path::new(out));
        }
    }
}
