//! Files that are read whole, up to a limit: a device, or a pipe, may have no end.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The most bytes of a table, a split, answers or figures.
pub const MAX_TEXT_BYTES: u64 = 1 << 30;

/// The most bytes of what is no file: a pipe or a device, whose length is not known before it is read.
const MAX_STREAM_BYTES: u64 = 64 << 20;

/// The bytes of a file, where they are no more than `limit`, and of a pipe or a device no more than 64 MiB either.
///
/// # Errors
/// Those of the system; [`ErrorKind::FileTooLarge`] for a file of more.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let limit = if meta.is_file() { limit } else { limit.min(MAX_STREAM_BYTES) };
    let mut bytes = Vec::new();
    // A file with holes may say that it is longer than all memory.
    bytes.try_reserve_exact(usize::try_from(meta.len().min(limit)).unwrap_or(usize::MAX))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than the {limit} bytes that are read")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_the_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        assert_eq!(read_bounded(file.path(), 5).unwrap(), b"12345");
        assert_eq!(read_bounded(file.path(), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        #[cfg(unix)]
        assert_eq!(read_bounded(Path::new("/dev/zero"), u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
