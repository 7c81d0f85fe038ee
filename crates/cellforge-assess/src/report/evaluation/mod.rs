//! What the synthetic images are worth: four answers, then the figures they rest on.

mod copies;
mod fidelity;
mod privacy;
mod two_sample;
mod utility;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) use privacy::{found_word, test_name};

use super::{
    BESIDE, embed,
    format::{count, duration, table},
};
use crate::{
    Result, charts,
    evaluation::{Answer, Evaluation, Notice, PairImage, SetInfo, pairs::COPIES},
    files::hash_texts,
    plots::css_colour,
};

/// The section in a report of more than an evaluation.
pub(super) fn section(found: &Evaluation, base_dir: &Path) -> Result<Markup> {
    let pairs = pairs(found, base_dir)?;
    Ok(html! {
        (verdicts(found))
        @for (heading, _, body) in parts(found, &pairs, base_dir)? { h3 { (heading) } (body) }
    })
}

/// The report of an evaluation by itself.
pub(super) fn page(found: &Evaluation, base_dir: &Path) -> Result<Markup> {
    let pairs = pairs(found, base_dir)?;
    let title = format!("Synthetic {}, evaluated", found.words.many);
    let sections = parts(found, &pairs, base_dir)?;
    let more = [
        (format!("The {}", found.words.many), "images", sets(found)),
        ("How to repeat this".to_owned(), "repeat", repeat(found)),
        ("Limits".to_owned(), "limits", limits(found)),
    ];
    let sections: Vec<_> = sections.into_iter().chain(more).collect();
    let version = &found.versions.cellforge;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            (super::head(&title, version, None))
            body {
                header {
                    p.kicker { "Fidelity, use for training, and privacy of synthetic medical images" }
                    h1 { (title) }
                    p.meta { "Seed " (found.settings.seed) " · cellforge " (version) }
                    (notices(&found.provenance.notices))
                    (do_not_share(found))
                    (verdicts(found))
                    nav aria-label="Contents" { ol { @for (heading, id, _) in &sections { li { a href={ "#" (id) } { (heading) } } } } }
                }
                main { @for (heading, id, body) in &sections { section id=(id) { h2 { (heading) } (body) } } }
                footer { p { "Drawn from " code { "evaluation.json" } " (schema " (found.schema_version) ") by cellforge " (version)
                    ". Research use only; not a diagnostic device." } }
            }
        }
    })
}

/// What must be read before any figure.
pub fn notices(notices: &[Notice]) -> Markup {
    html! {
        @for notice in notices {
            aside.banner.notice { strong { (notice.title) } " " (notice.sentence) }
        }
    }
}

/// What stands in the first lines of a page with pictures of real images; nothing where it has none.
pub fn do_not_share(found: &Evaluation) -> Markup {
    let many = &found.words.many;
    if found.pairs.is_empty() || found.provenance.drawn_by_program {
        return html! {};
    }
    html! {
        aside.banner.private {
            strong { "This page holds pictures of real " (many) ": do not share it." }
            " They show whoever is responsible for the real " (many) " how near the synthetic ones come. With the setting "
            code { "evaluate.privacy.pairs = 0" } " a page has none."
        }
    }
}

/// One line per question.
pub(super) fn verdicts(found: &Evaluation) -> Markup {
    let many = &found.words.many;
    html! {
        ul.verdicts {
            @for verdict in &found.verdicts {
                @let (class, word) = word(verdict.answer, &verdict.about);
                li {
                    span class={ "answer " (class) } { (word) }
                    p { strong { (verdict.question) } (verdict.sentence) }
                }
            }
        }
        @if found.sets.shared_patients.is_some_and(|shared| shared > 0) {
            p.callout {
                strong { "The sets share patients. " }
                (count(found.sets.shared_patients.unwrap_or(0) as u64)) " patients have both training " (many) " and held-out " (many)
                ": the tests for leaks and the accuracies on held-out " (many) " are too favourable."
            }
        }
    }
}

/// The answer to a question, as the class of its colour on a page and in words. `about` is that of the verdict.
#[must_use]
pub fn word(answer: Answer, about: &str) -> (&'static str, &'static str) {
    match (answer, about) {
        (Answer::Good, "privacy") => ("good", "no leak found"),
        (Answer::Caution, "privacy") => ("caution", "none found, with care"),
        (Answer::Bad, "privacy") => ("bad", "leak found"),
        (Answer::Good, _) => ("good", "yes"),
        (Answer::Bad, _) => ("bad", "no"),
        (Answer::Caution, _) => ("caution", "in part"),
        (Answer::Unknown, _) => ("unknown", "cannot tell"),
    }
}

