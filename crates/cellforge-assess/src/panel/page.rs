//! The page that raters answer on.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use cellforge_data::ImageSize;
use cellforge_eval::panel::LEVELS;
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use maud::{DOCTYPE, PreEscaped, html};
use serde::Serialize;

use super::{Key, PanelImages, answers::COLUMNS};
use crate::{Error, Result};

/// What the script of the page knows.
#[derive(Serialize)]
struct Shown<'a> {
    panel: &'a str,
    columns: [&'static str; 6],
    width: usize,
    height: usize,
    /// The ids in the order in which they are shown.
    order: Vec<&'a str>,
    /// PNG files in base64, by id.
    images: BTreeMap<&'a str, String>,
}

/// What the answers mean, from 1.
const ANSWERS: [&str; LEVELS as usize] =
    ["surely real", "probably real", "rather real", "rather synthetic", "probably synthetic", "surely synthetic"];

/// Nothing may be fetched or sent.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn render(key: &Key, pictures: &[Vec<u8>], images: &PanelImages<'_>) -> Result<String> {
    let (size, channels) = (images.real.size(), images.real.channels());
    let mut encoded = BTreeMap::new();
    for (image, pixels) in key.images.iter().zip(pictures) {
        encoded.insert(image.id.as_str(), STANDARD.encode(png(pixels, size, channels)?));
    }
    let ImageSize { height, width } = size;
    let shown = Shown { panel: &key.panel, columns: COLUMNS, width, height, order: key.order(), images: encoded };
    let path = || PathBuf::from("panel.html");
    // `<` would end the script.
    let json = serde_json::to_string(&shown).map_err(Error::json(&path()))?.replace('<', "\\u003c");
    let (one, many) = (&images.words.one, &images.words.many);
    let total = shown.order.len();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                title { "Real or synthetic?" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                p #notice {
                    @if images.drawn_by_program {
                        "The real " (many) " of this page were drawn by a program: they show no patient."
                    } @else {
                        strong { "This page contains real images of patients. It may not leave the house." }
                    }
                }
                noscript { p { "This page needs JavaScript." } }
                main {
                    section #start {
                        h1 { "Real or synthetic?" }
                        p { "You will see " (total) " " (many) ", one at a time. As many are real as synthetic, and some come twice. Say of each how sure you are \
                            that it is real or synthetic." }
                        ul {
                            li { kbd { "1" } " to " kbd { (LEVELS) } " answers and goes on. " kbd { "←" } " " kbd { "→" } " choose, " kbd { "Enter" } " confirms." }
                            li { kbd { "Backspace" } " goes back. " kbd { "S" } " changes how the " (one) " is enlarged." }
                            li { "Answers are kept in this browser: you may close the page and go on later with the same initials." }
                            li { "At the end, or before, save your answers and send the file back. Please do not discuss " (many) " with other raters before." }
                        }
                        form #begin {
                            label for="initials" { "Your initials" }
                            input #initials type="text" required maxlength="12" autocomplete="off" spellcheck="false" aria-describedby="initials-help";
                            button type="submit" { "Begin" }
                            p #initials-help { "Letters and digits." }
                        }
                    }
                    section #ask hidden {
                        h1.unseen { "Real or synthetic?" }
                        div.progress {
                            progress #progress max=(total) value="0" aria-label="Answered" {}
                            span #count role="status" {}
                        }
                        div.stage { img #image alt=""; }
                        div.answers role="group" aria-label={ "This " (one) " is" } {
                            @for (level, answer) in (1..).zip(ANSWERS) {
                                button type="button" data-level=(level) aria-pressed="false" { kbd { (level) } " " (answer) }
                            }
                        }
                        div.tools {
                            button #back type="button" { "Back" }
                            button #scaling type="button" { "Show pixels" }
                            button.save type="button" { "Save answers" }
                        }
                    }
                    section #end hidden {
                        h1 tabindex="-1" { "Done. Thank you." }
                        p { "All " (total) " are answered. Save your answers and send the file back." }
                        div.tools {
                            button.save type="button" { "Save answers" }
                            button #again type="button" { "Back to the last" }
                        }
                    }
                    p #unsaved role="alert" hidden { "This browser keeps no answers: save them before you close the page." }
                }
                script #panel type="application/json" { (PreEscaped(json)) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    Ok(page.into_string())
}

/// A PNG file without compression and without anything but pixels: its length depends on the size of the image alone.
fn png(pixels: &[u8], size: ImageSize, channels: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Uncompressed, FilterType::NoFilter)
        .write_image(pixels, size.width as u32, size.height as u32, colour)
        .map_err(|source| cellforge_data::Error::Encode { path: PathBuf::from("panel.html"), source })?;
    Ok(bytes)
}
