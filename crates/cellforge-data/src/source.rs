//! Where images come from: a folder or a zip, listed and read without unpacking.
//!
//! A zip is not trusted. Names that point outside it, entries that overlap, repeat or unpack into far more than they hold are
//! refused as a whole ([`Error::HostileZip`]) before a byte is unpacked, and reading never goes past the size an entry declares.
//! An entry that is merely larger than is read, or packs very well, is a bad image and condemns none but itself.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;
use zip::ZipArchive;

use crate::formats::{Format, HEAD, MAX_STACK_BYTES};
use crate::index::{Skipped, is_image};
use crate::{Error, Result};

/// The most bytes one image file may have, as a file or unpacked from a zip: 64 MiB. Files that hold many images may have
/// [`MAX_STACK_BYTES`].
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most times larger than its packed size an entry of a zip may be, where it is larger than [`MAX_FILE_BYTES`]: what is smaller may
/// have any ratio, as a black image has.
pub const MAX_RATIO: u64 = 200;
/// The most bytes that all entries of a zip may unpack into whatever their ratio (4 GiB); above, it is [`MAX_RATIO`] for them together.
pub const RATIO_FREE_BYTES: u64 = 4 << 30;
/// The most entries a zip may have.
pub const MAX_ENTRIES: usize = 2_000_000;
/// How deep files may lie in a folder: at most so many steps below it. What lies deeper is a problem of the listing.
pub const MAX_DEPTH: usize = 32;

/// An opened folder or zip, or one file that holds many images.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    Zip(Box<Zip>),
    /// A volume, a stack of pages or an array, under its name.
    File(String),
}

#[derive(Debug)]
struct Zip {
    archive: ZipArchive<SharedFile>,
    /// From a cleaned name to the entry's place in the archive.
    places: HashMap<String, usize>,
    /// Entries that would unpack into far more than they hold, by their cleaned names, and why they are not.
    refused: HashMap<String, String>,
}

/// What a source holds, in order of name. Hidden files and folders (`.x`, `__MACOSX`) are left out, the latter with all they hold.
#[derive(Debug, Default)]
pub struct Listing {
    /// Paths inside the source, `/` between the parts.
    pub files: Vec<String>,
    /// Every folder, those that hold nothing included.
    pub folders: BTreeSet<String>,
    /// Number of hidden files left out. Those in hidden folders count in a zip, whose directory names them, but not on disk, where
    /// such folders are not entered.
    pub hidden: usize,
    /// What could not be listed, such as a dangling link, a folder below [`MAX_DEPTH`], or a pipe with the name of an image.
    pub problems: Vec<Skipped>,
}

impl Source {
    /// Opens a folder, a zip whose directory is checked against the limits of this module, or a file that holds many images.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], [`Error::Zip`] where a file is no whole zip, [`Error::LoneImage`] where it is one image,
    /// [`Error::HostileZip`].
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NotFound(path.to_path_buf())),
            other => other.map_err(Error::io(path))?,
        };
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(Error::Zip { path: path.to_path_buf(), reason: NOT_REGULAR.to_owned() });
        }
        let kind = if metadata.is_dir() { Kind::Folder } else { open_file(path)? };
        Ok(Self { path: path.to_path_buf(), kind })
    }

    /// The folder or zip.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists files and folders. Links are followed; one that leads in a circle is a problem of the listing.
    #[must_use]
    pub fn list(&self) -> Listing {
        let mut listing = match &self.kind {
            Kind::Zip(zip) => list_zip(zip),
            Kind::Folder => list_folder(&self.path),
            Kind::File(name) => Listing { files: vec![name.clone()], ..Listing::default() },
        };
        listing.files.sort_unstable();
        for file in &listing.files {
            listing.folders.extend(parents(file).map(str::to_owned));
        }
        listing
    }

    /// Copies files into the folder `into`, byte for byte, under the names that [`Source::list`] gives them. They are for their owner alone.
    ///
    /// # Errors
    /// [`Error::BadImage`] for a file that cannot be read or whose name leads out of the folder, [`Error::HostileZip`], [`Error::Io`].
    pub fn copy<'a>(&self, names: impl IntoIterator<Item = &'a str>, into: &Path) -> Result<()> {
        self.copy_as(names.into_iter().map(|name| (name, name)), into)
    }

    /// As [`Source::copy`], each file under a name of choice, which comes second.
    pub(crate) fn copy_as<'a>(&self, names: impl IntoIterator<Item = (&'a str, &'a str)>, into: &Path) -> Result<()> {
        let mut reader = self.reader();
        for (name, new) in names {
            if !Path::new(new).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(self.bad(name, "its name leads out of the folder"));
            }
            let to = into.join(new);
            if let Some(folder) = to.parent() {
                crate::make_private_folder(folder).map_err(Error::io(folder))?;
            }
            crate::write_atomic(&to, &reader.read(name, MAX_STACK_BYTES)?)?;
        }
        Ok(())
    }

    /// A reader of this source; each thread takes its own.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let archive = if let Kind::Zip(zip) = &self.kind { Some(zip.archive.clone()) } else { None };
        Reader { source: self, archive }
    }

    /// Where a file of a folder lies, or the source where that is a file.
    fn place(&self, name: &str) -> PathBuf {
        if let Kind::File(_) = self.kind { self.path.clone() } else { self.path.join(name) }
    }

    fn bad(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::BadImage { path: self.path.clone(), name: name.to_owned(), reason: reason.into() }
    }
}

