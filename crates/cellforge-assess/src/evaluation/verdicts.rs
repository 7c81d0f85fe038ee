//! Answers to the four questions, drawn from intervals.

use std::collections::BTreeMap;

use cellforge_eval::Estimate;

use super::{
    Answer, FeatureInfo, FidelityScope, PrivacyPart, UtilityPart, Verdict, Words,
    equivalence::{
        ACCURACY, ByFeatures, COVERAGE, DISTANCE, Equivalence, LEAST_IMAGES, LEAST_PATIENTS, PRECISION, RECALL, answer,
        margin, over_all, too_few,
    },
};
use crate::{
    copies::CopiesPart,
    two_sample::{ToldApart, TwoSample},
};

/// The test that needs no statistics.
pub(super) const IDENTICAL: &str = "identical";

/// Where neither holds.
fn unclear(words: &Words) -> String {
    format!(
        "Whether their figures are as good as those of real {} cannot be told: the intervals of the differences reach across the margins.",
        words.many
    )
}

/// What green needs beside figures that are as good.
fn one_family(all: &ByFeatures<'_>) -> bool {
    all.iter().all(|(features, _)| features.family == all[0].0.family)
}

const ONE_FAMILY: &str = "Only one family of features was asked, and what it does not look at is not known.";

/// What figures that find no difference leave open.
fn not_asked(words: &Words) -> String {
    format!(
        "A classifier trained to tell them from real {} may still do so: such a classifier was not asked here.",
        words.many
    )
}

/// What tests that find no leak leave open.
const NOT_SEEN: &str = "Near-copies of a few patients would not have been seen by these tests.";

fn verdict(about: &str, answer: Answer, sentence: String) -> Verdict {
    let question = match about {
        "realism" => "Do they look real?",
        "coverage" => "Do they cover what is real?",
        "utility" => "Can a model be trained on them?",
        _ => "Do they leak a patient?",
    };
    Verdict { about: about.to_owned(), question: question.to_owned(), answer, sentence }
}

/// The four verdicts. A part that is missing has its reason in place of its figures.
pub(super) fn verdicts(
    fidelity: Result<&ByFeatures<'_>, &str>,
    two_sample: Option<&TwoSample>,
    utility: Result<&UtilityPart, &str>,
    copies: (&CopiesPart, usize),
    privacy: Result<&PrivacyPart, &str>,
    words: &Words,
) -> Vec<Verdict> {
    let not_measured = |about: &str, reason: &str| verdict(about, Answer::Unknown, format!("Not measured: {reason}."));
    let mut all = Vec::new();
    match fidelity {
        Ok(by_features) => {
            let few = by_features.first().and_then(|(_, part)| too_few(part));
            all.push(realism(by_features, few.as_deref(), two_sample, words));
            all.push(coverage(by_features, few.as_deref(), words));
        }
        Err(reason) => {
            all.push(two_sample.map_or_else(|| not_measured("realism", reason), |test| told(test, words)));
            all.push(not_measured("coverage", reason));
        }
    }
    all.push(utility.map_or_else(|reason| not_measured("utility", reason), |part| of_utility(part, words)));
    all.push(match privacy {
        // A copy is a leak whatever else was measured.
        _ if !copies.0.found.is_empty() => of_copies(copies.0, copies.1, privacy.ok(), words),
        Ok(part) => of_privacy(part, copies.0, words),
        Err(reason) => {
            let mut found = not_measured("privacy", reason);
            if let Some(sentence) = copies.0.near.as_ref().and_then(|near| near.in_words(words)) {
                found.sentence.push_str(&format!(" No copy of a training {} was found. {sentence}", words.one));
            }
            found
        }
    });
    all
}

/// What the two-sample test says where nothing else was measured.
fn told(test: &TwoSample, words: &Words) -> Verdict {
    let answer = match test.told_apart() {
        ToldApart::Yes => Answer::Bad,
        ToldApart::No => Answer::Caution,
        ToldApart::Unknown(_) => Answer::Unknown,
    };
    verdict("realism", answer, test.in_words(words))
}

/// The two-sample test heads the answer: images that can be told from real ones do not look real, and a green answer needs a test that
/// failed to tell them.
fn realism(all: &ByFeatures<'_>, few: Option<&str>, two_sample: Option<&TwoSample>, words: &Words) -> Verdict {
    let found = of_figures(all, few, two_sample.is_none(), words);
    let Some(test) = two_sample else { return found };
    let answer = match (test.told_apart(), found.answer) {
        (ToldApart::Yes, Answer::Good | Answer::Caution) => Answer::Caution,
        (ToldApart::Yes, _) => Answer::Bad,
        (ToldApart::Unknown(_), Answer::Good) => Answer::Caution,
        (ToldApart::No | ToldApart::Unknown(_), answer) => answer,
    };
    let (test, unknown) = (test.in_words(words), matches!(test.told_apart(), ToldApart::Unknown(_)));
    let sentence = if unknown { format!("{} {test}", found.sentence) } else { format!("{test} {}", found.sentence) };
    verdict("realism", answer, sentence)
}

