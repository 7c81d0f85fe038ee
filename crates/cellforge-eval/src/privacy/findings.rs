//! What the figures say: a verdict for each test, and one for all.

use serde::{Deserialize, Serialize};

use crate::{Interval, holm};

use super::{Attack, Chance, Membership, Privacy, SpacePrivacy};

/// The verdict of one test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the space; none for the discriminator's scores.
    pub space: Option<String>,
    /// Name of the test, e.g. `nearer_to_train`.
    pub test: String,
    /// The figure.
    pub value: f64,
    /// What the figure is without a leak, by its definition.
    pub ideal: f64,
    /// Interval of the figure, by patients where they are known.
    pub interval: Option<Interval>,
    /// The figure when membership is anyone's guess, and its p-value.
    pub chance: Chance,
    /// The p-value adjusted for all tests by Holm's method.
    pub p_adjusted: f64,
    /// Whether the adjusted p-value is at most `(1 - level) / 2`.
    pub leaks: bool,
    /// One sentence with the figures.
    pub in_words: String,
}

impl Privacy {
    /// One finding per test, in the order of the spaces.
    ///
    /// A test finds a leak when its one-sided p-value, adjusted for all tests together (Holm 1979), is at most `(1 - level) / 2`,
    /// 2.5% by default. So all tests together accuse a generator that never saw the patients in at most 2.5% of studies, whatever the
    /// quality of its cells, as long as patients were shared out between training and holdout at random. The intervals are given for
    /// the size of a leak and do not decide.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, space) in &self.spaces {
            of_space(name, space, &mut findings);
        }
        if let Some(logan) = &self.logan {
            of_membership(None, "logan", logan, &mut findings);
        }
        let p: Vec<f64> = findings.iter().map(|finding| finding.chance.p).collect();
        // p-values of this crate lie in (0, 1]; those read from a file that was tampered with do not adjust to anything.
        let adjusted = holm(&p).unwrap_or_else(|_| vec![1.0; p.len()]);
        let limit = (1.0 - self.level) / 2.0 + 1e-12;
        for (finding, p_adjusted) in findings.iter_mut().zip(adjusted) {
            finding.p_adjusted = p_adjusted;
            finding.leaks = p_adjusted <= limit;
        }
        findings
    }
}

fn of_space(name: &str, space: &SpacePrivacy, findings: &mut Vec<Finding>) {
    let mut push = |test: &str, value, ideal, interval, chance| {
        findings.push(finding(Some(name), test, value, ideal, interval, chance));
    };
    let share = &space.nearer_to_train;
    push("nearer_to_train", share.rate, 0.5, share.by_patient.or(Some(share.binomial)), share.chance);
    push("copying", space.copying.c_t, 0.0, space.copying.interval, space.copying.chance);
    let difference = space.authenticity.difference;
    let interval = Interval { low: difference.low, high: difference.high };
    push("authenticity", difference.value, 0.0, Some(interval), space.authenticity.chance);
    of_membership(Some(name), "gan_leaks", &space.gan_leaks, findings);
    of_membership(Some(name), "gan_leaks_calibrated", &space.gan_leaks_calibrated, findings);
}

fn of_membership(space: Option<&str>, test: &str, membership: &Membership, findings: &mut Vec<Finding>) {
    let mut push = |attack: &Attack, of: &str| {
        let interval = |estimate: crate::Estimate| Some(Interval { low: estimate.low, high: estimate.high });
        let auc = attack.auc;
        findings.push(finding(space, &format!("{test}_{of}_auc"), auc.value, 0.5, interval(auc), attack.auc_chance));
        let tpr = attack.tpr_at_fpr;
        let name = format!("{test}_{of}_tpr");
        findings.push(finding(space, &name, tpr.value, attack.fpr, interval(tpr), attack.tpr_chance));
    };
    push(&membership.cell, "cell");
    if let Some(patient) = &membership.patient {
        push(patient, "patient");
    }
}

fn finding(
    space: Option<&str>,
    test: &str,
    value: f64,
    ideal: f64,
    interval: Option<Interval>,
    chance: Chance,
) -> Finding {
    let in_words = String::new();
    let space = space.map(str::to_owned);
    Finding { space, test: test.to_owned(), value, ideal, interval, chance, p_adjusted: 1.0, leaks: false, in_words }
}
