//! Names of folders for classes, and seeds for purposes.

use sha2::{Digest, Sha256};

use crate::layout::normal;
use crate::view::hex;
use crate::{Error, Result};

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
    let mut hash = Sha256::new();
    hash.update(class.as_bytes());
    hash.update((class.len() as u64).to_le_bytes());
    let hash = hex(&hash.finalize());
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

/// Folder names of all classes.
///
/// # Errors
/// [`Error::ClassFolder`] for two that differ in letter case alone: they would share a folder on some systems.
pub fn folder_names(classes: &[String]) -> Result<Vec<String>> {
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

/// Whether two names are one, though they may be spelled in different forms of Unicode: `ü` is one character, or a `u` and two dots.
///
/// ```
/// assert!(cellforge_data::same_name("f\u{fc}r", "fu\u{308}r"));
/// ```
#[must_use]
pub fn same_name(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// A count with its noun: "1 class", "16 images".
///
/// ```
/// use cellforge_data::counted;
/// assert_eq!((counted(1, "class", "classes"), counted(2, "image", "images")), ("1 class".into(), "2 images".into()));
/// ```
#[must_use]
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The last part of a PATH as flags take one, after its kind where it has one: where a folder lies on this machine is nobody's business.
///
/// ```
/// # use cellforge_data::shown_path;
/// assert_eq!(shown_path("/home/somebody/images.zip"), "images.zip");
/// assert_eq!(shown_path("mnist:/home/somebody/digits"), "mnist:digits");
/// ```
#[must_use]
pub fn shown_path(path: &str) -> String {
    let (kind, path) = match path.split_once(':') {
        Some((kind @ ("cifar10" | "mnist"), folder)) => (format!("{kind}:"), folder),
        _ => (String::new(), path),
    };
    let name = std::path::Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    kind + &name.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_folders_are_safe_and_distinct() {
        assert_eq!(folder_name("Uninfected"), "Uninfected");
        assert_eq!(folder_name("mañana-1"), "mañana-1");
        for bad in ["../up", "a/b", "..", "", "a b", "nul", "x\\y"] {
            let name = folder_name(bad);
            assert!(!name.contains(['/', '\\', ' ']) && name != ".." && !name.is_empty(), "{bad:?} became {name:?}");
        }
        assert_ne!(folder_name("a b"), folder_name("a/b"));
        assert!(folder_names(&["Cat".into(), "cat".into()]).is_err());
    }

    #[test]
    fn seeds_differ_by_purpose() {
        assert_eq!(derive_seed(1, "cnn"), derive_seed(1, "cnn"));
        assert_ne!(derive_seed(1, "cnn"), derive_seed(1, "resnet"));
        assert_ne!(derive_seed(1, "cnn"), derive_seed(2, "cnn"));
    }
}
