//! Tables of realism and coverage.

use cellforge_eval::{Estimate, Fidelity};
use maud::{Markup, html};

use crate::{
    evaluation::{Evaluation, FidelityPart, FidelityScope, OtherFeatures, digits},
    report::format::{count, percent, percent_range, table, with_interval},
};

pub(super) fn figures(part: &FidelityPart, found: &Evaluation) -> Markup {
    let (one, many) = (&found.words.one, &found.words.many);
    let halves = if part.halves_by_patient { "other patients".to_owned() } else { format!("other {many}") };
    html! {
        @if part.pooled.against_holdout.is_some() {
            p { "The answers above rest on the first two columns: synthetic " (many) ", and half of the real ones, each against held-out " (many) ".
                Neither the generator nor that half has seen these. A generator as good as reality would have the figures of the real " (many) ".
                The next two columns compare with half of the real " (many) ". The generator has seen this half, so it can come nearer to it than the
                other half, of " (halves) ", does." }
        } @else {
            p { "Every figure stands beside the same figure between real " (many) " (the floor): half of the real " (many) " against the other half, of "
                (halves) ". The generator has seen both halves, so it can come nearer to one than the other does." }
        }
        p { "All comparisons have the same numbers of " (many) ", because distances depend on them. An arrow marks figures that are better when low." }
        (scopes(part, &found.features.metric, found))
        p.note {
            "The Fréchet distance compares means and covariances of features (Heusel et al. 2017); it is called FID only with Inception-v3. The
            kernel distance (Bińkowski et al. 2018) compares all pairs through a polynomial kernel and does not grow when " (many) " are few."
        }
        p.note {
            "Precision is the share of synthetic " (many) " within the spread of the real ones, recall the share of real " (many) " within the spread of the
            synthetic ones (Kynkäänniemi et al. 2019). Density and coverage are less sensitive to outliers (Naeem et al. 2020): real neighbourhoods per
            synthetic " (one) ", and the share of real " (many) " with a synthetic " (one) " among their " (found.settings.fidelity.k) " nearest."
        }
    }
}

/// A table of all classes together and one of each class.
fn scopes(part: &FidelityPart, metric: &str, found: &Evaluation) -> Markup {
    let classes = found.classes.iter().filter_map(|class| Some((class.as_str(), part.per_class.get(class)?)));
    html! {
        (scope("All classes", &part.pooled, metric, found))
        @for (name, of_class) in classes { (scope(name, of_class, metric, found)) }
    }
}

/// The tables of the other features.
pub(super) fn other_features(found: &Evaluation) -> Markup {
    html! {
        @for OtherFeatures { features, fidelity } in &found.other_features {
            h4 { "By other features: " (features.name) }
            p { "The same " (found.words.many) ", compared by " (features.source) " (" (count(features.dims as u64)) " numbers per " (found.words.one)
                "). Distances of different features cannot be compared; whether a synthetic set stands apart from the real one can." }
            (scopes(fidelity, &features.metric, found))
        }
    }
}

fn scope(name: &str, scope: &FidelityScope, metric: &str, found: &Evaluation) -> Markup {
    let columns: Vec<(&str, &Fidelity)> = [
        ("Synthetic, held-out", scope.against_holdout.as_ref()),
        ("Real, held-out", scope.real_against_holdout.as_ref()),
        ("Synthetic, real", Some(&scope.against_real)),
        ("Real, real", Some(&scope.floor)),
    ]
    .into_iter()
    .filter_map(|(title, figures)| Some((title, figures?)))
    .collect();
    type Row = (String, fn(&Fidelity) -> Estimate, bool);
    let rows: [Row; 6] = [
        ("Fréchet distance ↓".to_owned(), |f| f.frechet, false),
        ("Kernel distance ↓".to_owned(), |f| f.kid, false),
        ("Precision".to_owned(), |f| f.precision, true),
        ("Recall".to_owned(), |f| f.recall, true),
        ("Density".to_owned(), |f| f.density, false),
        ("Coverage".to_owned(), |f| f.coverage, true),
    ];
    let shown = |e: Estimate, share: bool| {
        if share {
            with_interval(&percent(e.value), &percent_range(e.low, e.high))
        } else {
            with_interval(&digits(e.value), &format!("{} to {}", digits(e.low), digits(e.high)))
        }
    };
    let body = html! {
        thead { tr { th scope="col" { "Figure" } @for (title, _) in &columns { th scope="col" { (title) } } } }
        tbody {
            @for (title, of, share) in &rows {
                tr { th scope="row" { (title) } @for (_, figures) in &columns { td { (shown(of(figures), *share)) } } }
            }
        }
    };
    let (n, many) = (count(scope.images as u64), &found.words.many);
    table(&format!("{name}: {n} {many} on each side, Fréchet distance {metric}"), body)
}
