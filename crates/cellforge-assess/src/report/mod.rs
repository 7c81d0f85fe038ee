//! The report: one HTML page drawn from the outcome alone, with the pictures it names embedded.
//!
//! The page needs no network, no script and no other file, so that it can be mailed, printed and kept. [`section`] is the same without the page
//! around it, for a report of more than an evaluation; [`mod@format`] has the pieces that such a report is made of. [`classifier`] draws what a classifier
//! does on labelled images.

pub mod classifier;
mod evaluation;
pub mod format;
pub mod training;

use std::{
    io::{Error as IoError, ErrorKind},
    path::{Component, Path},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{Markup, PreEscaped, html};

use crate::{Error, Evaluation, Result};

pub use evaluation::{do_not_share, notices, word};
pub(crate) use evaluation::{found_word, space_name, test_name};

/// The most bytes of a picture on a page.
const MAX_PICTURE: u64 = 256 << 20;
/// What stands in the text for a picture with a real image, and nowhere else.
pub(crate) const BESIDE: &str = " beside the nearest ";
/// How a page says what made it.
const GENERATOR: &str = "cellforge ";

/// Whether a page is a report of this program, of whatever version, with pictures of real images in it.
#[must_use]
pub fn shows_real_images(page: &str) -> bool {
    page.contains(&format!("<meta name=\"generator\" content=\"{GENERATOR}")) && page.contains(BESIDE)
}

/// The style sheet of every page.
const STYLE: &str = include_str!("style.css");

/// The head of a page: it loads nothing from elsewhere. `version` is that of the program whose figures it shows; a browser loads the page anew
/// after `refresh` seconds, where there are some.
#[must_use]
pub fn head(title: &str, version: &str, refresh: Option<u64>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
            meta name="generator" content={ (GENERATOR) (version) };
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// Draws the report of an evaluation. Pictures of pairs are read from `base_dir`.
///
/// # Errors
/// [`Error::Io`] if a picture that the evaluation names is missing, is not a PNG file, or lies outside `base_dir`.
pub fn render(found: &Evaluation, base_dir: &Path) -> Result<String> {
    Ok(evaluation::page(found, base_dir)?.into_string())
}

/// The section on an evaluation, for a report that has others too.
///
/// # Errors
/// As [`render`].
pub fn section(found: &Evaluation, base_dir: &Path) -> Result<Markup> {
    evaluation::section(found, base_dir)
}

/// A PNG file as a page holds it.
pub struct Embedded {
    /// Its bytes.
    pub base64: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Reads a PNG file and the size in its header, so that the page does not jump while it is drawn.
///
/// # Errors
/// [`Error::Io`] if the file is missing, is not a PNG file, or lies outside `base_dir`.
pub fn embed(inside: &str, base_dir: &Path) -> Result<Embedded> {
    let inside = Path::new(inside);
    let path = base_dir.join(inside);
    let refuse = |why| Error::io("read", &path)(IoError::new(ErrorKind::InvalidData, why));
    // A file from elsewhere must not make the report take in files that it does not own.
    if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(refuse("an image must lie inside the folder of the report"));
    }
    let bytes = cellforge_data::read_bounded(&path, MAX_PICTURE).map_err(Error::io("read", &path))?;
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match (number(16), number(20)) {
        (Some(width), Some(height)) if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => {
            Ok(Embedded { base64: STANDARD.encode(&bytes), width, height })
        }
        _ => Err(refuse("this is not a PNG file")),
    }
}
