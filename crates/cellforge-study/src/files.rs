//! Small helpers around files: atomic writes, hashes, and folder names for classes.

use std::{fs::File, io::Read, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes `bytes` to `path` so that it is whole or as it was before, and makes the folders above it.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
    }
    Ok(cellforge_data::write_atomic(path, bytes)?)
}

/// Makes the folder `inside` of `base`, and those between. `base` must be there: if it was removed, it is not made again.
pub(crate) fn make_folders(base: &Path, inside: &str) -> Result<()> {
    let mut folder = base.to_path_buf();
    for part in Path::new(inside) {
        folder.push(part);
        if !folder.is_dir() {
            std::fs::create_dir(&folder).map_err(Error::io("create the folder", &folder))?;
        }
    }
    Ok(())
}

/// Writes a value as indented JSON, atomically, and makes the folders above it.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_atomic(path, json(path, value)?.as_bytes())
}

/// A value as indented JSON, for the file `path`.
pub(crate) fn json<T: Serialize>(path: &Path, value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::json(path))?;
    text.push('\n');
    Ok(text)
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(Error::json(path))
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; 1 << 16], 0_u64);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok((length, hex(&hash.finalize()))),
            n => {
                hash.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

/// SHA-256 of some texts, each closed by its length so that no two lists collide.
pub(crate) fn hash_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update((text.len() as u64).to_le_bytes());
    }
    hex(&hash.finalize())
}

/// A seed for one purpose, derived from the study's seed: changing one stage never shifts the numbers of another.
#[must_use]
pub fn derive_seed(seed: u64, purpose: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose.as_bytes()).finalize();
    // 53 bits, so that the seed survives every JSON reader unchanged.
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes")) >> 11
}

/// A class name made safe as the name of a folder on any system: letters, digits, `-`, `_` and `.` stay, everything else becomes `_`.
/// A name that had to change gets a short hash of the original, so that different classes keep different folders.
#[must_use]
pub fn folder_name(class: &str) -> String {
    let safe: String = class
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .take(60)
        .collect();
    let trimmed = safe.trim_matches('.');
    if trimmed == class && !trimmed.is_empty() && !is_reserved(trimmed) {
        return trimmed.to_owned();
    }
    let hash = hash_texts([class]);
    format!("{}-{}", if trimmed.is_empty() { "class" } else { trimmed }, &hash[..8])
}

/// Device names that Windows refuses as file names.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.as_bytes()[3].is_ascii_digit())
}

/// Folder names of all classes, refusing two that differ only in letter case (they would share a folder on some systems).
pub(crate) fn folder_names(classes: &[String]) -> Result<Vec<String>> {
    let names: Vec<String> = classes.iter().map(|class| folder_name(class)).collect();
    for (i, name) in names.iter().enumerate() {
        if let Some(j) = names[..i].iter().position(|other| other.to_lowercase() == name.to_lowercase()) {
            return Err(Error::ClassFolder {
                first: classes[j].clone(),
                second: classes[i].clone(),
                folder: name.clone(),
            });
        }
    }
    Ok(names)
}

/// A word of a command line, quoted for a POSIX shell where it has to be.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_folders_are_safe_and_distinct() {
        assert_eq!(folder_name("Parasitized"), "Parasitized");
        assert_eq!(folder_name("mañana-1"), "mañana-1");
        for bad in ["../up", "a/b", "..", "", "a b", "nul", "x\\y"] {
            let name = folder_name(bad);
            assert!(!name.contains(['/', '\\', ' ']) && name != ".." && !name.is_empty(), "{bad:?} became {name:?}");
        }
        assert_ne!(folder_name("a b"), folder_name("a/b"));
        assert!(folder_names(&["Cat".into(), "cat".into()]).is_err());
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("runs/a-1.zip"), "runs/a-1.zip");
        assert_eq!(shell_word("two words"), "'two words'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn seeds_differ_by_purpose() {
        assert_eq!(derive_seed(1, "cnn"), derive_seed(1, "cnn"));
        assert_ne!(derive_seed(1, "cnn"), derive_seed(1, "resnet"));
        assert_ne!(derive_seed(1, "cnn"), derive_seed(2, "cnn"));
    }

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/file.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
