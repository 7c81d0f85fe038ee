//! A classifier's figures on labelled images, as a page and as the part of one.

use cellforge_eval::{Average, Calibration, ClassifierReport, CrossValidation, FEW_IMAGES, IntervalMethod};
use cellforge_train::History;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};

use super::format::{accuracy, count, estimate, percent, proportion, table};
use super::{notices, training::classifier_curves};
use crate::charts;
use crate::evaluation::{Notice, Words};

/// What a page about a classifier says beside its figures. Together with these it is kept, so that the page can be drawn again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageText {
    /// The heading, which is the title as well.
    pub title: String,
    /// What was trained and judged, a sentence each.
    pub lead: Vec<String>,
    /// What must be read before any figure.
    pub notices: Vec<Notice>,
    /// What the images are called.
    pub words: Words,
}

/// Figures as a file holds them: their own fields, and `page`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WithPage<T> {
    /// The figures.
    #[serde(flatten)]
    pub found: T,
    /// What their page says beside them.
    pub page: PageText,
}

/// A page about one classifier, or about those of a cross-validation.
pub struct ClassifierPage<'a> {
    /// Its words.
    pub text: &'a PageText,
    /// The figures; of a cross-validation those of all folds together.
    pub found: &'a ClassifierReport,
    /// The folds, where there are some.
    pub folds: Option<&'a CrossValidation>,
    /// How the classifier was trained, where that is known.
    pub history: Option<&'a History>,
    /// The file that has the figures, by its name.
    pub source: &'a str,
}

/// Draws the page: it needs no network, no script and no other file.
pub fn render(page: &ClassifierPage<'_>) -> String {
    let (text, words, version) = (page.text, &page.text.words, env!("CARGO_PKG_VERSION"));
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            (super::head(&text.title, version, None))
            body {
                header {
                    h1 { (text.title) }
                    (notices(&text.notices))
                    @for sentence in &text.lead { p { (sentence) } }
                }
                main {
                    section { h2 { "Figures" } (figures("By class", page.found, words)) }
                    @if let Some(folds) = page.folds { section { h2 { "Over the folds" } (over_folds(folds, words)) } }
                    section {
                        h2 { "Confusion matrix" }
                        p { "Rows are the true class, columns the class the network chose; darker means a larger share of the row." }
                        (matrix("Counts and shares of each row", page.found))
                    }
                    @if let Some(history) = page.history { section { h2 { "Training" } (classifier_curves(history)) } }
                }
                footer { p { "Drawn from " code { (page.source) } " by cellforge " (version) ". Research use only; not a diagnostic device." } }
            }
        }
    };
    body.into_string()
}

