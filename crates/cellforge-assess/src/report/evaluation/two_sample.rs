//! Whether a network or a statistic tells the synthetic images from real ones.

use std::path::Path;

use cellforge_eval::Estimate;
use maud::{Markup, html};

use crate::{
    Result,
    evaluation::{Words, digits},
    report::{
        embed,
        format::{count, percent, percent_range, table, with_interval},
    },
    two_sample::{NetworkTest, PlantedResult, TwoSample},
};

/// Rows of the table of statistics.
const ROWS: usize = 10;

pub(super) fn figures(found: &TwoSample, words: &Words, base_dir: &Path) -> Result<Markup> {
    let many = &words.many;
    let pictures = pictures(found, words, base_dir)?;
    let units = if found.by_patient { "patients" } else { many.as_str() };
    Ok(html! {
        p.callout { (found.in_words(words)) }
        @if found.too_few.is_none() {
            p { "Half of the real " (units) ", several times, are told from the synthetic " (many) " by a network that learns to do just that,
                and in the same way from the other half. The second is what chance can do: " (many) " of other patients differ, too. Every one is scored
                by a network that has not seen it. Sides: " (sides(found)) "." }
        }
        @if let Some(network) = &found.network { (networks(network, found, words)) }
        @if !found.statistics.is_empty() { (statistics(found, words)) }
        (pictures)
        @if !found.planted.is_empty() { (planted(&found.planted, words)) }
    })
}

fn sides(found: &TwoSample) -> String {
    let of = |(class, n): (&String, &usize)| {
        let units = found.effective_patients.get(class).copied().unwrap_or(0.0);
        let units = if found.by_patient { format!(" of {units:.1} effective patients") } else { String::new() };
        format!("{} {class}{units}", count(*n as u64))
    };
    found.images_per_side.iter().map(of).collect::<Vec<_>>().join(", ")
}

fn networks(network: &NetworkTest, found: &TwoSample, words: &Words) -> Markup {
    let area = |e: Estimate| with_interval(&format!("{:.3}", e.value), &format!("{:.3} to {:.3}", e.low, e.high));
    let share = |e: Estimate| with_interval(&percent(e.value), &percent_range(e.low, e.high));
    let classes: Vec<&String> = found.images_per_side.keys().collect();
    let row = |title: &str, auc: Estimate, per_class: &[Estimate], seen: Estimate| {
        html! {
            tr { th scope="row" { (title) } td { (area(auc)) } @for one in per_class { td { (area(*one)) } } td { (share(seen)) } }
        }
    };
    let body = html! {
        thead { tr { th scope="col" { "Told from half of the real patients" } th scope="col" { "AUC" }
            @for class in classes { th scope="col" { "AUC, " (class) } } th scope="col" { "Found at 1% false alarms" } } }
        tbody {
            (row("Synthetic", network.synthetic.auc, &network.synthetic.per_class, network.synthetic.found))
            @for (i, real) in network.real.iter().enumerate() {
                (row(&format!("Other half, seed {}", i + 1), real.auc, &real.per_class, real.found))
            }
        }
    };
    html! {
        (table("Networks trained to tell them apart", body))
        p.note { "An area (AUC) of 0.5 is a guess, 1 is certain. The synthetic " (words.many) " are told apart where an interval lies above those of all real
            halves." }
    }
}

fn statistics(found: &TwoSample, words: &Words) -> Markup {
    let body = html! {
        thead { tr { th scope="col" { "Statistic" } th scope="col" { "Class" } th scope="col" { "Synthetic" } th scope="col" { "Real" }
            th scope="col" { "AUC" } th scope="col" { "Outside 98% of the real" } th scope="col" { "p (max-T)" } } }
        tbody {
            @for one in found.statistics.iter().take(ROWS) {
                tr {
                    th scope="row" { (one.name) }
                    td.text { (one.class) }
                    td { (one.shown(one.synthetic)) }
                    td { (one.shown(one.real)) }
                    td { (with_interval(&format!("{:.3}", one.auc.value), &format!("{:.3} to {:.3}", one.auc.low, one.auc.high))) }
                    td { (percent(one.outside)) }
                    td { (format!("{:.3}", one.p)) @if one.p <= found.limit { " " span.answer.bad { "differs" } } }
                }
            }
        }
    };
    html! {
        (table(&format!("What differs: the {} most telling of {} statistics", ROWS.min(found.statistics.len()), count(found.statistics.len() as u64)), body))
        p.note { "An area near 0 tells as much as one near 1: it says that the synthetic " (words.many) " have the smaller values. The p-values come from random
            halvings of the real patients and hold for all statistics together (Westfall and Young 1993); up to " (digits(found.limit)) " counts." }
    }
}

fn pictures(found: &TwoSample, words: &Words, base_dir: &Path) -> Result<Markup> {
    let embedded = found
        .pictures
        .iter()
        .map(|picture| Ok((picture, embed(&picture.path, base_dir)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! {
        @if !embedded.is_empty() {
            h4 { "Where the network sees it" }
            p.note { "Left: a synthetic " (words.one) " that the network is surest of. Right: the same, bright where its certainty falls most when the place is
                covered by its mean colour." }
            div.pairs {
                @for (picture, image) in &embedded {
                    figure {
                        img src={ "data:image/png;base64," (image.base64) } width=(image.width) height=(image.height)
                            alt={ "A synthetic " (words.one) ", and the same lit where the network tells that it is synthetic" };
                        figcaption { (picture.class) " · log odds " (digits(picture.score)) }
                    }
                }
            }
        }
    })
}

fn planted(planted: &[PlantedResult], words: &Words) -> Markup {
    let body = html! {
        thead { tr { th scope="col" { "Planted in real " (words.many) } th scope="col" { "p of the statistics" } th scope="col" { "AUC of a network" } th scope="col" { "Found" } } }
        tbody {
            @for one in planted {
                tr {
                    th scope="row" { (one.difference.to_string()) }
                    td { (format!("{:.3}", one.statistics_p)) }
                    td { @if let Some(network) = &one.network { (with_interval(&format!("{:.3}", network.auc.value), &format!("{:.3} to {:.3}", network.auc.low, network.auc.high))) } }
                    td { @if one.found { "yes" } @else { "no" } }
                }
            }
        }
    };
    html! {
        (table("How weak a difference the test sees", body))
        p.note { "Each kind goes from weak to strong, up to the first that is found. A network is asked only where the statistics do not find it." }
    }
}
