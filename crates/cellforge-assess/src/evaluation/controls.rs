//! The controls of the privacy tests: images that leak for certain, and images that cannot.

use cellforge_eval::privacy::Finding;

use super::{PrivacyPart, verdicts::IDENTICAL};

/// The controls, counted, without the test for exact copies, which needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Controls {
    /// Tests that were run on training images in place of the synthetic ones.
    pub(crate) tests: usize,
    /// Of these, those that found the leak.
    pub(crate) caught: usize,
    /// Tests that accused images of patients whom no generator saw; none where there are too few held-out patients to see.
    pub(crate) accused: Option<usize>,
}

impl Controls {
    /// Counts the controls of a part, if it has them.
    pub(crate) fn of(part: &PrivacyPart) -> Option<Self> {
        let controls = part.figures.controls.as_ref()?;
        let of = |findings: &[Finding], leak: bool| {
            findings.iter().filter(|finding| finding.test != IDENTICAL && (!leak || finding.leaks)).count()
        };
        let found = |findings: &[Finding]| of(findings, true);
        Some(Self {
            tests: of(&controls.replay, false),
            caught: found(&controls.replay),
            accused: controls.innocent.as_deref().map(found),
        })
    }
}
