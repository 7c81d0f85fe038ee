//! Whether figures of synthetic images are as good as those of real images of other patients: equivalence within margins that stand fixed.

use cellforge_eval::{Estimate, Fidelity};
use serde::{Deserialize, Serialize};

use super::{Answer, FeatureInfo, FidelityPart, FidelityScope, FloorDraw};

/// How much worse than real images of other patients a figure of synthetic images may be and still count as good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// The figure, as reports call it.
    pub figure: &'static str,
    /// The answer that it bears on: `realism`, `coverage` or `utility`.
    pub about: &'static str,
    /// The margin: a share for shares, and a share of the real images' variance for the Fréchet distance.
    pub margin: f64,
}

pub(super) const DISTANCE: &str = "Fréchet distance";
pub(super) const PRECISION: &str = "precision";
pub(super) const RECALL: &str = "recall";
pub(super) const COVERAGE: &str = "coverage";
pub(super) const ACCURACY: &str = "accuracy";

/// All margins. They stand fixed, so that fewer patients, whose intervals are wider, never make a verdict kinder.
///
/// A figure is as good where the interval of its difference to the same figure of real images lies within the margin, and worse where
/// that interval shows it to be and no division of the real images has one as bad (Schuirmann 1987, J. Pharmacokinetics and
/// Biopharmaceutics 15:657-680, for the first).
pub const MARGINS: &[Margin] = &[
    Margin { figure: DISTANCE, about: "realism", margin: 0.05 },
    Margin { figure: PRECISION, about: "realism", margin: 0.1 },
    Margin { figure: RECALL, about: "coverage", margin: 0.1 },
    Margin { figure: COVERAGE, about: "coverage", margin: 0.1 },
    Margin { figure: ACCURACY, about: "utility", margin: 0.02 },
];

/// Images of each class on each side below which nothing is said.
pub const LEAST_IMAGES: usize = 100;

/// Effective patients of each class, of real images and of held-out ones, below which nothing is said.
pub const LEAST_PATIENTS: f64 = 8.0;

/// The margin of a figure in [`MARGINS`].
pub(super) fn margin(figure: &str) -> f64 {
    MARGINS.iter().find(|one| one.figure == figure).map_or(0.0, |one| one.margin)
}

/// How a figure of synthetic images compares with that of real images of other patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Equivalence {
    /// The interval of the difference lies within the margin.
    AsGood,
    /// The interval shows a difference, and no division of the real images has a figure as bad.
    Worse,
    /// Neither.
    Unclear,
}

/// A figure of synthetic images, held against the same figure of real images of other patients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The figure, as in [`MARGINS`].
    pub figure: String,
    /// The figure of the synthetic images less that of the real ones.
    pub difference: Estimate,
    /// How much worse it may be, in the units of the figure.
    pub margin: f64,
    /// What follows.
    pub answer: Equivalence,
}

