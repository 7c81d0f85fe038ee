//! The cache of decoded images: one file per content and settings (see [`key`]), written whole or not at all, and memory-mapped.
//!
//! File: a header of 128 bytes (little-endian: magic, version, width, channels, height, images, bytes of pixels, bytes of notes, key,
//! digest), the pixels, then notes in JSON: which entries were kept and what was skipped. The digest is the SHA-256 of pixels,
//! notes and the header before it, so a damaged or shortened file is found out and built again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::{
    Readers, is_unfinished, make_private, make_private_folder, private_file, remove_unfinished, write_with,
};
use crate::decode::{by_file, image_bytes};
use crate::index::{Index, Skipped};
use crate::intensity::Intensities;
use crate::source::Source;
use crate::view::{Original, Pixels, hex};
use crate::{Error, Fit, OpenOptions, Result};

const MAGIC: &[u8; 8] = b"CELLFRGE";
/// Rises with any change of the file's form or of what decoding yields; a test of [`crate::decode`] pins the latter.
pub(crate) const VERSION: u32 = 3;
const HEADER: usize = 128;
/// The part of the header that the digest covers.
const DIGESTED: usize = 80;

type Key = [u8; 32];

/// Which entries of an index were decoded, in order, and which were not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) places: Vec<usize>,
    pub(crate) skipped: Vec<Skipped>,
    /// How intensities beyond 8 bits became grey levels.
    pub(crate) intensities: Option<Intensities>,
    /// What the images were before.
    pub(crate) originals: Vec<Original>,
    /// The least and the greatest value of all pixels.
    pub(crate) span: Option<(u8, u8)>,
}

/// The key: SHA-256 of the settings and of every entry's name and content. What stands for the content is the SHA-256 of a file in
/// a folder, but only size and CRC-32, as the zip's directory gives them, of one in a zip. Those cost no reading; an image that is
/// replaced by another with the same two goes unnoticed.
pub(crate) fn key(source: &Source, index: &Index, options: &OpenOptions) -> Result<Key> {
    let runs = by_file(&index.entries);
    let ids: Vec<Result<Vec<u8>>> = runs
        .par_iter()
        .map_init(|| source.reader(), |reader, run| reader.content_id(&index.entries[run.start].file))
        .collect();
    let mut hash = Sha256::new();
    let stacks = &options.stacks;
    hash.update(format!(
        "{VERSION} {} {} {} {:?} {} {}\n",
        options.size,
        options.used_channels(),
        options.skip_bad,
        options.window,
        stacks.axis,
        stacks.windows
    ));
    // Caches of earlier versions, which stretched all images, are found again.
    if options.fit != Fit::Stretch {
        hash.update(format!("{:?}\n", options.fit));
    }
    let mut ids_of_entries = Vec::with_capacity(index.entries.len());
    for (run, id) in runs.iter().zip(ids) {
        let id = match id {
            Err(Error::BadImage { .. }) if options.skip_bad => Vec::new(),
            other => other?,
        };
        ids_of_entries.extend(run.clone().map(|_| id.clone()));
    }
    for (entry, id) in index.entries.iter().zip(ids_of_entries) {
        hash.update((entry.name.len() as u64).to_le_bytes());
        hash.update(&entry.name);
        hash.update((id.len() as u64).to_le_bytes());
        hash.update(&id);
    }
    Ok(hash.finalize().into())
}

/// The files of decoded images in a folder, with their locks and what a dead writer left of them. A file that only has such a name is none, and no
/// link is followed.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read.
pub fn cached_images(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut locks, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        let path = entry.path();
        if !entry.file_type().map_err(Error::io(&path))?.is_file() {
            continue;
        }
        let name = |part: Option<&OsStr>| part.and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let (stem, ending) = (name(path.file_stem()), name(path.extension()));
        let is_key = stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit());
        if is_unfinished(&entry.file_name()) {
            unfinished.push(path);
        } else if is_key && ending == "images" && begins_with(&path, MAGIC) {
            files.push(path);
        } else if is_key && ending == "lock" && entry.metadata().map_err(Error::io(&path))?.len() == 0 {
            locks.push(path);
        }
    }
    // Whoever writes a cache file has locked it by its key.
    if !locks.is_empty() {
        files.append(&mut unfinished);
    }
    if !files.is_empty() {
        files.append(&mut locks);
    }
    files.sort();
    Ok(files)
}