/// What distance and precision in spaces of features say. `alone` where no network was trained to tell the images apart.
fn of_figures(all: &ByFeatures<'_>, few: Option<&str>, alone: bool, words: &Words) -> Verdict {
    if let Some(few) = few {
        return verdict("realism", Answer::Unknown, format!("By their figures it cannot be told: {few}."));
    }
    let many = &words.many;
    let distance = over_all(all, DISTANCE);
    let precision = over_all(all, PRECISION);
    let figures = answer([distance, precision]);
    let single = one_family(all);
    let good = || {
        format!("By these figures they are as close to real {many} as other patients' {many} are, within the margins.")
    };
    let (answer, start) = match figures {
        // No difference found by figures alone, or by what one network looks at, is no proof that there is none.
        Answer::Good if alone => (Answer::Caution, format!("{} {}", good(), not_asked(words))),
        Answer::Good if single => (Answer::Caution, format!("{} {ONE_FAMILY}", good())),
        Answer::Good => (Answer::Good, good()),
        Answer::Bad => (Answer::Bad, format!("They can be told from real {many}, both as a set and one by one.")),
        Answer::Caution if distance == Equivalence::Worse => (
            Answer::Caution,
            format!("Single {many} may come close to real ones, but as a set they differ from real {many}."),
        ),
        Answer::Caution => (
            Answer::Caution,
            format!(
                "As a set they may be close to real {many}, but many single ones are unlike any real {}.",
                words.one
            ),
        ),
        Answer::Unknown => (Answer::Unknown, unclear(words)),
    };
    let of = |features: &FeatureInfo, class: &str, scope: &FidelityScope| {
        let [found, real] = scope.judged();
        format!(
            "{class}: {} lie among {} ({} of other real {many} do), distance {} {} (real {many} of other patients: {}; margin {})",
            share(found.precision),
            reference(scope, words),
            share(real.precision),
            features.metric,
            number(found.frechet),
            number(real.frechet),
            digits(margin(DISTANCE) * found.variance),
        )
    };
    verdict("realism", answer, format!("{start} {}.", each(all, [DISTANCE, PRECISION], of)))
}

/// What synthetic images are compared with.
fn reference(scope: &FidelityScope, words: &Words) -> String {
    let which = if scope.against_holdout.is_some() { "held-out" } else { "real" };
    format!("the {which} {}", words.many)
}

/// As many classes have a clause each; more are counted.
const TOLD: usize = 3;

/// A clause for each class, by each kind of features; where there are many classes, how many of them are worse by one of `figures`.
fn each(all: &ByFeatures<'_>, figures: [&str; 2], of: impl Fn(&FeatureInfo, &str, &FidelityScope) -> String) -> String {
    let by_features = |(features, part): &(&FeatureInfo, &super::FidelityPart)| {
        let told = if part.per_class.len() > TOLD {
            counted(&part.per_class, figures)
        } else {
            let clauses = part.per_class.iter().map(|(class, scope)| of(features, class, scope));
            clauses.collect::<Vec<_>>().join("; ")
        };
        match all.len() {
            1 => told,
            _ => format!("By {}: {told}", features.name),
        }
    };
    all.iter().map(by_features).collect::<Vec<_>>().join(". ")
}

/// How many classes are worse, and which, and how many cannot be told.
fn counted(per_class: &BTreeMap<String, FidelityScope>, figures: [&str; 2]) -> String {
    let has = |scope: &FidelityScope, answer: Equivalence| {
        scope.comparisons.iter().any(|one| figures.contains(&one.figure.as_str()) && one.answer == answer)
    };
    let n = per_class.len();
    let worse: Vec<&str> =
        per_class.iter().filter(|(_, scope)| has(scope, Equivalence::Worse)).map(|(class, _)| class.as_str()).collect();
    let unclear = |scope: &&FidelityScope| !has(scope, Equivalence::Worse) && has(scope, Equivalence::Unclear);
    let unclear = per_class.values().filter(unclear).count();
    let which = match worse.len() {
        0 => String::new(),
        few if few <= TOLD => format!(" ({})", worse.join(", ")),
        many => format!(" ({} and {} more)", worse[..TOLD].join(", "), many - TOLD),
    };
    let good = n - worse.len() - unclear;
    format!(
        "{} of {n} classes are worse{which}, {good} as good, and {unclear} cannot be told; the table has each",
        worse.len()
    )
}

