//! Downloads a data set: with progress, resumed where it broke off, checked, and put in place only when whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::view::hex;
use crate::{Error, Progress, Result};

/// What to download, and what is known of it.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The address, http or https.
    pub url: String,
    /// The file to write. The download goes to `FILE.part` beside it until it is whole.
    pub dest: PathBuf,
    /// The file's SHA-256 in hexadecimal, if known.
    pub sha256: Option<String>,
    /// The file's length in bytes, if known.
    pub length: Option<u64>,
    /// Attempts in all; an attempt that brought some bytes does not count.
    pub attempts: u32,
    /// How long to wait for the server, for a connection and for each read.
    pub timeout: Duration,
    /// Pause before the second attempt; doubled before each further one.
    pub pause: Duration,
    /// Is told how many bytes have arrived, and of how many where the server says so.
    pub progress: Option<Progress>,
}

impl FetchOptions {
    /// What is at `url`, into the file `dest`: whatever its length and checksum are, with four attempts, 30 seconds for each answer of the
    /// server and two seconds before the second attempt.
    #[must_use]
    pub fn new(url: impl Into<String>, dest: PathBuf) -> Self {
        Self {
            url: url.into(),
            dest,
            sha256: None,
            length: None,
            attempts: 4,
            timeout: Duration::from_secs(30),
            pause: Duration::from_secs(2),
            progress: None,
        }
    }

    fn tell(&self, done: u64, total: Option<u64>) {
        self.progress.iter().for_each(|progress| progress.tell(done, total));
    }
}

/// Downloads `options.url` to `options.dest` and returns that path. A file that is already there is kept if it agrees
/// with the length and checksum given (or none is given).
///
/// A download that broke off is resumed with a range request, in the same call or a later one, and only if the server
/// still has the same file (its `ETag` or `Last-Modified`). Only one process at a time downloads a file: `FILE.part.lock`
/// is locked meanwhile.
///
/// # Errors
/// [`Error::Offline`] if the server cannot be reached; [`Error::Fetch`] if it refuses, or sends something else than was expected, or if another
/// process is downloading the same file; the partial file stays unless its content is wrong. [`Error::Io`] if a file
/// cannot be written.
pub fn fetch(options: &FetchOptions) -> Result<PathBuf> {
    if let Some(found) = existing(options)? {
        return Ok(found);
    }
    if let Some(folder) = options.dest.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let _lock = Lock::take(options)?;
    // Another process may have finished the file before this one had the lock.
    if let Some(found) = existing(options)? {
        return Ok(found);
    }
    let part = beside(&options.dest, "part");
    let validator = beside(&options.dest, "part.etag");
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout))
        .http_status_as_error(false)
        // Ranges and lengths count bytes of the file itself, never of a compressed form of it.
        .accept_encoding("identity")
        .build()
        .new_agent();
    let (mut attempt, mut pause) = (1, options.pause);
    loop {
        let before = size(&part);
        match transfer(options, &agent, &part, &validator) {
            Ok(()) => break,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(reason)) => {
                // Whoever makes progress is not given up on.
                if size(&part) <= before {
                    attempt += 1;
                }
                if attempt > options.attempts {
                    return Err(offline(options, &reason));
                }
                tracing::warn!("the download broke off ({reason}); going on from byte {}", size(&part));
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(60));
            }
        }
    }
    options.tell(size(&part), Some(size(&part)));
    if let Some(difference) = difference(options, &part)? {
        // Wrong content would be wrong again after a resume.
        remove(&part)?;
        remove(&validator)?;
        return Err(unexpected(options, &difference));
    }
    fs::rename(&part, &options.dest).map_err(Error::io(&options.dest))?;
    remove(&validator)?;
    Ok(options.dest.clone())
}

/// The file, if it is there already and is what is expected.
fn existing(options: &FetchOptions) -> Result<Option<PathBuf>> {
    if !options.dest.is_file() {
        return Ok(None);
    }
    match difference(options, &options.dest)? {
        None => Ok(Some(options.dest.clone())),
        Some(difference) => {
            let reason =
                format!("{} is there, but has {difference}: remove it and fetch again", options.dest.display());
            Err(Error::Fetch { url: options.url.clone(), reason })
        }
    }
}

/// Keeps other processes from downloading the same file. The system releases it when the process ends, however it ends.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(options: &FetchOptions) -> Result<Self> {
        let path = beside(&options.dest, "part.lock");
        let mut tries = 0;
        loop {
            tries += 1;
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(Error::io(&path))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let reason = format!(
                        "another process is downloading {}: wait for it, or end it and fetch again",
                        options.dest.display()
                    );
                    return Err(Error::Fetch { url: options.url.clone(), reason });
                }
                // Some network file systems have no locks; there the user must see to it that nobody else downloads.
                Err(TryLockError::Error(error)) => tracing::debug!("no lock on {}: {error}", path.display()),
                Ok(()) => {}
            }
            // Whoever held it before removes the file at the end, perhaps after this process opened it: the lock on a file that
            // is gone keeps nobody out. So many in a row are rather a file system whose files have no lasting numbers.
            if is_at(&file, &path) || tries == 10 {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked: once it is not, it may be the next process's. One that stays behind does no harm.
        fs::remove_file(&self.path).ok();
    }
}

