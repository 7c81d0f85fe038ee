//! Tables of realism and coverage.

use cellforge_eval::{Estimate, Fidelity};
use maud::{Markup, html};

use crate::{
    evaluation::{Evaluation, FidelityPart, FidelityScope, digits},
    report::format::{count, percent, percent_range, table, with_interval},
};

pub(super) fn figures(part: &FidelityPart, found: &Evaluation) -> Markup {
    let classes = found.classes.iter().filter_map(|class| Some((class.as_str(), part.per_class.get(class)?)));
    let halves = if part.halves_by_patient { "other patients" } else { "other images" };
    html! {
        @if part.pooled.against_holdout.is_some() {
            p { "The first two columns are what the answers above rest on: synthetic images, and half of the real ones, each against held-out images,
                which neither the generator nor that half has in it. A generator as good as reality would have the figures of these real images. In the
                next two, half of the real images is what is compared with: the generator has seen it, and can come nearer to it than the other half, of "
                (halves) ", does." }
        } @else {
            p { "Every figure stands beside the same figure between real images (the floor): half of the real images against the other half, of "
                (halves) ". The generator has seen both halves, so it can come nearer to one than the other does." }
        }
        p { "All comparisons have the same numbers of images, because distances depend on them. An arrow marks figures that are better when low." }
        (scope("All classes", &part.pooled, &found.features.metric))
        @for (name, of_class) in classes { (scope(name, of_class, &found.features.metric)) }
        p.note {
            "The Fréchet distance compares means and covariances of features (Heusel et al. 2017); it is called FID only with Inception-v3. The
            kernel distance (Bińkowski et al. 2018) compares all pairs through a polynomial kernel and does not grow when images are few."
        }
        p.note {
            "Precision is the share of synthetic images within the spread of the real ones, recall the share of real images within the spread of the
            synthetic ones (Kynkäänniemi et al. 2019). Density and coverage are their sturdier kin (Naeem et al. 2020): real neighbourhoods per
            synthetic image, and the share of real images with a synthetic image among their " (found.settings.fidelity.k) " nearest."
        }
    }
}

fn scope(name: &str, scope: &FidelityScope, metric: &str) -> Markup {
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
    let image = |e: Estimate, share: bool| {
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
                tr { th scope="row" { (title) } @for (_, figures) in &columns { td { (image(of(figures), *share)) } } }
            }
        }
    };
    table(&format!("{name}: {} images on each side, Fréchet distance {metric}", count(scope.images as u64)), body)
}