fn coverage(all: &ByFeatures<'_>, few: Option<&str>, words: &Words) -> Verdict {
    if let Some(few) = few {
        return verdict("coverage", Answer::Unknown, format!("It cannot be told: {few}."));
    }
    let (one, many) = (&words.one, &words.many);
    let recall = over_all(all, RECALL);
    let coverage = over_all(all, COVERAGE);
    let varied = || format!("They are as varied as real {many} are, within the margins.");
    let (answer, start) = match answer([recall, coverage]) {
        Answer::Good if one_family(all) => (Answer::Caution, format!("{} {ONE_FAMILY}", varied())),
        Answer::Good => (Answer::Good, varied()),
        Answer::Bad => (Answer::Bad, format!("They leave out part of what real {many} show.")),
        Answer::Caution => {
            (Answer::Caution, format!("They come close to some of what real {many} show and leave out the rest."))
        }
        Answer::Unknown => (Answer::Unknown, unclear(words)),
    };
    let of = |_: &FeatureInfo, class: &str, scope: &FidelityScope| {
        let [found, real] = scope.judged();
        format!(
            "{class}: {} of {} have a synthetic {one} near by (another real {one}: {}), {} lie within the spread of the synthetic \
             ones (of other real ones: {})",
            share(found.coverage),
            reference(scope, words),
            share(real.coverage),
            share(found.recall),
            share(real.recall),
        )
    };
    verdict("coverage", answer, format!("{start} {}.", each(all, [RECALL, COVERAGE], of)))
}

fn of_utility(part: &UtilityPart, words: &Words) -> Verdict {
    let many = &words.many;
    let utility = &part.figures;
    let gap = utility.tstr_gap.difference;
    let chance = utility.test.per_class.values().copied().max().unwrap_or(0) as f64 / utility.test.images.max(1) as f64;
    let learned = utility.trtr.accuracy.low > chance;
    let tolerated = margin(ACCURACY);
    let (images, units) = (utility.test.images, utility.tstr_gap.units);
    let few = images < LEAST_IMAGES || (utility.tstr_gap.by_group && (units as f64) < LEAST_PATIENTS);
    let answer = if !learned || few {
        Answer::Unknown
    } else if gap.low >= -tolerated {
        Answer::Good
    } else if gap.high < -tolerated {
        Answer::Bad
    } else {
        Answer::Unknown
    };
    let start = match answer {
        Answer::Good => {
            format!(
                "Yes: a classifier trained on them alone does as well on real {many} as one trained on real {many}."
            )
        }
        Answer::Bad => {
            format!("Not in place of real {many}: a classifier trained on them alone does worse on real {many}.")
        }
        _ if few => format!(
            "It cannot be told: there are {images} test {many} of {units} {}, and {LEAST_IMAGES} of {LEAST_PATIENTS} are needed.",
            if utility.tstr_gap.by_group { "patients" } else { "units" }
        ),
        _ if !learned => format!("It cannot be told: the classifier did not learn the task from real {many} either."),
        _ => "It cannot be told whether a classifier trained on them alone does as well: the interval is too wide."
            .to_owned(),
    };
    let mut sentence = format!(
        "{start} Right on {} of the real test {many}, against {} ({} points).",
        share(utility.tstr.accuracy),
        share(utility.trtr.accuracy),
        points(gap),
    );
    let limit = 1.0 - utility.config.bootstrap.level;
    let tested: Vec<_> = utility.augmentation.iter().filter(|point| point.p_holm.is_some()).collect();
    let found = |sign: f64| {
        let of = |point: &&&crate::utility::UtilityPoint| {
            let up = point.difference.is_some_and(|found| found.difference.value * sign > 0.0);
            up && point.p_holm.is_some_and(|p| p <= limit)
        };
        tested.iter().filter(of).count()
    };
    if !tested.is_empty() {
        sentence.push_str(&format!(
            " Added to real {many} they helped in {} and hurt in {} of {} comparisons{}.",
            found(1.0),
            found(-1.0),
            tested.len(),
            match tested.iter().filter(|point| point.short).count() {
                0 => String::new(),
                short => format!(", {short} of them with fewer than were to be added"),
            }
        ));
    }
    verdict("utility", answer, sentence)
}

/// Copies head everything: they need no other test.
fn of_copies(copies: &CopiesPart, images: usize, part: Option<&PrivacyPart>, words: &Words) -> Verdict {
    let mut sentence = format!("Yes: {}", copies.in_words(words, images).unwrap_or_default());
    if let Some(part) = part {
        let leaks = part.findings.iter().filter(|finding| finding.leaks).count();
        sentence.push_str(&format!(" Of the other {} tests {leaks} find a leak.", part.findings.len()));
    }
    verdict("privacy", Answer::Bad, sentence)
}

