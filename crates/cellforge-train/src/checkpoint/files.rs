//! Files and folders that are written, renamed and removed so that a crash leaves something whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cellforge_data::private_file;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The folder beside `target` whose name has this ending.
pub(super) fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    target.with_file_name(name)
}

/// The SHA-256 of these bytes, as 64 hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that is on the disk when this returns.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = private_file().write(true).create(true).truncate(true).open(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

/// Makes renames in `dir` durable. Not every system can sync a folder; there the file's own sync must do.
pub(super) fn sync_folder(dir: &Path) {
    if let Ok(folder) = File::open(dir) {
        let _ = folder.sync_all();
    }
}

/// Makes the rename of `target` durable.
pub(super) fn sync_around(target: &Path) {
    if let Some(folder) = target.parent() {
        sync_folder(folder);
    }
}

/// Removes a file or a folder; it is no error if there is none.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