/// Whether a file begins with these bytes.
fn begins_with(path: &Path, bytes: &[u8]) -> bool {
    let mut found = vec![0; bytes.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut found)).is_ok() && found == bytes
}

/// Maps the cache file of `key` in `dir`; where there is none that is whole, has `build` write every image into one first.
///
/// Processes that want the same file wait for one another on a lock file beside it, and the later ones find it made.
pub(crate) fn open_or_build(
    dir: &Path,
    key: &Key,
    options: &OpenOptions,
    build: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Kept>,
) -> Result<(Kept, Pixels)> {
    let stem = hex(&key[..16]);
    let path = dir.join(format!("{stem}.images"));
    if let Some(found) = open(&path, key, options)? {
        return Ok(found);
    }
    make_private_folder(dir).map_err(Error::io(dir))?;
    let lock_path = dir.join(format!("{stem}.lock"));
    let lock =
        private_file().create(true).truncate(false).write(true).open(&lock_path).map_err(Error::io(&lock_path))?;
    // Some network file systems have no locks. Two processes may then build the same bytes, each renaming a whole file.
    if let Err(error) = lock.lock() {
        tracing::debug!("no lock on {}: {error}", lock_path.display());
    } else if let Some(found) = open(&path, key, options)? {
        return Ok(found);
    }
    remove_unfinished(dir)?;
    write(&path, key, options, build)?;
    open(&path, key, options)?.ok_or_else(|| {
        Error::Invalid(format!(
            "the cache {} changed as soon as it was written: check the disk, or cache elsewhere",
            path.display()
        ))
    })
}

fn write(
    path: &Path,
    key: &Key,
    options: &OpenOptions,
    build: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Kept>,
) -> Result<()> {
    let io = |error| Error::io(path)(error);
    write_with(path, Readers::Owner, |temporary| {
        let mut hash = Sha256::new();
        let mut pixels = 0u64;
        let mut file = BufWriter::with_capacity(1 << 20, temporary);
        file.write_all(&[0; HEADER]).map_err(io)?;
        let kept = build(&mut |image| {
            hash.update(image);
            pixels += image.len() as u64;
            file.write_all(image).map_err(io)
        })?;
        let notes = serde_json::to_vec(&kept).map_err(|error| io(error.into()))?;
        hash.update(&notes);
        file.write_all(&notes).map_err(io)?;

        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        for value in head(options) {
            header.extend(value.to_le_bytes());
        }
        for value in [kept.places.len() as u64, pixels, notes.len() as u64] {
            header.extend(value.to_le_bytes());
        }
        header.extend(key);
        debug_assert_eq!(header.len(), DIGESTED);
        hash.update(&header);
        header.extend_from_slice(&hash.finalize());
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        file.flush().map_err(io)
    })
}

/// The version, width, channels and height of the images. The height of squares is 0, as in caches of earlier versions.
fn head(options: &OpenOptions) -> [u32; 4] {
    let height = if options.size.is_square() { 0 } else { options.size.height };
    [VERSION, options.size.width as u32, options.used_channels() as u32, height as u32]
}

/// Maps a cache file that is there and whole.
fn open(path: &Path, key: &Key, options: &OpenOptions) -> Result<Option<(Kept, Pixels)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path)(error)),
    };
    make_private(&file);
    if file.metadata().map_err(Error::io(path))?.len() < HEADER as u64 {
        tracing::warn!("the cache {} is cut short: building it again", path.display());
        return Ok(None);
    }
    let map = map_read_only(&file).map_err(Error::io(path))?;
    match check(&map, key, options) {
        Some((kept, range)) => Ok(Some((kept, Pixels::Mapped(map, range)))),
        None => {
            tracing::warn!("the cache {} is damaged: building it again", path.display());
            Ok(None)
        }
    }
}

