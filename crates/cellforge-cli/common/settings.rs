//! Settings files: how they are read, and how flags are laid over them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};

use super::{Globals, MAX_THREADS};

/// Lays the flags over the file of `--config`. In the file a setting has its flag's name, with `-` or `_`, and its value is held
/// against what the flag takes; `seed`, `device`, `precision` and `threads` may stand there too.
pub fn layered<T>(globals: &mut Globals, flags: &T) -> Result<T>
where
    T: clap::Args + Serialize + DeserializeOwned,
{
    let above = toml::Table::try_from(flags).context("cannot represent the flags as TOML")?;
    let Some(path) = globals.config.clone() else {
        return above.try_into().context("cannot read the flags back");
    };
    let command = T::augment_args(clap::Command::new("settings")).no_binary_name(true);
    let (mut below, mut words) = (toml::Table::new(), Vec::new());
    for (key, value) in read_table(&path)? {
        let key = key.replace('-', "_");
        if take_global(globals, &key, &value, &path)? {
            continue;
        }
        words.extend(as_flag(&command, &key, &value).with_context(|| format!("cannot use {}", path.display()))?);
        below.insert(key, value);
    }
    // The file need not name what the command line has to.
    let checked = command.mut_args(|arg| arg.required(false)).try_get_matches_from(words);
    checked.map_err(|error| anyhow::anyhow!("{}: {}", path.display(), first_lines(&error)))?;
    below.extend(above);
    below.try_into().with_context(|| format!("{}: a setting has a value of the wrong type", path.display()))
}

/// Flags that say what to do with a folder, not what to compute.
const NOT_SETTINGS: [&str; 2] = ["resume", "overwrite"];

/// A line of a settings file as the words of a command line.
fn as_flag(command: &clap::Command, key: &str, value: &toml::Value) -> Result<Vec<String>> {
    let settings = || command.get_arguments().filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str()));
    let Some(arg) = settings().find(|arg| arg.get_id() == key) else {
        let known: Vec<&str> = settings().map(|arg| arg.get_id().as_str()).collect();
        bail!("there is no setting {key:?} here; there are {}", known.join(", "));
    };
    let flag = arg.get_long().map(|name| format!("--{name}"));
    if matches!(arg.get_action(), clap::ArgAction::SetTrue) {
        let on = value.as_bool().with_context(|| format!("{key} is true or false, not {value}"))?;
        return Ok(if on { flag.into_iter().collect() } else { Vec::new() });
    }
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("{key} cannot be {value}"),
    };
    let values = match value {
        toml::Value::Array(values) => values.iter().map(one).collect::<Result<Vec<String>>>()?,
        value => vec![one(value)?],
    };
    // With `=`, so that a value may begin with a dash.
    Ok(values.into_iter().map(|value| flag.as_ref().map_or(value.clone(), |flag| format!("{flag}={value}"))).collect())
}

/// What clap says of a value, without its advice on the command line.
fn first_lines(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(|line| line.trim().trim_start_matches("error: "));
    lines.collect::<Vec<_>>().join(" ")
}

/// Reads a TOML file.
pub fn read_table(path: &Path) -> Result<toml::Table> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the settings file {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
}

/// Takes `seed`, `device`, `precision` or `threads` from a settings file where no flag has set it; says whether the key was one of them.
pub fn take_global(globals: &mut Globals, key: &str, value: &toml::Value, path: &Path) -> Result<bool> {
    let wrong = || format!("{}: {key} has a value that is not allowed", path.display());
    match key {
        "seed" => {
            let seed = value.as_integer().and_then(|n| u64::try_from(n).ok()).with_context(wrong)?;
            globals.seed.get_or_insert(seed);
        }
        "device" => {
            let device = value.as_str().and_then(|text| text.parse().ok()).with_context(wrong)?;
            globals.device.get_or_insert(device);
        }
        "precision" => {
            let parsed = value.as_str().with_context(wrong)?.parse().map_err(anyhow::Error::msg);
            let precision = parsed.with_context(wrong)?;
            globals.precision.get_or_insert(precision);
        }
        "threads" => {
            let allowed = |n: &u16| (1..=MAX_THREADS).contains(n);
            let threads = value.as_integer().and_then(|n| u16::try_from(n).ok()).filter(allowed).with_context(wrong)?;
            globals.threads.get_or_insert(threads);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `bool::not` by reference, for `skip_serializing_if`: a flag that was not given must not hide the file's.
pub fn is_false(flag: &bool) -> bool {
    !*flag
}
