//! Whether the synthetic images give away whom the generators learned from.

use cellforge_eval::privacy::{Attack, Compared, Finding, SpacePrivacy};
use maud::{Markup, PreEscaped, html};

use super::{legend, pseudonym, space_name, synthetic_name};
use crate::{
    charts,
    evaluation::{Controls, Evaluation, PrivacyPart, Words, digits},
    reidentification::Reidentification,
    report::format::{count, table},
};

pub(super) fn figures(part: &PrivacyPart, found: &Evaluation) -> Markup {
    let (privacy, words) = (&part.figures, &found.words);
    let (one, many) = (&words.one, &words.many);
    html! {
        p { "A generator that has memorised its training " (many) " makes " (many) " that lie nearer to those it saw than to " (many) " of other patients.
            Each test below compares the " (many) " it saw with held-out " (many)
            @if privacy.by_patient { " of other patients; its p-value says how often the figure would be as high if the patients had been divided
                between the two sets at random." }
            @else { "; its p-value says how often the figure would be as high if the " (many) " had been divided between the two sets at random.
                Patients are not known, so every " (one) " stands for itself." }
        }
        (super::fidelity::seen(&found.features, found))
        (controls(part, words))
        (findings(&part.findings, words))
        @if let Some(linked) = &part.reidentification { (reidentification(linked, found)) }
        p.note { "A leak is found where the p-value, adjusted for all tests together (Westfall and Young 1993, step-down min-P), is at most "
            (format!("{:.1}%", 100.0 * (1.0 - privacy.level) / 2.0)) ". Intervals show the size of a leak and do not decide." }
        @for (name, space) in &privacy.spaces { (of_space(name, space, part, words)) }
        (method(found))
    }
}

/// What a network that tells patients apart can do, and whom it links synthetic images to.
fn reidentification(linked: &Reidentification, found: &Evaluation) -> Markup {
    let words = &found.words;
    let (one, many) = (&words.one, &words.many);
    html! {
        p { strong { "Can patients be recognised? " } (linked.in_words(words)) }
        @if !linked.most_linked.is_empty() {
            (table("Training patients to whom synthetic images are linked most", html! {
                thead { tr { th scope="col" { "Patient" } th scope="col" { "Score" } th scope="col" { (words.many_at_start()) " of the patient" } th scope="col" { "Synthetic " (one) } } }
                tbody {
                    @for patient in &linked.most_linked {
                        tr {
                            th scope="row" { (pseudonym(found, "patient", &patient.patient)) }
                            td { (digits(patient.score)) }
                            td { (pseudonym(found, "image", &patient.real)) }
                            td { (synthetic_name(found, &patient.synthetic)) }
                        }
                    }
                }
            }))
            p.note { "Scores are in standard deviations. The highest of a held-out patient is " (digits(linked.highest_holdout)) ": to these no synthetic "
                (one) " can be linked but by chance. The list always has someone at its head. Whether synthetic " (many) " are linked to training patients
                is said by the test above. Patients and their " (many) " have pseudonyms here; " code { "evaluation.json" } " has their names, in the
                same order." }
        }
    }
}

/// What the tests find in images that leak for certain, and in images that cannot.
fn controls(part: &PrivacyPart, words: &Words) -> Markup {
    let many = &words.many;
    html! {
        @if let Some(controls) = Controls::of(part) {
            p {
                strong { "Can these tests be trusted here? " }
                "Positive control: with as many training " (many) " in place of the synthetic ones, "
                (count(controls.caught as u64)) " of " (count(controls.tests as u64)) " tests find the leak, those for exact copies left out. The
                findings of the others are worth little here. "
                @match controls.accused {
                    Some(0) => { "Negative control: in " (many) " of patients whom no generator saw, no test finds a leak, as none should." },
                    Some(n) => { "Negative control: in " (many) " of patients whom no generator saw, " (count(n as u64)) " find a leak, as none should." },
                    None => { "There are too few held-out patients for a negative control, with " (many) " that cannot leak." },
                }
            }
        }
    }
}

fn findings(findings: &[Finding], words: &Words) -> Markup {
    let range = |finding: &Finding| {
        finding
            .interval
            .map_or(String::new(), |interval| format!("{} to {}", digits(interval.low), digits(interval.high)))
    };
    let body = html! {
        thead { tr { th scope="col" { "Test" } th scope="col" { "Figure" } th scope="col" { "By chance" } th scope="col" { "p" } th scope="col" { "p (all tests)" } th scope="col" { "Leak" } } }
        tbody {
            @for finding in findings {
                tr {
                    th scope="row" { (test_name(&finding.test, words)) @if let Some(space) = &finding.space { br; span.range { (space_name(space)) } } }
                    td { span.value { (digits(finding.value)) } " " span.range { (range(finding)) } }
                    @match finding.chance {
                        Some(chance) => {
                            td { span.value { (digits(chance.mean)) } " " span.range { (digits(chance.low)) " to " (digits(chance.high)) } }
                            td { (format!("{:.4}", chance.p)) }
                        },
                        None => { td {} td {} },
                    }
                    td { @if finding.chance.is_some() { (format!("{:.4}", finding.p_adjusted)) } }
                    td { @if finding.leaks { span.answer.bad { (found_word(finding)) } } @else { (found_word(finding)) } }
                }
            }
        }
    };
    table("Tests for leaks", body)
}

/// Whether a test found a leak, in a word or two.
pub(crate) fn found_word(finding: &Finding) -> &'static str {
    match (finding.leaks, finding.conclusive) {
        (true, _) => "found",
        (false, true) => "none",
        (false, false) => "cannot tell",
    }
}

/// A test in words.
pub(crate) fn test_name(test: &str, words: &Words) -> String {
    let (one, many) = (&words.one, &words.many);
    let of = |rest: &str| match rest {
        "image_auc" => format!(", {many}, area"),
        "image_tpr" => format!(", {many}, found at 1% false alarms"),
        "patient_auc" => ", patients, area".to_owned(),
        "patient_tpr" => ", patients, found at 1% false alarms".to_owned(),
        _ => String::new(),
    };
    for (prefix, title) in [
        ("gan_leaks_calibrated_", "Membership by distance, calibrated"),
        ("gan_leaks_", "Membership by distance"),
        ("logan_", "Membership by the discriminator"),
        ("reidentification_", "Links to patients by a network that tells patients apart"),
    ] {
        if let Some(rest) = test.strip_prefix(prefix) {
            return format!("{title}{}", of(rest));
        }
    }
    match test {
        "nearer_to_train" => format!("Share nearer to training than to held-out {many}"),
        "identical" => format!("{} identical to a training {one}", words.many_at_start()),
        "closest_nearer_to_train" => format!("The same among the {many} closest to any real {one}"),
        "copying" => "Copying (C_T; below 0 is copying)".to_owned(),
        "authenticity" => format!("Authentic {many}, less those among held-out ones"),
        other => other.replace('_', " "),
    }
}

fn of_space(name: &str, space: &SpacePrivacy, part: &PrivacyPart, words: &Words) -> Markup {
    let (one, many) = (&words.one, &words.many);
    let mut attacks: Vec<(String, &Attack)> = Vec::new();
    attacks.push((format!("distance, {many}"), &space.gan_leaks.image));
    attacks.push((format!("calibrated, {many}"), &space.gan_leaks_calibrated.image));
    if let Some(attack) = &space.gan_leaks_calibrated.patient {
        attacks.push(("calibrated, patients".to_owned(), attack));
    }
    if let Some(logan) = &part.figures.logan {
        attacks.push((format!("discriminator, {many}"), &logan.image));
    }
    let curves: Vec<&[(f64, f64)]> = attacks.iter().map(|(_, attack)| attack.roc.as_slice()).collect();
    let names: Vec<&str> = attacks.iter().map(|(name, _)| name.as_str()).collect();
    html! {
        h4 { "By " (space_name(name)) }
        div.plots {
            (histogram(&format!("Distance to the nearest training {one}"), &space.dcr, "distance", words))
            (histogram(&format!("Nearest over second nearest training {one}"), &space.nndr, "ratio of distances", words))
            figure.plot {
                figcaption { "Membership attacks" }
                (legend(&names))
                div role="img" aria-label={ "ROC curves of the membership attacks by " (space_name(name)) ". The areas are in the table above." } { (PreEscaped(charts::rocs(&curves))) }
            }
        }
    }
}

fn histogram(title: &str, compared: &Compared, x: &str, words: &Words) -> Markup {
    let (many, y) = (&words.many, format!("share of {}", words.many));
    let holdout = compared.holdout.as_ref();
    html! {
        @if let Some(svg) = charts::histograms(&compared.edges, &compared.synthetic.counts, holdout.map(|h| h.counts.as_slice()), [x, &y]) {
            figure.plot {
                figcaption { (title) }
                (legend(if holdout.is_some() { &["synthetic", "held-out real"] } else { &["synthetic"] }))
                div role="img" aria-label={ (title) ": histogram of synthetic " (many) ", and of held-out ones as the baseline." } { (PreEscaped(svg)) }
                p.note {
                    "Lowest 5%: synthetic " (digits(compared.synthetic.q05.value))
                    @if let Some(holdout) = holdout { ", held-out " (digits(holdout.q05.value)) }
                    "; median " (digits(compared.synthetic.median.value))
                    @if let Some(holdout) = holdout { " and " (digits(holdout.median.value)) }
                    "."
                }
            }
        }
    }
}

fn method(found: &Evaluation) -> Markup {
    let many = &found.words.many;
    html! {
        p.note {
            "Distances are Euclidean, in pixels and in features. The share nearer to training, the closest " (many) ", exact copies and membership by
            distance search synthetic " (many) " in all orientations where the features are computed here. The other tests take them as they
            are. Copying is the test of Meehan, Chaudhuri and Dasgupta (2020); authenticity is that of Alaa et al. (2022)."
        }
        p.note {
            "The p-values assume that a patient could have stood on either side. Features of a network that was trained on the training " (many) " do not
            quite meet this: the network has seen one side, and its features may miss a leak. Pixels have seen neither."
        }
        p.note {
            "Membership attacks are GAN-Leaks, plain and calibrated (Chen et al. 2020)"
            @if !found.not_measured.contains_key("discriminator") { ", and LOGAN on the discriminators' scores (Hayes et al. 2019)" }
            ", reported by area and by the share found at 1% false alarms (Carlini et al. 2022)."
        }
    }
}
