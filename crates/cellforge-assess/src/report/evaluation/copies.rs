//! Copies: identical images, near copies, and which leaks would have been found.

use maud::{Markup, html};

use super::{
    super::format::{count, table},
    pseudonym, space_name, synthetic_name,
};
use crate::{
    copies::{NearSearch, Shared},
    evaluation::{Evaluation, digits},
};

/// Copies that are listed.
const LISTED: usize = 50;

pub(super) fn figures(found: &Evaluation) -> Markup {
    let (copies, words) = (&found.copies, &found.words);
    let (one, many) = (&words.one, &words.many);
    let images = found.sets.synthetic.images;
    let same = &copies.identical;
    let row = |title: String, shared: &Shared| {
        html! { tr { th scope="row" { (title) } td { (count(shared.images as u64)) } td { (count(shared.unturned as u64)) } } }
    };
    let body = html! {
        thead { tr { th scope="col" { "Identical pixel by pixel" } th scope="col" { "In any orientation" } th scope="col" { "As they are" } } }
        tbody {
            (row(format!("Synthetic {many} that are training {many}"), &same.of_training))
            (row(format!("Synthetic {many} that are there twice"), &same.among_synthetic))
            (row(format!("Training {many} that are there twice"), &same.among_training))
            @if found.sets.holdout.is_some() { (row(format!("Held-out {many} that are training {many}"), &same.holdout_of_training)) }
        }
    };
    html! {
        @match copies.in_words(words, images) {
            Some(sentence) => p.callout { strong { "Leak. " } (sentence) },
            None => p { "No synthetic " (one) " is a copy of a training " (one) @if copies.near.is_none() { ", pixel by pixel" } "." },
        }
        (table("Identical images", body))
        @if let Some(reason) = &copies.not_searched { p.muted { "Near copies were not looked for: " (reason) "." } }
        @if let Some(near) = &copies.near { (search(near, one, many)) }
        @if !copies.found.is_empty() { (list(found)) }
    }
}

fn search(near: &NearSearch, one: &str, many: &str) -> Markup {
    let alarms = &near.false_alarms;
    let units = if near.by_patient { "patients" } else { many };
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let Some(first) = near.power.first() else { return html! {} };
    let body = html! {
        thead { tr {
            th scope="col" { "Copies made on purpose" }
            th scope="col" { "Found one by one" }
            @for chance in &first.chances { th scope="col" { (count(chance.images as u64)) " of " @if chance.patients == 1 { "one patient" } @else { (chance.patients) " patients" } } }
        } }
        tbody {
            @for power in &near.power {
                tr {
                    th scope="row" { (power.kind) }
                    td { (percent(power.found.rate)) " (" (percent(power.found.low)) " to " (percent(power.found.high)) ")" }
                    @for chance in &power.chances { td { (percent(chance.probability)) } }
                }
            }
        }
    };
    let limits = html! {
        thead { tr { th scope="col" { "By" } th scope="col" { "Copies have a ratio below" } th scope="col" { "Median of the synthetic " (many) } th scope="col" { "Median of real " (many) } } }
        tbody {
            @for space in &near.spaces {
                tr { th scope="row" { (space_name(&space.name)) } td { (digits(space.threshold)) } td { (digits(space.median[0])) } td { (digits(space.median[1])) } }
            }
        }
    };
    html! {
        p { "Every synthetic " (one) " was laid on the training " (many) " that it may be a copy of. Its ratio is what is left of the difference, over what is left
            to the nearest " (one) " of any other patient. " @if near.spaces.len() > 1 { "By features, distances stand in place of what is left. " }
            "Below a limit it is a copy. The limit comes from " (count(near.calibration_images as u64))
            " real " (many) ", each against those of other patients: any of the synthetic ones is taken for a copy by mistake with a chance of " (digits(100.0 * near.alpha)) "%." }
        (table("How near copies would have to come", limits))
        @if let Some(reason) = &near.pixels_alone { p.muted { "Copies were looked for by pixels alone: " (reason) "." } }
        p { "Judged by the others, " (count(alarms.accused as u64)) " of " (count(alarms.units as u64)) " " (units) " who cannot have been copied would have been accused ("
            (percent(alarms.interval.low)) " to " (percent(alarms.interval.high)) ")." }
        (table("The chance that a leak is found, by its kind, its size and the patients it is of", body))
    }
}

fn list(found: &Evaluation) -> Markup {
    let body = html! {
        thead { tr { th scope="col" { "No." } th.text scope="col" { "Synthetic" } th.text scope="col" { "Training" } th.text scope="col" { "Patient" } th.text scope="col" { "By" } th scope="col" { "Ratio" } th scope="col" { "Chance" } } }
        tbody {
            @for (number, copy) in (1_u64..).zip(&found.copies.found).take(LISTED) {
                tr {
                    td { (count(number)) }
                    td.text { (synthetic_name(found, &copy.synthetic)) }
                    td.text { (pseudonym(found, "image", &copy.training)) }
                    td.text { (copy.patient.as_ref().map_or_else(|| "not known".to_owned(), |name| pseudonym(found, "patient", name))) }
                    td.text { (space_name(&copy.space)) }
                    td { @if copy.identical { "identical" } @else { (digits(copy.ratio)) } }
                    td { @if copy.identical { "none" } @else if copy.p < 1e-4 { "below 0.0001" } @else { (digits(copy.p)) } }
                }
            }
        }
    };
    let all = found.copies.found.len();
    html! {
        (table("Copies, the most certain first", body))
        p.note { "Training " (found.words.many) " and patients have pseudonyms here" @if !found.sets.own_names { ", and so have synthetic " (found.words.many) ", since some bear a real one's name" } ". Their names are in " code { "evaluation.json" } ", under the same numbers."
            @if found.sets.pseudonym_key.is_empty() { " Figures of an earlier version have no pseudonyms." } }
        @if all > LISTED { p.note { "The first " (LISTED) " of " (count(all as u64)) "; all are in " code { "evaluation.json" } "." } }
    }
}