/// Every figure but the confusion matrix. `caption` is that of the table of classes.
pub fn figures(caption: &str, found: &ClassifierReport, words: &Words) -> Markup {
    html! {
        (few(found, words))
        (table("All classes", summary(found)))
        (table(caption, classes(found, words)))
        @if found.per_class.iter().any(|class| class.zero_division) {
            p.note { "A figure that would divide by 0 is set to 0." }
        }
        p.note { "Balanced accuracy is the mean recall of the classes: a network that always names one of two has 50%, however rare the other
            is. Macro F1 is the plain mean of the classes. Average precision (AUC-PR) is that of a class against the rest; guessing has the share of
            the class." }
        (sensitivities(found))
        @if let Some(calibration) = &found.calibration { (calibrated(calibration, words)) }
        p.note { (method(found, words)) }
    }
}

/// Which classes have few images.
fn few(found: &ClassifierReport, words: &Words) -> Markup {
    let few: Vec<String> = found.rough().map(|class| format!("{} ({})", class.class, class.support)).collect();
    html! {
        @if !few.is_empty() {
            p.callout { strong { "Few " (words.many) "." } " Below " (FEW_IMAGES) " a class, figures are rough: " (few.join(", ")) "." }
        }
    }
}

/// The figures of all classes together.
fn summary(found: &ClassifierReport) -> Markup {
    html! {
        tbody {
            tr { th scope="row" { "Accuracy" } td { (accuracy(found)) } }
            @if let Some(balanced) = &found.balanced_accuracy { tr { th scope="row" { "Balanced accuracy" } td { (estimate(balanced)) } } }
            tr { th scope="row" { "Macro F1" } td { (estimate(&found.macro_average.f1)) } }
            @if let Some(area) = &found.roc_auc { tr { th scope="row" { "Area under the ROC curve" } td { (estimate(area)) } } }
            @if let Some(average) = &found.average_precision { tr { th scope="row" { "Average precision (AUC-PR)" } td { (estimate(average)) } } }
        }
    }
}

fn classes(found: &ClassifierReport, words: &Words) -> Markup {
    let none = || html! { span.muted { "none" } };
    let average = |name: String, a: &Average| {
        html! { tr.average { th scope="row" { (name) } td { (estimate(&a.precision)) } td { (estimate(&a.recall)) } td { (estimate(&a.f1)) } td {} td { (count(found.total)) } } }
    };
    html! {
        thead { tr {
            th scope="col" { "Class" } th scope="col" { "Precision" } th scope="col" { "Recall" } th scope="col" { "F1" }
            th scope="col" { "Average precision" } th scope="col" { (words.many_at_start()) }
        } }
        tbody {
            @for class in &found.per_class {
                tr {
                    th scope="row" { (class.class) }
                    td { (proportion(&class.precision)) }
                    td { (proportion(&class.recall)) }
                    td { (estimate(&class.f1)) }
                    td { (class.average_precision.as_ref().map_or_else(none, estimate)) }
                    td { (count(class.support)) }
                }
            }
            (average("Mean of the classes".to_owned(), &found.macro_average))
            (average(format!("Weighted by {}", words.many), &found.weighted_average))
        }
    }
}

/// The sensitivity of each class where the specificity is given.
fn sensitivities(found: &ClassifierReport) -> Markup {
    let Some(first) = found.per_class.iter().find(|class| !class.sensitivity_at.is_empty()) else { return html! {} };
    let body = html! {
        thead { tr {
            th scope="col" { "Class" }
            @for at in &first.sensitivity_at { th scope="col" { "At specificity " (percent(at.specificity)) } }
        } }
        tbody {
            @for class in found.per_class.iter().filter(|class| !class.sensitivity_at.is_empty()) {
                tr { th scope="row" { (class.class) } @for at in &class.sensitivity_at { td { (estimate(&at.sensitivity)) } } }
            }
        }
    };
    table("Sensitivity of each class against the rest, by its probability", body)
}

/// How well probabilities agree with how often the network is right.
fn calibrated(found: &Calibration, words: &Words) -> Markup {
    html! {
        p {
            "Expected calibration error: " (estimate(&found.ece)) ". Brier score: " (estimate(&found.brier)) "."
            @if let Some(scaling) = &found.scaling {
                " Probabilities are scaled by a temperature of " (format!("{:.3}", scaling.temperature)) ", fitted on the validation " (words.many)
                ". Without it the calibration error is " (format!("{:.3}", scaling.unscaled_ece)) " and the Brier score "
                (format!("{:.3}", scaling.unscaled_brier)) "."
            }
        }
        @if let Some(svg) = charts::reliability(&found.bins) {
            figure.plot {
                figcaption { "Reliability" }
                ul.legend {
                    li { span.swatch style={ "background:" (crate::plots::css_colour(0)) } {} "share that is right, in bins of the probability" }
                    li { span.swatch style="background:#9696a0" {} "as sure as right" }
                }
                div role="img" aria-label="Reliability: the share of each bin that is right, by the mean probability of the predicted class." {
                    (PreEscaped(svg))
                }
            }
        }
        p.note { "The calibration error (Guo et al. 2017) is the mean distance between the probability of the predicted class and the share that is
            right, over " (found.bins.len()) " bins of equal width. The Brier score (1950) is the squared distance of all probabilities from the
            truth: 0 where the network is always sure and right, 2 where it is always sure and wrong. In the plot a dot is a bin, the larger the
            more " (words.many) " it has; below the line the network is too sure." }
    }
}

/// How the intervals were computed, in words.
fn method(found: &ClassifierReport, words: &Words) -> String {
    let many = &words.many;
    let level = format!("{:.0}%", 100.0 * found.bootstrap.level);
    let resamples = count(found.bootstrap.resamples as u64);
    match found.interval_method {
        IntervalMethod::Groups => format!(
            "Intervals ({level}) are from {resamples} bootstrap resamples of the {} patients of the test {many}, since {many} of one patient \
             resemble each other.{}",
            found.groups.unwrap_or(0),
            if found.groups.unwrap_or(0) < 10 { " With so few patients they are rough." } else { "" }
        ),
        IntervalMethod::WilsonAndImages => format!(
            "Intervals ({level}) are Wilson's for shares and from {resamples} bootstrap resamples of the {many} for the rest. They take {many} \
             without known patients as independent, so they may be too narrow."
        ),
        IntervalMethod::ImagesOfOneGroup => format!(
            "All test {many} are of one patient: the intervals ({level}) cover the choice of {many}, not the choice of patient, and are too narrow."
        ),
    }
}

/// A confusion matrix, darker where a larger share of the row is.
pub fn matrix(title: &str, report: &ClassifierReport) -> Markup {
    let classes = || report.per_class.iter().map(|class| &class.class);
    let body = html! {
        thead { tr { td {} @for class in classes() { th scope="col" { (class) } } } }
        tbody {
            @for (class, row) in classes().zip(&report.confusion.counts) {
                tr {
                    th scope="row" { (class) }
                    @for &n in row {
                        @let share = n as f64 / row.iter().sum::<u64>().max(1) as f64;
                        // White letters where the shade is dark.
                        td.shade style={ "background:rgba(0,90,160," (format!("{:.2}", 0.05 + 0.85 * share)) ")" @if share > 0.55 { ";color:#fff" } } {
                            (count(n)) br; small { (percent(share)) }
                        }
                    }
                }
            }
        }
    };
    table(title, body)
}

/// Mean and spread over the folds, and each fold.
fn over_folds(found: &CrossValidation, words: &Words) -> Markup {
    let spread = html! {
        thead { tr { th scope="col" { "Figure" } th scope="col" { "Mean" } th scope="col" { "Standard deviation" } th scope="col" { "Folds" } } }
        tbody {
            @for over in &found.over_folds {
                tr {
                    th scope="row" { (over.figure) }
                    td { (format!("{:.3}", over.mean)) }
                    td { (over.sd.map_or_else(|| "not known".to_owned(), |sd| format!("{sd:.3}"))) }
                    td { (over.folds) }
                }
            }
        }
    };
    let each = html! {
        thead { tr { th scope="col" { "Fold" } th scope="col" { (words.many_at_start()) } th scope="col" { "Accuracy" } th scope="col" { "Macro F1" } } }
        tbody {
            @for (at, fold) in found.folds.iter().enumerate() {
                tr { th scope="row" { (at + 1) } td { (count(fold.total)) } td { (accuracy(fold)) } td { (estimate(&fold.macro_average.f1)) } }
            }
        }
    };
    html! {
        p { "Each of the " (words.many) " was judged once, by the network that was trained without it. The figures above take all of them together; these
            are means of the folds. The standard deviation is no error of the mean, since the trainings share most of their " (words.many) "." }
        (table("Mean and spread over the folds", spread))
        (table("Each fold", each))
    }
}
