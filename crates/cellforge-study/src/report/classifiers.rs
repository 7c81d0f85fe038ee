//! The classifiers: the study's table beside ours where there is one, figures per class, confusion matrices and curves.

use cellforge_eval::{Average, ClassifierReport, IntervalMethod};
use maud::{Markup, html};

use cellforge_assess::evaluation::Words;
use cellforge_assess::plots::{Axes, Series};
use cellforge_assess::report::format::{accuracy, count, estimate, percent, plot, proportion, table};

use crate::results::{EpochPoint, Published, PublishedClassifier, Results};

/// For the study's own data, its table of classifiers with ours beside it; then every training of the small network.
pub(super) fn tables(results: &Results) -> Markup {
    let many = &results.data.words.many;
    let beside = |published: &Published| {
        html! {
            thead {
                tr { th rowspan="2" scope="col" { "Model" } th.group colspan="2" scope="colgroup" { "The study" } th.group colspan="3" scope="colgroup" { "This run" } }
                tr {
                    th scope="col" { "Epochs" } th scope="col" { "Accuracy" }
                    th.text scope="col" { "Model" } th scope="col" { "Epochs" } th scope="col" { "Test accuracy" }
                }
            }
            tbody { @for line in &published.classifiers { (beside_row(line, results)) } }
        }
    };
    let cnns = html! {
        thead { tr {
            th scope="col" { "Model" } th.text scope="col" { "Optimiser" } th scope="col" { "Epochs" } th scope="col" { "Parameters" }
            th scope="col" { "Validation" } th scope="col" { "Test accuracy" }
        } }
        tbody {
            @for (name, model) in &results.cnn.models {
                tr {
                    th scope="row" { (model.title) @if *name == results.cnn.best { " " span.tag { "best" } } }
                    td.text { (model.optimizer) }
                    td { (model.epochs) }
                    td { (count(model.params as u64)) }
                    td { (percent(model.val_accuracy)) }
                    td { (accuracy(&model.test)) }
                }
            }
        }
    };
    html! {
        @if let Some(published) = &results.published {
            (table("The study's classifiers and ours", beside(published)))
            p { "The study reports one accuracy per model and does not say on which cells. Ours are on test " (many) " that no network was trained
                or chosen on; the best small network is chosen by its validation accuracy." }
        } @else {
            p { "Test " (many) " are those that no network was trained or chosen on; the best small network is chosen by its validation accuracy." }
        }
        (table("The small convolutional networks of this run", cnns))
    }
}

fn beside_row(line: &PublishedClassifier, results: &Results) -> Markup {
    let ours = if line.ours == "best" { &results.cnn.best } else { &line.ours };
    let run = if line.ours == "resnet" {
        Some(("ResNet", results.resnet.epochs, &results.resnet.test))
    } else {
        results.cnn.models.get(ours).map(|model| (model.title.as_str(), model.epochs, &model.test))
    };
    html! {
        tr {
            th scope="row" { (line.name) }
            td { (line.epochs) }
            td { (percent(line.accuracy)) }
            @match run {
                Some((title, epochs, test)) => { td.text { (title) } td { (epochs) } td { (accuracy(test)) } }
                None => { td.muted colspan="3" { "not run" } }
            }
        }
    }
}

/// Every figure of the residual network.
pub(super) fn resnet(results: &Results) -> Markup {
    let (resnet, test, many) = (&results.resnet, &results.resnet.test, &results.data.words.many);
    let average = |name: &str, a: &Average| {
        html! { tr.average { th scope="row" { (name) } td { (estimate(&a.precision)) } td { (estimate(&a.recall)) } td { (estimate(&a.f1)) } td { (count(test.total)) } } }
    };
    let body = html! {
        thead { tr { th scope="col" { "Class" } th scope="col" { "Precision" } th scope="col" { "Recall" } th scope="col" { "F1" } th scope="col" { (results.data.words.many_at_start()) } } }
        tbody {
            @for class in &test.per_class {
                tr {
                    th scope="row" { (class.class) }
                    td { (proportion(&class.precision)) }
                    td { (proportion(&class.recall)) }
                    td { (estimate(&class.f1)) }
                    td { (count(class.support)) }
                }
            }
            (average("Mean of the classes", &test.macro_average))
            (average(&format!("Weighted by {many}"), &test.weighted_average))
        }
    };
    html! {
        p {
            "A ResNet of " (count(resnet.params as u64)) " parameters, trained for " (resnet.epochs) " epochs (" (resnet.optimizer)
            "), classified " b { (count(test.correct)) " of " (count(test.total)) } " test " (many) " correctly: " (accuracy(test))
            @if let Some(area) = &test.roc_auc { ". Area under the ROC curve: " (estimate(area)) }
            ". Validation accuracy: " (percent(resnet.val_accuracy)) "."
        }
        (table(&format!("The ResNet on the test {many}, by class"), body))
        @if test.per_class.iter().any(|class| class.zero_division) {
            p.note { "A figure that would divide by 0 is set to 0." }
        }
        (sensitivities(test))
        @if let Some(found) = &test.calibration {
            p { "Expected calibration error: " (estimate(&found.ece)) ". Brier score: " (estimate(&found.brier)) "." }
            p.note { "The calibration error (Guo et al. 2017) is the mean distance between the probability of the predicted class and the share that is
                right, over " (found.bins.len()) " bins of equal width. The Brier score (1950) is the squared distance of all probabilities from the
                truth: 0 where the network is always sure and right, 2 where it is always sure and wrong." }
        }
        p.note { (method(test, &results.data.words)) }
    }
}

/// The sensitivity of each class where the specificity is given.
fn sensitivities(test: &ClassifierReport) -> Markup {
    let Some(first) = test.per_class.iter().find(|class| !class.sensitivity_at.is_empty()) else { return html! {} };
    let body = html! {
        thead { tr {
            th scope="col" { "Class" }
            @for at in &first.sensitivity_at { th scope="col" { "At specificity " (percent(at.specificity)) } }
        } }
        tbody {
            @for class in test.per_class.iter().filter(|class| !class.sensitivity_at.is_empty()) {
                tr { th scope="row" { (class.class) } @for at in &class.sensitivity_at { td { (estimate(&at.sensitivity)) } } }
            }
        }
    };
    table("Sensitivity of each class against the rest, by its probability", body)
}

/// How the intervals were computed, in words.
fn method(test: &ClassifierReport, words: &Words) -> String {
    let many = &words.many;
    let level = format!("{:.0}%", 100.0 * test.bootstrap.level);
    let resamples = count(test.bootstrap.resamples as u64);
    match test.interval_method {
        IntervalMethod::Groups => format!(
            "Intervals ({level}) are from {resamples} bootstrap resamples of the {} patients of the test {many}, since {many} of one patient \
             resemble each other.{}",
            test.groups.unwrap_or(0),
            if test.groups.unwrap_or(0) < 10 { " With so few patients they are rough." } else { "" }
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

/// The confusion matrix of the residual network and of every small network.
pub(super) fn confusions(results: &Results) -> Markup {
    let classes = &results.data.classes;
    html! {
        p { "Rows are the true class, columns the class the network chose; darker means a larger share of the row." }
        div.matrices {
            (matrix("ResNet", classes, &results.resnet.test))
            @for model in results.cnn.models.values() { (matrix(&model.title, classes, &model.test)) }
        }
    }
}

fn matrix(title: &str, classes: &[String], report: &ClassifierReport) -> Markup {
    let body = html! {
        thead { tr { td {} @for class in classes { th scope="col" { (class) } } } }
        tbody {
            @for (t, row) in report.confusion.counts.iter().enumerate() {
                tr {
                    th scope="row" { (classes.get(t).map_or("", String::as_str)) }
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

/// Accuracy by epoch.
pub(super) fn curves(results: &Results) -> Markup {
    let series = |name: &str, history: &[EpochPoint], of: fn(&EpochPoint) -> Option<f64>| Series {
        name: name.to_owned(),
        points: history.iter().map(|point| (point.epoch as f64, of(point))).collect(),
    };
    let axes = Axes { x: "epoch", y: "accuracy", dots: true, share: true };
    let cnns: Vec<Series> =
        results.cnn.models.values().map(|model| series(&model.title, &model.history, |p| p.val_accuracy)).collect();
    let history = &results.resnet.history;
    let resnet: Vec<Series> =
        [series("validation", history, |p| p.val_accuracy), series("training", history, |p| p.train_accuracy)]
            .into_iter()
            .filter(|s| s.points.iter().any(|(_, y)| y.is_some()))
            .collect();
    html! {
        h3 { "Classifiers" }
        div.plots {
            (plot("ResNet: accuracy", &resnet, &axes))
            (plot("Small CNNs: validation accuracy", &cnns, &axes))
        }
    }
}
