//! Whether classifiers can be trained on the synthetic images.

use cellforge_eval::Estimate;
use maud::{Markup, PreEscaped, html};

use super::legend;
use crate::{
    charts::{self, Bar},
    evaluation::UtilityPart,
    report::format::{count, percent, percent_range, table, with_interval},
    utility::{Utility, UtilityPoint},
};

pub(super) fn figures(part: &UtilityPart) -> Markup {
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
        p { "The same network (" (utility.config.classifier) ") was trained " (count(utility.config.seeds as u64)) " times on each kind of images, "
            (count(utility.config.updates)) " updates each, and judged on " (part.judged_on) ". Right is the share of images classified rightly;
            intervals hold the variation of patients and of trainings." }
        (table("Classifiers trained on real and on synthetic images", body))
        (augmentation(utility))
        p.note { "TSTR and TRTS follow Esteban, Hyland and Rätsch (2017). The differences of the augmentation study are paired by seed and by test
            image; their p-values are adjusted for their number (Holm 1979). Synthetic images are added in the proportions of the real ones' classes; where
            no more are there, a larger share of them may be the same images again, which is no comparison of its own." }
    }
}

/// A difference of shares in points.
fn points(e: Estimate) -> Markup {
    with_interval(&format!("{:+.1}", 100.0 * e.value), &format!("{:+.1} to {:+.1}", 100.0 * e.low, 100.0 * e.high))
}

fn augmentation(utility: &Utility) -> Markup {
    let (fractions, ratios) = (&utility.config.fractions, &utility.config.ratios);
    let of = |ratio: usize| -> Vec<&UtilityPoint> {
        utility.augmentation.iter().filter(|point| point.ratio == ratio).collect()
    };
    let series: Vec<Vec<Bar>> = ratios
        .iter()
        .map(|&ratio| {
            of(ratio)
                .iter()
                .enumerate()
                .map(|(at, point)| Bar {
                    x: at as f64,
                    y: point.accuracy.value,
                    low: point.accuracy.low,
                    high: point.accuracy.high,
                })
                .collect()
        })
        .collect();
    let labels: Vec<String> = fractions.iter().map(|share| show_fraction(*share)).collect();
    let names: Vec<String> = ratios.iter().map(|ratio| ratio_name(*ratio)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = utility.augmentation.iter().any(|point| point.patients.is_some());
    let x_title = if known { "share of the real patients" } else { "share of the real images" };
    let rows = html! {
        thead { tr {
            th scope="col" { "Real images" } th scope="col" { "Synthetic added" } th scope="col" { "Right" }
            th scope="col" { "Difference, points" } th scope="col" { "p (Holm)" }
        } }
        tbody {
            @for point in &utility.augmentation {
                tr {
                    th scope="row" {
                        (show_fraction(point.fraction)) ": " (count(point.real_images.round() as u64)) " images"
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
        @if let Some(svg) = charts::bars(&series, &labels, x_title, "right on real test images") {
            figure.plot {
                figcaption { "Synthetic images added to few and to many real ones" }
                (legend(&names))
                div role="img" aria-label={ "Accuracy on real test images by the " (x_title) ", with intervals. The same figures are in the table below." } { (PreEscaped(svg)) }
            }
        }
        (table("The augmentation study", rows))
    }
}

fn ratio_name(ratio: usize) -> String {
    match ratio {
        0 => "real images alone".to_owned(),
        1 => "one synthetic image for each real one".to_owned(),
        n => format!("{n} synthetic images for each real one"),
    }
}

/// 0.05 as `5%`.
fn show_fraction(share: f64) -> String {
    let percent = 100.0 * share;
    if (percent - percent.round()).abs() < 1e-9 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}