/// Heading, anchor and content of each part that was measured.
fn parts(found: &Evaluation, pairs: &Markup, base_dir: &Path) -> Result<Vec<(String, &'static str, Markup)>> {
    let missing = |part: &str| -> Markup {
        let reason = found.not_measured.get(part).map_or("it was not measured", String::as_str);
        html! { p.muted { "Not measured: " (reason) "." } }
    };
    let fidelity = found.fidelity.as_ref().map_or_else(|| missing("fidelity"), |part| fidelity::figures(part, found));
    let two_sample = match &found.two_sample {
        Some(part) => two_sample::figures(part, &found.words, base_dir)?,
        None => missing("two_sample"),
    };
    let utility =
        found.utility.as_ref().map_or_else(|| missing("utility"), |part| utility::figures(part, &found.words));
    let privacy = found.privacy.as_ref().map_or_else(|| missing("privacy"), |part| privacy::figures(part, found));
    Ok(vec![
        ("Copies".to_owned(), "copies", copies::figures(found)),
        ("Do they look real?".to_owned(), "two-sample", two_sample),
        (
            "Realism and coverage".to_owned(),
            "fidelity",
            html! { (fidelity) (fidelity::other_features(found)) (scatter(found)) },
        ),
        ("Use for training".to_owned(), "utility", utility),
        ("Leaks".to_owned(), "privacy", html! { (privacy) (pairs) }),
    ])
}

/// The images in a plane.
fn scatter(found: &Evaluation) -> Markup {
    let cloud = |points: &[(f64, f64, u32)]| points.iter().map(|&(x, y, _)| (x, y)).collect::<Vec<_>>();
    let (scatter, many) = (&found.scatter, &found.words.many);
    let percent = |at: usize| format!("{:.0}%", 100.0 * scatter.explained[at]);
    let titles = [0, 1].map(|at| format!("component {}, {} of the variance", at + 1, percent(at)));
    let clouds = [cloud(&scatter.real), cloud(&scatter.synthetic)];
    html! {
        @if let Some(svg) = charts::clouds(&clouds, [&titles[0], &titles[1]]) {
            figure.plot {
                figcaption { "Real and synthetic " (many) " in a plane" }
                (legend(&["real", "synthetic"]))
                div role="img" aria-label={ "Scatter plot of real and synthetic " (many) " in the plane of the two principal components of the real ones." } { (PreEscaped(svg)) }
                p.note { "Where the colours lie apart, the sets differ. The plane holds only the part of the variance that the axes name. At most 600 "
                    (many) " of each set are shown." }
            }
        }
    }
}

/// A legend in the order of the colours of the plots.
fn legend(names: &[&str]) -> Markup {
    html! {
        ul.legend { @for (i, name) in names.iter().enumerate() { li { span.swatch style={ "background:" (css_colour(i)) } {} (name) } } }
    }
}

