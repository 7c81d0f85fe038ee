//! Small helpers around files: atomic writes, JSON and hashes.

use std::{fs::File, io::Read, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Writes `bytes` to `path` so that it is whole or as it was before, and makes the folders above it: all for their owner alone.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        cellforge_data::make_private_folder(parent).map_err(Error::io("create the folder", parent))?;
    }
    Ok(cellforge_data::write_atomic(path, bytes)?)
}

/// Makes the folder `inside` of `base`, and those between. `base` must be there: if it was removed, it is not made again.
pub fn make_folders(base: &Path, inside: impl AsRef<Path>) -> Result<()> {
    let mut folder = base.to_path_buf();
    for part in inside.as_ref() {
        folder.push(part);
        if !folder.is_dir() {
            cellforge_data::private_folder().create(&folder).map_err(Error::io("create the folder", &folder))?;
        }
    }
    Ok(())
}

/// Writes a value as indented JSON, atomically, and makes the folders above it.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_atomic(path, json(path, value)?.as_bytes())
}

/// A value as indented JSON, for the file `path`.
pub fn json<T: Serialize>(path: &Path, value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::json(path))?;
    text.push('\n');
    Ok(text)
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = cellforge_data::read_bounded(path, cellforge_data::MAX_TEXT_BYTES).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(Error::json(path))
}

/// Length and SHA-256 of a file; what is none, such as a pipe, is an error.
pub fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    // What has no end has no hash, and a pipe can be read but once.
    if !file.metadata().map_err(Error::io("read", path))?.is_file() {
        let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no file");
        return Err(Error::io("read", path)(why));
    }
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
pub fn hash_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update((text.len() as u64).to_le_bytes());
    }
    hex(&hash.finalize())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
