//! Tables of realism and coverage.

use cellforge_eval::{Estimate, Fidelity};
use maud::{Markup, html};

use crate::{
    evaluation::{
        Comparison, Equivalence, Evaluation, FeatureInfo, FidelityPart, FidelityScope, OtherFeatures, digits,
    },
    report::format::{count, percent, percent_range, table, with_interval},
};

pub(super) fn figures(part: &FidelityPart, found: &Evaluation) -> Markup {
    let (one, many) = (&found.words.one, &found.words.many);
    let others = if part.floor.by_patient { "other patients".to_owned() } else { format!("other {many}") };
    html! {
        @if part.pooled.against_holdout.is_some() {
            p { "The answers above rest on the first two columns: synthetic " (many) ", and real ones, each against held-out " (many) ". Neither the
                generator nor these real " (many) " have seen them. A generator as good as reality would have the figures of the real " (many) ".
                The next two columns compare with training " (many) " of as many patients as the holdout has. The generator has seen these, so it
                can come nearer to them than real " (many) " of " (others) " do." }
        } @else {
            p { "Every figure stands beside the same figure between real " (many) " (the floor): half of the real " (many) " against the other half, of "
                (others) ". The generator has seen both halves, so it can come nearer to one than the other does." }
        }
        (seen(&found.features, found))
        (margins(part, found))
        (floor(part, found))
        p { "All comparisons have the same numbers of " (many) ", because distances depend on them. An arrow marks figures that are better when low." }
        (scopes(part, &found.features.metric, found))
        p.note {
            "The Fréchet distance compares means and covariances of features (Heusel et al. 2017); it is called FID only with Inception-v3. As
            measured it grows when " (many) " are few, and other programs report it so. Before it stands the distance of what the sets were drawn
            from, extrapolated to endless samples (Chong and Forsyth 2020), with its interval. The kernel distance (Bińkowski et al. 2018)
            compares all pairs of " (many) " of two patients through a polynomial kernel and does not grow."
        }
        p.note {
            "Precision is the share of synthetic " (many) " within the spread of the real ones, recall the share of real " (many) " within the spread of the
            synthetic ones (Kynkäänniemi et al. 2019). Density and coverage are less sensitive to outliers (Naeem et al. 2020): real neighbourhoods per
            synthetic " (one) ", and the share of real " (many) " with a synthetic " (one) " among their " (found.settings.fidelity.k) " nearest."
        }
        p.note {
            "Alpha-precision and beta-recall (Alaa et al. 2022) ask the same of the typical part of each set, for every size of that part. The Vendi
            score (Friedman and Dieng 2023) is the effective number of different " (many) " among those compared. Realistic is the share with a realism
            score of 1 or above (Kynkäänniemi et al. 2019). Rarity is the mean radius of the smallest real neighbourhood around (Han et al. 2023):
            higher where real " (many) " are rare. The feature likelihood divergence (Jiralerspong et al. 2023) is how much less likely held-out "
            (many) " are under a density around the compared ones than under one around real ones, and grows with copies of training " (many) "."
        }
    }
}

/// What the answers rest on: each figure's difference to that of real images, beside its margin.
fn margins(part: &FidelityPart, found: &Evaluation) -> Markup {
    let others = found.other_features.iter().map(|other| (&other.features, &other.fidelity));
    let all = std::iter::once((&found.features, part)).chain(others);
    let rows = all.flat_map(|(features, part)| {
        let of_class = move |(class, scope): (&String, &FidelityScope)| {
            scope.comparisons.iter().map(|one| (features.name.clone(), class.clone(), one.clone())).collect::<Vec<_>>()
        };
        part.per_class.iter().flat_map(of_class)
    });
    let answer = |one: &Comparison| match one.answer {
        Equivalence::AsGood => html! { span.answer.good { "as good" } },
        Equivalence::Worse => html! { span.answer.bad { "worse" } },
        Equivalence::Unclear => html! { span.muted { "cannot be told" } },
    };
    let shown = |one: &Comparison| match one.figure.starts_with("Fréchet") {
        true => {
            html! { td { (with_interval(&digits(one.difference.value), &format!("{} to {}", digits(one.difference.low), digits(one.difference.high)))) } td { "+" (digits(one.margin)) } }
        }
        false => {
            let points = |x: f64| format!("{:+.1}", 100.0 * x);
            html! {
                td { (with_interval(&points(one.difference.value), &format!("{} to {}", points(one.difference.low), points(one.difference.high)))) }
                td { (points(-one.margin)) " points" }
            }
        }
    };
    let body = html! {
        thead { tr { th scope="col" { "Features" } th scope="col" { "Class" } th scope="col" { "Figure" } th scope="col" { "Synthetic less real" } th scope="col" { "May be" } th scope="col" { "Answer" } } }
        tbody {
            @for (features, class, one) in rows {
                tr { td { (features) } td { (class) } td { (one.figure) } (shown(&one)) td { (answer(&one)) } }
            }
        }
    };
    table("What the answers rest on. The margins stand fixed for all evaluations", body)
}

/// Whether the network of the features has seen the images.
pub(super) fn seen(features: &FeatureInfo, found: &Evaluation) -> Markup {
    html! { @if let Some(sentence) = features.seen_in_words(&found.words) { p.callout { (sentence) } } }
}

/// Of how many patients the sets of the floor are.
fn floor(part: &FidelityPart, found: &Evaluation) -> Markup {
    let many = &found.words.many;
    let [like_holdout, rest] = part.floor.effective_patients;
    html! {
        @if let (Some(like_holdout), Some(rest)) = (like_holdout, rest) {
            p { "The real " (many) " were divided " (part.floor.draws) " times into two sets without a patient in common: one of "
                (format!("{like_holdout:.1}")) " effective patients, " (if part.pooled.against_holdout.is_some() { "like the holdout" } else { "about half" })
                ", and the rest, of " (format!("{rest:.1}")) ". The tables show the first division." }
        }
    }
}

/// A table of all classes together and one of each class.
fn scopes(part: &FidelityPart, metric: &str, found: &Evaluation) -> Markup {
    html! { @for (name, of) in part.scopes(&found.classes) { (scope(name, of, metric, found)) } }
}

/// The tables of the other features.
pub(super) fn other_features(found: &Evaluation) -> Markup {
    html! {
        @for OtherFeatures { features, fidelity } in &found.other_features {
            h4 { "By other features: " (features.name) }
            p { "The same " (found.words.many) ", compared by " (features.source) " (" (count(features.dims as u64)) " numbers per " (found.words.one)
                "). Distances of different features cannot be compared; whether a synthetic set stands apart from the real one can." }
            (seen(features, found))
            (scopes(fidelity, &features.metric, found))
        }
    }
}

fn scope(name: &str, scope: &FidelityScope, metric: &str, found: &Evaluation) -> Markup {
    let columns: Vec<(&str, &Fidelity, Option<Estimate>)> = [
        ("Synthetic, held-out", scope.against_holdout.as_ref(), scope.fld),
        ("Real, held-out", scope.real_against_holdout.as_ref(), scope.fld_real),
        ("Synthetic, real", Some(&scope.against_real), None),
        ("Real, real", Some(&scope.floor), None),
    ]
    .into_iter()
    .filter_map(|(title, figures, fld)| Some((title, figures?, fld)))
    .collect();
    type Row = (&'static str, fn(&Fidelity) -> Option<Estimate>, bool);
    let rows: [Row; 11] = [
        ("Kernel distance ↓", |f| Some(f.kid), false),
        ("Precision", |f| Some(f.precision), true),
        ("Recall", |f| Some(f.recall), true),
        ("Density", |f| Some(f.density), false),
        ("Coverage", |f| Some(f.coverage), true),
        ("Alpha-precision", |f| Some(f.alpha_precision), true),
        ("Beta-recall", |f| Some(f.beta_recall), true),
        ("Realistic", |f| Some(f.realistic), true),
        ("Rarity", |f| f.rarity, false),
        ("Vendi score", |f| Some(f.vendi), false),
        ("Fréchet distance ↓", |f| Some(f.frechet), false),
    ];
    let shown = |e: Option<Estimate>, share: bool| match e {
        None => html! { span.muted { "none" } },
        Some(e) if share => with_interval(&percent(e.value), &percent_range(e.low, e.high)),
        Some(e) => with_interval(&digits(e.value), &format!("{} to {}", digits(e.low), digits(e.high))),
    };
    let row = |(title, of, share): &Row| {
        html! { tr { th scope="row" { (title) } @for (_, figures, _) in &columns { td { (shown(of(figures), *share)) } } } }
    };
    let [others @ .., frechet] = &rows;
    let body = html! {
        thead { tr { th scope="col" { "Figure" } @for (title, ..) in &columns { th scope="col" { (title) } } } }
        tbody {
            (row(frechet))
            tr { th scope="row" { "The same as measured ↓" } @for (_, figures, _) in &columns { td { (digits(figures.frechet_measured)) } } }
            @for one in others { (row(one)) }
            @if columns.iter().any(|(.., fld)| fld.is_some()) {
                tr { th scope="row" { "Feature likelihood divergence ↓" } @for (.., fld) in &columns { td { (shown(*fld, false)) } } }
            }
        }
    };
    let (n, many) = (count(scope.images as u64), &found.words.many);
    table(&format!("{name}: {n} {many} on each side, Fréchet distance {metric}"), body)
}
