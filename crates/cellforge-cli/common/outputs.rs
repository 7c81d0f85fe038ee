//! What a verb saves of its settings beside what it makes, and where it must not write.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{kernels::Precision, train::RunDir};
use serde::Serialize;

/// The effective settings of a verb as TOML, ready to be passed to `--config`. The output path is left out: it is no setting of
/// the result.
pub fn effective<T: Serialize>(verb: &str, seed: u64, settings: &T) -> Result<String> {
    let mut table = toml::Table::try_from(settings).context("cannot represent the settings as TOML")?;
    table.remove("out");
    table.remove("resume");
    table.insert("seed".into(), toml::Value::try_from(seed).context("the seed is too large for a settings file")?);
    // Whatever it is: what a device computes in where nothing is said differs.
    table.insert("precision".into(), Precision::current().name().into());
    Ok(format!("{}THIS_FILE\n{table}", heading(verb)))
}

/// How the effective settings of a verb begin.
fn heading(verb: &str) -> String {
    format!("# cellforge {verb} --config ")
}

/// Whether a folder's `config.toml` is one that `verb` saved, by its first line.
pub fn is_of(folder: &Path, verb: &str) -> bool {
    std::fs::read(RunDir::new(folder).settings()).is_ok_and(|text| text.starts_with(heading(verb).as_bytes()))
}

/// Refuses a folder whose `config.toml` is of a study or of another verb than `verb`, which would replace it.
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

/// Refuses an output inside a folder of images, or that folder itself: what lies there is taken for images. `sources` are PATHs as the
/// flags for images take them; of these only folders count.
pub fn check_outside<'a>(out: &Path, sources: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let Some(leads_to) = resolved(out) else { return Ok(()) };
    for source in sources {
        let folder = match source.split_once(':') {
            Some(("cifar10" | "mnist", folder)) => folder,
            _ => source.as_str(),
        };
        let Ok(folder) = Path::new(folder).canonicalize() else { continue };
        if folder.is_dir() && leads_to.starts_with(&folder) {
            bail!("--out {} lies inside the images' folder {source}: choose another", out.display());
        }
    }
    Ok(())
}

/// Where a path leads, with links followed as far as it exists.
fn resolved(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let (there, mut found) = absolute.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)))?;
    for part in absolute.strip_prefix(there).ok()?.components() {
        if part == Component::ParentDir {
            found.pop();
        } else {
            found.push(part);
        }
    }
    Some(found)
}

/// Saves the effective settings in the folder of a run.
pub fn save_effective<T: Serialize>(folder: &Path, verb: &str, seed: u64, settings: &T) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    save(&RunDir::new(folder).settings(), &effective(verb, seed, settings)?)
}

/// Saves the effective settings beside an output: those of `images.zip` as `images.zip.settings.toml`.
pub fn save_beside<T: Serialize>(out: &Path, verb: &str, seed: u64, settings: &T) -> Result<()> {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".settings.toml");
    save(&out.with_file_name(name), &effective(verb, seed, settings)?)
}

/// Writes a text file whole or not at all.
pub fn save(path: &Path, text: &str) -> Result<()> {
    cellforge::data::write_atomic(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
