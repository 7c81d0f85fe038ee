//! The report: one HTML page drawn from the results alone, with the grids they name embedded.
//!
//! The page needs no network, no script and no other file, so that it can be mailed, printed and kept.

mod classifiers;
mod data;
mod gans;
mod outcome;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{Result, results::Results};

/// Draws the report. Images are read from `base_dir`, to which the paths in the results are relative.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if a grid named by the results is missing, is not a PNG file, or lies outside `base_dir`.
pub fn render(results: &Results, base_dir: &Path) -> Result<String> {
    let grids = gans::grids(results, base_dir)?;
    let worth = match &results.evaluation {
        Some(found) => cellforge_assess::report::section(found, base_dir)?,
        None => html! {},
    };
    Ok(page(results, &grids, &worth).into_string())
}

/// The sections in the order in which they are read: heading, anchor and content.
fn page(results: &Results, grids: &Markup, worth: &Markup) -> Markup {
    let title = "Synthetic blood cells, judged";
    let sections: Vec<(&str, &str, Markup)> = vec![
        ("What the synthetic cells are worth", "worth", worth.clone()),
        ("The study's test: synthetic cells on a trained classifier", "recognition", outcome::recognition(results)),
        ("What the generators learned to draw", "grids", grids.clone()),
        ("The classifiers", "classifiers", classifiers::tables(results)),
        ("The ResNet on real test cells", "resnet", classifiers::resnet(results)),
        ("Confusion matrices", "confusion", classifiers::confusions(results)),
        ("Training curves", "curves", html! { (gans::losses(results)) (classifiers::curves(results)) }),
        ("The data", "data", data::used(results)),
        ("How this run differs from the study", "differences", data::differences(results)),
        ("How to repeat this", "repeat", data::repeat(results)),
        ("Limits", "limits", data::limits(results)),
        ("Licence and citation", "licence", data::licence(results)),
    ];
    // A phantom has cells of no one: the words change with it.
    let sections = sections.into_iter().filter(|(_, _, body)| !body.0.is_empty()).map(|(heading, id, body)| {
        let heading =
            if results.data.is_phantom { heading.replace("real test cells", "test cells") } else { heading.to_owned() };
        (heading, id, body)
    });
    let sections: Vec<_> = sections.collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "cellforge " (results.versions.cellforge) };
                title { (title) " (" (results.settings.preset) ", seed " (results.settings.seed) ")" }
                style { (PreEscaped(cellforge_assess::report::STYLE)) }
            }
            body {
                header {
                    p.kicker { "Generative adversarial networks for medical imaging: the malaria study, repeated" }
                    h1 { (title) }
                    p.meta {
                        "Preset " strong { (results.settings.preset) } " · seed " (results.settings.seed)
                        " · cellforge " (results.versions.cellforge)
                    }
                    (outcome::banners(results))
                    (outcome::summary(results))
                    nav aria-label="Contents" {
                        ol { @for (heading, id, _) in &sections { li { a href={ "#" (id) } { (heading) } } } }
                    }
                }
                main {
                    @for (heading, id, body) in &sections {
                        section id=(id) { h2 { (heading) } (body) }
                    }
                }
                footer {
                    p { "Drawn from " code { "results.json" } " (schema " (results.schema_version) ") by cellforge " (results.versions.cellforge)
                        ". Research use only; not a diagnostic device." }
                }
            }
        }
    }
}
