//! The first screen: what came out, in a sentence and a picture, and GANs of other recipes beside the study's own.

use std::{collections::BTreeMap, path::Path};

use cellforge_assess::{
    Evaluation,
    report::{
        embed,
        format::{count, duration, estimate, percent, percent_range, table, with_interval},
        word,
    },
};
use cellforge_eval::Fidelity;
use maud::{Markup, html};

use super::{gans::by_gan, outcome::ends};
use crate::{
    Result,
    results::{GanResult, Recognition, Results},
};

/// As many classes are told one by one.
pub(super) const TOLD: usize = 3;

/// The GANs of one recipe, and what was found of their images.
struct Kind<'a> {
    recipe: &'a str,
    gan: &'a BTreeMap<String, GanResult>,
    recognition: &'a BTreeMap<String, Recognition>,
    evaluation: Option<&'a Evaluation>,
}

/// The study's own GANs, then those beside them.
fn kinds(results: &Results) -> Vec<Kind<'_>> {
    let own = Kind {
        recipe: results.recipe(),
        gan: &results.gan,
        recognition: &results.recognition,
        evaluation: results.evaluation.as_ref(),
    };
    let beside = results.beside.iter().map(|other| Kind {
        recipe: &other.recipe,
        gan: &other.gan,
        recognition: &other.recognition,
        evaluation: other.evaluation.as_ref(),
    });
    std::iter::once(own).chain(beside).collect()
}

/// What came out, in a sentence and in the answers to the four questions.
pub(super) fn sentence(results: &Results) -> Markup {
    let (many, real) = (&results.data.words.many, if results.data.is_phantom { "phantom" } else { "real" });
    let beside = |class: &String| match results.recognition_real.get(class) {
        Some(r) => format!(" (held-out {real} ones: {})", percent(r.rate)),
        None => String::new(),
    };
    html! {
        p.lead {
            @if by_gan(&results.gan).len() < results.gan.len() { "One GAN of all classes" } @else { "One GAN per class" }
            " learned from " (real) " " (many) ", and a ResNet judged the synthetic ones. It recognised "
            @if let Some([(worst, low), (best, high)]) = ends(results) {
                "from " b { (percent(low.rate)) } " (" (worst) ") to " b { (percent(high.rate)) } " (" (best) ") of the " (many)
                " of each of " (count(results.recognition.len() as u64)) " classes; " a href="#recognition" { "a table" } " has each class."
            } @else { @for (i, (class, r)) in results.recognition.iter().enumerate() {
                @if i > 0 { ", and " }
                b { (percent(r.rate)) } " of the " (class) " " (many) (beside(class))
            } "." }
        }
        @if let Some(found) = &results.evaluation {
            p.answers {
                @for verdict in &found.verdicts {
                    @let (class, word) = word(verdict.answer, &verdict.about);
                    a href="#worth" { (verdict.question) " " span class={ "answer " (class) } { (word) } }
                }
            }
        }
    }
}

/// The last grid of each GAN, those of one recipe beside those of the others.
pub(super) fn picture(results: &Results, base_dir: &Path) -> Result<Markup> {
    let kinds = kinds(results);
    let named = |recipe: &str| if kinds.len() > 1 { format!("Recipe {recipe}: ") } else { String::new() };
    let reads = if results.data.is_phantom { "phantom " } else { "" };
    let many = &results.data.words.many;
    let mut figures = Vec::new();
    for kind in &kinds {
        for (names, gan) in by_gan(kind.gan) {
            let Some(grid) = gan.grids.last() else { continue };
            figures.push((format!("{}{names}", named(kind.recipe)), embed(&grid.path, base_dir)?));
        }
    }
    Ok(html! {
        @if !figures.is_empty() {
            div.grids.first {
                @for (caption, image) in &figures {
                    figure {
                        img src={ "data:image/png;base64," (image.base64) } width=(image.width) height=(image.height)
                            alt={ "Synthetic " (reads) (many) ". " (caption) };
                        figcaption { (caption) }
                    }
                }
            }
        }
    })
}

/// The recipes side by side; nothing where there is one alone.
pub(super) fn side_by_side(results: &Results) -> Markup {
    let kinds = kinds(results);
    if kinds.len() == 1 {
        return html! {};
    }
    let many = &results.data.words.many;
    let held_out = if results.data.is_phantom { "Held-out phantom" } else { "Held-out real" };
    let classes: Vec<&String> = results.recognition.keys().collect();
    let rate = |r: Option<&Recognition>| match r {
        Some(r) => with_interval(&percent(r.rate), &percent_range(r.low, r.high)),
        None => html! {},
    };
    let judged = |kind: &Kind<'_>, class: &String| -> Option<[Fidelity; 2]> {
        Some(kind.evaluation?.fidelity.as_ref()?.per_class.get(class)?.judged().map(Clone::clone))
    };
    let figures = |found: Option<&Fidelity>| match found {
        Some(found) => html! { td { (estimate(&found.frechet)) } td { (estimate(&found.coverage)) } },
        None => html! { td.muted { "not measured" } td.muted {} },
    };
    let seconds = |kind: &Kind<'_>| duration(results.training_seconds(kind.recipe));
    let iterations = |kind: &Kind<'_>| kind.gan.values().next().map_or(0, |gan| gan.iterations);
    let body = html! {
        thead { tr {
            th scope="col" { (results.data.words.many_at_start()) } th scope="col" { "Class" } th scope="col" { "Training" }
            th scope="col" { "Recognised" } th scope="col" { "Fréchet distance ↓" } th scope="col" { "Coverage" }
        } }
        tbody {
            @for class in &classes {
                @for kind in &kinds {
                    tr {
                        th scope="row" { "Recipe " (kind.recipe) } td { (class) }
                        td { (seconds(kind)) br; small { (count(iterations(kind))) " iterations" } }
                        td { (rate(kind.recognition.get(*class))) }
                        (figures(judged(kind, class).as_ref().map(|[synthetic, _]| synthetic)))
                    }
                }
                tr.average {
                    th scope="row" { (held_out) } td { (class) } td {}
                    td { (rate(results.recognition_real.get(*class))) }
                    (figures(judged(&kinds[0], class).as_ref().map(|[_, real]| real)))
                }
            }
        }
    };
    html! {
        p { "The recipes were trained on the same " (many) " and judged by the same ResNet. The time is that of all GANs of a recipe. The other sections
            are of the recipe " (results.recipe()) "." }
        (table("Recipes side by side", body))
        p.note { "Fréchet distance and coverage are in the features of the ResNet. A held-out row has those of training " (many) " in place of the
            synthetic ones." }
    }
}