/// The notes and where the pixels lie, if everything in the file fits together.
fn check(bytes: &[u8], key: &Key, options: &OpenOptions) -> Option<(Kept, Range<usize>)> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    if &header[..8] != MAGIC || [8, 12, 16, 20].map(u32_at) != head(options) || header[48..DIGESTED] != key[..] {
        return None;
    }
    let [images, pixels, notes] = [24, 32, 40].map(|at| usize::try_from(u64_at(at)).unwrap_or(usize::MAX));
    if pixels != images.checked_mul(image_bytes(options))? || body.len() != pixels.checked_add(notes)? {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(body);
    hash.update(&header[..DIGESTED]);
    if hash.finalize()[..] != header[DIGESTED..DIGESTED + 32] {
        return None;
    }
    let kept: Kept = serde_json::from_slice(&body[pixels..]).ok()?;
    (kept.places.len() == images).then_some((kept, HEADER..HEADER + pixels))
}

// Rust has no safe way to map a file: whoever else writes to it would change memory that the program takes for constant.
#[allow(unsafe_code)]
fn map_read_only(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read-only, and this module, the only writer of cache files, never changes one in place: it writes
    // a temporary file and renames it, so that a mapping of the old file keeps the old bytes.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 32];

    fn options() -> OpenOptions {
        OpenOptions::new(4, 1)
    }

    /// Opens or builds a cache of two images; tells whether it was built.
    fn load(dir: &Path, fill: u8) -> (Vec<u8>, bool) {
        let mut built = false;
        let (kept, pixels) = open_or_build(dir, &KEY, &options(), |sink| {
            built = true;
            sink(&[fill; 16])?;
            sink(&[fill + 1; 16])?;
            let skipped = vec![Skipped { name: "b".into(), reason: "bad".into() }];
            Ok(Kept { places: vec![0, 2], skipped, ..Kept::default() })
        })
        .unwrap();
        assert_eq!((kept.places, kept.skipped.len()), (vec![0, 2], 1));
        (pixels.bytes().to_vec(), built)
    }

    #[test]
    fn built_once_then_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let (first, built) = load(dir.path(), 1);
        assert!(built && first.len() == 32 && first[31] == 2);
        assert_eq!(load(dir.path(), 9), (first, false));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "only the cache and its lock remain: {left:?}");
    }

    #[test]
    fn any_changed_byte_or_length_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path(), 1);
        let path = dir.path().join(format!("{}.images", hex(&KEY[..16])));
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).filter(|at| !(DIGESTED + 32..HEADER).contains(at)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(check(&bytes, &KEY, &options()).is_none(), "byte {at}");
        }
        for kept in [0, 10, HEADER, whole.len() - 1] {
            fs::write(&path, &whole[..kept]).unwrap();
            assert!(load(dir.path(), 5).1, "cut to {kept} bytes");
        }
        fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(load(dir.path(), 5).1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let failed = open_or_build(dir.path(), &KEY, &options(), |sink| {
            sink(&[0; 16])?;
            Err(Error::Invalid("stop".into()))
        });
        assert!(failed.is_err());
        assert!(
            !fs::read_dir(dir.path()).unwrap().any(|item| item
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "images"))
        );
        assert!(load(dir.path(), 1).1);
    }

    #[test]
    fn many_at_once_build_once() {
        let dir = tempfile::tempdir().unwrap();
        let results: Vec<(Vec<u8>, bool)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load(dir.path(), 3))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|(_, built)| *built).count(), 1);
        assert!(results.iter().all(|(bytes, _)| *bytes == results[0].0));
    }
}
