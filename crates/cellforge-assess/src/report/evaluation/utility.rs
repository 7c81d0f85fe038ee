//! Whether classifiers can be trained on the synthetic images.

use cellforge_eval::Estimate;
use maud::{Markup, PreEscaped, html};

use super::legend;
use crate::{
    charts::{self, ErrorBar},
    evaluation::{UtilityPart, Words},
    report::format::{count, percent, percent_range, table, with_interval},
    utility::{Utility, UtilityPoint},
};

pub(super) fn figures(part: &UtilityPart, words: &Words) -> Markup {
    let (one, many) = (&words.one, &words.many);
    let utility = &part.figures;
    let share = |e: Estimate| with_interval(&percent(e.value), &percent_range(e.low, e.high));
    let rows = [
        ("Trained on synthetic, tested on real (TSTR)", &utility.tstr),
        ("Trained on real, tested on real (TRTR)", &utility.trtr),
        ("Trained on real, tested on synthetic (TRTS)", &utility.trts),
    ];
    let body = html! {
        thead { tr { th scope="col" { "Training" } th scope="col" { "Right" } @for class in &utility.classes { th scope="col" { (class) } } } }
        tbody {
            @for (title, score) in rows {
                tr {
                    th scope="row" { (title) }
                    td { (share(score.accuracy)) }
                    @for class in &utility.classes { td { @if let Some(recall) = score.recall.get(class) { (share(*recall)) } } }
                }
            }
            tr.average {
                th scope="row" { "TSTR less TRTR, points" }
                td { (points(utility.tstr_gap.difference)) }
                @for _ in &utility.classes { td {} }
            }
        }
    };
    html! {
        p { "The same network (" (utility.config.classifier) ") was trained " (count(utility.config.seeds as u64)) " times on real and on synthetic " (many) ", "
            (count(utility.config.updates)) " updates each, and tested on " (part.judged_on) ". Right is the share of " (many) " classified correctly;
            intervals cover the variation of patients and of trainings." }
        (table(&format!("Classifiers trained on real and on synthetic {many}"), body))
        (augmentation(utility, words))
        p.note { "TSTR and TRTS follow Esteban, Hyland and Rätsch (2017). The differences of the augmentation study are paired by seed and by test
            " (one) "; their p-values are adjusted for their number (Holm 1979). Synthetic " (many) " are added in the proportions of the real ones' classes.
            Where there are no more, a larger ratio may take the same " (many) " again, which is no comparison of its own." }
    }
}

/// A difference of shares in points.
fn points(e: Estimate) -> Markup {
    with_interval(&format!("{:+.1}", 100.0 * e.value), &format!("{:+.1} to {:+.1}", 100.0 * e.low, 100.0 * e.high))
}

fn augmentation(utility: &Utility, words: &Words) -> Markup {
    let many = &words.many;
    let (fractions, ratios) = (&utility.config.fractions, &utility.config.ratios);
    let of = |ratio: usize| -> Vec<&UtilityPoint> {
        utility.augmentation.iter().filter(|point| point.ratio == ratio).collect()
    };
    let series: Vec<Vec<ErrorBar>> = ratios
        .iter()
        .map(|&ratio| {
            of(ratio)
                .iter()
                .enumerate()
                .map(|(at, point)| ErrorBar {
                    x: at as f64,
                    y: point.accuracy.value,
                    low: point.accuracy.low,
                    high: point.accuracy.high,
                })
                .collect()
        })
        .collect();
    let labels: Vec<String> = fractions.iter().map(|share| show_fraction(*share)).collect();
    let names: Vec<String> = ratios.iter().map(|ratio| ratio_name(*ratio, words)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = utility.augmentation.iter().any(|point| point.patients.is_some());
    let x_title = if known { "share of the real patients".to_owned() } else { format!("share of the real {many}") };
    let y_title = format!("right on real test {many}");
    let rows = html! {
        thead { tr {
            th scope="col" { "Real " (many) } th scope="col" { "Synthetic added" } th scope="col" { "Right" }
            th scope="col" { "Difference, points" } th scope="col" { "p (Holm)" }
        } }
        tbody {
            @for point in &utility.augmentation {
                tr {
                    th scope="row" {
                        (show_fraction(point.fraction)) ": " (count(point.real_images.round() as u64)) " " (many)
                        @if let Some(patients) = point.patients { " of " (count(patients.round() as u64)) @if patients.round() == 1.0 { " patient" } @else { " patients" } }
                    }
                    td { (count(point.synthetic_images.round() as u64)) @if point.short { " (no more there)" } }
                    td { (with_interval(&percent(point.accuracy.value), &percent_range(point.accuracy.low, point.accuracy.high))) }
                    td { @if let Some(found) = &point.difference { (points(found.difference)) } }
                    td { @if let Some(p) = point.p_holm { (format!("{p:.3}")) } }
                }
            }
        }
    };
    html! {
        @if let Some(svg) = charts::bars(&series, &labels, &x_title, &y_title) {
            figure.plot {
                figcaption { "Synthetic " (many) " added to few and to many real ones" }
                (legend(&names))
                div role="img" aria-label={ "Accuracy on real test " (many) " by the " (x_title) ", with intervals. The same figures are in the table below." } { (PreEscaped(svg)) }
            }
        }
        (table("The augmentation study", rows))
    }
}

fn ratio_name(ratio: usize, words: &Words) -> String {
    let (one, many) = (&words.one, &words.many);
    match ratio {
        0 => format!("real {many} alone"),
        1 => format!("one synthetic {one} for each real one"),
        n => format!("{n} synthetic {many} for each real one"),
    }
}

/// 0.05 as `5%`.
fn show_fraction(share: f64) -> String {
    let percent = 100.0 * share;
    if (percent - percent.round()).abs() < 1e-9 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}