/// All comparisons of a scope, of which `comparisons` is not looked at.
pub(super) fn comparisons(scope: &FidelityScope) -> Vec<Comparison> {
    type Share = (&'static str, fn(&Fidelity) -> Estimate, fn(&FloorDraw) -> f64);
    let shares: [Share; 3] = [
        (PRECISION, |found| found.precision, |floor| floor.prdc.precision),
        (RECALL, |found| found.recall, |floor| floor.prdc.recall),
        (COVERAGE, |found| found.coverage, |floor| floor.prdc.coverage),
    ];
    let [found, real] = scope.judged();
    let (difference, margin_of) = (found.frechet.less(real.frechet), margin(DISTANCE) * found.variance);
    let answer = if difference.high <= margin_of {
        Equivalence::AsGood
    } else if difference.low > 0.0 && found.frechet_measured > scope.floor_range.high {
        Equivalence::Worse
    } else {
        Equivalence::Unclear
    };
    let distance = Comparison { figure: DISTANCE.to_owned(), difference, margin: margin_of, answer };
    let of_share = |(figure, of, of_floor): Share| {
        let (found, real) = (of(found), of(real));
        let (difference, margin) = (found.less(real), margin(figure));
        // Where real images of other patients do not reach half themselves, there is nothing to compare with.
        let answer = if real.low < 0.5 {
            Equivalence::Unclear
        } else if difference.low >= -margin {
            Equivalence::AsGood
        } else if difference.high < 0.0 && scope.floors.iter().all(|floor| found.value < of_floor(floor)) {
            Equivalence::Worse
        } else {
            Equivalence::Unclear
        };
        Comparison { figure: figure.to_owned(), difference, margin, answer }
    };
    std::iter::once(distance).chain(shares.map(of_share)).collect()
}

/// Fidelity by each kind of features, the main one first.
pub(super) type ByFeatures<'a> = [(&'a FeatureInfo, &'a FidelityPart)];

/// One answer for all classes and all features: worse where one is worse, as good where all are. Classes are compared one by one, since
/// among all together the share of each class varies with the patients who are drawn.
pub(super) fn over_all(all: &ByFeatures<'_>, figure: &str) -> Equivalence {
    let scopes = all.iter().flat_map(|(_, part)| part.per_class.values());
    let comparisons = scopes.flat_map(|scope| &scope.comparisons).filter(|one| one.figure == figure);
    let found: Vec<Equivalence> = comparisons.map(|one| one.answer).collect();
    if found.contains(&Equivalence::Worse) {
        Equivalence::Worse
    } else if found.iter().all(|&one| one == Equivalence::AsGood) {
        Equivalence::AsGood
    } else {
        Equivalence::Unclear
    }
}

/// What two figures say together.
pub(super) fn answer(figures: [Equivalence; 2]) -> Answer {
    let count = |which| figures.iter().filter(|&&figure| figure == which).count();
    match (count(Equivalence::AsGood), count(Equivalence::Worse)) {
        (2, _) => Answer::Good,
        (_, 2) => Answer::Bad,
        (_, 1) => Answer::Caution,
        _ => Answer::Unknown,
    }
}

/// Why the images are too few to say anything about how they look or what they cover, or `None` if they are enough.
pub(super) fn too_few(part: &FidelityPart) -> Option<String> {
    for (class, scope) in &part.per_class {
        if scope.images < LEAST_IMAGES {
            return Some(format!(
                "only {} images of {class} a side could be compared, and {LEAST_IMAGES} are needed",
                scope.images
            ));
        }
        let [_, real] = scope.judged();
        let judged_on = if scope.against_holdout.is_some() { "held-out" } else { "real" };
        for (name, found) in [(judged_on, real.reference_effective_groups), ("real", real.compared_effective_groups)] {
            if let Some(few) = found.filter(|&found| found < LEAST_PATIENTS) {
                return Some(format!(
                    "the {name} images of {class} that are compared tell as much as {few:.1} patients with one number of images would, \
                     and {LEAST_PATIENTS} are needed"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use cellforge_eval::{Features, FidelityOptions, Interval, Prdc, Sample, fidelity};

    #[test]
    fn an_interval_has_to_show_it() {
        use Equivalence::{AsGood, Unclear, Worse};
        assert_eq!(answer([AsGood, AsGood]), Answer::Good);
        assert_eq!(answer([AsGood, Unclear]), Answer::Unknown);
        assert_eq!(answer([Unclear, Worse]), Answer::Caution);
        assert_eq!(answer([Worse, Worse]), Answer::Bad);
    }

    /// Figures of real and synthetic images with these intervals around precision and distance, among floors of 0.9 and a distance of 1.
    pub(in super::super) fn scope(precision: [Estimate; 2], frechet: [Estimate; 2]) -> FidelityScope {
        let values: Vec<f32> = (0..40).map(|i| (i as f32 * 0.7).sin()).collect();
        let sample = Sample { features: Features::new(&values, 2).unwrap(), groups: None };
        let plain = fidelity(&sample, &sample, &FidelityOptions::default()).unwrap();
        let one = |side: usize| Fidelity {
            precision: precision[side],
            frechet: frechet[side],
            frechet_measured: frechet[side].value,
            variance: 10.0,
            ..plain.clone()
        };
        let prdc = Prdc { precision: 0.9, recall: 0.9, density: 1.0, coverage: 0.9 };
        FidelityScope {
            images: 20,
            against_real: one(0),
            floor: one(1),
            against_holdout: None,
            real_against_holdout: None,
            fld: None,
            fld_real: None,
            floors: vec![FloorDraw { frechet: 1.0, prdc }; 2],
            floor_range: Interval { low: 1.0, high: 1.0 },
            comparisons: Vec::new(),
        }
    }

    pub(in super::super) fn around(value: f64, reach: f64) -> Estimate {
        Estimate { value, low: value - reach, high: value + reach }
    }

    #[test]
    fn wider_intervals_never_make_a_figure_as_good() {
        let frechet = [around(1.0, 0.1); 2];
        let compare = |found, real| comparisons(&scope([found, real], frechet))[1].answer;
        // 0.9 - 0.05 + 0.04 reach: √2 · 0.04 = 0.057.
        assert_eq!(compare(around(0.88, 0.04), around(0.9, 0.04)), Equivalence::AsGood);
        assert_eq!(compare(around(0.88, 0.08), around(0.9, 0.08)), Equivalence::Unclear);
        assert_eq!(compare(around(0.7, 0.04), around(0.9, 0.04)), Equivalence::Worse);
        assert_eq!(compare(around(0.7, 0.2), around(0.9, 0.2)), Equivalence::Unclear);
        // Nothing to compare with, and a difference that one division of the real images has, too.
        assert_eq!(compare(around(0.5, 0.01), around(0.45, 0.01)), Equivalence::Unclear);
        assert_eq!(compare(around(0.92, 0.01), around(0.99, 0.001)), Equivalence::AsGood);

        let shares = [around(0.9, 0.01); 2];
        let compare = |found, real| comparisons(&scope(shares, [found, real]))[0].answer;
        // Within 5% of a variance of 10.
        assert_eq!(compare(around(1.2, 0.1), around(1.0, 0.1)), Equivalence::AsGood);
        assert_eq!(compare(around(1.2, 0.5), around(1.0, 0.5)), Equivalence::Unclear);
        assert_eq!(compare(around(2.0, 0.1), around(1.0, 0.1)), Equivalence::Worse);
        assert_eq!(compare(around(0.9, 0.01), around(0.1, 0.01)), Equivalence::Unclear);
    }
}
