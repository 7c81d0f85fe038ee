//! Whether the synthetic images give away whom the generators learned from.

use cellforge_eval::privacy::{Attack, Compared, Finding, SpacePrivacy};
use maud::{Markup, PreEscaped, html};

use super::{legend, space_name};
use crate::{
    charts,
    evaluation::{Controls, Evaluation, PrivacyPart, digits},
    report::format::{count, table},
};

pub(super) fn figures(part: &PrivacyPart, found: &Evaluation) -> Markup {
    let privacy = &part.figures;
    html! {
        p { "A generator that learned its images by heart makes images that lie nearer to those it saw than to images of other patients. Each test below
            compares the images it saw with held-out images"
            @if privacy.by_patient { " of other patients; its p-value says how often the figure would be as high if the patients had been shared out
                between the two sets by lot." }
            @else { "; its p-value says how often the figure would be as high if the images had been shared out between the two sets by lot. Patients
                are not known, so every image stands for itself." }
        }
        (controls(part))
        (findings(&part.findings))
        p.note { "A leak is found where the p-value, adjusted for the number of tests (Holm 1979), is at most "
            (format!("{:.1}%", 100.0 * (1.0 - privacy.level) / 2.0)) ". Intervals show the size of a leak and do not decide." }
        @for (name, space) in &privacy.spaces { (of_space(name, space, part)) }
        (method(found))
    }
}

/// What the tests say of images that leak for certain, and of images that cannot.
fn controls(part: &PrivacyPart) -> Markup {
    html! {
        @if let Some(controls) = Controls::of(part) {
            p {
                strong { "Can these tests be trusted here? " }
                "Given training images themselves in place of the synthetic ones, as many as there are of these, "
                (count(controls.caught as u64)) " of " (count(controls.tests as u64)) " tests find the leak, those for exact copies left out: what
                the others say is worth little here. "
                @match controls.accused {
                    Some(0) => "Given images of patients whom no generator saw, none does, as none should.",
                    Some(n) => { "Given images of patients whom no generator saw, " (count(n as u64)) " find one, as none should." },
                    None => "There are too few held-out patients to see what they say of images that cannot leak.",
                }
            }
        }
    }
}

fn findings(findings: &[Finding]) -> Markup {
    let range = |finding: &Finding| {
        finding
            .interval
            .map_or(String::new(), |interval| format!("{} to {}", digits(interval.low), digits(interval.high)))
    };
    let body = html! {
        thead { tr { th scope="col" { "Test" } th scope="col" { "Figure" } th scope="col" { "By lot" } th scope="col" { "p" } th scope="col" { "p (Holm)" } th scope="col" { "Leak" } } }
        tbody {
            @for finding in findings {
                tr {
                    th scope="row" { (test_name(&finding.test)) @if let Some(space) = &finding.space { br; span.range { (space_name(space)) } } }
                    td { span.value { (digits(finding.value)) } " " span.range { (range(finding)) } }
                    @match finding.chance {
                        Some(chance) => {
                            td { span.value { (digits(chance.mean)) } " " span.range { (digits(chance.low)) " to " (digits(chance.high)) } }
                            td { (format!("{:.4}", chance.p)) }
                        },
                        None => { td {} td {} },
                    }
                    td { @if finding.chance.is_some() { (format!("{:.4}", finding.p_adjusted)) } }
                    td { @if finding.leaks { span.answer.bad { "found" } } @else if finding.conclusive { "none" } @else { "cannot tell" } }
                }
            }
        }
    };
    table("Tests for leaks", body)
}

/// A test in words.
fn test_name(test: &str) -> String {
    let of = |rest: &str| match rest {
        "image_auc" => ", images, area",
        "image_tpr" => ", images, found at 1% false alarms",
        "patient_auc" => ", patients, area",
        "patient_tpr" => ", patients, found at 1% false alarms",
        _ => "",
    };
    for (prefix, title) in [
        ("gan_leaks_calibrated_", "Membership by distance, calibrated"),
        ("gan_leaks_", "Membership by distance"),
        ("logan_", "Membership by the discriminator"),
    ] {
        if let Some(rest) = test.strip_prefix(prefix) {
            return format!("{title}{}", of(rest));
        }
    }
    match test {
        "nearer_to_train" => "Share nearer to training than to held-out images".to_owned(),
        "identical" => "Images identical to a training image".to_owned(),
        "closest_nearer_to_train" => "The same among the images closest to any real image".to_owned(),
        "copying" => "Copying (C_T; below 0 is copying)".to_owned(),
        "authenticity" => "Authentic images, less those among held-out ones".to_owned(),
        other => other.replace('_', " "),
    }
}

fn of_space(name: &str, space: &SpacePrivacy, part: &PrivacyPart) -> Markup {
    let mut attacks: Vec<(&str, &Attack)> = Vec::new();
    attacks.push(("distance, images", &space.gan_leaks.image));
    attacks.push(("calibrated, images", &space.gan_leaks_calibrated.image));
    if let Some(attack) = &space.gan_leaks_calibrated.patient {
        attacks.push(("calibrated, patients", attack));
    }
    if let Some(logan) = &part.figures.logan {
        attacks.push(("discriminator, images", &logan.image));
    }
    let curves: Vec<&[(f64, f64)]> = attacks.iter().map(|(_, attack)| attack.roc.as_slice()).collect();
    let names: Vec<&str> = attacks.iter().map(|(name, _)| *name).collect();
    html! {
        h4 { "By " (space_name(name)) }
        div.plots {
            (histogram("Distance to the nearest training image", &space.dcr, "distance"))
            (histogram("Nearest over second nearest training image", &space.nndr, "ratio of distances"))
            figure.plot {
                figcaption { "Membership attacks" }
                (legend(&names))
                div role="img" aria-label={ "ROC curves of the membership attacks by " (space_name(name)) ". The areas are in the table above." } { (PreEscaped(charts::rocs(&curves))) }
            }
        }
    }
}

fn histogram(title: &str, compared: &Compared, x: &str) -> Markup {
    let holdout = compared.holdout.as_ref();
    html! {
        @if let Some(svg) = charts::histograms(&compared.edges, &compared.synthetic.counts, holdout.map(|h| h.counts.as_slice()), x) {
            figure.plot {
                figcaption { (title) }
                (legend(if holdout.is_some() { &["synthetic", "held-out real"] } else { &["synthetic"] }))
                div role="img" aria-label={ (title) ": histogram of synthetic images, and of held-out ones as the baseline." } { (PreEscaped(svg)) }
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
    html! {
        p.note {
            "Distances are Euclidean, in pixels and in features. For the share nearer to training, the closest images, exact copies and membership by
            distance, synthetic images are searched in all eight orientations where the features are computed here; for the rest they are taken as they
            are. Copying is Meehan, Chaudhuri and Dasgupta's test (2020); authenticity is that of Alaa et al. (2022)."
        }
        p.note {
            "By lot means that patients could have stood on either side. Features of a network that was trained on the training images are not quite so: it
            has seen one side, and a leak may be missed by them. Pixels have seen neither."
        }
        p.note {
            "Membership attacks are GAN-Leaks, plain and calibrated (Chen et al. 2020)"
            @if !found.not_measured.contains_key("discriminator") { ", and LOGAN on the discriminators' scores (Hayes et al. 2019)" }
            ", reported by area and by the share found at 1% false alarms (Carlini et al. 2022)."
        }
    }
}