/// The closest pairs of every space, embedded.
fn pairs(found: &Evaluation, base_dir: &Path) -> Result<Markup> {
    let embedded: Vec<(&PairImage, _)> =
        found.pairs.iter().map(|pair| Ok((pair, embed(&pair.path, base_dir)?))).collect::<Result<_>>()?;
    let mut spaces: Vec<&str> = embedded.iter().map(|(pair, _)| pair.space.as_str()).collect();
    spaces.dedup();
    let real = if found.provenance.drawn_by_program { "" } else { "real " };
    let one = &found.words.one;
    Ok(html! {
        @if !embedded.is_empty() {
            (do_not_share(found))
            @for space in spaces {
                h4 { @if space == COPIES { "Copies, the most certain first" } @else { "The closest pairs by " (space_name(space)) } }
                @let other = if space != COPIES { "held-out " } else if found.sets.real.patients.is_some() { "other patient " } else { "next " };
                p.note { @if space == COPIES { "Laid on each other as well as a move, a turn, a stretch and a change of colours can. " } "Left: the synthetic " (one) ", turned as it is nearest. Right: the training " (one) " nearest to it. Below: their distance, and
                    the distance of the synthetic " (one) " to the nearest " @if space != COPIES { "held-out " (one) } @else if found.sets.real.patients.is_some() { (one) " of another patient" } @else { "other training " (one) } ". A copy has a first distance near 0 and far below the
                    second." }
                div.pairs {
                    @for (pair, image) in embedded.iter().filter(|(pair, _)| pair.space == space) {
                        figure {
                            img src={ "data:image/png;base64," (image.base64) } width=(image.width) height=(image.height)
                                alt={ "A synthetic " (one) (BESIDE) (real) "training " (one) };
                            figcaption {
                                @if space == COPIES && pair.distance == 0.0 && pair.holdout_distance == 0.0 { "identical" }
                                @else { (crate::evaluation::digits(pair.distance)) " · " (other) (crate::evaluation::digits(pair.holdout_distance)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// What stands for a training image or a patient on a page that may be passed on: a hash with the training images as its key, so that whoever
/// does not have these images cannot find out names by trying them. Figures of an earlier version have no key.
fn pseudonym(found: &Evaluation, what: &str, name: &str) -> String {
    if found.sets.pseudonym_key.is_empty() {
        return "not shown".to_owned();
    }
    hash_texts([&found.sets.pseudonym_key, what, name])[..8].to_owned()
}

/// What a synthetic image is called on such a page: its name, where that is of no real image or patient.
fn synthetic_name(found: &Evaluation, name: &str) -> String {
    if found.sets.own_names { name.to_owned() } else { pseudonym(found, "synthetic", name) }
}

/// A space in words.
pub(crate) fn space_name(name: &str) -> String {
    if name == "pixels" { "pixels".to_owned() } else { format!("features ({name})") }
}

/// Effective patients of all images, and of each class.
fn effective(set: &SetInfo, found: &Evaluation) -> String {
    let (Some(all), Some(per_class)) = (set.effective_patients, &set.effective_patients_per_class) else {
        return "not known".to_owned();
    };
    let of_class = |class: &String| Some(format!("{:.1} {class}", per_class.get(class)?));
    format!("{all:.1} ({})", found.classes.iter().filter_map(of_class).collect::<Vec<_>>().join(", "))
}

fn sets(found: &Evaluation) -> Markup {
    let sets = &found.sets;
    let row = |title: &str, set: &SetInfo| {
        html! {
            tr {
                th scope="row" { (title) }
                td.text { (set.source) }
                @for class in &found.classes { td { (count(set.images_per_class.get(class).copied().unwrap_or(0) as u64)) } }
                td { (set.patients.map_or("not known".to_owned(), |n| count(n as u64))) }
                td { (effective(set, found)) }
            }
        }
    };
    let body = html! {
        thead { tr { th scope="col" { "Set" } th.text scope="col" { "Source" } @for class in &found.classes { th scope="col" { (class) } } th scope="col" { "Patients" } th scope="col" { "Effective patients" } } }
        tbody {
            (row("Real (training)", &sets.real))
            @if let Some(holdout) = &sets.holdout { (row("Held out", holdout)) }
            (row("Synthetic", &sets.synthetic))
        }
    };
    html! {
        (table(&format!("The {} that were compared", found.words.many), body))
        @if let Some(left_out) = found.left_out() { p { "Not compared: " (left_out) "." } }
        @for sentence in found.reading() { p { (sentence) } }
        p { (found.words.many_at_start()) " of " (sets.side.width) " × " (sets.side.height) " pixels, " @if sets.channels == 1 { "grey" } @else { "colour" } ". Compared by "
            (found.features.source) " (" (found.features.name) ", " (count(found.features.dims as u64)) " numbers per " (found.words.one) ")." }
    }
}

fn repeat(found: &Evaluation) -> Markup {
    let body = html! {
        thead { tr { th scope="col" { "Part" } th scope="col" { "Time" } } }
        tbody { @for (part, seconds) in &found.seconds { tr { th scope="row" { (part) } td { (duration(*seconds)) } } } }
    };
    html! {
        @if !found.provenance.command.is_empty() { pre { code { (found.provenance.command) } } }
        p { "With cellforge " (found.versions.cellforge) " and Candle " (found.versions.candle) " on " (found.versions.os) " ("
            (found.versions.arch) "), device " (found.versions.device) ", seed " (found.settings.seed) "." }
        (table("Time per part", body))
    }
}

fn limits(found: &Evaluation) -> Markup {
    let many = &found.words.many;
    html! {
        ul {
            li { strong { "Research use only. This is not a diagnostic device" } ", and no figure here supports a decision about a patient." }
            @if found.provenance.drawn_by_program {
                li { "The real " (many) " were drawn by a program. Nothing here carries over to " (many) " of patients." }
            }
            li { "That no test finds a leak does not prove that there is none: it shows that these attacks, with these " (many) ", find nothing." }
            li { "Figures depend on the features by which " (many) " are compared. Features of a classifier hold what separates its classes, and little else." }
        }
    }
}