/// Whether `file` is what `path` names at this moment.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(opened), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (named.dev(), named.ino())
}

/// Whether `path` names anything: there is no number to know `file` by.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Why an attempt ended.
enum Failure {
    /// Trying again may help.
    Passing(String),
    /// It will not.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// One request: from where the partial file ends to the end.
fn transfer(
    options: &FetchOptions,
    agent: &ureq::Agent,
    part: &Path,
    validator: &Path,
) -> std::result::Result<(), Failure> {
    let mut have = size(part);
    let known = fs::read_to_string(validator).ok();
    let mut request = agent.get(&options.url);
    match &known {
        Some(known) if have > 0 => {
            request = request.header("Range", format!("bytes={have}-")).header("If-Range", known);
        }
        // Without knowing that it is the same file, what is there cannot be trusted.
        _ => have = 0,
    }
    let mut response = request.call().map_err(|e| match e {
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) | ureq::Error::Http(_) => {
            Failure::Final(Error::Fetch {
                url: options.url.clone(),
                reason: format!("{e}: give an address that begins with http:// or https://"),
            })
        }
        e => Failure::Passing(e.to_string()),
    })?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut whole = None;
    match response.status().as_u16() {
        206 => {
            let range = header("content-range").and_then(|range| content_range(&range));
            if range.map(|(from, _)| from) != Some(have) {
                remove(part)?;
                return Err(Failure::Passing("the server resumed at another place than asked".to_owned()));
            }
            // Not every server heeds If-Range: the rest of another file must not be put after the beginning of this one.
            if let Some(known) = &known {
                let now = header(if known.starts_with('"') { "etag" } else { "last-modified" });
                if now.is_some_and(|now| now != *known) {
                    return changed(part, validator);
                }
            }
            whole = range.and_then(|(_, whole)| whole);
        }
        200 => have = 0,
        // There is nothing after the bytes we have: they are the whole file, or of another one.
        416 => {
            let total = header("content-range").and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
            if total == Some(have) {
                return Ok(());
            }
            return changed(part, validator);
        }
        status @ (408 | 429 | 500..=599) => return Err(Failure::Passing(format!("the server answered {status}"))),
        status => {
            let reason = format!("the server answered {status}: check the address");
            return Err(Failure::Final(Error::Fetch { url: options.url.clone(), reason }));
        }
    }
    let rest = header("content-length").and_then(|length| length.parse::<u64>().ok());
    let total = whole.or(rest.map(|rest| have.saturating_add(rest)));
    if let (Some(total), Some(length)) = (total, options.length)
        && total != length
    {
        return Err(Failure::Final(unexpected(options, &format!("length {total}, not {length}"))));
    }
    // A weak ETag may not be used to resume.
    match header("etag").filter(|tag| !tag.starts_with("W/")).or_else(|| header("last-modified")) {
        Some(tag) => fs::write(validator, tag).map_err(Error::io(validator))?,
        None => remove(validator)?,
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(have > 0)
        .truncate(have == 0)
        .open(part)
        .map_err(Error::io(part))?;
    let expected = total.or(options.length);
    options.tell(have, expected);
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 16];
    let outcome = loop {
        match body.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                file.write_all(&buffer[..n]).map_err(Error::io(part))?;
                have += n as u64;
                options.tell(have, expected);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => break Err(Failure::Passing(e.to_string())),
        }
    };
    file.sync_all().map_err(Error::io(part))?;
    outcome?;
    match total {
        Some(total) if have < total => {
            Err(Failure::Passing(format!("the connection closed at {have} of {total} bytes")))
        }
        _ => Ok(()),
    }
}

/// Drops what there is of a file that the server no longer has.
fn changed(part: &Path, validator: &Path) -> std::result::Result<(), Failure> {
    remove(part)?;
    remove(validator)?;
    Err(Failure::Passing("the server's file has changed".to_owned()))
}

/// The first byte, and the length of the whole file where the server gives it, of `bytes FIRST-LAST/LENGTH`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, length.parse().ok()))
}

/// How the file at `path` differs from the length and checksum given, if it does.
fn difference(options: &FetchOptions, path: &Path) -> Result<Option<String>> {
    let found = size(path);
    if let Some(length) = options.length.filter(|length| *length != found) {
        return Ok(Some(format!("length {found}, not {length}")));
    }
    if let Some(expected) = &options.sha256 {
        let found = sha256(path)?;
        if !found.eq_ignore_ascii_case(expected) {
            return Ok(Some(format!("SHA-256 {found}, not {expected}")));
        }
    }
    Ok(None)
}

/// The server sends another file than the one meant.
fn unexpected(options: &FetchOptions, difference: &str) -> Error {
    let reason = format!(
        "what the server sends has {difference}: that is not what was expected; check the address, or the length and \
         checksum given"
    );
    Error::Fetch { url: options.url.clone(), reason }
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn offline(options: &FetchOptions, reason: &str) -> Error {
    Error::Offline { url: options.url.clone(), dest: options.dest.clone(), reason: reason.to_owned() }
}

fn beside(dest: &Path, extension: &str) -> PathBuf {
    let mut name = dest.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
