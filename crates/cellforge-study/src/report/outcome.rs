//! What was found, and what must be known before believing it.

use maud::{Markup, html};

use super::first::TOLD;
use crate::results::{Recognition, Results};
use cellforge_assess::report::{
    do_not_share,
    format::{count, percent, percent_range, table, with_interval},
};

/// Warnings that come before any figure.
pub(super) fn banners(results: &Results) -> Markup {
    html! {
        @if let Some(found) = &results.evaluation { (do_not_share(found)) }
        @if results.data.is_phantom {
            aside.banner.notice {
                strong { "Phantom data, not patients." }
                " The cells of this run were drawn by a program as a stand-in. No figure or picture here says anything about real blood
                cells, about malaria, or about the published study's findings; this run shows only that the pipeline works."
            }
        }
    }
}

/// Which settings this run has in place of the study's.
pub(super) fn narrowed(results: &Results) -> Markup {
    let settings = &results.settings;
    let named = |name: &str| settings.narrowed.iter().find(|change| change.setting == name);
    let many = &results.data.words.many;
    let (train_limit, per_class) = (format!("training {many} per class"), format!("synthetic {many} per class"));
    // The settings that change most what the figures mean, in words; the rest is in its own section.
    let words = [
        ("data.side", "image side"),
        ("gan.recipe", "GAN recipe"),
        ("gan.model.width", "GAN width"),
        ("gan.iterations", "GAN iterations"),
        ("classifier.model.width", "ResNet width"),
        ("classifier.epochs", "ResNet epochs"),
        ("cnn.width", "CNN width"),
        ("data.train_limit", train_limit.as_str()),
        ("generate.per_class", per_class.as_str()),
    ];
    // A limit of 0 means none, and a number of synthetic images of 0 that of the real ones.
    let show = |name: &str, value: &serde_json::Value| match value.as_f64() {
        Some(0.0) if name.ends_with("_limit") => "all".to_owned(),
        Some(0.0) if name == "generate.per_class" => "as many as real ones".to_owned(),
        _ => super::data::setting_value(value),
    };
    html! {
        @if !settings.narrowed.is_empty() {
            aside.banner.narrowed {
                strong { "Not " @if results.published.is_some() { "the study's settings." } @else { "the settings of the preset paper." } }
                " This run used the " (settings.preset) " preset, and " (settings.narrowed.len())
                @if settings.narrowed.len() == 1 { " setting differs" } @else { " settings differ" }
                @if results.published.is_some() { " from the study's" } @else { " from those of that preset" }
                @let changed: Vec<_> = words.iter().filter_map(|(name, words)| Some((*name, *words, named(name)?))).collect();
                @if !changed.is_empty() {
                    ": "
                    @for (i, (name, words, change)) in changed.iter().enumerate() {
                        @if i > 0 { ", " }
                        (words) " " b { (show(name, &change.here)) } " instead of " (show(name, &change.paper))
                    }
                }
                ". " a href="#differences" { "All differences" } "."
            }
        }
    }
}

/// As many classes have their lines drawn.
const DRAWN: usize = 8;

/// The classes that are recognised least and most, of more than are told one by one.
pub(super) fn ends(results: &Results) -> Option<[(&String, &Recognition); 2]> {
    if results.recognition.len() <= TOLD {
        return None;
    }
    let by_rate = |a: &(&String, &Recognition), b: &(&String, &Recognition)| a.1.rate.total_cmp(&b.1.rate);
    // The first of equal ones, in order of name.
    let least = results.recognition.iter().min_by(by_rate)?;
    let most = results.recognition.iter().rev().max_by(by_rate)?;
    Some([least, most])
}

