//! The classifiers: the study's table beside ours where there is one, figures per class, confusion matrices and curves.

use maud::{Markup, html};

use cellforge_assess::plots::{Axes, Series};
use cellforge_assess::report::classifier;
use cellforge_assess::report::format::{accuracy, count, percent, plot, table};

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
    let (resnet, test, words) = (&results.resnet, &results.resnet.test, &results.data.words);
    let many = &words.many;
    html! {
        p {
            "A ResNet of " (count(resnet.params as u64)) " parameters, trained for " (resnet.epochs) " epochs (" (resnet.optimizer)
            "), classified " b { (count(test.correct)) " of " (count(test.total)) } " test " (many) " correctly: " (accuracy(test))
            ". Validation accuracy: " (percent(resnet.val_accuracy)) "."
        }
        (classifier::figures(&format!("The ResNet on the test {many}, by class"), test, words))
    }
}

/// The confusion matrix of the residual network and of every small network.
pub(super) fn confusions(results: &Results) -> Markup {
    html! {
        p { "Rows are the true class, columns the class the network chose; darker means a larger share of the row." }
        div.matrices {
            (classifier::matrix("ResNet", &results.resnet.test))
            @for model in results.cnn.models.values() { (classifier::matrix(&model.title, &model.test)) }
        }
    }
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