/// Reads files of a [`Source`].
pub(crate) struct Reader<'a> {
    source: &'a Source,
    archive: Option<ZipArchive<SharedFile>>,
}

impl Reader<'_> {
    /// The bytes of one file, of which there may be `limit`: [`Error::BadImage`] where they cannot be had, [`Error::HostileZip`] where an
    /// entry unpacks into more than it declares.
    pub(crate) fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let source = self.source;
        let bad = |error: &dyn std::fmt::Display| source.bad(name, format!("it cannot be read: {error}"));
        let too_large = || source.bad(name, format!("it is larger than {} MiB", limit >> 20));
        let (Some(archive), Kind::Zip(zip)) = (&mut self.archive, &source.kind) else {
            let mut bytes = Vec::new();
            self.file(name)?.take(limit + 1).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
            return if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) };
        };
        if let Some(reason) = zip.refused.get(name) {
            return Err(source.bad(name, reason));
        }
        let place = *zip.places.get(name).ok_or_else(|| source.bad(name, "it is no longer in the zip"))?;
        let entry = archive.by_index(place).map_err(|error| bad(&error))?;
        let declared = entry.size();
        if declared > limit {
            return Err(too_large());
        }
        // No more room than a small file needs: what is declared may not be there.
        let mut bytes = Vec::with_capacity(declared.min(MAX_FILE_BYTES) as usize);
        // One byte more than declared shows an entry that lies, and lets the reader reach the end, where it checks the CRC.
        let read = entry.take(declared + 1).read_to_end(&mut bytes);
        // The zip crate finds some lies itself, and has no other mark for them than its words.
        let lies = read.as_ref().is_err_and(|error| error.to_string().contains("declared uncompressed size"));
        if lies || bytes.len() as u64 > declared {
            let reason = format!("unpacks into more than the {declared} bytes it declares");
            return Err(Error::HostileZip { path: source.path.clone(), entry: name.to_owned(), reason });
        }
        read.map_err(|error| bad(&error))?;
        Ok(bytes)
    }

    /// The first bytes of a file, [`HEAD`] of them where it has as many.
    pub(crate) fn head(&mut self, name: &str) -> Result<Vec<u8>> {
        let source = self.source;
        let bad = |error: &dyn std::fmt::Display| source.bad(name, format!("it cannot be read: {error}"));
        let mut bytes = Vec::with_capacity(HEAD);
        let read = match (&mut self.archive, &source.kind) {
            (Some(archive), Kind::Zip(zip)) => {
                let place = *zip.places.get(name).ok_or_else(|| source.bad(name, "it is no longer in the zip"))?;
                let entry = archive.by_index(place).map_err(|error| bad(&error))?;
                entry.take(HEAD as u64).read_to_end(&mut bytes)
            }
            _ => self.file(name)?.take(HEAD as u64).read_to_end(&mut bytes),
        };
        read.map_err(|error| bad(&error))?;
        Ok(bytes)
    }

    fn file(&self, name: &str) -> Result<File> {
        let source = self.source;
        let bad = |error: io::Error| source.bad(name, format!("it cannot be read: {error}"));
        let path = source.place(name);
        // To open a pipe is to wait for someone to write into it.
        if !std::fs::metadata(&path).map_err(bad)?.is_file() {
            return Err(source.bad(name, NOT_REGULAR));
        }
        File::open(path).map_err(bad)
    }

    /// What identifies a file's content: size and CRC-32 from a zip's directory, SHA-256 of a file in a folder.
    pub(crate) fn content_id(&mut self, name: &str) -> Result<Vec<u8>> {
        if let (Some(archive), Kind::Zip(zip)) = (&self.archive, &self.source.kind)
            && let Some(place) = zip.places.get(name)
            && let Ok(entry) = archive.by_index_data(*place)
        {
            return Ok([entry.size().to_le_bytes().as_slice(), &entry.crc32().to_le_bytes()].concat());
        }
        Ok(Sha256::digest(self.read(name, MAX_STACK_BYTES)?).to_vec())
    }
}