fn of_privacy(part: &PrivacyPart, searched: &CopiesPart, words: &Words) -> Verdict {
    let (one, many) = (&words.one, &words.many);
    let found = |exact: bool| part.findings.iter().filter(|f| f.leaks && (f.test == IDENTICAL) == exact).count();
    let (copies, leaks, tests) = (found(true), found(false), part.findings.len());
    let controls = super::controls::Controls::of(part);
    let accused = controls.and_then(|controls| controls.accused).unwrap_or(0);
    let none = format!("No leak was found by any of {tests} tests");
    let seen = match searched.near.as_ref().map(|near| near.in_words(words)) {
        Some(Some(sentence)) => format!("No copy of a training {one} was found. {sentence}"),
        Some(None) => {
            format!("No copy of a training {one} was found; how small a leak would have been found was not looked at.")
        }
        None => NOT_SEEN.to_owned(),
    };
    let (answer, start) = match controls {
        // An image that equals a training image needs no statistics.
        _ if copies > 0 || (leaks > 0 && accused == 0) => (
            Answer::Bad,
            format!(
                "Yes: {} of {tests} tests find that the synthetic {many} give away {many} that the generators learned from.",
                copies + leaks
            ),
        ),
        _ if accused > 0 => (
            Answer::Unknown,
            format!(
                "It cannot be told: the tests also accuse {many} that cannot leak, of patients whom no generator saw."
            ),
        ),
        None => (Answer::Unknown, format!("{none}, but what they can find was not looked at. {seen}")),
        Some(found) if 2 * found.caught >= found.tests => (
            Answer::Good,
            format!(
                "{none}. Of the {} that do not look for exact copies, {} find the leak where as many training {many} stand in place of the \
                 synthetic ones. {seen}",
                found.tests, found.caught
            ),
        ),
        Some(found) if found.caught > 0 => (
            Answer::Caution,
            format!(
                "{none}, but with these few {many} only {} of the {} that do not look for exact copies would find training {many} in \
                 place of the synthetic ones. {seen}",
                found.caught, found.tests
            ),
        ),
        Some(_) => (
            Answer::Unknown,
            format!("{none}, but these few {many} would hide even training {many} that are a little changed. {seen}"),
        ),
    };
    let patients = if part.figures.by_patient {
        String::new()
    } else {
        format!(" The patients are not known, so the tests take every {one} for a patient of its own.")
    };
    // Green needs known patients, and a search for copies that would have found a leak of any kind if it were a tenth of the images.
    let searched = searched.near.as_ref().is_some_and(|near| near.sees_every_kind());
    let answer =
        if answer == Answer::Good && !(part.figures.by_patient && searched) { Answer::Caution } else { answer };
    verdict("privacy", answer, format!("{start}{patients}"))
}

/// A share as `61% (58 to 64%)`.
fn share(e: Estimate) -> String {
    format!("{:.0}% ({:.0} to {:.0}%)", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high)
}

fn points(e: Estimate) -> String {
    format!("{:+.1}, {:+.1} to {:+.1}", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high)
}

/// A distance to three digits, with its interval.
fn number(e: Estimate) -> String {
    format!("{} ({} to {})", digits(e.value), digits(e.low), digits(e.high))
}

/// Three digits that mean something, as people write them.
pub(crate) fn digits(x: f64) -> String {
    let size = x.abs();
    if size >= 100.0 {
        format!("{x:.0}")
    } else if size >= 10.0 {
        format!("{x:.1}")
    } else if size >= 1.0 {
        format!("{x:.2}")
    } else if size >= 0.001 || size == 0.0 {
        format!("{x:.3}")
    } else {
        format!("{x:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_classes_are_counted() {
        use crate::evaluation::equivalence::{
            comparisons,
            tests::{around, scope},
        };
        let frechet = [around(1.0, 0.1); 2];
        let of = |found: Estimate| {
            let mut scope = scope([found, around(0.9, 0.04)], frechet);
            scope.comparisons = comparisons(&scope);
            scope
        };
        let (good, unclear, worse) = (around(0.88, 0.04), around(0.88, 0.3), around(0.7, 0.04));
        let all = [good, worse, worse, unclear, worse, worse, worse];
        let per_class = all.into_iter().enumerate().map(|(i, found)| (format!("c{i}"), of(found))).collect();
        assert_eq!(
            counted(&per_class, [DISTANCE, PRECISION]),
            "5 of 7 classes are worse (c1, c2, c4 and 2 more), 1 as good, and 1 cannot be told; the table has each"
        );
        // By figures that all classes have alike.
        assert!(counted(&per_class, [DISTANCE, DISTANCE]).starts_with("0 of 7 classes are worse, 7 as good"));
    }

    #[test]
    fn three_digits() {
        assert_eq!([123.4, 12.34, 1.234, 0.1234, 0.0].map(digits), ["123", "12.3", "1.23", "0.123", "0.000"]);
        assert_eq!(digits(0.000_123), "1.2e-4");
    }
}
