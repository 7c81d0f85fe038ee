//! The course of trainings as a page, while they run and after: curves, figures and sample grids.

use std::{collections::BTreeMap, path::Path};

use cellforge_train::{History, LogEvent, figures, losses};
use maud::{DOCTYPE, Markup, html};

use super::{
    embed,
    format::{count, plot, table},
};
use crate::plots::{Axes, Series, thin};

/// Points of a curve on a page, at most: as many as a plot can show.
const CURVE_POINTS: usize = 500;
/// Sample grids of one training on a page: the first, and the last ones.
const GRIDS: usize = 4;

/// A page about the trainings in a folder.
pub struct TrainingPage<'a> {
    /// The heading, which is the title as well.
    pub title: String,
    /// The folder that the names of trainings are relative to.
    pub base_dir: &'a Path,
    /// The trainings, in the order in which they are shown.
    pub runs: &'a [History],
    /// A line about each of them: how fast it goes, say. Empty, or as many as there are runs.
    pub notes: &'a [String],
    /// Seconds after which a browser loads the page anew; `None` for a page that stays as it is.
    pub refresh: Option<u64>,
}

/// Draws the page: it needs no network, no script and no other file. A sample grid that cannot be read is left out.
pub fn render(page: &TrainingPage<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut sections = Vec::new();
    for (at, run) in page.runs.iter().enumerate() {
        let note = page.notes.get(at).map_or("", String::as_str);
        sections.push((name(run, page.base_dir), section(run, note)));
    }
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            (super::head(&page.title, version, page.refresh))
            body {
                header {
                    p.kicker { "The course of a training" }
                    h1 { (page.title) }
                    @if page.runs.is_empty() { p { "Nothing is logged yet." } }
                    @if page.runs.len() > 1 { (overview(page.runs, page.base_dir)) }
                }
                main { @for (at, (heading, body)) in sections.iter().enumerate() { section id={ "run-" (at) } { h2 { (heading) } (body) } } }
                footer { p { "Drawn from " code { "log.jsonl" } " by cellforge " (version) ". Research use only; not a diagnostic device." } }
            }
        }
    };
    body.into_string()
}

/// The folder of a training below the page's. That of the page itself has no name: equal runs have equal pages, wherever they lie.
fn name(run: &History, base_dir: &Path) -> String {
    match run.dir.strip_prefix(base_dir) {
        Ok(inside) if !inside.as_os_str().is_empty() => inside.display().to_string(),
        _ => format!("The {}", kind(run)),
    }
}

/// How far each training is.
fn overview(runs: &[History], base_dir: &Path) -> Markup {
    let body = html! {
        thead { tr { th scope="col" { "Training" } th.text scope="col" { "Of" } th scope="col" { "Done" } } }
        tbody { @for (at, run) in runs.iter().enumerate() {
            tr {
                th scope="row" { a href={ "#run-" (at) } { (name(run, base_dir)) } }
                td.text { (kind(run)) }
                td { (progress(run)) }
            }
        } }
    };
    table("Trainings", body)
}

fn kind(run: &History) -> &'static str {
    if run.is_gan() { "GAN" } else { "classifier" }
}

/// How far a training is, in words.
fn progress(run: &History) -> String {
    let unit = if run.is_gan() { "iterations" } else { "epochs" };
    match run.total() {
        Some(total) => {
            let share = 100.0 * run.done() as f64 / total.max(1) as f64;
            format!("{} of {} {unit} ({share:.0}%)", count(run.done()), count(total))
        }
        None => format!("{} {unit}", count(run.done())),
    }
}

/// What is known of one training.
fn section(run: &History, note: &str) -> Markup {
    let text = |key: &str| run.config.as_ref()?.pointer(key)?.as_str().map(str::to_owned);
    let recipe = text("/recipe").map(|recipe| format!(" Recipe {recipe}.")).unwrap_or_default();
    let classes = if run.classes.is_empty() { String::new() } else { format!(" Classes: {}.", run.classes.join(", ")) };
    let best = run.best.filter(|best| best.value.is_finite());
    html! {
        p.lead { "A " (kind(run)) ": " b { (progress(run)) } "." (recipe) (classes) }
        @if !note.is_empty() { p { (note) } }
        @if let Some(best) = best {
            @if run.is_gan() {
                p { "Closest to the validation images after iteration " (count(best.iteration)) ": Fréchet distance " (format!("{:.4}", best.value)) "." }
            } @else {
                p { "Best validation accuracy: " (format!("{:.1}%", 100.0 * best.value)) ", after epoch " (best.epoch) "." }
            }
        }
        @for line in run.lines.iter().filter(|line| line.event == LogEvent::Rollback) {
            p.callout {
                "The guard went back to iteration " (count(line.iteration))
                @if let Some(from) = line.values.get("from") { " from " (count(*from as u64)) }
                "."
            }
        }
        (values(run))
        (grids(run))
        @if run.is_gan() { div.plots { (gan_curves("", &run.curves(LogEvent::Step), "validation images")) } } @else { (classifier_curves(run)) }
    }
}