/// The folders above a file, nearest first.
fn parents(file: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(file.rsplit_once('/').map(|(above, _)| above), |path| {
        path.rsplit_once('/').map(|(above, _)| above)
    })
}

const NOT_REGULAR: &str = "it is a pipe, a socket or a device, not a file";

fn is_hidden(part: &str) -> bool {
    part.starts_with('.') || part == "__MACOSX"
}

fn list_folder(root: &Path) -> Listing {
    let mut listing = Listing::default();
    let mut walk = WalkDir::new(root).follow_links(true).max_depth(MAX_DEPTH).sort_by_file_name().into_iter();
    while let Some(item) = walk.next() {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                let name = error.path().map_or_else(String::new, |path| inner_name(root, path));
                if !name.split('/').any(is_hidden) {
                    listing.problems.push(Skipped { name, reason: error.to_string() });
                }
                continue;
            }
        };
        if item.depth() == 0 {
            continue;
        }
        let name = inner_name(root, item.path());
        let is_folder = item.file_type().is_dir();
        if is_hidden(&item.file_name().to_string_lossy()) {
            if is_folder {
                walk.skip_current_dir();
            } else {
                listing.hidden += 1;
            }
        } else if item.path().to_str().is_none() {
            listing.problems.push(Skipped { name, reason: "its name is not valid UTF-8: rename it".to_owned() });
            if is_folder {
                walk.skip_current_dir();
            }
        } else if is_folder && item.depth() == MAX_DEPTH {
            let reason = format!("it is a folder {MAX_DEPTH} steps down, and nothing in it is read: move it up");
            listing.problems.push(Skipped { name, reason });
        } else if is_folder {
            listing.folders.insert(name);
        } else if item.file_type().is_file() || !is_image(&name) {
            listing.files.push(name);
        } else {
            listing.problems.push(Skipped { name, reason: NOT_REGULAR.to_owned() });
        }
    }
    listing
}

