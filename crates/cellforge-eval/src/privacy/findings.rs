//! What the figures say: a verdict for each test.

use serde::{Deserialize, Serialize};

use crate::{Estimate, Interval};

use super::{Attack, Chance, Membership, Privacy, SpacePrivacy};

/// The verdict of one test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the space; none for the scores of networks.
    pub space: Option<String>,
    /// Name of the test: `identical`, `nearer_to_train`, `closest_nearer_to_train`, `copying`, `authenticity`, or `gan_leaks`, `gan_leaks_calibrated` and `logan`, each with
    /// `_image_auc`, `_image_tpr` and, where patients are known, `_patient_auc`; or `reidentification_patient_auc`.
    pub test: String,
    /// The figure.
    pub value: f64,
    /// What the figure is by its definition when nothing leaks. For some figures that holds only of a generator that makes perfect new
    /// images, see [`Chance`].
    pub ideal: f64,
    /// Interval of the figure, by patients where they are known: for the size of a leak. It does not decide.
    pub interval: Option<Interval>,
    /// The figure when membership is anyone's guess, and its p-value; none for `identical`, to which chance has no part.
    pub chance: Option<Chance>,
    /// The p-value adjusted for all tests ([`Privacy::adjusted`]); of `identical` 0 where there are such images, else 1.
    pub p_adjusted: f64,
    /// Whether a leak is found: the adjusted p-value is at most `(1 - level) / 2`.
    pub leaks: bool,
    /// Whether there are patients enough for this test to find a leak at all.
    pub conclusive: bool,
    /// The figure and the verdict in plain words.
    pub in_words: String,
}

impl Privacy {
    /// One finding per test, in the order of the spaces, those of networks last.
    ///
    /// A test finds a leak when its one-sided p-value, adjusted for all tests together ([`Privacy::adjusted`], and twice that where patients
    /// were to be re-identified, which has labellings of its own), is at most `(1 - level) / 2`,
    /// 2.5% by default. So in at most 2.5% of studies is a generator accused by any test that did not depend on who was in training,
    /// however bad its images are, as long as patients were shared out at random.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, space) in &self.spaces {
            of_space(name, space, &mut findings);
        }
        if let Some(logan) = &self.logan {
            of_membership(None, "logan", logan, &mut findings);
        }
        // Images of one patient are linked together: the area over patients alone is a test.
        let linked = self.reidentification.as_ref().and_then(|found| found.patient.as_ref());
        findings.extend(linked.map(|patient| area(None, "reidentification", patient, "patient")));
        // It has labellings of its own: two families share the error.
        let families = if linked.is_some() { 2.0 } else { 1.0 };
        // Of figures that were read from an altered file, none is a leak for which there is no p-value.
        let others = findings.iter().filter(|finding| finding.chance.is_some()).count() - usize::from(linked.is_some());
        let adjusted = self.adjusted.iter().copied().chain(std::iter::repeat(1.0)).take(others);
        let adjusted = adjusted.chain(linked.map(|patient| patient.auc_chance.p)).map(|p| (families * p).min(1.0));
        let adjusted: Vec<f64> = adjusted.collect();
        let limit = (1.0 - self.level) / 2.0 + 1e-12;
        let conclusive = families * self.smallest_adjusted <= limit;
        for (finding, p_adjusted) in findings.iter_mut().filter(|finding| finding.chance.is_some()).zip(adjusted) {
            finding.p_adjusted = p_adjusted;
            finding.leaks = p_adjusted <= limit;
            finding.conclusive = conclusive;
            finding.in_words.push_str(&match (finding.leaks, conclusive) {
                (true, _) => format!(" That is a leak (p = {p_adjusted:.4} over all tests)."),
                (false, true) => format!(" That shows no leak (p = {p_adjusted:.3} over all tests)."),
                (false, false) => " There are too few patients for this test to show a leak.".to_owned(),
            });
        }
        findings
    }

    /// Whether any test finds a leak.
    #[must_use]
    pub fn leaks(&self) -> bool {
        self.findings().iter().any(|finding| finding.leaks)
    }
}

