//! Where a verb writes, and where it must not; words for a shell.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

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
            bail!("{} lies inside the images' folder {source}: choose another for what is written", out.display());
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

/// Refuses to write a file where there is one already, unless it may be replaced.
pub fn check_free<'a>(files: impl IntoIterator<Item = &'a PathBuf>, overwrite: bool) -> Result<()> {
    for file in files {
        if file.is_dir() {
            bail!("{} is a folder: name a file", file.display());
        }
        if !overwrite && file.exists() {
            bail!("{} is there already: name another file, or replace it with --overwrite", file.display());
        }
    }
    Ok(())
}

/// Writes a text file whole or not at all, for its owner alone.
pub fn save(path: &Path, text: &str) -> Result<()> {
    cellforge::data::write_atomic(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// As [`save`], a file to be given away.
pub fn save_shared(path: &Path, text: &str) -> Result<()> {
    cellforge::data::write_shared(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file, where there is one.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The path of a file with something after its name, such as `images.zip.manifest.csv`.
pub fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    out.with_file_name(name)
}

/// A word of a command line, quoted for a POSIX shell where it has to be.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A CSV field (RFC 4180).
pub fn csv_field(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("runs/a-1.zip"), "runs/a-1.zip");
        assert_eq!(shell_word("two words"), "'two words'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(csv_field("a"), "a");
        assert_eq!(csv_field("a,b"), "\"a,b\"");
        assert_eq!(csv_field("a\"b"), "\"a\"\"b\"");
    }
}
