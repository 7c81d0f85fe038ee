//! The report: one HTML page drawn from the results alone, with the grids they name embedded.
//!
//! The page needs no network, no script and no other file, so that it can be mailed, printed and kept.

mod classifiers;
mod data;
mod first;
mod gans;
mod outcome;

use std::path::Path;

use maud::{DOCTYPE, Markup, html};

use crate::{Result, results::Results};

/// Draws the report. Images are read from `base_dir`, to which the paths in the results are relative.
///
/// # Errors
/// [`Error::Assess`](crate::Error::Assess) if a grid named by the results is missing, is not a PNG file, or lies outside `base_dir`.
pub fn render(results: &Results, base_dir: &Path) -> Result<String> {
    let grids = gans::grids(results, base_dir)?;
    let worth = match &results.evaluation {
        Some(found) => cellforge_assess::report::section(found, base_dir)?,
        None => html! {},
    };
    let picture = first::picture(results, base_dir)?;
    Ok(page(results, &picture, &grids, &worth).into_string())
}

/// Against what settings are compared: the study, or, for images that have no part in it, the preset with its settings.
fn reference(results: &Results) -> &'static str {
    if results.published.is_some() { "the study" } else { "the preset paper" }
}

/// The sections in the order in which they are read: heading, anchor and content.
fn page(results: &Results, picture: &Markup, grids: &Markup, worth: &Markup) -> Markup {
    let many = &results.data.words.many;
    let of_study = results.published.is_some();
    let title = if of_study { "Synthetic blood cells, judged".to_owned() } else { format!("Synthetic {many}, judged") };
    // A phantom shows images of no one: the words change with it.
    let real = if results.data.is_phantom { "" } else { "real " };
    let test = if of_study { "The study's test: synthetic" } else { "Synthetic" };
    let sections: Vec<(String, &str, Markup)> = vec![
        ("The recipes side by side".to_owned(), "beside", first::side_by_side(results)),
        (format!("What the synthetic {many} are worth"), "worth", worth.clone()),
        (format!("{test} {many} on a trained classifier"), "recognition", outcome::recognition(results)),
        ("What the generators learned to draw".to_owned(), "grids", grids.clone()),
        ("The classifiers".to_owned(), "classifiers", classifiers::tables(results)),
        (format!("The ResNet on {real}test {many}"), "resnet", classifiers::resnet(results)),
        ("Confusion matrices".to_owned(), "confusion", classifiers::confusions(results)),
        ("Training curves".to_owned(), "curves", html! { (gans::losses(results)) (classifiers::curves(results)) }),
        ("The data".to_owned(), "data", data::used(results)),
        (format!("How this run differs from {}", reference(results)), "differences", data::differences(results)),
        ("How to repeat this".to_owned(), "repeat", data::repeat(results)),
        ("Limits".to_owned(), "limits", data::limits(results)),
        ("Licence and citation".to_owned(), "licence", data::licence(results)),
    ];
    let sections: Vec<_> = sections.into_iter().filter(|(_, _, body)| !body.0.is_empty()).collect();
    let tab = format!("{title} ({}, seed {})", results.settings.preset, results.settings.seed);
    html! {
        (DOCTYPE)
        html lang="en" {
            (cellforge_assess::report::head(&tab, &results.versions.cellforge, None))
            body {
                header {
                    p.kicker {
                        "Generative adversarial networks for medical imaging" @if of_study { ": the malaria study, repeated" }
                    }
                    h1 { (title) }
                    p.meta {
                        "Preset " strong { (results.settings.preset) } " · seed " (results.settings.seed)
                        " · cellforge " (results.versions.cellforge)
                    }
                    (outcome::banners(results))
                    (first::sentence(results))
                    (picture)
                    (outcome::cards(results))
                    (outcome::narrowed(results))
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
