//! The settings of a verb: how they are put together, and how they are saved beside what it makes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use cellforge::{
    data::read_bounded,
    kernels::Precision,
    settings::{self, Layer},
    study::{self, Preset, StudyConfig},
    train::RunDir,
};

use super::{Globals, beside, save, shorthand::assigned};

/// The settings that `below`, the file of `--config`, `--set` and `given` make, the last on top, over the defaults or over `preset`.
pub fn settings(
    globals: &Globals,
    below: Vec<Layer>,
    given: Vec<Layer>,
    preset: Option<Preset>,
) -> Result<StudyConfig> {
    let mut layers = below;
    if let Some(path) = &globals.config {
        layers.push(read_settings(path)?);
    }
    layers.extend(given);
    for text in &globals.set {
        layers.push(assigned(text)?);
    }
    layers.extend(globals.given.layers()?);
    StudyConfig::layered(&layers, preset).map_err(|error| match &error {
        study::Error::Settings(settings::Error::Unknown { key, .. }) if FLAGS.contains(&key.as_str()) => {
            anyhow!("{error}: how the program runs is no setting of its work. Give the flag --{key}")
        }
        _ => error.into(),
    })
}

/// Flags that some take for settings.
const FLAGS: [&str; 7] = ["device", "threads", "quiet", "verbose", "profile", "out", "overwrite"];

/// The settings by which `verb` made what is at `path`, a folder or a file, where it left them.
pub fn made_by(path: &Path, verb: &str) -> Option<StudyConfig> {
    let file = if path.is_dir() { RunDir::new(path).settings() } else { beside(path, ENDING) };
    let text = String::from_utf8(file.is_file().then(|| read_bounded(&file, MAX_SETTINGS).ok())??).ok()?;
    let layer = Layer::parse(file.display().to_string(), text.starts_with(&heading(verb)).then_some(&text)?).ok()?;
    StudyConfig::layered(&[layer], None).ok()
}

/// What follows the name of a file in that of its settings.
const ENDING: &str = ".settings.toml";

/// The most bytes of a settings file: what is longer is another file.
const MAX_SETTINGS: u64 = 16 << 20;

/// A settings file.
pub fn read_settings(path: &Path) -> Result<Layer> {
    let context = || format!("cannot read the settings file {}", path.display());
    let text = String::from_utf8(read_bounded(path, MAX_SETTINGS).with_context(context)?).with_context(context)?;
    Ok(Layer::parse(path.display().to_string(), &text)?)
}

/// With `--resume`, the settings that the work in `out` was started with; they lie below all that is given. What was computed in one
/// precision does not go on in another.
pub fn resumed(globals: &Globals, out: &Path, what: &str) -> Result<Vec<Layer>> {
    let saved = RunDir::new(out).settings();
    if !saved.is_file() {
        bail!(
            "there is no {what} to resume in {}: it has no {}; start one without --resume",
            out.display(),
            name(&saved)
        );
    }
    let layer = read_settings(&saved)?;
    let started = StudyConfig::layered(std::slice::from_ref(&layer), None)
        .with_context(|| format!("{} is not what this version saves", saved.display()))?;
    let started = started.precision.unwrap_or_default();
    let asked = settings(globals, vec![layer.clone()], Vec::new(), None)?.precision.unwrap_or(started);
    // A build for GPUs takes it that one is meant.
    let here = if cfg!(feature = "cuda") || asked.is_supported() { asked } else { Precision::F32 };
    if here != started {
        bail!(
            "the {what} in {} computes in {} and would go on in {} here: resume it as it was started, or start it anew with --overwrite",
            out.display(),
            started.name(),
            here.name()
        );
    }
    Ok(vec![layer])
}

/// What differs between the settings that work was started with and those of now, in words; `None` if nothing does. `counts` says which
/// keys matter.
pub fn changes(before: &StudyConfig, now: &StudyConfig, counts: impl Fn(&str) -> bool) -> Result<Option<String>> {
    let value = |config: &StudyConfig| serde_json::to_value(config).context("cannot represent the settings as JSON");
    let mut changes = study::differences(&value(now)?, &value(before)?, |_| None);
    changes.retain(|change| counts(&change.setting));
    let text = |value: &serde_json::Value| if value.is_null() { "none".to_owned() } else { value.to_string() };
    let change =
        |c: &study::results::SettingChange| format!("{} was {} and is {}", c.setting, text(&c.paper), text(&c.here));
    let mut named: Vec<String> = changes.iter().take(3).map(change).collect();
    if changes.len() > named.len() {
        named.push(format!("and {} more", changes.len() - named.len()));
    }
    Ok((!named.is_empty()).then(|| named.join(", ").replace(", and", " and")))
}

/// Refuses to go on with the work in `out` by other settings than it was started with, as far as they are of `tables`.
pub fn check_unchanged(out: &Path, what: &str, config: &StudyConfig, tables: &[&str]) -> Result<()> {
    let started = StudyConfig::layered(&[read_settings(&RunDir::new(out).settings())?], None)?;
    let table = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    let counts = |key: &str| key == "seed" || tables.contains(&table(key).as_str());
    match changes(&started, &config.absolute(), counts)? {
        None => Ok(()),
        Some(changes) => bail!(
            "the {what} in {} was started with other settings ({changes}): resume it as it was started, or start it anew with --overwrite",
            out.display()
        ),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The settings of a verb as TOML, ready to be passed to `--config`: the tables that it uses, with the seed and the precision that is
/// computed in. Paths are absolute, so that the work can go on from any folder.
pub fn effective(verb: &str, config: &StudyConfig, precision: Precision, tables: &[&str]) -> Result<String> {
    // Whatever it is: what a device computes in where nothing is said differs.
    let config = StudyConfig { precision: Some(precision), ..config.absolute() };
    let mut table: toml::Table = config.to_toml()?.parse().context("cannot represent the settings as TOML")?;
    table.retain(|name, _| ["seed", "precision"].iter().chain(tables).any(|kept| *kept == name));
    Ok(format!("{}THIS_FILE\n{table}", heading(verb)))
}

/// How the effective settings of a verb begin.
fn heading(verb: &str) -> String {
    format!("# cellforge {verb} --config ")
}

/// Whether the settings in a folder are those that `verb` saved, by their first line.
pub fn is_of(folder: &Path, verb: &str) -> bool {
    let (path, expected) = (RunDir::new(folder).settings(), heading(verb));
    let mut found = vec![0; expected.len()];
    path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut found)).is_ok()
        && found == expected.as_bytes()
}

/// Refuses a folder whose settings are of a study or of another verb than `verb`, which would replace them.
pub fn check_settings(folder: &Path, verb: &str) -> Result<()> {
    let path = RunDir::new(folder).settings();
    if path.exists() && !is_of(folder, verb) {
        bail!(
            "{} is not of `cellforge {verb}`, which would replace it: name another --out, or move it away",
            path.display()
        );
    }
    Ok(())
}

/// Saves effective settings in the folder of what was made.
pub fn save_effective(folder: &Path, text: &str) -> Result<()> {
    cellforge::data::make_private_folder(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    save(&RunDir::new(folder).settings(), text)
}

/// Where the effective settings of an output lie beside it: those of `images.zip` in `images.zip.settings.toml`.
pub fn settings_beside(out: &Path) -> PathBuf {
    beside(out, ENDING)
}

/// Saves effective settings there.
pub fn save_beside(out: &Path, text: &str) -> Result<()> {
    save(&settings_beside(out), text)
}
