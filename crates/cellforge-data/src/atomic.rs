//! Files that are whole or not there: written under a temporary name beside their own, synced and renamed. And who may read them: their owner
//! alone, for they are of patients, unless they are made to be given away.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::{Error, Result};

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it: whoever looks at `path`, even after a crash, finds
/// what was there before or the whole of the new file. Its owner alone may read and write it, even where others could read the
/// file that it replaces; see [`private_file`]. Its folder must be there. A link is followed; what is there and no file, such as
/// `/dev/stdout`, is written to as it is.
///
/// # Errors
/// [`Error::Io`] naming the file, or the folder where no file can be made in it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, Readers::Owner, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// As [`write_atomic`], for what holds nothing of a patient and is made to be given away: it has the permissions of any new file.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_shared(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, Readers::AsUsual, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// Options by which a file that is made is its owner's alone to read and write (0600). One that is there keeps its permissions. On Windows a file
/// has the permissions of its folder.
#[must_use]
pub fn private_file() -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes an open file, which an earlier version may have made readable for all, its owner's alone as [`private_file`] does. Where that is not
/// allowed, it stays as it is.
pub fn make_private(file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// Makes folders that only their owner may enter (0700). On Windows a folder has the permissions of the one above it.
#[must_use]
pub fn private_folder() -> DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes a folder by [`private_folder`], and in the same way those above it that are missing. One that is there keeps its permissions.
///
/// # Errors
/// Those of the system.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    private_folder().recursive(true).create(path)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody else.
    Owner,
    /// Whom the system lets read any new file.
    AsUsual,
}

/// As [`write_atomic`] or [`write_shared`], for what `fill` writes. If `fill` fails, nothing is left behind.
pub(crate) fn write_with(path: &Path, readers: Readers, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let there = fs::metadata(path);
    if there.as_ref().is_ok_and(|meta| !meta.is_file()) {
        return fill(&mut OpenOptions::new().write(true).open(path).map_err(Error::io(path))?);
    }
    // A rename would replace a link, and not the file that it names.
    let resolved = if there.is_ok() { fs::canonicalize(path).map_err(Error::io(path))? } else { path.to_path_buf() };
    let path = resolved.as_path();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = Temporary::new(folder, readers).map_err(Error::io(folder))?;
    fill(&mut temporary.file)?;
    temporary.rename(path)
}

/// A file of a name of its own, which goes when it is dropped, unless it was renamed.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    file: File,
    is_renamed: bool,
}

impl Temporary {
    pub(crate) fn new(folder: &Path, readers: Readers) -> io::Result<Self> {
        let mut options = if readers == Readers::Owner { private_file() } else { File::options() };
        options.read(true).write(true).create_new(true);
        // Other threads have other numbers, other processes other ids or, where one has died and left a file, other times.
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let path = folder.join(format!("{PREFIX}{}-{number}-{time}", process::id()));
            match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                opened => {
                    let file = opened?;
                    // Tells `remove_unfinished` that somebody is at work here. Where there are no locks, it removes nothing.
                    let _ = file.try_lock();
                    return Ok(Self { file, path, is_renamed: false });
                }
            }
        }
    }

    /// The same open file once more.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Syncs it and gives it its name, in the same folder.
    pub(crate) fn rename(mut self, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io(path))?;
        fs::rename(&self.path, path).map_err(Error::io(path))?;
        self.is_renamed = true;
        // The rename itself lasts once the folder is synced; where folders cannot be, a crash may bring back what was there before.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what writers that were killed have left in `folder`: the temporary files of [`write_atomic`] that no process holds any
/// more. It is no error if there is no such folder.
///
/// # Errors
/// [`Error::Io`] naming the file that cannot be removed, or the folder that cannot be read.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        if !is_unfinished(&entry.file_name()) {
            continue;
        }
        // Whoever removed it, or finished it, in the meantime has done no harm.
        if File::options().write(true).open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(&path)(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a file of this name is a temporary one of [`write_atomic`], whose writer was killed if nobody holds it.
#[must_use]
pub fn is_unfinished(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(PREFIX)
}

/// How the names of temporary files begin.
const PREFIX: &str = ".writing-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_writes_any_more_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let names =
                fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        };
        fs::write(dir.path().join(".writing-left"), "half").unwrap();
        write_with(&dir.path().join("file"), Readers::Owner, |file| {
            file.write_all(b"half").unwrap();
            assert_eq!(names().len(), 2);
            remove_unfinished(dir.path())?;
            assert_eq!(names().len(), 1, "the file that is being written stays");
            Ok(())
        })
        .unwrap();
        remove_unfinished(dir.path()).unwrap();
        assert_eq!(names(), ["file"]);
        remove_unfinished(&dir.path().join("none")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_what_is_shared_is_readable_by_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        fs::write(dir.path().join("plain"), "x").unwrap();
        write_shared(&dir.path().join("shared"), b"x").unwrap();
        assert_eq!(mode("shared"), mode("plain"));
        write_atomic(&dir.path().join("atomic"), b"x").unwrap();
        write_atomic(&dir.path().join("plain"), b"x").unwrap();
        make_private_folder(&dir.path().join("a/b")).unwrap();
        make_private_folder(&dir.path().join("a/b")).unwrap();
        assert_eq!(["atomic", "plain", "a", "a/b"].map(mode), [0o600, 0o600, 0o700, 0o700]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "before").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomic(&link, b"after").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"after");
        write_atomic(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_failure_keeps_what_was_there_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"before").unwrap();
        let failed = write_with(&path, Readers::Owner, |file| {
            file.write_all(b"half").unwrap();
            Err(Error::Invalid("stop".into()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_atomic(&path, b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        let nowhere = dir.path().join("none/file");
        assert!(write_atomic(&nowhere, b"").unwrap_err().to_string().contains("none"));
    }
}
