//! Downloads a data set: with progress, resumed where it broke off, checked, and put in place only when whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::cells::hex;
use crate::{Error, Result};

/// Where NLM distributes the malaria cells, about 337 MB.
pub const NLM_URL: &str = "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip";

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
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl FetchOptions {
    /// NLM's zip into the file `dest`.
    #[must_use]
    pub fn nlm(dest: PathBuf) -> Self {
        Self {
            url: NLM_URL.to_owned(),
            dest,
            sha256: None,
            length: None,
            attempts: 4,
            timeout: Duration::from_secs(30),
            pause: Duration::from_secs(2),
            progress: true,
        }
    }
}

impl Default for FetchOptions {
    /// NLM's zip into `cell_images.zip` in the current folder.
    fn default() -> Self {
        Self::nlm(PathBuf::from("cell_images.zip"))
    }
}

/// Downloads `options.url` to `options.dest` and returns that path. A file that is already there is kept if it agrees
/// with the length and checksum given (or none is given).
///
/// A download that broke off is resumed with a range request, in the same call or a later one, and only if the server
/// still has the same file (its `ETag` or `Last-Modified`).
///
/// # Errors
/// [`Error::Fetch`] if the server cannot be reached, refuses, or sends something else than was expected; the partial
/// file stays unless its content is wrong. [`Error::Io`] if a file cannot be written.
pub fn fetch(options: &FetchOptions) -> Result<PathBuf> {
    if options.dest.is_file() {
        check(options, &options.dest)?;
        return Ok(options.dest.clone());
    }
    if let Some(folder) = options.dest.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
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
    let bar = bar(options);
    let (mut attempt, mut pause) = (1, options.pause);
    loop {
        let before = size(&part);
        match transfer(options, &agent, &part, &validator, &bar) {
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
    bar.finish_and_clear();
    if let Err(error) = check(options, &part) {
        // Wrong content would be wrong again after a resume.
        remove(&part)?;
        remove(&validator)?;
        return Err(error);
    }
    fs::rename(&part, &options.dest).map_err(Error::io(&options.dest))?;
    remove(&validator)?;
    Ok(options.dest.clone())
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
    bar: &ProgressBar,
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
                reason: format!("{e}: give an address such as {NLM_URL}"),
            })
        }
        e => Failure::Passing(e.to_string()),
    })?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match response.status().as_u16() {
        206 => {
            let from = header("content-range")
                .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
            if from != Some(have) {
                remove(part)?;
                return Err(Failure::Passing("the server resumed at another place than asked".to_owned()));
            }
        }
        200 => have = 0,
        // There is nothing after the bytes we have: they are the whole file, or of another one.
        416 => {
            let total = header("content-range").and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
            if total == Some(have) {
                return Ok(());
            }
            remove(part)?;
            remove(validator)?;
            return Err(Failure::Passing("the server's file has changed".to_owned()));
        }
        status @ (408 | 429 | 500..=599) => return Err(Failure::Passing(format!("the server answered {status}"))),
        status => {
            let reason = format!("the server answered {status}: check the address");
            return Err(Failure::Final(Error::Fetch { url: options.url.clone(), reason }));
        }
    }
    let rest = header("content-length").and_then(|length| length.parse::<u64>().ok());
    let total = rest.map(|rest| have + rest);
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
    if let Some(total) = total.or(options.length) {
        bar.set_length(total);
    }
    bar.set_position(have);
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 16];
    let outcome = loop {
        match body.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                file.write_all(&buffer[..n]).map_err(Error::io(part))?;
                have += n as u64;
                bar.set_position(have);
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

/// Holds `path` against the length and checksum given.
fn check(options: &FetchOptions, path: &Path) -> Result<()> {
    let wrong = |what: &str, expected: &str, found: &str| Error::Fetch {
        url: options.url.clone(),
        reason: format!("{} has {what} {found}, not {expected}: remove it and fetch again", path.display()),
    };
    if let Some(length) = options.length.filter(|length| *length != size(path)) {
        return Err(wrong("length", &length.to_string(), &size(path).to_string()));
    }
    if let Some(expected) = &options.sha256 {
        let found = sha256(path)?;
        if !found.eq_ignore_ascii_case(expected) {
            return Err(wrong("SHA-256", expected, &found));
        }
    }
    Ok(())
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
    let reason = format!(
        "{reason}. Is this machine online? Otherwise download the file elsewhere, copy it to {} and pass that with --data; \
         what has arrived so far is kept beside it and a later fetch goes on from there",
        options.dest.display()
    );
    Error::Fetch { url: options.url.clone(), reason }
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

fn bar(options: &FetchOptions) -> ProgressBar {
    if !options.progress {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