fn of_space(name: &str, space: &SpacePrivacy, findings: &mut Vec<Finding>) {
    findings.push(of_identical(name, space.identical));
    let mut push = |test: &str, value, ideal, interval, chance: Chance, in_words| {
        findings.push(finding(Some(name), test, value, ideal, interval, chance, in_words));
    };
    let (share, chance) = (&space.nearer_to_train, space.nearer_to_train.chance);
    let words = format!(
        "Evened out for the numbers of patients, {:.1}% of the synthetic images are nearer to training than to the holdout; {:.1}% to \
         {:.1}% come about by chance.",
        100.0 * share.rate,
        100.0 * chance.low,
        100.0 * chance.high,
    );
    push("nearer_to_train", share.rate, 0.5, share.by_patient.or(Some(share.binomial)), chance, words);

    let (closest, chance) = (&space.closest_nearer_to_train, space.closest_nearer_to_train.chance);
    let words = closest.strongest_cut().map_or_else(String::new, |cut| {
        format!(
            "Of the {} synthetic images that come closest to real ones, {} are nearest to a training image, where {:.1} are to be \
             expected: {:.1} standard deviations, and {:.1} to {:.1} come about by chance.",
            cut.images,
            cut.successes,
            share.expected * cut.images as f64,
            cut.z,
            chance.low,
            chance.high,
        )
    });
    push("closest_nearer_to_train", closest.strongest, 0.0, None, chance, words);

    let (copying, chance) = (&space.copying, space.copying.chance);
    let words = format!(
        "Against held-out images, synthetic images are {} training images by C_T = {:.2}; {:.2} to {:.2} come about by chance.",
        if copying.c_t < 0.0 { "nearer to" } else { "no nearer to" },
        copying.c_t,
        chance.low,
        chance.high,
    );
    push("copying", copying.c_t, 0.0, copying.interval, chance, words);

    let (authenticity, chance) = (&space.authenticity, space.authenticity.chance);
    let words = format!(
        "{:.1}% of the synthetic and {:.1}% of the held-out images are authentic, a difference of {:.1} points; {:.1} to {:.1} points \
         come about by chance.",
        100.0 * authenticity.synthetic.value,
        100.0 * authenticity.holdout.value,
        100.0 * authenticity.difference.value,
        100.0 * chance.low,
        100.0 * chance.high,
    );
    push("authenticity", authenticity.difference.value, 0.0, interval(authenticity.difference), chance, words);
    of_membership(Some(name), "gan_leaks", &space.gan_leaks, findings);
    of_membership(Some(name), "gan_leaks_calibrated", &space.gan_leaks_calibrated, findings);
}

/// One image that is exactly a training image is a leak, whatever else is found.
fn of_identical(space: &str, identical: usize) -> Finding {
    let leaks = identical > 0;
    let in_words = match identical {
        0 => "No synthetic image is identical to a training image. That shows no leak.".to_owned(),
        1 => "One synthetic image is identical to a training image. That is a leak.".to_owned(),
        _ => format!("{identical} synthetic images are identical to training images. That is a leak."),
    };
    Finding {
        space: Some(space.to_owned()),
        test: "identical".to_owned(),
        value: identical as f64,
        ideal: 0.0,
        interval: None,
        chance: None,
        p_adjusted: f64::from(u8::from(!leaks)),
        leaks,
        conclusive: true,
        in_words,
    }
}

/// The areas over images and patients, and the rate over images. The rate over patients is left to [`Attack`]: there are seldom enough
/// of them for a false positive rate of 1% to mean anything.
fn of_membership(space: Option<&str>, test: &str, membership: &Membership, findings: &mut Vec<Finding>) {
    let image = &membership.image;
    findings.push(area(space, test, image, "image"));
    let (tpr, chance) = (image.tpr_at_fpr, image.tpr_chance);
    let words = format!(
        "While {:.1}% of held-out images are taken for training images, {:.1}% of training images are; {:.1}% to {:.1}% come about by \
         chance.",
        100.0 * image.fpr,
        100.0 * tpr.value,
        100.0 * chance.low,
        100.0 * chance.high,
    );
    findings.push(finding(space, &format!("{test}_image_tpr"), tpr.value, image.fpr, interval(tpr), chance, words));
    findings.extend(membership.patient.as_ref().map(|patient| area(space, test, patient, "patient")));
}

/// The area over images or patients.
fn area(space: Option<&str>, test: &str, attack: &Attack, of: &str) -> Finding {
    let (auc, chance) = (attack.auc, attack.auc_chance);
    let words = format!(
        "A {of} of training is told from a held-out one in {:.1}% of pairs; {:.1}% to {:.1}% come about by chance.",
        100.0 * auc.value,
        100.0 * chance.low,
        100.0 * chance.high,
    );
    finding(space, &format!("{test}_{of}_auc"), auc.value, 0.5, interval(auc), chance, words)
}

fn interval(estimate: Estimate) -> Option<Interval> {
    Some(Interval { low: estimate.low, high: estimate.high })
}

/// A finding whose verdict is still to come.
fn finding(
    space: Option<&str>,
    test: &str,
    value: f64,
    ideal: f64,
    interval: Option<Interval>,
    chance: Chance,
    in_words: String,
) -> Finding {
    let (space, test) = (space.map(str::to_owned), test.to_owned());
    Finding {
        space,
        test,
        value,
        ideal,
        interval,
        chance: Some(chance),
        p_adjusted: 1.0,
        leaks: false,
        conclusive: false,
        in_words,
    }
}