/// The last value of everything that is logged.
fn values(run: &History) -> Markup {
    let values = run.last_values();
    // Those of single classes stand in the curves' file, and would fill the page.
    let is_of_class = |name: &str| {
        let of = |class: &String| name.strip_suffix(class.as_str())?.strip_suffix('_');
        run.classes.iter().filter_map(of).any(|whole| values.contains_key(whole))
    };
    let shown: Vec<_> = values.iter().filter(|(name, _)| !is_of_class(name)).collect();
    let body = html! {
        thead { tr { @for (name, _) in &shown { th scope="col" { (title(name)) } } } }
        tbody { tr { @for (_, value) in &shown { td { (format!("{value:.4}")) } } } }
    };
    html! { @if !shown.is_empty() { (table("Last logged", body)) } }
}

/// The first sample grid and the last ones.
fn grids(run: &History) -> Markup {
    let last = run.grids.len().saturating_sub(GRIDS - 1).max(1);
    let shown: Vec<_> = run.grids.iter().take(1).chain(run.grids.iter().skip(last)).collect();
    let mut figures = Vec::new();
    for (iteration, path) in shown {
        let inside = path.strip_prefix(&run.dir).unwrap_or(path);
        // Where one is just being written, the page does without it.
        let (Ok(image), iteration) = (embed(&inside.to_string_lossy(), &run.dir), count(*iteration)) else { continue };
        figures.push((iteration, image));
    }
    html! {
        @if !figures.is_empty() {
            div.grids {
                @for (iteration, image) in &figures {
                    figure {
                        img src={ "data:image/png;base64," (image.base64) } width=(image.width) height=(image.height)
                            alt={ "Grid of synthetic images after " (iteration) " iterations" };
                        figcaption { "Iteration " (iteration) }
                    }
                }
            }
        }
    }
}

/// The losses of a GAN and, where it was judged as it learned, the figures of its images. `names` are those of its classes, empty where the page
/// says them already; `beside` is what figures compare with.
pub fn gan_curves(names: &str, curves: &BTreeMap<String, Vec<(u64, f64)>>, beside: &str) -> Markup {
    let of = |what: &str| if names.is_empty() { what.to_owned() } else { format!("{names}: {what}") };
    let draw = |heading: String, y, wanted: fn(&str) -> bool| {
        let series = curves.iter().filter(|(name, _)| wanted(name));
        let series: Vec<Series> = series.map(|(name, points)| series_of(title(name), points)).collect();
        plot(&heading, &series, &Axes { x: "iteration", y, dots: false, share: y == "share" })
    };
    html! {
        (draw(of("GAN losses"), "loss", is_loss))
        @if curves.contains_key(figures::FD) {
            (draw(of(&format!("Fréchet distance to {beside}")), "distance", |name| name == figures::FD))
            (draw(of(&format!("against {beside}")), "share", is_share))
        }
    }
}

/// Loss and accuracy of a classifier.
pub(super) fn classifier_curves(run: &History) -> Markup {
    let (steps, epochs) = (run.curves(LogEvent::Step), run.curves(LogEvent::Epoch));
    let series = |curves: &BTreeMap<String, Vec<(u64, f64)>>, names: &[(&str, &str)]| -> Vec<Series> {
        names.iter().filter_map(|(name, words)| Some(series_of(words, curves.get(*name)?))).collect()
    };
    let accuracy = [(figures::VAL_ACCURACY, "validation"), (losses::ACCURACY, "training")];
    let loss = [(figures::VAL_LOSS, "validation"), (losses::LOSS, "training")];
    html! {
        div.plots {
            (plot("Accuracy", &series(&epochs, &accuracy), &Axes { x: "epoch", y: "accuracy", dots: true, share: true }))
            (plot("Loss", &series(&epochs, &loss), &Axes { x: "epoch", y: "loss", dots: true, share: false }))
            (plot("Loss of single batches", &series(&steps, &[(losses::LOSS, "training")]), &Axes { x: "iteration", y: "loss", dots: false, share: false }))
        }
    }
}

fn series_of(name: &str, points: &[(u64, f64)]) -> Series {
    let points =
        thin(points, CURVE_POINTS).into_iter().map(|(at, value)| (at as f64, value.is_finite().then_some(value)));
    Series { name: name.to_owned(), points: points.collect() }
}

/// Logs hold other series beside losses, which do not belong on the same axis.
fn is_loss(name: &str) -> bool {
    matches!(name, losses::D | losses::D_REAL | losses::D_FAKE | losses::G | losses::R1 | losses::R2)
}

fn is_share(name: &str) -> bool {
    matches!(name, figures::PRECISION | figures::RECALL | figures::COVERAGE | figures::RECOGNISED | figures::DIVERSITY)
}

/// A logged name in words.
fn title(name: &str) -> &str {
    match name {
        losses::D => "discriminator",
        losses::D_REAL => "discriminator on real images",
        losses::D_FAKE => "discriminator on synthetic images",
        losses::G => "generator",
        losses::R1 => "penalty at real images",
        losses::R2 => "penalty at synthetic images",
        losses::D_ACCURACY => "accuracy of the discriminator",
        losses::AUGMENT => "probability of augmentation",
        figures::FD => "Fréchet distance",
        figures::VAL_ACCURACY => "validation accuracy",
        figures::VAL_LOSS => "validation loss",
        other => other,
    }
}
