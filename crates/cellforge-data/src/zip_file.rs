//! A zip that is being written: images that are compressed already, stored as they are, with a fixed date, so that equal images make
//! equal archives.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::{Error, Result};

/// Entries go into it one by one.
#[derive(Debug)]
pub(crate) struct ZipFile<W: Write + Seek> {
    zip: Box<ZipWriter<Once<BufWriter<W>>>>,
    path: PathBuf,
}

impl<W: Write + Seek> ZipFile<W> {
    /// Writes into `file`; errors name `path`.
    pub(crate) fn new(file: W, path: &Path) -> Self {
        let once = Once { inner: BufWriter::with_capacity(1 << 16, file), failed: false, at: 0, end: 0 };
        Self { zip: Box::new(ZipWriter::new(once)), path: path.to_path_buf() }
    }

    pub(crate) fn add(&mut self, name: String, bytes: &[u8]) -> Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default());
        let started = self.zip.start_file(name, options).map_err(io::Error::from);
        started.and_then(|()| self.zip.write_all(bytes)).map_err(Error::io(&self.path))
    }

    /// Writes the directory of the zip, and all that was held back.
    pub(crate) fn finish(self) -> Result<()> {
        let done = self.zip.finish().map_err(io::Error::from);
        done.and_then(|mut file| file.flush()).map_err(Error::io(&self.path))
    }
}

/// A file that fails once, and from then on takes everything and keeps nothing. Whoever was told will not use what was written; a zip
/// writer that is dropped tries to finish all the same, and would print its own failure.
#[derive(Debug)]
struct Once<W> {
    inner: W,
    failed: bool,
    /// Where the next byte would go, and where the file ends.
    at: u64,
    end: u64,
}

impl<W> Once<W> {
    fn note<T>(&mut self, done: &io::Result<T>) {
        self.failed |= done.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
    }
}

impl<W: Write> Write for Once<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = if self.failed { Ok(bytes.len()) } else { self.inner.write(bytes) };
        self.note(&done);
        self.at += *done.as_ref().unwrap_or(&0) as u64;
        self.end = self.end.max(self.at);
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = if self.failed { Ok(()) } else { self.inner.flush() };
        self.note(&done);
        done
    }
}

impl<W: Seek> Seek for Once<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        let before_the_start = || io::Error::from(io::ErrorKind::InvalidInput);
        let done = if self.failed { target.ok_or_else(before_the_start) } else { self.inner.seek(to) };
        self.note(&done);
        self.at = *done.as_ref().unwrap_or(&self.at);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read};

    /// A disk with so many bytes left.
    struct Full(Cursor<Vec<u8>>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.get_ref().len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_full_disk_fails_once() {
        let mut zip = ZipFile::new(Full(Cursor::default(), 200_000), Path::new("a.zip"));
        let mut error = None;
        for i in 0..100 {
            if let Err(found) = zip.add(format!("{i}.png"), &[7; 5000]) {
                error = Some(found);
                break;
            }
        }
        let Some(Error::Io { path, source }) = error else { panic!("{error:?}") };
        assert_eq!((path, source.kind()), (PathBuf::from("a.zip"), io::ErrorKind::StorageFull));
        // What the zip writer does when it is dropped: nothing more is attempted, and nothing fails.
        zip.finish().unwrap();
    }

    #[test]
    fn entries_read_back() {
        let mut bytes = Cursor::new(Vec::new());
        let mut zip = ZipFile::new(&mut bytes, Path::new("a.zip"));
        zip.add("a/1.png".to_owned(), b"one").unwrap();
        zip.finish().unwrap();
        let mut archive = zip::ZipArchive::new(bytes).unwrap();
        let mut text = String::new();
        archive.by_name("a/1.png").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
    }
}
