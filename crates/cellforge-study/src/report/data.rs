//! The data, the settings, how to repeat the run, and what it cannot say.

use maud::{Markup, html};
use serde_json::Value;

use crate::{origin, results::Results};
use cellforge_assess::report::format::{count, duration, table};

/// What images were used and how they were split.
pub(super) fn used(results: &Results) -> Markup {
    let data = &results.data;
    let (one, many) = (&data.words.one, &data.words.many);
    let grouped = data.groups.is_some();
    let part_name = |name: &str| match name {
        "train" => "Training".to_owned(),
        "val" => "Validation".to_owned(),
        "test" => "Test".to_owned(),
        other => other.to_owned(),
    };
    let of = |images: &std::collections::BTreeMap<String, usize>, class: &String| {
        count(images.get(class).copied().unwrap_or(0) as u64)
    };
    let body = html! {
        thead { tr { th scope="col" { "Part" } @for class in &data.classes { th scope="col" { (class) } } @if grouped { th scope="col" { "Patients" } } } }
        tbody {
            @for part in &data.parts {
                tr {
                    th scope="row" { (part_name(&part.name)) }
                    @for class in &data.classes { td { (of(&part.images_per_class, class)) } }
                    @if grouped { td { (part.groups.map_or_else(String::new, |n| count(n as u64))) } }
                }
            }
            tr.average {
                th scope="row" { "All " (many) }
                @for class in &data.classes { td { (of(&data.images_per_class, class)) } }
                @if let Some(groups) = data.groups { td { (count(groups as u64)) } }
            }
        }
    };
    html! {
        p { "Source: " (data.source) ". " (data.words.many_at_start()) " of " (data.side.width) " × " (data.side.height) " pixels, "
            @if data.channels == 1 { "grey" } @else { "colour" } "." }
        p {
            @if data.split_by == "group" {
                "The parts were split by patient: no patient has " (many) " in two parts, so the test is on patients the networks never saw."
            } @else if grouped {
                "The parts were split by " (one) ": " (many) " of one patient lie in several parts, so the test does not show how the networks do on
                new patients."
            } @else {
                "The parts were split by " (one) "; the patients are not known."
            }
        }
        (table(&format!("{} by class and part", data.words.many_at_start()), body))
        (confound(results))
        @if let Some(intensities) = &data.intensities { p { "Intensities, from black to white: " (intensities) "." } }
        @if !data.not_read.is_empty() { p { "Left out beside the " (many) ": " (data.not_read.join("; ")) "." } }
        @if !data.skipped.is_empty() {
            // Their names may be patients'.
            p {
                (count(data.skipped.len() as u64))
                @if data.skipped.len() == 1 { " image was" } @else { " images were" }
                " left out as unreadable; " code { "results.json" } " names them and says why."
            }
        }
        p.note { "Fingerprint of the decoded " (many) ", their labels, names and groups (SHA-256): " code.wrap { (data.fingerprint) } }
    }
}

/// Patients with images of one class only make the class guessable from the patient.
fn confound(results: &Results) -> Markup {
    let many = &results.data.words.many;
    let single: Vec<_> = results.data.single_class_groups.iter().filter(|(_, single)| single.groups > 0).collect();
    html! {
        @if !single.is_empty() {
            p.callout {
                strong { "A confound to keep in mind. " }
                @for (class, single) in single {
                    (count(single.groups as u64)) @if single.groups == 1 { " patient has" } @else { " patients have" }
                    " " (many) " of class " (class) " only (" (count(single.images as u64)) " " (many) "). "
                }
                @if results.published.is_some() {
                    "A classifier can gain by recognising such a patient's stain and slide instead of the parasite. "
                } @else {
                    "A classifier can gain by recognising such a patient instead of the class. "
                }
                @if results.data.is_nih { "In the NIH set these are the patients without malaria." }
            }
        }
    }
}