/// The path below `root` with `/` between the parts, whatever the operating system writes.
fn inner_name(root: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(root).unwrap_or(path);
    inner.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn list_zip(zip: &Zip) -> Listing {
    let mut listing = Listing::default();
    for name in zip.places.keys() {
        let folder = name.strip_suffix('/');
        match folder {
            _ if name.split('/').any(is_hidden) => listing.hidden += usize::from(folder.is_none()),
            Some(folder) => {
                listing.folders.insert(folder.to_owned());
                listing.folders.extend(parents(folder).map(str::to_owned));
            }
            None => listing.files.push(name.clone()),
        }
    }
    listing
}

/// A file that is a source: a zip, or one that holds many images.
fn open_file(path: &Path) -> Result<Kind> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head)).map_err(Error::io(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match Format::of(&head, &name) {
        Some(Format::Raster(_)) => Err(Error::LoneImage(path.to_path_buf())),
        Some(_) => Ok(Kind::File(name)),
        None if !is_zip(path, &head)? => Err(Error::NoSet(path.to_path_buf())),
        None => Ok(Kind::Zip(Box::new(open_zip(path)?))),
    }
}

/// Whether a file is a zip, perhaps a broken one, by its name, its first bytes `head`, or, where something stands before it, its end.
fn is_zip(path: &Path, head: &[u8]) -> Result<bool> {
    let is_named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    Ok(is_named || head.starts_with(b"PK") || ZipArchive::new(File::open(path).map_err(Error::io(path))?).is_ok())
}

fn open_zip(path: &Path) -> Result<Zip> {
    let not_whole = |error: zip::result::ZipError| Error::Zip { path: path.to_path_buf(), reason: error.to_string() };
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut archive = ZipArchive::new(SharedFile { file: Arc::new(file), position: 0, length }).map_err(not_whole)?;
    let hostile =
        |entry: &str, reason: String| Error::HostileZip { path: path.to_path_buf(), entry: entry.to_owned(), reason };
    let mut places = HashMap::with_capacity(archive.len().min(MAX_ENTRIES));
    let (mut refused, mut total) = (HashMap::new(), 0u64);
    for place in 0..archive.len() {
        let entry = archive.by_index_data(place).map_err(not_whole)?;
        // Several tools write UTF-8 without setting the flag that says so.
        let name = match std::str::from_utf8(entry.name_raw()) {
            Ok(name) => name.to_owned(),
            Err(_) => entry.name().map_err(not_whole)?.into_owned(),
        };
        if place == MAX_ENTRIES {
            return Err(hostile(&name, format!("is one of {}: at most {MAX_ENTRIES} are read", archive.len())));
        }
        let clean = clean_name(&name).map_err(|reason| hostile(&name, reason.to_owned()))?;
        let (size, packed) = (entry.size(), entry.compressed_size());
        // One image that is blank condemns nothing but itself.
        if size > MAX_FILE_BYTES && size / MAX_RATIO > packed {
            let reason = format!("it unpacks from {packed} bytes into {size}, like a decompression bomb");
            refused.insert(clean.clone(), reason);
        } else {
            total = total.saturating_add(size);
        }
        if is_bomb(total, length) {
            return Err(hostile(
                &name,
                format!("and those before it unpack from {length} bytes into {total}, like a decompression bomb"),
            ));
        }
        if !clean.is_empty() && places.insert(clean, place).is_some() {
            return Err(hostile(&name, "is there twice".to_owned()));
        }
    }
    if archive.has_duplicate_names() {
        return Err(hostile("(several)", "share one name".to_owned()));
    }
    if archive.has_overlapping_files().map_err(not_whole)? {
        return Err(hostile("(several)", "share the same bytes, like a decompression bomb".to_owned()));
    }
    Ok(Zip { archive, places, refused })
}

/// Whether entries that unpack into `total` bytes are too much for a zip of `length` bytes.
fn is_bomb(total: u64, length: u64) -> bool {
    total > RATIO_FREE_BYTES && total / MAX_RATIO > length
}

/// Takes `\` for the separator that some programs write, and drops `.` and empty parts of an entry's name, keeping the `/` that ends a folder's; refuses what leads out of the zip.
fn clean_name(name: &str) -> std::result::Result<String, &'static str> {
    let name = name.replace('\\', "/");
    let bytes = name.as_bytes();
    if name.contains('\0') {
        return Err("has a NUL character in its name");
    }
    if name.starts_with('/') || (bytes.len() > 1 && bytes[1] == b':' && bytes[0].is_ascii_alphabetic()) {
        return Err("has an absolute path for a name");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("has .. in its name, leading out of the zip");
    }
    let mut clean = parts.join("/");
    if name.ends_with('/') && !clean.is_empty() {
        clean.push('/');
    }
    Ok(clean)
}

/// A file that many threads read at once, each from its own position.
#[derive(Clone, Debug)]
struct SharedFile {
    file: Arc<File>,
    position: u64,
    length: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.position)?;
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        assert_eq!(clean_name("./a//b.png").unwrap(), "a/b.png");
        assert_eq!(clean_name("a/./b/").unwrap(), "a/b/");
        assert_eq!(clean_name("./").unwrap(), "");
        assert_eq!(clean_name("a..b/..c.png").unwrap(), "a..b/..c.png");
        assert_eq!(clean_name("a\\b\\c.png").unwrap(), "a/b/c.png");
        for hostile in ["../a", "a/../../b", "/etc/x.png", "C:/x.png", "\\x.png", "a\\..\\..\\x", "..\\x", "a\0.png"] {
            assert!(clean_name(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn much_is_a_bomb_only_where_little_is_packed() {
        assert!(!is_bomb(RATIO_FREE_BYTES, 100));
        assert!(is_bomb(RATIO_FREE_BYTES + 1, 100));
        assert!(!is_bomb(100 << 30, 1 << 30));
    }

    #[test]
    fn parents_climb_to_the_top() {
        assert_eq!(parents("a/b/c.png").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(parents("c.png").count(), 0);
    }
}
