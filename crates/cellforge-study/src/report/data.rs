//! The data, the settings, how to repeat the run, and what it cannot say.

use maud::{Markup, html};
use serde_json::Value;

use crate::results::Results;
use cellforge_assess::report::format::{count, duration, table};

/// What cells were used and how they were split.
pub(super) fn used(results: &Results) -> Markup {
    let data = &results.data;
    let grouped = data.groups.is_some();
    let part_name = |name: &str| match name {
        "train" => "Training".to_owned(),
        "val" => "Validation".to_owned(),
        "test" => "Test".to_owned(),
        other => other.to_owned(),
    };
    let of = |cells: &std::collections::BTreeMap<String, usize>, class: &String| {
        count(cells.get(class).copied().unwrap_or(0) as u64)
    };
    let body = html! {
        thead { tr { th scope="col" { "Part" } @for class in &data.classes { th scope="col" { (class) } } @if grouped { th scope="col" { "Patients" } } } }
        tbody {
            @for part in &data.parts {
                tr {
                    th scope="row" { (part_name(&part.name)) }
                    @for class in &data.classes { td { (of(&part.cells_per_class, class)) } }
                    @if grouped { td { (part.groups.map_or_else(String::new, |n| count(n as u64))) } }
                }
            }
            tr.average {
                th scope="row" { "All cells" }
                @for class in &data.classes { td { (of(&data.cells_per_class, class)) } }
                @if let Some(groups) = data.groups { td { (count(groups as u64)) } }
            }
        }
    };
    html! {
        p { "Source: " (data.source) ". Images of " (data.side) " × " (data.side) " pixels, "
            @if data.channels == 1 { "grey" } @else { "colour" } "." }
        p {
            @if data.split_by == "group" {
                "The parts were split by patient: no patient has cells in two parts, so the test is on patients the networks never saw."
            } @else if grouped {
                "The parts were split by cell: cells of one patient lie in several parts, so the test does not show how the networks do on
                new patients."
            } @else {
                "The parts were split by cell; the patients are not known."
            }
        }
        (table("Cells by class and part", body))
        (confound(results))
        @if !data.skipped.is_empty() {
            details {
                summary {
                    (count(data.skipped.len() as u64))
                    @if data.skipped.len() == 1 { " image was" } @else { " images were" }
                    " left out as unreadable"
                }
                ul { @for image in data.skipped.iter().take(100) { li { code { (image.name) } ": " (image.reason) } } }
                @if data.skipped.len() > 100 { p.note { "The first 100 are shown; " code { "results.json" } " lists all." } }
            }
        }
        p.note { "Fingerprint of the decoded cells, their labels, names and groups (SHA-256): " code.wrap { (data.fingerprint) } }
    }
}

/// Patients with cells of one class only make the class guessable from the patient.
fn confound(results: &Results) -> Markup {
    let single: Vec<_> = results.data.single_class_groups.iter().filter(|(_, single)| single.groups > 0).collect();
    html! {
        @if !single.is_empty() {
            p.callout {
                strong { "A confound to keep in mind. " }
                @for (class, single) in single {
                    (count(single.groups as u64)) @if single.groups == 1 { " patient has" } @else { " patients have" }
                    " cells of class " (class) " only (" (count(single.cells as u64)) " cells). "
                }
                "A classifier can gain by recognising such a patient's stain and slide instead of the parasite. "
                @if results.data.is_nih { "In the NIH set these are the patients without malaria." }
            }
        }
    }
}

/// Every setting that is not the study's.
pub(super) fn differences(results: &Results) -> Markup {
    let narrowed = &results.settings.narrowed;
    if narrowed.is_empty() {
        return html! { p { "All settings are the study's own." } };
    }
    let body = html! {
        thead { tr { th scope="col" { "Setting" } th.text scope="col" { "This run" } th.text scope="col" { "The study" } th.text scope="col" { "Why" } } }
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
    table("Settings that differ from the study's", body)
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
    let order = ["data", "cnn", "resnet", "gan", "generate", "judge", "evaluate", "report"];
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
        pre { code { (settings.command) } }
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
    html! {
        ul {
            li { strong { "Research use only. This is not a diagnostic device" } ", and no figure here supports a decision about a patient." }
            @if results.data.is_phantom {
                li { "The cells are a phantom, drawn by a program. Nothing here carries over to real cells." }
            }
            li { "That a classifier recognises a synthetic cell does not make the cell realistic, nor the cells varied: a generator that draws one
                convincing cell again and again would score 100%." }
            li { "The judge is a single network from a single training. Another seed gives another judge; the intervals do not cover that." }
            @if results.evaluation.as_ref().is_some_and(|found| found.privacy.is_some()) {
                li { "That no test finds a leak would not prove that there is none: it shows what these attacks find with these cells." }
            } @else {
                li { "Nothing here shows that the synthetic cells keep the privacy of those whose cells the generators saw." }
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
            p { "NIH/NLM malaria cell images, treated as U.S. government public-domain data; courtesy of the U.S. National Library of Medicine.
                Please cite:" }
            blockquote {
                "Rajaraman S, Antani SK, Poostchi M, Silamut K, Hossain MA, Maude RJ, Jaeger S, Thoma GR. Pre-trained convolutional neural networks
                as feature extractors toward improved malaria parasite detection in thin blood smear images. "
                cite { "PeerJ" } " 6:e4568, 2018."
            }
        }
    }
}