/// Every setting that is not the study's.
pub(super) fn differences(results: &Results) -> Markup {
    let (narrowed, of_study) = (&results.settings.narrowed, results.published.is_some());
    if narrowed.is_empty() {
        let whose = if of_study { "the study's own" } else { "those of the preset paper" };
        return html! { p { "All settings are " (whose) "." } };
    }
    let body = html! {
        thead { tr { th scope="col" { "Setting" } th.text scope="col" { "This run" } th.text scope="col" { @if of_study { "The study" } @else { "The preset paper" } } th.text scope="col" { "Why" } } }
        tbody {
            @for change in narrowed {
                tr {
                    th scope="row" { code { (change.setting) } }
                    td.text { (setting_value(&change.here)) }
                    td.text { (setting_value(&change.paper)) }
                    td.text { (change.why.as_deref().unwrap_or("")) }
                }
            }
        }
    };
    table(
        if of_study { "Settings that differ from the study's" } else { "Settings that differ from the preset paper" },
        body,
    )
}

/// A setting for people: lists without brackets, tables as `name value`.
pub(super) fn setting_value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let separator = if items.iter().any(Value::is_object) { "; " } else { ", " };
            items.iter().map(setting_value).collect::<Vec<_>>().join(separator)
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", setting_value(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => match number.as_u64() {
            Some(whole) => count(whole),
            None => number.to_string(),
        },
        Value::Bool(flag) => flag.to_string(),
    }
}

/// The command, the versions and the time it took.
pub(super) fn repeat(results: &Results) -> Markup {
    let (settings, versions) = (&results.settings, &results.versions);
    let order = ["data", "cnn", "resnet", "gan", "generate", "judge", "evaluate", "beside", "report"];
    let place =
        |stage: &str| order.iter().position(|known| stage.split('/').next() == Some(known)).unwrap_or(order.len());
    let mut stages: Vec<(&String, f64)> = results.durations.iter().map(|(stage, seconds)| (stage, *seconds)).collect();
    stages.sort_by_key(|(stage, _)| (place(stage), *stage));
    let total: f64 = results.durations.values().sum();
    let body = html! {
        thead { tr { th scope="col" { "Stage" } th scope="col" { "Time" } } }
        tbody {
            @for (stage, seconds) in stages { tr { th scope="row" { (stage) } td { (duration(seconds)) } } }
            tr.average { th scope="row" { "All stages" } td { (duration(total)) } }
        }
    };
    html! {
        @if !settings.command.is_empty() { pre { code { (settings.command) } } }
        p {
            "With cellforge " (versions.cellforge) " and Candle " (versions.candle) " on " (versions.os) " (" (versions.arch) "), device "
            (versions.device) ", seed " (settings.seed) ". On one machine the same seed gives the same weights, byte for byte, whatever the
            number of threads. The effective settings are saved as " code { "config.toml" } " beside this report."
        }
        (table("Time per stage", body))
    }
}

/// What the figures cannot say.
pub(super) fn limits(results: &Results) -> Markup {
    let (one, many) = (&results.data.words.one, &results.data.words.many);
    html! {
        ul {
            li { strong { "Research use only. This is not a diagnostic device" } ", and no figure here supports a decision about a patient." }
            @if results.data.is_phantom {
                li { "The " (many) " are a phantom, drawn by a program. Nothing here carries over to real " (many) "." }
            }
            li { "That a classifier recognises a synthetic " (one) " does not make it realistic, nor the " (many) " varied: a generator that draws one
                convincing " (one) " again and again would score 100%." }
            li { "The judge is a single network from a single training. Another seed gives another judge; the intervals do not cover that." }
            @if results.evaluation.as_ref().is_some_and(|found| found.privacy.is_some()) {
                li { "That no test finds a leak would not prove that there is none: it shows what these attacks find with these " (many) "." }
            } @else {
                li { "Nothing here shows that the synthetic " (many) " keep the privacy of the patients whose " (many) " the generators saw." }
            }
            @if results.data.split_by != "group" {
                li { "The split is not by patient: accuracy on new patients may be lower." }
            }
        }
    }
}

/// The wording that goes with the NIH cells; nothing for other data.
pub(super) fn licence(results: &Results) -> Markup {
    html! {
        @if results.data.is_nih {
            p { (origin::NIH_LICENCE) " Please cite:" }
            blockquote {
                (origin::NIH_AUTHORS) " " (origin::NIH_TITLE) " "
                cite { "PeerJ" } " 6:e4568, 2018."
            }
        }
    }
}