/// The outcome as large figures.
pub(super) fn cards(results: &Results) -> Markup {
    let (many, is_phantom) = (&results.data.words.many, results.data.is_phantom);
    let kind = if is_phantom { format!("held-out phantom {many}") } else { format!("real held-out {many}") };
    let test = &results.resnet.test;
    let interval = test.accuracy_interval;
    html! {
        div.cards {
            @if let Some(ends) = ends(results) {
                @for ((class, r), which) in ends.into_iter().zip(["fewest", "most"]) {
                    div.card {
                        p.card-title { "Recognised, " (which) ": synthetic " (class) }
                        p.big { (percent(r.rate)) }
                        p.note { (percent_range(r.low, r.high)) }
                    }
                }
            } @else { @for (class, r) in &results.recognition {
                div.card {
                    p.card-title { "Synthetic " (class) " recognised" }
                    p.big { (percent(r.rate)) }
                    p.note { (percent_range(r.low, r.high)) @if let Some(s) = results.published_recognition(class) { " · study " (percent(s.rate)) } }
                }
            } }
            div.card {
                p.card-title { "ResNet accuracy on " (kind) }
                p.big { (percent(test.accuracy)) }
                p.note {
                    (percent_range(interval.low, interval.high))
                    @if let Some(study) = results.published_resnet() { " · study " (percent(study)) }
                }
            }
        }
    }
}

/// The recognition of synthetic images beside that of real ones, and, for the study's own data, beside its table of 1,000 per class.
pub(super) fn recognition(results: &Results) -> Markup {
    let (many, of_study) = (&results.data.words.many, results.published.is_some());
    let held_out = format!("{} {many} held out", if results.data.is_phantom { "Phantom" } else { "Real" });
    let of = |r: &Recognition| html! { (count(r.recognised)) " of " (count(r.total)) };
    let cell = |r: Option<&Recognition>| match r {
        Some(r) => html! { td { (of(r)) br; (rate(r)) } },
        None => html! { td.muted { "not in the study" } },
    };
    let body = html! {
        thead { tr {
            th scope="col" { "Class" }
            th scope="col" { "Synthetic, this run" }
            @if of_study { th scope="col" { "Synthetic, the study" } }
            th scope="col" { (held_out) ", this run" }
        } }
        tbody {
            @for (class, r) in &results.recognition {
                tr {
                    th scope="row" { (class) }
                    (cell(Some(r)))
                    @if of_study { (cell(results.published_recognition(class))) }
                    (cell(results.recognition_real.get(class)))
                }
            }
        }
    };
    html! {
        p { "Recognised means that the ResNet gives its highest probability to the class that the image was made for. Intervals of synthetic "
            (many) " are Wilson's, " (level(results)) @if of_study { "; those of the study are computed from its counts, 95%" } ". Those of held-out "
            (many) " cover the differences between patients, where the patients are known." }
        (table("Images taken for their own class by the ResNet", body))
        // The table says the same: of many classes the lines would fill pages.
        @for (class, r) in results.recognition.iter().filter(|_| results.recognition.len() <= DRAWN) {
            div.dots {
                h3 { (class) }
                (dot_row("Synthetic, this run", r, "ours"))
                @if let Some(study) = results.published_recognition(class) { (dot_row("Synthetic, the study", study, "study")) }
                @if let Some(real) = results.recognition_real.get(class) { (dot_row(&format!("{held_out}, this run"), real, "real")) }
                div.dot-row aria-hidden="true" { span {} div.scale { span { "0%" } span { "50%" } span { "100%" } } span {} }
            }
        }
    }
}

fn rate(r: &Recognition) -> Markup {
    with_interval(&percent(r.rate), &percent_range(r.low, r.high))
}

/// The coverage of the intervals.
fn level(results: &Results) -> String {
    format!("{}%", 100.0 * results.resnet.test.bootstrap.level)
}

/// A rate as a dot on a line from 0 to 100%, its interval as a bar.
fn dot_row(label: &str, r: &Recognition, style: &str) -> Markup {
    let at = |share: f64| format!("{:.2}%", 100.0 * share.clamp(0.0, 1.0));
    html! {
        div class={ "dot-row " (style) } {
            span.dot-label { (label) }
            div.track role="img" aria-label={ (label) ": " (percent(r.rate)) ", interval " (percent_range(r.low, r.high)) } {
                span.bar style={ "left:" (at(r.low)) ";width:" (at(r.high - r.low)) } {}
                span.dot style={ "left:" (at(r.rate)) } {}
            }
            span.dot-value { (percent(r.rate)) }
        }
    }
}
